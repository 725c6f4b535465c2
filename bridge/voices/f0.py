"""The fundamental frequency of a voice over time, by two trackers that check each other.

Praat's autocorrelation (Boersma 1993) is the finer one, swift-f0's network the one that noise misleads less. A Viterbi
search over what both offer, and over the octaves beside it, picks the path that the evidence and the singer's
inertia make likely: so one tracker's octave errors are mended by the other and by the notes around them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

HOP_S = 0.01
FLOOR_HZ, CEILING_HZ = 65.0, 1100.0  # a low bass voice; a soprano's high C
TRACKER_HZ = 16_000  # both trackers work at this rate

_UNVOICED = 0.8  # evidence that the best pitch must pass, of at most 2: one for each tracker
_OCTAVE_COST = 0.8  # of a jump by an octave, between neighbouring hops
_VOICING_COST = 0.15  # of a start or an end of voiced sound
_OCTAVE_PRIOR = 0.1  # per octave: between f and f/2 with equal evidence the higher one is the truth
_SUBHARMONIC = 0.7  # whatever repeats at f repeats at f/2 as well: how much that counts against f/2
_OCTAVE_BELOW = 0.3  # of the network's confidence counts for the octave above: in fast glides it hears f/2
_CANDIDATES = 5  # of Praat's per hop
_NEAR_SEMITONES = 0.5  # two trackers that differ by less mean the same pitch
_SMOOTH_HOPS = 5
_SHORTEST_HOPS = 3
_SILENT = 1e-6

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class F0Track:
    """f0 at hop n, which stands at n * HOP_S seconds from the samples' first frame."""

    hz: npt.NDArray[np.float64]  # (hops,), 0.0 where unvoiced
    confidence: npt.NDArray[np.float64]  # (hops,), how sure the trackers are, in [0, 1]


@dataclass(frozen=True)
class _Offers:
    """What the trackers offer for each hop."""

    octaves: Array  # (hops, states) log2 of Hz; NaN where there is no such candidate
    strength: Array  # (hops, states) how well each tracker's ear is met: of at most 2, one for each
    evidence: Array  # the same less what speaks against subharmonics; -inf where there is no such candidate


def track_f0(mono: npt.NDArray[np.float32], sample_rate_hz: int, *, mend: bool = True) -> F0Track:
    """f0 of one voice, (frames,) or (1, frames) float32; as many hops as begin in the samples.

    `mend=False` gives Praat's own track, octave errors and all.
    """
    import soxr

    signal = np.asarray(mono, dtype=np.float32).reshape(-1)
    hops = int(signal.size / sample_rate_hz / HOP_S) + 1
    signal = soxr.resample(signal, sample_rate_hz, TRACKER_HZ)
    signal -= signal.mean() if signal.size else 0.0
    if signal.size < 4 * TRACKER_HZ / FLOOR_HZ or np.abs(signal).max() < _SILENT:
        return F0Track(np.zeros(hops), np.zeros(hops))
    pitch = _praat(signal)
    if not mend:
        return _praat_alone(pitch, hops)
    offers = _join(_praat_offers(pitch, hops), _swift(signal, hops))
    path = _likeliest(offers)
    return _smooth(_track(offers, path))


def _praat(signal: npt.NDArray[np.float32]) -> Any:
    import parselmouth

    return parselmouth.Sound(signal.astype(np.float64), TRACKER_HZ).to_pitch_ac(
        time_step=HOP_S, pitch_floor=FLOOR_HZ, pitch_ceiling=CEILING_HZ
    )


def _hops_of(pitch: Any, hops: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The frame of `pitch` nearest to each hop, and whether there is one within a hop of it."""
    exact = (np.arange(hops) * HOP_S - pitch.x1) / pitch.dx
    frame = np.clip(np.round(exact).astype(np.intp), 0, pitch.nx - 1)
    return frame, np.abs(exact - frame) < 1.0


def _praat_alone(pitch: Any, hops: int) -> F0Track:
    frame, inside = _hops_of(pitch, hops)
    chosen = pitch.selected_array[frame]
    hz = np.where(inside, chosen["frequency"], 0.0)
    return F0Track(hz, np.where(hz > 0, np.clip(chosen["strength"], 0.0, 1.0), 0.0))


def _praat_offers(pitch: Any, hops: int) -> _Offers:
    """Praat's strongest candidates at each hop, shape (hops, _CANDIDATES)."""
    frame, inside = _hops_of(pitch, hops)
    found = pitch.to_array()[:, frame].T  # (candidates, frames) -> (hops, candidates)
    if found.shape[1] < _CANDIDATES:
        missing = np.zeros((hops, _CANDIDATES - found.shape[1]), dtype=found.dtype)
        found = np.concatenate([found, missing], axis=1)
    hz, strength = found["frequency"], np.clip(np.nan_to_num(found["strength"]), 0.0, 1.0)
    usable = (hz >= FLOOR_HZ) & (hz <= CEILING_HZ) & inside[:, np.newaxis]
    order = np.argsort(np.where(usable, -strength, 1.0), axis=1)[:, :_CANDIDATES]
    hz, strength, usable = (np.take_along_axis(values, order, axis=1) for values in (hz, strength, usable))
    octaves = np.where(usable, np.log2(np.maximum(hz, 1.0)), np.nan)
    evidence = strength - _SUBHARMONIC * _strongest_multiple(octaves, strength)
    return _Offers(octaves, np.where(usable, strength, 0.0), np.where(usable, evidence, -np.inf))


def _strongest_multiple(octaves: Array, strength: Array) -> Array:
    """The strength of the best candidate at 2, 3 or 4 times each candidate's pitch, (hops, candidates)."""
    up = octaves[:, np.newaxis, :] - octaves[:, :, np.newaxis]  # (hops, candidate, other)
    multiple = np.zeros(up.shape)
    for factor in (2, 3, 4):
        multiple = np.maximum(multiple, _likeness(up, np.float64(np.log2(factor))))
    return cast(Array, (multiple * strength[:, np.newaxis, :]).max(axis=2))


@functools.lru_cache(maxsize=1)
def _network() -> Any:
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1, spin=False)


def _swift(signal: npt.NDArray[np.float32], hops: int) -> tuple[Array, Array]:
    """The network's log2 of Hz and its confidence in [0, 1], (hops,) each."""
    found = _network().detect(signal, TRACKER_HZ, FLOOR_HZ, CEILING_HZ)
    at_s = np.arange(hops) * HOP_S
    nearest = np.clip(np.searchsorted(found.timestamps, at_s), 1, len(found.timestamps) - 1)
    nearest -= at_s - found.timestamps[nearest - 1] < found.timestamps[nearest] - at_s
    octaves = np.log2(np.maximum(found.pitch_hz, 1.0))
    between = np.interp(at_s, found.timestamps, octaves)
    glides = np.abs(between - octaves[nearest]) < 1 / 12  # else between two notes: no pitch lies there
    confidence = np.interp(at_s, found.timestamps, found.confidence)
    return np.where(glides, between, octaves[nearest]), np.clip(confidence, 0.0, 1.0)


def _join(praat: _Offers, swift: tuple[Array, Array]) -> _Offers:
    """All candidates with the evidence of both: Praat's, the network's, and the octaves beside the latter."""
    pitch, confidence = swift
    beside = pitch[:, np.newaxis] + np.array([0.0, -1.0, 1.0])
    octaves = np.concatenate([praat.octaves, beside], axis=1)  # (hops, candidates + 3)
    at, above = (_likeness(octaves, pitch[:, np.newaxis] + octave) for octave in (0.0, 1.0))
    from_swift = confidence[:, np.newaxis] * np.maximum(at, _OCTAVE_BELOW * above)
    shares = _likeness(octaves[:, :, np.newaxis], praat.octaves[:, np.newaxis, :])
    strength, evidence = (
        from_swift + (shares * np.maximum(values, 0.0)[:, np.newaxis, :]).max(axis=2)
        for values in (praat.strength, praat.evidence)
    )
    low, high = np.log2([FLOOR_HZ, CEILING_HZ])
    usable = np.isfinite(octaves) & (octaves >= low) & (octaves <= high)
    return _Offers(octaves, np.where(usable, strength, 0.0), np.where(usable, evidence, -np.inf))


def _likeness(octaves: Array, other: Array | np.float64) -> Array:
    """1 for the same pitch, 0 from a semitone on; 0 where either is missing."""
    apart = np.abs(octaves - other) * 12.0 / _NEAR_SEMITONES
    return np.nan_to_num(np.clip(2.0 - apart, 0.0, 1.0))


def _likeliest(offers: _Offers) -> npt.NDArray[np.intp]:
    """The state of each hop, (hops,): 0 is unvoiced, n is candidate n - 1. Viterbi, forwards and back."""
    hops, states = offers.octaves.shape
    pitch = np.nan_to_num(offers.octaves, nan=0.0)
    gains = np.concatenate([np.full((hops, 1), _UNVOICED), offers.evidence + _OCTAVE_PRIOR * pitch], axis=1)
    gains[:, 1:] -= _OCTAVE_PRIOR * np.log2(FLOOR_HZ)
    came_from = np.zeros((hops, states + 1), dtype=np.intp)
    score = gains[0].copy()
    costs = np.full((states + 1, states + 1), _VOICING_COST)
    costs[0, 0] = 0.0
    for hop in range(1, hops):
        jump = np.abs(pitch[hop][:, np.newaxis] - pitch[hop - 1][np.newaxis, :])
        costs[1:, 1:] = np.minimum(jump, 1.5) * _OCTAVE_COST
        total = score[np.newaxis, :] - costs
        came_from[hop] = total.argmax(axis=1)
        score = total.max(axis=1) + gains[hop]
    path = np.zeros(hops, dtype=np.intp)
    path[-1] = score.argmax()
    for hop in range(hops - 1, 0, -1):
        path[hop - 1] = came_from[hop, path[hop]]
    return path


def _track(offers: _Offers, path: npt.NDArray[np.intp]) -> F0Track:
    """Where Praat's candidate and the network's mean the same pitch, Praat's is the finer."""
    hops = np.arange(path.size)
    voiced = path > 0
    chosen = offers.octaves[hops, np.maximum(path - 1, 0)]
    praats = offers.octaves[:, :_CANDIDATES]
    apart = np.nan_to_num(np.abs(praats - chosen[:, np.newaxis]), nan=np.inf)
    nearest = apart.argmin(axis=1)
    finer = apart[hops, nearest] < _NEAR_SEMITONES / 12
    octaves = np.where(finer, praats[hops, nearest], chosen)
    strength = offers.strength[hops, np.maximum(path - 1, 0)] / 2.0
    confidence = np.where(voiced, strength, 1.0 - offers.strength.max(axis=1) / 2.0)
    hz = np.where(voiced, np.exp2(np.where(voiced, octaves, 0.0)), 0.0)
    return F0Track(hz, np.clip(confidence, 0.0, 1.0))


def _smooth(track: F0Track) -> F0Track:
    """Medians within each voiced stretch; scraps too short to be sung are dropped."""
    from scipy.ndimage import median_filter

    hz = track.hz.copy()
    for start, end in voiced_runs(track.hz):
        stretch = slice(start, end)
        if end - start < _SHORTEST_HOPS:
            hz[stretch] = 0.0
        else:
            hz[stretch] = median_filter(track.hz[stretch], _SMOOTH_HOPS, mode="nearest")
    return F0Track(hz, track.confidence)


def voiced_runs(hz: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """(first hop, hop after the last) of each stretch with a pitch."""
    edges = np.flatnonzero(np.diff(np.pad((hz > 0).astype(np.int8), 1)))
    return cast("list[tuple[int, int]]", list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)))
