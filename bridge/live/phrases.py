"""What the musician plays, as notes in beats: keys, sustain pedal, and where a phrase may be over.

Pure. A key or pedal that hangs is let go after 16 beats. Notes are told in the order of their onsets, each as soon
as no earlier one can follow, so that whoever learns from them never has to go back.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from dataclasses import dataclass

from bridge.live import wire
from bridge.types import Note

LONGEST_NOTE_BEATS = 16.0
SHORTEST_NOTE_BEATS = 1 / 24
DRUM_CHANNEL = 9
PEDAL_DOWN = 64
CHORD_BEATS = 0.1  # keys struck so close together are one chord
CHORD_MEMORY, CHORDAL = 8, 2  # so many of the last notes joined a chord: chords are played


@dataclass
class _Key:
    start_beats: float
    velocity: int
    is_down: bool = True  # False: only the pedal holds it


class PhraseListener:
    """One musician on any number of channels. Beats rise from call to call."""

    def __init__(self, part: str = "") -> None:
        self.part = (
            part  # who plays on all channels but the drums'; "": `lead`, or `piano` where chords are played
        )
        self.last_onset_beats: float | None = None
        self.last_end_beats = 0.0  # when the last key was let go
        self.notes_heard = 0
        self.phrase_start_beats = 0.0
        self._in_chords: deque[bool] = deque(maxlen=CHORD_MEMORY)  # of the last notes
        self._keys: dict[tuple[int, int], _Key] = {}  # channel, pitch -> what sounds
        self._pedals: set[int] = set()
        self._ended: list[tuple[float, int, Note]] = []  # onset, serial, note
        self._stored = 0
        self.phrase_notes = 0  # notes begun since the phrase began

    @property
    def own_part(self) -> str:
        """The part that the musician's notes belong to."""
        return self.part or ("piano" if sum(self._in_chords) >= CHORDAL else "lead")

    @property
    def notes_per_beat(self) -> float:
        """How dense the phrase is, from its first note to its last key up; 0 where there is none."""
        length = max(self.last_end_beats - self.phrase_start_beats, 1.0)
        return self.phrase_notes / length

    @property
    def keys_down(self) -> int:
        """How many keys the musician holds, the pedal aside."""
        return sum(key.is_down for key in self._keys.values())

    @property
    def earliest_held_beats(self) -> float:
        """Onset of the oldest note that still sounds; infinite if none does."""
        return min((key.start_beats for key in self._keys.values()), default=math.inf)

    def begin_phrase(self) -> None:
        """What comes now belongs to the next phrase."""
        self.phrase_notes = 0

    def hear(self, message: bytes, beat: float) -> bool:
        """Take a channel message; True if a note began."""
        if wire.is_note_on(message):
            self._begin(message[0] & 0x0F, message[1], message[2], beat)
            return True
        if wire.is_note_off(message):
            self._let_go(message[0] & 0x0F, message[1], beat)
        elif len(message) == 3 and message[0] & 0xF0 == wire.CONTROL:
            self._control(message[0] & 0x0F, message[1], message[2], beat)
        return False

    def close_all(self, beat: float) -> None:
        """End what is held; note-offs and pedals that come later find nothing to end."""
        for voice in list(self._keys):
            self._end(voice, beat)

    def jump(self, beat: float, new_beat: float, early_beats: float) -> None:
        """Time goes on at `new_beat`: ends what is held, but what began at most `early_beats` ago begins there."""
        early = {voice: key for voice, key in self._keys.items() if key.start_beats >= beat - early_beats}
        for voice in [voice for voice in self._keys if voice not in early]:
            self._end(voice, beat)
        for key in early.values():
            key.start_beats = new_beat
        self.phrase_notes = len(early)
        if early:
            self.phrase_start_beats = self.last_onset_beats = new_beat

    def release(self, beat: float) -> None:
        """The musician has gone (a port vanished): keys and pedals are up."""
        self.close_all(beat)
        self._pedals.clear()

    def close_hanging(self, beat: float) -> None:
        """End what has been held for longer than any note lasts."""
        for voice, key in list(self._keys.items()):
            if beat - key.start_beats > LONGEST_NOTE_BEATS:
                self._end(voice, key.start_beats + LONGEST_NOTE_BEATS)

    def is_resting(self, beat: float, rest_beats: float) -> bool:
        """Nothing is held, and has not been for `rest_beats` at `beat`."""
        return not self.keys_down and beat - self.last_end_beats >= rest_beats

    def take_settled(self) -> list[Note]:
        """Ended notes that no earlier one can follow any more, by onset; each is told once."""
        earliest = self.earliest_held_beats
        settled = [note for onset, _, note in self._ended if onset <= earliest]
        self._ended = [ended for ended in self._ended if ended[0] > earliest]
        return settled

    def _begin(self, channel: int, pitch: int, velocity: int, beat: float) -> None:
        voice = (channel, pitch)
        if voice in self._keys:  # struck again, under the pedal or without a note-off
            self._end(voice, beat)
        self._in_chords.append(any(beat - key.start_beats <= CHORD_BEATS for key in self._keys.values()))
        self._keys[voice] = _Key(beat, velocity)
        if not self.phrase_notes:
            self.phrase_start_beats = beat
        self.phrase_notes += 1
        self.last_onset_beats = beat
        self.notes_heard += 1

    def _let_go(self, channel: int, pitch: int, beat: float) -> None:
        key = self._keys.get((channel, pitch))
        if key is None or not key.is_down:
            return
        key.is_down = False
        self.last_end_beats = beat
        if channel not in self._pedals:
            self._end((channel, pitch), beat)

    def _control(self, channel: int, number: int, value: int, beat: float) -> None:
        if number in (wire.ALL_SOUND_OFF, wire.ALL_NOTES_OFF):
            for voice in [voice for voice in self._keys if voice[0] == channel]:
                self._end(voice, beat)
        elif number == wire.SUSTAIN and value >= PEDAL_DOWN:
            self._pedals.add(channel)
        elif number == wire.SUSTAIN:
            self._pedals.discard(channel)
            for voice, key in list(self._keys.items()):
                if voice[0] == channel and not key.is_down:
                    self._end(voice, beat)

    def _end(self, voice: tuple[int, int], beat: float) -> None:
        key = self._keys.pop(voice)
        if key.is_down:
            self.last_end_beats = max(self.last_end_beats, beat)
        self._store(voice, key, beat)

    def _store(self, voice: tuple[int, int], key: _Key, beat: float) -> None:
        length = min(max(beat - key.start_beats, SHORTEST_NOTE_BEATS), LONGEST_NOTE_BEATS)
        part = "drums" if voice[0] == DRUM_CHANNEL else self.own_part
        note = Note(key.start_beats, length, voice[1], key.velocity, part)
        self._stored += 1
        insort(self._ended, (key.start_beats, self._stored, note))
