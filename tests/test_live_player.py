"""The player's own thread, with a list in place of a port: what leaves, in which order, and that nothing stays on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bridge.live import schedule, wire
from bridge.live.player import Player
from bridge.live.schedule import Strike
from bridge.types import BeatLine
from tests.jack import wait_until
from tests.live_sounding import Instrument

BEAT_NS = 20_000_000
LIMIT_S = 10.0
TICK = bytes((wire.CLOCK,))


@pytest.fixture(autouse=True)
def nothing_is_late_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "TOO_LATE_NS", 10_000_000_000)


class Playing:
    """A player that runs, and all that it sent."""

    def __init__(self, player: Player, sent: list[bytes]) -> None:
        self.player, self.sent = player, sent

    @property
    def music(self) -> list[bytes]:
        """What it sent after the first bytes, without controllers."""
        return [message for message in list(self.sent) if message[0] & 0xF0 != wire.CONTROL]

    def wait(self, count: int) -> None:
        """Wait for so many notes' ends."""
        wait_until(lambda: sum(map(wire.is_note_off, list(self.sent))) >= count, f"{count} ends", LIMIT_S)

    def instrument(self) -> Instrument:
        """What an instrument heard that does not heed controllers."""
        heard = Instrument(heeds_controllers=False)
        heard.play(list(self.sent))
        return heard


@contextmanager
def playing(beat_ns: int = BEAT_NS, ahead_beats: float = 2.0) -> Iterator[Playing]:
    """A player whose beat 0 is `ahead_beats` from now."""
    sent: list[bytes] = []
    player = Player(sent.append, real_time=False)
    player.start()
    try:
        player.set_line(BeatLine(0.0, time.monotonic_ns() + round(ahead_beats * beat_ns), beat_ns))
        yield Playing(player, sent)
    finally:
        player.close()


def struck(number: int) -> tuple[bytes, bytes]:
    """A short note on channel 2."""
    return wire.note_on(1, number % 128, 1), wire.note_off(1, number % 128)


def test_the_first_bytes_are_all_sound_and_all_notes_off_on_every_channel() -> None:
    with playing() as on:
        wait_until(lambda: len(on.sent) >= 64, "first bytes", LIMIT_S)
        assert on.sent == wire.everything_off()
        assert {(m[0] & 0x0F, m[1]) for m in on.sent[:32]} == {(c, n) for c in range(16) for n in (120, 123)}


def test_notes_leave_in_the_order_of_their_beats_whatever_order_they_came_in() -> None:
    with playing() as on:
        on.player.play([Strike(beat, beat + 0.5, 0, 40 + beat, 80) for beat in (7, 3, 5, 1)])
        on.player.play([Strike(beat, beat + 0.5, 0, 40 + beat, 80) for beat in (6, 2, 4, 0)])
        on.wait(8)
        assert [m[1] for m in on.music if wire.is_note_on(m)] == list(range(40, 48))


def test_one_key_struck_again_and_again_is_let_go_each_time_before() -> None:
    with playing() as on:
        on.player.play([Strike(beat / 4, beat / 4 + 3.0, 2, 60, 80) for beat in range(40)])
        on.wait(40)
        heard = on.instrument()
        assert (heard.notes, heard.struck_twice, heard.on) == (40, 0, set())


def test_clock_ticks_and_notes_share_one_order_and_a_tick_comes_before_its_note() -> None:
    with playing(beat_ns=240_000_000, ahead_beats=0.25) as on:
        on.player.send_ticks(0, (bytes((wire.START,)),))
        on.player.play([Strike(0.5, 0.75, 0, 60, 80)])
        on.wait(1)
        music = on.music
    assert music[0] == bytes((wire.START,))
    before, sounding = music.index(wire.note_on(0, 60, 80)), music.index(wire.note_off(0, 60))
    assert music[:before].count(TICK) == 13  # ticks 0 to 12
    assert music[before:sounding].count(TICK) == 6  # 13 to 18


@pytest.mark.parametrize("is_paused", [False, True])
def test_closing_ends_what_sounds_by_its_own_note_off(is_paused: bool) -> None:
    with playing() as on:
        on.player.play([Strike(0.0, 1e6, channel, 60 + channel, 80) for channel in range(16)])
        on.player.send((wire.note_on(3, 99, 80),))
        wait_until(lambda: on.instrument().notes == 17, "17 notes", LIMIT_S)
        if is_paused:
            on.player.set_line(None)
    heard = on.instrument()
    assert (heard.notes, heard.on) == (17, set())
    assert on.sent[-64:] == wire.everything_off()
    assert on.player.sounding == 0
    on.player.close()  # twice does no harm


def test_silence_while_it_is_busy_ends_all_and_lets_nothing_follow() -> None:
    with playing(beat_ns=2_000_000) as on:
        for start in range(0, 20_000, 100):
            on.player.play(
                [Strike(beat, beat + 8.0, beat % 16, beat % 128, 80) for beat in range(start, start + 100)]
            )
        wait_until(lambda: on.instrument().notes > 50, "some notes", LIMIT_S)
        on.player.silence()
        wait_until(lambda: on.sent.count(wire.control(0, wire.ALL_SOUND_OFF, 0)) == 2, "silence", LIMIT_S)
        heard = on.instrument()
        assert (heard.on, heard.struck_twice) == (set(), 0)
        time.sleep(0.05)
        assert on.instrument().notes == heard.notes < 20_000


def test_work_given_by_another_thread_while_it_plays_is_all_done_in_order() -> None:
    with playing(beat_ns=1_000_000) as on:

        def give() -> None:
            for number in range(3000):
                on.player.send(struck(number))

        giver = threading.Thread(target=give)
        giver.start()
        on.player.play([Strike(beat, beat + 0.5, 0, beat % 128, 80) for beat in range(0, 400, 2)])
        giver.join(LIMIT_S)
        on.wait(3000)
        passed = [m for m in on.music if m[0] & 0x0F == 1]
        assert passed == [message for number in range(3000) for message in struck(number)]
    assert on.instrument().on == set()


def test_what_comes_too_late_is_dropped_and_counted_and_its_end_with_it() -> None:
    with playing() as on:
        on.player.play([Strike(-1000.0, -999.0, 0, 60, 80), Strike(-1.0, 4.0, 0, 61, 80)])
        on.wait(1)
        assert on.player.dropped == 1
        assert on.player.on_time + on.player.late == 1
        assert on.instrument().on == set() and on.instrument().notes == 1


def test_withdrawn_notes_do_not_begin_and_what_sounds_ends_at_the_given_beat() -> None:
    with playing() as on:
        on.player.play([Strike(0.0, 1e6, 0, 60, 80), Strike(500.0, 501.0, 0, 61, 80)])
        wait_until(lambda: on.instrument().notes == 1, "a note", LIMIT_S)
        on.player.withdraw(8.0)
        on.wait(1)
        assert on.instrument().on == set()
        on.player.play([Strike(9.0, 10.0, 0, 62, 80)])
        on.wait(2)
        assert [m[1] for m in on.music if wire.is_note_on(m)][:1] == [60] and 61 not in {
            m[1] for m in on.music
        }


def test_the_watch_is_told_when_each_message_was_due_and_when_it_had_left() -> None:
    seen: list[tuple[int, int, bytes]] = []
    sent: list[bytes] = []
    player = Player(sent.append, watch=lambda *told: seen.append(told), real_time=False)
    player.start()
    at_ns = time.monotonic_ns() + 100_000_000
    player.set_line(BeatLine(0.0, at_ns, BEAT_NS))
    player.play([Strike(beat, beat + 0.5, 0, 60, 80) for beat in range(3)])
    wait_until(lambda: len(seen) == 6, "6 messages", LIMIT_S)
    player.close()
    assert [due for due, _, _ in seen] == [at_ns + half * BEAT_NS // 2 for half in range(6)]
    assert all(left_ns >= due_ns for due_ns, left_ns, _ in seen)


def test_without_a_line_nothing_is_due_and_a_player_that_never_ran_can_be_closed() -> None:
    with playing() as on:
        on.player.set_line(None)
        on.player.play([Strike(0.0, 1.0, 0, 60, 80)])
        time.sleep(0.1)
        assert on.instrument().notes == 0
    Player(lambda _: None).close()
