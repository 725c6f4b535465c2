"""A phrase played: on the frame, at the level, the same each time; broken soundfonts and plug-ins contained."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from bridge import audio
from bridge.audio import Samples
from bridge.errors import Cancelled, PresetError, StageError
from bridge.instruments.render import render
from bridge.instruments.sound import Sound, refs
from bridge.tempo import beats_to_frames, beats_to_seconds, constant_tempo, tempo_from_changes
from bridge.types import Note, Phrase, TempoMap
from tests.real import require_real
from tests.soundfonts import write_soundfont

RATE_HZ = 48000
TEMPO = constant_tempo(120.0, RATE_HZ)
DPF = Path("/usr/share/dpf/distrho")
ZAM = Path("/usr/lib/vst3/ZamComp.vst3")
SOURCE = Path(__file__).parent / "data" / "sine_plugin"
BAND = (("drums", 36), ("bass", 40), ("piano", 60), ("guitar", 64), ("strings", 67), ("lead", 76))


def _quiet(_done: float, _total: float) -> None:
    pass


def _note(beat: float, part: str = "lead", pitch: int = 69, length: float = 0.5) -> Note:
    return Note(beat, length, pitch, 100, part)


def _play(
    notes: Sequence[Note], sound: Sound, seconds: float, tempo: TempoMap = TEMPO, rate_hz: int = RATE_HZ
) -> Samples:
    phrase = Phrase(tuple(notes), 64.0)
    frames = round(seconds * rate_hz)
    with TemporaryDirectory() as folder:
        path = Path(folder, "heard.wav")
        render(phrase, tempo, path, frames=frames, sample_rate_hz=rate_hz, sound=sound, report=_quiet)
        assert [file.name for file in Path(folder).iterdir()] == ["heard.wav"]  # nothing is left behind
        samples, rate = audio.read_raw(path)
    assert rate == rate_hz
    return samples


def _onset(samples: Samples, expected: float, reach_s: float = 0.02) -> int:
    """The first frame around `expected` that is louder than a tenth of what follows."""
    reach = round(reach_s * RATE_HZ)
    start = max(0, round(expected) - reach)
    near = np.abs(samples[:, start : round(expected) + 5 * reach]).max(axis=0)
    return start + int(np.argmax(near > 0.1 * near.max()))


def _pitch_hz(samples: Samples) -> float:
    power = np.abs(np.fft.rfft(samples.mean(axis=0)))
    return int(np.argmax(power)) * RATE_HZ / int(samples.shape[1])


# --- time


@pytest.mark.parametrize("packed", [False, True], ids=["sf2", "sf3"])
def test_every_note_begins_on_the_frame_that_a_changing_tempo_gives_it(tmp_path: Path, packed: bool) -> None:
    tempo = tempo_from_changes([(0, 90.0), (48011, 133.3), (130_003, 71.0)], RATE_HZ)
    font = write_soundfont(tmp_path / "cosine", packed=packed)
    beats = [0.37, 1.0, 2.0, 3 + 1 / 24, 4.5, 6.0]
    heard = _play([_note(beat, length=0.25) for beat in beats], Sound(str(font)), 6.0, tempo)
    for beat in beats:
        frame = beats_to_frames(tempo, beat)
        assert abs(_onset(heard, frame) - frame) <= 1


@pytest.mark.parametrize(("part", "pitch"), [("lead", 72), ("drums", 36), ("drums", 42)])
def test_the_shipped_soundfont_begins_within_1_ms(part: str, pitch: int) -> None:
    heard = _play([_note(beat, part, pitch, 0.4) for beat in (0.0, 1.1, 2.3)], Sound(), 3.0)
    for beat in (0.0, 1.1, 2.3):
        frame = beats_to_frames(TEMPO, beat)
        assert abs(_onset(heard, frame) - frame) < 0.001 * RATE_HZ


def test_another_sample_rate_than_the_tempo_maps_keeps_time(tmp_path: Path) -> None:
    font = write_soundfont(tmp_path / "cosine.sf2")
    heard = _play([_note(3.0)], Sound(str(font)), 3.0, constant_tempo(100.0, 44100))
    frame = beats_to_seconds(constant_tempo(100.0, 44100), 3.0) * RATE_HZ
    assert abs(_onset(heard, frame) - frame) <= 1


def test_a_note_rings_out_after_its_end_and_the_last_frame_is_silent(tmp_path: Path) -> None:
    font = write_soundfont(tmp_path / "cosine.sf2")  # released within 0.1 s
    heard = _play([_note(0.0, length=1.0)], Sound(str(font)), 1.0)
    assert audio.rms_db(heard[:, round(0.52 * RATE_HZ) : round(0.54 * RATE_HZ)]) > -60
    assert not heard[:, round(0.7 * RATE_HZ) :].any()
    cut = _play([_note(0.0, length=8.0)], Sound(str(font)), 1.0)
    assert cut.shape == (2, RATE_HZ) and not cut[:, -1].any()
    assert np.abs(np.diff(cut[0, -100:])).max() < 0.01  # no click


# --- level, balance, sameness


def test_the_level_is_set_and_no_peak_clips(tmp_path: Path) -> None:
    notes = [_note(float(beat), part, pitch) for beat in range(16) for part, pitch in BAND]
    heard = _play(notes, Sound(), 9.0)
    assert heard.shape == (2, 9 * RATE_HZ) and heard.dtype == np.float32
    assert audio.loudness_lufs(heard, RATE_HZ) == pytest.approx(-18.0, abs=0.1)
    assert audio.true_peak_dbtp(heard, RATE_HZ) <= -1.0
    kick = _play([_note(0.0, "drums", 36), _note(7.0, "drums", 36)], Sound(), 4.0)
    assert audio.true_peak_dbtp(kick, RATE_HZ) <= -0.99


def test_twice_the_velocity_is_louder_and_the_same_phrase_gives_the_same_samples() -> None:
    notes = [_note(0.0, "piano"), Note(2.0, 0.5, 69, 50, "piano")]
    first, second = _play(notes, Sound(), 2.0), _play(notes, Sound(), 2.0)
    assert first.tobytes() == second.tobytes()
    assert audio.rms_db(first[:, : RATE_HZ // 4]) > audio.rms_db(first[:, RATE_HZ : RATE_HZ * 5 // 4]) + 5


def test_parts_have_their_instruments_and_drums_theirs() -> None:
    hat, keys = (_play([_note(0.0, part, 42)], Sound(), 0.5) for part in ("drums", "piano"))
    assert _pitch_hz(hat) > 3000 > 200 > _pitch_hz(keys)
    guitar, strings = (_play([_note(0.0, part, 60)], Sound(), 0.5) for part in ("guitar", "strings"))
    assert np.abs(np.corrcoef(guitar[0], strings[0])[0, 1]) < 0.5


def test_no_notes_are_silence() -> None:
    assert not _play([], Sound(), 1.0).any()


def test_notes_after_the_end_are_left_out(tmp_path: Path) -> None:
    font = write_soundfont(tmp_path / "cosine.sf2")
    heard = _play([_note(0.0), _note(30.0)], Sound(str(font)), 1.0)
    assert not heard[:, -1000:].any()


# --- soundfonts that won't do


def test_the_shipped_soundfont_needs_no_download_and_says_its_licence() -> None:
    (ref,) = refs(Sound())
    assert (ref.name, ref.licence) == ("TimGM6mb.sf2", "GPL-2.0-only")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"can't be read \(No such file"),
        (b"", "is no soundfont"),
        (b"RIFF1234WAVEfmt ", "is no soundfont"),
    ],
)
def test_what_is_no_soundfont_is_named_with_a_remedy(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "some.sf2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PresetError, match=message) as error:
        _play([_note(0.0)], Sound(str(path)), 1.0)
    assert "some.sf2" in error.value.message and "Name an SF2 or SF3 file" in error.value.message


def test_a_soundfont_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = write_soundfont(tmp_path / "cut.sf2")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(StageError, match=r"cut\.sf2: it can't be loaded .*Name an SF2 or SF3"):
        _play([_note(0.0)], Sound(str(path)), 1.0)


@pytest.mark.parametrize(
    ("part", "lacks"), [("drums", "a drum kit"), ("bass", "the General MIDI program 34")]
)
def test_a_soundfont_without_what_a_part_needs_says_what(tmp_path: Path, part: str, lacks: str) -> None:
    path = write_soundfont(tmp_path / "piano.sf2", [(0, 0)])
    with pytest.raises(StageError, match=rf"piano\.sf2: it lacks {lacks}\. Name a soundfont of General MIDI"):
        _play([_note(0.0, part)], Sound(str(path)), 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_soundfont_plays_or_is_named_but_never_hangs(tmp_path: Path, seed: int) -> None:
    path = write_soundfont(tmp_path / "bad.sf2")
    data, random = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for at in random.integers(data.index(b"pdta"), len(data), 40):
        data[at] = random.integers(256)
    path.write_bytes(data)
    try:
        heard = _play([_note(0.0)], Sound(str(path)), 1.0)
        assert heard.shape == (2, RATE_HZ) and np.isfinite(heard).all()
    except StageError as error:
        assert "bad.sf2" in error.message


def test_a_synthesizer_that_crashes_or_hangs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, child = sys.executable, tmp_path / "child"
    monkeypatch.setattr("bridge.child.sys.executable", str(child))
    monkeypatch.setattr("bridge.instruments.render.START_LIMIT_S", 0.3)
    for code, message, kind in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(exit -11\)", "crashed"),
        ("import time; time.sleep(60)", r"gave no answer within 0\.5 s", "timeout"),
    ):
        child.write_text(f"#!{python}\n{code}\n", encoding="utf-8")
        child.chmod(0o755)
        with pytest.raises(
            StageError, match=rf"The soundfont .*TimGM6mb\.sf2 {message}.*Name another"
        ) as error:
            _play([_note(0.0)], Sound(), 0.1)
        assert error.value.code == f"soundfont_{kind}"


def test_cancel_ends_the_child(tmp_path: Path) -> None:
    seen = []

    def report(done: float, _total: float) -> None:
        seen.append(done)
        if len(seen) > 2:
            raise Cancelled("cancelled")

    phrase = Phrase(
        tuple(_note(float(beat), part, pitch) for beat in range(500) for part, pitch in BAND), 500.0
    )
    with pytest.raises(Cancelled):
        render(
            phrase,
            TEMPO,
            tmp_path / "heard.wav",
            frames=250 * RATE_HZ,
            sample_rate_hz=RATE_HZ,
            sound=Sound(),
            report=report,
        )


# --- instrument plug-ins


@pytest.fixture(scope="session")
def sine(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """A real VST3 instrument, 480 frames late by its own word, built from tests/data/sine_plugin."""
    has = DPF.exists() and shutil.which("g++") is not None
    require_real(has, "DPF's sources and a compiler (Debian: apt install dpf-source g++)")
    bundle = tmp_path_factory.mktemp("vst3") / "Sine.vst3"
    library = bundle / "Contents" / "x86_64-linux" / "Sine.so"
    library.parent.mkdir(parents=True)
    command = ["g++", "-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-DDISTRHO_PLUGIN_TARGET_VST3"]
    command += [f"-I{SOURCE}", f"-I{DPF}", f"-I{DPF.parent}", str(DPF / "DistrhoPluginMain.cpp")]
    subprocess.run([*command, str(SOURCE / "sine.cpp"), "-o", str(library), "-ldl"], check=True, timeout=100)
    return Sound(plugin=str(bundle))


@pytest.mark.real
def test_a_plugin_plays_on_the_frame_with_its_latency_taken_back(sine: Sound) -> None:
    beats = (0.0, 1.1, 2 + 1 / 24, 3.7)
    heard = _play([_note(beat, length=0.5) for beat in beats], sine, 2.5)
    for beat in beats:
        frame = beats_to_frames(TEMPO, beat)
        assert abs(_onset(heard, frame) - frame) <= 1
    assert _pitch_hz(heard[:, : RATE_HZ // 4]) == pytest.approx(440.0, abs=4)
    assert audio.loudness_lufs(heard, RATE_HZ) == pytest.approx(-18.0, abs=0.1)


@pytest.mark.real
def test_a_plugin_plays_all_parts_but_the_drums_as_one(sine: Sound) -> None:
    notes = [_note(0.0, "lead", 69, 4.0), _note(1.0, "bass", 69, 1.0), _note(3.0, "drums", 42)]
    heard = _play(notes, sine, 2.0)
    alone = _play(notes[:2], sine, 2.0)
    hat = slice(round(1.5 * RATE_HZ), round(1.6 * RATE_HZ))
    assert not alone[:, hat].any()  # the bass took the lead's key over, and its note-off ended it
    assert _pitch_hz(heard[:, hat]) > 3000


@pytest.mark.real
@pytest.mark.parametrize(
    ("key", "message"),
    [
        (1, r"Sine\.vst3: it gives no sound\. Name an instrument that plays"),
        (2, r"The plug-in .*Sine\.vst3 gives samples that are not numbers\. Name another"),
        (3, r"The plug-in .*Sine\.vst3 crashed \(exit -6\)\. Name another"),
    ],
)
def test_a_plugin_that_misbehaves_is_named(sine: Sound, key: int, message: str) -> None:
    with pytest.raises(StageError, match=message):
        _play([_note(0.0, pitch=key)], sine, 1.0)


@pytest.mark.real
def test_an_effect_is_no_instrument() -> None:
    require_real(ZAM.exists(), f"{ZAM} (Debian: apt install zam-plugins)")
    with pytest.raises(
        StageError, match=r"ZamComp\.vst3: it is an effect, not an instrument\. Name a plug-in"
    ):
        _play([_note(0.0)], Sound(plugin=str(ZAM)), 1.0)


def test_a_plugin_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"There is no instrument plug-in .*no\.vst3. Install it"):
        refs(Sound(plugin=str(tmp_path / "no.vst3")))
    fake = tmp_path / "fake.vst3"
    fake.write_bytes(b"nothing")
    with pytest.raises(StageError, match=r"fake\.vst3: it can't be loaded"):
        _play([_note(0.0)], Sound(plugin=str(fake)), 1.0)
