"""Is there a clear melody in these notes, and which ones are it?

A continuation made from notes without one wanders: whoever generates asks here first, and leans on chords and rhythm
where the answer is no.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bridge.types import Note, Phrase

CLEAR = 0.5
CARRIERS = ("vocals", "lead", "other")
"""Parts that may carry the melody, in order of trust; of chords, their top line."""

_WINDOW_BEATS = 4.0
_STEP_SEMITONES = 7  # melodies mostly move by no more than a fifth
_MOST_RANGE_SEMITONES = 24


@dataclass(frozen=True)
class Melody:
    """The notes that come nearest to a melody, the part they are from, and how clearly they are one."""

    part: str  # "" where nothing could be one
    notes: tuple[Note, ...]
    clarity: float  # 0..1

    @property
    def is_clear(self) -> bool:
        """Whether it may lead."""
        return self.clarity >= CLEAR


def find_melody(phrase: Phrase) -> Melody:
    """The first part in CARRIERS that holds a clear melody, else the clearest of them."""
    found = [_melody_of(part, phrase) for part in CARRIERS]
    return next(
        (melody for melody in found if melody.is_clear), max(found, key=lambda melody: melody.clarity)
    )


def _melody_of(part: str, phrase: Phrase) -> Melody:
    notes = [note for note in phrase.notes if note.part == part]
    line = top_line(notes)
    if len(line) < 2 or phrase.length_beats <= 0:
        return Melody("", (), 0.0)
    grades = (
        _independence(line, notes),
        _variety(line),
        _smoothness(line),
        _pace(line),
        _coverage(line, phrase.length_beats),
    )
    return Melody(part, tuple(line), math.prod(grades))


def top_line(notes: Sequence[Note]) -> list[Note]:
    """The highest note at each onset, unless a higher one still sounds; each ends where the next begins."""
    highest: dict[int, Note] = {}
    for note in notes:
        above = highest.get(_onset(note))
        if above is None or note.pitch > above.pitch:
            highest[_onset(note)] = note
    line: list[Note] = []
    for _, note in sorted(highest.items()):
        before = line[-1] if line else None
        if before is None or before.pitch <= note.pitch or _end_beats(before) <= note.start_beats + 1e-6:
            line.append(note)
    return [_cut(note, following) for note, following in pairwise(line)] + line[-1:]


def _onset(note: Note) -> int:
    """In twelfths of a beat: what begins within one, begins together."""
    return round(note.start_beats * 12)


def _end_beats(note: Note) -> float:
    return note.start_beats + note.length_beats


def _cut(note: Note, following: Note) -> Note:
    length = min(note.length_beats, following.start_beats - note.start_beats)
    return Note(note.start_beats, length, note.pitch, note.velocity, note.part)


def _independence(line: Sequence[Note], notes: Sequence[Note]) -> float:
    """How much of the line begins alone: the top notes of block chords never do."""
    together = Counter(map(_onset, notes))
    alone = sum(together[_onset(note)] == 1 for note in line) / len(line)
    return min(1.0, alone / 0.5)


def _variety(line: Sequence[Note]) -> float:
    """Five pitches make a tune; more than two octaves are a hearing mistake or an arpeggio."""
    pitches = sorted({note.pitch for note in line})
    span = pitches[-1] - pitches[0]
    return min(1.0, (len(pitches) - 1) / 4) * min(1.0, _MOST_RANGE_SEMITONES / max(span, 1))


def _smoothness(line: Sequence[Note]) -> float:
    small = sum(abs(b.pitch - a.pitch) <= _STEP_SEMITONES for a, b in pairwise(line)) / (len(line) - 1)
    return min(1.0, max(0.0, (small - 0.4) / 0.4))


def _pace(line: Sequence[Note]) -> float:
    """1 from a note in two beats to four in one, counted while the line plays; less outside."""
    gaps = [b.start_beats - a.start_beats for a, b in pairwise(line)]
    playing = [gap for gap in gaps if gap <= _WINDOW_BEATS]
    rate = len(playing) / sum(playing) if playing else 0.0
    return min(1.0, rate / 0.5, 4.0 / max(rate, 1e-9))


def _coverage(line: Sequence[Note], length_beats: float) -> float:
    """A melody is there in three of ten bars at least."""
    windows = {int(note.start_beats // _WINDOW_BEATS) for note in line}
    return min(1.0, len(windows) / math.ceil(length_beats / _WINDOW_BEATS) / 0.3)
