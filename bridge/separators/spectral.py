"""Masks on a short-time spectrum, block by block, so that memory stays bounded and a job can be cancelled.

Frames of 4096 samples every 1024 under a periodic Hann window: 10.8 Hz and 23 ms at 44.1 kHz.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples

FFT = 4096
HOP = 1024
BINS = FFT // 2 + 1

Spectrum = npt.NDArray[np.float32]
"""Magnitudes (channels, frames, BINS)."""

Report = Callable[[float, float], None]


def mask_sounds(
    samples: Samples,
    masks: Callable[[Spectrum], npt.NDArray[np.float32]],
    sounds: int,
    report: Report,
    *,
    block: int = 512,
    context: int = 0,
) -> npt.NDArray[np.float32]:
    """Cut `sounds` sounds out of `samples` (channels, frames): (sounds, channels, frames), in time with them.

    `masks` turns the magnitudes of up to `block` frames, and of `context` more on either side, into gains
    (sounds, channels or 1, those frames, BINS). One `report` per block. A mask of ones gives the input back.
    """
    margin = FFT - HOP  # every sample lies in four frames: the squared windows add up to one constant
    padded = np.pad(samples, ((0, 0), (margin, margin + HOP)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT, axis=1)[:, ::HOP]  # (channels, count, FFT)
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)
    synthesis = window / np.float32(np.sum(window[::HOP] ** 2))
    out = np.zeros((sounds, *padded.shape), dtype=np.float32)
    count = frames.shape[1]
    for first in range(0, count, block):
        report(first, count)
        before = min(first, context)
        spectrum = np.fft.rfft(frames[:, first - before : first + block + context] * window)
        core = slice(before, before + block)
        gains = masks(np.abs(spectrum))[:, :, core]
        for sound, gain in zip(out, gains, strict=True):
            pieces = np.fft.irfft(spectrum[:, core] * gain, FFT) * synthesis
            for i in range(pieces.shape[1]):
                start = (first + i) * HOP
                sound[:, start : start + FFT] += pieces[:, i]
    report(count, count)
    return out[:, :, margin : margin + samples.shape[1]]
