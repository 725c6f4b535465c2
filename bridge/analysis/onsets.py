"""Where something is struck: onset strength over time in three bands, and the exact times of attacks.

Times are seconds from the first frame, and an attack's time is where its sound begins, not where it is loudest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bridge.analysis.spectrum import RATE_HZ, Array, Signal, blocks, magnitudes

HOP_FRAMES = 110
HOP_S = HOP_FRAMES / RATE_HZ  # about 5 ms
_WINDOW_FRAMES = 512  # 23 ms
_LAG_HOPS = 2  # the two spectra compared lie this much before and after, 20 ms apart
_EARLY_FRAMES = 176  # 8 ms: log compression lets a peak come this much too early (clicks 10, hats 6.5 ms)
_BAND_EDGES_HZ = (30.0, 160.0, 5000.0, 11_000.0)  # kick and bass; snare and chords; hats
_QUIETEST = 0.003  # partials 50 dB under full scale hardly count
_SURROUNDINGS_S = 0.3  # an onset is what stands out of the mean over this stretch


@dataclass(frozen=True)
class Onsets:
    """Onset strength: value i stands for the time i * `HOP_S`; each band is scaled by its own spread."""

    low: Array
    mid: Array
    high: Array

    @property
    def accents(self) -> Array:
        """What a listener taps to: kick, snare and chords; hats count less, they subdivide."""
        return self.low + self.mid + 0.4 * self.high

    @property
    def seconds(self) -> float:
        """Length of what was analysed."""
        return self.low.size * HOP_S


def find_onsets(signal: Signal) -> Onsets:
    """Onsets of mono audio at `RATE_HZ`: half-wave rectified rise of log magnitude (as SuperFlux, Böck and Widmer 2013) in three bands.

    Comparing two windows that lie nearly side by side puts the peak on the border between them, so
    an attack is stamped where it begins.
    """
    bins_hz = np.fft.rfftfreq(_WINDOW_FRAMES, 1 / RATE_HZ)
    edges = np.searchsorted(bins_hz, _BAND_EDGES_HZ)
    parts = []
    for first, last in blocks(signal.size, HOP_FRAMES):
        level = np.log1p(_magnitudes(signal, first - _LAG_HOPS, last + _LAG_HOPS) / _QUIETEST)
        rise = np.maximum(0.0, level[2 * _LAG_HOPS :] - level[: -2 * _LAG_HOPS])  # (hops, bins)
        parts.append(np.stack([rise[:, i:j].mean(axis=1) for i, j in pairwise(edges)]))
    return Onsets(*(_scaled(_standing_out(band)) for band in np.concatenate(parts, axis=1)))


def attack_times(strength: Array, floor: float = 0.15) -> tuple[Array, Array]:
    """Times in seconds and heights of the peaks of an onset strength, between hops by a parabola.

    Peaks under `floor` times the 98th percentile are left out.
    """
    from scipy.signal import find_peaks

    if strength.size < 3 or strength.max() <= 0:
        return np.zeros(0), np.zeros(0)
    limit = floor * float(np.quantile(strength[strength > 0], 0.98))
    peaks, _ = find_peaks(np.pad(strength, 1), height=limit, distance=round(0.04 / HOP_S))
    peaks = peaks - 1
    inner = np.clip(peaks, 1, strength.size - 2)
    left, mid, right = strength[inner - 1], strength[inner], strength[inner + 1]
    curve = left - 2 * mid + right
    shift = np.where(curve < 0, 0.5 * (left - right) / np.where(curve < 0, curve, -1.0), 0.0)
    times = (peaks + np.where(inner == peaks, np.clip(shift, -0.5, 0.5), 0.0)) * HOP_S
    return np.maximum(0.0, times), strength[peaks]


def _magnitudes(signal: Signal, first: int, last: int) -> Array:
    return magnitudes(signal, first, last, _WINDOW_FRAMES, HOP_FRAMES, _EARLY_FRAMES)


def _standing_out(strength: Array) -> Array:
    from scipy.ndimage import uniform_filter1d

    around = uniform_filter1d(strength, round(_SURROUNDINGS_S / HOP_S))
    return np.asarray(np.maximum(0.0, strength - around))


def _scaled(strength: Array) -> Array:
    spread = float(strength.std())
    return strength / spread if spread > 1e-6 else np.zeros_like(strength)
