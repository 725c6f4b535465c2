"""The live parts over a real JACK server, as tests and the benchmark use them: an ear and a hand in this process,
the live process with this process as its parent, and a whole companion in a thread.

No ear or hand may be open in this process when its server is killed: the library of JACK would take it along.
`python -m tests.live_jack PER_S SECONDS` is a hand in a process of its own that sends note-ons.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import rtmidi

from bridge.config import Config, LiveConfig, folders
from bridge.live import wire
from bridge.live.controls import Controls
from bridge.live.pipe import receive_message, send_message
from bridge.live.ports import stop_hearing
from bridge.livehost.piped import start_piped
from bridge.livehost.remote import ask_companion
from bridge.livehost.session import Session
from tests.jack import JackServer, wait_until
from tests.live_sounding import Instrument

API = rtmidi.API_UNIX_JACK
IN_PORT, OUT_PORT = r"dawbridge[^:]*:dawbridge In", r"dawbridge[^:]*:dawbridge Out"
READY_S = 20.0
WAIT_S = 15.0
END_S = 5.0
FLOOD_CLIENT = "flood"
FLOOD_BURST = (
    40  # a hand that fell behind must not fill rtmidi's buffer: it would wait with the interpreter held
)
CONTROLLERS_OFF = (wire.ALL_SOUND_OFF, wire.ALL_NOTES_OFF)
QUICK: Mapping[str, Any] = {
    "clock": "internal", "tempo": 240.0, "beats_per_bar": 1, "bars": 4, "mode": "continue", "seed": 1,
}  # fmt: skip
"""Controls of a companion that answers within a quarter of a second and goes on for ever."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Received:
    """A message, and the moment it was delivered, in nanoseconds of the monotonic clock."""

    at_ns: int
    message: bytes


class Ear:
    """An instrument's input in this process."""

    def __init__(self, name: str = "ear") -> None:
        self.port = f"{name}:in"
        self.received: list[Received] = []
        self._midi = rtmidi.MidiIn(API, name=name)
        self._midi.ignore_types(sysex=False, timing=False, active_sense=False)
        self._midi.set_callback(self._hear)
        self._midi.open_virtual_port("in")

    @property
    def messages(self) -> list[bytes]:
        """All that came."""
        return [one.message for one in list(self.received)]

    def instrument(self, *, heeds_controllers: bool = True) -> Instrument:
        """What an instrument that heard it all sounds like now."""
        heard = Instrument(heeds_controllers=heeds_controllers)
        heard.play(self.messages)
        return heard

    def close(self) -> None:
        """Let go of the port, in the order that can't lock up; twice does no harm."""
        if self._midi.is_deleted:
            return
        stop_hearing(self._midi)
        self._midi.close_port()
        self._midi.delete()

    def _hear(self, event: tuple[list[int], float], _: object) -> None:
        self.received.append(Received(time.monotonic_ns(), bytes(event[0])))


class Hand:
    """A musician's output in this process; one thread."""

    def __init__(self, name: str = "hand") -> None:
        self.port = f"{name}:out"
        self._midi = rtmidi.MidiOut(API, name=name)
        self._midi.open_virtual_port("out")

    def send(self, *messages: Sequence[int]) -> None:
        """Send now."""
        for message in messages:
            self._midi.send_message(message)

    def close(self) -> None:
        """Let go of the port; twice does no harm."""
        if self._midi.is_deleted:
            return
        self._midi.close_port()
        self._midi.delete()


class LiveChild:
    """The live process over JACK with this thread as its parent, which hears it while it waits for something."""

    def __init__(
        self, *, inputs: Sequence[str] = (), output: str = "", link: str = "off", **controls: Any
    ) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []  # moment on the monotonic clock, message
        self.process, self._pipe = start_piped("bridge.live", (), {})
        self.send(
            type="start",
            api="jack",
            inputs=list(inputs),
            output=output,
            link=link,
            song_position="auto",
            early_ms=0.0,
            answer_note=-1,
            cc={},
            controls=dataclasses.asdict(Controls(**controls)),
            from_beat=0.0,
        )

    @property
    def state(self) -> Mapping[str, Any]:
        """The newest; empty before the first."""
        return next(iter(reversed(self.of("state"))), {})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What it told, of one type."""
        return [message for _, message in self.told if message["type"] == kind]

    def send(self, **message: Any) -> None:
        """A message of the live protocol."""
        send_message(self._pipe, message)

    def wait_for(self, kind: str, count: int = 1, limit_s: float = WAIT_S) -> dict[str, Any]:
        """The so-manieth message of a type."""
        return self.wait(lambda: self.of(kind)[count - 1 : count], f"{kind} {count}", limit_s)[0]

    def wait(self, found: Callable[[], Found], what: str, limit_s: float = WAIT_S) -> Found:
        """Hear until `found()` is true; TimeoutError that names `what`, EOFError if the process ended."""
        deadline_s = time.monotonic() + limit_s
        while not (value := found()):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no {what} within {limit_s} s, but {self.told[-2:]}")
            if self._pipe.poll(0.02):
                self._receive()
        return value

    def new_state(self) -> Mapping[str, Any]:
        """A state that it tells from now on."""
        while self._pipe.poll(0):
            self._receive()
        return self.wait_for("state", len(self.of("state")) + 1)

    def hang_up(self) -> None:
        """Go, as a parent that dies."""
        self._pipe.close()

    def end(self) -> int:
        """The same, and wait for its end; its exit code."""
        self.hang_up()
        try:
            return self.process.wait(END_S)
        finally:
            self.process.kill()
            self.process.wait(END_S)

    def _receive(self) -> None:
        message = receive_message(self._pipe)
        self.told.append((time.monotonic(), message))
        if message["type"] == "ask":
            for bar in range(message["bars"]):
                self.send(**scripted_bar(message, bar))


class Companion:
    """A `Session` in a thread of its own, with the real generator, and all it tells."""

    def __init__(self, outbox: Path, live: LiveConfig) -> None:
        self.events: list[tuple[float, Mapping[str, Any]]] = []  # moment on the monotonic clock, event
        self._session = Session(Config(outbox=outbox, live=live), folders(), self._tell)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._session.run, args=(self._stop,), daemon=True)
        self._thread.start()

    @property
    def state(self) -> Mapping[str, Any]:
        """The newest; empty before the first."""
        return next(iter(reversed(self.of("state"))), {})

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """What it told, of one kind."""
        return [event for _, event in list(self.events) if event["event"] == kind]

    def warnings(self, text: str) -> list[str]:
        """The lines for the musician that hold `text`."""
        return [event["detail"] for event in self.of("told") if text in event["detail"]]

    def wait(self, found: Callable[[], Any], what: str, limit_s: float = WAIT_S) -> None:
        """Wait for a condition; RuntimeError if the session ended."""

        def is_so() -> bool:
            if not self._thread.is_alive():
                raise RuntimeError(f"the session ended while waiting for {what}: {self.events[-3:]}")
            return bool(found())

        wait_until(is_so, what, limit_s, 0.01)

    def ask(self, name: str, value: Any = None) -> None:
        """Set a control, or give a command, as another process would."""
        ask_companion(folders(), {"name": name} if value is None else {"name": name, "value": value})

    def close(self) -> bool:
        """End it; whether it went."""
        self._stop.set()
        self._thread.join(WAIT_S)
        return not self._thread.is_alive()

    def _tell(self, event: Mapping[str, Any]) -> None:
        self.events.append((time.monotonic(), event))


@contextlib.contextmanager
def live_child(**wanted: Any) -> Iterator[LiveChild]:
    """A live process that is ready; it is gone at the end."""
    child = LiveChild(**wanted)
    try:
        child.wait_for("ready", limit_s=READY_S)
        yield child
    finally:
        child.end()


@contextlib.contextmanager
def companion(outbox: Path, live: LiveConfig) -> Iterator[Companion]:
    """A companion whose generator and live process are ready; its state lies in DAWBRIDGE_HOME."""
    running = Companion(outbox, live)
    try:
        for kind in ("generator", "ready", "state"):
            running.wait(lambda kind=kind: running.of(kind), kind, READY_S)  # type: ignore[misc]
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def ear(name: str = "ear") -> Iterator[Ear]:
    """An ear, closed at the end."""
    with contextlib.closing(Ear(name)) as opened:
        yield opened


@contextlib.contextmanager
def hand(name: str = "hand") -> Iterator[Hand]:
    """A hand, closed at the end."""
    with contextlib.closing(Hand(name)) as opened:
        yield opened


def connect_out(server: JackServer, to: Ear) -> None:
    """Let the ear hear the companion."""
    server.connect(server.wait_for_port(OUT_PORT), to.port)


def connect_in(server: JackServer, source: str) -> None:
    """Let the companion hear a port."""
    server.connect(source, server.wait_for_port(IN_PORT))


def scripted_bar(ask: Mapping[str, Any], bar: int, bar_beats: float = 1.0) -> dict[str, Any]:
    """The answer for one bar: two notes that sound through it, so that something sounds at every moment."""
    line = ask["from_beat"] + bar * bar_beats
    notes = [
        [line, bar_beats, 60 + bar, 90, "piano"],
        [line + bar_beats / 2, bar_beats, 72 + bar, 90, "piano"],
    ]
    return {"type": "phrase", "id": ask["id"], "bar": bar, "notes": notes, "key": "C major"}


def off_channels(messages: Sequence[bytes], number: int) -> set[int]:
    """The channels on which a controller came."""
    return {one[0] & 0x0F for one in messages if one[0] & 0xF0 == wire.CONTROL and one[1] == number}


def flood(per_s: float, seconds: float) -> None:
    """Send note-ons of all pitches; begins at a line on standard input."""
    midi = rtmidi.MidiOut(API, name=FLOOD_CLIENT)
    midi.open_virtual_port("out")
    sys.stdin.readline()
    began_s = time.monotonic()
    sent = 0
    while (now_s := time.monotonic() - began_s) < seconds:
        for _ in range(min(int(now_s * per_s) - sent, FLOOD_BURST)):
            midi.send_message(wire.note_on(0, sent % 128, 1 + sent % 127))
            sent += 1
        time.sleep(0.001)
    print(sent, flush=True)
    time.sleep(0.2)  # what is in the buffer leaves
    midi.close_port()
    midi.delete()


if __name__ == "__main__":
    flood(float(sys.argv[1]), float(sys.argv[2]))
