"""transcribe: the stems' notes as MIDI, as played and on the song's own grid.

Vocals and bass are heard as one note at a time, drums as hits, everything else as chords. Silent stems,
and vocals where nobody sings, get no track.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.audio import Samples, read_raw, resample, rms_db, to_mono
from bridge.config import setting
from bridge.grid import read_grid
from bridge.midi import write_midi
from bridge.tempo import quantise_beats, seconds_to_beats
from bridge.transcribers import drums, pitched
from bridge.transcribers.monophonic import transcribe_monophonic
from bridge.transcribers.pitched import posteriorgrams, transcribe_pitched
from bridge.transcribers.played import PlayedNote, velocities
from bridge.types import STEMS, Artifact, Context, Grid, Made, ModelRef, Note, Phrase, Skip, Stem

STAGE_VERSION = "1"

Report = Callable[[float, float], None]

SILENCE_DB = -60.0  # RMS below it: nothing is played
LEAKAGE_DB = -40.0  # RMS below the loudest stem's: only what separation left behind
SINGING_MARGIN_S = 0.25

BASS_PITCHES = (23, 67)  # a five-string's low B to high up the neck
VOCAL_PITCHES = (36, 84)
OTHER_PITCHES = (28, 100)


@dataclass(frozen=True)
class TranscribeSettings:
    """How `notes_quantised` sits on the grid; `notes` is always as played."""

    quantise_steps_per_beat: int = setting(
        4, choices=(1, 2, 3, 4, 6, 8, 12), help="grid lines per quarter note: 4 = sixteenths, 3 = triplets"
    )
    quantise_strength: float = setting(
        1.0, lo=0.0, hi=1.0, help="0 leaves notes as played, 1 puts them on the grid"
    )


def models(settings: TranscribeSettings, models_dir: Path) -> tuple[ModelRef, ...]:
    """The network that hears pitches; it comes with the package basic-pitch."""
    return (pitched.model(),)


def transcribe(
    stems: Artifact, grid: Artifact, *, settings: TranscribeSettings, context: Context
) -> Made | Skip:
    """Notes of every stem in the folder, as `notes` and `notes_quantised`. Tick 0 is the first frame."""
    song = read_grid(grid.path)
    audible, seconds = _audible_stems(stems.path, song)
    if not audible:
        return Skip("nothing sounds in this bounce, so there are no notes to write")
    played: dict[Stem, list[PlayedNote]] = {}
    for index, stem in enumerate(audible):
        report = _part_of(context.report, index, len(audible))
        played[stem] = _transcribe_stem(stem, audible, song, report)
    length_beats = seconds_to_beats(song.tempo, seconds)
    as_played = _phrase(played, song, length_beats)
    files = {}
    for name, phrase in (("notes", as_played), ("notes_quantised", _quantised(as_played, song, settings))):
        files[name] = context.workdir / f"{name}.mid"
        provenance = f"dawbridge artifact={name} synthetic=no consent=none"
        write_midi(files[name], phrase, song.tempo, key=song.key, provenance=provenance)
    counts = {stem: len(notes) for stem, notes in played.items()}
    detail = ", ".join(f"{stem} {count} notes" for stem, count in counts.items())
    return Made(files=files, detail=detail, facts={"notes": counts})


def _audible_stems(folder: Path, song: Grid) -> tuple[dict[Stem, tuple[Samples, int]], float]:
    """Mono audio and rate of each stem worth hearing, and the bounce's length in seconds."""
    found: dict[Stem, tuple[Samples, int]] = {}
    seconds = 0.0
    for stem in STEMS:
        path = folder / f"{stem}.wav"
        if path.exists():
            samples, rate_hz = read_raw(path)
            seconds = samples.shape[1] / rate_hz
            found[stem] = (to_mono(samples), rate_hz)
    levels = {stem: rms_db(samples) for stem, (samples, _) in found.items()}
    least = max(SILENCE_DB, max(levels.values(), default=SILENCE_DB) + LEAKAGE_DB)
    if len(found) > 1 and not song.sings:
        found.pop("vocals", None)
    return {stem: audio for stem, audio in found.items() if levels[stem] > least}, seconds


def _transcribe_stem(
    stem: Stem, audible: Mapping[Stem, tuple[Samples, int]], song: Grid, report: Report
) -> list[PlayedNote]:
    samples, rate_hz = audible[stem]
    if stem == "drums":
        return drums.transcribe_drums(resample(samples, rate_hz, drums.RATE_HZ), report)
    mono = resample(samples, rate_hz, pitched.RATE_HZ)
    heard = posteriorgrams(mono, report)
    if stem == "bass":
        return transcribe_monophonic(heard, mono, *BASS_PITCHES)
    if stem == "vocals":
        return [n for n in transcribe_monophonic(heard, mono, *VOCAL_PITCHES) if _is_sung(n, song)]
    return transcribe_pitched(heard, mono, *OTHER_PITCHES)


def _is_sung(note: PlayedNote, song: Grid) -> bool:
    return not song.singing or any(
        note.end_s > span.start_s - SINGING_MARGIN_S and note.start_s < span.end_s + SINGING_MARGIN_S
        for span in song.singing
    )


def _phrase(played: Mapping[Stem, list[PlayedNote]], song: Grid, length_beats: float) -> Phrase:
    notes = []
    for stem, heard in played.items():
        loudness = velocities([note.level_db for note in heard])
        for note, velocity in zip(heard, loudness, strict=True):
            start = seconds_to_beats(song.tempo, note.start_s)
            end = seconds_to_beats(song.tempo, note.end_s)
            notes.append(Note(start, end - start, note.pitch, velocity, stem))
    return Phrase(tuple(notes), length_beats)


def _quantised(phrase: Phrase, song: Grid, settings: TranscribeSettings) -> Phrase:
    """Starts and ends moved to the grid; nothing gets shorter than it was or than one step."""

    def moved(beat: float) -> float:
        return quantise_beats(song.tempo, beat, settings.quantise_steps_per_beat, settings.quantise_strength)

    notes = []
    for note in phrase.notes:
        start = moved(note.start_beats)
        end = moved(note.start_beats + note.length_beats)
        shortest = min(note.length_beats, 1.0 / settings.quantise_steps_per_beat)
        notes.append(Note(max(0.0, start), max(end - start, shortest), note.pitch, note.velocity, note.part))
    return Phrase(tuple(notes), phrase.length_beats)


def _part_of(report: Report, index: int, parts: int) -> Report:
    """`report` for one of several equal parts of the whole."""

    def within(done: float, total: float) -> None:
        report(index + done / total, parts)

    return within
