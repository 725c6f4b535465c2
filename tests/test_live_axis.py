"""The axis never goes back, and its bar lines are the song's."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bridge.live.axis import SEAM_BEATS, Axis
from bridge.types import BeatLine

BEAT_NS = 500_000_000.0


def song_at(beat: float, now_ns: int) -> BeatLine:
    return BeatLine(beat, now_ns, BEAT_NS)


def test_a_loop_that_jumps_back_on_a_bar_line_goes_on_without_a_seam() -> None:
    axis = Axis(0, 120.0, 4.0)
    axis.roll(song_at(0.0, 0), 0)
    now_ns = int(16 * BEAT_NS)
    assert axis.roll(song_at(0.0, now_ns), now_ns)
    assert abs(axis.beat(now_ns) - 16.0) < 1e-6
    assert abs(axis.song_beat(axis.beat(now_ns))) < 1e-6


def test_a_jump_into_the_middle_of_a_bar_moves_on_to_where_such_a_place_comes_next() -> None:
    axis = Axis(0, 120.0, 4.0)
    axis.roll(song_at(0.0, 0), 0)
    now_ns = int(5.0 * BEAT_NS)
    assert not axis.roll(song_at(2.5, now_ns), now_ns)
    assert abs(axis.beat(now_ns) - 6.5) < 1e-6


def test_while_the_transport_stands_time_goes_on_at_the_last_tempo() -> None:
    axis = Axis(0, 120.0, 4.0)
    axis.roll(BeatLine(0.0, 0, 1e9), 0)
    axis.stop(3_000_000_000)
    assert not axis.is_rolling
    assert abs(axis.beat(5_000_000_000) - 5.0) < 1e-6


def test_another_metre_keeps_the_song_where_it_is() -> None:
    axis = Axis(0, 120.0, 4.0)
    axis.roll(song_at(0.0, 0), 0)
    now_ns = int(6.0 * BEAT_NS)
    axis.set_bar(3.0, now_ns)
    assert abs(axis.song_beat(axis.beat(now_ns)) - 6.0) < 1e-6
    assert axis.beat(now_ns) >= 6.0 - SEAM_BEATS
    assert abs(axis.moved_beats % 3.0) < 1e-6


@given(
    st.lists(st.tuples(st.floats(0.0, 500.0), st.integers(1, 8_000_000_000)), max_size=20),
    st.sampled_from([3.0, 4.0, 3.5, 6.0]),
)
def test_it_never_goes_back_and_bars_stay_bars(jumps: list[tuple[float, int]], bar: float) -> None:
    axis = Axis(0, 120.0, bar)
    now_ns, before = 0, axis.beat(0)
    for song_beat, later_ns in jumps:
        now_ns += later_ns
        axis.roll(song_at(song_beat, now_ns), now_ns)
        here = axis.beat(now_ns)
        assert here >= before - SEAM_BEATS - 1e-6
        bars = axis.moved_beats / bar
        assert math.isclose(bars, round(bars), abs_tol=1e-6)
        before = here
