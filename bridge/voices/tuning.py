"""Tuning toward the song's key: each note's middle moves, its vibrato and the glides between notes stay.

Notes are found by a Viterbi search for semitones that are held; the median of each goes to the nearest degree of the
scale, or, where an accidental is sung on purpose, to the nearest semitone. The reference is A = 440 Hz.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.voices.f0 import HOP_S, F0Track, voiced_runs

NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 9, 10, 11)}
"""Semitones above the tonic; in minor the sixth and seventh are sung both ways."""
ON_PURPOSE_SEMITONES = 0.65  # whoever is so far from the scale sings an accidental
SHORTEST_NOTE_S = 0.08
VIBRATO_S = 0.19  # one period: its mean over that long is the note's middle
GLIDE_S = 0.06  # one correction goes over into the next

_CHANGE_COST = 3.0  # of another note, in hops that are a semitone off
_LOWEST, _HIGHEST = 30, 96  # MIDI

Semitones = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Note:
    """Hops [start, end) of a track, and by how much they should rise."""

    start: int
    end: int
    correction: float  # semitones


def tune(f0: F0Track, key: str, strength: float) -> F0Track:
    """`f0` with its notes moved by `strength` (0..1) of the way to the key, such as "C major".

    Strength 0 or no key ("") gives the very track back.
    """
    scale = _scale(key)
    if strength <= 0.0 or not scale:
        return f0
    hz = f0.hz.copy()
    for start, end in voiced_runs(f0.hz):
        pitch = 69.0 + 12.0 * np.log2(f0.hz[start:end] / 440.0)
        correction = _corrections(pitch, scale)
        hz[start:end] *= np.exp2(strength * correction / 12.0)
    return F0Track(hz, f0.confidence)


def _scale(key: str) -> frozenset[int]:
    """The pitch classes of the key; none where it names no key."""
    tonic, _, mode = key.partition(" ")
    if tonic not in NAMES or mode not in SCALES:
        return frozenset()
    return frozenset((NAMES.index(tonic) + step) % 12 for step in SCALES[mode])


def _corrections(pitch: Semitones, scale: frozenset[int]) -> Semitones:
    """In semitones per hop: constant within each note, gliding between them."""
    from scipy.ndimage import uniform_filter1d

    notes = [note for note in _notes(pitch, scale) if (note.end - note.start) * HOP_S >= SHORTEST_NOTE_S]
    if not notes:
        return np.zeros_like(pitch)
    hops = [hop for note in notes for hop in (note.start, note.end - 1)]
    held = np.interp(np.arange(pitch.size), hops, [note.correction for note in notes for _ in "ab"])
    return np.asarray(uniform_filter1d(held, round(GLIDE_S / HOP_S), mode="nearest"))


def _notes(pitch: Semitones, scale: frozenset[int]) -> list[_Note]:
    from scipy.ndimage import uniform_filter1d

    middle = uniform_filter1d(pitch, min(pitch.size, round(VIBRATO_S / HOP_S)), mode="nearest")
    path = _held(middle)
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), path.size]
    notes = []
    for start, end in itertools.pairwise(edges):
        sung = float(np.median(middle[start:end]))
        notes.append(_Note(start, end, _target(sung, scale) - sung))
    return notes


def _held(middle: Semitones) -> npt.NDArray[np.intp]:
    """The semitone of each hop, (hops,): the path of the least error, where every change costs the same."""
    semitones = np.arange(_LOWEST, _HIGHEST + 1)
    errors = np.minimum(np.square(middle[:, np.newaxis] - semitones), 1.0)  # (hops, semitones)
    came_from = np.zeros(errors.shape, dtype=np.intp)
    cost = errors[0].copy()
    stays = np.arange(semitones.size)
    for hop in range(1, middle.size):
        best = int(cost.argmin())
        staying = cost <= cost[best] + _CHANGE_COST
        came_from[hop] = np.where(staying, stays, best)
        cost = np.where(staying, cost, cost[best] + _CHANGE_COST) + errors[hop]
    path = np.zeros(middle.size, dtype=np.intp)
    path[-1] = cost.argmin()
    for hop in range(middle.size - 1, 0, -1):
        path[hop - 1] = came_from[hop, path[hop]]
    return path


def _target(sung: float, scale: frozenset[int]) -> float:
    near = [n for n in range(int(sung) - 2, int(sung) + 4) if n % 12 in scale]
    nearest = min(near, key=lambda n: abs(n - sung))
    return float(nearest if abs(nearest - sung) <= ON_PURPOSE_SEMITONES else round(sung))
