"""Musical time that never goes back: the song's beats, moved by whole bars at each jump.

Pure. Notes, plans and what was heard all count on this axis; its bar lines are the multiples of a bar. A loop that
jumps back on a bar line goes on here without a seam. While the transport stands, the axis runs on at the last
tempo, so that what is played then has a place too; it is `rolling` only with the transport.
"""

from __future__ import annotations

import math

from bridge.tempo import bpm_to_beat_ns, ns_to_beat
from bridge.types import BeatLine

SEAM_BEATS = 0.05  # how far a loop's jump may miss its bar line, by jitter


class Axis:
    """Where we are. `line` is in axis beats."""

    def __init__(self, now_ns: int, bpm: float, bar_beats: float, from_beat: float = 0.0) -> None:
        self.line = BeatLine(from_beat, now_ns, bpm_to_beat_ns(bpm))
        self.is_rolling = False
        self.bar_beats = bar_beats
        self.moved_beats = 0.0  # axis minus song

    def beat(self, now_ns: int) -> float:
        """Axis beats at a moment."""
        return ns_to_beat(self.line, now_ns)

    def song_beat(self, beat: float) -> float:
        """Where an axis beat since the last jump stands in the song."""
        return beat - self.moved_beats

    def roll(self, song: BeatLine, now_ns: int) -> bool:
        """The transport starts or jumps; True where time goes on without a seam."""
        before = self.beat(now_ns)
        there = ns_to_beat(song, now_ns)
        bars = math.ceil((before - there - SEAM_BEATS) / self.bar_beats)
        self.moved_beats = bars * self.bar_beats
        self.is_rolling = True
        self.follow(song)
        return abs(there + self.moved_beats - before) <= SEAM_BEATS

    def follow(self, song: BeatLine) -> None:
        """The clock knows its own line better now."""
        self.line = BeatLine(song.beat + self.moved_beats, song.at_ns, song.beat_ns)

    def stop(self, now_ns: int) -> None:
        """The transport stands; the axis runs on by itself."""
        self.line = BeatLine(self.beat(now_ns), now_ns, self.line.beat_ns)
        self.is_rolling = False

    def set_bar(self, bar_beats: float, now_ns: int) -> None:
        """Another metre: bar lines are multiples of the new bar from the song's start."""
        if bar_beats == self.bar_beats:
            return
        song = BeatLine(self.song_beat(self.line.beat), self.line.at_ns, self.line.beat_ns)
        self.bar_beats = bar_beats
        if self.is_rolling:
            self.roll(song, now_ns)
