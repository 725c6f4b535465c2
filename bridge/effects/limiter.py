"""A true-peak limiter with look-ahead, and the loudness that a finished mix is brought to with it.

The gain never rises above what any peak within the look-ahead allows, and it moves along a smooth
curve: no clipping, no clicks, no latency.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import amplitude_to_db, db_to_amplitude
from bridge.sound import Levels, Sound, loudness_lufs, scaled, shaped, true_peak_dbtp, true_peaks

HOP_S = 0.0005
LOOKAHEAD_S = 0.02  # how long the gain takes down to a peak, and up again
CLOSE_LU = 0.05
MAX_ROUNDS = 10
MOST_LIMITING_DB = 20.0
SAFETY_DB = 0.05  # the smooth gain shifts peaks between samples by a hair

Peaks = npt.NDArray[np.float32]


def master(sound: Sound, target_lufs: float, ceiling_dbtp: float) -> Sound:
    """Bring a sound to the loudness, with no true peak above the ceiling.

    Silence stays silence. Where both can't be had, such as for a single click, the ceiling holds: peaks
    are pressed by `MOST_LIMITING_DB` at most. The sound is read several times, so it had better be a file.
    """
    loudness = loudness_lufs(sound)
    if not math.isfinite(loudness):  # silence, or so short that it has no loudness
        return _below(sound, ceiling_dbtp)
    peaks = peaks_of(sound)
    gain_db = target_lufs - loudness
    most_db = max(gain_db, ceiling_dbtp - amplitude_to_db(float(peaks.max())) + MOST_LIMITING_DB)
    for _ in range(MAX_ROUNDS):
        mastered = limit(sound, peaks, gain_db, ceiling_dbtp)
        miss_lu = target_lufs - loudness_lufs(mastered)
        if abs(miss_lu) < CLOSE_LU or gain_db >= most_db:
            break
        gain_db = min(gain_db + miss_lu, most_db)
    return _below(mastered, ceiling_dbtp)


def limit(sound: Sound, peaks: Peaks, gain_db: float, ceiling_dbtp: float) -> Sound:
    """`sound` louder by `gain_db`, every one of `peaks` (`peaks_of` it) kept below the ceiling."""
    room = db_to_amplitude(ceiling_dbtp - SAFETY_DB)
    allowed = np.minimum(db_to_amplitude(gain_db), room / np.maximum(peaks, 1e-9))
    return shaped(sound, 20.0 * np.log10(_smooth(allowed)), HOP_S)


def _below(sound: Sound, ceiling_dbtp: float) -> Sound:
    excess_db = true_peak_dbtp(sound) - ceiling_dbtp
    return sound if excess_db <= 0 else scaled(sound, db_to_amplitude(-excess_db - SAFETY_DB))


def peaks_of(sound: Sound) -> Peaks:
    """The true peak within each hop, (hops,)."""
    return true_peaks(sound, round(HOP_S * sound.rate_hz))


def _smooth(allowed: Levels) -> Levels:
    """A smooth curve that stays at or below `allowed`: a running minimum, then two running means.

    The means reach `lookahead` hops either side together, and between two hops the gain is between theirs: one less
    than the minimum reaches, so that none of the values they average is above any that counts.
    """
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    lookahead = round(LOOKAHEAD_S / HOP_S)
    lowest = minimum_filter1d(allowed, 2 * (lookahead + 1) + 1)
    half = lookahead // 2
    return cast(Levels, uniform_filter1d(uniform_filter1d(lowest, 2 * half + 1), 2 * (lookahead - half) + 1))
