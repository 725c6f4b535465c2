"""How much of the room is in a recording: how fast sound dies away after the voice stops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples

Array = npt.NDArray[np.float64]

HOP_S = 0.01
LEAST_FALL_DB = 20.0
LEAST_FALL_HOPS = 5
ABOVE_FLOOR_DB = 6.0
SLOWER_QUANTILE = 0.75  # a mouth may close as fast as it likes: the slower falls tell of the room
FEWEST_FALLS = 4


def decay_s(mono: Samples, sample_rate_hz: int) -> float | None:
    """Seconds for a fall by 60 dB, from the falls at the ends of words; None where there are too few.

    It is longer than the reverberation time of the room in a dry recording, since words take time to end, and near
    it where the room is loud. About 0.1 to 0.35 is dry, over 0.6 is heard as a room.
    """
    level_db = _levels(mono[0], round(HOP_S * sample_rate_hz))
    floor = float(np.quantile(level_db, 0.05))
    times = []
    for start, end in _falls(level_db):
        kept = level_db[start:end]
        kept = kept[kept > floor + ABOVE_FLOOR_DB]
        if kept.size >= LEAST_FALL_HOPS and kept[0] - kept[-1] >= LEAST_FALL_DB:
            slope = np.polyfit(np.arange(kept.size) * HOP_S, kept, 1)[0]
            times.append(-60.0 / float(slope))
    return float(np.quantile(times, SLOWER_QUANTILE)) if len(times) >= FEWEST_FALLS else None


def _levels(samples: npt.NDArray[np.float32], hop: int) -> Array:
    """Level of each hop in dB, smoothed over five."""
    hops = samples.size // hop
    power = np.square(samples[: hops * hop].reshape(hops, hop), dtype=np.float64).mean(axis=1)
    smooth = np.convolve(power, np.ones(5) / 5.0, "same")
    return 10.0 * np.log10(smooth + 1e-12)


def _falls(level_db: Array) -> list[tuple[int, int]]:
    """Stretches in which the level only falls, but for ripples under 1 dB."""
    falls, start = [], 0
    lowest = level_db[0] if level_db.size else 0.0
    for at in range(1, level_db.size):
        if level_db[at] > lowest + 1.0:
            falls.append((start, at))
            start, lowest = at, level_db[at]
        elif level_db[at] < lowest:
            lowest = level_db[at]
        if level_db[at] >= level_db[start]:
            start, lowest = at, level_db[at]
    return [*falls, (start, level_db.size)]
