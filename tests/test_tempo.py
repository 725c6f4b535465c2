"""Conversions between beats, seconds, frames and ticks: exact, and each the inverse of another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.tempo import (
    bar_length_beats,
    beats_to_frames,
    beats_to_seconds,
    beats_to_ticks,
    constant_tempo,
    first_downbeat_beats,
    frames_to_beats,
    quantise_beats,
    seconds_to_beats,
    tempo_from_changes,
    ticks_to_beats,
)
from bridge.types import TempoMap


def test_at_120_bpm_a_beat_is_half_a_second() -> None:
    tempo = constant_tempo(120.0, 48000)
    assert frames_to_beats(tempo, 24000) == 1.0
    assert beats_to_seconds(tempo, 3.0) == 1.5
    assert seconds_to_beats(tempo, 1.5) == 3.0


def test_a_change_of_tempo_keeps_beats_continuous() -> None:
    tempo = tempo_from_changes([(0, 120.0), (48000, 60.0)], 48000)
    assert frames_to_beats(tempo, 48000) == 2.0
    assert frames_to_beats(tempo, 96000) == 3.0
    assert beats_to_frames(tempo, 3.0) == 96000


def test_two_changes_at_one_frame_leave_the_last() -> None:
    tempo = tempo_from_changes([(0, 120.0), (0, 90.0)], 48000)
    assert [point.bpm for point in tempo.points] == [90.0]


def test_before_the_first_frame_the_first_tempo_holds() -> None:
    assert frames_to_beats(constant_tempo(60.0, 1000), -500) == -0.5


def test_bars_are_counted_in_quarter_notes() -> None:
    assert bar_length_beats(constant_tempo(100.0, 48000, beats_per_bar=6, beat_unit=8)) == 3.0
    assert bar_length_beats(constant_tempo(100.0, 48000, beats_per_bar=3)) == 3.0


def test_the_grid_starts_at_the_first_downbeat() -> None:
    tempo = constant_tempo(120.0, 48000, first_downbeat_frame=6000)
    assert first_downbeat_beats(tempo) == 0.25
    assert quantise_beats(tempo, 1.3, 4) == 1.25
    assert quantise_beats(constant_tempo(120.0, 48000, first_downbeat_frame=2400), 1.3, 4) == pytest.approx(
        1.35
    )


def test_strength_moves_part_of_the_way() -> None:
    tempo = constant_tempo(120.0, 48000)
    assert quantise_beats(tempo, 1.1, 1, 0.0) == 1.1
    assert quantise_beats(tempo, 1.1, 1, 0.5) == pytest.approx(1.05)


def test_ticks_are_480_per_quarter_note() -> None:
    assert beats_to_ticks(1.5) == 720
    assert ticks_to_beats(240) == 0.5
    assert ticks_to_beats(96, ppq=96) == 1.0


@st.composite
def tempo_maps(draw: st.DrawFn) -> TempoMap:
    steps = draw(st.lists(st.tuples(st.integers(1, 500_000), st.floats(20.0, 400.0)), max_size=6))
    changes = [(0, draw(st.floats(20.0, 400.0)))]
    for gap, bpm in steps:
        changes.append((changes[-1][0] + gap, bpm))
    return tempo_from_changes(changes, draw(st.sampled_from([22050, 44100, 48000, 96000])))


@given(tempo_maps(), st.integers(0, 10_000_000))
def test_frames_to_beats_and_back(tempo: TempoMap, frame: int) -> None:
    assert beats_to_frames(tempo, frames_to_beats(tempo, frame)) == pytest.approx(frame, abs=0.01)


@given(tempo_maps(), st.lists(st.integers(0, 10_000_000), min_size=2))
def test_beats_grow_with_frames(tempo: TempoMap, frames: list[int]) -> None:
    beats = [frames_to_beats(tempo, frame) for frame in sorted(frames)]
    assert beats == sorted(beats)
