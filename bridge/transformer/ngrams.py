"""N-grams over the same rows: the baselines that a model has to beat, in the same run and on the same works.

`StaticNgrams` have counted the training works and look back four rows at most. `Copying` adds what the piece itself
has played so far: music repeats, so that this one is hard to beat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bridge.transformer.dataset import Piece
from bridge.transformer.mixture import (
    Booleans,
    Floats,
    Integers,
    Mixture,
    Votes,
    joined,
)
from bridge.transformer.tokens import FIELDS, LENGTH, PART, PITCH, REST, SHIFT, SIZES, START, VELOCITY, Rows

Codes = npt.NDArray[np.uint64]
Context = tuple[tuple[int, tuple[int, ...]], ...]
"""Pairs of how many rows back and which fields of that row; 0 rows back stands for the fields already known."""


def _after(known: tuple[int, ...], fields: tuple[int, ...] = (), rows: int = 0) -> Context:
    """The known fields of the row itself, and some fields of so many rows before it."""
    own: Context = ((0, known),) if known else ()
    return own + tuple((back, fields) for back in range(1, rows + 1))


_ALL = tuple(range(len(FIELDS)))
_RHYTHM, _TUNE, _NOTE = (PART, SHIFT, LENGTH), (PITCH, LENGTH), (PART, PITCH, LENGTH, VELOCITY)
STATIC: tuple[tuple[Context, ...], ...] = (
    (
        _after((), (PART, PITCH), 1),
        _after((), (PART, SHIFT), 2),
        _after((), (PART, SHIFT), 4),
        _after((), _RHYTHM, 3),
        _after((), (PART, SHIFT, PITCH, LENGTH), 4),
    ),
    (
        _after((PART,), (PART,), 1),
        _after((PART,), _RHYTHM, 1),
        _after((PART,), (PART, SHIFT), 3),
        _after((PART,), _RHYTHM, 2),
        _after((PART,), _NOTE, 1),
        _after((PART,), _RHYTHM, 3),
        _after((PART,), _RHYTHM, 4),
        _after((PART,), _ALL, 2),
        _after((PART,), _ALL, 4),
    ),
    (
        _after((PART,)),
        _after((PART, SHIFT), (PART, PITCH), 1),
        _after((PART, SHIFT), _TUNE, 1),
        _after((PART, SHIFT), (PART, PITCH), 2),
        _after((PART, SHIFT), (PART, PITCH), 3),
        _after((PART, SHIFT), _TUNE, 2),
        _after((PART,), (PART, PITCH), 4),
        _after((PART, SHIFT), _NOTE, 3),
        _after((PART, SHIFT), _ALL, 4),
    ),
    (
        _after((PART, SHIFT), (SHIFT,), 1),
        _after((PART, SHIFT), _RHYTHM, 2),
        _after((PART, SHIFT, PITCH), _TUNE, 1),
        _after((PART, SHIFT), _RHYTHM, 3),
        _after((PART, SHIFT), _RHYTHM, 4),
        _after((PART, SHIFT, PITCH), (SHIFT, PITCH, LENGTH), 2),
        _after((PART, SHIFT), _ALL, 4),
        _after((PART, SHIFT, PITCH), _ALL, 4),
    ),
    (
        _after((PART,), (PART, VELOCITY), 1),
        _after((PART, SHIFT, LENGTH), (VELOCITY,), 1),
        _after((PART,), (VELOCITY,), 3),
        _after((PART, PITCH), (PART, VELOCITY), 2),
        _after((PART,), (PART, SHIFT, VELOCITY), 3),
        _after((PART, SHIFT), (PART, SHIFT, VELOCITY), 4),
        _after((PART, SHIFT, PITCH, LENGTH), _ALL, 1),
    ),
)
"""For each field contexts within four rows, from general to special, by a greedy search on held-out works."""
COPIED_ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
IN_PIECE: tuple[tuple[Context, ...], ...] = tuple(
    tuple(_after(tuple(range(field)), (PART, SHIFT, PITCH, LENGTH), rows) for rows in COPIED_ROWS)
    for field in range(len(FIELDS))
)


class StaticNgrams:
    """Counts of `train`, mixed by weights that `tuning` teaches; each of its sources counts alike."""

    def __init__(self, train: Sequence[Rows], tuning: Sequence[Piece]) -> None:
        learnt, held_out = _Lines(train), _Lines([piece.rows for piece in tuning])
        importance = _importance(tuning)
        self._counts: list[list[_Counts]] = []
        self._mixtures: list[Mixture] = []
        for field, contexts in enumerate(STATIC):
            has, asked = _has(learnt.rows, field), _has(held_out.rows, field)
            values = learnt.rows[has, field]
            self._counts.append([_Counts(learnt.codes(context)[has], values) for context in contexts])
            base = np.full(int(asked.sum()), 1.0 / SIZES[field])
            self._mixtures.append(Mixture(base, self._votes(held_out, field)[asked], importance[asked]))

    def probabilities(self, rows: Rows) -> Floats:
        """(rows, fields): of the value that each field has; 1 where a rest has no such field."""
        lines = _Lines([rows])
        told = np.ones(rows.shape)
        for field, mixture in enumerate(self._mixtures):
            base = np.full(len(rows), 1.0 / SIZES[field])
            mixed = mixture(base, self._votes(lines, field))
            told[:, field] = np.where(_has(rows, field), mixed, 1.0)
        return told

    def _votes(self, lines: _Lines, field: int) -> Votes:
        values = lines.rows[:, field]
        return joined(
            [
                counts.votes(lines.codes(context), values)
                for counts, context in zip(self._counts[field], STATIC[field], strict=True)
            ],
            axis=1,
        )


class Copying:
    """What a piece has played so far, mixed into another's probabilities by weights that `tuning` teaches."""

    def __init__(self, tuning: Sequence[Piece], bases: Sequence[Floats]) -> None:
        """`bases` are the other's (rows, fields) for each piece of `tuning`."""
        base, importance = np.concatenate(bases), _importance(tuning)
        rows = np.concatenate([piece.rows for piece in tuning])
        told = [_in_piece(piece.rows) for piece in tuning]
        self._mixtures = []
        for field in range(len(FIELDS)):
            votes, asked = joined([each[field] for each in told], axis=0), _has(rows, field)
            self._mixtures.append(Mixture(base[asked, field], votes[asked], importance[asked]))

    def probabilities(self, rows: Rows, base: Floats) -> Floats:
        """(rows, fields): `base` with what the piece's own rows say of each row from those before it."""
        told = np.ones(rows.shape)
        for field, votes in enumerate(_in_piece(rows)):
            mixed = self._mixtures[field](base[:, field], votes)
            told[:, field] = np.where(_has(rows, field), mixed, 1.0)
        return told


def bits_per_note(probabilities: Sequence[Floats], pieces: Sequence[Piece]) -> float:
    """The mean over all notes of all pieces, rests' bits included."""
    notes = sum(int(_has(piece.rows, VELOCITY).sum()) for piece in pieces)
    return float(-sum(np.log2(told).sum() for told in probabilities)) / max(1, notes)


class _Lines:
    """Rows of several pieces below each other, with room before each to look back into."""

    def __init__(self, pieces: Sequence[Rows]) -> None:
        room = np.tile(np.array([START, 0, 0, 0, 0], np.int16), (max(COPIED_ROWS), 1))
        self._all = np.concatenate([part for rows in pieces for part in (room, rows)] or [room])
        self._real = np.concatenate(
            [np.full(len(part), part is not room) for rows in pieces for part in (room, rows)]
            or [np.zeros(len(room), bool)]
        )
        self.rows = self._all[self._real].astype(np.int64)
        self._of_fields: dict[tuple[int, ...], Codes] = {}
        self._of_contexts: dict[Context, Codes] = {(): np.zeros(len(self._all), np.uint64)}

    def codes(self, context: Context) -> Codes:
        """(rows,): a number for what stands in the context, practically never shared by two."""
        own: Codes = self._codes(context)[self._real]
        return own

    def _codes(self, context: Context) -> Codes:
        if context not in self._of_contexts:
            back, fields = context[-1]
            last = np.roll(self._fields(fields), back)
            self._of_contexts[context] = _mixed(self._codes(context[:-1]), last)
        return self._of_contexts[context]

    def _fields(self, fields: tuple[int, ...]) -> Codes:
        if fields not in self._of_fields:
            code = np.zeros(len(self._all), np.uint64)
            for field in fields:
                code = _mixed(code, self._all[:, field].astype(np.uint64))
            self._of_fields[fields] = code
        return self._of_fields[fields]


class _Counts:
    """How often each value of a field followed each content of one context."""

    def __init__(self, codes: Codes, values: Integers) -> None:
        both = _mixed(codes, values.astype(np.uint64))
        self._pairs, first, self._pair_times = np.unique(both, return_index=True, return_counts=True)
        self._codes, context = np.unique(codes[first], return_inverse=True)
        self._times = np.bincount(context, self._pair_times).astype(np.int64)
        self._values = np.bincount(context)

    def votes(self, codes: Codes, values: Integers) -> Votes:
        """(rows, 1) each."""
        times = _found(self._codes, self._times, codes)
        followed = _found(self._pairs, self._pair_times, _mixed(codes, values.astype(np.uint64)))
        shares = followed / np.maximum(times, 1)
        return Votes(shares[:, None], times[:, None], _found(self._codes, self._values, codes)[:, None])


def _in_piece(rows: Rows) -> list[Votes]:
    """For each field what the rows before each row say of it."""
    lines = _Lines([rows])
    return [
        joined([_so_far(lines.codes(context), lines.rows[:, field]) for context in contexts], axis=1)
        for field, contexts in enumerate(IN_PIECE)
    ]


def _so_far(codes: Codes, values: Integers) -> Votes:
    """The votes of one context when each row is foretold from the rows before it."""
    followed, _ = _earlier(_mixed(codes, values.astype(np.uint64)), np.zeros(len(codes), np.int64))
    times, kinds = _earlier(codes, (followed == 0).astype(np.int64))
    return Votes((followed / np.maximum(times, 1))[:, None], times[:, None], kinds[:, None])


def _earlier(codes: Codes, counted: Integers) -> tuple[Integers, Integers]:
    """(rows,): how many earlier rows have the same code, and the sum of `counted` over them."""
    order = np.argsort(codes, kind="stable")
    sorted_codes = codes[order]
    new = np.concatenate(([True], sorted_codes[1:] != sorted_codes[:-1]))[: len(codes)]
    first = np.maximum.accumulate(np.where(new, np.arange(len(codes)), 0))
    before = np.cumsum(counted[order]) - counted[order]
    times, sums = np.empty(len(codes), np.int64), np.empty(len(codes), np.int64)
    times[order] = np.arange(len(codes)) - first
    sums[order] = before - before[first]
    return times, sums


def _found(keys: Codes, counts: Integers, asked: Codes) -> Integers:
    """The count of each asked key, 0 where it isn't among the sorted keys."""
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    found: Integers = np.where(keys[at] == asked, counts[at], 0)
    return found


def _mixed(codes: Codes, more: Codes) -> Codes:
    """Two 64-bit numbers made one: the finaliser of splitmix64 (Steele et al., 2014)."""
    code: Codes = (codes ^ (more + np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    code ^= code >> np.uint64(31)
    return code


def _has(rows: npt.NDArray[np.integer], field: int) -> Booleans:
    """(rows,): has the row this field? Rests have a part alone."""
    return np.ones(len(rows), bool) if field == PART else np.asarray(rows[:, PART] != REST)


def _importance(pieces: Sequence[Piece]) -> Floats:
    """(rows of all pieces,): each source counts alike."""
    rows = Counter[str]()
    for piece in pieces:
        rows[piece.source] += len(piece.rows)
    return np.concatenate([np.full(len(piece.rows), 1.0 / rows[piece.source]) for piece in pieces])
