"""Mel spectrograms of whole recordings, and how alike two of them are moment by moment.

Recordings are read block by block and pooled to as many columns as a picture shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import soundfile

BANDS = 96
LOWEST_HZ, HIGHEST_HZ = 30.0, 16_000.0
RANGE_DB = 80.0
_WINDOW_S = 0.09
_MOST_COLUMNS = 640
_MOST_MOMENTS = 160
_HOPS_PER_BLOCK = 128
_FAINTEST_POWER = 1e-14

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spectrogram:
    """Power by mel band and time; a full-scale sine lies near 0 dB."""

    level_db: Array  # (bands, columns), low bands first
    seconds: float
    highest_hz: float

    def band_of(self, hz: float) -> float:
        """The (fractional) row whose middle lies at `hz`."""
        low, at, high = to_mel([LOWEST_HZ, hz, self.highest_hz])
        return float((at - low) / (high - low) * (BANDS + 1) - 1.0)


def spectrogram(path: Path, report: Callable[[], None]) -> Spectrogram:
    """The mean power of all channels; `report` is called once per block."""
    with soundfile.SoundFile(path) as file:
        rate, frames = file.samplerate, file.frames
        window_frames = 2 ** round(np.log2(_WINDOW_S * rate))
        hop = int(np.clip(frames // _MOST_COLUMNS, window_frames // 8, window_frames // 2))
        highest_hz = min(HIGHEST_HZ, rate / 2)
        weights = _mel_weights(rate, window_frames, highest_hz)
        hops = max(1, -(-(frames - window_frames) // hop) + 1)
        columns = min(hops, _MOST_COLUMNS)
        power = np.zeros((columns, BANDS))
        first = 0
        block_frames = window_frames + (_HOPS_PER_BLOCK - 1) * hop
        for block in file.blocks(
            block_frames, window_frames - hop, dtype="float32", always_2d=True, fill_value=0.0
        ):
            report()
            some = _band_power(block, window_frames, hop, weights)[: hops - first]
            np.add.at(power, (first + np.arange(len(some))) * columns // hops, some)
            first += len(some)
    counts = np.bincount(np.arange(hops) * columns // hops, minlength=columns)
    level_db = 10.0 * np.log10(np.maximum(power / counts[:, np.newaxis], _FAINTEST_POWER))
    return Spectrogram(level_db.T, frames / rate, highest_hz)


def to_mel(hz: npt.ArrayLike) -> Array:
    """The mel scale of O'Shaughnessy, as in HTK."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz, np.float64) / 700.0))


def likeness(first: Spectrogram, second: Spectrogram) -> Array:
    """Pearson correlation between each moment of `first` and each of `second`, (moments, moments), -1..1.

    Each band counts from its own mean, so that it tells what changes and not what all music has in
    common; a moment that differs in no band from the mean is like none.
    """
    a, b = (_unit_moments(s) for s in (first, second))
    return a @ b.T


def _band_power(
    block: npt.NDArray[np.float32], window_frames: int, hop: int, weights: npt.NDArray[np.float32]
) -> Array:
    """(frames, channels) -> (hops, bands)"""
    window = np.hanning(window_frames).astype(np.float32)
    scale = 2.0 / float(window.sum())
    total = np.zeros(())
    for channel in block.T:
        slices = np.lib.stride_tricks.sliding_window_view(channel, window_frames)[::hop]
        spectrum = np.abs(_rfft(slices * window)) * np.float32(scale)
        total = total + np.square(spectrum) @ weights
    return cast(Array, total / block.shape[1])


def _rfft(slices: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
    from scipy.fft import rfft  # numpy's works in double precision, at twice the cost

    return cast("npt.NDArray[np.complex64]", rfft(slices, axis=-1))


def _mel_weights(rate: int, window_frames: int, highest_hz: float) -> npt.NDArray[np.float32]:
    """(bins, bands) triangles, equally wide in mel; bands narrower than a bin take the nearest one."""
    bins_mel = to_mel(np.fft.rfftfreq(window_frames, 1.0 / rate))
    edges = np.linspace(float(to_mel(LOWEST_HZ)), float(to_mel(highest_hz)), BANDS + 2)
    rise = (bins_mel[:, np.newaxis] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins_mel[:, np.newaxis]) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rise, fall))
    nearest = np.argmin(np.abs(bins_mel[:, np.newaxis] - edges[1:-1]), axis=0)
    empty = weights.sum(axis=0) == 0.0
    weights[nearest[empty], empty] = 1.0
    return np.asarray(weights, np.float32)


def _unit_moments(spectrum: Spectrogram) -> Array:
    """(moments, bands), each of mean 0 and length 1, or all 0."""
    level_db = np.maximum(spectrum.level_db, spectrum.level_db.max() - RANGE_DB).T
    moments = min(len(level_db), _MOST_MOMENTS)
    edges = np.arange(moments) * len(level_db) // moments
    pooled = np.add.reduceat(level_db, edges) / np.diff(np.append(edges, len(level_db)))[:, np.newaxis]
    pooled -= pooled.mean(axis=0)
    pooled -= pooled.mean(axis=1, keepdims=True)
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    return cast(Array, np.divide(pooled, length, out=np.zeros_like(pooled), where=length > 1e-6))
