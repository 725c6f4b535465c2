"""The three built-in voices, as data. They change the singer's own voice and clone nobody.

Pitch moves by whole octaves or not at all, so that the melody stays in the song's key, and its
intervals are never stretched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Character:
    """What is changed about a voice."""

    formant_ratio: float  # below 1: a longer throat, a darker voice; above 1: a shorter, brighter one
    pitch_semitones: int  # 0, 12 or -12


CHARACTERS: Mapping[str, Character] = {
    "deep": Character(formant_ratio=0.84, pitch_semitones=0),
    "bright": Character(formant_ratio=1.18, pitch_semitones=0),
    "giant": Character(formant_ratio=0.76, pitch_semitones=-12),
}
