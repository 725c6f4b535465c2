"""How a sung passage is cut for a network and put together again: pure arithmetic on samples.

What is quiet and unvoiced stays as it was; the rest is cut at its quietest moments, and neighbours are crossfaded so
that neither a step nor a dip is heard.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples
from bridge.voices.f0 import HOP_S, F0Track

Mono = npt.NDArray[np.float32]
"""(frames,) float32, full scale = 1.0."""

WINDOW_S = 0.05
QUIET_DB = -40.0  # beside the loud parts of the passage
SILENT_DB = -80.0  # whatever the passage is like
LOUD_QUANTILE = 0.95
SHORTEST_GAP_S = 0.3
EDGE_S = 0.02  # of a gap, left to the voice: consonants begin before anything is loud
BALANCE_S = 0.4
LOPSIDED = 0.3  # where the sum of both channels holds less than this share of the louder one, they cancel out


def sung_spans(mono: Mono, rate_hz: int, f0: F0Track) -> list[tuple[int, int]]:
    """Frames [start, end) that are more than a quiet gap. What is voiced never counts as one, however quiet."""
    window = max(1, round(WINDOW_S * rate_hz))
    count = -(-mono.size // window)
    blocks = np.pad(mono, (0, count * window - mono.size)).reshape(count, window)
    level_db = 10.0 * np.log10(np.mean(np.square(blocks, dtype=np.float64), axis=1) + 1e-20)
    threshold = max(SILENT_DB, float(np.quantile(level_db, LOUD_QUANTILE)) + QUIET_DB)
    is_sung = (level_db > threshold) | _voiced_windows(f0, count)
    gaps = _runs(~is_sung, round(SHORTEST_GAP_S / WINDOW_S))
    edge = round(EDGE_S * rate_hz)
    spans, at = [], 0
    for first, last in gaps:
        # Where the passage itself begins or ends, there is nothing to leave an edge to.
        start = first * window + (edge if first else 0)
        end = last * window - (edge if last < count else 0)
        if start > at:
            spans.append((at, start))
        at = end
    if at < mono.size:
        spans.append((at, mono.size))
    return spans


def cuts(level: npt.NDArray[np.float64], longest: int) -> list[int]:
    """Where to cut something of len(level) hops: 0, ..., len(level), no more than `longest` apart.

    Each cut is at the lowest `level` in the second half of what would be the longest chunk, the last of several.
    """
    found = [0]
    while level.size - found[-1] > longest:
        earliest, latest = found[-1] + longest // 2, found[-1] + longest
        found.append(latest - 1 - int(np.argmin(level[earliest:latest][::-1])))
    return [*found, level.size]


def join(out: Mono, piece: Mono, at: int, fade: int) -> None:
    """Write `piece` into `out` from frame `at` on, its first `fade` frames crossfaded with what stands there.

    The fade keeps the level whatever the two have in common: straight where they are alike, with equal power
    where they aren't, and in between as their correlation says.
    """
    if fade:
        old, new = out[at : at + fade].copy(), piece[:fade]
        rise = (np.arange(fade, dtype=np.float32) + 0.5) / fade
        likeness = _correlation(old, new)
        level = np.sqrt(rise**2 + (1 - rise) ** 2 + 2 * likeness * rise * (1 - rise))
        out[at : at + fade] = (old * (1 - rise) + new * rise) / level
    out[at + fade : at + piece.size] = piece[fade:]


def weight(start: int, end: int, frames: int) -> Mono:
    """1.0 in frames [start, end), straight fades to 0.0 at the first and the last frame, (frames,)."""
    rise = (np.arange(start, dtype=np.float32) + 0.5) / max(1, start)
    fall = (np.arange(frames - end, 0, -1, dtype=np.float32) - 0.5) / max(1, frames - end)
    return np.concatenate([rise, np.ones(end - start, dtype=np.float32), fall])


def centre(samples: Samples) -> Mono:
    """The voice in a mono or stereo passage, (frames,): the mean of the channels, or one where they cancel out."""
    mean = cast(Mono, samples.mean(axis=0, dtype=np.float32))
    power = np.square(samples, dtype=np.float64).sum(axis=1)
    loudest = samples[int(np.argmax(power))]
    is_lopsided = np.square(mean, dtype=np.float64).sum() < LOPSIDED**2 * power.max()
    return cast(Mono, loudest if is_lopsided else mean)


def balance(samples: Samples, rate_hz: int) -> npt.NDArray[np.float32]:
    """The slow balance of the channels as a gain for each, (channels, frames) float32, whose mean is 1.

    A voice panned by level comes back where it stood.
    """
    channels, frames = samples.shape
    if channels == 1:
        return np.ones((1, frames), dtype=np.float32)
    step = max(1, round(WINDOW_S * rate_hz))
    count = -(-frames // step)
    padded = np.pad(samples, ((0, 0), (0, count * step - frames)))
    power = np.square(padded, dtype=np.float64).reshape(channels, count, step).mean(axis=2)
    width = min(count, round(BALANCE_S / WINDOW_S))
    window = np.hanning(width + 2)[1:-1]
    power = np.stack([np.convolve(row, window / window.sum(), "same") for row in power])
    amplitude = np.sqrt(np.maximum(power, 0.0)) + 1e-9
    gain = amplitude / amplitude.mean(axis=0)  # (channels, windows)
    centres = (np.arange(count) + 0.5) * step
    at = np.arange(frames)
    return np.stack([np.interp(at, centres, row).astype(np.float32) for row in gain])


def on_grid(f0: F0Track, hops: int, hop_s: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """f0 in Hz and whether it is voiced (1.0, 0.0) at n * hop_s, both (hops,).

    Through what is unvoiced f0 runs straight on, as in the package's `interpolate_f0`, by which voices were trained.
    """
    times_s = np.arange(hops) * hop_s
    is_voiced = f0.hz > 0
    if not is_voiced.any():
        return np.zeros(hops, dtype=np.float32), np.zeros(hops, dtype=np.float32)
    known_s = np.flatnonzero(is_voiced) * HOP_S
    hz = np.interp(times_s, known_s, f0.hz[is_voiced]).astype(np.float32)
    nearest = np.minimum(np.rint(times_s / HOP_S).astype(int), f0.hz.size - 1)
    return hz, is_voiced[nearest].astype(np.float32)


def _voiced_windows(f0: F0Track, count: int) -> npt.NDArray[np.bool_]:
    found = np.zeros(count, dtype=bool)
    at = (np.flatnonzero(f0.hz > 0) * HOP_S / WINDOW_S).astype(int)
    found[at[at < count]] = True
    return found


def _runs(flags: npt.NDArray[np.bool_], shortest: int) -> list[tuple[int, int]]:
    """[first, last) of each run of True that is at least `shortest` long."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= shortest]


def _correlation(first: Mono, second: Mono) -> float:
    """In [0, 1]; what is opposed counts as unlike."""
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return max(0.0, float(np.dot(first, second)) / norm) if norm > 0 else 1.0
