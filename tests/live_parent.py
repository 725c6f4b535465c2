"""Kills parents of the live process in the middle of a reply, and hears whether its notes end.

`python -m tests.live_parent` is such a parent: it starts the live process in mode `continue` over JACK, answers its
asks with bars in which something always sounds, and lives until it is killed. It stands for the real parent, whose
generator would take longer to start than the rest of a round.
"""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bridge.live import wire
from tests.jack import JackServer, wait_until
from tests.live_jack import QUICK, WAIT_S, Ear, LiveChild, connect_out, ear
from tests.live_sounding import Instrument

GOAL_S = 1.0
LATEST_KILL_S = 0.8  # after the first note
GONE_S = 10.0
ARRIVAL_S = 0.03  # some periods of JACK


@dataclass(frozen=True)
class Kill:
    """One parent's end."""

    sounding: int  # notes that were on when it was killed
    hung: int  # notes still on when it was gone, a second later at the latest, by note-offs and controllers
    without_note_off: int  # of these, for an instrument that does not heed controllers
    ended_s: float  # from the kill to the moment when nothing sounded
    is_gone: bool  # the live process ended too


def kill_parents(server: JackServer, count: int, chance: random.Random) -> list[Kill]:
    """So many rounds, each with a parent and a live process of its own."""
    with ear() as instrument:
        return [_kill_parent(server, instrument, chance.uniform(0, LATEST_KILL_S)) for _ in range(count)]


def _kill_parent(server: JackServer, heard: Ear, after_s: float) -> Kill:
    heard.received.clear()
    command = [sys.executable, "-m", "tests.live_parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdin is not None and parent.stdout is not None
            live_pid = int(parent.stdout.readline())
            connect_out(server, heard)
            parent.stdin.write("go\n")
            parent.stdin.flush()
            wait_until(lambda: any(map(wire.is_note_on, heard.messages)), "a reply", WAIT_S, 0.002)
            time.sleep(after_s)
        finally:
            killed_ns = time.monotonic_ns()
            parent.kill()
    is_gone = _ends_within(live_pid, GOAL_S)
    kill = _what_was_heard(heard, killed_ns)
    return dataclasses.replace(kill, is_gone=is_gone or _ends_within(live_pid, GONE_S))


def _what_was_heard(heard: Ear, killed_ns: int) -> Kill:
    sounds, plain = Instrument(), Instrument(heeds_controllers=False)
    sounding, ended_ns = 0, killed_ns
    for one in list(heard.received):
        was_on = bool(sounds.on)
        for instrument in (sounds, plain):
            instrument.play([one.message])
        if one.at_ns <= killed_ns:
            sounding = len(sounds.on)
        elif was_on and not sounds.on:
            ended_ns = one.at_ns
    return Kill(sounding, len(sounds.on), len(plain.on), (ended_ns - killed_ns) / 1e9, is_gone=False)


def _ends_within(pid: int, limit_s: float) -> bool:
    """Whether a process, which need not be ours, is gone in time; what it sent last has arrived then."""
    try:
        wait_until(lambda: _has_ended(pid), "the end of the live process", limit_s)
    except TimeoutError:
        return False
    time.sleep(ARRIVAL_S)
    return True


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def main() -> None:
    """The parent."""
    child = LiveChild(**QUICK)
    print(child.wait_for("ready")["pid"], flush=True)
    sys.stdin.readline()
    child.send(type="command", name="answer")
    child.wait(lambda: False, "killer", 60.0)


if __name__ == "__main__":
    main()
