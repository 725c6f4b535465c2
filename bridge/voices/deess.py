"""De-essing: a converted voice's s sounds are brought down to where they belong, and its vowels left alone.

A split-band compressor: what lies between 5 and 9 kHz is turned down for as long as it stands further above the voice's
own rest than sibilants usually do.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples

BAND_HZ = (5000.0, 9000.0)
ALLOWED_DB = -12.0  # an s of the band may stand this far under the loudest vowel around it
RATIO = 4.0  # what passes it is pressed by so much at full strength
MOST_DB = 15.0
WINDOW_S, HOP_S = 0.012, 0.003
VOICE_S = 0.4  # the loudness of the voice around an s, by its loudest moments

Levels = npt.NDArray[np.float64]


def deess(samples: Samples, sample_rate_hz: int, strength: float) -> Samples:
    """`samples`, (channels, frames), with their sibilants turned down; `strength` 0..1, 0 changes no bit.

    All channels get the same gain, so that the image stands still.
    """
    if strength <= 0.0 or BAND_HZ[1] >= sample_rate_hz / 2:
        return samples
    band = _band(samples, sample_rate_hz)
    hop = round(HOP_S * sample_rate_hz)
    band_db, rest_db = _level_db(band, sample_rate_hz, hop), _level_db(samples - band, sample_rate_hz, hop)
    over_db = np.maximum(0.0, band_db - _around(rest_db) - ALLOWED_DB)
    is_sibilant = band_db > rest_db  # in a bright vowel the rest is louder
    cut_db = np.where(is_sibilant, np.minimum(MOST_DB, over_db * (1.0 - 1.0 / RATIO)), 0.0)
    if not cut_db.any():
        return samples
    gain = _gain(-strength * cut_db, samples.shape[1], hop)
    return cast(Samples, (samples + band * (gain - np.float32(1.0))).astype(np.float32))


def _band(samples: Samples, rate: int) -> Samples:
    """5 to 9 kHz without a shift in time: filtered forwards and backwards."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(2, BAND_HZ, "bandpass", fs=rate, output="sos")
    padding = min(3 * rate // 100, samples.shape[1] - 1)
    return cast(Samples, sosfiltfilt(sections, samples, axis=1, padlen=padding).astype(np.float32))


def _level_db(samples: Samples, rate: int, hop: int) -> Levels:
    """Of all channels, in windows around the middle of each hop; (hops,)."""
    from scipy.ndimage import uniform_filter1d

    count = -(-samples.shape[1] // hop)
    padded = np.pad(samples, ((0, 0), (0, count * hop - samples.shape[1])))
    power = np.square(padded, dtype=np.float64).reshape(len(samples), count, hop).mean(axis=(0, 2))
    smooth = uniform_filter1d(power, max(1, round(WINDOW_S / HOP_S)), mode="nearest")
    return cast(Levels, 10.0 * np.log10(np.maximum(smooth, 1e-10)))


def _around(rest_db: Levels) -> Levels:
    """How loud the voice is around each hop: its loudest moment within the window."""
    from scipy.ndimage import maximum_filter1d

    return cast(Levels, maximum_filter1d(rest_db, round(VOICE_S / HOP_S), mode="nearest"))


def _gain(gain_db: Levels, frames: int, hop: int) -> npt.NDArray[np.float32]:
    """(frames,) from one gain per hop, smoothed over a window and straight between the hops."""
    from scipy.ndimage import uniform_filter1d

    smooth = uniform_filter1d(gain_db, max(1, round(WINDOW_S / HOP_S)), mode="nearest")
    middles = (np.arange(gain_db.size) + 0.5) * hop
    return cast(
        "npt.NDArray[np.float32]",
        (10.0 ** (np.interp(np.arange(frames), middles, smooth) / 20.0)).astype(np.float32),
    )
