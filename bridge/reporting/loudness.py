"""Loudness of a whole recording in one pass over its blocks: integrated, range, short-term curve, true peak.

ITU-R BS.1770-4 with pyloudnorm's filters, and the loudness range of EBU Tech 3342. `bridge.audio` measures
what is in memory; this measures a file of any length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import soundfile

from bridge import audio

HOP_S = 0.1
SHORT_TERM_S = 3.0
_MOMENTARY_HOPS, _SHORT_TERM_HOPS = 4, 30
_HOPS_PER_BLOCK = 100
_OVERLAP_FRAMES = 64  # what the oversampling filter looks back
_K_WEIGHTING = ((4.0, 0.5**0.5, 1500.0, "high_shelf"), (0.0, 0.5, 38.0, "high_pass"))  # as pyloudnorm's meter
_GATE_LUFS, _GATE_LU, _RANGE_GATE_LU = -70.0, -10.0, -20.0

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Loudness:
    """-inf stands for silence, and for what is shorter than a window."""

    integrated_lufs: float
    true_peak_dbtp: float
    range_lu: float  # 0 where nothing passes the gates
    short_term_lufs: Array  # (hops,) over `SHORT_TERM_S` up to each hop's end, every `HOP_S`


def measure(path: Path, report: Callable[[], None]) -> Loudness:
    """Measure a file; `report` is called once per block."""
    power, peak_dbtp = _hop_power(path, report)
    momentary, short_term = _means(power, _MOMENTARY_HOPS), _means(power, _SHORT_TERM_HOPS)
    return Loudness(
        integrated_lufs=_to_lufs(_gated(momentary, _GATE_LU)).item(),
        true_peak_dbtp=peak_dbtp,
        range_lu=_range_lu(short_term),
        short_term_lufs=_to_lufs(short_term),
    )


def _hop_power(path: Path, report: Callable[[], None]) -> tuple[Array, float]:
    """K-weighted power of all channels in each whole hop, and the true peak in dBTP."""
    from pyloudnorm import IIRfilter
    from scipy.signal import lfilter

    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        hop = round(HOP_S * rate)
        filters = [IIRfilter(*parameters, rate, kind) for *parameters, kind in _K_WEIGHTING]
        states = [np.zeros((file.channels, 2)) for _ in filters]
        power, peak_db, before = [], float("-inf"), np.zeros((file.channels, 0), np.float32)
        for block in file.blocks(hop * _HOPS_PER_BLOCK, dtype="float32", always_2d=True):
            report()
            samples = np.ascontiguousarray(block.T)
            peak_db = max(peak_db, audio.true_peak_dbtp(np.hstack([before, samples]), rate))
            before = samples[:, -_OVERLAP_FRAMES:]
            weighted = samples.astype(np.float64)
            for index, each in enumerate(filters):
                weighted, states[index] = lfilter(each.b, each.a, weighted, axis=1, zi=states[index])
            hops = weighted.shape[1] // hop
            whole = np.square(weighted[:, : hops * hop]).reshape(-1, hops, hop)  # -> (channels, hops, frames)
            power.append(whole.mean(axis=2).sum(axis=0))
    return np.concatenate(power), peak_db


def _means(power: Array, hops: int) -> Array:
    """The mean over each `hops` hops in a row; none where there are fewer."""
    sums = np.cumsum(np.insert(power, 0, 0.0))
    return np.maximum(sums[hops:] - sums[:-hops], 0.0) / hops


def _gated(power: Array, relative_lu: float) -> Array:
    """Mean power of what passes the absolute gate and then the relative one; 0 where nothing does."""
    loud = power[_to_lufs(power) >= _GATE_LUFS]
    loud = loud[_to_lufs(loud) > _to_lufs(loud.mean()) + relative_lu] if loud.size else loud
    return cast(Array, np.asarray(loud.mean() if loud.size else 0.0))


def _range_lu(short_term: Array) -> float:
    loud = short_term[_to_lufs(short_term) >= _GATE_LUFS]
    if not loud.size:
        return 0.0
    levels = _to_lufs(loud)
    low, high = np.percentile(levels[levels >= _to_lufs(loud.mean()) + _RANGE_GATE_LU], (10, 95))
    return float(high - low)


def _to_lufs(power: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(-0.691 + 10.0 * np.log10(power))
