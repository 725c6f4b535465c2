"""What was played, as the model hears it: in steps on the music's own grid, in rising order, silence kept short.

Pure. Hands play near a grid, not on it; the model learned from scores, and recalls only what repeats exactly. So
onsets and lengths that miss the grid by a hair are moved onto it. Beats are the live axis's, steps the model's.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

from bridge.errors import InputError
from bridge.transformer.constraints import grid_of_steps
from bridge.transformer.parts import PARTS
from bridge.transformer.tokens import LENGTHS_STEPS, STEPS_PER_BEAT, Rows, encode_steps
from bridge.types import Note

MOST_NOTES = 1_000  # kept when the oldest are forgotten, which happens at twice as many
GROUP_BARS = 8  # silence and jumps lose bars by eights: the model hears bar numbers modulo 8
LATEST_NOTES = 256  # that tell the grid
HAND_GRIDS_STEPS = (6, 8)  # sixteenths, triplets of eighths: what hands play on is told apart from these
HAIR_STEPS = 1  # 1/24 of a beat: 21 ms at 120 bpm
NEARLY_ALL = 0.8
FARTHEST_BEATS = 1e9

Played = tuple[int, int, int, int, int]
"""Onset in steps, part, pitch, length in steps, velocity 1 to 127: as `tokens.encode_steps` takes it."""


class Ear:
    """One piece under way with bars of `bar_steps`. Its step 0 is a bar line, as are the multiples of a bar in beats."""

    def __init__(self, bar_steps: int) -> None:
        self.notes: list[Played] = []  # all that is kept, rising; a song's first
        self.now = 0  # the last onset in steps
        self._bar_steps, self._group = bar_steps, GROUP_BARS * bar_steps
        self._origin: int | None = None  # steps on the axis minus steps of the piece
        self._song_end = 0
        self._latest: deque[int] = deque(
            maxlen=LATEST_NOTES
        )  # onsets as played, in steps from their bar line

    def fork(self) -> Ear:
        """Another piece that began as this one; the two go on apart."""
        other = copy.copy(self)
        other.notes, other._latest = list(self.notes), self._latest.copy()
        return other

    @property
    def grid(self) -> int:
        """The grid that the music lies on, in steps; sixteenths where nothing was heard."""
        return _grid(self._latest or [note[0] % self._bar_steps for note in self.notes[-LATEST_NOTES:]])

    @property
    def is_full(self) -> bool:
        """Time to `forget`."""
        return len(self.notes) > 2 * MOST_NOTES

    def take(self, notes: Sequence[Note]) -> Rows:
        """The rows that these notes add. One that should have come earlier sounds with the last one instead.

        Raises:
            InputError: a part that is none, or a number out of range; then nothing is taken.
        """
        played = sorted(_struck(note) for note in notes)
        self._latest.extend(onset % self._bar_steps for onset, *_ in played)
        grid = self.grid
        before = self.now
        taken = []
        for onset, part, pitch, length, velocity in played:
            onset = self._place(self._moved(onset, grid))
            self.now = max(self.now, onset)
            taken.append((self.now, part, pitch, _tidy(length, grid), velocity))
        taken.sort()
        self.notes += taken
        return encode_steps(_later(taken, -before))

    def place(self, beat: float) -> int:
        """The step at which what comes next has the axis's `beat`."""
        return self._place(round(beat * STEPS_PER_BEAT))

    def rows(self) -> Rows:
        """All that is kept, from step 0."""
        return encode_steps(self.notes)

    def latest_rows(self, bars: int) -> Rows:
        """The last notes, within so many bars before the last onset."""
        since = self.now - bars * self._bar_steps
        latest = self.notes[bisect_left(self.notes, since, key=lambda note: note[0]) :]
        return encode_steps(_later(latest, -since))

    def forget(self) -> None:
        """Keep the last thousand notes; whoever heard `rows` must hear them again."""
        self.notes = self.notes[-MOST_NOTES:]
        self._move(-(self.notes[0][0] // self._group * self._group))

    def take_back(self, notes: Sequence[Note]) -> None:
        """These were not meant; whoever heard `rows`, see `forget`. What is not found is passed over.

        Raises:
            InputError: as `take`.
        """
        for onset, part, pitch, _, _ in sorted((_struck(note) for note in notes), reverse=True):
            wanted = self._place(onset)
            for index in reversed(range(len(self.notes))):
                there = self.notes[index]
                if there[1:3] == (part, pitch) and abs(there[0] - wanted) <= HAIR_STEPS:
                    del self.notes[index]
                    break
        self.now = self.notes[-1][0] if self.notes else 0

    def put_before(self, song: Sequence[Note]) -> None:
        """A song, as if it had been played just before, instead of an earlier one; whoever heard `rows`, see `forget`.

        Beat 0 of its notes is a bar line.
        """
        earlier = sorted(_struck(note) for note in song)[-MOST_NOTES:]
        self.notes = [note for note in self.notes if note[0] >= self._song_end]
        end = -(-(earlier[-1][0] + 1) // self._bar_steps) * self._bar_steps if earlier else 0
        start = -end % self._group  # the song ends where a group of bars does, wherever it begins
        if not self.notes:
            self.now, self._origin = 0, None
        self._move(start + end - self._song_end)
        self.notes = _later(earlier, start) + self.notes
        self._song_end = start + end
        self.now = self.notes[-1][0] if self.notes else 0

    def _move(self, steps: int) -> None:
        self.notes = _later(self.notes, steps)
        self.now += steps
        self._song_end = max(0, self._song_end + steps)
        if self._origin is not None:
            self._origin -= steps

    def _place(self, axis_step: int) -> int:
        if self._origin is None:
            self._origin = axis_step // self._bar_steps * self._bar_steps - self._song_end
        ahead = axis_step - self._origin - self.now
        groups = -(-ahead // self._group) - 1  # 0 within the next eight bars, -1 within the last
        if groups not in (0, -1):
            self._origin += groups * self._group
        return axis_step - self._origin

    def _moved(self, onset: int, grid: int) -> int:
        """Onto the grid, if it was meant to be there."""
        if grid not in HAND_GRIDS_STEPS:
            return onset
        within = onset % self._bar_steps
        off = (within + grid // 2) % grid - grid // 2
        return onset - off if abs(off) <= HAIR_STEPS else onset


def _struck(note: Note) -> Played:
    if note.part not in PARTS:
        raise InputError(f'"{note.part}" is no part. Parts are {", ".join(PARTS)}.')
    for name, value, low, high in (
        ("start", note.start_beats, -FARTHEST_BEATS, FARTHEST_BEATS),
        ("length", note.length_beats, 0.0, FARTHEST_BEATS),
        ("pitch", note.pitch, 0, 127),
        ("velocity", note.velocity, 1, 127),
    ):
        if not low <= value <= high:  # not a number is caught too
            raise InputError(f"The {name} of a note is {value}, but must lie between {low:g} and {high:g}.")
    length = min(max(1, round(note.length_beats * STEPS_PER_BEAT)), LENGTHS_STEPS[-1])
    return (
        round(note.start_beats * STEPS_PER_BEAT),
        PARTS.index(note.part),
        note.pitch,
        length,
        note.velocity,
    )


def _later(notes: Sequence[Played], steps: int) -> list[Played]:
    return [(onset + steps, part, pitch, length, velocity) for onset, part, pitch, length, velocity in notes]


def _grid(onsets: Sequence[int]) -> int:
    """Of onsets in steps from their bar line: what hands are near, else the coarsest that they are exactly on."""
    for grid in HAND_GRIDS_STEPS:
        near = sum(min(step % grid, -step % grid) <= HAIR_STEPS for step in onsets)
        if near >= NEARLY_ALL * len(onsets):
            return grid
    return grid_of_steps(onsets)


def _tidy(length: int, grid: int) -> int:
    """A length as a score writes it: whole thirty-seconds (or halves of a triplet); what is shorter stays."""
    unit = grid // 2
    if grid not in HAND_GRIDS_STEPS or length < unit:
        return length
    return (length + unit // 2) // unit * unit
