"""Works of the corpus as columns in C, cut into windows: what `train` learns from and `evaluate` judges on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.transformer.columns import Columns, columns_of, transpose_columns
from bridge.transformer.corpus import StoredWork
from bridge.transformer.keys import key_of, semitones_to_c
from bridge.transformer.tokens import Rows, encode_steps, transposed

LONGEST_TURN = 1024  # rows taken from one work before another has its turn
MOVED_SHARE = 0.15  # of the turns are transposed at random: a key can be heard wrongly


@dataclass(frozen=True)
class Piece:
    """One work, ready for a network."""

    name: str
    source: str
    split: str  # train, valid or test
    bar_steps: int
    rows: Rows  # in C major or A minor
    columns: Columns


def pieces_of(works: Iterable[StoredWork]) -> Iterator[Piece]:
    """The corpus's works as pieces; about 0.1 s for each thousand notes."""
    for work in works:
        yield piece_of(work.name, work.source, work.split, work.bar_steps, rows_of(work))


def rows_of(work: StoredWork) -> Rows:
    """A work's rows in its own key."""
    notes = work.notes
    columns = (notes.start_steps, notes.part, notes.pitch, notes.length_steps, notes.velocity)
    return encode_steps(zip(*(column.tolist() for column in columns), strict=True))


def in_c(rows: Rows) -> Rows:
    """Rows in C major or A minor."""
    return transposed(rows, semitones_to_c(*key_of(rows)))


def piece_of(name: str, source: str, split: str, bar_steps: int, rows: Rows) -> Piece:
    """A piece from rows in any key."""
    rows = in_c(rows)
    return Piece(name, source, split, bar_steps, rows, columns_of(rows, bar_steps))


class Turns:
    """Endless windows: a source by its weight, then a work of it, then up to 1024 of its rows."""

    def __init__(self, pieces: Sequence[Piece], weights: Mapping[str, float], seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._by_source: dict[str, list[Piece]] = defaultdict(list)
        for piece in pieces:
            self._by_source[piece.source].append(piece)
        self._sources = sorted(self._by_source)
        shares = np.array([weights[source] for source in self._sources])
        self._shares = shares / shares.sum()
        self._stock: list[Columns] = []
        self._held = 0

    def windows(self, count: int, rows: int) -> Columns:
        """`count` windows of `rows` lines, each array with a first axis of `count`."""
        while self._held < count * rows:
            self._stock.append(self._turn())
            self._held += len(self._stock[-1].targets)
        joined = join(self._stock)
        rest = joined[count * rows :]
        self._stock, self._held = [rest], len(rest.targets)
        return split(joined[: count * rows], rows)

    def _turn(self) -> Columns:
        works = self._by_source[str(self._random.choice(self._sources, p=self._shares))]
        lengths = np.array([min(len(work.rows), LONGEST_TURN) for work in works], float)
        work = works[int(self._random.choice(len(works), p=lengths / lengths.sum()))]
        first = int(self._random.integers(0, max(1, len(work.rows) - LONGEST_TURN + 1)))
        moved = int(self._random.integers(-6, 6)) if self._random.random() < MOVED_SHARE else 0
        return transpose_columns(work.columns[first : first + LONGEST_TURN], moved)


def join(parts: Iterable[Columns]) -> Columns:
    """Columns one after the other."""
    parts = list(parts)
    return Columns(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.conditions for part in parts]),
        np.concatenate([part.hints for part in parts]),
        np.concatenate([part.trust for part in parts]),
        np.concatenate([part.targets for part in parts]),
    )


def split(columns: Columns, rows: int) -> Columns:
    """(windows * rows, ...) -> (windows, rows, ...) for every array."""

    def cut(values: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        return values.reshape(-1, rows, *values.shape[1:])

    return Columns(
        cut(columns.inputs),
        cut(columns.conditions),
        cut(columns.hints),
        cut(columns.trust),
        cut(columns.targets),
    )


def windows_of(columns: Columns, rows: int) -> Iterator[Columns]:
    """A piece in windows of at most `rows` lines, as (1, rows, ...)."""
    for first in range(0, len(columns.targets), rows):
        part = columns[first : first + rows]
        yield split(part, len(part.targets))
