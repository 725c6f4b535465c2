"""What a piece itself says of its next note: music repeats, and a small model learns that late.

A `Listener` hears rows one by one and answers, for each field of the row to come, with small integers that the
network embeds: where it stands in the bar, what this part last did, and four hints, each copied from a place
that looks like this one. The network adds to a hint's value in its output as much as it learned to trust it.
The same code makes the training data and serves while playing.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Sequence

from bridge.transformer.tokens import (
    DRUMS,
    LENGTHS_STEPS,
    MOST_SHIFT,
    REST,
    SIZES,
    START,
    VELOCITY_LEVELS,
)

HINTS = ("piece", "part", "contour", "bar")
"""The longest match in all that was heard, in this part, in this part's intervals; and one bar ago."""
NONE, BROKEN = 0, 1  # trust in a hint: there is none; it was wrong about an earlier field of this row
TRUST = 10  # 2..9: the length of the match, or for "bar" how often in a row it was right
ORDERS = (6, 4, 2, 1)  # rows that must agree, tried in this order
CONTOUR_ORDERS = (5, 3, 2)
MATCH_LENGTHS = (2, 3, 4, 6, 9, 14, 21)  # where a match's trust rises
LONGEST_MATCH = 32

MOST_POSITION = 192  # steps; longer bars count as bars of four beats
BAR_CLASSES = {36: 1, 48: 2, 60: 3, 72: 4, 96: 5, 108: 6, 144: 7}
PITCHES = 256  # drums from 128 on
NO_PITCH, NO_LENGTH, NO_SHIFT, NO_VELOCITY = PITCHES, len(LENGTHS_STEPS), MOST_SHIFT + 1, VELOCITY_LEVELS
_PART, _POSITION, _TRUST = START + 1, MOST_POSITION, (TRUST,) * len(HINTS)
_PITCH, _LENGTH, _SHIFT, _VELOCITY = PITCHES + 1, NO_LENGTH + 1, NO_SHIFT + 1, NO_VELOCITY + 1

INPUTS = (_PART, _SHIFT, _PITCH, _LENGTH, _VELOCITY, _POSITION, 8, 8)
"""Sizes of the columns that describe the last row: its fields, position and kind of bar, bar number modulo 8."""
CONDITIONS: tuple[tuple[int, ...], ...] = (
    (_PART, _PART, TRUST, TRUST),  # hinted parts of "piece" and "bar"
    (_PART, _SHIFT, _SHIFT, _SHIFT, *_TRUST),  # the part, steps since it played, hints of "piece" and "part"
    (
        _PART,
        _POSITION,
        _PITCH,
        _PITCH,
        _PITCH,
        _PITCH,
        *_TRUST,
    ),  # the pitch below, the part's last, two hints
    (_PART, _PITCH, _POSITION, _LENGTH, _LENGTH, _LENGTH, *_TRUST),
    (_PART, _PITCH, _POSITION, _VELOCITY, _VELOCITY, _VELOCITY, _VELOCITY, *_TRUST),
)
"""Sizes of the columns given to each field's head."""
NONES = (START, NO_SHIFT, NO_PITCH, NO_LENGTH, NO_VELOCITY)
PITCH_INPUTS = (2,)
PITCH_CONDITIONS = ((), (), (2, 3, 4, 5), (1,), (1,))
"""Which columns hold pitches, for transposition."""

Row = tuple[int, int, int, int, int]
Hint = tuple[int, int]  # value (-1: none), trust
_NO_HINTS: tuple[Hint, ...] = ((-1, NONE),) * len(HINTS)
_REST_CONDITIONS = tuple(
    (REST, *(size - 1 for size in sizes[1 : -len(HINTS)]), *(NONE,) * len(HINTS)) for sizes in CONDITIONS
)


class Listener:
    """Hears rows of a piece in C (see keys) with bars of `bar_steps`; position 0 is a bar line.

    For each next row ask `conditions` for part, shift, pitch, length and velocity in turn, with the values
    drawn so far, then `push` the row.
    """

    def __init__(self, bar_steps: int) -> None:
        self.bar_steps = bar_steps
        self.now = 0  # steps
        self._row: Row = (START, 0, 0, 0, 0)
        self._rows: list[Row] = []
        self._stream = _Stream(ORDERS)
        self._parts = [_Part() for _ in range(REST)]
        self._order: list[tuple[int, int, int]] = []  # (onset, part, pitch) of all rows
        self._at: dict[tuple[int, int], list[int]] = {}  # (part, onset) -> indices of rows
        self._streak = 0  # how often in a row the bar before foretold part and shift
        self._match: tuple[Row | None, int] = (None, NONE)
        self._part_matches: dict[int, tuple[Row | None, int, Row | None, int]] = {}
        self._bar_next: tuple[int, int] | None = None

    def push(self, row: Sequence[int]) -> None:
        """The row that was played."""
        part, shift, pitch, length, velocity = (int(value) for value in row)
        if self._bar_next is not None:
            self._streak = self._streak + 1 if self._bar_next == (part, shift) else 0
        self.now += shift
        self._row = (part, shift, pitch, length, velocity)
        self._order.append((self.now, part, pitch))
        if part < REST:
            self._at.setdefault((part, self.now), []).append(len(self._rows))
            self._parts[part].push(self.now, pitch, length, velocity)
        self._rows.append(self._row)
        self._stream.push(((part * 128 + shift) * 128 + pitch) * 128 + length)
        index, trust = self._stream.find()
        self._match = (self._rows[index] if trust else None), trust
        self._part_matches.clear()
        self._bar_next = self._one_bar_ago()

    def fork(self) -> Listener:
        """Another piece that began as this one; the two go on apart."""
        other = copy.copy(self)
        other._rows, other._order = list(self._rows), list(self._order)
        other._at = {place: list(rows) for place, rows in self._at.items()}
        other._stream = self._stream.fork()
        other._parts = [part.fork() for part in self._parts]
        other._part_matches = dict(self._part_matches)
        return other

    def inputs(self) -> tuple[int, ...]:
        """The columns of INPUTS for the last row (before the first one: START)."""
        part, shift, pitch, length, velocity = self._row
        if part >= REST:
            heard = (part, shift, NO_PITCH, NO_LENGTH, NO_VELOCITY)
        else:
            heard = (part, shift, _column_pitch(part, pitch), length, velocity)
        return (
            *heard,
            self._position(self.now),
            BAR_CLASSES.get(self.bar_steps, 0),
            self.now // self.bar_steps % 8,
        )

    def conditions(self, asked: int, drawn: Sequence[int]) -> tuple[tuple[int, ...], tuple[Hint, ...]]:
        """Columns of CONDITIONS[asked] and one hint of each kind, given the fields drawn before `asked`."""
        hints = self._hints(asked, drawn)
        trust = tuple(hint[1] for hint in hints)
        if asked == 0:
            (piece, sure), _, _, (bar, sure_bar) = hints
            return (piece if piece >= 0 else START, bar if bar >= 0 else START, sure, sure_bar), hints
        part = drawn[0]
        if part >= REST:
            return _REST_CONDITIONS[asked], hints
        mine = self._parts[part]
        last = mine.notes[-1] if mine.notes else None
        shown = [hint[0] if hint[0] >= 0 else NONES[asked] for hint in hints[:2]]
        if asked == 1:
            waited = min(self.now - mine.onset, MOST_SHIFT) if last else NO_SHIFT
            return (part, waited, *shown, *trust), hints
        position = self._position(self.now + drawn[1])
        if asked == 2:
            below = NO_PITCH
            if drawn[1] == 0 and self._row[0] == part:
                below = _column_pitch(part, self._row[2])
            mine_last = _column_pitch(part, last[1]) if last else NO_PITCH
            shown = [_column_pitch(part, hint[0]) if hint[0] >= 0 else NO_PITCH for hint in hints[:2]]
            return (part, position, below, mine_last, *shown, *trust), hints
        pitch = _column_pitch(part, drawn[2])
        if asked == 3:
            return (part, pitch, position, last[2] if last else NO_LENGTH, *shown, *trust), hints
        before = self._row[4] if self._row[0] < REST else NO_VELOCITY
        return (part, pitch, position, last[3] if last else NO_VELOCITY, before, *shown, *trust), hints

    def _hints(self, asked: int, drawn: Sequence[int]) -> tuple[Hint, ...]:
        row, sure = self._match
        piece = _agreeing(row, sure, asked, drawn)
        if asked == 0:
            ahead = self._bar_next
            return (
                piece,
                (-1, NONE),
                (-1, NONE),
                (-1, NONE) if ahead is None else (ahead[0], self._bar_trust()),
            )
        part = drawn[0]
        if part >= REST:
            return _NO_HINTS
        if part not in self._part_matches:
            self._part_matches[part] = self._parts[part].matches(self.now, part)
        mine, mine_sure, contour, contour_sure = self._part_matches[part]
        return (
            piece,
            _agreeing(mine, mine_sure, asked, drawn),
            _agreeing(contour, contour_sure, asked, drawn),
            self._bar_hint(asked, drawn),
        )

    def _bar_hint(self, asked: int, drawn: Sequence[int]) -> Hint:
        if asked == 1:
            ahead = self._bar_next
            if ahead is None or ahead[0] != drawn[0]:
                return -1, NONE
            return ahead[1], self._bar_trust()
        part, shift = drawn[0], drawn[1]
        there = self._at.get((part, self.now + shift - self.bar_steps))
        if not there:
            return -1, NONE
        index = there[0]
        if shift == 0 and self._row[0] == part:
            index = next((i for i in there if self._rows[i][2] > self._row[2]), -1)
            if index < 0:
                return -1, NONE
        row = self._rows[index]
        broken = asked > 2 and row[2] != drawn[2]
        return row[asked], BROKEN if broken else self._bar_trust()

    def _bar_trust(self) -> int:
        return 2 + min(self._streak, 14) // 2

    def _one_bar_ago(self) -> tuple[int, int] | None:
        """Part and shift of the row that followed this place one bar ago."""
        then = self.now - self.bar_steps
        if then < 0 or self._row[0] >= REST:
            return None
        index = bisect_right(self._order, (then, self._row[0], self._row[2]))
        if index >= len(self._order):
            return None
        onset, part, _ = self._order[index]
        shift = onset - then
        return (part, shift) if part < REST and shift <= MOST_SHIFT else None

    def _position(self, step: int) -> int:
        return step % self.bar_steps % MOST_POSITION


class _Stream:
    """Codes of what was played, and where the longest run equal to the last ones stood before."""

    def __init__(self, orders: tuple[int, ...]) -> None:
        self._orders = orders
        self._codes: list[int] = []
        self._followed: dict[tuple[int, ...], int] = {}  # a run of codes -> the index of what came after it

    def fork(self) -> _Stream:
        other = copy.copy(self)
        other._codes, other._followed = list(self._codes), dict(self._followed)
        return other

    def push(self, code: int) -> None:
        codes = self._codes
        for order in self._orders:
            if len(codes) >= order:
                self._followed[tuple(codes[-order:])] = len(codes)
        codes.append(code)

    def find(self) -> tuple[int, int]:
        """The index of what followed then, and the trust in it; NONE if nothing matches."""
        codes = self._codes
        last = len(codes) - 1
        for order in self._orders:
            index = self._followed.get(tuple(codes[-order:])) if last + 1 >= order else None
            if index is None:
                continue
            length = order
            while length < min(LONGEST_MATCH, index) and codes[index - 1 - length] == codes[last - length]:
                length += 1
            return index, 2 + bisect_right(MATCH_LENGTHS, length)
        return -1, NONE


class _Part:
    """One part's own stream of notes: (steps since its last onset, pitch, length, velocity)."""

    def __init__(self) -> None:
        self.onset = 0
        self.notes: list[tuple[int, int, int, int]] = []
        self._stream = _Stream(ORDERS)
        self._contour = _Stream(CONTOUR_ORDERS)

    def fork(self) -> _Part:
        other = copy.copy(self)
        other.notes = list(self.notes)
        other._stream, other._contour = self._stream.fork(), self._contour.fork()
        return other

    def push(self, onset: int, pitch: int, length: int, velocity: int) -> None:
        waited = min(onset - self.onset, 4 * MOST_SHIFT) if self.notes else 0
        interval = pitch - self.notes[-1][1] if self.notes else 0
        self.onset = onset
        self.notes.append((waited, pitch, length, velocity))
        self._stream.push((waited * 128 + pitch) * 128 + length)
        self._contour.push((waited * 256 + interval + 128) * 128 + length)

    def matches(self, now: int, part: int) -> tuple[Row | None, int, Row | None, int]:
        """The row foretold by equal notes, its trust, the row foretold by equal intervals, its trust."""
        same = contour = None
        index, trust = self._stream.find()
        if trust:
            waited, pitch, length, velocity = self.notes[index]
            same = (part, self.onset + waited - now, pitch, length, velocity)
        index, contour_trust = self._contour.find()
        if contour_trust:
            waited, pitch, length, velocity = self.notes[index]
            moved = self.notes[-1][1] + pitch - self.notes[index - 1][1]
            contour = (part, self.onset + waited - now, moved, length, velocity)
        return same, trust, contour, contour_trust


def _agreeing(row: Row | None, trust: int, asked: int, drawn: Sequence[int]) -> Hint:
    """The hint that a foretold row gives for a field, less trusted where it was wrong about an earlier one."""
    if row is None or (asked and row[0] != drawn[0]):
        return -1, NONE
    value = row[asked]
    if not 0 <= value < SIZES[asked]:
        return -1, NONE
    if (asked > 1 and row[1] != drawn[1]) or (asked > 2 and row[2] != drawn[2]):
        return value, BROKEN
    return value, trust


def _column_pitch(part: int, pitch: int) -> int:
    return pitch + 128 if part == DRUMS else pitch
