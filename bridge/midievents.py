"""The events of a Standard MIDI File, as bytes say them: what `midi` makes notes of.

mido writes our files, but does not read them: it refuses a whole file for a chunk or a key signature that it does
not know, reads 100,000 messages a second, and does not come back from a long run of 0xFF bytes. Here every number
is bounded, so that no file takes longer than its bytes, and only what tells of notes and time is kept.
Format: Standard MIDI Files 1.0 (RP-001).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.errors import InputError

MOST_BYTES = 16_000_000
"""About 20 hours of dense playing."""
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0
META, SYSEX, ESCAPE = 0xFF, 0xF0, 0xF7
TRACK_NAME, MARKER, END_OF_TRACK, SET_TEMPO, TIME_SIGNATURE = 0x03, 0x06, 0x2F, 0x51, 0x58
SUSTAIN = 64
"""The one control change that is kept."""
HEADER = struct.Struct(">hhh")  # type, tracks, ticks per quarter note (negative: SMPTE frames)
CHUNK = struct.Struct(">4sL")
ONE_BYTE = frozenset((0xC0, 0xD0))  # kinds of channel messages with one data byte; the others have two
SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # data bytes of system messages that have any

Message = tuple[int, int, int, int]
"""Ticks since the track began, status byte, first and second data byte (0 where there is none)."""
Meta = tuple[int, int, bytes]
"""Ticks since the track began, type, content."""


@dataclass(frozen=True)
class RawTrack:
    """One track in its own order: notes, programs and sustain pedal; and what is no sound."""

    messages: tuple[Message, ...]
    metas: tuple[Meta, ...]
    end_tick: int


@dataclass(frozen=True)
class RawFile:
    """The tracks of a file, and what its ticks mean."""

    ppq: int  # ticks per quarter note
    tracks: tuple[RawTrack, ...]


class _Damage(Exception):
    """What is wrong with the bytes."""


def read_events(data: bytes, name: str) -> RawFile:
    """All tracks of a type 0 or 1 file; chunks of other kinds are passed over.

    Raises:
        InputError: no MIDI file, damaged, cut off, too long, of type 2, or timed in SMPTE frames; `name` says which.
    """
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{name} holds {len(data) / 1e6:.0f} MB of MIDI; {MOST_BYTES / 1e6:.0f} MB is the most. Export a part of it."
        )
    try:
        kind, tracks, ppq = _header(data)
        if kind == 2 or ppq <= 0:
            what = "of type 2" if kind == 2 else "timed in SMPTE frames"
            raise InputError(
                f"{name} is a MIDI file {what}. Export it as type 1 with ticks per quarter note."
            )
        read = tuple(_track(data, first, last) for first, last in _track_chunks(data))
        if len(read) < tracks:
            raise _Damage(f"cut off: it holds {len(read)} of {tracks} tracks")
    except _Damage as exc:
        raise InputError(
            f"{name} is no MIDI file that can be read ({exc}). Export it again as type 1."
        ) from exc
    return RawFile(ppq, read)


def _header(data: bytes) -> tuple[int, int, int]:
    if len(data) < CHUNK.size + HEADER.size:
        raise _Damage("cut off" if data else "empty")
    label, size = CHUNK.unpack_from(data)
    kind, tracks, ppq = HEADER.unpack_from(data, CHUNK.size)
    if label != b"MThd" or size < HEADER.size or kind not in (0, 1, 2):
        raise _Damage("it does not begin as one does")
    return kind, tracks, ppq


def _track_chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """First and last place (exclusive) of each track's content."""
    place = 0
    while place + CHUNK.size <= len(data):
        label, size = CHUNK.unpack_from(data, place)
        place += CHUNK.size
        if label == b"MTrk":
            if place + size > len(data):
                raise _Damage("cut off in a track")
            yield place, place + size
        place += size


def _track(data: bytes, place: int, end: int) -> RawTrack:
    messages: list[Message] = []
    metas: list[Meta] = []
    tick = status = 0
    track = memoryview(data)[:end]
    try:
        while place < end:
            delta, place = _number(track, place)
            tick += delta
            byte = track[place]
            if byte >= 0x80:
                place += 1
            if byte < 0x80 and not status:
                raise _Damage("a message without a status")
            if byte >= SYSEX:
                place, meta = _beyond_channels(track, place, byte)
                if meta is not None and meta[0] == END_OF_TRACK:
                    break
                if meta is not None:
                    metas.append((tick, *meta))
                continue
            status = byte if byte >= 0x80 else status
            kind = status & 0xF0
            first = track[place]
            second = 0 if kind in ONE_BYTE else track[place + 1]
            place += 1 if kind in ONE_BYTE else 2
            if kind <= NOTE_ON or kind == PROGRAM or (kind == CONTROL and first == SUSTAIN):
                messages.append((tick, status, min(first, 127), min(second, 127)))
    except IndexError as exc:
        raise _Damage("a track ends within a message") from exc
    return RawTrack(tuple(messages), tuple(metas), tick)


def _beyond_channels(track: memoryview, place: int, status: int) -> tuple[int, tuple[int, bytes] | None]:
    """Where a meta, exclusive or system message ends, and a meta event's type and content."""
    if status not in (META, SYSEX, ESCAPE):
        return place + SYSTEM_BYTES.get(status, 0), None
    kind = track[place] if status == META else 0
    size, place = _number(track, place + (status == META))
    if place + size > len(track):
        raise IndexError
    content = bytes(track[place : place + size]) if status == META else b""
    return place + size, (kind, content) if status == META else None


def _number(track: memoryview, place: int) -> tuple[int, int]:
    """A variable-length number of at most four bytes, and the place after it."""
    value = 0
    for _ in range(4):
        byte = track[place]
        place += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place
    raise _Damage("a number that never ends")
