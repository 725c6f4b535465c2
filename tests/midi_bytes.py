"""MIDI files made byte by byte, so that the tests can also make wrong ones."""

from __future__ import annotations

import random
import struct


def number(value: int) -> bytes:
    """A variable-length number."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def event(delta: int, *message: int) -> bytes:
    """A message, `delta` ticks after the one before it."""
    return number(delta) + bytes(message)


def meta(delta: int, kind: int, content: bytes = b"") -> bytes:
    """A meta event."""
    return number(delta) + bytes((0xFF, kind)) + number(len(content)) + content


def on(delta: int, pitch: int, velocity: int = 80, channel: int = 0) -> bytes:
    """A note-on."""
    return event(delta, 0x90 | channel, pitch, velocity)


def off(delta: int, pitch: int, channel: int = 0) -> bytes:
    """A note-off."""
    return event(delta, 0x80 | channel, pitch, 64)


def note(pitch: int, length: int = 480, delta: int = 0, channel: int = 0) -> bytes:
    """A note-on and its note-off, in ticks."""
    return on(delta, pitch, channel=channel) + off(length, pitch, channel)


def named(name: bytes) -> bytes:
    """A track's name."""
    return meta(0, 0x03, name)


def program(value: int, channel: int = 0, delta: int = 0) -> bytes:
    """A program change."""
    return event(delta, 0xC0 | channel, value)


def tempo(microseconds: int, delta: int = 0) -> bytes:
    """A tempo, in microseconds per quarter note."""
    return meta(delta, 0x51, microseconds.to_bytes(3, "big"))


def metre(beats: int, unit_power: int, delta: int = 0) -> bytes:
    """A time signature; its unit is 2 to the power of `unit_power`."""
    return meta(delta, 0x58, bytes((beats, unit_power, 24, 8)))


def chunk(label: bytes, content: bytes) -> bytes:
    """A chunk with its length."""
    return label + struct.pack(">L", len(content)) + content


def track(*events: bytes, end: int = 0) -> bytes:
    """A track chunk whose end lies `end` ticks after its last event."""
    return chunk(b"MTrk", b"".join(events) + meta(end, 0x2F))


def smf(*tracks: bytes, kind: int = 1, ppq: int = 480) -> bytes:
    """A Standard MIDI File."""
    header = struct.pack(">hhh", kind, sum(content[:4] == b"MTrk" for content in tracks), ppq)
    return chunk(b"MThd", header) + b"".join(tracks)


def dense(notes: int) -> bytes:
    """Four parts of so many notes each; 32,400 make three hours at 120 bpm."""
    drawn = random.Random(1)
    parts = []
    for channel in range(4):
        events = [program(channel * 16, channel)]
        for _ in range(notes):
            length = drawn.randrange(60, 260)
            events.append(note(drawn.randrange(40, 80), length, delta=160, channel=channel))
        parts.append(track(*events))
    return smf(*parts)
