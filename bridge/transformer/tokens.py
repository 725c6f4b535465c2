"""A Phrase as rows of five small numbers, one row for each note, and back again.

Time counts in steps, 24 to the beat, so that what a model writes lies on the song's own grid. Lossless on that
grid: onset, part and pitch always; lengths up to four beats. Lost: what lies between two steps, velocity but for
16 levels, and the fraction of a beat in notes longer than four beats (longer than 16 are cut to 16).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from bridge.transformer.parts import PARTS
from bridge.types import Note, Phrase

STEPS_PER_BEAT = 24
FIELDS = ("part", "shift", "pitch", "length", "velocity")
PART, SHIFT, PITCH, LENGTH, VELOCITY = range(5)

DRUMS = PARTS.index("drums")
REST = len(PARTS)  # a row that lets `MOST_SHIFT` steps pass and plays nothing
START = REST + 1  # the row before the first note
MOST_SHIFT = 96
LENGTHS_STEPS: tuple[int, ...] = (*range(1, 97), *range(120, 385, 24))
VELOCITY_LEVELS = 16
SIZES = (START + 1, MOST_SHIFT + 1, 128, len(LENGTHS_STEPS), VELOCITY_LEVELS)
"""How many values each field has."""

Rows = npt.NDArray[np.int16]
"""(rows, 5) in the order of FIELDS. `shift` counts the steps since the row before; pitch is the MIDI pitch;
length and velocity are indices into LENGTHS_STEPS and the 16 levels."""


def encode(phrase: Phrase) -> Rows:
    """The rows of a phrase, sorted by onset, part and pitch; the first shift counts from beat 0.

    Raises:
        ValueError: a note's part is none of PARTS.
    """
    return encode_steps(
        (
            round(note.start_beats * STEPS_PER_BEAT),
            PARTS.index(note.part),
            note.pitch,
            max(1, round(note.length_beats * STEPS_PER_BEAT)),
            note.velocity,
        )
        for note in phrase.notes
    )


def encode_steps(notes: Iterable[tuple[int, int, int, int, int]]) -> Rows:
    """Rows of notes given as (onset in steps, index of the part, pitch, length in steps, velocity)."""
    rows: list[tuple[int, int, int, int, int]] = []
    now = 0
    for onset, part, pitch, length, velocity in sorted(notes):
        shift = max(0, onset - now)
        while shift > MOST_SHIFT:
            rows.append((REST, MOST_SHIFT, 0, 0, 0))
            shift -= MOST_SHIFT
        rows.append((part, shift, pitch, length_index(length), velocity_level(velocity)))
        now = max(now, onset)
    return np.array(rows, np.int16).reshape(-1, len(FIELDS))  # an empty list -> (0, 5)


def decode(rows: Iterable[Sequence[int]], length_beats: float) -> Phrase:
    """The phrase that rows stand for; rests and starts only let time pass."""
    notes = []
    now = 0
    for part, shift, pitch, length, velocity in rows:
        now += int(shift)
        if part < REST:
            notes.append(
                Note(
                    now / STEPS_PER_BEAT,
                    LENGTHS_STEPS[length] / STEPS_PER_BEAT,
                    int(pitch),
                    level_velocity(int(velocity)),
                    PARTS[part],
                )
            )
    return Phrase(tuple(notes), length_beats)


def length_index(steps: int) -> int:
    """The index of the nearest length in the table."""
    above = bisect_left(LENGTHS_STEPS, steps)
    if above == len(LENGTHS_STEPS):
        return above - 1
    if above and steps - LENGTHS_STEPS[above - 1] < LENGTHS_STEPS[above] - steps:
        return above - 1
    return above


def velocity_level(velocity: int) -> int:
    """One of 16 levels for a MIDI velocity of 1 to 127."""
    return min(max(velocity, 0), 127) // 8


def level_velocity(level: int) -> int:
    """The velocity in the middle of a level."""
    return level * 8 + 4


def transposed(rows: Rows, semitones: int) -> Rows:
    """Rows with every pitched part moved; what would leave MIDI's range stays in it by an octave."""
    moved = rows.copy()
    pitched = rows[:, PART] < DRUMS
    pitch = moved[pitched, PITCH] + semitones
    moved[pitched, PITCH] = pitch - 12 * (pitch > 127) + 12 * (pitch < 0)
    return moved
