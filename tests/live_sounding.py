"""What an instrument hears: which notes are on after a stream of MIDI messages, and whether the stream made sense."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.live import wire


class Instrument:
    """Keeps the notes that are on."""

    def __init__(self, *, heeds_controllers: bool = True) -> None:
        self.on: set[tuple[int, int]] = set()
        self.struck_twice = 0  # a note-on while the note was on already
        self.notes = 0
        self._heeds_controllers = heeds_controllers  # many synthesizers ignore "all notes off"

    def play(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            channel = message[0] & 0x0F
            if wire.is_note_on(message):
                self.struck_twice += (channel, message[1]) in self.on
                self.on.add((channel, message[1]))
                self.notes += 1
            elif wire.is_note_off(message):
                self.on.discard((channel, message[1]))
            elif self._heeds_controllers and message[0] & 0xF0 == wire.CONTROL and message[1] in (120, 123):
                self.on = {voice for voice in self.on if voice[0] != channel}
