"""What the tempo follower promises, on made clocks with fixed seeds. The benchmark beside it has the figures."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.live.follower import TICKS_PER_BEAT, TickFollower
from bridge.tempo import beat_ns_to_bpm, beat_to_ns, bpm_to_beat_ns
from bridge.types import BeatLine
from tests.benchmarks.tempo_follower import (
    JITTERS,
    MS,
    START_NS,
    errors_of,
    exact,
    heard,
    microseconds_per_tick,
    tempo_errors_percent,
    ticks_to_relock,
    true_moments,
    uniform,
    worst_phase_ms,
)

FIVE_MS = uniform(5.0)
Change = Callable[[list[int], float], list[int]]


def tick_ns(bpm: float) -> float:
    return bpm_to_beat_ns(bpm) / TICKS_PER_BEAT


def followed(moments: Sequence[int], follower: TickFollower | None = None) -> TickFollower:
    follower = follower or TickFollower()
    for at_ns in moments:
        follower.tick(at_ns)
    return follower


def laid(follower: TickFollower) -> BeatLine:
    line = follower.line()
    assert line is not None
    return line


def is_sane(follower: TickFollower) -> bool:
    return follower.is_sane


def steady(ticks: int, bpm: float, from_ns: float = START_NS) -> list[int]:
    return [round(from_ns + tick * tick_ns(bpm)) for tick in range(ticks)]


@pytest.mark.parametrize("bpm", [60.0, 90.0, 120.0, 150.0, 180.0])
def test_five_ms_of_jitter_leave_the_tempo_within_a_thousandth_after_one_bar(bpm: float) -> None:
    assert max(tempo_errors_percent(FIVE_MS, bpm, 40)) < 0.1
    assert max(tempo_errors_percent(JITTERS["audio period of 256 frames"], bpm, 10)) < 0.1


@pytest.mark.parametrize("bpm", [94.0, 117.0, 118.0, 156.0, 158.0])
def test_ticks_that_step_by_an_audio_period_now_and_then_stay_within_one_percent(bpm: float) -> None:
    moments = true_moments(12 * TICKS_PER_BEAT, lambda _: bpm)
    for seed in range(4):
        errors = list(errors_of(moments, JITTERS["audio period of 256 frames"](random.Random(seed))))
        assert max(abs(heard_bpm / bpm - 1.0) for heard_bpm, _ in errors[97:]) < 0.01


def test_gaussian_jitter_of_five_ms_is_read_as_well_as_least_squares_can() -> None:
    errors = tempo_errors_percent(JITTERS["Gaussian, std 5 ms"], 120.0, 100)
    assert sorted(errors)[50] < 0.08  # 0.058 is the limit
    assert max(errors) < 0.6


@pytest.mark.parametrize(("before", "after"), [(90.0, 140.0), (140.0, 90.0), (120.0, 60.0), (60.0, 120.0)])
def test_a_step_is_relocked_within_one_beat(before: float, after: float) -> None:
    assert ticks_to_relock(exact, 0, 0.5, before, after) <= TICKS_PER_BEAT
    assert max(ticks_to_relock(FIVE_MS, seed, 1.0, before, after) for seed in range(40)) <= TICKS_PER_BEAT


@pytest.mark.parametrize(("before", "after"), [(100.0, 120.0), (120.0, 100.0)])
def test_a_gliding_tempo_is_followed_within_ten_ms(before: float, after: float) -> None:
    assert max(worst_phase_ms(FIVE_MS, seed, before, after) for seed in range(20)) < 10.0
    assert worst_phase_ms(exact, 0, before, after) < 5.0


def test_the_forecast_of_the_next_beat_moves_smoothly_under_jitter() -> None:
    follower, last_ns, moved_ms = TickFollower(), 0, []
    arriving = heard(true_moments(600, lambda _: 120.0), FIVE_MS(random.Random(3)))
    for tick, at_ns in enumerate(arriving):
        follower.tick(at_ns)
        line = laid(follower)
        if tick > 97:
            moved_ms.append(abs(beat_to_ns(line, tick / TICKS_PER_BEAT + 1.0) - last_ns) / MS)
        last_ns = beat_to_ns(line, (tick + 1) / TICKS_PER_BEAT + 1.0)
    assert max(moved_ms) < 0.6


def lacking_one(moments: list[int], _tick_ns: float) -> list[int]:
    return moments[:120] + moments[121:]


def with_one_doubled(moments: list[int], _tick_ns: float) -> list[int]:
    return moments[:121] + moments[120:]


def lacking_half_a_second(moments: list[int], length_ns: float) -> list[int]:
    return moments[:120] + moments[120 + round(5e8 / length_ns) :]


def with_one_30_ms_late(moments: list[int], _tick_ns: float) -> list[int]:
    held_up_ns = moments[120] + round(30 * MS)
    return moments[:120] + [held_up_ns] + [max(held_up_ns, at_ns) for at_ns in moments[121:]]


def stalled_and_caught_up(moments: list[int], _tick_ns: float) -> list[int]:
    until_ns = moments[120] + 500_000_000
    return moments[:120] + [max(until_ns, at_ns) for at_ns in moments[120:]]


@pytest.mark.parametrize("bpm", [60.0, 120.0, 180.0])
@pytest.mark.parametrize(
    "change",
    [lacking_one, with_one_doubled, lacking_half_a_second, with_one_30_ms_late, stalled_and_caught_up],
)
def test_a_fault_of_the_clock_moves_the_line_by_less_than_three_ms_and_loses_no_beat(
    change: Change, bpm: float
) -> None:
    for seed in range(6):
        moments = list(heard(true_moments(260, lambda _: bpm), FIVE_MS(random.Random(seed))))
        follower, worst_ms = TickFollower(), 0.0
        for number, at_ns in enumerate(change(moments, tick_ns(bpm))):
            follower.tick(at_ns)
            line = laid(follower)
            if number > 97:
                true_beat = (at_ns - START_NS) / bpm_to_beat_ns(bpm)
                worst_ms = max(worst_ms, abs(beat_to_ns(line, true_beat) - at_ns) / MS)
                assert beat_ns_to_bpm(follower.beat_ns) == pytest.approx(bpm, rel=0.005)
        assert follower.next_beat == pytest.approx(260 / TICKS_PER_BEAT)
        assert worst_ms < 3.0
        assert follower.is_sane


@pytest.mark.parametrize("bpm", [5.0, 15.0, 450.0, 1000.0])
def test_a_tempo_out_of_range_is_flagged_and_the_known_one_held(bpm: float) -> None:
    follower = followed(steady(100, 120.0))
    after = steady(300, bpm, START_NS + 100 * tick_ns(120.0))
    followed(after, follower)
    assert is_sane(follower) is False
    assert follower.heard_bpm == pytest.approx(bpm, rel=0.01)
    assert follower.beat_ns == pytest.approx(bpm_to_beat_ns(120.0), rel=0.001)
    followed(steady(30, 100.0, after[-1] + tick_ns(100.0)), follower)
    assert is_sane(follower)
    assert follower.beat_ns == pytest.approx(bpm_to_beat_ns(100.0), rel=0.001)


@pytest.mark.parametrize("bpm", [5.0, 1000.0])
def test_a_clock_that_was_never_in_range_leaves_the_first_tempo(bpm: float) -> None:
    follower = followed(steady(300, bpm), TickFollower(97.0))
    assert not follower.is_sane
    assert follower.beat_ns == pytest.approx(bpm_to_beat_ns(97.0))


@pytest.mark.parametrize("bpm", [20.0, 400.0])
def test_the_ends_of_the_range_are_followed(bpm: float) -> None:
    follower = followed(list(heard(true_moments(97, lambda _: bpm), uniform(1.0)(random.Random(1)))))
    assert follower.is_sane
    assert beat_ns_to_bpm(follower.beat_ns) == pytest.approx(bpm, rel=0.002)


def test_before_two_ticks_the_last_known_tempo_holds() -> None:
    follower = TickFollower(97.0)
    assert follower.line() is None
    follower.tick(5)
    line = laid(follower)
    assert (line.beat, line.at_ns) == (0.0, 5)
    assert line.beat_ns == pytest.approx(bpm_to_beat_ns(97.0))


def test_a_restart_lays_the_next_tick_at_its_beat_and_keeps_the_tempo() -> None:
    follower = followed(list(heard(true_moments(97, lambda _: 100.0), FIVE_MS(random.Random(2)))))
    follower.restart(8.0)
    assert follower.line() is None
    assert follower.next_beat == 8.0
    for at_ns in heard(true_moments(3, lambda _: 100.0), FIVE_MS(random.Random(3))):
        follower.tick(round(at_ns + 20e9))
        line = laid(follower)
        assert beat_ns_to_bpm(line.beat_ns) == pytest.approx(100.0, rel=0.01)
        assert abs(beat_to_ns(line, 8.0) - START_NS - 20e9) < 5 * MS


def test_a_clock_that_starts_again_at_another_tempo_is_believed_within_a_beat() -> None:
    for seed in range(10):
        follower = followed(list(heard(true_moments(97, lambda _: 100.0), FIVE_MS(random.Random(seed)))))
        follower.restart(0.0)
        for at_ns in heard(true_moments(25, lambda _: 140.0), FIVE_MS(random.Random(seed))):
            follower.tick(round(at_ns + 20e9))
        assert beat_ns_to_bpm(follower.beat_ns) == pytest.approx(140.0, rel=0.01)


def test_a_jump_changes_the_beat_and_not_the_ticking() -> None:
    follower = followed(steady(97, 120.0))
    before = laid(follower)
    follower.jump(16.0)
    after = laid(follower)
    assert after.at_ns == before.at_ns
    assert after.beat == pytest.approx(16.0 - 1 / TICKS_PER_BEAT)
    follower.tick(round(START_NS + 97 * tick_ns(120.0)))
    assert laid(follower).beat == 16.0


def test_hours_of_ticks_lose_no_precision() -> None:
    from_ns = 10**18
    errors = list(errors_of([from_ns + tick * 2e7 for tick in range(200)], lambda at_ns: at_ns))
    assert abs(errors[-1][0] / 125.0 - 1.0) < 1e-5


def test_a_tick_costs_little() -> None:
    assert microseconds_per_tick(2_000) < 500.0  # about 40 on a quiet machine


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-50_000_000, 2_000_000_000), max_size=120), st.integers(0, 119))
def test_any_ticks_are_taken_and_the_tempo_stays_in_range(steps_ns: list[int], restart_at: int) -> None:
    follower, at_ns = TickFollower(), 0
    for number, step_ns in enumerate(steps_ns):
        at_ns += step_ns
        if number == restart_at:
            follower.restart(3.0)
        follower.tick(at_ns)
        assert 19.0 < beat_ns_to_bpm(follower.beat_ns) < 410.0
