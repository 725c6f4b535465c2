"""Does a model know what comes next? It picks the true continuation of a primer among three of the same source.

All stand in the primer's key, are equally many notes, and where it can be done come from works of the same metre and
begin at the same place in the bar: neither key nor metre gives the true one away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.transformer.dataset import Piece
from bridge.transformer.tokens import MOST_SHIFT, PART, REST, SHIFT, Rows

PRIMER_ROWS, CANDIDATE_ROWS = 64, 32
DISTRACTORS = 3

Score = Callable[[Rows, int, int], float]
"""Bits of rows from the given one on, after those before it: (rows, bar in steps, first row) -> bits."""


@dataclass(frozen=True)
class Question:
    """A primer and what may follow."""

    source: str
    bar_steps: int
    primer: Rows  # from a bar line
    candidates: tuple[Rows, ...]  # the true one first


@dataclass(frozen=True)
class Right:
    """The share of questions in which the true candidate wins, by two rules."""

    by_bits: float  # it costs the fewest bits after the primer; what is simple in itself wins often
    by_bits_saved: float  # the primer saves it the most bits: pointwise mutual information


def questions(
    pieces: Sequence[Piece], others: Sequence[Piece], per_source: int, seed: int
) -> Iterator[Question]:
    """Up to `per_source` questions on the pieces of each source, each piece in turn; distractors from `others`.

    A source of which `others` has no second work gives none.
    """
    by_source: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        if len(piece.rows) >= PRIMER_ROWS + CANDIDATE_ROWS:
            by_source[piece.source].append(piece)
    for source in sorted(by_source):
        random = np.random.default_rng(seed)
        works = [by_source[source][index] for index in random.permutation(len(by_source[source]))]
        for number in range(per_source):
            piece = works[number % len(works)]
            strange = [one for one in others if one.source == source and one.name != piece.name]
            question = _question(piece, strange, random)
            if question is not None:
                yield question


def share_right(asked: Sequence[Question], score: Score) -> Right:
    """How often the true candidate wins; a draw is lost."""
    least = most_saved = 0
    for question in asked:
        bits = np.array([_after_primer(question, rows, score) for rows in question.candidates])
        saved = np.array([_alone(question, rows, score) for rows in question.candidates]) - bits
        least += bool(bits[0] < bits[1:].min())
        most_saved += bool(saved[0] > saved[1:].max())
    return Right(least / len(asked), most_saved / len(asked))


def _after_primer(question: Question, rows: Rows, score: Score) -> float:
    return score(np.concatenate((question.primer, rows)), question.bar_steps, len(question.primer))


def _alone(question: Question, rows: Rows, score: Score) -> float:
    """As if the piece began with these rows, at their place in the bar."""
    onset = int(question.primer[:, SHIFT].sum() + rows[0, SHIFT])
    rows = rows.copy()
    rows[0, SHIFT] = min(onset % question.bar_steps, MOST_SHIFT)
    return score(rows, question.bar_steps, 0)


def _question(piece: Piece, strange: Sequence[Piece], random: np.random.Generator) -> Question | None:
    onsets = _onsets(piece)
    places = _places(piece)
    places = places[places >= PRIMER_ROWS]
    if not len(places) or not strange:
        return None
    first = int(random.choice(places))
    bar_line = onsets[first - PRIMER_ROWS] // piece.bar_steps * piece.bar_steps
    primer = piece.rows[np.searchsorted(onsets, bar_line) : first].copy()
    primer[0, SHIFT] = min(onsets[first - len(primer)] - bar_line, MOST_SHIFT)
    true = piece.rows[first : first + CANDIDATE_ROWS]
    candidates = [true]
    for other in _in_order(piece, strange, random):
        if len(candidates) <= DISTRACTORS:
            rows = _strange_rows(other, int(onsets[first]) % piece.bar_steps, random)
            if rows is not None:
                candidates.append(rows)
                rows[0, SHIFT] = true[0, SHIFT]
    return (
        Question(piece.source, piece.bar_steps, primer, tuple(candidates))
        if candidates[DISTRACTORS:]
        else None
    )


def _in_order(piece: Piece, strange: Sequence[Piece], random: np.random.Generator) -> Iterator[Piece]:
    """Works of the piece's metre by chance, then the others; over again, for sources of few works."""
    order = sorted(random.permutation(len(strange)), key=lambda at: strange[at].bar_steps != piece.bar_steps)
    for _ in range(DISTRACTORS):
        yield from (strange[index] for index in order)


def _strange_rows(piece: Piece, position: int, random: np.random.Generator) -> Rows | None:
    """Rows of another work from that place in a bar, or from any if it has none such."""
    places = _places(piece)
    alike = places[_onsets(piece)[places] % piece.bar_steps == position]
    choice = alike if len(alike) else places
    if not len(choice):
        return None
    first = int(random.choice(choice))
    return piece.rows[first : first + CANDIDATE_ROWS].copy()


def _places(piece: Piece) -> npt.NDArray[np.int64]:
    """Rows from which CANDIDATE_ROWS follow, and which are the first at their onset."""
    rows = piece.rows[: max(0, len(piece.rows) - CANDIDATE_ROWS + 1)]
    return np.flatnonzero((rows[:, SHIFT] > 0) & (rows[:, PART] != REST))


def _onsets(piece: Piece) -> npt.NDArray[np.int64]:
    return piece.rows[:, SHIFT].astype(np.int64).cumsum()
