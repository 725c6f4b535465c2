"""Loudness of a whole recording of any length: integrated, range, short-term curve, true peak.

ITU-R BS.1770-4 as `bridge.sound` weighs it, and the loudness range of EBU Tech 3342.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge import sound

HOP_S = 0.1
SHORT_TERM_S = 3.0
_MOMENTARY_HOPS, _SHORT_TERM_HOPS = 4, 30
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
    heard = sound.told(sound.of_file(path), report)
    power = _hop_power(heard)
    momentary, short_term = _means(power, _MOMENTARY_HOPS), _means(power, _SHORT_TERM_HOPS)
    return Loudness(
        integrated_lufs=_to_lufs(_gated(momentary, _GATE_LU)).item(),
        true_peak_dbtp=sound.true_peak_dbtp(heard),
        range_lu=_range_lu(short_term),
        short_term_lufs=_to_lufs(short_term),
    )


def _hop_power(heard: sound.Sound) -> Array:
    """K-weighted power of all channels in each whole hop."""
    hop = round(HOP_S * heard.rate_hz)
    edges = np.arange(heard.frames // hop + 1, dtype=np.int64) * hop
    return sound.weighted_energy(heard, edges) / hop


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
