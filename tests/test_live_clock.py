"""What the beat clock promises: MIDI clock with its faults, Link, the internal tempo, and who leads."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.live.clock import JUMP_BEATS, BeatClock, ClockEvent
from bridge.tempo import beat_to_ns, bpm_to_beat_ns
from bridge.types import BeatLine

TICK, START, CONTINUE, STOP = b"\xf8", b"\xfa", b"\xfb", b"\xfc"
SECOND_NS = 1_000_000_000


def position(value: int) -> bytes:
    return bytes((0xF2, value & 0x7F, value >> 7))


class Daw:
    """A made DAW on one port: what it sends, and the events it caused."""

    def __init__(
        self, clock: BeatClock, port: str = "DAW", bpm: float = 120.0, at_ns: int = SECOND_NS
    ) -> None:
        self.clock = clock
        self.port = port
        self.bpm = bpm
        self.now_ns = at_ns
        self.events: list[ClockEvent] = []

    def send(self, *messages: bytes) -> list[ClockEvent]:
        """At once; returns what these caused."""
        told = [event for message in messages for event in self.clock.midi(self.port, message, self.now_ns)]
        self.events += told
        return told

    def tick(self, ticks: int) -> list[ClockEvent]:
        """The next tick comes now, the moment behind the last one is a whole tick later."""
        told = []
        for _ in range(ticks):
            told += self.send(TICK)
            self.now_ns += round(bpm_to_beat_ns(self.bpm) / 24)
        return told

    def be_silent(self, seconds: float) -> list[ClockEvent]:
        """Polled every 10 ms."""
        told = []
        for _ in range(round(seconds * 100)):
            self.now_ns += 10_000_000
            told += self.clock.poll(self.now_ns)
        self.events += told
        return told


def kinds(events: list[ClockEvent]) -> list[str]:
    return [event.kind for event in events]


def warnings(events: list[ClockEvent]) -> list[str]:
    return [event.detail for event in events if event.kind == "warning"]


def leader(clock: BeatClock) -> str:
    return clock.source


def line_of(clock: BeatClock) -> BeatLine:
    assert clock.line is not None
    return clock.line


def test_start_plays_from_zero_and_the_first_tick_is_beat_zero() -> None:
    daw = Daw(BeatClock())
    events = daw.send(START)
    assert kinds(events) == ["source", "started"]
    assert (daw.clock.playing, daw.clock.source, daw.clock.source_name) == (True, "midi", "DAW")
    assert daw.clock.beat(daw.now_ns) == 0.0
    daw.now_ns += 7_000_000
    first_ns = daw.now_ns
    daw.tick(25)
    assert beat_to_ns(line_of(daw.clock), 0.0) == pytest.approx(first_ns, abs=1000)
    assert beat_to_ns(line_of(daw.clock), 1.0) == pytest.approx(first_ns + 5e8, abs=1000)


def test_ticks_before_the_start_train_the_tempo_and_never_play() -> None:
    daw = Daw(BeatClock(wanted="midi"), bpm=93.0)
    daw.tick(96)
    assert daw.clock.line is None
    assert daw.clock.bpm == pytest.approx(93.0, rel=1e-4)
    daw.send(START)
    assert line_of(daw.clock).beat_ns == pytest.approx(bpm_to_beat_ns(93.0), rel=1e-4)


def test_stop_and_continue_go_on_without_losing_a_tick() -> None:
    daw = Daw(BeatClock())
    daw.send(START)
    daw.tick(36)
    assert kinds(daw.send(STOP)) == ["stopped"]
    assert daw.clock.beat(daw.now_ns + SECOND_NS) == 1.5
    daw.tick(10)
    assert kinds(daw.send(CONTINUE)) == ["started"]
    daw.tick(1)
    assert line_of(daw.clock).beat == 1.5


def test_a_position_while_stopped_is_where_continue_starts() -> None:
    daw = Daw(BeatClock())
    assert "started" not in kinds(daw.send(position(32)))
    events = daw.send(CONTINUE)
    assert events[-1] == ClockEvent("started", 8.0, daw.now_ns)


def test_a_position_while_rolling_is_a_jump_that_keeps_the_phase() -> None:
    daw = Daw(BeatClock())
    daw.send(START)
    daw.tick(192)
    next_tick_ns = daw.now_ns
    daw.now_ns -= 1_000_000
    events = daw.send(position(16))
    assert kinds(events) == ["jumped"]
    assert events[0].beat == pytest.approx(4.0, abs=1 / 24)
    assert beat_to_ns(line_of(daw.clock), 4.0) == pytest.approx(next_tick_ns, abs=1000)


def test_a_loop_by_stop_position_continue_ends_the_notes_and_starts_again() -> None:
    daw = Daw(BeatClock())
    daw.send(START)
    daw.tick(192)
    assert kinds(daw.send(STOP, position(16), CONTINUE)) == ["stopped", "started"]
    daw.tick(24)
    assert daw.clock.beat(daw.now_ns) == pytest.approx(5.0, abs=0.001)


def test_a_start_while_rolling_is_a_jump_to_zero() -> None:
    daw = Daw(BeatClock())
    daw.send(START)
    daw.tick(48)
    assert daw.send(START) == [ClockEvent("jumped", 0.0, daw.now_ns)]


def test_other_and_broken_messages_are_ignored() -> None:
    daw = Daw(BeatClock())
    assert daw.send(b"", b"\xfe", b"\x90\x3c\x40", b"\xf2", b"\xf2\x10", b"\xf2\xff\xff") == []


def rolled_bar(daw: Daw, value: int) -> float:
    """Continue from a position, play one bar of four beats, stop; the beat at which it began."""
    daw.send(position(value), CONTINUE)
    began = daw.clock.beat(daw.now_ns)
    daw.tick(96)
    daw.send(STOP)
    return began


def test_positions_six_times_too_large_are_learned_from_the_ticks_between_them() -> None:
    daw = Daw(BeatClock())
    assert rolled_bar(daw, 96) == 24.0  # bar 2: not known yet, but a bar line all the same
    assert rolled_bar(daw, 192) == 8.0  # bar 3: a bar was counted
    assert rolled_bar(daw, 384) == 16.0  # bar 5, by hand
    assert rolled_bar(daw, 480) == 20.0
    told = warnings(daw.events)
    assert len(told) == 1
    assert "song position 192 is in clocks" in told[0]


def test_positions_six_times_too_large_are_learned_after_a_start_from_zero() -> None:
    daw = Daw(BeatClock())
    daw.send(START)
    daw.tick(96)
    daw.send(STOP)
    assert rolled_bar(daw, 96) == 4.0


def test_proper_positions_stay_sixteenths_and_one_odd_one_does_not_turn_them() -> None:
    daw = Daw(BeatClock())
    daw.send(START)
    daw.tick(96)
    daw.send(STOP)
    assert rolled_bar(daw, 16) == 4.0  # proves sixteenths
    assert rolled_bar(daw, 16 + 96) == 28.0  # a user who happens to go just there
    assert warnings(daw.events) == []


def test_position_zero_proves_nothing_and_a_setting_is_obeyed() -> None:
    daw = Daw(BeatClock())
    daw.send(position(0), position(0), CONTINUE)
    assert warnings(daw.events) == []
    assert rolled_bar(Daw(BeatClock(song_position="clocks")), 96) == 4.0
    fixed = Daw(BeatClock(song_position="sixteenths"))
    assert [rolled_bar(fixed, value) for value in (96, 192)] == [24.0, 48.0]


def test_a_clock_that_fails_is_stopped_and_told_and_goes_on_when_it_comes_back() -> None:
    daw = Daw(BeatClock(wanted="midi"))
    daw.send(START)
    daw.tick(48)
    events = daw.be_silent(1.5)
    assert kinds(events) == ["stopped", "warning"]
    assert events[0].beat == 2.0
    assert "The clock from DAW stopped without a Stop" in events[1].detail
    assert daw.be_silent(2.0) == []
    back = daw.tick(24)
    assert kinds(back) == ["started", "warning"]
    assert "came back" in back[1].detail
    assert daw.clock.beat(daw.now_ns) == pytest.approx(3.0, abs=0.001)


def test_a_slow_clock_is_given_half_a_beat_before_it_counts_as_lost() -> None:
    daw = Daw(BeatClock(wanted="midi"), bpm=20.0)
    daw.tick(20)
    daw.send(START)
    daw.tick(24)
    assert daw.be_silent(1.2) == []
    assert kinds(daw.be_silent(0.5)) == ["stopped", "warning"]


def test_ticks_after_a_stop_or_much_later_do_not_play() -> None:
    daw = Daw(BeatClock(wanted="midi"))
    daw.send(START)
    daw.tick(48)
    daw.send(STOP)
    daw.be_silent(2.0)
    daw.tick(24)
    assert not daw.clock.playing
    daw.send(CONTINUE)
    daw.be_silent(2.0)
    daw.now_ns += 100 * SECOND_NS
    daw.tick(24)
    assert not daw.clock.playing


def test_a_second_port_is_ignored_and_told_once_until_the_first_falls_silent() -> None:
    daw = Daw(BeatClock(wanted="midi"))
    daw.tick(48)
    other = Daw(daw.clock, "Drum machine", 90.0, daw.now_ns)
    assert len(warnings(other.send(TICK))) == 1
    assert other.send(TICK, START, STOP) == []
    assert daw.clock.source_name == "DAW"
    assert daw.clock.bpm == pytest.approx(120.0, rel=1e-4)
    other.be_silent(2.0)
    events = other.tick(1)
    assert kinds(events) == ["source"]
    assert "Drum machine" in events[0].detail
    other.tick(96)
    assert daw.clock.bpm == pytest.approx(90.0, rel=1e-4)


@pytest.mark.parametrize(("bpm", "said"), [(5.0, "5.0 bpm"), (1000.0, "1000.0 bpm")])
def test_a_tempo_out_of_range_is_told_once_and_the_known_one_held(bpm: float, said: str) -> None:
    daw = Daw(BeatClock(wanted="midi"), bpm=bpm)
    daw.tick(400)
    told = warnings(daw.events)
    assert len(told) == 1
    assert f"MIDI clock at {said} from DAW" in told[0]
    assert "20 to 400 are followed" in told[0]
    assert daw.clock.bpm == pytest.approx(120.0)
    daw.bpm = 100.0
    daw.tick(96)
    assert daw.clock.bpm == pytest.approx(100.0, rel=1e-3)


def test_auto_prefers_link_with_peers_then_midi_and_stays_with_a_daw_that_stands() -> None:
    daw = Daw(BeatClock())
    clock = daw.clock
    assert kinds(clock.internal_start(daw.now_ns, 4.0)) == ["started"]
    assert kinds(daw.send(START)) == ["stopped", "source", "started"]
    daw.tick(24)
    assert clock.link(7.0, 100.0, True, 0, daw.now_ns) == []
    assert kinds(clock.link(7.0, 100.0, True, 2, daw.now_ns)) == ["stopped", "source", "started"]
    assert (leader(clock), clock.source_name, clock.bpm) == ("link", "2 peers", 100.0)
    assert clock.beat(daw.now_ns) == 7.0
    daw.tick(24)
    events = clock.link(8.0, 100.0, True, 0, daw.now_ns)
    assert kinds(events) == ["stopped", "source", "started"]
    assert leader(clock) == "midi"
    assert clock.beat(daw.now_ns) == pytest.approx(2.0, abs=0.001)
    daw.send(STOP)
    assert kinds(daw.be_silent(1.5)) == []  # many DAWs send no clock while they stand
    assert leader(clock) == "midi"
    assert not clock.playing


def test_an_explicit_choice_follows_only_that_one() -> None:
    daw = Daw(BeatClock(wanted="internal", bpm=96.0))
    daw.send(START)
    daw.tick(48)
    daw.be_silent(2.0)
    assert daw.clock.link(3.0, 100.0, True, 5, daw.now_ns) == []
    assert daw.events == []
    assert daw.clock.bpm == 96.0
    assert kinds(daw.clock.want("link", daw.now_ns)) == ["source", "started"]
    assert kinds(daw.clock.want("midi", daw.now_ns)) == ["stopped", "source"]
    assert kinds(daw.tick(1)) == ["started", "warning"]  # it had been lost unseen
    assert daw.clock.source_name == "DAW"


def test_links_line_is_taken_as_it_is_and_small_differences_leave_it() -> None:
    clock = BeatClock(wanted="link")
    assert kinds(clock.link(4.0, 120.0, True, 1, SECOND_NS)) == ["started"]
    line = clock.line
    assert clock.link(4.02 + 0.0001, 120.0, True, 1, SECOND_NS + 10_000_000) == []
    assert clock.line is line
    assert clock.link(4.04 + 0.001, 120.0, True, 1, SECOND_NS + 20_000_000) == []
    assert clock.line == BeatLine(4.041, SECOND_NS + 20_000_000, 5e8)
    assert kinds(clock.link(16.0, 120.0, True, 1, SECOND_NS + 30_000_000)) == ["jumped"]
    assert kinds(clock.link(16.02, 120.0, False, 1, SECOND_NS + 40_000_000)) == ["stopped"]
    assert clock.beat(2 * SECOND_NS) == 16.02


def test_link_that_falls_silent_or_leaves_the_range_is_stopped_and_told() -> None:
    clock = BeatClock(wanted="link")
    clock.link(4.0, 120.0, True, 1, SECOND_NS)
    assert kinds(clock.link(4.1, 500.0, True, 1, SECOND_NS + 10)) == ["stopped", "warning"]
    assert clock.link(4.2, 500.0, True, 1, SECOND_NS + 20) == []
    assert kinds(clock.link(4.0, 120.0, True, 1, SECOND_NS + 30)) == ["started"]
    assert kinds(clock.poll(3 * SECOND_NS)) == ["stopped", "warning"]
    assert clock.poll(4 * SECOND_NS) == []


def test_the_internal_tempo_changes_without_moving_the_beat() -> None:
    clock = BeatClock(bpm=120.0)
    clock.internal_start(SECOND_NS)
    assert clock.set_tempo(60.0, 2 * SECOND_NS) == []
    assert clock.beat(2 * SECOND_NS) == 2.0
    assert clock.beat(4 * SECOND_NS) == 4.0
    assert clock.internal_stop(4 * SECOND_NS) == [ClockEvent("stopped", 4.0, 4 * SECOND_NS)]
    assert clock.beat(9 * SECOND_NS) == 4.0


@pytest.mark.parametrize("bpm", [19.9, 401.0, math.nan])
def test_an_internal_tempo_out_of_range_is_refused(bpm: float) -> None:
    with pytest.raises(ValueError, match="20 to 400"):
        BeatClock().set_tempo(bpm, 0)
    with pytest.raises(ValueError, match="20 to 400"):
        BeatClock(bpm=bpm)


def test_the_internal_tempo_does_not_start_while_another_leads() -> None:
    daw = Daw(BeatClock())
    daw.tick(24)
    events = daw.clock.internal_start(daw.now_ns)
    assert "MIDI clock from DAW leads" in warnings(events)[0]
    assert not daw.clock.playing


messages = st.one_of(
    st.sampled_from([TICK, TICK, TICK, TICK, START, CONTINUE, STOP, b"", b"\x90\x00\x00"]),
    st.integers(0, 16383).map(position),
    st.binary(max_size=3),
)
gaps_ns = st.one_of(st.integers(0, 40_000_000), st.just(20_833_333), st.integers(0, 3 * SECOND_NS))
calls = st.one_of(
    st.tuples(st.just("midi"), st.tuples(st.sampled_from(["A", "B"]), messages)),
    st.tuples(st.just("midi"), st.tuples(st.just("A"), st.just(TICK))),
    st.tuples(
        st.just("link"), st.tuples(st.floats(0, 1000), st.floats(0, 1000), st.booleans(), st.integers(0, 2))
    ),
    st.tuples(st.just("want"), st.tuples(st.sampled_from(["auto", "midi", "link", "internal"]))),
    st.tuples(st.sampled_from(["poll", "internal_start", "internal_stop"]), st.just(())),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(calls, st.integers(1, 30), gaps_ns), max_size=40))
def test_any_messages_are_taken_and_the_beat_goes_back_only_where_it_is_told(
    steps: list[tuple[tuple[str, tuple[object, ...]], int, int]],
) -> None:
    clock, now_ns = BeatClock(), 0
    for (method, arguments), times, gap_ns in steps:
        for _ in range(times):
            before, was_playing = clock.beat(now_ns), clock.playing
            now_ns += gap_ns
            events: list[ClockEvent] = getattr(clock, method)(*arguments, now_ns)
            assert clock.playing == (clock.line is not None)
            if not {"started", "stopped", "jumped", "source"} & set(kinds(events)):
                assert clock.playing == was_playing
                assert not clock.playing or clock.beat(now_ns) >= before - JUMP_BEATS
            assert all(event.detail for event in events if event.kind in ("warning", "source"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(30.0, 240.0))
def test_a_jittering_clock_never_turns_the_beat_back_by_a_tick(seed: int, bpm: float) -> None:
    chance, clock, last_ns, highest = random.Random(seed), BeatClock(), 0, 0.0
    clock.midi("A", START, SECOND_NS)
    for tick in range(150):
        true_ns = SECOND_NS + tick * bpm_to_beat_ns(bpm) / 24
        last_ns = max(last_ns, round(true_ns + chance.uniform(0, 5e6)))
        assert "jumped" not in kinds(clock.midi("A", TICK, last_ns))
        beat = clock.beat(last_ns)
        if tick > 12:
            assert beat > highest - 1 / 24
        highest = max(beat, highest)
