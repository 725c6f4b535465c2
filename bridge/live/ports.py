"""The MIDI ports: two virtual ones, or ports found by name, which are opened again when they come back.

rtmidi's callback stamps, queues and returns. `check` belongs to the control thread. When a JACK server dies its
library is in no state to be used again: `check` says so, and the process has to start anew.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import rtmidi

from bridge.errors import MidiError
from bridge.live import wire

CLIENT = "dawbridge"
INPUT, OUTPUT = "dawbridge In", "dawbridge Out"
CHECK_S = 1.0
CALLBACK_S = 0.05  # by then a callback that had begun has ended

OnInput = Callable[[str, bytes, int], None]
"""(port, bytes, moment in nanoseconds of the monotonic clock); called in rtmidi's thread."""


class Ports(Protocol):
    """Where MIDI comes in and goes out."""

    def send(self, message: bytes) -> None:
        """Send now; one thread at a time."""

    def check(self, now_ns: int) -> list[str]:
        """Look after the ports; lines for the musician."""

    def close(self) -> None:
        """Let go of them."""


class NoPorts:
    """No MIDI system: what is sent goes nowhere. For `demo` where there is none."""

    def send(self, message: bytes) -> None:
        """Nobody hears it."""

    def check(self, now_ns: int) -> list[str]:
        """Nothing can vanish."""
        return []

    def close(self) -> None:
        """Nothing is open."""


class MidiPorts:
    """Ports of one MIDI system. Empty names mean virtual ports of ours, where the system has such."""

    def __init__(self, api: str, inputs: Sequence[str], output: str, on_input: OnInput) -> None:
        self._api = next(a for a in rtmidi.get_compiled_api() if rtmidi.get_api_name(a) == api)
        self._on_input = on_input
        self._out = _Named(rtmidi.MidiOut, self._api, output or OUTPUT, is_virtual=_is_virtual(api, output))
        self._ins = [
            _Named(
                rtmidi.MidiIn, self._api, name or INPUT, is_virtual=_is_virtual(api, name), hear=self._hear
            )
            for name in inputs or ("",)
        ]
        self._is_jack = api == "jack"
        self._checked_ns = time.monotonic_ns()

    @property
    def names(self) -> tuple[str, ...]:
        """What is open, inputs first."""
        return tuple(port.shown for port in (*self._ins, self._out))

    def send(self, message: bytes) -> None:
        """Send now; a port that has gone swallows it."""
        if self._out.port is not None:
            self._out.port.send_message(message)

    def check(self, now_ns: int) -> list[str]:
        """Once a second: did a port go, or come back?

        Raises:
            MidiError: the JACK server died (`jack_died`).
        """
        if now_ns - self._checked_ns < CHECK_S * 1e9:
            return []
        self._checked_ns = now_ns
        ports = (*self._ins, self._out)
        if self._is_jack and not frozenset().union(*(port.sockets for port in ports)) <= _sockets():
            raise MidiError(
                "The JACK server has gone. Start it again; the companion comes back.", "jack_died"
            )
        return [line for port in ports for line in port.check()]

    def close(self) -> None:
        """Close all."""
        for port in (*self._ins, self._out):
            port.close()

    def _hear(self, port: str) -> Callable[[tuple[list[int], float], object], None]:
        give = self._on_input
        clock = time.monotonic_ns

        def heard(event: tuple[list[int], float], _: object) -> None:
            give(port, bytes(event[0]), clock())

        return heard


class _Named:
    """One input or output; `port` is None while it is away."""

    def __init__(
        self,
        make: Callable[..., Any],
        api: int,
        name: str,
        *,
        is_virtual: bool,
        hear: Callable[[str], Callable[[tuple[list[int], float], object], None]] | None = None,
    ) -> None:
        self.port: Any = None
        self.sockets: frozenset[str] = frozenset()  # that came with it
        self.shown = name
        self._make, self._api, self._name, self._is_virtual, self._hear = make, api, name, is_virtual, hear
        self._full_name = name
        if not self._open():
            raise MidiError(
                f'There is no MIDI port whose name holds "{name}". '
                + ("Make a loopback pair of that name (loopMIDI). " if sys.platform == "win32" else "")
                + "`dawbridge ports` lists them.",
                "no_port",
            )

    def check(self) -> list[str]:
        if self._is_virtual:
            return []
        if self.port is not None and self._full_name not in self.port.get_ports():
            self.close()
            return [f'The port "{self.shown}" has gone. It is opened again when it comes back.']
        if self.port is None and self._open(first=wire.everything_off()):
            return [f'The port "{self.shown}" is back.']
        return []

    def close(self) -> None:
        port, self.port = self.port, None  # first of all: nobody may send on a port that is deleted
        if port is not None:
            if self._hear is not None:
                stop_hearing(port)
            port.close_port()
            port.delete()
            self.sockets = frozenset()

    def _open(self, first: Sequence[bytes] = ()) -> bool:
        """`first`: what an output sends before all else: notes may hang at its other end since it went."""
        before = _sockets()
        try:
            port = self._make(self._api, name=CLIENT)
        except (SystemError, rtmidi.RtMidiError) as exc:
            raise MidiError(f"The MIDI system does not answer ({exc}). Start it again.", "no_midi") from exc
        if self._is_virtual:
            port.open_virtual_port(self._name)
        else:
            names = port.get_ports()
            found = find_port(self._name, names)
            if found is None:
                port.delete()
                return False
            self._full_name = self.shown = names[found]
            port.open_port(found, name=self._name)
        if self._hear is not None:
            port.ignore_types(sysex=True, timing=False, active_sense=True)
            port.set_callback(self._hear(self.shown))
        else:
            for message in first:
                port.send_message(message)
        self.sockets = _sockets() - before
        self.port = port
        return True


def stop_hearing(port: Any) -> None:
    """To be called before a rtmidi input is closed.

    Closing holds the interpreter and waits for JACK's thread; a callback in that thread waits for the interpreter:
    both would wait for ever, and a synchronous server with them.
    """
    port.cancel_callback()
    time.sleep(CALLBACK_S)


def what_port_is(name: str) -> str:
    """One line for whoever looks for the right port."""
    if INPUT in name:
        return "the companion's ear: send the DAW's MIDI and clock here"
    if OUTPUT in name:
        return "the companion's voice: receive this on a MIDI track"
    if "clock" in name.casefold():
        return "a MIDI clock"
    if "through" in name.casefold() or "loop" in name.casefold():
        return "a loop: what goes in comes out"
    return ""


def find_port(name: str, names: Sequence[str]) -> int | None:
    """The index of the port called `name`, else of the first whose name holds it, whatever the case."""
    if name in names:
        return names.index(name)
    return next((i for i, full in enumerate(names) if name.casefold() in full.casefold()), None)


def _is_virtual(api: str, name: str) -> bool:
    return not name and api != "winmm"  # Windows' API can't make ports


def _sockets() -> frozenset[str]:
    """This process's sockets, on Linux: libjack closes its own when its server dies, and tells nobody."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return frozenset()
    found = set()
    for entry in folder.iterdir():
        try:
            target = str(entry.readlink())
        except OSError:  # the listing's own descriptor
            continue
        if target.startswith("socket:"):
            found.add(target)
    return frozenset(found)
