"""Mono audio at one rate for all analysis, and its short-time spectra, in blocks so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples, to_mono
from bridge.sound import Sound, of_array, resampled_mono

Array = npt.NDArray[np.float64]
Signal = npt.NDArray[np.float32] | npt.NDArray[np.float64]
"""(frames,) mono at `RATE_HZ`."""

RATE_HZ = 22_050
_BLOCK_HOPS = 4096
_ENERGY_FRAMES = 1 << 19
_CANCELLED_DB = -12.0  # mid against the louder channel; unrelated channels give -3, a silent one beside it -6


def analysis_signal(heard: Samples | Sound, sample_rate_hz: int) -> Signal:
    """(channels, frames) at any rate as (frames,) float32 mono at `RATE_HZ` without its DC offset."""
    whole = heard if isinstance(heard, Sound) else of_array(heard, sample_rate_hz)
    mono = resampled_mono(whole, heard_line(whole), RATE_HZ)
    mono -= mono.mean(dtype=np.float64).astype(np.float32)
    return mono


def heard_mono(samples: Samples) -> Samples:
    """(channels, frames) as (1, frames): their mean, or the louder one where they are in anti-phase and it cancels."""
    return heard_line(of_array(samples, 1))(samples)


def heard_line(sound: Sound) -> Callable[[Samples], Samples]:
    """What makes each block of a sound mono, (channels, n) -> (1, n), as `heard_mono` does with the whole."""
    mid_energy, energy = 0.0, np.zeros(sound.channels)
    for start in range(0, sound.frames, _ENERGY_FRAMES):
        block = sound.read(start, min(sound.frames, start + _ENERGY_FRAMES))
        mid_energy += float(np.square(to_mono(block), dtype=np.float64).sum())
        energy += np.square(block, dtype=np.float64).sum(axis=1)
    loudest = int(np.argmax(energy))
    if mid_energy > energy[loudest] * 10.0 ** (_CANCELLED_DB / 10.0):
        return to_mono
    return lambda block: block[loudest : loudest + 1]


def blocks(frames: int, hop_frames: int) -> Iterator[tuple[int, int]]:
    """Ranges of hops, first and one past the last, that together cover `frames`."""
    hops = max(1, -(-frames // hop_frames))
    for first in range(0, hops, _BLOCK_HOPS):
        yield first, min(hops, first + _BLOCK_HOPS)


def magnitudes(
    signal: Signal, first: int, last: int, window_frames: int, hop_frames: int, early_frames: int = 0
) -> Array:
    """(last - first, bins) magnitudes, scaled so that a sine at the signal's largest sample gives 1.

    Hop i is centred `early_frames` before frame i * hop_frames; beyond both ends there is silence.
    """
    start = first * hop_frames - window_frames // 2 - early_frames
    stop = (last - 1) * hop_frames - window_frames // 2 - early_frames + window_frames
    inside = signal[max(0, start) : max(0, stop)].astype(np.float64)
    padded = np.pad(inside, (min(stop - start, max(0, -start)), 0))
    padded = np.pad(padded, (0, stop - start - padded.size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_frames)[::hop_frames]
    window = np.hanning(window_frames)
    full_scale = max(largest(signal), 1e-9) * window.sum() / 2
    return np.asarray(np.abs(np.fft.rfft(frames * window)) / full_scale)


def largest(signal: Signal) -> float:
    """Its largest magnitude; no copy is made."""
    return max(float(signal.max(initial=0.0)), -float(signal.min(initial=0.0)))
