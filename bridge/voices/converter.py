"""What every engine offers to the convert stage: a loaded voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bridge.audio import Samples
from bridge.voices.f0 import F0Track


@dataclass(frozen=True)
class Transposition:
    """How far the whole song's vocal is moved."""

    semitones: int  # -12, 0 or 12, so that the melody stays in the song's key
    reason: str  # one line for the report


class Converter(Protocol):
    """A voice, loaded once, that makes a sung passage its own."""

    def transposition(self, f0: F0Track) -> Transposition:
        """One for the whole song, from the f0 of all that is sung in it."""

    def convert(self, samples: Samples, sample_rate_hz: int, f0: F0Track, semitones: int) -> Samples:
        """`samples`, (channels, frames) float32, in the other voice: the same shape, frame by frame in time.

        `f0` is of these samples, its hop 0 at their first frame, and is what shall be sung before the
        transposition; `semitones` is added to it.
        """
