"""Mono audio at one rate for all analysis, and its short-time spectra, in blocks so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples, resample, rms_db, to_mono

Array = npt.NDArray[np.float64]

RATE_HZ = 22_050
_BLOCK_HOPS = 4096
_CANCELLED_DB = -12.0  # mid against the louder channel; unrelated channels give -3, a silent one beside it -6


def analysis_signal(samples: Samples, sample_rate_hz: int) -> Array:
    """(channels, frames) at any rate as (frames,) mono at `RATE_HZ` without its DC offset."""
    mono = resample(heard_mono(samples), sample_rate_hz, RATE_HZ)[0].astype(np.float64)
    return np.asarray(mono - mono.mean())


def heard_mono(samples: Samples) -> Samples:
    """(channels, frames) as (1, frames): their mean, or the louder one where they are in anti-phase and it cancels."""
    mid = to_mono(samples)
    loudest = max(samples, key=rms_db)[np.newaxis]
    return mid if rms_db(mid) > rms_db(loudest) + _CANCELLED_DB else loudest


def blocks(frames: int, hop_frames: int) -> Iterator[tuple[int, int]]:
    """Ranges of hops, first and one past the last, that together cover `frames`."""
    hops = max(1, -(-frames // hop_frames))
    for first in range(0, hops, _BLOCK_HOPS):
        yield first, min(hops, first + _BLOCK_HOPS)


def magnitudes(
    signal: Array, first: int, last: int, window_frames: int, hop_frames: int, early_frames: int = 0
) -> Array:
    """(last - first, bins) magnitudes, scaled so that a sine at the signal's largest sample gives 1.

    Hop i is centred `early_frames` before frame i * hop_frames; beyond both ends there is silence.
    """
    start = first * hop_frames - window_frames // 2 - early_frames
    stop = (last - 1) * hop_frames - window_frames // 2 - early_frames + window_frames
    inside = signal[max(0, start) : max(0, stop)]
    padded = np.pad(inside, (min(stop - start, max(0, -start)), 0))
    padded = np.pad(padded, (0, stop - start - padded.size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_frames)[::hop_frames]
    window = np.hanning(window_frames)
    full_scale = max(float(np.abs(signal).max(initial=0.0)), 1e-9) * window.sum() / 2
    return np.asarray(np.abs(np.fft.rfft(frames * window)) / full_scale)
