"""A note as it was heard, and how loud: what every transcriber gives back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LOUD_VELOCITY = 110
"""The velocity of a note at the part's loud level; some room is left above it."""
QUIETEST_VELOCITY = 8


@dataclass(frozen=True)
class PlayedNote:
    """One note in seconds from the stem's first frame."""

    start_s: float
    end_s: float
    pitch: int  # MIDI 0..127; for drums the General MIDI percussion key
    level_db: float  # of its onset, on any scale that is the same for the part, or for this drum


def velocities(levels_db: Sequence[float]) -> list[int]:
    """MIDI velocities 1..127 from onset levels, relative to each other.

    The loud level is the 90th percentile, so that one accent doesn't press all else down. Below it
    velocity falls as General MIDI 2 recommends for playback: level = 40 log10(velocity / 127) dB.
    """
    if not levels_db:
        return []
    loud_db = sorted(levels_db)[int(0.9 * (len(levels_db) - 1))]
    scaled = (LOUD_VELOCITY * 10 ** ((level - loud_db) / 40.0) for level in levels_db)
    return [round(min(127.0, max(float(QUIETEST_VELOCITY), value))) for value in scaled]


def in_order(notes: Iterable[PlayedNote]) -> list[PlayedNote]:
    """By start, then pitch."""
    return sorted(notes, key=lambda n: (n.start_s, n.pitch))
