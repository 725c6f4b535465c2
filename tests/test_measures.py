"""The measures of a phrase on cases that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bridge.transformer.measures import longest_shared_run, mean_measures, measure
from bridge.types import Note, Phrase


def phrase(*notes: tuple[float, float, int, str], beats: float = 8.0) -> Phrase:
    return Phrase(tuple(Note(start, length, pitch, 80, part) for start, length, pitch, part in notes), beats)


def test_entropy_counts_pitch_classes_and_no_drums() -> None:
    notes = [(float(beat), 1.0, pitch, "lead") for beat, pitch in enumerate((60, 72, 64, 76, 67, 79, 71, 83))]
    assert measure(phrase(*notes, (0.0, 1.0, 36, "drums")), 4.0).pitch_class_entropy == pytest.approx(2.0)


def test_the_scale_that_fits_best_is_found_in_any_key() -> None:
    d_major = [(float(i), 1.0, pitch, "lead") for i, pitch in enumerate((62, 64, 66, 67, 69, 71, 73))]
    assert measure(phrase(*d_major), 4.0).scale_consistency == 1.0
    assert measure(phrase(*d_major, (7.0, 1.0, 65, "lead")), 4.0).scale_consistency == pytest.approx(7 / 8)


def test_groove_is_consistent_where_bars_begin_their_notes_alike() -> None:
    alike = phrase(
        (0.0, 1.0, 60, "lead"), (2.0, 1.0, 60, "lead"), (4.0, 1.0, 72, "lead"), (6.0, 1.0, 50, "drums")
    )
    assert measure(alike, 4.0).groove_consistency == 1.0
    one_more = phrase(*((n.start_beats, 1.0, n.pitch, n.part) for n in alike.notes), (5.0, 1.0, 60, "lead"))
    assert measure(one_more, 4.0).groove_consistency == pytest.approx(1.0 - 1 / 96)


def test_polyphony_is_the_mean_number_of_pitches_while_any_sounds() -> None:
    chord = phrase((0.0, 2.0, 60, "piano"), (0.0, 1.0, 64, "piano"), (0.0, 4.0, 36, "drums"))
    assert measure(chord, 4.0).polyphony == pytest.approx(1.5)


def test_a_beat_is_empty_when_nothing_sounds_in_it() -> None:
    assert measure(phrase((0.0, 1.5, 60, "lead"), (6.5, 9.0, 36, "drums")), 4.0).empty_beats == pytest.approx(
        0.5
    )


def test_what_cannot_be_counted_is_no_number_and_leaves_a_mean_alone() -> None:
    drums = measure(phrase((0.0, 1.0, 36, "drums"), beats=4.0), 4.0)
    assert all(map(math.isnan, (drums.pitch_class_entropy, drums.scale_consistency, drums.polyphony)))
    assert math.isnan(drums.groove_consistency)
    lead = measure(phrase((0.0, 4.0, 60, "lead"), beats=4.0), 4.0)
    both = mean_measures([drums, lead])
    assert both.polyphony == 1.0
    assert both.empty_beats == pytest.approx(0.375)
    assert math.isnan(both.groove_consistency)


def test_the_longest_shared_run_ignores_velocity_and_nothing_else() -> None:
    rows = np.array([(0, 12, pitch, 11, 10) for pitch in (60, 62, 64, 65, 67, 69)], np.int16)
    other = rows[1:5].copy()
    other[:, 4] = 3
    assert longest_shared_run(rows, other) == 4
    other[2, 3] = 5
    assert longest_shared_run(rows, other) == 2
    assert longest_shared_run(rows, rows[:0]) == 0
