"""The key of notes, and the pitch classes of scales. The models hear every piece in C major or A minor."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bridge.errors import InputError
from bridge.transformer.tokens import DRUMS, LENGTH, LENGTHS_STEPS, PART, PITCH, Rows

TONICS: Mapping[str, int] = {
    "C": 0, "C#": 1, "Db": 1, "D": 2, "D#": 3, "Eb": 3, "E": 4, "Fb": 4, "F": 5, "E#": 5, "F#": 6, "Gb": 6,
    "G": 7, "G#": 8, "Ab": 8, "A": 9, "A#": 10, "Bb": 10, "B": 11, "Cb": 11, "B#": 0,
}  # fmt: skip
SCALES: Mapping[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "chromatic": tuple(range(12)),
}
# Krumhansl and Kessler (1982): how well each degree fits a major and a minor key.
MAJOR_PROFILE = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR_PROFILE = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
FLAT_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def scale_of(key: str) -> frozenset[int]:
    """Pitch classes (0 = C) of a key such as "C major", "F# minor", "D dorian" or "Am".

    Raises:
        InputError: no such tonic or scale.
    """
    tonic, name = read_key(key)
    return frozenset((tonic + step) % 12 for step in SCALES[name])


def read_key(key: str) -> tuple[int, str]:
    """Tonic (0 = C) and scale, one of SCALES, of a key such as "F# minor" or "Am".

    Raises:
        InputError: no such tonic or scale.
    """
    match = re.fullmatch(r"\s*([A-Ga-g][#b]?)\s*(.*?)\s*", key)
    tonic = TONICS.get(match[1][0].upper() + match[1][1:]) if match else None
    name = {"": "major", "m": "minor"}.get(match[2], match[2].lower()) if match else ""
    if tonic is None or name not in SCALES:
        raise InputError(
            f'"{key}" is no key. Name a tonic and a scale, such as "C major", "F# minor" or "D dorian"; '
            f"scales are {', '.join(SCALES)}."
        )
    return tonic, name


def key_of(rows: Rows) -> tuple[int, str]:
    """Tonic and mode of rows, each note weighted by its length; drums left out."""
    pitched = rows[rows[:, PART] < DRUMS]
    lengths_steps = np.array(LENGTHS_STEPS, float)[pitched[:, LENGTH]]
    return find_key(np.bincount(pitched[:, PITCH] % 12, lengths_steps, minlength=12).astype(np.float64))


def find_key(weights: npt.NDArray[np.float64]) -> tuple[int, str]:
    """Tonic (0 = C) and "major" or "minor" of 12 pitch-class weights, by Krumhansl's correlation.

    Silence gives C major.
    """
    if weights.std() == 0.0:
        return 0, "major"
    best = max(
        (float(np.corrcoef(np.roll(profile, tonic), weights)[0, 1]), tonic, mode)
        for mode, profile in (("major", MAJOR_PROFILE), ("minor", MINOR_PROFILE))
        for tonic in range(12)
    )
    return best[1], best[2]


def key_name(tonic: int, mode: str) -> str:
    """Such as "Eb major"."""
    return f"{FLAT_NAMES[tonic]} {mode}"


def semitones_to_c(tonic: int, mode: str) -> int:
    """How far to transpose a key so that it becomes C major or A minor: -6 to +5."""
    relative = tonic if mode == "major" else tonic + 3
    return (-relative + 6) % 12 - 6
