"""A test clock through a loop: how long a tick takes out and back, how evenly it comes, and whether one is lost.

`python -m bridge.live.loop API [PORT]` runs it and prints JSON; `measure_loop` starts that in a process of its own
with a time limit. Without a port it makes one and listens to it; with one it sends to the port of that name and
hears the one of that name, so a cable or a loopback pair must join them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import rtmidi

from bridge.errors import MidiError
from bridge.live import wire
from bridge.live.player import Player
from bridge.live.ports import CLIENT, find_port, stop_hearing
from bridge.tempo import bpm_to_beat_ns
from bridge.types import BeatLine

LOOP = "dawbridge Loop"
BPM = 120.0
BEATS = 8
SETTLE_S = 0.3
TIMEOUT_S = 20.0
TRIES = 2


@dataclass(frozen=True)
class Loop:
    """What a loop showed; milliseconds."""

    sent: int
    received: int
    round_trip_ms: float  # median
    jitter_ms: float  # standard deviation of the round trip
    worst_ms: float
    late_ms: float  # 99th percentile of how far behind their time ticks left us
    real_time: bool  # the sending thread has priority


def measure_loop(api: str, port: str = "", timeout_s: float = TIMEOUT_S) -> Loop:
    """Run the test clock, about five seconds.

    Raises:
        MidiError: no such port, nothing comes back, or no answer in time.
    """
    for _ in range(TRIES):
        done = _in_a_child(api, port, timeout_s)
        if (
            done.returncode >= 0
        ):  # else a MIDI library crashed, as JACK's does when clients come and go beside it
            break
    told = (
        json.loads(done.stdout)
        if done.stdout
        else {"error": f"The loop test ended (exit {done.returncode})."}
    )
    if "error" in told:
        raise MidiError(told["error"], "loop")
    return Loop(**told)


def _in_a_child(api: str, port: str, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bridge.live.loop", api, port]
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise MidiError(
            f"The loop test gave no answer within {timeout_s:.0f} s. Start the MIDI system anew."
        ) from None


def main() -> int:
    """Run it in this process."""
    api = next(a for a in rtmidi.get_compiled_api() if rtmidi.get_api_name(a) == sys.argv[1])
    sender, receiver = rtmidi.MidiOut(api, name=CLIENT), rtmidi.MidiIn(api, name=CLIENT)
    try:
        told = _run(sender, receiver, sys.argv[2] if len(sys.argv) > 2 else "")
    except MidiError as exc:
        told = {"error": exc.message}
    finally:
        stop_hearing(receiver)
        for client in (sender, receiver):
            client.close_port()
            client.delete()
    sys.stdout.write(json.dumps(told))
    return 0


def _run(sender: rtmidi.MidiOut, receiver: rtmidi.MidiIn, port: str) -> dict[str, object]:
    if port:
        _open(sender, port, "send to")
    else:
        sender.open_virtual_port(LOOP)
    _open(receiver, port or LOOP, "hear")
    receiver.ignore_types(sysex=True, timing=False, active_sense=True)
    sent: list[tuple[int, int]] = []
    came: list[int] = []
    clock = time.monotonic_ns
    receiver.set_callback(lambda event, _: came.append(clock()) if event[0][0] == wire.CLOCK else None)
    ended, ticks = threading.Event(), BEATS * 24

    def watch(due_ns: int, sent_ns: int, message: bytes) -> None:
        if len(sent) < ticks:
            sent.append((due_ns, sent_ns))
        else:
            ended.set()

    player = Player(lambda message: sender.send_message(message), watch=watch)
    player.start()
    time.sleep(SETTLE_S)
    player.set_line(BeatLine(0.0, clock() + 100_000_000, bpm_to_beat_ns(BPM)))
    player.send_ticks(0)
    ended.wait(BEATS * 60 / BPM + 5.0)
    player.send_ticks(None)
    time.sleep(SETTLE_S)
    is_real_time = player.is_real_time
    player.close()
    time.sleep(SETTLE_S)  # what it sent last must be through before anybody stops hearing
    if not came:
        raise MidiError(
            f'Nothing came back through "{port or LOOP}". Join its output to its input, then try again.',
            "loop",
        )
    return _figures(sent, came[:ticks], is_real_time)


def _open(client: rtmidi.MidiIn | rtmidi.MidiOut, port: str, what: str) -> None:
    names = client.get_ports()
    found = find_port(port, names)
    if found is None:
        here = ", ".join(names) or "none"
        raise MidiError(
            f'There is no port to {what} whose name holds "{port}". Ports here: {here}.', "no_port"
        )
    client.open_port(found)


def _figures(sent: list[tuple[int, int]], came: list[int], is_real_time: bool) -> dict[str, object]:
    trips_ms = [(at_ns - due_ns) / 1e6 for (due_ns, _), at_ns in zip(sent, came, strict=False)]
    late_ms = sorted((sent_ns - due_ns) / 1e6 for due_ns, sent_ns in sent)
    return {
        "sent": len(sent),
        "received": len(came),
        "round_trip_ms": round(statistics.median(trips_ms), 3),
        "jitter_ms": round(statistics.pstdev(trips_ms), 3),
        "worst_ms": round(max(trips_ms), 3),
        "late_ms": round(late_ms[int(0.99 * (len(late_ms) - 1))], 3),
        "real_time": is_real_time,
    }


if __name__ == "__main__":
    raise SystemExit(main())
