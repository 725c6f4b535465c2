"""The key of a song: the pitch classes it uses, which of them the bass dwells on, where it begins and ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridge.analysis.chroma import HOP_S, Chroma
from bridge.analysis.spectrum import Array

NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
# Albrecht and Shanahan (2013), "The use of large corpora to train a new type of key-finding algorithm".
_MAJOR = np.array([0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081])
_MINOR = np.array([0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052])
_TRIADS = ((0, 4, 7), (0, 3, 7))
_ROOT_SHARE, _FIRST_SHARE, _LAST_SHARE = 0.15, 0.20, 0.20  # beside the profile's correlation, at most 1
_LEAST_CORRELATION = 0.45
_LEAST_CONTRAST = (
    0.035  # 1 less the entropy of the pitch classes: noise 0.01, drums to 0.05, chords from 0.09
)


@dataclass(frozen=True)
class Key:
    """`name` is such as "C major" or "A minor", or "" where nothing tonal is heard; confidence 0..1."""

    name: str
    confidence: float


def find_key(chroma: Chroma) -> Key:
    """The best of 24 keys.

    Relative keys share their notes, so three small shares tell them apart: whether the bass dwells on the tonic,
    and whether the song's first and last chords are the tonic's.
    """
    heard = chroma.all.sum(axis=0)
    if heard.sum() <= 0 or _contrast(heard) < _LEAST_CONTRAST:
        return Key("", 0.0)
    profile = np.array([_correlations(heard, _MAJOR), _correlations(heard, _MINOR)])  # (modes, tonics)
    if profile.max() < _LEAST_CORRELATION:
        return Key("", 0.0)
    bass = chroma.bass.sum(axis=0)
    first, last = (_triads(part) for part in _first_and_last(chroma.all))
    score = (
        profile
        + _ROOT_SHARE * bass / max(float(bass.max()), 1e-9)
        + _FIRST_SHARE * first
        + _LAST_SHARE * last
    )
    ranked = np.sort(score.ravel())[::-1]
    mode, tonic = divmod(int(np.argmax(score)), 12)
    confidence = float(np.clip((ranked[0] - ranked[1]) / 0.2, 0.0, 1.0) * np.clip(profile.max(), 0.0, 1.0))
    return Key(f"{NAMES[tonic]} {('major', 'minor')[mode]}", confidence)


def _contrast(heard: Array) -> float:
    share = heard / heard.sum()
    return float(1.0 + np.sum(share * np.log(share + 1e-12)) / np.log(12))


def _correlations(heard: Array, profile: Array) -> Array:
    """With the profile on each of the 12 tonics."""
    return np.array([np.corrcoef(heard, np.roll(profile, tonic))[0, 1] for tonic in range(12)])


def _first_and_last(frames: Array) -> tuple[Array, Array]:
    """The pitch classes of the first and of the last second and a half of sound."""
    sounding = np.nonzero(frames.sum(axis=1) > 0.1 * frames.sum(axis=1).max())[0]
    length = round(1.5 / HOP_S)
    return frames[sounding[0] :][:length].sum(axis=0), frames[: sounding[-1] + 1][-length:].sum(axis=0)


def _triads(heard: Array) -> Array:
    """(2, 12): how much of what is heard belongs to the triad of each major and minor tonic, the best one 1."""
    shares = np.array(
        [[heard[[(tonic + k) % 12 for k in triad]].sum() for tonic in range(12)] for triad in _TRIADS]
    )
    rest = heard.sum() - shares
    return np.asarray(np.maximum(0.0, shares - rest) / max(float((shares - rest).max()), 1e-9))
