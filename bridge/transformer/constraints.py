"""What a continuation may play, as masks that decoding draws from: nothing outside them can be drawn at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from bridge.errors import InputError
from bridge.transformer.parts import PARTS
from bridge.transformer.tokens import (
    DRUMS,
    LENGTHS_STEPS,
    MOST_SHIFT,
    REST,
    SIZES,
    STEPS_PER_BEAT,
    Rows,
)
from bridge.types import Note

Mask = npt.NDArray[np.bool_]
RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "lead": (55, 88),
        "piano": (36, 96),
        "guitar": (40, 84),
        "bass": (28, 55),
        "strings": (40, 91),
        "drums": (35, 81),
    }
)
POLYPHONY: Mapping[str, int] = MappingProxyType(
    {"lead": 1, "piano": 8, "guitar": 6, "bass": 1, "strings": 6, "drums": 5}
)


GRIDS_STEPS = (6, 8, 4, 3, 2)  # sixteenths, triplets, then finer ones
_ON_GRID = 0.95


@dataclass(frozen=True)
class HarmonySpan:
    """From `start_beats` to `end_beats` of the continuation, notes that begin there come from these classes."""

    start_beats: float
    end_beats: float
    pitch_classes: frozenset[int]  # 0 = C
    parts: tuple[str, ...] = ()  # () = all but the drums


@dataclass(frozen=True)
class Constraints:
    """Guarantees. Where two of them leave a part no note at some place, it has none there."""

    parts: tuple[str, ...] = ()  # who may play; () = who plays in the primer
    scale: frozenset[int] | None = None  # pitch classes of all but the drums; None = all
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=lambda: RANGES)  # lowest and highest pitch
    polyphony: Mapping[str, int] = field(default_factory=lambda: POLYPHONY)  # most notes at once
    most_notes_per_beat: float | None = None  # of each part, on the mean of a bar
    harmony: tuple[HarmonySpan, ...] = ()  # for each onset and part the first span that fits counts
    grid_steps: int = 1  # onsets lie on multiples of so many 24ths of a beat
    opening_steps: int | None = None  # the first note begins so soon, if any part may play there


class Rules:
    """Constraints at work on one continuation of `bars` bars that begins at step `first_step` of a piece.

    Pitches are the listener's: `semitones` above the ones that will sound.

    Raises:
        InputError: an unknown part, an empty range, or nothing that could ever be played.
    """

    def __init__(
        self,
        constraints: Constraints,
        parts: Sequence[str],
        bars: int,
        bar_steps: int,
        first_step: int,
        semitones: int,
    ) -> None:
        self.first_step, self.end_step = first_step, first_step + bars * bar_steps
        self._bar_steps, self._semitones = bar_steps, semitones
        self._parts = [PARTS.index(part) for part in _known(parts)]
        self._polyphony = {part: constraints.polyphony.get(PARTS[part], 128) for part in self._parts}
        density = constraints.most_notes_per_beat
        self._most_in_bar = None if density is None else max(1, int(density * bar_steps / STEPS_PER_BEAT))
        self._pitches = _PitchTable(constraints, self._parts, bars * bar_steps, semitones)
        on_grid = np.arange(bars * bar_steps) % constraints.grid_steps == 0
        self._open = {part: self._pitches.available(part) & on_grid for part in self._parts}
        self._in_bar = {part: np.zeros(bars, int) for part in self._parts}
        self._at_once = dict.fromkeys(self._parts, 0)  # notes of a part that began at `_now`
        self._now = first_step
        self._held: dict[int, list[tuple[int, int, int]]] = {}  # part -> pitch, from, until: beyond a change
        self._last: tuple[int, int] = (-1, -1)  # part and pitch of the last row, if it began at `_now`
        self._opening = constraints.opening_steps  # until the first note
        if not any(mask.any() for mask in self._open.values()):
            raise InputError(
                "Nothing can be played: range, scale and harmony leave no note to any part "
                f"({', '.join(PARTS[part] for part in self._parts) or 'no parts'}). Widen one of them."
            )

    def begin(self, now: int) -> None:
        """The primer's last onset, before or at the first bar line of the continuation."""
        self._now = now

    def hold(self, notes: Iterable[tuple[int, int, int, int]]) -> None:
        """Notes that can't be cut any more: part, pitch as it sounds, and from when until when (steps from `first_step`).

        Within that time their part needs neither their voice nor their pitch. They replace those held before.
        """
        self._held = {}
        for part, pitch, start, end in notes:
            heard = pitch if part == DRUMS else pitch + self._semitones
            self._held.setdefault(part, []).append((heard, start, end))

    def parts(self) -> Mask:
        """Who may begin a note from here on; else, and never twice running if anybody may, time passes."""
        if self._opening is not None and not any(self.shifts(part).any() for part in self._parts):
            self._opening = None
        mask = np.zeros(SIZES[0], bool)
        for part in self._parts:
            mask[part] = self.shifts(part).any()
        may_rest = self._last[0] != REST and self._opening is None
        mask[REST] = may_rest or not mask.any()
        return mask

    def shifts(self, part: int) -> Mask:
        """After how many steps `part` may begin a note; at or after `end_step` means that nothing more comes."""
        steps = self._now + np.arange(MOST_SHIFT + 1) - self.first_step
        inside = (steps >= 0) & (steps < self.end_step - self.first_step)
        where = np.where(inside, steps, 0)
        mask: Mask = inside & self._open[part][where]
        if self._most_in_bar is not None:
            mask &= self._in_bar[part][where // self._bar_steps] < self._most_in_bar
        if part in self._held:
            mask &= ~self._is_full(part, where)
        mask[0] &= self._may_join(part)
        if self._opening is not None:
            return mask & (steps <= self._opening)
        mask |= steps >= self.end_step - self.first_step
        return mask

    def pitches(self, part: int, shift: int) -> Mask:
        """Pitches, in the listener's key, for a note of `part` after `shift` steps."""
        step = self._now + shift - self.first_step
        mask = self._pitches.at(part, step)
        if part in self._held:
            mask = mask.copy()
            mask[[pitch for pitch, start, end in self._held[part] if start <= step < end]] = False
        if shift == 0 and self._last[0] == part:
            mask = mask & (np.arange(SIZES[2]) > self._last[1])
        return mask

    def lengths(self, shift: int) -> Mask:
        """Lengths that end within the continuation."""
        return np.array(LENGTHS_STEPS) <= self.end_step - self._now - shift

    def is_beyond(self, shift: int) -> bool:
        """Does a note after `shift` steps lie outside the continuation?"""
        return self._now + shift >= self.end_step

    def play(self, part: int, shift: int, pitch: int) -> None:
        """A note was drawn (or for part REST: time passed)."""
        if shift:
            self._at_once = dict.fromkeys(self._parts, 0)
        self._now += shift
        self._last = (part, pitch)
        if part != REST:
            self._opening = None
        if part != REST and not self.is_beyond(0):
            self._at_once[part] += 1
            self._in_bar[part][(self._now - self.first_step) // self._bar_steps] += 1

    def most_at_once(self, part: int) -> int:
        """Polyphony of a part."""
        return self._polyphony[part]

    def _may_join(self, part: int) -> bool:
        """May `part` begin a note at the very step of the last one? Rows of one step rise by part and pitch."""
        last_part, last_pitch = self._last
        step = self._now - self.first_step
        held = sum(start <= step < end for _, start, end in self._held.get(part, ()))
        if part < last_part or self._at_once[part] + held >= self._polyphony[part]:
            return False
        return part > last_part or bool(self.pitches(part, 0)[last_pitch + 1 :].any())

    def _is_full(self, part: int, steps: npt.NDArray[np.int64]) -> Mask:
        """(steps,): do held notes leave `part` no voice, or no pitch?"""
        voices = np.full(len(steps), self._polyphony[part])
        pitches = self._pitches.over(part, steps)
        for pitch, start, end in self._held[part]:
            sounding = (start <= steps) & (steps < end)
            voices -= sounding
            pitches[sounding, pitch] = False
        full: Mask = (voices <= 0) | ~pitches.any(1)
        return full


class _PitchTable:
    """Which pitches each part may play at each step."""

    def __init__(self, constraints: Constraints, parts: Sequence[int], steps: int, semitones: int) -> None:
        self._masks: dict[int, list[Mask]] = {}
        self._which: dict[int, npt.NDArray[np.int64]] = {}
        for part in parts:
            plain = _pitch_mask(constraints, part, semitones, None)
            self._masks[part] = [plain]
            self._which[part] = np.zeros(steps, np.int64)
            if part == DRUMS:
                continue
            for span in reversed(constraints.harmony):  # the first one that fits is written last
                if span.parts and PARTS[part] not in span.parts:
                    continue
                first, last = (round(beats * STEPS_PER_BEAT) for beats in (span.start_beats, span.end_beats))
                self._which[part][max(0, first) : max(0, last)] = len(self._masks[part])
                self._masks[part].append(_pitch_mask(constraints, part, semitones, span.pitch_classes))

    def at(self, part: int, step: int) -> Mask:
        return self._masks[part][int(self._which[part][step])]

    def over(self, part: int, steps: npt.NDArray[np.int64]) -> Mask:
        """(steps, pitches), the caller's to change."""
        return np.array(self._masks[part])[self._which[part][steps]]

    def available(self, part: int) -> Mask:
        """(steps,): has the part any pitch there?"""
        open_masks: Mask = np.array([mask.any() for mask in self._masks[part]])
        return open_masks[self._which[part]]


def _pitch_mask(constraints: Constraints, part: int, semitones: int, classes: frozenset[int] | None) -> Mask:
    low, high = constraints.ranges.get(PARTS[part], (0, 127))
    if not 0 <= low <= high <= 127:
        raise InputError(
            f"The range {low}-{high} of {PARTS[part]} is none. Give a lowest and a highest MIDI pitch within 0-127."
        )
    pitches = np.arange(SIZES[2])
    sounding = pitches if part == DRUMS else pitches - semitones
    mask: Mask = (sounding >= low) & (sounding <= high)
    if part == DRUMS:
        return mask
    for allowed in (constraints.scale, classes):
        if allowed is not None:
            mask &= np.isin(sounding % 12, list(allowed))
    return mask


def _known(parts: Sequence[str]) -> Sequence[str]:
    for part in parts:
        if part not in PARTS:
            raise InputError(f'"{part}" is no part. Parts are {", ".join(PARTS)}.')
    return sorted(set(parts), key=PARTS.index)


def grid_steps(notes: Sequence[Note]) -> int:
    """The coarsest grid, in 24ths of a beat, that nearly all onsets lie on; they count from a bar line."""
    return grid_of_steps([round(note.start_beats * STEPS_PER_BEAT) for note in notes])


def grid_of_steps(steps: Sequence[int]) -> int:
    """The same, of onsets in 24ths of a beat."""
    for grid in GRIDS_STEPS:
        if sum(step % grid == 0 for step in steps) >= _ON_GRID * len(steps):
            return grid
    return 1


def heard_parts(rows: Rows) -> tuple[str, ...]:
    """Who plays in these rows."""
    return tuple(PARTS[part] for part in sorted(set(rows[:, 0].tolist())) if part < REST)
