"""`dawbridge demo --live`: a scripted musician plays against the companion, over a real MIDI system where there is one.

The musician is a MIDI client of its own, joined to the companion's two ports as a DAW would be; without a MIDI
system it plays inside the process, and the result says so. The companion's own folders are temporary.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bridge.config import Config, Folders, LiveConfig
from bridge.errors import DawbridgeError, LiveError, MidiError
from bridge.live import wire
from bridge.live.controls import Controls
from bridge.live.ports import INPUT, OUTPUT, find_port, stop_hearing
from bridge.live.probe import choose_api
from bridge.livehost.session import Session

BPM, BAR_BEATS = 112.0, 4
REPLY_BARS = 2
VELOCITY = 88
PHRASES = (  # (beats from the bar line, length in beats, pitch); A minor
    ((0, 1, 69), (1, 0.5, 72), (1.5, 0.5, 71), (2, 1, 69), (3, 0.5, 64)),
    ((0, 0.5, 76), (0.5, 0.5, 74), (1, 1, 72), (2, 0.5, 71), (2.5, 0.5, 72), (3, 0.5, 69)),
    ((0, 1, 65), (1, 1, 69), (2, 0.5, 72), (2.5, 1, 71)),
)
NONE = "none"
START_S, REPLY_S, CLOSE_S = 30.0, 30.0, 15.0

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class LiveDemoResult:
    """What came of it."""

    api: str  # "none": inside the process
    notes: int  # of the replies, as they were sent
    late: int  # more than 5 ms
    dropped: int  # more than 25 ms: not sent
    take: Path  # a MIDI file with both players


def run_live_demo(out: Path | None, tell: Tell) -> LiveDemoResult:
    """Play three phrases and hear three replies, about half a minute.

    Raises:
        LiveError: the companion did not start, or did not answer.
    """
    outbox = (out or Path(tempfile.mkdtemp(prefix="dawbridge-live-"))).absolute()
    outbox.mkdir(parents=True, exist_ok=True)  # better told now than after the first reply
    try:
        api = choose_api().api
    except MidiError as exc:
        tell({"event": "told", "kind": "note", "detail": f"{exc.message} The demo plays inside the process."})
        api = NONE
    with tempfile.TemporaryDirectory(prefix="dawbridge-home-") as home:
        controls = Controls(clock="internal", tempo=BPM, bars=REPLY_BARS, key="A minor")
        config = Config(outbox=outbox, live=LiveConfig(controls=controls))
        root = Path(home)
        stage = _Stage(tell)
        session = Session(
            config,
            Folders(root / "config", root / "state", root / "data", root / "cache"),
            stage.hear,
            api=api,
        )
        with _running(session, stage), _musician(api, session) as musician:
            for phrase in PHRASES:
                _play(musician, phrase, stage)
                stage.wait_for("take", REPLY_S)
            state = stage.state
            take = Path(session.request({"name": "capture"})["path"])
    notes = state["on_time"] + state["late"]
    return LiveDemoResult(api, notes, state["late"], state["dropped"], take)


class _Musician(Protocol):
    def send(self, message: bytes) -> None: ...


class _Client:
    """A MIDI client that is joined to the companion's ports."""

    def __init__(self, api: str) -> None:
        import rtmidi

        system = next(a for a in rtmidi.get_compiled_api() if rtmidi.get_api_name(a) == api)
        self.heard = 0  # note-ons that came
        self._out = rtmidi.MidiOut(system, name="demo musician")
        self._in = rtmidi.MidiIn(system, name="demo musician")
        self._out.open_port(_index(INPUT, self._out.get_ports()))
        self._in.open_port(_index(OUTPUT, self._in.get_ports()))
        self._in.set_callback(self._hear)

    def send(self, message: bytes) -> None:
        self._out.send_message(message)

    def close(self) -> None:
        stop_hearing(self._in)
        for client in (self._in, self._out):
            client.close_port()
            client.delete()

    def _hear(self, event: tuple[list[int], float], _: object) -> None:
        self.heard += wire.is_note_on(bytes(event[0]))


class _Inside:
    """Plays into the session itself."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def send(self, message: bytes) -> None:
        self._session.play(message)


class _Stage:
    """Hears the session, from its thread, for whoever waits."""

    def __init__(self, tell: Tell) -> None:
        self.state: Mapping[str, Any] = {}
        self.state_s = 0.0  # when it came
        self.fault: Exception | None = None
        self._tell = tell
        self._came: list[str] = []
        self._changed = threading.Condition()

    def hear(self, event: Mapping[str, Any]) -> None:
        with self._changed:
            if event["event"] == "state":
                self.state, self.state_s = event, time.monotonic()
            self._came.append(event["event"])
            self._changed.notify_all()
        self._tell(event)

    def wait_for(self, kind: str, timeout_s: float) -> None:
        """Until such an event has come that nobody waited for yet."""
        with self._changed:
            came = self._changed.wait_for(lambda: kind in self._came or self.fault is not None, timeout_s)
            if self.fault is not None:
                raise self.fault
            if not came:
                raise LiveError(
                    f"The companion did not come to a {kind} in {timeout_s:.0f} s. Run `dawbridge doctor`."
                )
            del self._came[: self._came.index(kind) + 1]

    def beat(self) -> float:
        """Where the song is now."""
        return float(self.state["beat"]) + (time.monotonic() - self.state_s) * BPM / 60.0


@contextlib.contextmanager
def _running(session: Session, stage: _Stage) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        try:
            session.run(stop)
        except (DawbridgeError, OSError) as exc:
            stage.fault = exc
            stage.hear({"event": "ended"})

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        stage.wait_for("generator", START_S)
        stage.wait_for("state", START_S)
        yield
    finally:
        stop.set()
        thread.join(CLOSE_S)


@contextlib.contextmanager
def _musician(api: str, session: Session) -> Iterator[_Musician]:
    if api == NONE:
        yield _Inside(session)
        return
    client = _Client(api)
    try:
        yield client
    finally:
        client.close()


def _play(musician: _Musician, phrase: tuple[tuple[float, float, int], ...], stage: _Stage) -> None:
    """A phrase from the next bar line but one on."""
    line = (int(stage.beat() / BAR_BEATS) + 1) * BAR_BEATS
    events = [(line + start, wire.note_on(0, pitch, VELOCITY)) for start, _, pitch in phrase]
    events += [(line + start + 0.9 * length, wire.note_off(0, pitch)) for start, length, pitch in phrase]
    for beat, message in sorted(events):
        time.sleep(max(0.0, (beat - stage.beat()) * 60.0 / BPM))
        musician.send(message)


def _index(name: str, names: list[str]) -> int:
    found = find_port(name, names)
    if found is None:
        raise LiveError(f'The companion\'s port "{name}" is not there. Run `dawbridge ports`.')
    return found


def live_demo_table(result: LiveDemoResult) -> dict[str, Any]:
    """For scripts."""
    return {**dataclasses.asdict(result), "take": str(result.take)}
