"""The parts of the table that `voices` prints: each makes its material, converts it, and gives rows.

Every conversion goes through the stage itself, with the `character` engine, which is what anybody has at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bridge import audio
from bridge.audio import Samples
from bridge.types import Span
from bridge.voices.character import CHARACTERS
from bridge.voices.presence import find_singing
from tests.benchmarks import voice_material as material
from tests.benchmarks import voice_metrics as metrics
from tests.benchmarks import voice_speech as speech
from tests.benchmarks.voice_material import Array, Sung
from tests.benchmarks.voice_metrics import F0Errors
from tests.benchmarks.voice_rows import Row, converted, heard, whole
from tests.song_a import RATE_HZ, SINGING, true_stem

CENTS, WORSE = 25.0, 0.15
CUT_EVERY_S = 5.0


def pitch() -> list[Row]:
    """f0 against the truth, on two singers and on song_a's vocal."""
    singers = (material.LOW, material.HIGH)
    vocals = [material.sung(singer) for singer in singers]
    floor = _joined([(vocal.f0_hz, _monotone(vocal.f0_hz)) for vocal in vocals])
    rows = []
    for voice, character in CHARACTERS.items():
        moved = character.pitch_semitones
        there = [material.sung(replace(singer, lowest_midi=singer.lowest_midi + moved)) for singer in singers]
        ceiling = _joined([(vocal.f0_hz, heard(vocal.samples)) for vocal in there])
        truths = [vocal.f0_hz * 2.0 ** (moved / 12.0) for vocal in vocals]
        tracks = [heard(converted(vocal, voice=voice)) for vocal in vocals]
        rows += _f0_rows(voice, _joined(zip(truths, tracks, strict=True)), ceiling, floor)
    return [*rows, *_song_a_pitch()]


def clicks_and_gaps() -> list[Row]:
    """Clicks in long singing without a rest, and what is left between the phrases."""
    long = material.band_limited(material.sung_without_rest(material.HIGH, 48.0))
    apart = _with_gaps_inside(material.sung(material.LOW))
    floor = _loudest(metrics.new_clicks(_hard_cut(long.samples), long.samples, RATE_HZ))
    rows = []
    for voice in CHARACTERS:
        found = metrics.new_clicks(converted(long, voice=voice), long.samples, RATE_HZ, -80.0)
        rows.append(_click_row(f"{voice}: loudest new click, 48 s without a rest", found, floor))
        rows.append(_gap_row(voice, converted(apart, voice=voice), apart))
    return rows


def trained() -> list[Row]:
    """The engine so-vits-svc: clicks and gaps, of a small network with random weights. What it sings means nothing."""
    from tests.tiny_voice import put_voice

    long = material.sung_without_rest(material.HIGH, 24.0)
    apart = _with_gaps_inside(material.sung(material.LOW))
    rows = []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        for kind in ("ms-istft", "hifi-gan"):
            put_voice(home, home / "voices", kind, kind=kind)
            found = metrics.new_clicks(converted(long, home / "voices", voice=kind), long.samples, RATE_HZ)
            rows.append(
                _click_row(f"so-vits-svc {kind}: loudest new click, 24 s without a rest", found, None)
            )
            made = converted(apart, home / "voices", voice=kind)
            rows.append(_gap_row(f"so-vits-svc {kind}", made, apart))
    return rows


def words() -> list[Row]:
    """Word error rates of converted speech."""
    voice = next(iter(reversed(speech.flite_voices())), "jm_kumo")
    source = speech.spoken(voice)
    made = {
        character: [converted(whole(said), voice=character) for said in source] for character in CHARACTERS
    }
    backwards = [said[:, ::-1] for said in source[:6]]
    rows = []
    for name, hear in (
        ("pocketsphinx", metrics.hear_pocketsphinx),
        ("Whisper tiny.en", metrics.hear_whisper),
    ):
        ceiling = metrics.word_error_rate(speech.HARVARD, hear(source, RATE_HZ))
        floor = metrics.word_error_rate(speech.HARVARD[: len(backwards)], hear(backwards, RATE_HZ))
        for character, sentences in made.items():
            found = metrics.word_error_rate(speech.HARVARD, hear(sentences, RATE_HZ))
            what = f"{character}: word error rate by {name}, {len(source)} sentences of {voice}"
            rows.append(
                Row(what, found, "%", floor, ceiling, "<= ceiling + 15 points", found <= ceiling + WORSE)
            )
    return rows


def japanese() -> list[Row]:
    """Voicing and syllables of converted Japanese."""
    spoken, _ = speech.japanese("jf_alpha")
    source = audio.resample(spoken, speech.SPEECH_HZ, RATE_HZ)
    source_hz = heard(source)
    before = metrics.syllables(source, RATE_HZ, source_hz)
    hissed = np.random.default_rng(0).normal(0.0, 0.05, source.shape).astype(np.float32)
    hissed_hz = heard(hissed)
    rows = []
    for voice in CHARACTERS:
        made = converted(whole(source), voice=voice)
        made_hz = heard(made)
        errors = metrics.voicing_changes(made_hz, source_hz)
        floor = metrics.voicing_changes(hissed_hz, source_hz)
        rows.append(Row(f"{voice}: voicing errors", errors, "%", floor, 0.0, "<= 10 %", errors <= 0.1))
        ratio = metrics.syllables(made, RATE_HZ, made_hz) / before
        silent = metrics.syllables(hissed, RATE_HZ, hissed_hz) / before
        rows.append(
            Row(
                f"{voice}: syllable rate against the source",
                ratio,
                "",
                silent,
                1.0,
                "0.9 to 1.1",
                0.9 <= ratio <= 1.1,
            )
        )
    return rows


def instrumental() -> list[Row]:
    """Songs without a singer: what a separator takes for vocals must stay as it is."""
    rows = []
    for name, song in (
        ("song_a without its singer", material.accompaniment()),
        ("strings, a lead and a piano", material.instruments()),
    ):
        vocals = _vocals_of(song)
        found = find_singing(vocals, song, RATE_HZ)
        seconds = sum(span.end_s - span.start_s for span in found.spans)
        change = metrics.changed_db(converted(Sung(vocals, np.zeros(0), found.spans)), vocals)
        blind = metrics.changed_db(converted(whole(vocals), guard=False), vocals)
        rows.append(
            Row(
                f"{name}: taken for singing",
                seconds,
                "s",
                song.shape[1] / RATE_HZ,
                0.0,
                "0 s",
                seconds == 0.0,
            )
        )
        rows.append(
            Row(
                f"{name}: change of its vocals stem",
                change,
                "dB",
                blind,
                "-inf",
                "-inf: nothing",
                change == -np.inf,
            )
        )
    return rows


def speed() -> list[Row]:
    """The engine so-vits-svc beside the package's own inference, in a process of its own; memory over 10 min."""
    told = json.loads(_run("voice_speed", "--seconds", "6", "--rounds", "2", "--memory-minutes", "10"))
    rows = []
    for row in told["speed"]:
        what = f"{row['template']}: time against infer_silence, in turn"
        rows.append(Row(what, row["ratio"], "", None, 1.0, "<= 1.0", row["ratio"] <= 1.0))
    for name, found in told["memory"].items():
        rows.append(Row(f"memory for {name} of vocal", found["peak_mb"], "MB", None, found["before_mb"]))
    return rows


def similarity() -> list[Row]:
    """Of a voice trained for an hour: nothing that this command can repeat, so what its own benchmark wrote is shown."""
    written = Path(__file__).with_name("voice_similarity.json")
    if not written.exists():
        return [Row("speaker similarity of a voice trained here", "not measured")]
    told = json.loads(written.read_text("utf-8"))
    what = f"likeness of {told['name']!r} to its owner, after epoch {told['epoch']}"
    return [Row(what, told["converted"], "", told["unconverted"], told["same_speaker"], "report it")]


def _run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", f"tests.benchmarks.{module}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _f0_rows(what: str, made: F0Errors, source: F0Errors, floor: F0Errors) -> list[Row]:
    jumps = metrics.new_jumps(made, source)
    return [
        Row(
            f"{what}: f0 RMSE (median {made.median_cents:.0f})",
            made.rmse_cents, "cents", floor.rmse_cents, source.rmse_cents, "<= 25 cents", made.rmse_cents <= CENTS,
        ),
        Row(f"{what}: voicing errors", made.voicing, "%", floor.voicing, source.voicing),
        Row(
            f"{what}: octave jumps per minute ({jumps} new)",
            made.jumps_per_min, "", floor.jumps_per_min, source.jumps_per_min, "none new", jumps == 0,
        ),
    ]  # fmt: skip


def _song_a_pitch() -> list[Row]:
    """Against the track of the source: its MIDI knows the notes, but neither its glides nor what is voiced."""
    vocal = Sung(true_stem("vocals"), np.zeros(0), SINGING)
    truth = heard(vocal.samples)
    made = metrics.f0_errors(truth, heard(converted(vocal)))
    return _f0_rows(
        "song_a, deep", made, metrics.f0_errors(truth, truth), metrics.f0_errors(truth, _monotone(truth))
    )


def _monotone(truth_hz: Array) -> Array:
    """A voice that holds the median all the time it is there, and never rests."""
    return np.full(truth_hz.size, float(np.median(truth_hz[truth_hz > 0])))


def _joined(pairs: Iterable[tuple[Array, Array]]) -> F0Errors:
    """Several tracks against their truths as one."""
    truths, founds = [], []
    for truth, found in pairs:
        hops = min(truth.size, found.size)
        truths.append(truth[:hops])
        founds.append(found[:hops])
    return metrics.f0_errors(np.concatenate(truths), np.concatenate(founds))


def _hard_cut(samples: Samples) -> Samples:
    """What chunks without a crossfade give: every other one a little later."""
    step = round(CUT_EVERY_S * RATE_HZ)
    moved = np.roll(samples, 40, axis=1)
    odd = (np.arange(samples.shape[1]) // step) % 2 == 1
    return np.where(odd, moved, samples).astype(np.float32)


def _with_gaps_inside(vocal: Sung) -> Sung:
    """Sung from end to end, so that the gaps between the phrases go through the engine too."""
    return replace(vocal, singing=(Span(vocal.singing[0].start_s, vocal.singing[-1].end_s),))


def _click_row(what: str, found: Sequence[metrics.Click], floor: float | None) -> Row:
    loudest = _loudest(found)
    return Row(what, loudest, "dB", floor, "-inf", "<= -60 dB", loudest <= -60.0)


def _gap_row(voice: str, made: Samples, apart: Sung) -> Row:
    """The gaps of the material itself, which every singer has at the same times."""
    gaps = material.sung(material.LOW).singing
    change = metrics.gap_change_db(made, apart.samples, RATE_HZ, gaps)
    return Row(f"{voice}: level in gaps", change, "dB", "-inf", 0.0, "within 1 dB", abs(change) <= 1.0)


def _loudest(found: Sequence[metrics.Click]) -> float:
    return max((click.level_db for click in found), default=float("-inf"))


def _vocals_of(song: Samples) -> Samples:
    """What the separator that ships with the bridge takes for vocals."""
    from bridge.separators import spleeter

    with tempfile.TemporaryDirectory() as models:
        return spleeter.separate_vocals(song, Path(models), lambda done, total: None)
