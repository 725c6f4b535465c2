"""MIDI bytes on the wire: whole messages out of what a port delivers, and the few messages that we send.

Pure. A port may deliver running status, half a message, real-time bytes in between, or a megabyte of system
exclusive: the reader gives whole messages, forgets sysex without keeping it, and never raises.
"""

from __future__ import annotations

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0
SONG_POSITION, CLOCK, START, CONTINUE, STOP = 0xF2, 0xF8, 0xFA, 0xFB, 0xFC
SUSTAIN, ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 64, 120, 121, 123
CHANNELS = 16
DATA_BYTES = {
    0x80: 2,
    0x90: 2,
    0xA0: 2,
    0xB0: 2,
    0xC0: 1,
    0xD0: 1,
    0xE0: 2,
    0xF1: 1,
    0xF2: 2,
    0xF3: 1,
    0xF6: 0,
}
"""How many data bytes follow a status: channel messages by their upper half, system common ones whole."""
SYSEX, END_OF_SYSEX, FIRST_REAL_TIME = 0xF0, 0xF7, 0xF8


class Reader:
    """One port's stream of bytes."""

    def __init__(self) -> None:
        self.broken = 0  # bytes and messages that made no sense
        self.sysex_bytes = 0  # passed over
        self._message = bytearray()  # begun, with its status byte
        self._in_sysex = False

    def feed(self, data: bytes) -> list[bytes]:
        """The whole messages that `data` completes; what it begins is kept for the next call."""
        messages: list[bytes] = []
        for byte in data:
            if byte >= FIRST_REAL_TIME:
                messages.append(bytes((byte,)))
            elif byte >= 0x80:
                self._status(byte, messages)
            else:
                self._data(byte, messages)
        return messages

    def _status(self, byte: int, messages: list[bytes]) -> None:
        if len(self._message) > 1:
            self.broken += 1  # half a message
        self._in_sysex = byte == SYSEX
        self._message.clear()
        if byte in (SYSEX, END_OF_SYSEX):
            return
        needed = DATA_BYTES.get(_kind(byte))
        if needed is None:
            self.broken += 1
        elif needed == 0:
            messages.append(bytes((byte,)))
        else:
            self._message.append(byte)

    def _data(self, byte: int, messages: list[bytes]) -> None:
        if self._in_sysex:
            self.sysex_bytes += 1
            return
        if not self._message:
            self.broken += 1
            return
        self._message.append(byte)
        status = self._message[0]
        if len(self._message) > DATA_BYTES[_kind(status)]:
            messages.append(bytes(self._message))
            del self._message[1 if status < SYSEX else 0 :]  # running status is for channel messages only


def note_on(channel: int, pitch: int, velocity: int) -> bytes:
    """`channel` 0..15, `pitch` 0..127, `velocity` 1..127."""
    return bytes((NOTE_ON | channel, pitch, velocity))


def note_off(channel: int, pitch: int) -> bytes:
    """`channel` 0..15, `pitch` 0..127."""
    return bytes((NOTE_OFF | channel, pitch, 0))


def control(channel: int, number: int, value: int) -> bytes:
    """`channel` 0..15, `number` and `value` 0..127."""
    return bytes((CONTROL | channel, number, value))


def song_position(sixteenths: int) -> bytes:
    """Where playing begins, in sixteenths from the song's start; MIDI holds 0..16383."""
    held = max(0, min(sixteenths, 0x3FFF))
    return bytes((SONG_POSITION, held & 0x7F, held >> 7))


def everything_off() -> list[bytes]:
    """All channels: no sound, no notes (the first two kinds sent), pedal up, controllers as after power-on."""
    return [
        control(channel, number, 0)
        for number in (ALL_SOUND_OFF, ALL_NOTES_OFF, SUSTAIN, RESET_CONTROLLERS)
        for channel in range(CHANNELS)
    ]


def is_note_on(message: bytes) -> bool:
    """A note begins; a note-on of velocity 0 is a note-off."""
    return len(message) == 3 and message[0] & 0xF0 == NOTE_ON and message[2] > 0


def is_note_off(message: bytes) -> bool:
    """A note ends."""
    return len(message) == 3 and (
        message[0] & 0xF0 == NOTE_OFF or (message[0] & 0xF0 == NOTE_ON and message[2] == 0)
    )


def _kind(status: int) -> int:
    return status & 0xF0 if status < SYSEX else status
