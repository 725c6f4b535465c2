"""A true-peak limiter with look-ahead, and the loudness that a finished mix is brought to with it.

The gain never rises above what any peak within the look-ahead allows, and it moves along a smooth
curve: no clipping, no clicks, no latency.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import (
    Samples,
    amplitude_to_db,
    db_to_amplitude,
    loudness_lufs,
    oversampled_peak,
    true_peak_dbtp,
)

LOOKAHEAD_S = 0.02  # how long the gain takes down to a peak, and up again
CLOSE_LU = 0.05
MAX_ROUNDS = 10
MOST_LIMITING_DB = 20.0
SAFETY_DB = 0.05  # the smooth gain shifts peaks between samples by a hair


def master(
    samples: Samples,
    sample_rate_hz: int,
    target_lufs: float,
    ceiling_dbtp: float,
    on_round: Callable[[], None],
) -> Samples:
    """Bring (channels, frames) to the loudness, with no true peak above the ceiling.

    Silence stays silence. Where both can't be had, such as for a single click, the ceiling holds: peaks
    are pressed by `MOST_LIMITING_DB` at most. `on_round` is called every second or so and may raise.
    """
    loudness = loudness_lufs(samples, sample_rate_hz)
    if not math.isfinite(loudness):
        return samples
    peaks = peaks_of(samples, sample_rate_hz)
    gain_db = target_lufs - loudness
    most_db = max(gain_db, ceiling_dbtp - amplitude_to_db(float(peaks.max())) + MOST_LIMITING_DB)
    for _ in range(MAX_ROUNDS):
        on_round()
        mastered = limit(samples, peaks, sample_rate_hz, gain_db, ceiling_dbtp)
        miss_lu = target_lufs - loudness_lufs(mastered, sample_rate_hz)
        if abs(miss_lu) < CLOSE_LU or gain_db >= most_db:
            break
        gain_db = min(gain_db + miss_lu, most_db)
    excess_db = true_peak_dbtp(mastered, sample_rate_hz) - ceiling_dbtp
    return mastered if excess_db <= 0 else mastered * np.float32(db_to_amplitude(-excess_db - SAFETY_DB))


def limit(
    samples: Samples, peaks: npt.NDArray[np.float32], sample_rate_hz: int, gain_db: float, ceiling_dbtp: float
) -> Samples:
    """`samples` louder by `gain_db`, every one of `peaks` (from `peaks_of`) kept below the ceiling."""
    room = db_to_amplitude(ceiling_dbtp - SAFETY_DB)
    allowed = np.minimum(db_to_amplitude(gain_db), room / np.maximum(peaks, 1e-9))
    return (samples * _smooth(allowed, round(LOOKAHEAD_S * sample_rate_hz))).astype(np.float32)


def peaks_of(samples: Samples, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """The true peak around each frame over all channels, (frames,)."""
    block, margin = 10 * sample_rate_hz, 64  # in blocks, since oversampling takes four times the memory
    peaks = np.empty(samples.shape[1], dtype=np.float32)
    for start in range(0, samples.shape[1], block):
        first = max(0, start - margin)
        around = oversampled_peak(samples[:, first : start + block + margin])
        peaks[start : start + block] = around[start - first : start - first + block]
    return peaks


def _smooth(allowed: npt.NDArray[np.float32], lookahead: int) -> npt.NDArray[np.float32]:
    """A smooth curve that stays at or below `allowed`: a running minimum, then two running means.

    The means reach `lookahead` frames either side together, as far as the minimum does, so that none
    of the values they average is above the one in the middle.
    """
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    lowest = minimum_filter1d(allowed.astype(np.float64), 2 * lookahead + 1)
    half = lookahead // 2
    means = uniform_filter1d(uniform_filter1d(lowest, 2 * half + 1), 2 * (lookahead - half) + 1)
    return cast("npt.NDArray[np.float32]", means.astype(np.float32))
