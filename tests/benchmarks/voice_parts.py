"""The parts of the table that `voices` prints: each makes its material, converts it, and gives rows.

Every conversion goes through the stage itself, with the `character` engine, which is what anybody has at once.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.audio import Samples
from bridge.stages.convert import ConvertSettings, convert
from bridge.types import Artifact, Made, Span
from bridge.voices.character import CHARACTERS
from bridge.voices.presence import find_singing
from tests.benchmarks import voice_material as material
from tests.benchmarks import voice_metrics as metrics
from tests.benchmarks import voice_speech as speech
from tests.benchmarks.voice_material import Array, Sung
from tests.benchmarks.voice_metrics import F0Errors
from tests.song_a import RATE_HZ, SINGING, context_in, put_grid, true_stem

CENTS, SHARE, WORSE = 25.0, 1.0 / 3.0, 0.15
CUT_EVERY_S = 5.0

OFF: dict[str, Any] = {
    "backing": "keep",
    "split": False,
    "dereverb": 0.0,
    "room": 0.0,
    "mend_f0": False,
    "tune": 0.0,
    "carry_loudness": False,
    "guard": False,
    "deess": 0.0,
}
"""Every step of the stage, switched off."""

ALONE: dict[str, dict[str, Any]] = {
    "split, backing muted": {"split": True, "backing": "mute"},
    "dereverb": {"dereverb": 1.0},
    "room": {"room": 1.0},
    "dereverb and room": {"dereverb": 1.0, "room": 1.0},
    "mend_f0": {"mend_f0": True},
    "carry_loudness": {"carry_loudness": True},
    "guard": {"guard": True},
    "deess": {"deess": 1.0},
}
"""Each step by itself. Tuning is left out: it is meant to change the pitch."""


ALL_ON: dict[str, Any] = {"split": True, "backing": "mute", "dereverb": 1.0, "room": 0.0, "mend_f0": True}
"""All steps that make the pitch safer; the room is given back to the ear alone, and the rest is as shipped."""


@dataclass(frozen=True)
class Row:
    """One figure. `holds` is None where there is no goal."""

    what: str
    value: float | str | None
    unit: str = ""
    floor: float | str | None = None  # what a bad conversion would get
    ceiling: float | str | None = None  # what the source itself gets
    goal: str = ""
    holds: bool | None = None


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
    apart = material.sung(material.LOW)
    as_one = replace(
        apart, singing=(Span(apart.singing[0].start_s, apart.singing[-1].end_s),)
    )  # gaps are converted too
    floor = _loudest(metrics.new_clicks(_hard_cut(long.samples), long.samples, RATE_HZ))
    rows = []
    for voice in CHARACTERS:
        found = metrics.new_clicks(converted(long, voice=voice), long.samples, RATE_HZ, -80.0)
        loudest = _loudest(found)
        rows.append(
            Row(
                f"{voice}: loudest new click, 48 s without a rest",
                loudest,
                "dB",
                floor,
                "none",
                "<= -60 dB",
                loudest <= -60.0,
            )
        )
        change = metrics.gap_change_db(converted(as_one, voice=voice), apart.samples, RATE_HZ, apart.singing)
        rows.append(
            Row(f"{voice}: level in gaps", change, "dB", "-inf", 0.0, "within 1 dB", abs(change) <= 1.0)
        )
    return rows


def words() -> list[Row]:
    """Word error rates of converted speech."""
    voice = next(iter(reversed(speech.flite_voices())), "jm_kumo")
    source = speech.spoken(voice)
    made = {
        character: [converted(_whole(said), voice=character) for said in source] for character in CHARACTERS
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
        made = converted(_whole(source), voice=voice)
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


def reverb() -> list[Row]:
    """A room with a T60 of 0.8 s."""
    return _degraded("T60 0.8 s", lambda dry: material.in_room(dry))


def backing() -> list[Row]:
    """Another voice under the lead."""
    return [
        *_degraded("backing -6 dB right", lambda dry: material.with_backing(dry, panned=True)),
        *_degraded("backing -6 dB centred", lambda dry: material.with_backing(dry, panned=False)),
    ]


def bleed() -> list[Row]:
    """The band under the voice."""
    return _degraded("bleed -10 dB", lambda dry: material.with_bleed(dry))


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
        blind = metrics.changed_db(converted(_whole(vocals), guard=False), vocals)
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
    """Of the so-vits-svc engine, if its benchmark is there."""
    return _elsewhere("voice_speed", "so-vits-svc against the package's own inference")


def similarity() -> list[Row]:
    """Of a voice trained here, if its benchmark is there."""
    return _elsewhere("voice_similarity", "speaker similarity of a voice trained here")


def heard(samples: Samples) -> Array:
    """f0 by the measuring tracker; the same samples are heard once."""
    key = hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()
    if key not in _HEARD:
        _HEARD[key] = metrics.track_f0(samples, RATE_HZ)
    return _HEARD[key]


_HEARD: dict[str, Array] = {}


def converted(vocal: Sung, **chosen: Any) -> Samples:
    """The stage's `voice`, of the shape of the vocal; the vocal itself where the stage skips."""
    known = {field.name for field in fields(ConvertSettings)}
    settings = ConvertSettings(**{name: value for name, value in chosen.items() if name in known})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "stems").mkdir()
        audio.write_float_wav(folder / "stems" / "vocals.wav", vocal.samples, RATE_HZ)
        stems = Artifact("stems", "stems", folder / "stems", "")
        made = convert(stems, put_grid(folder, vocal.singing), settings=settings, context=context_in(folder))
        return audio.read_raw(made.files["voice"])[0] if isinstance(made, Made) else vocal.samples


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


def _degraded(name: str, degrade: Callable[[Sung], Sung]) -> list[Row]:
    """What `degrade` costs: with all steps off, with each alone and with all on.

    The floor is all off. The ceiling is the voice converted dry and degraded afterwards: nobody can hear more through that
    than the tracker. The goal is held against the voice that was converted dry.
    """
    dry = material.sung(material.HIGH)
    spoilt = degrade(dry)
    clean_voice = converted(dry, **OFF)
    clean, source = _errors(dry, clean_voice), _errors(dry, spoilt.samples)
    ceiling = _told(_errors(dry, degrade(replace(dry, samples=clean_voice)).samples))
    floor = _told(_errors(dry, converted(spoilt, **OFF)))
    rows = [
        Row(f"{name}: source, unconverted", _told(source)),
        Row(f"{name}: all off", floor, ceiling=ceiling),
    ]
    known = {field.name for field in fields(ConvertSettings)}
    for step, chosen in ALONE.items():
        if chosen.keys() <= known:
            rows.append(
                Row(
                    f"{name}: {step}",
                    _told(_errors(dry, converted(spoilt, **{**OFF, **chosen}))),
                    "",
                    floor,
                    ceiling,
                )
            )
    found = _errors(dry, converted(spoilt, **ALL_ON))
    rows.append(Row(f"{name}: all on", _told(found), "", floor, ceiling))
    return [*rows, *_lost(name, found, clean, source)]


def _lost(name: str, found: F0Errors, clean: F0Errors, source: F0Errors) -> list[Row]:
    most, least = clean.rmse_cents * (1.0 + SHARE), clean.right * (1.0 - SHARE)
    jumps, there = metrics.new_jumps(found, source), len(source.jumps)
    return [
        Row(f"{name}, all on: RMSE", found.rmse_cents, "cents", None, clean.rmse_cents, f"<= {most:.0f} cents", found.rmse_cents <= most),
        Row(f"{name}, all on: right within 50 cents", found.right, "%", None, clean.right, f">= {100 * least:.0f} %", found.right >= least),
        Row(f"{name}, all on: octave jumps that the source lacks", jumps, "", None, f"{there} in it", "0", jumps == 0),
    ]  # fmt: skip


def _errors(dry: Sung, samples: Samples) -> F0Errors:
    return metrics.f0_errors(dry.f0_hz, heard(samples))


def _told(errors: F0Errors) -> str:
    """Share within 50 cents; RMSE and median in cents; voicing errors; octave jumps per minute."""
    cents = f"{errors.rmse_cents:.0f} ({errors.median_cents:.0f}) c"
    return f"{100 * errors.right:.0f} %; {cents}; {100 * errors.voicing:.0f} %; {errors.jumps_per_min:.0f}"


def _hard_cut(samples: Samples) -> Samples:
    """What chunks without a crossfade give: every other one a little later."""
    step = round(CUT_EVERY_S * RATE_HZ)
    moved = np.roll(samples, 40, axis=1)
    odd = (np.arange(samples.shape[1]) // step) % 2 == 1
    return np.where(odd, moved, samples).astype(np.float32)


def _loudest(found: Sequence[metrics.Click]) -> float:
    return max((click.level_db for click in found), default=float("-inf"))


def _whole(samples: Samples) -> Sung:
    """Sound that counts as sung from end to end, with a truth that nobody knows."""
    return Sung(samples, np.zeros(0), (Span(0.0, samples.shape[1] / RATE_HZ),))


def _vocals_of(song: Samples) -> Samples:
    """What the separator that ships with the bridge takes for vocals."""
    from bridge.separators import spleeter

    with tempfile.TemporaryDirectory() as models:
        return spleeter.separate_vocals(song, Path(models), lambda done, total: None)


def _elsewhere(module: str, what: str) -> list[Row]:
    if importlib.util.find_spec(f"tests.benchmarks.{module}") is None:
        return [Row(what, "not measured")]
    rows: list[Row] = importlib.import_module(f"tests.benchmarks.{module}").rows()
    return rows
