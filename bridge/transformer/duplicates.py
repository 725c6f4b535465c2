"""Which works are the same music: one melody in any key, and variants of one tune.

Nothing here looks at velocity, and nothing depends on Python's own hash, so that a corpus is split alike everywhere.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from bridge.transformer.parts import PARTS

DRUMS = PARTS.index("drums")
GRAM = 8  # intervals in a row that make one mark of a tune
SHARED = 0.3  # of the shorter work's marks stand in the other: variants of one tune
MOST_HOLDERS = 24  # a mark that stands in more works is a commonplace


@dataclass(frozen=True)
class Notes:
    """The notes of one work as columns, sorted by onset, part and pitch."""

    start_steps: npt.NDArray[np.int32]
    length_steps: npt.NDArray[np.int32]
    pitch: npt.NDArray[np.uint8]
    velocity: npt.NDArray[np.uint8]
    part: npt.NDArray[np.uint8]  # index into PARTS

    NAMES: ClassVar[tuple[str, ...]] = ("start_steps", "length_steps", "pitch", "velocity", "part")

    def __len__(self) -> int:
        return len(self.pitch)


def fingerprint(notes: Notes) -> str:
    """The same for two works whose notes differ by a transposition only."""
    moved = notes.pitch.astype(np.int32) - int(notes.pitch[0])
    digest = hashlib.sha256(notes.start_steps.astype("<i4").tobytes())
    digest.update(moved.astype("<i4").tobytes())
    digest.update(notes.part.tobytes())
    return digest.hexdigest()


def groups_of_variants(groups: Sequence[str], melodies: Sequence[Sequence[int]]) -> list[str]:
    """Each work's group again, those joined whose works share a good part of their melody.

    Melodies count as intervals, so neither key nor rhythm matters; an empty one joins nothing.
    """
    parent: dict[str, str] = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for one, other in _variants(melodies):
        first, second = sorted((root(groups[one]), root(groups[other])))
        parent[second] = first
    return [root(group) for group in groups]


def melody(notes: Notes) -> list[int]:
    """The highest pitch of each onset, drums left out."""
    pitched = notes.part != DRUMS
    pitches, starts = notes.pitch[pitched].astype(np.int32), notes.start_steps[pitched]
    order = np.lexsort((-pitches, starts))
    first = np.unique(starts[order], return_index=True)[1]
    return [int(pitch) for pitch in pitches[order][first]]


def _variants(melodies: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Pairs of works that share enough marks."""
    marks = [_marks(pitches) for pitches in melodies]
    holders: dict[int, list[int]] = defaultdict(list)
    for work, own in enumerate(marks):
        for mark in own:
            holders[mark].append(work)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for held_by in holders.values():
        if len(held_by) <= MOST_HOLDERS:
            for at, one in enumerate(held_by):
                for other in held_by[at + 1 :]:
                    shared[one, other] += 1
    return [pair for pair, n in shared.items() if n >= SHARED * min(len(marks[w]) for w in pair)]


def _marks(pitches: Sequence[int]) -> list[int]:
    """Each run of eight intervals of a melody, packed into one number, once."""
    steps = (np.clip(np.diff(np.array(pitches, np.int64)), -31, 32) + 31).astype(np.int64)
    if len(steps) < GRAM:
        return []
    runs = np.lib.stride_tricks.sliding_window_view(steps, GRAM)
    packed: npt.NDArray[np.int64] = (runs << (6 * np.arange(GRAM, dtype=np.int64))).sum(axis=1)
    return [int(mark) for mark in np.unique(packed)]
