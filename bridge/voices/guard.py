"""Where no single voice can be heard for sure, a conversion would sing bleed, noise or a choir aloud.

Such passages are found from the trackers' confidence and fall back to the original, faded over. A consonant is
shorter than what counts as a passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples
from bridge.types import Span
from bridge.voices.f0 import HOP_S, F0Track

WINDOW_S = 0.5  # over which trust is judged
LEAST_TRUSTED = 0.4  # of a window's loud hops
SURE = 0.65  # the confidence from which a pitch is trusted: a clean voice has 0.95, a choir 0.45
BEHIND_DB = 25.0  # what lies further under the piece's loud moments is too quiet to disturb
QUIETEST_DB = -60.0
SHORTEST_S, LONGEST_GAP_S = 0.3, 0.3
FADE_S = 0.05

Flags = npt.NDArray[np.bool_]


def find_doubtful(samples: Samples, sample_rate_hz: int, f0: F0Track) -> tuple[Span, ...]:
    """The passages of `samples`, (channels, frames), that should stay as they are; in s from its start."""
    from scipy.ndimage import uniform_filter1d

    level_db = _level_db(samples, sample_rate_hz, f0.hz.size)
    loud = level_db > max(float(np.quantile(level_db, 0.98)) - BEHIND_DB, QUIETEST_DB)
    trusted = loud & (f0.hz > 0) & (f0.confidence >= SURE)
    window = round(WINDOW_S / HOP_S)
    shares = [uniform_filter1d(flags.astype(np.float64), window, mode="nearest") for flags in (trusted, loud)]
    doubtful = loud & (shares[0] < LEAST_TRUSTED * shares[1])
    seconds = samples.shape[1] / sample_rate_hz
    return tuple(Span(start * HOP_S, min(end * HOP_S, seconds)) for start, end in _passages(doubtful))


def fall_back(converted: Samples, original: Samples, spans: Sequence[Span], sample_rate_hz: int) -> Samples:
    """`converted` with `original` in its place within `spans`, faded over just outside them."""
    if not spans:
        return converted
    times_s = np.arange(converted.shape[1]) / sample_rate_hz
    kept = np.zeros(converted.shape[1])
    for span in spans:
        inside = np.minimum(times_s - span.start_s, span.end_s - times_s) / FADE_S + 1.0
        kept = np.maximum(kept, np.clip(inside, 0.0, 1.0))
    return cast(Samples, (converted + (original - converted) * kept).astype(np.float32))


def _level_db(samples: Samples, rate: int, hops: int) -> npt.NDArray[np.float64]:
    """Around each hop, over 40 ms."""
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64).mean(axis=0))])
    middles = np.arange(hops) * HOP_S * rate
    first, last = (
        np.clip(np.round(middles + side * 2 * HOP_S * rate), 0, samples.shape[1]).astype(int)
        for side in (-1, 1)
    )
    return np.asarray(10.0 * np.log10((power[last] - power[first]) / np.maximum(last - first, 1) + 1e-12))


def _passages(doubtful: Flags) -> list[tuple[int, int]]:
    """(first hop, hop after the last), with short gaps closed and scraps dropped."""
    edges = np.flatnonzero(np.diff(np.pad(doubtful.astype(np.int8), 1)))
    merged: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if merged and (start - merged[-1][1]) * HOP_S < LONGEST_GAP_S:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return [(start, end) for start, end in merged if (end - start) * HOP_S >= SHORTEST_S]
