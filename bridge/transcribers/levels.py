"""How loud one pitch is around one moment: the first partials in mono audio at 22 050 Hz."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE_HZ = 22_050
HOP = 256
WINDOW = 1024
N_FFT = 2048
PARTIALS = (1, 2, 3, 4)
AFTER_FRAMES = 8  # 93 ms
BEFORE_FRAMES = 6  # 70 ms


def level_after_db(samples: npt.NDArray[np.float32], pitch: int, second: float) -> float:
    """The highest level within 93 ms after `second`, in dB on a scale of its own; `samples` (1, frames)."""
    frame = round(second * RATE_HZ / HOP)
    return _db(_partials(samples, pitch, range(frame, frame + AFTER_FRAMES)).max())


def rise_db(samples: npt.NDArray[np.float32], pitch: int, second: float) -> float:
    """How far the level rises from its lowest in the 70 ms before `second` to its highest after it."""
    frame = round(second * RATE_HZ / HOP)
    before = _partials(samples, pitch, range(frame - BEFORE_FRAMES, frame + 1))
    return level_after_db(samples, pitch, second) - _db(before.min())


def _partials(samples: npt.NDArray[np.float32], pitch: int, frames: range) -> npt.NDArray[np.float64]:
    """Power of the partials in each frame; the audio counts as silent beyond its ends."""
    first = frames.start * HOP - WINDOW // 2
    last = (frames.stop - 1) * HOP + WINDOW // 2
    piece = samples[0, max(0, first) : max(0, last)]
    piece = np.pad(piece, (max(0, -first), 0))
    piece = np.pad(piece, (0, last - first - len(piece)))
    windows = np.lib.stride_tricks.sliding_window_view(piece, WINDOW)[::HOP]  # (frames, WINDOW)
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), N_FFT)) ** 2  # (frames, bins)
    total = np.zeros(len(power))
    for partial in PARTIALS:
        bin_ = round(440.0 * 2 ** ((pitch - 69) / 12) * partial * N_FFT / RATE_HZ)
        total += power[:, max(1, bin_ - 1) : bin_ + 2].sum(axis=1)
    return total


def _db(power: float) -> float:
    return float(10.0 * np.log10(power + 1e-9))
