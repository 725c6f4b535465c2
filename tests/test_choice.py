"""The choice of the true continuation: fair questions, and a count that an oracle fills."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.transformer.choice import CANDIDATE_ROWS, DISTRACTORS, PRIMER_ROWS, Right, questions, share_right
from bridge.transformer.tokens import SHIFT, Rows
from tests.made_works import made_pieces

PIECES = made_pieces("test", 6)
ASKED = list(questions(PIECES, PIECES, 12, 0))


TRUE = {np.concatenate((each.primer, each.candidates[0])).tobytes() for each in ASKED}


def oracle(rows: Rows, bar_steps: int, first: int) -> float:
    """What follows truly costs nothing; all else costs a bit, and so do candidates alone."""
    return 0.0 if rows.tobytes() in TRUE else 1.0


def test_an_oracle_is_right_and_its_contrary_is_wrong() -> None:
    assert share_right(ASKED, oracle) == Right(1.0, 1.0)
    assert share_right(ASKED, lambda *question: -oracle(*question)) == Right(0.0, 0.0)


def test_one_who_knows_nothing_is_never_right_by_a_draw() -> None:
    assert share_right(ASKED, lambda rows, bar_steps, first: 1.0) == Right(0.0, 0.0)


def test_a_liking_for_the_true_candidates_themselves_is_no_bit_saved() -> None:
    ends = {each.candidates[0][1:].tobytes() for each in ASKED}

    def fond(rows: Rows, bar_steps: int, first: int) -> float:
        return 0.0 if rows[first + 1 :].tobytes() in ends else 1.0

    assert share_right(ASKED, fond) == Right(1.0, 0.0)


def test_all_candidates_are_of_one_length_and_begin_at_one_place_in_the_bar() -> None:
    assert len(ASKED) == 12
    for each in ASKED:
        assert len(each.primer) >= PRIMER_ROWS
        assert len(each.candidates) == 1 + DISTRACTORS
        assert {len(rows) for rows in each.candidates} == {CANDIDATE_ROWS}
        assert len({int(rows[0, SHIFT]) for rows in each.candidates}) == 1
        onset = int(each.primer[:, SHIFT].sum() + each.candidates[0][0, SHIFT]) % each.bar_steps
        for rows in each.candidates:  # made works: a bar's first row is the lead's or the bass's long note
            lands = {(onset + int(step)) % 12 for step in np.cumsum(rows[1:, SHIFT])}
            assert lands == {0}


def test_the_true_continuation_is_what_the_work_plays_there() -> None:
    each = ASKED[0]
    joined = np.concatenate((each.primer, each.candidates[0]))[1:]
    runs = [piece.rows for piece in PIECES]
    assert any(
        np.array_equal(rows[first : first + len(joined)], joined)
        for rows in runs
        for first in range(len(rows) - len(joined) + 1)
    )


def test_the_same_seed_asks_the_same() -> None:
    again = list(questions(PIECES, PIECES, 12, 0))
    assert all(
        np.array_equal(one, two)
        for a, b in zip(ASKED, again, strict=True)
        for one, two in zip(a.candidates, b.candidates, strict=True)
    )


@pytest.mark.parametrize("count", [0, 1])
def test_a_source_without_a_second_work_asks_nothing(count: int) -> None:
    assert not list(questions(PIECES[:count], PIECES[:count], 12, 0))
