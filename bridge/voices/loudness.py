"""The singer's loudness carried over to the converted voice, moment by moment, and the consonants kept.

Engines flatten dynamics, swallow quiet syllables and smear an s into metal. The gain follows the original's short-time
level within bounds; unvoiced sound gets its treble, which holds no one's pitch, from the original.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples
from bridge.voices.f0 import HOP_S, F0Track

WINDOW_HOPS = 5  # 50 ms: longer than a low voice's period
SMOOTH_HOPS = 3
MOST_DB = 15.0
BEHIND_DB = 40.0  # what lies so far under the loud moments is a pause: never raised
TREBLE_HZ = 4000.0
TREBLE_SHARE = 0.3  # of a consonant's power lies above: an s, a t, an sh

Levels = npt.NDArray[np.float64]


def carry_loudness(converted: Samples, original: Samples, sample_rate_hz: int, f0: F0Track) -> Samples:
    """`converted` as loud as `original` in every 50 ms, within 15 dB; both (channels, frames), `f0` of the original."""
    if converted.shape[1] < 2 * WINDOW_HOPS * HOP_S * sample_rate_hz:
        return converted
    wanted_db = _level_db(original, sample_rate_hz)
    gain_db = np.clip(wanted_db - _level_db(converted, sample_rate_hz), -MOST_DB, MOST_DB)
    pause = wanted_db < np.quantile(wanted_db, 0.98) - BEHIND_DB
    gain_db = np.where(pause, np.minimum(gain_db, 0.0), gain_db)
    gain = 10.0 ** (_at_frames(_mean(gain_db, SMOOTH_HOPS), converted.shape[1], sample_rate_hz) / 20.0)
    levelled = (converted * gain.astype(np.float32)).astype(np.float32)
    return _keep_consonants(levelled, original, sample_rate_hz, ~pause & _is_unvoiced(f0, pause.size))


def _is_unvoiced(f0: F0Track, hops: int) -> npt.NDArray[np.bool_]:
    return np.asarray(f0.hz[np.minimum(np.arange(hops), f0.hz.size - 1)] == 0)


def _keep_consonants(
    converted: Samples, original: Samples, rate: int, may_be: npt.NDArray[np.bool_]
) -> Samples:
    """In the hops where one may be and much of the power lies in the treble, the treble is the original's."""
    if rate / 2 <= TREBLE_HZ:
        return converted
    theirs, ours = (_treble(samples, rate) for samples in (original, converted))
    share = 10.0 ** ((_level_db(theirs, rate) - _level_db(original, rate)) / 10.0)
    consonant = (may_be & (share > TREBLE_SHARE)).astype(np.float64)
    weight = _at_frames(_mean(consonant, SMOOTH_HOPS), converted.shape[1], rate).astype(np.float32)
    return converted + weight * (theirs - ours)


def _treble(samples: Samples, rate: int) -> Samples:
    """Above 4 kHz, without a shift in time."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(3, TREBLE_HZ, "highpass", fs=rate, output="sos")
    return cast(Samples, sosfiltfilt(sections, samples, axis=1).astype(np.float32))


def _level_db(samples: Samples, rate: int) -> Levels:
    """Of all channels in 50 ms around each hop; (hops,)."""
    frames = samples.shape[1]
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64).mean(axis=0))])
    middles = np.arange(int(frames / rate / HOP_S) + 1) * HOP_S * rate
    reach = WINDOW_HOPS * HOP_S * rate / 2
    first = np.clip(np.round(middles - reach), 0, frames - 1).astype(int)
    last = np.clip(np.round(middles + reach), 1, frames).astype(int)
    return cast(Levels, 10.0 * np.log10((power[last] - power[first]) / (last - first) + 1e-10))


def _mean(values: Levels, hops: int) -> Levels:
    from scipy.ndimage import uniform_filter1d

    return cast(Levels, uniform_filter1d(values, hops, mode="nearest"))


def _at_frames(values: Levels, frames: int, rate: int) -> Levels:
    """One value per frame from one per hop, straight between."""
    return cast(Levels, np.interp(np.arange(frames), np.arange(values.size) * HOP_S * rate, values))
