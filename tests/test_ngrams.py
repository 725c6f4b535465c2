"""The n-gram baselines are sound probabilities, look only back, and like what a piece repeats."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.transformer.mixture import Mixture, Votes
from bridge.transformer.ngrams import Copying, StaticNgrams, bits_per_note
from bridge.transformer.tokens import FIELDS, MOST_SHIFT, REST, SIZES, Rows
from tests.made_works import made_pieces, made_rows

TUNING = made_pieces("valid", 4)
STATIC = StaticNgrams([made_rows(seed, 64) for seed in range(20)], TUNING)
COPYING = Copying(TUNING, [STATIC.probabilities(piece.rows) for piece in TUNING])
KNOWN, STRANGE = made_rows(3), made_rows(900)


def with_copying(rows: Rows) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return COPYING.probabilities(rows, STATIC.probabilities(rows))


@pytest.mark.parametrize("field", range(len(FIELDS)))
@pytest.mark.parametrize("length", [1, 40])
def test_over_all_values_of_a_field_the_probabilities_sum_to_one(length: int, field: int) -> None:
    static = copying = 0.0
    for value in range(SIZES[field]):
        rows = STRANGE[:length].copy()
        rows[-1, field] = value
        told = STATIC.probabilities(rows)
        static += float(told[-1, field])
        copying += float(COPYING.probabilities(rows, told)[-1, field])
    assert static == pytest.approx(1.0, abs=1e-9)
    assert copying == pytest.approx(1.0, abs=1e-9)


def test_nothing_is_impossible() -> None:
    random = np.random.default_rng(0)
    noise = np.column_stack([random.integers(0, size, 300) for size in (REST, *SIZES[1:])]).astype(np.int16)
    assert STATIC.probabilities(noise).min() > 0.0
    assert with_copying(noise).min() > 0.0


@pytest.mark.parametrize("copying", [False, True])
def test_what_comes_later_changes_nothing_before(copying: bool) -> None:
    tell = with_copying if copying else STATIC.probabilities
    np.testing.assert_allclose(tell(STRANGE)[:50], tell(STRANGE[:50]), rtol=1e-12)


def test_a_rest_costs_its_part_alone() -> None:
    rows = KNOWN[:10].copy()
    rows[5] = (REST, MOST_SHIFT, 0, 0, 0)
    assert (with_copying(rows)[5, 1:] == 1.0).all()
    assert with_copying(rows)[5, 0] < 1.0


def test_a_training_work_costs_less_than_a_strange_one() -> None:
    known, strange = (-np.log2(STATIC.probabilities(rows)).sum() for rows in (KNOWN, STRANGE))
    assert known < 0.8 * strange


def test_the_copying_one_likes_what_a_piece_repeats() -> None:
    random = np.random.default_rng(5)
    motif = np.column_stack(
        (np.zeros(24), np.full(24, 12), random.integers(50, 90, 24), np.full(24, 11), np.full(24, 10))
    ).astype(np.int16)
    rows = np.concatenate([motif] * 3)
    static, copying = (-np.log2(told).sum(1) for told in (STATIC.probabilities(rows), with_copying(rows)))
    assert copying[60:].mean() < 0.2 * static[60:].mean()
    assert copying[:20].mean() < 1.3 * static[:20].mean()


def test_bits_are_counted_per_note_not_per_rest() -> None:
    piece = made_pieces("test", 1)[0]
    told = np.full(piece.rows.shape, 0.5)
    assert bits_per_note([told], [piece]) == pytest.approx(5.0)


def test_a_mixture_learns_whom_to_trust() -> None:
    rows = 4000
    right = np.full((rows, 1), 0.9)
    votes = Votes(right, np.full((rows, 1), 5), np.full((rows, 1), 2))
    mixed = Mixture(np.full(rows, 0.01), votes, np.ones(rows))(np.full(rows, 0.01), votes)
    assert mixed.min() > 0.85
    unseen = Votes(np.zeros((1, 1)), np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64))
    assert Mixture(np.full(rows, 0.01), votes, np.ones(rows))(np.full(1, 0.25), unseen)[0] == 0.25
