"""The live process on a clock of its own: no threads, no ports, a generator that takes as long as it is told."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from bridge.live import wire
from bridge.live.clock import BeatClock
from bridge.live.companion import Companion
from bridge.live.conductor import Conductor, Wiring, wanted
from bridge.live.controls import Controls
from bridge.live.echo import EchoFilter
from bridge.live.schedule import Schedule, Strike
from bridge.types import BeatLine
from tests.live_sounding import Instrument

STEP_NS = 5_000_000
MS = 1_000_000
Write = Callable[[Mapping[str, Any], int], tuple[float, list[list[Any]]]]
"""(ask, bar) -> milliseconds until it is there, its notes as the protocol has them."""


def eighths(ask: Mapping[str, Any], bar: int) -> tuple[float, list[list[Any]]]:
    """A bar of eighths, there after 50 ms."""
    line = ask["from_beat"] + bar * 4.0
    return 50.0, [[line + place / 2, 0.4, 60 + place, 90, "piano"] for place in range(8)]


class StillPlayer:
    """A player whose time is the stage's."""

    def __init__(self) -> None:
        self.schedule = Schedule()
        self.sent: list[tuple[int, bytes]] = []  # all that left: due moment, message
        self.recent: deque[tuple[int, bytes]] = deque(maxlen=256)
        self.now_ns = 0

    on_time = property(lambda self: self.schedule.tally.on_time)
    late = property(lambda self: self.schedule.tally.late)
    dropped = property(lambda self: self.schedule.tally.dropped)
    sounding = property(lambda self: self.schedule.sounding)

    def set_line(self, line: BeatLine | None) -> None:
        self.schedule.set_line(line)

    def play(self, notes: Sequence[Strike]) -> None:
        for note in notes:
            self.schedule.add(note)

    def send(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self.schedule.passed(message)
            self._leave(self.now_ns, message)

    def send_ticks(self, from_tick: int | None, before: Sequence[bytes] = ()) -> None:
        self.send(before)
        self.schedule.send_ticks(from_tick)

    def withdraw(self, beat: float) -> None:
        self.schedule.withdraw(beat)

    def silence(self) -> None:
        self.send([*self.schedule.silence(), *wire.everything_off()])

    def advance(self, now_ns: int) -> None:
        self.now_ns = now_ns
        for due_ns, message in self.schedule.take_due(now_ns):
            self._leave(due_ns, message)

    def _leave(self, at_ns: int, message: bytes) -> None:
        self.sent.append((at_ns, message))
        self.recent.append((at_ns, message))


class Stage:
    """Drive it by `midi` and `run_until`; what it tells its parent is in `told`."""

    def __init__(
        self, controls: Controls | None = None, *, write: Write = eighths, wiring: Wiring | None = None
    ) -> None:
        controls = controls or Controls()
        self.player = StillPlayer()
        self.told: list[dict[str, Any]] = []
        self.now_ns = 0
        self.generator_hangs = False
        self._write = write
        self._coming: list[tuple[int, int, dict[str, Any]]] = []
        self._count = 0
        self.clock = BeatClock(wanted=wanted(controls), bpm=controls.tempo)
        self.companion = Companion(controls, Random(1))
        self.conductor = Conductor(
            controls,
            wiring or Wiring(),
            self.clock,
            self.player,
            EchoFilter(self.player.recent),
            self.companion,
            self._hear,
            0,
        )

    @property
    def beat(self) -> float:
        return self.conductor.beat(self.now_ns)

    def midi(self, message: bytes, port: str = "in") -> None:
        self.conductor.midi(port, message, self.now_ns)

    def run_until(self, at_ns: int) -> None:
        """Let time pass, in steps as the control thread takes them."""
        while self.now_ns < at_ns:
            self.now_ns = min(at_ns, self.now_ns + STEP_NS)
            while self._coming and self._coming[0][0] <= self.now_ns:
                _, _, message = heapq.heappop(self._coming)
                self.conductor.parent(message, self.now_ns)
            self.conductor.tick(self.now_ns)
            self.player.advance(self.now_ns)

    def run_beats(self, beats: float, bpm: float = 120.0) -> None:
        self.run_until(self.now_ns + round(beats * 60e9 / bpm))

    def play(self, pitch: int, beats: float, bpm: float = 120.0, velocity: int = 90) -> None:
        """One note of the musician's, from key down to key up."""
        self.midi(wire.note_on(0, pitch, velocity))
        self.run_beats(beats, bpm)
        self.midi(wire.note_off(0, pitch))

    def instrument(self, *, heeds_controllers: bool = False) -> Instrument:
        """What an instrument heard."""
        heard = Instrument(heeds_controllers=heeds_controllers)
        heard.play(message for _, message in self.player.sent)
        return heard

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.told if message["type"] == kind]

    def _hear(self, message: Mapping[str, Any]) -> None:
        self.told.append(dict(message))
        if message["type"] == "cancel":
            self._coming = [one for one in self._coming if one[2]["id"] != message["id"]]
            heapq.heapify(self._coming)
        if message["type"] != "ask" or self.generator_hangs:
            return
        at_ns = self.now_ns
        for bar in range(message["bars"]):
            took_ms, notes = self._write(message, bar)
            at_ns += round(took_ms * MS)
            self._count += 1
            phrase = {"type": "phrase", "id": message["id"], "bar": bar, "notes": notes, "key": "C major"}
            heapq.heappush(self._coming, (at_ns, self._count, phrase))


def note_ons(stage: Stage) -> list[tuple[int, bytes]]:
    return [(at_ns, message) for at_ns, message in stage.player.sent if wire.is_note_on(message)]


def tick_until(stage: Stage, ticks: int, bpm: float = 120.0) -> None:
    for _ in range(ticks):
        stage.midi(bytes((wire.CLOCK,)))
        stage.run_beats(1 / 24, bpm)
