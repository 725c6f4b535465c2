"""An accompaniment without vocals, split into drums, bass and other by what is known of their sound alone.

Drums: what is percussive, that is short in time and broad in frequency. Bass: the harmonic rest of the low
band. Approximate, but it needs no weights, and all masks are real, so nothing moves in time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples
from bridge.separators.spectral import BINS, FFT, Spectrum, mask_sounds
from bridge.types import Stem

MEDIAN = 17  # bins and frames; with FFT 4096 and hop 1024 the values of FitzGerald, DAFx 2010
BASS_HZ = 350.0  # a bass guitar's fundamentals and their first overtones
BASS_STEEPNESS = 8  # of the band's upper edge, as the power in a Butterworth response
TINY = 1e-12


def split(
    accompaniment: Samples, sample_rate_hz: int, report: Callable[[float, float], None]
) -> dict[Stem, Samples]:
    """Drums and bass of `accompaniment`, all (channels, frames) float32; what they leave is `other`."""
    bin_hz = np.arange(BINS) * sample_rate_hz / FFT
    low = (1.0 / (1.0 + (bin_hz / BASS_HZ) ** BASS_STEEPNESS)).astype(np.float32)

    def masks(magnitude: Spectrum) -> npt.NDArray[np.float32]:
        percussive = percussive_mask(magnitude.mean(axis=0, keepdims=True))
        return np.stack((percussive, (1.0 - percussive) * low))

    drums, bass = mask_sounds(accompaniment, masks, 2, report, context=MEDIAN // 2)
    return {"drums": drums, "bass": bass}


def percussive_mask(magnitude: Spectrum) -> Spectrum:
    """The share of energy that is percussive, 0..1, by median filtering along either axis."""
    harmonic = _median(magnitude, axis=1) ** 2
    percussive = _median(magnitude, axis=2) ** 2
    return (percussive + TINY) / (percussive + harmonic + 2 * TINY)


def _median(magnitude: Spectrum, axis: int) -> Spectrum:
    """A running median of `MEDIAN` values; one flat line, which scipy filters ten times as fast as an array."""
    from scipy.ndimage import median_filter

    half = MEDIAN // 2
    rows = np.moveaxis(magnitude, axis, -1)
    padded = np.pad(rows, ((0, 0), (0, 0), (half, half)), mode="reflect")
    filtered = median_filter(padded.ravel(), MEDIAN).reshape(padded.shape)[:, :, half:-half]
    return np.moveaxis(filtered, -1, axis)
