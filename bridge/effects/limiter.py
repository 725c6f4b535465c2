"""A true-peak limiter with look-ahead, and the loudness that a finished mix is brought to with it.

The gain never rises above what any peak within the look-ahead allows, and it moves along a smooth
curve: no clipping, no clicks, no latency.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples, amplitude_to_db, db_to_amplitude
from bridge.sound import Sound, loudness_lufs, scaled, true_peak_dbtp, true_peaks

LOOKAHEAD_S = 0.02  # how long the gain takes down to a peak, and up again
CLOSE_LU = 0.05
MAX_ROUNDS = 10
MOST_LIMITING_DB = 20.0
SAFETY_DB = 0.05  # the smooth gain shifts peaks between samples by a hair


def master(sound: Sound, target_lufs: float, ceiling_dbtp: float, on_round: Callable[[], None]) -> Sound:
    """Bring a sound to the loudness, with no true peak above the ceiling.

    Silence stays silence. Where both can't be had, such as for a single click, the ceiling holds: peaks
    are pressed by `MOST_LIMITING_DB` at most. `on_round` is called every second or so and may raise. The sound is
    read several times, so it had better be a file.
    """
    loudness = loudness_lufs(sound)
    if not math.isfinite(loudness):
        return sound
    peaks = true_peaks(sound)
    gain_db = target_lufs - loudness
    most_db = max(gain_db, ceiling_dbtp - amplitude_to_db(float(peaks.max())) + MOST_LIMITING_DB)
    for _ in range(MAX_ROUNDS):
        on_round()
        mastered = limit(sound, peaks, gain_db, ceiling_dbtp)
        miss_lu = target_lufs - loudness_lufs(mastered)
        if abs(miss_lu) < CLOSE_LU or gain_db >= most_db:
            break
        gain_db = min(gain_db + miss_lu, most_db)
    excess_db = true_peak_dbtp(mastered) - ceiling_dbtp
    return mastered if excess_db <= 0 else scaled(mastered, db_to_amplitude(-excess_db - SAFETY_DB))


def limit(sound: Sound, peaks: npt.NDArray[np.float32], gain_db: float, ceiling_dbtp: float) -> Sound:
    """`sound` louder by `gain_db`, every one of `peaks` (from `sound.true_peaks`) kept below the ceiling."""
    room = db_to_amplitude(ceiling_dbtp - SAFETY_DB)
    lookahead = round(LOOKAHEAD_S * sound.rate_hz)

    def read(start: int, stop: int) -> Samples:
        first, last = max(0, start - 2 * lookahead), min(sound.frames, stop + 2 * lookahead)
        allowed = np.minimum(db_to_amplitude(gain_db), room / np.maximum(peaks[first:last], 1e-9))
        gain = _smooth(allowed, lookahead)[start - first : stop - first]
        return (sound.read(start, stop) * gain).astype(np.float32)

    return replace(sound, read=read)


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
