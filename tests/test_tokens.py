"""A phrase as rows and back: nothing is lost on the grid, and off it only what the module says."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.transformer.parts import PARTS
from bridge.transformer.tokens import (
    DRUMS,
    FIELDS,
    LENGTH,
    LENGTHS_STEPS,
    MOST_SHIFT,
    PART,
    PITCH,
    REST,
    SHIFT,
    SIZES,
    STEPS_PER_BEAT,
    decode,
    encode,
    level_velocity,
    transposed,
)
from bridge.types import Note, Phrase

on_grid_notes = st.builds(
    Note,
    st.one_of(st.integers(0, 200), st.integers(0, 20_000)).map(lambda steps: steps / STEPS_PER_BEAT),
    st.sampled_from(LENGTHS_STEPS).map(lambda steps: steps / STEPS_PER_BEAT),
    st.integers(0, 127),
    st.integers(0, 15).map(level_velocity),
    st.sampled_from(PARTS),
)
any_notes = st.builds(
    Note,
    st.floats(0.0, 900.0),
    st.floats(0.0, 40.0),
    st.integers(0, 127),
    st.integers(1, 127),
    st.sampled_from(PARTS),
)


def in_order(notes: list[Note]) -> list[Note]:
    return sorted(
        notes, key=lambda n: (n.start_beats, PARTS.index(n.part), n.pitch, n.length_beats, n.velocity)
    )


@given(st.lists(on_grid_notes, max_size=60))
@example([])
@example([Note(MOST_SHIFT / STEPS_PER_BEAT * 3, 1.0, 60, 84, "lead")])
@example([Note(1.0, 16.0, 0, 4, part) for part in PARTS])
def test_a_phrase_on_the_grid_comes_back_as_it_was(notes: list[Note]) -> None:
    phrase = Phrase(tuple(in_order(notes)), 1000.0)
    assert decode(encode(phrase), phrase.length_beats) == phrase


@given(st.lists(any_notes, max_size=60))
def test_off_the_grid_no_more_is_lost_than_is_said(notes: list[Note]) -> None:
    back = decode(encode(Phrase(tuple(notes), 1000.0)), 1000.0).notes
    by_step = sorted(
        notes,
        key=lambda n: (
            round(n.start_beats * STEPS_PER_BEAT),
            PARTS.index(n.part),
            n.pitch,
            max(1, round(n.length_beats * STEPS_PER_BEAT)),
            n.velocity,
        ),
    )
    half_step = 0.5 / STEPS_PER_BEAT + 1e-9
    assert len(back) == len(notes)
    for before, after in zip(by_step, back, strict=True):
        assert (after.part, after.pitch) == (before.part, before.pitch)
        assert abs(after.start_beats - before.start_beats) <= half_step
        assert abs(after.velocity - before.velocity) <= 4
        lost_beats = abs(after.length_beats - before.length_beats)
        if before.length_beats <= 4.0:
            assert lost_beats <= max(half_step, 1 / STEPS_PER_BEAT - before.length_beats)
        elif before.length_beats <= 16.0:
            assert lost_beats <= 0.5 + half_step
        else:
            assert after.length_beats == 16.0


@given(st.lists(any_notes, max_size=60))
def test_every_value_lies_within_its_fields_size_and_rests_only_let_time_pass(notes: list[Note]) -> None:
    rows = encode(Phrase(tuple(notes), 1000.0))
    assert rows.shape == (len(rows), len(FIELDS))
    for field, size in enumerate(SIZES):
        assert ((rows[:, field] >= 0) & (rows[:, field] < size)).all()
    rests = rows[rows[:, PART] == REST]
    assert (rests[:, SHIFT] == MOST_SHIFT).all()
    assert (rests[:, PITCH:] == 0).all()
    assert len(rows) - len(rests) == len(notes)


@given(st.lists(on_grid_notes, max_size=40), st.integers(-6, 6))
def test_transposing_moves_the_pitched_parts_alone_and_stays_in_midis_range(
    notes: list[Note], semitones: int
) -> None:
    rows = encode(Phrase(tuple(notes), 1000.0))
    moved = transposed(rows, semitones)
    pitched = rows[:, PART] < DRUMS
    assert (moved[~pitched] == rows[~pitched]).all()
    assert ((moved[:, PITCH] >= 0) & (moved[:, PITCH] < 128)).all()
    assert ((moved[pitched, PITCH] - rows[pitched, PITCH] - semitones) % 12 == 0).all()
    kept = [field for field in range(len(FIELDS)) if field != PITCH]
    assert (moved[:, kept] == rows[:, kept]).all()


def test_a_note_off_both_tables_edges_becomes_the_nearest() -> None:
    rows = encode(Phrase((Note(0.0, 0.0, 60, 1, "lead"), Note(0.0, 99.0, 61, 127, "lead")), 100.0))
    assert [LENGTHS_STEPS[index] for index in rows[:, LENGTH]] == [1, 384]


def test_a_part_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        encode(Phrase((Note(0.0, 1.0, 60, 80, "kazoo"),), 4.0))
