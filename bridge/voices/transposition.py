"""How far a whole song's vocal is moved for a voice: by octaves or not at all, and once for the song.

Any other interval would leave the song's key, and a change within the song is a sudden jump.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bridge.voices.converter import Transposition
from bridge.voices.f0 import F0Track
from bridge.voices.folder import VoiceCard

OCTAVE = 12
STAY_SEMITONES = 8.0
"""How far voice and song may lie apart before an octave is moved: 6 would be half way, 2 more keep a song as it is
that lies between, since a voice strains to either side of its range sooner than it changes register."""


def choose(f0: F0Track, card: VoiceCard) -> Transposition:
    """0, 12 or -12 semitones for a song whose singing is `f0`."""
    if card.transpose != "auto":
        return Transposition(int(card.transpose), f"{_signed(int(card.transpose))}: the voice's card says so")
    sung = f0.hz[f0.hz > 0]
    if card.f0_median_hz is None:
        return Transposition(0, "0: the pitch of the voice is not known (f0_median_hz in its voice.toml)")
    if sung.size == 0:
        return Transposition(0, "0: no pitch was found in the song")
    song_hz = float(np.median(sung))
    apart = OCTAVE * float(np.log2(card.f0_median_hz / song_hz))
    semitones = 0 if abs(apart) <= STAY_SEMITONES else int(np.copysign(OCTAVE, apart))
    where = f"the song lies around {song_hz:.0f} Hz, the voice around {card.f0_median_hz:.0f} Hz"
    if semitones and _share_in_range(sung, card, semitones) < _share_in_range(sung, card, 0):
        return Transposition(0, f"0: {where}, but an octave would leave the voice's range")
    return Transposition(semitones, f"{_signed(semitones)}: {where}")


def _share_in_range(sung: npt.NDArray[np.float64], card: VoiceCard, semitones: int) -> float:
    moved = sung * 2.0 ** (semitones / OCTAVE)
    low, high = card.f0_low_hz or 0.0, card.f0_high_hz or np.inf
    return float(np.mean((moved >= low) & (moved <= high)))


def _signed(semitones: int) -> str:
    return f"{semitones:+d}" if semitones else "0"
