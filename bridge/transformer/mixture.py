"""Mixes what several contexts say: weighted relative frequencies (Jelinek and Mercer, 1980).

The weights depend on the most special context that was seen before, how often it was and how many values followed
it; expectation maximisation learns them from held-out music.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

TIMES = np.array([2, 3, 4, 6, 9, 14, 25, 50, 100, 300, 1000])  # where a context's count changes its weight
VALUES = np.array([2, 3, 4, 6, 9, 14, 30])  # and where the number of values does that followed it
LEVELS = (len(TIMES) + 1) * (len(VALUES) + 1)
ROUNDS = 30
STRENGTH = 4.0  # rows that the weights of all levels of a context count for in those of one level


@dataclass(frozen=True)
class Votes:
    """What contexts say of the value that came, for each row; general contexts first."""

    shares: Floats  # (rows, contexts): of the times a context was seen, the share that the value followed
    times: Integers  # (rows, contexts): how often it was seen
    values: Integers  # (rows, contexts): how many different values followed it

    def __getitem__(self, rows: Booleans) -> Votes:
        return Votes(self.shares[rows], self.times[rows], self.values[rows])


class Mixture:
    """The weights of a base and of votes."""

    def __init__(self, base: Floats, votes: Votes, importance: Floats) -> None:
        """Learn from the base's (rows,) probabilities, the votes beside them, and how much each row counts."""
        importance = importance * (len(importance) / importance.sum())
        parts, seen = _components(base, votes)
        last, state = _states(votes)
        even = np.ones((parts.shape[1], parts.shape[1]))
        means = _learned(parts, seen, last, importance, even)
        self._weights = _learned(parts, seen, state, importance, np.repeat(means, LEVELS, 0))

    def __call__(self, base: Floats, votes: Votes) -> Floats:
        """(rows,): the probabilities mixed. They sum to 1 over a field's values if the base's do."""
        parts, seen = _components(base, votes)
        weights = self._weights[_states(votes)[1]] * seen
        mixed: Floats = (weights * parts).sum(1) / weights.sum(1)
        return mixed


def joined(votes: Sequence[Votes], axis: int) -> Votes:
    """Several votes as one: those of other rows below each other (axis 0), of other contexts side by side (1)."""
    return Votes(
        np.concatenate([one.shares for one in votes], axis),
        np.concatenate([one.times for one in votes], axis),
        np.concatenate([one.values for one in votes], axis),
    )


def _components(base: Floats, votes: Votes) -> tuple[Floats, Booleans]:
    """(rows, 1 + contexts): each one's probability, and whether it has any say."""
    return (
        np.column_stack((base, votes.shares)),
        np.column_stack((np.ones(len(base), bool), votes.times > 0)),
    )


def _states(votes: Votes) -> tuple[Integers, Integers]:
    """(rows,): the last context that was seen, counted from 1, and a number for it together with its level."""
    seen = votes.times > 0
    last = np.where(seen.any(1), seen.shape[1] - np.argmax(seen[:, ::-1], 1), 0)
    index = np.maximum(last - 1, 0)[:, None]
    times = np.take_along_axis(votes.times, index, 1)[:, 0]
    values = np.take_along_axis(votes.values, index, 1)[:, 0]
    level = np.searchsorted(TIMES, times, "right") * (len(VALUES) + 1) + np.searchsorted(
        VALUES, values, "right"
    )
    return last, last * LEVELS + level


def _learned(parts: Floats, seen: Booleans, state: Integers, importance: Floats, prior: Floats) -> Floats:
    """Weights for each row of `prior`, which counts for STRENGTH rows and stands where no row is."""
    prior = prior / prior.sum(1, keepdims=True)
    weights = prior
    for _ in range(ROUNDS):
        shares = weights[state] * seen * parts
        shares *= (importance / np.maximum(shares.sum(1), 1e-300))[:, None]
        taken = [np.bincount(state, column, len(prior)) for column in shares.T]
        weights = np.column_stack(taken) + STRENGTH * prior
        weights /= weights.sum(1, keepdims=True)
    return weights
