"""What is scheduled leaves in order, at its beat, and never hangs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.live import wire
from bridge.live.schedule import LATE_NS, TOO_LATE_NS, Schedule, Strike
from bridge.tempo import beat_to_ns
from bridge.types import BeatLine
from tests.live_sounding import Instrument

LINE = BeatLine(0.0, 0, 500_000_000.0)  # 120 bpm
BEAT_NS = 500_000_000


def strike(start: float, end: float, pitch: int = 60, channel: int = 0) -> Strike:
    return Strike(start, end, channel, pitch, 100)


def run(
    schedule: Schedule, until_ns: int, step_ns: int = 1_000_000, from_ns: int = 0
) -> list[tuple[int, bytes]]:
    sent = []
    for now_ns in range(from_ns, until_ns + step_ns, step_ns):
        sent += schedule.take_due(now_ns)
    return sent


def test_a_note_leaves_at_its_beat_and_ends_at_its_own() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.add(strike(1.0, 1.5))
    assert schedule.next_due_ns() == BEAT_NS
    assert run(schedule, 2 * BEAT_NS) == [
        (BEAT_NS, wire.note_on(0, 60, 100)),
        (BEAT_NS * 3 // 2, wire.note_off(0, 60)),
    ]


def test_notes_move_with_the_tempo() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.add(strike(2.0, 3.0))
    schedule.set_line(BeatLine(1.0, BEAT_NS, 1e9))  # half the tempo from beat 1 on
    assert schedule.next_due_ns() == BEAT_NS + 1_000_000_000


def test_compensation_sends_earlier_by_just_that() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.early_ns = 7_000_000
    schedule.add(strike(1.0, 1.5))
    assert schedule.next_due_ns() == BEAT_NS - 7_000_000


def test_at_one_beat_old_notes_end_before_new_ones_begin() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.add(strike(0.0, 1.0, 60))
    schedule.add(strike(1.0, 2.0, 62))
    sent = [message for _, message in run(schedule, BEAT_NS)]
    assert sent == [wire.note_on(0, 60, 100), wire.note_off(0, 60), wire.note_on(0, 62, 100)]


def test_a_note_struck_again_is_ended_first_and_only_once() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.add(strike(0.0, 4.0))
    schedule.add(strike(1.0, 2.0))
    sent = [message for _, message in run(schedule, 5 * BEAT_NS)]
    on, off = wire.note_on(0, 60, 100), wire.note_off(0, 60)
    assert sent == [on, off, on, off]


def test_a_late_note_is_counted_and_one_that_is_too_late_is_dropped_with_its_end() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.add(strike(0.0, 1.0, 60))
    assert len(schedule.take_due(LATE_NS + 1)) == 1
    schedule.add(strike(0.1, 1.0, 62))
    assert schedule.take_due(BEAT_NS // 10 + TOO_LATE_NS + 1) == []
    assert (schedule.tally.late, schedule.tally.dropped) == (1, 1)
    assert [message for _, message in run(schedule, 2 * BEAT_NS)] == [wire.note_off(0, 60)]


def test_a_note_off_is_sent_however_late() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.add(strike(0.0, 1.0))
    schedule.take_due(0)
    assert schedule.take_due(100 * BEAT_NS) == [(BEAT_NS, wire.note_off(0, 60))]


def test_withdrawing_lets_nothing_begin_and_ends_what_sounds_by_the_beat_given() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.add(strike(0.0, 8.0, 60))
    schedule.add(strike(0.5, 1.0, 62))
    schedule.take_due(0)
    schedule.withdraw(2.0)
    assert run(schedule, 9 * BEAT_NS) == [(2 * BEAT_NS, wire.note_off(0, 60))]


def test_clock_ticks_come_twenty_four_to_the_beat_and_before_the_notes_of_their_moment() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.send_ticks(0)
    schedule.add(strike(1.0, 1.5))
    sent = run(schedule, BEAT_NS)
    assert [message for _, message in sent].count(bytes((wire.CLOCK,))) == 25
    assert sent[-1][1] == wire.note_on(0, 60, 100)
    assert sent[1][0] == round(BEAT_NS / 24)


def test_without_a_line_nothing_is_due() -> None:
    schedule = Schedule()
    schedule.add(strike(0.0, 1.0))
    schedule.send_ticks(0)
    assert schedule.next_due_ns() is None
    assert schedule.take_due(10**12) == []


def test_what_was_passed_through_is_ended_by_silence() -> None:
    schedule = Schedule()
    schedule.passed(wire.note_on(3, 70, 90))
    assert schedule.silence() == [wire.note_off(3, 70)]


def test_what_a_message_passed_through_has_ended_is_not_ended_again() -> None:
    schedule = Schedule()
    schedule.set_line(LINE)
    schedule.add(strike(0.0, 1.0))
    assert [message for _, message in schedule.take_due(0)] == [wire.note_on(0, 60, 100)]
    schedule.passed(wire.note_off(0, 60))
    assert schedule.sounding == 0
    assert run(schedule, 2 * BEAT_NS) == []
    assert schedule.silence() == []


beats = st.floats(0.0, 16.0, allow_nan=False)
notes = st.builds(
    lambda start, length, pitch, channel: Strike(start, start + length, channel, pitch, 100),
    beats,
    st.floats(0.0, 6.0),
    st.integers(58, 62),
    st.integers(0, 1),
)
actions = st.one_of(
    st.tuples(st.just("add"), notes),
    st.tuples(st.just("tempo"), st.floats(20.0, 400.0)),
    st.tuples(st.just("withdraw"), beats),
    st.tuples(st.just("silence"), st.none()),
    st.tuples(st.just("pass"), st.tuples(st.booleans(), st.integers(58, 62))),
    st.tuples(st.just("wait"), st.integers(0, 3_000_000_000)),
)


@given(st.lists(actions, max_size=60))
def test_any_phrase_stopped_at_any_time_leaves_no_note_on(steps: list[tuple[str, object]]) -> None:
    schedule, instrument = Schedule(), Instrument(heeds_controllers=False)
    now_ns, line = 0, LINE
    schedule.set_line(line)
    for kind, value in steps:
        if kind == "add":
            assert isinstance(value, Strike)
            schedule.add(value)
        elif kind == "tempo":
            assert isinstance(value, float)
            beat = line.beat + (now_ns - line.at_ns) / line.beat_ns
            line = BeatLine(beat, now_ns, 60e9 / value)
            schedule.set_line(line)
        elif kind == "withdraw":
            assert isinstance(value, float)
            schedule.withdraw(value)
        elif kind == "silence":
            instrument.play(schedule.silence())
            assert not instrument.on
        elif kind == "pass":
            assert isinstance(value, tuple)
            message = wire.note_on(0, value[1], 90) if value[0] else wire.note_off(0, value[1])
            instrument.play([message])
            schedule.passed(message)
        else:
            assert isinstance(value, int)
            now_ns += value
        due = schedule.take_due(now_ns)
        moments = [due_ns for due_ns, _ in due]
        assert moments == sorted(moments)
        instrument.play(message for _, message in due)
        assert schedule.sounding == len(instrument.on)
    instrument.play(schedule.silence())
    assert not instrument.on


@given(st.lists(notes, max_size=40))
def test_what_is_left_to_play_out_ends_by_itself(phrase: list[Strike]) -> None:
    schedule, instrument = Schedule(), Instrument(heeds_controllers=False)
    schedule.set_line(LINE)
    for note in phrase:
        schedule.add(note)
    while (due_ns := schedule.next_due_ns()) is not None:
        instrument.play(message for _, message in schedule.take_due(due_ns))
    assert not instrument.on
    assert instrument.struck_twice == 0
    assert instrument.notes == len(phrase)
    assert beat_to_ns(LINE, 0.0) == 0
