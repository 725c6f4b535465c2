"""The live process and its parent over a real JACK server: what comes in and goes out, who dies, and what then sounds."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.config import LiveConfig
from bridge.live import wire
from bridge.live.__main__ import LOST_EXIT
from bridge.live.controls import Controls
from bridge.live.ports import MidiPorts
from bridge.livehost import session as session_module
from bridge.livehost.piped import start_piped
from tests.jack import HAVE_JACK, JackServer, jack_server, wait_until
from tests.live_jack import (
    FLOOD_CLIENT,
    OUT_PORT,
    QUICK,
    WAIT_S,
    Ear,
    LiveChild,
    companion,
    connect_in,
    connect_out,
    ear,
    hand,
    live_child,
    off_channels,
)
from tests.live_parent import GOAL_S, kill_parents
from tests.real import require_real

pytestmark = [pytest.mark.real, pytest.mark.daw]

ALL_CHANNELS = set(range(16))
NEEDED = "JACK and its tools (Debian: apt install jackd2)"
LIMIT_S = 60.0
AGAIN_S = 10.0  # goal 1 s, measured by the benchmark; here only that it comes


@pytest.fixture
def server() -> Iterator[JackServer]:
    """One whose clients leave in peace."""
    require_jack()
    with jack_server() as running, hard_limit():
        yield running


@pytest.fixture
def doomed_server() -> Iterator[JackServer]:
    """One that is killed, or whose clients are: a synchronous one would stick."""
    require_jack()
    with jack_server(synchronous=False, patience_ms=500) as running, hard_limit():
        yield running


@contextmanager
def hard_limit() -> Iterator[None]:
    """Ends this process where a JACK client of ours sticks and holds the interpreter, which no other limit can."""
    faulthandler.dump_traceback_later(LIMIT_S, exit=True, file=2)
    yield
    faulthandler.cancel_dump_traceback_later()


def require_jack() -> None:
    require_real(HAVE_JACK, NEEDED)


def start_reply(child: LiveChild, heard: Ear) -> None:
    """Let the live process play; something sounds at every moment from now on."""
    child.send(type="command", name="answer")
    child.wait(lambda: any(map(wire.is_note_on, heard.messages)), "a reply")


def is_all_off(heard: Ear) -> bool:
    """Every note was ended by itself, and the controllers came behind it."""
    ended = not heard.instrument(heeds_controllers=False).on
    return ended and all(off_channels(heard.messages[-64:], number) == ALL_CHANNELS for number in (120, 123))


def told(child: LiveChild, text: str) -> list[str]:
    """The lines for the musician that hold `text`."""
    return [message["detail"] for message in child.of("told") if text in message["detail"]]


def is_led_by_offs(messages: Sequence[bytes]) -> bool:
    """All sound and all notes off on every channel, before anything else."""
    return list(messages[:64]) == wire.everything_off()


def flood_into(server: JackServer, child: LiveChild, per_s: float, seconds: float) -> int:
    """Note-ons from a process of its own, with the parent listening; how many were sent."""
    command = [sys.executable, "-m", "tests.live_jack", str(per_s), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flooding:
        assert flooding.stdin is not None and flooding.stdout is not None
        try:
            connect_in(server, server.wait_for_port(f"{FLOOD_CLIENT}:out"))
            flooding.stdin.write("go\n")
            flooding.stdin.flush()
            child.wait(lambda: child.state.get("heard", 0) > 0, "first notes")
            sent = int(flooding.stdout.readline())
            flooding.wait(WAIT_S)  # a synchronous server may stick when a client is killed
            return sent
        finally:
            flooding.kill()


class TestPorts:
    def test_what_goes_out_of_one_port_comes_into_the_other_unchanged_and_in_order(
        self, server: JackServer
    ) -> None:
        came: list[tuple[str, bytes, int]] = []
        ports = MidiPorts("jack", (), "", lambda *told: came.append(told))
        try:
            assert ports.names == ("dawbridge In", "dawbridge Out")
            connect_in(server, server.wait_for_port(OUT_PORT))
            before_ns = time.monotonic_ns()
            messages = [
                bytes((wire.START,)),
                bytes((wire.CLOCK,)),
                wire.song_position(1000),
                bytes((wire.PROGRAM, 5)),
                *(wire.note_on(number % 16, number, 1 + number % 127) for number in range(128)),
            ]
            for message in messages:
                ports.send(message)
            wait_until(lambda: len(came) >= len(messages), "all messages", WAIT_S)
            assert [message for _, message, _ in came] == messages
            assert {port for port, _, _ in came} == {"dawbridge In"}
            moments = [at_ns for _, _, at_ns in came]
            assert before_ns < moments[0] and moments == sorted(moments)
            assert ports.check(time.monotonic_ns() + 2_000_000_000) == []
        finally:
            ports.close()

    def test_a_named_port_that_goes_is_told_and_is_opened_again_when_it_comes_back(
        self, server: JackServer
    ) -> None:
        with (
            ear("synth") as heard,
            hand("keys"),
            live_child(inputs=["keys"], output="synth", **QUICK) as child,
        ):
            assert child.of("ready")[0]["ports"] == ["keys:out", "synth:in"]
            start_reply(child, heard)
            heard.close()
            child.wait(lambda: told(child, '"synth:in" has gone'), "line")
            with ear("synth") as again:
                child.wait(lambda: told(child, '"synth:in" is back'), "line")
                child.wait(lambda: any(map(wire.is_note_on, again.messages)), "notes")
                assert is_led_by_offs(again.messages)
        assert child.process.returncode == 0


class TestLiveProcess:
    def test_it_is_ready_tells_what_it_hears_and_panics_on_demand(self, server: JackServer) -> None:
        with ear() as heard, hand() as musician, live_child(mute=True) as child:
            assert child.of("ready")[0]["ports"] == ["dawbridge In", "dawbridge Out"]
            assert child.of("ready")[0]["pid"] == child.process.pid
            connect_in(server, musician.port)
            connect_out(server, heard)
            musician.send(wire.note_on(0, 64, 77), wire.note_off(0, 64))
            pitch, velocity = child.wait_for("context")["notes"][0][2:4]
            assert (pitch, velocity) == (64, 77)
            assert child.new_state()["heard"] == 1
            child.send(type="command", name="panic")
            child.wait(lambda: len(heard.messages) >= 64, "controllers")
            assert heard.messages == wire.everything_off()

    def test_a_parent_that_goes_ends_every_note_and_the_process(self, server: JackServer) -> None:
        with ear() as heard, live_child(**QUICK) as child:
            connect_out(server, heard)
            start_reply(child, heard)
            assert child.end() == 0
            wait_until(lambda: is_all_off(heard), "note-offs and controllers", WAIT_S)

    def test_sigterm_ends_every_note_and_the_process(self, server: JackServer) -> None:
        with ear() as heard, live_child(**QUICK) as child:
            connect_out(server, heard)
            start_reply(child, heard)
            child.process.send_signal(signal.SIGTERM)
            assert child.process.wait(WAIT_S) == 0
            wait_until(lambda: is_all_off(heard), "note-offs and controllers", WAIT_S)

    def test_five_killed_parents_leave_no_note_hanging(self, server: JackServer) -> None:
        kills = kill_parents(server, 5, random.Random(5))
        assert sum(kill.sounding > 0 for kill in kills) >= 3  # else it would prove little
        assert [(kill.hung, kill.without_note_off, kill.is_gone) for kill in kills] == [(0, 0, True)] * 5
        assert sum(kill.ended_s > GOAL_S for kill in kills) == 0


class TestBadInput:
    def test_a_flood_of_notes_crashes_nothing_and_the_parent_is_still_told(self, server: JackServer) -> None:
        with live_child(mute=True) as child:
            sent = flood_into(server, child, per_s=10_000, seconds=1.5)
            child.wait(lambda: child.new_state()["heard"] >= 0.99 * sent > 10_000, "the flood's end")
            assert child.end() == 0

    def test_a_flood_does_not_hold_up_the_end_when_the_parent_goes(self, server: JackServer) -> None:
        with live_child(mute=True, thru=True) as child:
            flood_into(server, child, per_s=10_000, seconds=1.5)
            assert child.end() == 0

    def test_a_megabyte_of_system_exclusive_passes_unheard_and_music_goes_on(
        self, server: JackServer
    ) -> None:
        dump = bytes((wire.SYSEX, *([0x55] * 4094), wire.END_OF_SYSEX))
        with hand() as musician, live_child(mute=True) as child:
            connect_in(server, musician.port)
            for _ in range(256):
                musician.send(dump)
                time.sleep(0.007)  # one a period: rtmidi's buffer holds four
            musician.send(wire.note_on(0, 64, 77), wire.note_off(0, 64))
            assert [note[2] for note in child.wait_for("context")["notes"]] == [64]
            assert child.new_state()["heard"] == 1

    def test_parts_of_messages_are_counted_and_whole_ones_heard(self, server: JackServer) -> None:
        with hand() as musician, live_child(mute=True) as child:
            connect_in(server, musician.port)
            musician.send((wire.NOTE_ON, 60), wire.note_on(0, 64, 77), (0x40,), wire.note_off(0, 64))
            assert [note[2] for note in child.wait_for("context")["notes"]] == [64]
            child.wait(lambda: child.new_state()["broken"] == 2, "count of half a note and a lone byte")

    def test_a_second_clock_is_ignored_and_told(self, server: JackServer) -> None:
        with (
            hand("first") as first,
            hand("second") as second,
            live_child(inputs=["first", "second"], mute=True) as child,
        ):
            first.send((wire.START,))
            child.wait(lambda: child.state.get("source_name") == "first:out", "source")
            for _ in range(48):  # 125 bpm
                first.send((wire.CLOCK,))
                second.send((wire.CLOCK,))
                time.sleep(0.02)
            line = child.wait(lambda: told(child, "second MIDI clock"), "warning")[0]
            assert "from second:out is ignored, first:out leads" in line
            assert len(told(child, "second MIDI clock")) == 1
            assert child.new_state()["bpm"] < 180.0  # not the sum of both


class TestDeaths:
    def test_a_killed_live_process_comes_back_and_first_ends_what_it_left_on(
        self, doomed_server: JackServer, dawbridge_home: Path, tmp_path: Path
    ) -> None:
        live = LiveConfig(midi="jack", output="ear", controls=Controls(**QUICK))
        with ear() as heard, companion(tmp_path, live) as running:
            running.ask("answer")
            running.wait(lambda: heard.instrument().on, "a note that sounds")
            before = len(heard.received)
            os.kill(running.of("ready")[0]["pid"], signal.SIGKILL)
            running.wait(lambda: len(running.of("ready")) == 2, "another live process", AGAIN_S)
            running.wait(lambda: is_led_by_offs(heard.messages[before:]), "controllers before all else")
            assert running.warnings("The live process ended")

    def test_a_live_process_that_dies_while_it_starts_again_is_tried_again(
        self, doomed_server: JackServer, dawbridge_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modules = iter(["bridge.live.probe"])  # knows no pipe, and ends at once

        def start(module: str, *args: Any) -> Any:
            return start_piped(next(modules, module), *args)

        with companion(tmp_path, LiveConfig(midi="jack", controls=Controls(**QUICK))) as running:
            monkeypatch.setattr(session_module, "start_piped", start)
            os.kill(running.of("ready")[0]["pid"], signal.SIGKILL)
            running.wait(lambda: running.warnings("The companion waits for it"), "line")
            running.wait(lambda: len(running.of("ready")) == 2, "another live process", AGAIN_S)
            assert len(running.warnings("The companion waits for it")) == 1

    def test_a_dead_jack_server_is_told_once_and_the_process_ends_without_a_hang(
        self, doomed_server: JackServer
    ) -> None:
        child = LiveChild(**QUICK, send_clock=True)
        try:
            child.wait_for("ready")
            child.send(type="command", name="answer")
            child.wait(lambda: child.state.get("on_time", 0) > 2, "notes")
            doomed_server.kill()
            assert "JACK server has gone" in child.wait_for("lost")["detail"]
            assert child.process.wait(WAIT_S) == LOST_EXIT
            assert len(child.of("lost")) == 1
        finally:
            child.end()

    def test_the_companion_waits_for_a_dead_jack_server_and_goes_on_when_it_is_back(
        self, doomed_server: JackServer, dawbridge_home: Path, tmp_path: Path
    ) -> None:
        with companion(tmp_path, LiveConfig(midi="jack", controls=Controls(**QUICK))) as running:
            running.ask("answer")
            running.wait(lambda: running.state["on_time"] > 2, "notes")
            doomed_server.kill()
            running.wait(lambda: running.warnings("The companion waits for it"), "line")
            assert len(running.warnings("JACK server has gone")) == 1
            with jack_server(name=doomed_server.name, synchronous=False) as again:
                running.wait(lambda: len(running.of("ready")) == 2, "another live process", AGAIN_S)
                assert len(running.warnings("The companion waits for it")) == 1
                again.wait_for_port(OUT_PORT)
                running.ask("answer")
                running.wait(lambda: running.state["on_time"] > 2, "notes")
                assert running.close()

    def test_a_stuck_jack_server_can_not_keep_the_process_alive_when_its_parent_goes(
        self, doomed_server: JackServer
    ) -> None:
        child = LiveChild(**QUICK)
        child.wait_for("ready")
        doomed_server.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(100):  # more than rtmidi's buffer holds
                child.send(type="command", name="panic")
            child.hang_up()
            assert child.process.wait(WAIT_S) != 0
        finally:
            doomed_server.process.send_signal(signal.SIGCONT)
            child.end()
