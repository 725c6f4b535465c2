"""The companion on a clock of its own: it answers on bar lines, yields, falls silent, and nothing ever hangs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from bridge.live import wire
from bridge.live.conductor import Wiring
from bridge.live.controls import FIELDS, Controls
from tests.live_stage import MS, Stage, eighths, note_ons, tick_until
from tests.live_trials import answered_on_line, hung_notes

INTERNAL = Controls(clock="internal")
BAR_NS = 2_000_000_000  # 4/4 at 120 bpm


def internal_stage(**changes: Any) -> Stage:
    stage = Stage(replace(INTERNAL, **changes))
    stage.conductor.start_internal(0)
    return stage


def test_the_reply_starts_on_the_next_bar_line_and_lasts_the_bars_asked_for() -> None:
    stage = internal_stage(bars=2)
    stage.play(60, 1.0)
    stage.play(64, 1.5)
    stage.run_beats(20.0)
    ons = note_ons(stage)
    assert ons[0][0] == BAR_NS and len(ons) == 16
    assert ons[-1][0] == 3 * BAR_NS - 250 * MS
    [played] = stage.of_type("played")
    assert (played["from_beat"], played["length_beats"], played["is_cut"]) == (4.0, 8.0, False)
    assert len(played["notes"]) == 16
    assert not stage.instrument().on


def test_what_was_heard_is_told_before_the_ask() -> None:
    stage = internal_stage()
    stage.play(60, 1.0)
    stage.run_beats(4.0)
    kinds = [message["type"] for message in stage.told if message["type"] in ("context", "ask")]
    assert kinds[:2] == ["context", "ask"]
    assert stage.of_type("context")[0]["notes"] == [[0.0, 1.0, 60, 90, "lead", False]]


def test_a_rest_that_is_too_short_waits_for_the_bar_line_after() -> None:
    stage = internal_stage(rest_beats=1.0)
    stage.run_beats(3.0)
    stage.play(60, 0.5)  # ends half a beat before the bar line
    stage.run_beats(10.0)
    assert note_ons(stage)[0][0] == 2 * BAR_NS


def test_replies_can_be_held_to_every_fourth_bar() -> None:
    stage = internal_stage(align_bars=4)
    stage.play(60, 1.0)
    stage.run_beats(20.0)
    assert note_ons(stage)[0][0] == 4 * BAR_NS


def test_when_the_musician_plays_again_it_yields_at_once() -> None:
    stage = internal_stage(bars=4)
    stage.play(60, 1.0)
    stage.run_beats(5.25)  # into the reply
    before = len(note_ons(stage))
    assert before
    stage.play(72, 0.5)
    stage.run_beats(1.0)
    assert len(note_ons(stage)) == before
    [played] = stage.of_type("played")
    assert played["is_cut"] and len(played["notes"]) == before
    assert not stage.instrument().on


def test_after_it_yielded_the_new_phrase_is_answered() -> None:
    stage = internal_stage(bars=4)
    stage.play(60, 1.0)
    stage.run_beats(5.0)
    stage.play(72, 0.5)
    stage.run_beats(6.0)
    assert [ask["from_beat"] for ask in stage.of_type("ask")] == [4.0, 8.0]
    assert stage.companion.is_replying


def test_a_note_before_the_bar_line_takes_the_word_back() -> None:
    stage = internal_stage()
    stage.play(60, 1.0)
    stage.run_beats(2.5)
    stage.midi(wire.note_on(0, 62, 90))
    stage.run_beats(4.0)
    assert not note_ons(stage)
    assert stage.of_type("cancel")


def test_no_reply_while_a_key_is_held() -> None:
    stage = internal_stage()
    stage.midi(wire.note_on(0, 60, 90))
    stage.run_beats(12.0)
    assert not note_ons(stage) and not stage.of_type("ask")


def test_answer_by_a_controller_does_not_wait_for_a_rest() -> None:
    stage = Stage(INTERNAL, wiring=Wiring({20: "answer"}))
    stage.conductor.start_internal(0)
    stage.midi(wire.note_on(0, 60, 90))
    stage.run_beats(2.0)
    stage.midi(wire.control(0, 20, 127))
    stage.run_beats(3.0)
    assert note_ons(stage)[0][0] == BAR_NS


def test_answer_by_a_key_is_not_heard_as_music() -> None:
    stage = Stage(INTERNAL, wiring=Wiring(answer_note=21))
    stage.conductor.start_internal(0)
    stage.play(21, 0.5)
    stage.run_beats(4.0)
    assert note_ons(stage)[0][0] == BAR_NS
    assert stage.companion.listener.notes_heard == 0


def test_trading_fours_answers_after_every_four_bars_though_the_musician_never_rests() -> None:
    stage = internal_stage(every_bars=4, bars=4)
    for _ in range(16):
        stage.play(60, 1.0)
    assert stage.companion.is_replying
    stage.run_beats(1.0)
    assert note_ons(stage)[0][0] == 4 * BAR_NS


def test_the_last_note_of_a_musician_who_was_not_asked_to_rest_does_not_end_the_answer() -> None:
    stage = internal_stage(every_bars=1, bars=2)
    for _ in range(4):
        stage.play(60, 1.0)
    stage.run_beats(0.1)
    stage.play(62, 0.3)  # just over the line
    stage.run_beats(1.0)
    assert stage.companion.is_replying
    stage.run_beats(2.0)
    stage.play(64, 0.5)
    assert not stage.companion.is_replying


def test_a_reply_is_asked_in_the_manner_of_the_phrase() -> None:
    stage = internal_stage()
    for pitch in (60, 62, 64, 65):
        stage.play(pitch, 0.75)
    stage.run_beats(2.0)
    settings = stage.of_type("ask")[-1]["settings"]
    assert settings["parts"] == ["lead"]
    assert settings["most_notes_per_beat"] == pytest.approx(
        2.0, abs=0.05
    )  # half as many again as 4 in 3 beats


def test_parts_and_density_that_were_set_hold_whatever_is_played() -> None:
    stage = internal_stage(part="piano, drums", density=3.0)
    stage.play(60, 1.0)
    stage.run_beats(4.0)
    settings = stage.of_type("ask")[-1]["settings"]
    assert (settings["parts"], settings["most_notes_per_beat"]) == (["piano", "drums"], 3.0)


def test_continue_goes_on_until_stopped_and_hears_what_it_plays() -> None:
    stage = internal_stage(mode="continue", bars=2)
    stage.play(60, 1.0)
    stage.run_beats(41.0)
    ons = [at_ns for at_ns, _ in note_ons(stage)]
    assert ons[0] == BAR_NS
    assert {later - earlier for earlier, later in pairwise(ons)} == {250 * MS}
    ours = [note for message in stage.of_type("context") for note in message["notes"] if note[5]]
    assert len(ours) >= len(ons) - 8
    assert any(ask["planned"] for ask in stage.of_type("ask")[1:])
    stage.conductor.command("stop", stage.now_ns)
    stage.run_beats(0.1)
    count = len(note_ons(stage))
    stage.run_beats(16.0)
    assert len(note_ons(stage)) == count and not stage.instrument().on


def test_loop_makes_another_variation_each_time() -> None:
    stage = internal_stage(mode="loop", bars=2)
    stage.play(60, 1.0)
    stage.run_beats(33.0)
    asks = stage.of_type("ask")
    assert [ask["from_beat"] for ask in asks[:4]] == [4.0, 12.0, 20.0, 28.0]
    assert len({ask["settings"]["seed"] for ask in asks}) == len(asks)
    assert not any(ask["planned"] for ask in asks)
    stage.play(65, 1.0)  # in this mode the musician plays over it
    assert stage.companion.is_replying


def test_a_fixed_seed_is_asked_for_each_time() -> None:
    stage = internal_stage(mode="loop", bars=1, seed=7)
    stage.play(60, 1.0)
    stage.run_beats(12.0)
    assert {ask["settings"]["seed"] for ask in stage.of_type("ask")} == {7}


def test_what_comes_late_is_played_from_where_it_is_in_time_and_never_off_the_grid() -> None:
    def slow(ask: Mapping[str, Any], bar: int) -> tuple[float, list[list[Any]]]:
        return (2600.0 if bar == 0 else 1.0), eighths(ask, bar)[1]

    stage = Stage(INTERNAL, write=slow)
    stage.conductor.start_internal(0)
    stage.play(60, 1.0)
    stage.run_beats(8.0)
    ons = [at_ns for at_ns, _ in note_ons(stage)]
    assert ons and ons[0] > BAR_NS + 500 * MS
    assert all(at_ns % (250 * MS) == 0 for at_ns in ons)
    assert stage.companion.counts.late_bars == 1 and stage.player.dropped == 0


def test_a_generator_that_hangs_means_rests_and_the_musician_goes_on() -> None:
    stage = internal_stage(bars=2)
    stage.generator_hangs = True
    stage.play(60, 1.0)
    stage.run_beats(16.0)
    assert not note_ons(stage) and stage.companion.counts.missed_bars == 2
    stage.generator_hangs = False
    stage.play(60, 1.0)
    stage.run_beats(8.0)
    assert note_ons(stage)


def test_stop_of_the_daw_means_silence_at_once() -> None:
    stage = Stage(Controls())
    stage.midi(bytes((wire.START,)))
    stage.midi(wire.note_on(0, 60, 90))
    tick_until(stage, 24)
    stage.midi(wire.note_off(0, 60))
    tick_until(stage, 24 * 4)
    assert stage.instrument().notes
    stage.midi(bytes((wire.STOP,)))
    assert not stage.instrument().on
    count = len(note_ons(stage))
    stage.run_beats(20.0)
    assert len(note_ons(stage)) == count
    assert stage.player.sent[-1][1][0] & 0xF0 == wire.CONTROL


def test_what_is_played_while_the_daw_stands_is_heard_but_not_answered() -> None:
    stage = Stage(Controls(clock="midi"))
    stage.play(60, 1.0)
    stage.run_beats(12.0)
    assert not note_ons(stage) and not stage.of_type("ask")
    assert [note[2] for message in stage.of_type("context") for note in message["notes"]] == [60]


def test_a_loop_in_the_daw_does_not_disturb_a_reply() -> None:
    stage = Stage(Controls(clock="midi", bars=4))
    stage.midi(bytes((wire.START,)))
    stage.midi(wire.note_on(0, 60, 90))
    tick_until(stage, 24)
    stage.midi(wire.note_off(0, 60))
    tick_until(stage, 24 * 7)
    stage.midi(wire.song_position(0))  # bar 3 is bar 1 again
    tick_until(stage, 24 * 8)
    [*_, last] = stage.of_type("state")
    assert last["beat"] < 9.0
    ons = [at_ns for at_ns, _ in note_ons(stage)]
    gaps = [later - earlier for earlier, later in pairwise(ons)]
    assert len(ons) > 20 and all(abs(gap - 250 * MS) < 10 * MS for gap in gaps)


def test_a_daw_that_stops_and_goes_on_at_each_round_of_a_loop_does_not_end_a_reply() -> None:
    """Ardour: Stop, some milliseconds later a position six times too large, Continue and a tick at once."""
    stage = Stage(Controls(clock="midi", bars=4))
    stage.midi(bytes((wire.START,)))
    stage.midi(wire.note_on(0, 60, 90))
    tick_until(stage, 24)
    stage.midi(wire.note_off(0, 60))
    tick_until(stage, 24 * 7)
    stage.midi(bytes((wire.STOP,)))
    assert not stage.instrument().on
    stage.run_until(stage.now_ns + 5 * MS)
    stage.midi(wire.song_position(96))
    stage.midi(bytes((wire.CONTINUE,)))
    tick_until(stage, 24 * 8)
    assert not any(played["is_cut"] for played in stage.of_type("played"))
    ons = [at_ns for at_ns, _ in note_ons(stage)]
    assert all(later - earlier < 270 * MS for earlier, later in pairwise(ons)) and len(ons) > 20


def test_an_echo_of_our_own_notes_is_not_taken_for_the_musician() -> None:
    stage = internal_stage(bars=2)
    stage.play(60, 1.0)
    stage.run_beats(3.0)
    seen = len(stage.player.sent)
    for _ in range(200):
        stage.run_until(stage.now_ns + 10 * MS)
        for _, message in stage.player.sent[seen:]:
            if wire.is_note_on(message) or wire.is_note_off(message):
                stage.midi(message)
        seen = len(stage.player.sent)
    assert not any(played["is_cut"] for played in stage.of_type("played"))
    assert stage.companion.listener.notes_heard == 1


def test_thru_sends_what_is_heard_and_silence_ends_it() -> None:
    stage = internal_stage(thru=True)
    stage.midi(wire.note_on(2, 77, 90))
    assert stage.instrument().on == {(2, 77)}
    stage.conductor.set_controls(replace(stage.conductor.controls, thru=False), stage.now_ns)
    assert not stage.instrument().on


def test_a_controller_sets_what_its_table_says_within_the_range() -> None:
    stage = Stage(INTERNAL, wiring=Wiring({20: "temperature", 21: "mode", 22: "low", 23: "mute"}))
    for number in (20, 21, 22, 23):
        stage.midi(wire.control(0, number, 127))
    controls = stage.conductor.controls
    assert (controls.temperature, controls.mode, controls.mute) == (2.0, "loop", True)
    assert controls.low <= controls.high
    assert stage.of_type("controls")[-1]["controls"]["mode"] == "loop"


@pytest.mark.parametrize("name", FIELDS)
def test_any_controller_value_gives_a_value_that_the_configuration_would_take(name: str) -> None:
    from bridge.config import read_table
    from bridge.errors import UsageError
    from bridge.live.controls import check, from_controller

    for value in range(128):
        made = from_controller(Controls(), name, value)
        check(read_table(Controls, vars(made), "cc", UsageError))


def test_panic_is_silence_now() -> None:
    stage = internal_stage(mode="continue")
    stage.play(60, 1.0)
    stage.run_beats(4.2)
    stage.conductor.command("panic", stage.now_ns)
    assert not stage.instrument().on
    assert stage.player.sent[-1][1][0] & 0xF0 == wire.CONTROL


def test_muted_it_listens_and_does_not_play() -> None:
    stage = internal_stage(mute=True)
    stage.play(60, 1.0)
    stage.run_beats(12.0)
    assert not note_ons(stage) and stage.companion.listener.notes_heard == 1


def test_the_clock_that_we_send_begins_where_the_song_is() -> None:
    stage = internal_stage(send_clock=True)
    stage.conductor.set_controls(replace(stage.conductor.controls), stage.now_ns)
    stage.run_beats(4.0)
    clock = [message for _, message in stage.player.sent if message[0] >= 0xF0]
    assert clock[0] == bytes((wire.START,))
    assert clock.count(bytes((wire.CLOCK,))) == 4 * 24 + 1


def test_another_metre_moves_the_bar_lines() -> None:
    stage = internal_stage(beats_per_bar=3, bars=1)
    stage.play(60, 1.0)
    stage.run_beats(4.0)
    assert stage.of_type("ask")[0]["from_beat"] == 3.0


def test_two_hundred_phrases_are_answered_on_their_bar_line() -> None:
    """With the times that the shipped model took; from 60 to 180 bpm, phrases of any length."""
    assert answered_on_line(200) >= 0.995 * 200


def test_ten_thousand_random_events_leave_no_hung_note() -> None:
    """An instrument that ignores "all notes off": each note must get its own end."""
    notes, hung = hung_notes(50, 200)
    assert (notes > 1000, hung) == (True, 0)
