"""FFT cross-correlation between two recordings: how alike they are at each lag, and at which lag most.

It is the measure of the paper this bridge follows. Recordings are read block by block and brought to a
low rate first, so that 20 minutes need some tens of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import soundfile

from bridge.analysis.spectrum import heard_mono
from bridge.audio import Samples

RATE_HZ = 4000
FLOOR_DB = -80.0
_BLOCK_FRAMES = 1 << 18
_MOST_BINS = 500

Signal = npt.NDArray[np.float32]
"""(frames,) mono at `RATE_HZ`."""


@dataclass(frozen=True)
class Correlation:
    """How a recording follows a reference; a positive lag means that it comes later."""

    highest: float  # the normalised correlation of largest magnitude, -1..1
    lag_s: float  # where it lies
    at_zero: float  # the normalised correlation without any shift
    raw: float  # the paper's "max absolute correlation": a sum of products, not normalised
    lags_s: npt.NDArray[np.float64]  # (bins,)
    power_db: npt.NDArray[np.float64]  # (bins,) the largest squared correlation around each lag


def read_signal(path: Path, report: Callable[[], None]) -> Signal:
    """A recording as mono at `RATE_HZ`, frame 0 staying frame 0; `report` is called once per block."""
    import soxr

    with soundfile.SoundFile(path) as file:
        stream = soxr.ResampleStream(file.samplerate, RATE_HZ, file.channels, dtype="float32")
        pieces = []
        for block in file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
            report()
            pieces.append(stream.resample_chunk(block))
        pieces.append(stream.resample_chunk(np.zeros((0, file.channels), np.float32), last=True))
        frames = round(file.frames * RATE_HZ / file.samplerate)
    samples = cast(Samples, np.ascontiguousarray(np.concatenate(pieces)[:frames].T))
    return cast(Signal, heard_mono(samples)[0])


def correlate(reference: Signal, other: Signal) -> Correlation | None:
    """Correlate at every lag, divided by the energies, so that equal recordings give 1; None for silence."""
    from scipy.fft import irfft, next_fast_len, rfft

    energy = float(
        np.sqrt(np.square(reference, dtype=np.float64).sum() * np.square(other, dtype=np.float64).sum())
    )
    if energy == 0.0:
        return None
    size = next_fast_len(reference.size + other.size - 1, real=True)
    products = irfft(rfft(other, size) * np.conj(rfft(reference, size)), size)
    sums = np.concatenate([products[size - reference.size + 1 :], products[: other.size]])
    earliest = 1 - reference.size
    peak = int(np.argmax(np.abs(sums)))
    lags_s, power_db = _power_db(sums / energy, earliest)
    return Correlation(
        highest=float(sums[peak]) / energy,
        lag_s=(peak + earliest) / RATE_HZ,
        at_zero=float(sums[-earliest]) / energy,
        raw=float(np.abs(sums[peak])),
        lags_s=lags_s,
        power_db=power_db,
    )


def _power_db(
    normalised: npt.NDArray[np.floating[Any]], earliest: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The middles of at most `_MOST_BINS` stretches of lags in seconds, and the largest power in each."""
    edges = np.linspace(0, normalised.size, min(_MOST_BINS, normalised.size), endpoint=False).astype(np.int64)
    power = np.maximum.reduceat(np.square(normalised), edges)
    middles = (edges + np.append(edges[1:], normalised.size) - 1) / 2 + earliest
    return middles / RATE_HZ, 10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR_DB / 10.0)))
