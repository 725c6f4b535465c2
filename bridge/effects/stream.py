"""Through pedalboard a block at a time: the same samples as in one go, in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bridge import sound
from bridge.audio import Samples
from bridge.sound import Sound

BLOCK_FRAMES = 1 << 18  # a multiple of what pedalboard itself works in
LATEST_S = 10.0  # a latency that is longer is not taken back in full


def streamed(process: Callable[[Samples], Samples], source: Sound) -> Iterator[Samples]:
    """What `process` makes of the source, as long as it and in time with it.

    `process` keeps its state and gives nothing for what it holds back, as pedalboard does with `reset=False`:
    silence drives that out at the end.
    """
    left = source.frames
    padded = sound.fitted(source, source.channels, source.frames + round(LATEST_S * source.rate_hz))
    for start in range(0, padded.frames, BLOCK_FRAMES):
        if not left:
            return
        made = process(padded.read(start, min(start + BLOCK_FRAMES, padded.frames)))[:, :left]
        left -= made.shape[1]
        yield made
    if left:
        yield np.zeros((source.channels, left), dtype=np.float32)
