"""Work on a long sound a stretch at a time, for what must see all that it works on in memory.

Each stretch is seen with some of the sound at either side of it, and comes in where the one before it goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.audio import Samples
from bridge.progress import Report, part_of
from bridge.sound import Sound


@dataclass(frozen=True)
class Stretches:
    """How a sound is cut, in seconds; one up to one and a half `length_s` is taken whole."""

    length_s: float
    around_s: float  # seen at either side
    seam_s: float  # over which one is faded into the next; not longer than `around_s`


def over_stretches(
    sound: Sound, cut: Stretches, work: Callable[[Samples, Report], Sequence[Samples]], report: Report
) -> Iterator[list[Samples]]:
    """What `work` makes of each stretch, one after the other: together as long as the sound.

    `work` is given (channels, frames) and gives one or more arrays of so many frames. Each list is emptied before the next
    stretch is worked on, so that two are never in memory.
    """
    length, around, seam = (round(s * sound.rate_hz) for s in (cut.length_s, cut.around_s, cut.seam_s))
    count = max(1, round(sound.frames / length))
    starts = [index * length for index in range(count)] + [sound.frames]
    fading: list[Samples] = []  # the last stretch's end, going out
    for index in range(count):
        start, stop = starts[index], starts[index + 1]
        behind = min(sound.frames, stop + seam) if index + 1 < count else stop
        first, last = max(0, start - around), min(sound.frames, stop + around)
        made = work(sound.read(first, last), part_of(report, index, count))
        parts = [each[:, start - first : behind - first] for each in made]
        del made
        _fade_in(parts, fading, seam)
        fading = [part[:, stop - start :].copy() for part in parts]
        parts = [part[:, : stop - start] for part in parts]
        yield parts
        parts.clear()


def _fade_in(parts: Sequence[Samples], over: Sequence[Samples], seam: int) -> None:
    """In place, over the end of the stretch before; nothing where there is none."""
    rise = np.linspace(0.0, 1.0, seam, dtype=np.float32)
    for part, before in zip(parts, over, strict=False):
        part[:, :seam] = rise * part[:, :seam] + (1 - rise) * before
