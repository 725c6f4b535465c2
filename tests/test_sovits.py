"""Promises of the engine so-vits-svc, on the package's real networks with random weights."""

from __future__ import annotations

import datetime
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal

from bridge import audio
from bridge.audio import Samples
from bridge.errors import VoiceError
from bridge.voices import sovits
from bridge.voices.consent import require_consent
from bridge.voices.f0 import F0Track
from bridge.voices.folder import read_card, write_card
from tests.sung import Sung, sing
from tests.tiny_voice import KINDS, config_table, put_voice, whole_network

pytestmark = pytest.mark.real

TODAY = datetime.date(2026, 11, 22)

WITHOUT_TORCHAUDIO = """
import logging, sys, torch, warnings

def fail(path):
    raise OSError("libc10_cuda.so: cannot open shared object file: No such file or directory")

torch.ops.load_library = fail
shown = warnings.showwarning
from bridge.voices.sovits import package
package()
import torchaudio
sound = torchaudio.transforms.Resample(44100, 16000)(torch.sin(torch.arange(44100) * 0.05))
mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400)(sound)
print(sys.modules["torchaudio._extension"].__spec__, tuple(sound.shape), bool(torch.isfinite(mel).all()))
root = logging.getLogger()
print(root.handlers, root.level, warnings.showwarning is shown)
print([name for name in ("lightning", "so_vits_svc_fork.gui", "tensorboard") if name in sys.modules])
"""


@pytest.mark.timeout(300)
def test_the_package_loads_beside_a_torchaudio_whose_compiled_part_fails_and_leaves_logging_as_it_was() -> (
    None
):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCHAUDIO], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["None (16000,) True", "[] 30 True", "[]"]


ALONE = """
import sys
try:
    import torchaudio
except (ImportError, OSError):
    print("broken")
else:
    from bridge.voices import sovits
    sovits.mend_torchaudio()
    print(sys.modules["torchaudio"] is torchaudio, sys.modules["torchaudio._extension"].__spec__ is not None)
"""


def test_a_torchaudio_that_works_is_left_alone() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=100)
    if done.stdout.strip() == "broken":
        pytest.skip("torchaudio is broken here by itself: the other test is the truth")
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one small voice of each kind."""
    folder = tmp_path_factory.mktemp("home")
    for kind in KINDS:
        put_voice(folder, folder / "voices", kind, kind=kind)
    return folder


def voice_of(home: Path, kind: str) -> sovits.SovitsVoice:
    permit = require_consent(kind, home / "voices", TODAY)
    return sovits.SovitsVoice(permit, home / "models", lambda: TODAY)


def sung(seconds: float = 2.0) -> Sung:
    melody = (57, 60, 62, 64)
    return sing((melody * 20)[: max(1, round(seconds / 0.6))])


def track(made: Sung) -> F0Track:
    return F0Track(made.hz, (made.hz > 0).astype(np.float64))


def nothing_of(draw: Any) -> Any:
    """The same shape, without the noise."""
    return lambda *size, **options: draw(*size, **options) * 0


@pytest.mark.parametrize("kind", ["ms-istft", "mb-istft", "hifi-gan"])
def test_a_passage_is_what_the_packages_own_network_makes(
    kind: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    table = config_table(kind)
    torch.manual_seed(0)
    whole = whole_network(table)
    network = sovits._load_voice(home / "voices" / kind, read_card(home / "voices" / kind))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((120, 256)).astype(np.float32)
    hz = np.linspace(200.0, 300.0, 120, dtype=np.float32)
    voiced = (np.arange(120) % 40 > 5).astype(np.float32)
    for name in ("rand", "randn", "randn_like"):  # both draw noise, each in an order of its own
        monkeypatch.setattr(torch, name, nothing_of(getattr(torch, name)))
    if kind == "hifi-gan":
        source = whole.dec.m_source.l_sin_gen
        network.module.dec.m_source.l_sin_gen = sovits._sine_source(source)
    ours = sovits._sing(network, features, hz, voiced)
    with torch.inference_mode():
        theirs = whole.infer(
            torch.from_numpy(features.T)[None],
            torch.from_numpy(hz)[None],
            torch.from_numpy(voiced)[None],
            g=torch.zeros(1, 1, dtype=torch.long),
        )[0, 0].numpy()
    assert ours.shape == theirs.shape == (120 * 512,)
    assert audio.rms_db(theirs[None]) > -60.0
    assert audio.rms_db((ours - theirs)[None]) - audio.rms_db(theirs[None]) < -60.0


@pytest.mark.parametrize("kind", ["ms-istft", "hifi-gan"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 1), (48_000, 2), (22_050, 2)])
def test_any_rate_and_number_of_channels_come_back_to_the_frame_and_the_same_each_time(
    kind: str, rate_hz: int, channels: int, home: Path
) -> None:
    made = sung(1.2)
    samples = np.repeat(audio.resample(made.mono, 44_100, rate_hz), channels, axis=0)
    voice = voice_of(home, kind)
    first = voice.convert(samples, rate_hz, track(made), 0)
    assert first.shape == samples.shape and first.dtype == np.float32
    assert np.isfinite(first).all() and not np.array_equal(first, samples)
    assert np.array_equal(first, voice.convert(samples, rate_hz, track(made), 0))


def test_the_pitch_asked_for_reaches_the_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def listen(network: Any, features: Any, hz: Any, voiced: Any) -> Any:
        asked.append(hz)
        return np.zeros(len(hz) * 512, dtype=np.float32)

    monkeypatch.setattr(sovits, "_sing", listen)
    hz = np.full(200, 220.0)
    hz[50:60] = 0.0
    noise = np.random.default_rng(0).standard_normal((1, 2 * 44_100)).astype(np.float32) * 0.1
    for semitones in (0, 12):
        voice_of(home, "ms-istft").convert(noise, 44_100, F0Track(hz, np.ones(200)), semitones)
    assert np.allclose(asked[0], 220.0) and np.allclose(asked[1], 440.0)  # never predicted, no holes


def with_gap() -> tuple[Samples, F0Track, slice]:
    """Two phrases with a second of room noise between them, 55 dB below."""
    made = sung(1.8)
    rng = np.random.default_rng(1)
    room = (rng.standard_normal(44_100) * 10 ** (-68 / 20)).astype(np.float32)
    samples = np.concatenate([made.mono[0], room, made.mono[0]])
    hops = round(samples.size / 441) + 1
    hz = np.zeros(hops)
    second = round((made.samples.size + 44_100) / 441)
    length = min(made.hz.size, hops - second)
    hz[: made.hz.size] = made.hz
    hz[second : second + length] = made.hz[:length]
    inside = slice(made.samples.size + 4_410, made.samples.size + 44_100 - 4_410)
    return np.stack([samples, samples]), F0Track(hz, np.ones(hops)), inside


@pytest.mark.parametrize("kind", ["ms-istft", "hifi-gan"])
def test_gaps_stay_as_they_were_and_nothing_clicks_beside_them(kind: str, home: Path) -> None:
    samples, f0, inside = with_gap()
    out = voice_of(home, kind).convert(samples, 44_100, f0, 0)
    assert np.array_equal(out[:, inside], samples[:, inside])
    beside = slice(0, inside.start - 8_820)
    assert audio.rms_db((out - samples)[:, beside]) > -60.0  # there the voice is another one


@pytest.mark.parametrize(("turn", "dip_db"), [(0.0, 0.01), (0.25, 1.0), (0.5, 4.5)])
def test_chunks_meet_without_a_click_or_a_dip_however_much_they_agree(
    turn: float, dip_db: float, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = sovits._load_voice(home / "voices" / "hifi-gan", read_card(home / "voices" / "hifi-gan"))
    chunks: list[float] = []

    def tone(network: Any, features: Any, hz: Any, voiced: Any, noise: Any, start_turns: float) -> Any:
        """300 Hz, each chunk `turn` further on than the one before."""
        chunks.append(start_turns)
        turns = start_turns + np.arange(len(hz) * 512) * 300.0 / 44_100 + turn * len(chunks)
        return (0.5 * np.sin(2 * np.pi * turns)).astype(np.float32)

    monkeypatch.setattr(sovits, "_sing_chunk", tone)
    hops = 2_500
    hz, voiced = np.full(hops, 300.0, dtype=np.float32), np.ones(hops, dtype=np.float32)
    out = sovits._sing(network, np.ones((hops, 256), dtype=np.float32), hz, voiced)
    assert len(chunks) == 3
    above = scipy.signal.sosfilt(scipy.signal.butter(8, 4_000, "high", fs=44_100, output="sos"), out)
    assert 20 * np.log10(np.abs(above[4_410:]).max()) < -60.0
    levels = [audio.rms_db(out[None, at : at + 2_205]) for at in range(0, out.size - 2_205, 441)]
    assert np.median(levels) - min(levels) < dip_db


def test_real_chunks_agree_where_they_overlap(home: Path) -> None:
    import torch

    network = sovits._load_voice(home / "voices" / "hifi-gan", read_card(home / "voices" / "hifi-gan"))
    rng = np.random.default_rng(0)
    features = np.repeat(rng.standard_normal((40, 256)), 10, axis=0).astype(np.float32)
    hz, voiced = np.full(400, 233.0, dtype=np.float32), np.ones(400, dtype=np.float32)
    whole = sovits._sing(network, features, hz, voiced)
    noise = torch.randn(16, 400, generator=torch.Generator().manual_seed(sovits.SEED))
    turns = 150 * 512 * 233.0 / 44_100
    late = sovits._sing_chunk(network, features[150:], hz[150:], voiced[150:], noise[:, 150:], turns)
    assert np.corrcoef(whole[210 * 512 : 250 * 512], late[60 * 512 : 100 * 512])[0, 1] > 0.95


def test_a_voice_panned_to_one_side_comes_back_there(home: Path) -> None:
    made = sung(1.2)
    panned = np.concatenate([made.mono * np.float32(0.9), made.mono * np.float32(0.3)])
    out = voice_of(home, "ms-istft").convert(panned, 44_100, track(made), 0)
    difference_db = audio.rms_db(out[:1]) - audio.rms_db(out[1:])
    assert difference_db == pytest.approx(20 * np.log10(3), abs=0.5)
    mono = voice_of(home, "ms-istft").convert(made.mono, 44_100, track(made), 0)
    assert mono.shape[0] == 1


def test_silence_stays_silence(home: Path) -> None:
    silence = np.zeros((2, 44_100), dtype=np.float32)
    out = voice_of(home, "ms-istft").convert(silence, 44_100, F0Track(np.zeros(101), np.zeros(101)), 0)
    assert np.array_equal(out, silence)


def test_a_changed_model_is_not_sung_with(tmp_path: Path) -> None:
    made = put_voice(tmp_path, tmp_path / "voices")
    permit = require_consent("ada", tmp_path / "voices", TODAY)
    model = made.folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(VoiceError, match=r"model.safetensors has the digest .*, voice.toml names "):
        sovits.SovitsVoice(permit, tmp_path / "models", lambda: TODAY)


def test_an_encoder_of_another_kind_is_told(tmp_path: Path) -> None:
    made = put_voice(tmp_path, tmp_path / "voices")
    write_card(made.folder, replace(made.card, encoder="whisper-tiny-en", encoder_folder=""))
    permit = require_consent("ada", tmp_path / "voices", TODAY)
    with pytest.raises(
        VoiceError, match=r"'ada' was trained on 256 features, the encoder whisper-tiny-en gives 384"
    ):
        sovits.SovitsVoice(permit, tmp_path / "models", lambda: TODAY)


@pytest.mark.parametrize("frames", [1, 441, 2_205])
def test_a_passage_may_be_very_short(frames: int, home: Path) -> None:
    samples = np.full((2, frames), 0.1, dtype=np.float32)
    out = voice_of(home, "hifi-gan").convert(samples, 44_100, F0Track(np.full(6, 220.0), np.ones(6)), 0)
    assert out.shape == samples.shape and np.isfinite(out).all()
