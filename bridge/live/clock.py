"""The one beat clock behind MIDI clock, Ableton Link and an internal tempo.

The control thread feeds it; everybody reads `line`. Pure: each moment is passed in as integer nanoseconds of
the monotonic clock, beats are quarter notes. What changes comes back as events, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bridge.live.follower import HIGHEST_BPM, LOWEST_BPM, TICKS_PER_BEAT, TickFollower
from bridge.tempo import beat_ns_to_bpm, beat_to_ns, bpm_to_beat_ns, ns_to_beat
from bridge.types import BeatLine

JUMP_BEATS = 0.25  # a line that moves the song's beat by more is told as a jump

_SILENCE_NS = 1_000_000_000
_SILENCE_TICKS = 12  # half a beat, where that is longer
_LOST_FOR_NS = 60_000_000_000  # later than this, ticks that come back belong to another song
_SAME_LINE_NS = 100_000
_FORECAST_BEATS = 2.0  # how far ahead two lines are compared
_SIXTEENTHS_PER_BEAT = 4
_POSITION_DOUBT_BEATS = (
    0.375  # rounding to a sixteenth, and two or three ticks between a stop and its message
)

Source = Literal["internal", "midi", "link"]
Wanted = Literal["auto", "internal", "midi", "link"]
SongPosition = Literal["auto", "sixteenths", "clocks"]
Kind = Literal["started", "stopped", "jumped", "source", "warning"]


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """Something that changed in the song's time."""

    kind: Kind
    beat: float  # where the song now is
    at_ns: int
    detail: str = ""  # for "source" and "warning": a line for the musician


class BeatClock:
    """The beat that all parts play by; one thread feeds it.

    `auto` follows Link while it has peers, else MIDI clock from its first message on, before that the internal
    tempo.
    A change of source stops the old one; the internal tempo starts only where it leads. Between events `beat`
    never goes back by more than JUMP_BEATS at a feeding (usually by well under a tick); what moves it further
    is told as "jumped".

    MIDI: the first tick after Start or Continue is that position; ticks before it train the tempo and never
    play. A stop is told at once, so a DAW that loops by Stop, Position, Continue gives "stopped" and
    "started", not "jumped": notes must end at the stop, and nobody can know what follows it. A stop stands at
    the next tick's beat, so that Continue loses none. Ticks that fail for a second without a Stop end the
    playing; where they come back within a minute it goes on from the count.

    Song positions: Ardour sends them in clocks, six times too large. `auto` reads sixteenths until a position
    fits the ticks counted since the last known one only as clocks. Until then a bar line still reads as a
    bar line, six times as far on. One proof decides, two turn a reading that was proven before; a user who
    goes by hand to just the sixfold position is taken for one. Above beat 682 clocks don't fit in 14 bits.
    """

    def __init__(
        self, *, wanted: Wanted = "auto", bpm: float = 120.0, song_position: SongPosition = "auto"
    ) -> None:
        self._wanted: Wanted = wanted
        self._internal = _InternalClock(_checked_bpm(bpm))
        self._midi = _MidiClock(song_position)
        self._link = _LinkClock()
        self.line: BeatLine | None = None
        self.playing = False
        self.source: Source = "internal" if wanted == "auto" else wanted
        self.source_name = self._timeline(self.source).name
        self.bpm = self._timeline(self.source).bpm

    def beat(self, now_ns: int) -> float:
        """The song's beat at a moment; while stopped, where it stands."""
        return self._timeline(self.source).position if self.line is None else ns_to_beat(self.line, now_ns)

    def midi(self, port: str, message: bytes, at_ns: int) -> list[ClockEvent]:
        """Hear F8, FA, FB, FC or F2 (least significant byte first) from a port; all else is ignored.

        The first port that is heard leads; others are ignored until it is silent for a second.
        """
        events = self.poll(at_ns)
        told = self._midi.hear(port, message, at_ns)
        return events + self._settle(at_ns, self._if_heeded("midi", told, at_ns))

    def link(self, beat: float, bpm: float, playing: bool, peers: int, at_ns: int) -> list[ClockEvent]:
        """Take Link's own beat and tempo at `at_ns`; a line within 0.1 ms of the old one doesn't replace it."""
        told = self._link.feed(beat, bpm, playing, peers, at_ns)
        return self._settle(at_ns, self._if_heeded("link", told, at_ns))

    def internal_start(self, at_ns: int, beat: float = 0.0) -> list[ClockEvent]:
        """Play at the internal tempo from `beat`; only a warning comes where another source leads."""
        events = self.poll(at_ns)
        if self.source != "internal":
            told = (
                f"The internal tempo doesn't start: {self._leading()} leads. Choose the internal clock first."
            )
            return [*events, ClockEvent("warning", self.beat(at_ns), at_ns, told)]
        self._internal.line = BeatLine(beat, at_ns, bpm_to_beat_ns(self._internal.bpm))
        return events + self._settle(at_ns)

    def internal_stop(self, at_ns: int) -> list[ClockEvent]:
        """Stop the internal tempo where it is."""
        self._internal.stop(at_ns)
        return self._settle(at_ns)

    def set_tempo(self, bpm: float, at_ns: int) -> list[ClockEvent]:
        """Change the internal tempo without moving its beat; ValueError outside 20 to 400 bpm."""
        self._internal.set_tempo(_checked_bpm(bpm), at_ns)
        return self._settle(at_ns)

    def want(self, wanted: Wanted, at_ns: int) -> list[ClockEvent]:
        """Choose what to follow from now on."""
        self._wanted = wanted
        self._midi.told.clear()
        self._link.told.clear()
        return self._settle(at_ns)

    def poll(self, now_ns: int) -> list[ClockEvent]:
        """Find out, about every 10 ms, what fell silent."""
        told = self._if_heeded("midi", self._midi.poll(now_ns), now_ns)
        return self._settle(now_ns, told + self._if_heeded("link", self._link.poll(now_ns), now_ns))

    def _timeline(self, source: Source) -> _Timeline:
        if source == "midi":
            return self._midi
        return self._link if source == "link" else self._internal

    def _if_heeded(self, source: Source, told: list[str], at_ns: int) -> list[str]:
        """Only what concerns the source that leads or, for MIDI, would lead where it sent more."""
        if self._wanted != "auto":
            return told if source == self._wanted else []
        has_link = "link" in (self.source, self._choose(at_ns))
        return told if has_link == (source == "link") else []

    def _choose(self, at_ns: int) -> Source:
        if self._wanted != "auto":
            return self._wanted
        if self._link.is_alive(at_ns):
            return "link"
        stays = self.source == "midi" and self._internal.line is None  # a DAW that stands may send no clock
        return "midi" if stays or self._midi.is_alive(at_ns) else "internal"

    def _leading(self) -> str:
        if self.source == "midi":
            return f"MIDI clock from {self.source_name or 'any port'}"
        if self.source == "link":
            return f"Ableton Link with {self.source_name}"
        return f"the internal tempo at {self.bpm:.1f} bpm"

    def _settle(self, at_ns: int, told: list[str] | None = None) -> list[ClockEvent]:
        """Bring what others read up to date, and tell how it differs from before."""
        source, old, old_line, old_beat = self._choose(at_ns), self.source, self.line, self.beat(at_ns)
        timeline = self._timeline(source)
        is_new = source != old or (source == "midi" and timeline.name != self.source_name)
        if is_new and old == "internal":
            self._internal.stop(at_ns)
        if is_new and old == "link":
            self._midi.told.clear()  # what was kept from the musician while it didn't matter
        self.source, self.source_name, self.bpm = source, timeline.name, timeline.bpm
        self.line, self.playing = timeline.line, timeline.line is not None
        beat, events = self.beat(at_ns), []
        if is_new:
            stood = self._timeline(old)
            if old_line is not None:
                stopped_beat = stood.position if stood.line is None else old_beat
                events.append(ClockEvent("stopped", stopped_beat, at_ns))
            events.append(ClockEvent("source", beat, at_ns, f"Now following {self._leading()}."))
        kind = _difference(None if is_new else old_line, self.line, beat - old_beat)
        if kind is not None:
            events.append(ClockEvent(kind, beat, at_ns))
        return events + [ClockEvent("warning", beat, at_ns, detail) for detail in told or []]


class _Timeline:
    """One source's time: a line while it plays, else the beat where it stands."""

    def __init__(self, bpm: float = 120.0) -> None:
        self.line: BeatLine | None = None
        self.position = 0.0
        self.name = ""
        self.bpm = bpm
        self.told: set[str] = set()  # the causes that the musician knows of

    def stop(self, at_ns: int) -> None:
        if self.line is not None:
            self.position, self.line = ns_to_beat(self.line, at_ns), None

    def tell_once(self, cause: str, text: str) -> list[str]:
        if cause in self.told:
            return []
        self.told.add(cause)
        return [text]


class _InternalClock(_Timeline):
    def set_tempo(self, bpm: float, at_ns: int) -> None:
        self.bpm = bpm
        if self.line is not None:
            self.line = BeatLine(ns_to_beat(self.line, at_ns), at_ns, bpm_to_beat_ns(bpm))


class _LinkClock(_Timeline):
    def __init__(self) -> None:
        super().__init__()
        self.name = "0 peers"
        self._peers = 0
        self._fed_ns: int | None = None

    def is_alive(self, now_ns: int) -> bool:
        return self._peers > 0 and self._fed_ns is not None and now_ns - self._fed_ns <= _SILENCE_NS

    def feed(self, beat: float, bpm: float, playing: bool, peers: int, at_ns: int) -> list[str]:
        self._peers, self._fed_ns = peers, at_ns
        self.name = "1 peer" if peers == 1 else f"{peers} peers"
        is_followed = LOWEST_BPM <= bpm <= HIGHEST_BPM
        if playing and is_followed:
            self._lay(BeatLine(beat, at_ns, bpm_to_beat_ns(bpm)))
        elif self.line is not None:
            self.position, self.line = beat, None
        if not is_followed:
            told = f"Ableton Link at {bpm:.1f} bpm isn't followed; 20 to 400 are followed: change its tempo."
            return self.tell_once("tempo", told)
        self.bpm = bpm
        self.told.discard("tempo")
        return []

    def poll(self, now_ns: int) -> list[str]:
        if self.line is None or self._fed_ns is None or now_ns - self._fed_ns <= _SILENCE_NS:
            return []
        self.stop(self._fed_ns)
        return ["Ableton Link fell silent, so playing stopped; switch Link on again."]

    def _lay(self, line: BeatLine) -> None:
        old, beats = self.line, (line.beat, line.beat + _FORECAST_BEATS)
        if old is None or max(abs(beat_to_ns(old, b) - beat_to_ns(line, b)) for b in beats) >= _SAME_LINE_NS:
            self.line = line


class _MidiClock(_Timeline):
    """The leading port's clock, by its name. Its methods return warnings, each a line for the musician."""

    def __init__(self, song_position: SongPosition) -> None:
        super().__init__()
        self._follower = TickFollower(self.bpm)
        self._unit: SongPosition = song_position
        self._song_positions = _SongPositions(song_position)
        self._heard_ns: int | None = None  # the last tick, Start or Continue of the leading port
        self._lost_ns: int | None = None  # when ticks failed without a Stop

    def is_alive(self, now_ns: int) -> bool:
        silence_ns = max(_SILENCE_NS, _SILENCE_TICKS * self._follower.beat_ns / TICKS_PER_BEAT)
        return self._heard_ns is not None and now_ns - self._heard_ns <= silence_ns

    def hear(self, port: str, message: bytes, at_ns: int) -> list[str]:
        heard = _HEARD.get(message[0]) if message else None
        if heard is None:
            return []
        if port != self.name or self._heard_ns is None:
            if self.is_alive(at_ns):
                told = (
                    f"A second MIDI clock from {port} is ignored, {self.name} leads: switch one of them off."
                )
                return self.tell_once(f"second {port}", told)
            if heard is _MidiClock._stop:
                return []
            self._lead(port)
        return heard(self, message, at_ns)

    def poll(self, now_ns: int) -> list[str]:
        if self.line is None or self.is_alive(now_ns):
            return []
        self.position, self.line, self._lost_ns = self._follower.next_beat, None, now_ns
        return [
            f"The clock from {self.name} stopped without a Stop, so playing stopped: check that it is sent."
        ]

    def _lead(self, port: str) -> None:
        if port == self.name:
            return
        self.name, self.position, self.line, self._lost_ns = port, 0.0, None, None
        self._follower = TickFollower(self.bpm)
        self._song_positions = _SongPositions(self._unit)
        self.told.discard(f"second {port}")

    def _tick(self, _message: bytes, at_ns: int) -> list[str]:
        told = self._come_back(at_ns)
        self._heard_ns = at_ns
        self._follower.tick(at_ns)
        self.bpm = beat_ns_to_bpm(self._follower.beat_ns)
        if self.line is not None:
            self.line = self._follower.line() or self.line
        if self._follower.is_sane:
            self.told.discard("tempo")
            return told
        strange = f"MIDI clock at {self._follower.heard_bpm:.1f} bpm from {self.name} isn't followed"
        return told + self.tell_once("tempo", f"{strange}; 20 to 400 are followed: change the tempo there.")

    def _start(self, _message: bytes, at_ns: int) -> list[str]:
        self._song_positions.mark(0, 0.0)
        self._roll(0.0, at_ns)
        return []

    def _continue(self, _message: bytes, at_ns: int) -> list[str]:
        if self.line is None:
            self._roll(self.position, at_ns)
        return []

    def _stop(self, _message: bytes, _at_ns: int) -> list[str]:
        if self.line is not None:
            self.position, self.line = self._follower.next_beat, None
        self._lost_ns = None
        return []

    def _locate(self, message: bytes, at_ns: int) -> list[str]:
        if len(message) < 3 or max(message[1:3]) > 0x7F:
            return []
        at_beat = self.position if self.line is None else self._follower.next_beat
        self.position, told = self._song_positions.read(message[1] | message[2] << 7, at_beat)
        self._lost_ns = None
        if self.line is not None:
            self._follower.jump(self.position)
            self.line = self._follower.line() or BeatLine(self.position, at_ns, self._follower.beat_ns)
        return [f"{self.name}: {told}"] if told else []

    def _roll(self, beat: float, at_ns: int) -> None:
        self._follower.restart(beat)
        self.position, self._heard_ns, self._lost_ns = beat, at_ns, None
        self.line = BeatLine(beat, at_ns, self._follower.beat_ns)

    def _come_back(self, at_ns: int) -> list[str]:
        """Go on at the count where ticks failed without a Stop and now come again."""
        lost_ns, self._lost_ns = self._lost_ns, None
        if lost_ns is None or at_ns - lost_ns > _LOST_FOR_NS:
            return []
        self._roll(self.position, at_ns)
        return [f"The clock from {self.name} came back, so playing goes on at beat {self.position:.2f}."]


_HEARD: dict[int, Callable[[_MidiClock, bytes, int], list[str]]] = {
    0xF8: _MidiClock._tick,
    0xFA: _MidiClock._start,
    0xFB: _MidiClock._continue,
    0xFC: _MidiClock._stop,
    0xF2: _MidiClock._locate,
}


class _SongPositions:
    """Reads Song Position values and learns their unit from the ticks counted between two of them."""

    def __init__(self, unit: SongPosition) -> None:
        self._learns = unit == "auto"
        self._per_beat = TICKS_PER_BEAT if unit == "clocks" else _SIXTEENTHS_PER_BEAT
        self._proof = 0  # above 0 for sixteenths, below for clocks
        self._known = (0, 0.0)  # a value, and the beat counted there

    def mark(self, value: int, beat: float) -> None:
        self._known = (value, beat)

    def read(self, value: int, counted_beat: float) -> tuple[float, str]:
        """The beat that `value` means, and what was learned ("" for nothing)."""
        told = self._learn(value, counted_beat) if self._learns else ""
        beat = value / self._per_beat
        self.mark(value, beat)
        return beat, told

    def _learn(self, value: int, counted_beat: float) -> str:
        moved, beats = value - self._known[0], counted_beat - self._known[1]
        units = (_SIXTEENTHS_PER_BEAT, TICKS_PER_BEAT)
        fits = [unit for unit in units if abs(moved - beats * unit) <= _POSITION_DOUBT_BEATS * unit]
        if len(fits) != 1:
            return ""
        step = 1 if fits[0] == _SIXTEENTHS_PER_BEAT else -1
        self._proof = max(-1, min(1, self._proof + step))
        if fits[0] == self._per_beat or self._proof * step <= 0:
            return ""
        self._per_beat = fits[0]
        unit_name = "clocks, six to a sixteenth" if step < 0 else "sixteenths"
        return f"song position {value} is in {unit_name}; it is read so from now on (setting: song position)."


def _difference(old: BeatLine | None, new: BeatLine | None, moved_beats: float) -> Kind | None:
    if old is None:
        return None if new is None else "started"
    if new is None:
        return "stopped"
    return "jumped" if abs(moved_beats) > JUMP_BEATS else None


def _checked_bpm(bpm: float) -> float:
    if not LOWEST_BPM <= bpm <= HIGHEST_BPM:
        raise ValueError(f"tempo {bpm:g} bpm is outside 20 to 400 bpm: choose one within")
    return bpm
