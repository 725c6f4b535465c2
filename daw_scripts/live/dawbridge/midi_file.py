"""The bytes of a MIDI file of dawbridge's (type 1, 480 ticks per quarter note) -> notes and tempo.

Any type 0 or 1 file in ticks is read. Every note has an end: its note-off, or the end of its track.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

MAX_BYTES = 16 << 20
DEFAULT_BPM = 120.0
DATA_BYTES = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}
TRACK_NAME, END_OF_TRACK, SET_TEMPO = 0x03, 0x2F, 0x51


@dataclass(frozen=True)
class MidiNote:
    """One note; beats are quarter notes from tick 0."""

    pitch: int
    start_beats: float
    end_beats: float
    velocity: int


@dataclass(frozen=True)
class MidiPart:
    """One track that holds notes."""

    name: str
    notes: tuple[MidiNote, ...]


@dataclass(frozen=True)
class MidiFile:
    """All parts, how long they last, and the tempo: (from which beat, bpm), first at beat 0."""

    parts: tuple[MidiPart, ...]
    length_beats: float
    tempi: tuple[tuple[float, float], ...]

    def seconds_at(self, beats: float) -> float:
        """Seconds from tick 0 to `beats`, by the file's own tempo."""
        seconds = 0.0
        for i, (start, bpm) in enumerate(self.tempi):
            end = self.tempi[i + 1][0] if i + 1 < len(self.tempi) else float("inf")
            if beats <= start:
                break
            seconds += (min(beats, end) - start) * 60.0 / bpm
        return seconds


def parse_midi(data: bytes) -> MidiFile:
    """Read a whole file.

    Raises:
        ValueError: it is no MIDI file in ticks, or it is cut off.
    """
    if data[:4] != b"MThd" or len(data) < 14:
        raise ValueError("it does not begin as a MIDI file")
    kind, division = _big(data[8:10]), _big(data[12:14])
    if kind > 1 or division & 0x8000 or not division:
        raise ValueError("it is of a kind that dawbridge does not write")
    position = 8 + _big(data[4:8])
    parts: list[MidiPart] = []
    tempi: dict[float, float] = {0.0: DEFAULT_BPM}
    length_beats = 0.0
    while position + 8 <= len(data):
        name, end = data[position : position + 4], position + 8 + _big(data[position + 4 : position + 8])
        if end > len(data):
            raise ValueError("it ends in the middle of a track")
        if name == b"MTrk":
            track = _Track(data[position + 8 : end], float(division))
            tempi.update(track.tempi)
            length_beats = max(length_beats, track.length_beats)
            if track.notes:
                parts.append(MidiPart(track.name, tuple(sorted(track.notes, key=_order))))
        position = end
    return MidiFile(tuple(parts), length_beats, tuple(sorted(tempi.items())))


class _Track:
    """Reads one track chunk."""

    def __init__(self, data: bytes, division: float) -> None:
        self.name = ""
        self.notes: list[MidiNote] = []
        self.tempi: dict[float, float] = {}
        self.length_beats = 0.0
        self._data, self._position, self._division = data, 0, division
        self._held: defaultdict[tuple[int, int], deque[tuple[float, int]]] = defaultdict(deque)
        self._read()

    def _read(self) -> None:
        ticks, status = 0, 0
        while self._position < len(self._data):
            ticks += self._length()
            self.length_beats = ticks / self._division
            if self._data[self._position : self._position + 1] >= b"\x80":
                status = self._take(1)[0]
            if status == 0xFF:
                kind, text = self._take(1)[0], self._take(self._length())
                if kind == END_OF_TRACK:
                    break
                self._meta(kind, text)
            elif status in (0xF0, 0xF7):
                self._take(self._length())
            elif 0x80 <= status < 0xF0:
                self._channel(status, self._take(DATA_BYTES[status & 0xF0]))
            else:
                raise ValueError("it holds a byte that means nothing")
        for (_, pitch), starts in self._held.items():
            for start, velocity in starts:
                self._note(pitch, start, velocity)

    def _meta(self, kind: int, text: bytes) -> None:
        if kind == TRACK_NAME:
            self.name = text.decode("utf-8", "replace")
        elif kind == SET_TEMPO and len(text) == 3 and _big(text):
            self.tempi[self.length_beats] = 60_000_000.0 / _big(text)

    def _channel(self, status: int, body: bytes) -> None:
        kind, key = status & 0xF0, (status & 0x0F, body[0])
        if kind == 0x90 and body[1]:
            self._held[key].append((self.length_beats, body[1]))
        elif kind in (0x80, 0x90) and self._held[key]:
            self._note(body[0], *self._held[key].popleft())

    def _note(self, pitch: int, start: float, velocity: int) -> None:
        if self.length_beats > start:
            self.notes.append(MidiNote(pitch, start, self.length_beats, velocity))

    def _take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        if len(taken) < count:
            raise ValueError("it ends in the middle of an event")
        self._position += count
        return taken

    def _length(self) -> int:
        value = 0
        for _ in range(4):
            byte = self._take(1)[0]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise ValueError("it holds a length that does not end")


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _order(note: MidiNote) -> tuple[float, int]:
    return note.start_beats, note.pitch
