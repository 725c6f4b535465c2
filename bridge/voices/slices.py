"""Cuts what is spoken or sung into slices of 4 to 12 s, at pauses, all equally loud."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np

from bridge import audio
from bridge.audio import Samples
from bridge.voices.speech import Stretch

SHORTEST_S, LONGEST_S = 4.0, 12.0
SHORTEST_REST_S = 1.0  # where a recording holds no more
LONGEST_PAUSE_S = 0.5  # longer ones are shortened to this
FADE_S = 0.01
QUIET_WINDOW_S = 0.05
LOUDNESS_LUFS = -23.0
HIGHEST_PEAK = 0.89  # -1 dBFS

Part = tuple[int, int]
"""Frames [start, end)."""


def cut_slices(mono: Samples, sample_rate_hz: int, stretches: Sequence[Stretch]) -> list[Samples]:
    """The voice in `mono`, (1, frames), as slices of the same shape and rate."""
    parts = [
        piece
        for stretch in stretches
        if stretch.kind == "voice"
        for piece in _cut_long(mono, _frames(stretch, sample_rate_hz), sample_rate_hz)
    ]
    groups = _group(parts, sample_rate_hz)
    return [_matched(_joined(mono, group, sample_rate_hz), sample_rate_hz) for group in groups]


def _frames(stretch: Stretch, rate: int) -> Part:
    return round(stretch.start_s * rate), round(stretch.end_s * rate)


def _cut_long(mono: Samples, part: Part, rate: int) -> list[Part]:
    """A part in pieces of at most LONGEST_S, cut at the quietest moment after SHORTEST_S."""
    start, end = part
    pieces = []
    while end - start > LONGEST_S * rate:
        first, last = start + round(SHORTEST_S * rate), start + round(LONGEST_S * rate)
        cut = first + _quietest(mono[0, first:last], round(QUIET_WINDOW_S * rate))
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, end)]


def _quietest(samples: Samples, window: int) -> int:
    """The middle of the quietest window."""
    power = np.convolve(np.square(samples, dtype=np.float64), np.ones(window), "valid")
    return int(np.argmin(power)) + window // 2


def _group(parts: Sequence[Part], rate: int) -> list[list[Part]]:
    """Neighbours together until a slice is long enough; a rest goes to the slice before where it fits."""
    groups: list[list[Part]] = []
    for part in parts:
        if (
            groups
            and _length(groups[-1], rate) < SHORTEST_S * rate
            and _length([*groups[-1], part], rate) <= LONGEST_S * rate
        ):
            groups[-1].append(part)
        else:
            groups.append([part])
    if len(groups) > 1 and _length(groups[-1], rate) < SHORTEST_S * rate:
        joined = [*groups[-2], *groups[-1]]
        if _length(joined, rate) <= LONGEST_S * rate:
            groups[-2:] = [joined]
    return [group for group in groups if _length(group, rate) >= SHORTEST_REST_S * rate]


def _length(group: Sequence[Part], rate: int) -> int:
    pauses = sum(
        min(later[0] - earlier[1], round(LONGEST_PAUSE_S * rate))
        for earlier, later in itertools.pairwise(group)
    )
    return sum(end - start for start, end in group) + pauses


def _joined(mono: Samples, group: Sequence[Part], rate: int) -> Samples:
    """The parts with the pauses between them, long ones shortened in their middle."""
    half = round(LONGEST_PAUSE_S * rate / 2)
    pieces = []
    for index, (start, end) in enumerate(group):
        before = (start - group[index - 1][1]) if index else 0
        after = (group[index + 1][0] - end) if index + 1 < len(group) else 0
        # Of a short pause, the later part takes all.
        lead = before if before <= 2 * half else half
        trail = half if after > 2 * half else 0
        pieces.append(_faded(mono[:, start - lead : end + trail], round(FADE_S * rate)))
    return np.concatenate(pieces, axis=1)


def _faded(samples: Samples, fade: int) -> Samples:
    ramp = (np.arange(fade, dtype=np.float32) + 0.5) / fade
    out = samples.copy()
    out[:, :fade] *= ramp[: out.shape[1]]
    out[:, -fade:] *= ramp[::-1][-out.shape[1] :]
    return out


def _matched(samples: Samples, rate: int) -> Samples:
    """At LOUDNESS_LUFS, or as near as its peaks allow."""
    loudness = audio.loudness_lufs(samples, rate)
    if not np.isfinite(loudness):
        return samples
    peak = float(np.abs(samples).max())
    gain = min(audio.db_to_amplitude(LOUDNESS_LUFS - loudness), HIGHEST_PEAK / max(peak, 1e-9))
    return cast(Samples, (samples * np.float32(gain)).astype(np.float32))
