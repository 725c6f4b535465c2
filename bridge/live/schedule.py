"""What will be sent and when: notes and clock ticks in beats, laid on the monotonic clock by one line.

Pure and owned by one thread. Guarantees: of each channel and pitch note-ons and note-offs alternate; what began is
ended, whatever is withdrawn, silenced or late; messages leave in the order of their beats. A note-on that is too
late is dropped and counted with its note-off; a note-off never is.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from bridge.live import wire
from bridge.tempo import beat_to_ns
from bridge.types import BeatLine

TICKS_PER_BEAT = 24
LATE_NS = 5_000_000  # heard as loose
TOO_LATE_NS = 25_000_000  # heard as off the grid: better a rest
OFF, ON = 0, 1  # note-offs first at one beat
PASSED = 0  # the serial of all notes that were only passed through


@dataclass(frozen=True, slots=True)
class Strike:
    """One note to be sent; beats on the line's own axis, channel 0..15."""

    start_beat: float
    end_beat: float
    channel: int
    pitch: int
    velocity: int


@dataclass
class Tally:
    """How the notes left, since the process began."""

    on_time: int = 0
    late: int = 0  # more than LATE_NS behind
    dropped: int = 0  # more than TOO_LATE_NS behind: not sent


class Schedule:
    """Notes to come, and what sounds now."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.early_ns = 0  # sent so much before their time: the way to the instrument takes as long
        self._line: BeatLine | None = None
        self._heap: list[tuple[float, int, int, Strike]] = []  # beat, OFF or ON, serial, note
        self._serial = 0
        self._sounding: dict[tuple[int, int], int] = {}  # channel, pitch -> serial of the note that is on
        self._next_tick: int | None = None  # of the clock that we send

    @property
    def sounding(self) -> int:
        """How many notes are on."""
        return len(self._sounding)

    def set_line(self, line: BeatLine | None) -> None:
        """Where beats lie from now on; None: nothing is due."""
        self._line = line

    def add(self, note: Strike) -> None:
        """A note to come; one without length gets the shortest that MIDI clock can tell."""
        self._serial += 1
        heappush(self._heap, (note.start_beat, ON, self._serial, note))

    def send_ticks(self, from_tick: int | None) -> None:
        """Send MIDI clock from this tick (24 to the beat) on; None: no longer."""
        self._next_tick = from_tick

    def next_due_ns(self) -> int | None:
        """When something must be sent next; None: nothing, until something is added."""
        if self._line is None:
            return None
        beats = [self._heap[0][0]] if self._heap else []
        if self._next_tick is not None:
            beats.append(self._next_tick / TICKS_PER_BEAT)
        return beat_to_ns(self._line, min(beats)) - self.early_ns if beats else None

    def take_due(self, now_ns: int) -> list[tuple[int, bytes]]:
        """(due, message) of all that is due by `now_ns`, in order."""
        out: list[tuple[int, bytes]] = []
        while (due_ns := self.next_due_ns()) is not None and due_ns <= now_ns:
            tick = self._next_tick
            if tick is not None and not (self._heap and self._heap[0][0] < tick / TICKS_PER_BEAT):
                out.append((due_ns, bytes((wire.CLOCK,))))
                self._next_tick = tick + 1
            else:
                self._take_first(due_ns, now_ns, out)
        return out

    def passed(self, message: bytes) -> None:
        """A message that was sent past the schedule: what it begins is ended by `silence` too, what it ends has ended."""
        voice = (message[0] & 0x0F, message[1]) if len(message) == 3 else (0, 0)
        if wire.is_note_on(message):
            self._sounding[voice] = PASSED
        elif wire.is_note_off(message):  # whoever began it: an instrument does not know
            self._sounding.pop(voice, None)

    def withdraw(self, beat: float) -> None:
        """No note begins at or after now; what sounds ends where it would, at `beat` at the latest."""
        kept = [(min(at, beat), kind, serial, note) for at, kind, serial, note in self._heap if kind == OFF]
        heapify(kept)
        self._heap = kept

    def silence(self) -> list[bytes]:
        """Forget all that was to come, and end what sounds: the messages to send now."""
        self._heap.clear()
        offs = [wire.note_off(channel, pitch) for channel, pitch in sorted(self._sounding)]
        self._sounding.clear()
        return offs

    def _take_first(self, due_ns: int, now_ns: int, out: list[tuple[int, bytes]]) -> None:
        _, kind, serial, note = heappop(self._heap)
        voice = (note.channel, note.pitch)
        if kind == OFF:
            if self._sounding.get(voice) == serial:  # else it was struck again, and ended then
                del self._sounding[voice]
                out.append((due_ns, wire.note_off(*voice)))
            return
        if now_ns - due_ns > TOO_LATE_NS:
            self.tally.dropped += 1
            return
        if voice in self._sounding:
            out.append((due_ns, wire.note_off(*voice)))
        self._sounding[voice] = serial
        out.append((due_ns, wire.note_on(note.channel, note.pitch, note.velocity)))
        end = max(note.end_beat, note.start_beat + 1 / TICKS_PER_BEAT)
        heappush(self._heap, (end, OFF, serial, note))
        if now_ns - due_ns > LATE_NS:
            self.tally.late += 1
        else:
            self.tally.on_time += 1
