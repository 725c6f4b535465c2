"""Joins the parts of the live process: what comes in, the clock, the companion, and the player.

Runs in the control thread and owns everything but the player's own state. Moments are passed in, so that a test
drives it with a clock of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.live import wire
from bridge.live.axis import Axis
from bridge.live.clock import BeatClock, ClockEvent, Wanted
from bridge.live.companion import Action, Ask, Cancel, Companion, Heard, Play, Reply, Withdraw
from bridge.live.controls import CC_ON, COMMANDS, Controls, from_controller
from bridge.live.echo import EchoFilter
from bridge.live.pipe import note_from_list, note_to_list
from bridge.live.schedule import TICKS_PER_BEAT, Strike
from bridge.types import BeatLine, Note

STATE_NS = 100_000_000
INSIDE = "inside the process"
LOOP_NS = 80_000_000  # a DAW that stops and goes on within this time has jumped: it loops
EARLY_NS = 30_000_000  # a DAW's notes come up to so long before its clock tells their beat
CLOCK_STATUSES = (wire.CLOCK, wire.START, wire.CONTINUE, wire.STOP, wire.SONG_POSITION)
SHORTEST_BEATS = 1 / TICKS_PER_BEAT

Tell = Callable[[Mapping[str, Any]], None]


class PlayerLike(Protocol):
    """What the conductor needs of `player.Player`; tests have one on a clock of their own."""

    @property
    def on_time(self) -> int: ...
    @property
    def late(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def sounding(self) -> int: ...
    def set_line(self, line: BeatLine | None) -> None: ...
    def play(self, notes: Sequence[Strike]) -> None: ...
    def send(self, messages: Sequence[bytes]) -> None: ...
    def send_ticks(self, from_tick: int | None, before: Sequence[bytes] = ()) -> None: ...
    def withdraw(self, beat: float) -> None: ...
    def silence(self) -> None: ...


@dataclass(frozen=True)
class Wiring:
    """How the process is set up, for as long as it runs."""

    cc: Mapping[int, str] = dataclasses.field(default_factory=dict)  # controller -> control or command
    answer_note: int = -1  # a key that says "your turn" and is not heard as music; -1: none


def wanted(controls: Controls) -> Wanted:
    """Who shall lead."""
    sources: dict[str, Wanted] = {"internal": "internal", "midi": "midi", "link": "link"}
    return sources.get(controls.clock, "auto")


class Conductor:
    """The live process without its threads, ports and pipe."""

    def __init__(
        self,
        controls: Controls,
        wiring: Wiring,
        clock: BeatClock,
        player: PlayerLike,
        echo: EchoFilter,
        companion: Companion,
        tell: Tell,
        now_ns: int,
        from_beat: float = 0.0,
    ) -> None:
        self.clock = clock
        self.companion = companion
        self._wiring = wiring
        self._player = player
        self._echo = echo
        self._tell = tell
        self._axis = Axis(now_ns, controls.tempo, controls.bar_beats, from_beat)
        self._readers: dict[str, wire.Reader] = {}
        self._line: BeatLine | None = None  # the clock's, as the axis knows it
        self._told_ns = 0
        self._stood_ns: int | None = None  # the transport stopped, and may go on at once

    @property
    def controls(self) -> Controls:
        """As they are set now."""
        return self.companion.controls

    def beat(self, now_ns: int) -> float:
        """Where the axis is."""
        return self._axis.beat(now_ns)

    def start_internal(self, now_ns: int) -> None:
        """Let the internal clock play, where it leads."""
        if self.clock.source == "internal" and not self.clock.playing:
            self._clock_events(self.clock.internal_start(now_ns))

    def midi(self, port: str, data: bytes, at_ns: int) -> None:
        """Bytes that came in at a port."""
        reader = self._readers.setdefault(port, wire.Reader())
        for message in reader.feed(data):
            if message[0] in CLOCK_STATUSES:
                self._clock_events(self.clock.midi(port, message, at_ns))
                if message[0] == wire.STOP and not self._axis.is_rolling:
                    self._player.silence()  # also a second Stop: what hangs by any cause is ended by it
            elif message[0] < wire.SYSEX and not self._echo.is_echo(message, at_ns):
                self._channel_message(message, at_ns)

    def link(self, beat: float, bpm: float, playing: bool, peers: int, at_ns: int) -> None:
        """What Ableton Link shows."""
        self._clock_events(self.clock.link(beat, bpm, playing, peers, at_ns))

    def parent(self, message: Mapping[str, Any], now_ns: int) -> None:
        """A message of the live protocol."""
        kind = message["type"]
        if kind == "phrase":
            notes = tuple(note_from_list(values) for values in message["notes"])
            self.companion.bar_arrived(message["id"], notes, message["key"])
        elif kind == "control":
            self.set_controls(
                dataclasses.replace(self.controls, **{message["name"]: message["value"]}), now_ns
            )
        elif kind == "command":
            self.command(message["name"], now_ns)
        elif kind == "midi":  # a musician in the parent, where there is no MIDI system
            self.midi(INSIDE, bytes(message["data"]), now_ns)

    def command(self, name: str, now_ns: int) -> None:
        """One of COMMANDS; those that are about files go to the parent."""
        beat = self._axis.beat(now_ns)
        if name == "answer":
            self.companion.answer()
        elif name in ("stop", "undo"):
            self.companion.stop(beat)
        elif name == "panic":
            self.companion.stop(beat)
            self._player.silence()
        self._act(now_ns)
        if name in ("keep", "undo", "capture"):
            self._tell({"type": "command", "name": name})

    def set_controls(self, controls: Controls, now_ns: int) -> None:
        """Take new values; they hold at once."""
        before, self.companion.controls = self.controls, controls
        pitched = [part for part in controls.parts("") if part != "drums"]
        self.companion.listener.part = pitched[0] if pitched else ""
        if controls.bar_beats != before.bar_beats:
            self.companion.stop(self._axis.beat(now_ns))
            self._axis.set_bar(controls.bar_beats, now_ns)
            self._player.set_line(self._axis.line if self._axis.is_rolling else None)
            self._tell({"type": "metre", "bar_beats": controls.bar_beats})
        if controls.tempo != before.tempo:
            self._clock_events(self.clock.set_tempo(controls.tempo, now_ns))
        if controls.clock != before.clock:
            self._clock_events(self.clock.want(wanted(controls), now_ns))
            self.start_internal(now_ns)
        if controls.send_clock != before.send_clock:
            self._send_clock(now_ns)
        if controls.thru != before.thru and not controls.thru:
            self._player.silence()  # keys that are down would hang
        self._act(now_ns)
        self._tell({"type": "controls", "controls": dataclasses.asdict(controls)})

    def tick(self, now_ns: int) -> None:
        """Many times a second."""
        self._clock_events(self.clock.poll(now_ns))
        self._follow()
        beat = self._axis.beat(now_ns)
        if self._stood_ns is not None and now_ns - self._stood_ns > LOOP_NS:
            self.companion.halt(self._axis.beat(self._stood_ns))
            self._stood_ns = None
        if self._axis.is_rolling:
            self.companion.tick(beat, self._axis.line.beat_ns)
        else:
            self.companion.idle(beat)
        self._act(now_ns)
        if now_ns - self._told_ns >= STATE_NS:
            self._told_ns = now_ns
            self._tell(self.state(now_ns))

    def state(self, now_ns: int) -> dict[str, Any]:
        """What goes on, for whoever shows it."""
        axis, companion, player = self._axis, self.companion, self._player
        song_beat = axis.song_beat(axis.beat(now_ns)) if axis.is_rolling else self.clock.beat(now_ns)
        planned = companion.planned_from
        return {
            "type": "state",
            "source": self.clock.source,
            "source_name": self.clock.source_name,
            "playing": axis.is_rolling,
            "bpm": round(self.clock.bpm, 2),
            "beat": round(song_beat, 3),
            "bar_beats": axis.bar_beats,
            "axis_beat": round(axis.beat(now_ns), 3),
            "heard": companion.listener.notes_heard,
            "keys_down": companion.listener.keys_down,
            "replying": companion.is_replying,
            "planned_beat": None if planned is None else round(axis.song_beat(planned), 3),
            "replies": companion.counts.replies,
            "on_line": companion.counts.on_line,
            "late_bars": companion.counts.late_bars,
            "missed_bars": companion.counts.missed_bars,
            "on_time": player.on_time,
            "late": player.late,
            "dropped": player.dropped,
            "echoes": self._echo.dropped,
            "broken": sum(reader.broken for reader in self._readers.values()),
            "sysex_bytes": sum(reader.sysex_bytes for reader in self._readers.values()),
        }

    def port_lost(self, now_ns: int) -> None:
        """Nobody will lift the keys that are down."""
        self.companion.listener.release(self._axis.beat(now_ns))

    def halt(self, now_ns: int) -> None:
        """Everything ends."""
        self.companion.halt(self._axis.beat(now_ns))
        self._act(now_ns)
        self._player.silence()

    def _channel_message(self, message: bytes, at_ns: int) -> None:
        is_note = wire.is_note_on(message) or wire.is_note_off(message)
        if is_note and message[1] == self._wiring.answer_note:
            if wire.is_note_on(message):
                self.command("answer", at_ns)
            return
        if message[0] & 0xF0 == wire.CONTROL and message[1] in self._wiring.cc:
            self._controller(self._wiring.cc[message[1]], message[2], at_ns)
            return
        self.companion.hear(message, self._axis.beat(at_ns))
        if self.controls.thru:
            self._player.send((message,))
        self._act(at_ns)

    def _controller(self, name: str, value: int, at_ns: int) -> None:
        if name not in COMMANDS:
            self.set_controls(from_controller(self.controls, name, value), at_ns)
        elif value >= CC_ON:
            self.command(name, at_ns)

    def _clock_events(self, events: Sequence[ClockEvent]) -> None:
        for event in events:
            if event.kind == "started":
                self._roll(event.at_ns)
            elif event.kind == "jumped":
                self._jump(event.at_ns)
            elif event.kind == "stopped":
                self._stand(event.at_ns)
            else:
                self._tell({"type": "told", "kind": event.kind, "detail": event.detail})
                if event.kind == "source" and self.clock.source != "internal":
                    self.clock.internal_stop(event.at_ns)  # where a DAW leads, its stop means silence
        self._follow()

    def _roll(self, at_ns: int) -> None:
        if self.clock.line is None:
            return  # it has stopped again already
        beat, early_beats = self._axis.beat(at_ns), EARLY_NS / self._axis.line.beat_ns
        self._line = self.clock.line
        is_seamless = self._axis.roll(self._line, at_ns)
        self._player.set_line(self._axis.line)
        if self._stood_ns is not None and is_seamless:
            self.companion.resume(self._axis.beat(at_ns))
        else:
            self.companion.jump(beat, self._axis.beat(at_ns), early_beats)
        self._stood_ns = None
        self._act(at_ns)
        self._send_clock(at_ns)

    def _jump(self, at_ns: int) -> None:
        if self.clock.line is None:
            return
        beat, early_beats = self._axis.beat(at_ns), EARLY_NS / self._axis.line.beat_ns
        self._line = self.clock.line
        if not self._axis.roll(self._line, at_ns):
            self.companion.jump(beat, self._axis.beat(at_ns), early_beats)
            self._player.silence()
        self._act(at_ns)
        self._player.set_line(self._axis.line)
        self._send_clock(at_ns)

    def _stand(self, at_ns: int) -> None:
        """Silence at once; what was under way is forgotten only when the transport does not go on at once."""
        self._line = None
        self._axis.stop(at_ns)
        self._player.silence()
        self._player.set_line(None)
        if self.controls.send_clock:
            self._player.send_ticks(None, (bytes((wire.STOP,)),))
        self._stood_ns = at_ns

    def _follow(self) -> None:
        line = self.clock.line
        if line is not None and line != self._line and self._axis.is_rolling:
            self._line = line
            self._axis.follow(line)
            self._player.set_line(self._axis.line)

    def _send_clock(self, now_ns: int) -> None:
        if not (self.controls.send_clock and self._axis.is_rolling):
            self._player.send_ticks(None)
            return
        song = self._axis.song_beat(self._axis.beat(now_ns))
        sixteenths = max(0, math.ceil(song * 4 - 0.05))
        begin = bytes((wire.CONTINUE if sixteenths else wire.START,))
        position = (wire.song_position(sixteenths),) if sixteenths else ()
        from_tick = round((sixteenths / 4 + self._axis.moved_beats) * TICKS_PER_BEAT)
        self._player.send_ticks(from_tick, (*position, begin))

    def _act(self, now_ns: int) -> None:
        for action in self.companion.take_actions():
            self._do(action, now_ns)

    def _do(self, action: Action, now_ns: int) -> None:
        if isinstance(action, Play):
            self._player.play([self._strike(note) for note in action.notes])
        elif isinstance(action, Withdraw):
            self._player.withdraw(action.beat)
        elif isinstance(action, Heard):
            notes = [
                [*note_to_list(note), ours] for note, ours in zip(action.notes, action.is_ours, strict=True)
            ]
            self._tell({"type": "context", "notes": notes})
        elif isinstance(action, Ask):
            self._tell({"type": "ask", **self._asked(action)})
        elif isinstance(action, Cancel):
            self._tell({"type": "cancel", "id": action.id})
        else:
            self._tell({"type": "played", **self._played(action)})

    def _strike(self, note: Note) -> Strike:
        end = note.start_beats + max(note.length_beats, SHORTEST_BEATS)
        return Strike(note.start_beats, end, self.controls.channel_of(note.part), note.pitch, note.velocity)

    def _asked(self, ask: Ask) -> dict[str, Any]:
        controls = self.controls
        return {
            "id": ask.id,
            "from_beat": ask.from_beat,
            "bars": ask.bars,
            "deadline_beat": ask.deadline_beat,
            "planned": [note_to_list(note) for note in ask.planned],
            "settings": {
                "parts": list(ask.parts),
                "key": controls.key,
                "ranges": {part: [controls.low, controls.high] for part in ask.parts if part != "drums"},
                "most_notes_per_beat": ask.most_notes_per_beat,
                "opening_beats": ask.opening_beats,
                "temperature": controls.temperature,
                "seed": ask.seed,
            },
        }

    def _played(self, reply: Reply) -> dict[str, Any]:
        return {
            "id": reply.id,
            "from_beat": reply.from_beat,
            "song_beat": round(self._axis.song_beat(reply.from_beat), 6),
            "length_beats": reply.length_beats,
            "notes": [note_to_list(note) for note in reply.notes],
            "seed": reply.seed,
            "key": reply.key,
            "is_cut": reply.is_cut,
            "bpm": round(self.clock.bpm, 3),
            "controls": dataclasses.asdict(self.controls),
        }
