"""The thread that sends: sleeps up to a deadline, spins the last 1.5 ms, and sends. It alone touches the output.

Others hand it work through a queue, each piece in one swap. No logging and no avoidable allocation here; SCHED_FIFO
where the system allows it. Whatever happens to the control thread, `close` leaves no note sounding.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from bridge.live import wire
from bridge.live.schedule import Schedule, Strike
from bridge.types import BeatLine

SPIN_NS = 1_500_000
ORDINARY_SPIN_NS = 500_000  # without priority, who spins longer is made to wait longer
FIFO_PRIORITY = 4  # above ordinary processes, below JACK: its server has 10 by default, its clients 5
CLOSE_S = 2.0
WINDOWS_TIME_CRITICAL = 15  # THREAD_PRIORITY_TIME_CRITICAL

Send = Callable[[bytes], None]
Watch = Callable[[int, int, bytes], None]
"""(due, sent, message), moments in nanoseconds of the monotonic clock; called in the player's thread."""


class Player:
    """Sends what it is given at the beat it belongs to; the methods may be called from one other thread."""

    def __init__(self, send: Send, *, watch: Watch | None = None, real_time: bool = True) -> None:
        self.sent: deque[tuple[int, bytes]] = deque(maxlen=256)  # notes that left: for whoever filters echoes
        self.is_real_time = False  # known once the thread runs
        self._send_raw = send
        self._watch = watch
        self._schedule = Schedule()
        self._given: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, args=(real_time,), name="player", daemon=True)

    @property
    def on_time(self) -> int:
        """Notes sent within 5 ms of their time."""
        return self._schedule.tally.on_time

    @property
    def late(self) -> int:
        """Notes sent more than 5 ms behind their time."""
        return self._schedule.tally.late

    @property
    def dropped(self) -> int:
        """Notes not sent, since they would have been more than 25 ms late."""
        return self._schedule.tally.dropped

    @property
    def sounding(self) -> int:
        """How many notes are on."""
        return self._schedule.sounding

    def start(self) -> None:
        """First of all, everything off: an instrument may still hold what a killed process left on."""
        self._given.put(lambda: self._send_now(wire.everything_off()))
        self._thread.start()

    def set_line(self, line: BeatLine | None) -> None:
        """Where beats lie from now on; None: nothing is due."""
        self._given.put(lambda: self._schedule.set_line(line))

    def set_early_ms(self, early_ms: float) -> None:
        """Send so much before the beat: the measured way to the instrument."""
        self._given.put(lambda: setattr(self._schedule, "early_ns", round(early_ms * 1e6)))

    def play(self, notes: Sequence[Strike]) -> None:
        """Notes to come, all in one swap."""
        self._given.put(lambda: self._add(notes))

    def send_ticks(self, from_tick: int | None, before: Sequence[bytes] = ()) -> None:
        """Send MIDI clock from that tick on (None: no longer), after the messages `before`."""
        self._given.put(lambda: self._tick(from_tick, before))

    def send(self, messages: Sequence[bytes]) -> None:
        """Send at once."""
        self._given.put(lambda: self._send_now(messages))

    def withdraw(self, beat: float) -> None:
        """No further note begins; what sounds ends where it would, at `beat` at the latest."""
        self._given.put(lambda: self._schedule.withdraw(beat))

    def silence(self) -> None:
        """All off, now, and nothing to come."""
        self._given.put(self._silence)

    def close(self) -> None:
        """All off, and the thread ends."""
        if self._thread.is_alive():
            self._given.put(self._end)
            self._thread.join(CLOSE_S)

    def _run(self, real_time: bool) -> None:
        self.is_real_time = real_time and raise_priority()
        spin_ns = SPIN_NS if self.is_real_time else ORDINARY_SPIN_NS
        while self._is_open:
            due_ns = self._schedule.next_due_ns()
            if due_ns is None:
                self._given.get()()
                continue
            wait_ns = due_ns - spin_ns - time.monotonic_ns()
            if wait_ns > 0:
                with contextlib.suppress(queue.Empty):
                    self._given.get(timeout=wait_ns / 1e9)()
                continue
            with contextlib.suppress(queue.Empty):
                self._given.get_nowait()()
                continue
            while time.monotonic_ns() < due_ns:
                pass
            self._send_due()

    def _send_due(self) -> None:
        for due_ns, message in self._schedule.take_due(time.monotonic_ns()):
            self._send_raw(message)
            sent_ns = time.monotonic_ns()
            if len(message) == 3:
                self.sent.append((sent_ns, message))
            if self._watch is not None:
                self._watch(due_ns, sent_ns, message)

    def _send_now(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._send_raw(message)
            self._schedule.passed(message)
            if len(message) == 3:
                self.sent.append((time.monotonic_ns(), message))

    def _add(self, notes: Sequence[Strike]) -> None:
        for note in notes:
            self._schedule.add(note)

    def _tick(self, from_tick: int | None, before: Sequence[bytes]) -> None:
        self._send_now(before)
        self._schedule.send_ticks(from_tick)

    def _silence(self) -> None:
        self._send_now([*self._schedule.silence(), *wire.everything_off()])

    def _end(self) -> None:
        self._is_open = False
        self._silence()


def raise_priority(priority: int = FIFO_PRIORITY) -> bool:
    """Put the calling thread before ordinary ones, if the system allows it; on macOS there is no such call."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        ctypes.windll.winmm.timeBeginPeriod(1)  # else a wait ends up to 15 ms late
        return bool(kernel.SetThreadPriority(kernel.GetCurrentThread(), WINDOWS_TIME_CRITICAL))
    if not hasattr(os, "sched_setscheduler"):
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))  # 0 is the calling thread
    except PermissionError:
        return False
    return True
