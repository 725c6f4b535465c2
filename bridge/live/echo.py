"""Drops what comes back of our own output: a DAW that monitors a track may send our notes to our input again.

Pure. As Notochord does, an incoming note that equals one just sent is taken for its echo; each sent one excuses one.
"""

from __future__ import annotations

from collections import deque

from bridge.live import wire

WINDOW_NS = 60_000_000  # several audio periods there and back


class EchoFilter:
    """Compares what comes in with what left."""

    def __init__(self, sent: deque[tuple[int, bytes]], window_ns: int = WINDOW_NS) -> None:
        self.dropped = 0
        self._sent = sent  # (moment, message), filled by the player's thread
        self._window_ns = window_ns
        self._recent: list[tuple[int, bytes]] = []

    def is_echo(self, message: bytes, at_ns: int) -> bool:
        """Did we send this note-on or note-off within the window before?"""
        if not (wire.is_note_on(message) or wire.is_note_off(message)):
            return False
        while self._sent:
            self._recent.append(self._sent.popleft())
        self._recent = [sent for sent in self._recent if at_ns - sent[0] <= self._window_ns]
        for index, (_, sent) in enumerate(self._recent):
            if _same(sent, message):
                del self._recent[index]
                self.dropped += 1
                return True
        return False


def _same(sent: bytes, heard: bytes) -> bool:
    if wire.is_note_off(sent):  # a DAW may turn it into a note-on of velocity 0, or give it a velocity
        return wire.is_note_off(heard) and sent[1] == heard[1] and sent[0] & 0x0F == heard[0] & 0x0F
    return sent == heard
