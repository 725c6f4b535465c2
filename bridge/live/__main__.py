"""The live process: `python -m bridge.live PIPE`, started by `livehost`. MIDI only; nothing heavy is imported.

Three kinds of threads: rtmidi's callbacks and the pipe's reader stamp and queue; this one, the control thread, does
everything else; the player's thread sends. The end of the pipe means that the parent died: all notes off, exit.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from bridge.errors import MidiError
from bridge.live.clock import BeatClock
from bridge.live.companion import Companion
from bridge.live.conductor import Conductor, Wiring, wanted
from bridge.live.controls import Controls
from bridge.live.echo import EchoFilter
from bridge.live.pipe import inherited_pipe, receive_message, send_message
from bridge.live.player import Player, raise_priority
from bridge.live.ports import MidiPorts, NoPorts, Ports

TICK_S = 0.01
SHORTEST_TICK_NS = 4_000_000  # under a flood of input
SWITCH_S = 0.0002  # how long a thread may keep the others waiting for the interpreter
CONTROL_PRIORITY = 3  # below the player's
MOST_WAITING = 50_000
LOST_EXIT = 75  # the MIDI system died: start again
STUCK_S = 4  # without a step of the interpreter, until the system ends the process

Given = tuple[str, Any, int]  # where from (a port, or PARENT, GONE, END), what, when in nanoseconds
PARENT, GONE, END = "\0parent", "\0gone", "\0end"


class LiveProcess:
    """All threads of the process, from ports to player."""

    def __init__(self, start: Mapping[str, Any], pipe: Connection) -> None:
        self._pipe = pipe
        self._given: queue.SimpleQueue[Given] = queue.SimpleQueue()
        self._overrun = 0
        self._is_parent_gone = False
        controls = Controls(**start["controls"])
        self._ports = self._open_ports(start)
        self._player = Player(self._ports.send)
        clock = BeatClock(wanted=wanted(controls), bpm=controls.tempo, song_position=start["song_position"])
        wiring = Wiring({int(number): name for number, name in start["cc"].items()}, start["answer_note"])
        companion = Companion(controls)
        self._conductor = Conductor(
            controls,
            wiring,
            clock,
            self._player,
            EchoFilter(self._player.sent),
            companion,
            lambda message: self._tell(message),
            time.monotonic_ns(),
            start["from_beat"],
        )
        self._link = _Link(start["link"], controls.tempo)
        self._player.set_early_ms(start["early_ms"])

    def run(self) -> int:
        """Until the parent goes or SIGTERM; the exit code."""
        self._player.start()
        signal.signal(signal.SIGTERM, lambda *_: self._given.put((END, None, 0)))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
        threading.Thread(target=self._read_pipe, daemon=True).start()
        threading.Thread(target=_end_if_stuck, daemon=True).start()
        self._conductor.set_controls(self._conductor.controls, time.monotonic_ns())
        self._conductor.start_internal(time.monotonic_ns())
        raise_priority(CONTROL_PRIORITY)
        gc.collect()
        gc.freeze()
        names = list(self._ports.names) if isinstance(self._ports, MidiPorts) else []
        self._tell({"type": "ready", "ports": names, "pid": os.getpid()})
        try:
            return self._loop()
        except MidiError as exc:
            self._tell({"type": "lost", "detail": exc.message})
            os._exit(LOST_EXIT)  # the MIDI library would crash on the way out
        finally:
            self._conductor.halt(time.monotonic_ns())
            self._player.close()
            self._ports.close()

    def _loop(self) -> int:
        ticked_ns = 0
        while not self._is_parent_gone:
            given: Given | None = None
            with contextlib.suppress(queue.Empty):
                given = self._given.get(timeout=TICK_S)
            if given is not None:
                if given[0] in (GONE, END):
                    break
                self._take(given)
            now_ns = time.monotonic_ns()
            if now_ns - ticked_ns >= SHORTEST_TICK_NS:
                ticked_ns = now_ns
                self._tick(now_ns)
        return 0

    def _take(self, given: Given) -> None:
        where, what, at_ns = given
        if where == PARENT:
            self._conductor.parent(what, at_ns)
        else:
            self._conductor.midi(where, what, at_ns)

    def _tick(self, now_ns: int) -> None:
        for line in self._ports.check(now_ns):
            self._conductor.port_lost(now_ns)
            self._tell({"type": "told", "kind": "warning", "detail": line})
        if self._overrun:
            line = f"{self._overrun} MIDI messages came faster than they can be heard and were left out."
            self._tell({"type": "told", "kind": "warning", "detail": line})
            self._overrun = 0
        shown = self._link.read(self._conductor.controls.bar_beats)
        if shown is not None:
            self._conductor.link(*shown, time.monotonic_ns())
        self._conductor.tick(now_ns)

    def _on_input(self, port: str, data: bytes, at_ns: int) -> None:
        if self._given.qsize() > MOST_WAITING:
            self._overrun += 1
        else:
            self._given.put((port, data, at_ns))

    def _read_pipe(self) -> None:
        with contextlib.suppress(EOFError):
            while True:
                message = receive_message(self._pipe)
                self._given.put((PARENT, message, time.monotonic_ns()))
        self._is_parent_gone = True  # for a queue that is full of music
        self._given.put((GONE, None, 0))

    def _tell(self, message: Mapping[str, Any]) -> None:
        send_message(self._pipe, message)  # where nobody is, the pipe's reader notices too

    def _open_ports(self, start: Mapping[str, Any]) -> Ports:
        if start["api"] == "none":
            return NoPorts()
        return MidiPorts(start["api"], start["inputs"], start["output"], self._on_input)


def _end_if_stuck() -> None:
    """Where JACK takes nothing more, rtmidi waits with the interpreter held: only the system can end that."""
    while hasattr(signal, "alarm"):
        signal.alarm(STUCK_S)
        time.sleep(1.0)


class _Link:
    """Ableton Link, if the user wants it: it listens on the local network."""

    def __init__(self, wanted: str, bpm: float) -> None:
        self._link: Any = None
        self._has_transport = wanted == "transport"
        if wanted != "off":
            import asyncio

            import aalink

            async def opened() -> Any:
                return aalink.Link(bpm)  # it asks for the running loop, and we never wait in it

            self._link = asyncio.new_event_loop().run_until_complete(opened())
            self._link.start_stop_sync_enabled = self._has_transport
            self._link.enabled = True

    def read(self, bar_beats: float) -> tuple[float, float, bool, int] | None:
        """Beat, bpm, whether it plays, peers; without its transport Link always plays.

        Bar lines are the multiples of `bar_beats`, and fall together with those of peers whose bars are as long.
        """
        if self._link is None:
            return None
        if self._link.quantum != bar_beats:
            self._link.quantum = bar_beats
        playing = bool(self._link.playing) if self._has_transport else True
        return float(self._link.beat), float(self._link.tempo), playing, int(self._link.num_peers)


def main() -> int:
    """The process."""
    pipe = inherited_pipe(sys.argv[1])
    sys.setswitchinterval(SWITCH_S)
    try:
        process = LiveProcess(receive_message(pipe), pipe)
    except EOFError:
        return 0
    except MidiError as exc:
        send_message(pipe, {"type": "failed", "code": exc.code, "detail": exc.message})
        return 1
    return process.run()


if __name__ == "__main__":
    raise SystemExit(main())
