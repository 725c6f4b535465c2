"""How strongly each pitch class sounds over time, tuned to the song itself, from the peaks of a plain STFT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.analysis.spectrum import RATE_HZ, Array, Signal, blocks, magnitudes

HOP_FRAMES = 1024
HOP_S = HOP_FRAMES / RATE_HZ  # about 46 ms
_WINDOW_FRAMES = 4096
_LOWEST_HZ, _BASS_TOP_HZ, _HIGHEST_HZ = 36.0, 220.0, 2000.0
_COMPRESSION = 0.75
_FIFTH_HARMONIC = 0.2  # against its fundamental, after compression
_FAINT = 0.001  # peaks 60 dB under full scale are left out


@dataclass(frozen=True)
class Chroma:
    """(frames, 12) magnitudes from C to B: of everything, and of the bass register alone."""

    all: Array
    bass: Array
    tuning_semitones: float  # how far the song lies from A = 440 Hz, -0.5 .. 0.5

    def between(self, start_s: float, end_s: float, *, bass: bool = False) -> Array:
        """The mean over a stretch of time, (12,)."""
        source = self.bass if bass else self.all
        first = min(max(0, round(start_s / HOP_S)), len(source) - 1)
        return np.asarray(source[first : max(first + 1, round(end_s / HOP_S))].mean(axis=0))


def find_chroma(signal: Signal) -> Chroma:
    """Pitch classes of the spectral peaks of mono audio at `RATE_HZ`.

    A peak's frequency is interpolated, so that low notes a few bins apart are told from each other; its
    magnitude is compressed, so that one loud part does not hide the others. The fifth harmonic of the bass, which
    makes every minor chord sound a little major, is taken off.
    """
    frames, pitch, weight = _spectral_peaks(signal)
    length = max(1, -(-signal.size // HOP_FRAMES))
    angle = np.angle(np.sum(weight * np.exp(2j * np.pi * pitch))) if pitch.size else 0.0
    tuning = float(angle / (2 * np.pi))
    nearest = np.round(pitch - tuning)
    weight = weight * np.exp(-0.5 * ((pitch - tuning - nearest) / 0.2) ** 2)
    where = frames * 12 + nearest.astype(np.int64) % 12
    low = pitch < _to_pitch(np.array(_BASS_TOP_HZ))
    bass = _gathered(where[low], weight[low], length)
    thirds = _FIFTH_HARMONIC * np.roll(bass, 4, axis=1)
    return Chroma(np.maximum(0.0, _gathered(where, weight, length) - thirds), bass, tuning)


def _spectral_peaks(signal: Signal) -> tuple[npt.NDArray[np.int64], Array, Array]:
    """Frame numbers, MIDI pitches with fraction, and compressed magnitudes of all local maxima in range."""
    found = [_block_peaks(signal, first, last) for first, last in blocks(signal.size, HOP_FRAMES)]
    frame, hz, magnitude = (np.concatenate(part) for part in zip(*found, strict=True))
    return frame, _to_pitch(hz), magnitude**_COMPRESSION


def _block_peaks(signal: Signal, first: int, last: int) -> tuple[npt.NDArray[np.int64], Array, Array]:
    level = magnitudes(signal, first, last, _WINDOW_FRAMES, HOP_FRAMES)
    inner = level[:, 1:-1]
    frame, column = np.nonzero((inner > level[:, :-2]) & (inner >= level[:, 2:]) & (inner > _FAINT))
    left, mid, right = (np.log(level[frame, column + k] + 1e-12) for k in (0, 1, 2))
    curve = np.minimum(left - 2 * mid + right, -1e-9)
    bins = column + 1 + np.clip(0.5 * (left - right) / curve, -0.5, 0.5)
    hz = bins * RATE_HZ / _WINDOW_FRAMES
    keep = (hz >= _LOWEST_HZ) & (hz <= _HIGHEST_HZ)
    return frame[keep] + first, hz[keep], np.exp(mid[keep])


def _gathered(where: npt.NDArray[np.int64], weight: Array, length: int) -> Array:
    return np.asarray(np.bincount(where, weight, minlength=length * 12).reshape(length, 12))


def _to_pitch(hz: Array) -> Array:
    return np.asarray(69.0 + 12.0 * np.log2(hz / 440.0))
