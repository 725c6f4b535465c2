"""transcribe: the stems' notes as MIDI, as played and on the song's own grid.

Vocals and bass are heard as one note at a time, drums as hits, everything else as chords. Silent stems,
and vocals where nobody sings, get no track.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridge.analysis.spectrum import heard_line
from bridge.audio import Samples, amplitude_to_db
from bridge.grid import read_grid
from bridge.midi import read_midi, write_midi
from bridge.progress import Report, part_of
from bridge.settings import setting
from bridge.sound import Sound, of_file, resampled_mono
from bridge.tempo import beats_to_ticks, quantise_beats, seconds_to_beats
from bridge.transcribers import drums, pitched
from bridge.transcribers.bass import without_line
from bridge.transcribers.drums import transcribe_drums
from bridge.transcribers.monophonic import transcribe_monophonic
from bridge.transcribers.pitched import mean_of, posteriorgrams, transcribe_pitched
from bridge.transcribers.played import PlayedNote, velocities
from bridge.types import STEMS, Artifact, Context, Grid, Made, ModelRef, Note, Phrase, Skip, Stem

STAGE_VERSION = "3"

Played = dict[Stem, list[PlayedNote]]

LISTENING_ORDER: tuple[Stem, ...] = ("drums", "bass", "other", "vocals")


@dataclass(frozen=True)
class Heard:
    """A stem, and how it is made mono."""

    sound: Sound
    line: Callable[[Samples], Samples]

    @classmethod
    def of(cls, sound: Sound) -> Heard:
        """As `heard_mono` has it."""
        return cls(sound, heard_line(sound))

    def level_db(self) -> float:
        """RMS of the mono sound in dBFS."""
        total = sum(
            float(np.square(self.line(block), dtype=np.float64).sum()) for _, block in self.sound.blocks()
        )
        return amplitude_to_db((total / max(1, self.sound.frames)) ** 0.5)

    def at(self, rate_hz: int) -> Samples:
        """(1, frames) at another rate, in memory."""
        return resampled_mono(self.sound, self.line, rate_hz)[np.newaxis]


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
    played = _listen(audible, song, context.report)
    as_played = _phrase(played, song, seconds_to_beats(song.tempo, seconds))
    files = {}
    for name, phrase in (("notes", as_played), ("notes_quantised", _quantised(as_played, song, settings))):
        files[name] = context.workdir / f"{name}.mid"
        write_midi(files[name], phrase, song.tempo, key=song.key)
    written = Counter(note.part for note in read_midi(files["notes"])[0].notes)
    counts = {stem: written[stem] for stem in played}
    detail = ", ".join(f"{stem} {count} notes" for stem, count in counts.items())
    return Made(files=files, detail=detail, facts={"notes": counts})


def _audible_stems(folder: Path, song: Grid) -> tuple[dict[Stem, Heard], float]:
    """Each stem worth hearing, and the bounce's length in seconds."""
    files = {stem: folder / f"{stem}.wav" for stem in STEMS}
    found = {stem: Heard.of(of_file(path)) for stem, path in files.items() if path.exists()}
    seconds = max((heard.sound.frames / heard.sound.rate_hz for heard in found.values()), default=0.0)
    levels = {stem: heard.level_db() for stem, heard in found.items()}
    least = max(SILENCE_DB, max(levels.values(), default=SILENCE_DB) + LEAKAGE_DB)
    if len(found) > 1 and not song.sings:
        found.pop("vocals", None)
    return {stem: heard for stem, heard in found.items() if levels[stem] > least}, seconds


def _listen(audible: Mapping[Stem, Heard], song: Grid, report: Report) -> Played:
    """Each stem in turn; those that know less of themselves come after those that help them."""
    played: Played = {}
    for index, stem in enumerate(stem for stem in LISTENING_ORDER if stem in audible):
        part = part_of(report, index, len(audible))
        if stem == "drums":
            played[stem] = transcribe_drums(audible[stem].at(drums.RATE_HZ), part)
        elif stem == "bass":
            played[stem] = _bass_notes(audible, part)
        elif stem == "other":
            played[stem] = _other_notes(audible, played, part)
        else:
            vocals = audible[stem].at(pitched.RATE_HZ)
            sung = transcribe_monophonic(posteriorgrams(vocals, part), vocals, *VOCAL_PITCHES)
            played[stem] = [note for note in sung if _is_sung(note, song)]
    return played


# Of a song of 20 minutes each sound takes 100 MB in memory, and each hearing 73: none is kept longer than it must.


def _bass_notes(audible: Mapping[Stem, Heard], report: Report) -> list[PlayedNote]:
    bass = audible["bass"].at(pitched.RATE_HZ)
    if "drums" not in audible:
        return transcribe_monophonic(posteriorgrams(bass, report), bass, *BASS_PITCHES)
    # Separation takes the plucks of a bass for drums, so it is heard with them too.
    alone = posteriorgrams(bass, part_of(report, 0, 2))
    both = audible["drums"].at(pitched.RATE_HZ)
    both += bass
    heard = mean_of(alone, posteriorgrams(both, part_of(report, 1, 2)))
    del both
    return transcribe_monophonic(heard, bass, *BASS_PITCHES)


def _other_notes(audible: Mapping[Stem, Heard], played: Played, report: Report) -> list[PlayedNote]:
    other = audible["other"].at(pitched.RATE_HZ)
    instants_s = [note.start_s for note in played.get("drums", [])]
    if "bass" not in audible:
        return transcribe_pitched(posteriorgrams(other, report), other, *OTHER_PITCHES, instants_s)
    alone = posteriorgrams(other, part_of(report, 0, 2))
    # Separation by frequency leaves the chords' low notes in the bass stem.
    whole = without_line(audible["bass"].at(pitched.RATE_HZ), played["bass"])
    whole += other
    del other
    heard = mean_of(alone, posteriorgrams(whole, part_of(report, 1, 2)))
    return transcribe_pitched(heard, whole, *OTHER_PITCHES, instants_s)


def _is_sung(note: PlayedNote, song: Grid) -> bool:
    return not song.singing or any(
        note.end_s > span.start_s - SINGING_MARGIN_S and note.start_s < span.end_s + SINGING_MARGIN_S
        for span in song.singing
    )


def _phrase(played: Played, song: Grid, length_beats: float) -> Phrase:
    notes = []
    for stem, heard in played.items():
        for alike in _comparable(stem, heard):
            loudness = velocities([note.level_db for note in alike])
            for note, velocity in zip(alike, loudness, strict=True):
                start = seconds_to_beats(song.tempo, note.start_s)
                end = seconds_to_beats(song.tempo, note.end_s)
                notes.append(Note(start, end - start, note.pitch, velocity, stem))
    notes.sort(key=lambda note: (note.start_beats, note.part, note.pitch))
    return Phrase(tuple(notes), length_beats)


def _comparable(stem: Stem, heard: list[PlayedNote]) -> list[list[PlayedNote]]:
    """Notes whose levels can be compared: a part's, or one drum's, since each drum's sample has its own."""
    if stem != "drums":
        return [heard]
    return [[note for note in heard if note.pitch == pitch] for pitch in sorted({n.pitch for n in heard})]


def _quantised(phrase: Phrase, song: Grid, settings: TranscribeSettings) -> Phrase:
    """Starts and ends moved to the grid; nothing gets shorter than it was or than one step, or leaves the phrase."""
    step = 1.0 / settings.quantise_steps_per_beat
    last_tick = beats_to_ticks(phrase.length_beats)

    def moved(beat: float) -> float:
        return quantise_beats(song.tempo, beat, settings.quantise_steps_per_beat, settings.quantise_strength)

    notes = []
    for note in phrase.notes:
        start = moved(note.start_beats)
        end = moved(note.start_beats + note.length_beats)
        if beats_to_ticks(start) >= last_tick:
            start -= step
        shortest = min(note.length_beats, step)
        notes.append(Note(max(0.0, start), max(end - start, shortest), note.pitch, note.velocity, note.part))
    return Phrase(tuple(notes), phrase.length_beats)
