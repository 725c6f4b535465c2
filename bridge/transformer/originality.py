"""Does a phrase copy the training set? Finds runs of notes that stand in it, in any key.

A part's line is the highest note of each onset; a run of it is described by its intervals and the steps between its
onsets, so a copy is found in any transposition, part and place, but not at another speed. Drums don't count. Scales,
repeated figures of up to four notes and runs on fewer than four pitch classes belong to nobody and are passed over.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bridge.errors import ModelError
from bridge.transformer.parts import PARTS
from bridge.transformer.tokens import STEPS_PER_BEAT
from bridge.types import Phrase

RUN_NOTES = 13
LONGEST_FIGURE = 4  # notes of a figure whose repetition is nobody's
FEWEST_PITCH_CLASSES = 4
LONG_RUN_NOTES = 9  # shorter runs may have one pitch class less, and can't show a figure's repetition
MOST_DISTANCE_STEPS = 1023
ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth's multiplicative hashing
DRUMS = PARTS.index("drums")

Integers = npt.NDArray[np.int64]


class NoteColumns(Protocol):
    """A work's notes as columns: onsets in steps, MIDI pitches, indices into PARTS."""

    @property
    def start_steps(self) -> npt.NDArray[np.int32]: ...
    @property
    def pitch(self) -> npt.NDArray[np.uint8]: ...
    @property
    def part(self) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True)
class RunIndex:
    """All runs of one length that a set of works holds."""

    run_notes: int
    hashes: npt.NDArray[np.uint32]  # sorted, each once

    @property
    def false_positives(self) -> float:
        """The chance that a run which stands nowhere is taken for one that does."""
        return len(self.hashes) / 2.0**32


@dataclass(frozen=True)
class CopiedRun:
    """Consecutive notes of a part's line that stand in the works of an index."""

    part: str
    first_beat: float
    notes: int


def build_index(works: Iterable[NoteColumns], run_notes: int = RUN_NOTES) -> RunIndex:
    """The index of the works' notes; give it the training works alone."""
    hashes = [
        _hashes(starts, pitches, run_notes)[1]
        for notes in works
        for _, starts, pitches in _lines(notes.start_steps, notes.pitch, notes.part)
    ]
    return RunIndex(run_notes, np.unique(np.concatenate([np.empty(0, np.uint32), *hashes])))


def save_index(index: RunIndex, path: Path) -> None:
    """Write the index as .npz: the distances between its sorted hashes, byte by byte, compressed."""
    distances = np.diff(index.hashes, prepend=np.uint32(0)).astype("<u4")
    planes = np.ascontiguousarray(distances.view(np.uint8).reshape(-1, 4).T)  # (n, 4) -> (4, n)
    with path.open("wb") as file:
        np.savez_compressed(file, run_notes=np.int64(index.run_notes), planes=planes)


def load_index(path: Path) -> RunIndex:
    """Read what `save_index` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:  # numpy leaves a broken file open
            planes, run_notes = stored["planes"], int(stored["run_notes"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise ModelError(f"{path} holds no index of runs ({exc}). Install the package again.") from exc
    distances = np.ascontiguousarray(planes.T).view("<u4").reshape(-1)  # (4, n) -> (n,)
    return RunIndex(run_notes, np.cumsum(distances, dtype=np.uint32))


def copied_runs(phrase: Phrase, index: RunIndex, more_than: int = 12) -> list[CopiedRun]:
    """The runs of more than that many notes which stand in the index, by part and time."""
    runs = []
    for part, starts, firsts in _hits(phrase, index):
        for first, last in _stretches(firsts):
            notes = last - first + index.run_notes
            if notes > more_than:
                runs.append(CopiedRun(PARTS[part], float(starts[first]) / STEPS_PER_BEAT, notes))
    return runs


def longest_copied_run(phrase: Phrase, index: RunIndex, shorter: Sequence[RunIndex] = ()) -> int:
    """Notes of the longest run that stands in the index; 0 where none does.

    Runs that follow each other note by note count as one. Where there is none, the greatest length of the
    `shorter` indexes in which any run stands: below 13 notes chance alone joins runs, so those aren't.
    """
    longest = max((run.notes for run in copied_runs(phrase, index, 0)), default=0)
    if longest:
        return longest
    found = (one.run_notes for one in shorter if any(len(firsts) for _, _, firsts in _hits(phrase, one)))
    return max(found, default=0)


def _hits(phrase: Phrase, index: RunIndex) -> Iterator[tuple[int, Integers, Integers]]:
    """For each part: its index, its line's onsets, and the places in the line where an indexed run begins."""
    rows = [
        (round(n.start_beats * STEPS_PER_BEAT), n.pitch, PARTS.index(n.part))
        for n in phrase.notes
        if n.part in PARTS
    ]
    table = np.array(rows, np.int64).reshape(-1, 3)
    for part, starts, pitches in _lines(table[:, 0], table[:, 1], table[:, 2]):
        places, hashes = _hashes(starts, pitches, index.run_notes)
        at = np.searchsorted(index.hashes, hashes)
        inside = at < len(index.hashes)
        inside[inside] = index.hashes[at[inside]] == hashes[inside]
        yield part, starts, places[inside]


def _stretches(places: Integers) -> Iterator[tuple[int, int]]:
    """First and last of each stretch of consecutive places."""
    if len(places):
        breaks = np.flatnonzero(np.diff(places) != 1)
        for first, last in zip([0, *(breaks + 1)], [*breaks, len(places) - 1], strict=True):
            yield int(places[first]), int(places[last])


def _lines(
    starts: npt.NDArray[np.integer], pitches: npt.NDArray[np.integer], parts: npt.NDArray[np.integer]
) -> Iterator[tuple[int, Integers, Integers]]:
    """Each pitched part's index, and the highest pitch of each of its onsets."""
    for part in np.unique(parts[parts != DRUMS]):
        own = parts == part
        onsets, high = starts[own].astype(np.int64), pitches[own].astype(np.int64)
        order = np.lexsort((-high, onsets))
        line, first = np.unique(onsets[order], return_index=True)
        yield int(part), line, high[order][first]


def _hashes(starts: Integers, pitches: Integers, run_notes: int) -> tuple[Integers, npt.NDArray[np.uint32]]:
    """Where a line's runs begin, and their hashes; runs that belong to nobody are left out."""
    steps = run_notes - 1
    if len(pitches) < run_notes:
        return np.empty(0, np.int64), np.empty(0, np.uint32)
    intervals = np.diff(pitches)
    moves = (intervals + 128) * (MOST_DISTANCE_STEPS + 1) + np.minimum(np.diff(starts), MOST_DISTANCE_STEPS)
    windows = np.lib.stride_tricks.sliding_window_view(moves, steps)
    places = np.flatnonzero(~_nobodys(pitches, intervals, windows, run_notes))
    own = windows[places].astype(np.uint64)
    mixed = np.zeros(len(places), np.uint64)
    for step in range(steps):
        mixed = (mixed ^ own[:, step]) * ODD
        mixed ^= mixed >> np.uint64(29)
    return places, (mixed >> np.uint64(32)).astype(np.uint32)


def _nobodys(
    pitches: Integers, intervals: Integers, windows: Integers, run_notes: int
) -> npt.NDArray[np.bool_]:
    """For each run whether it is a commonplace: a scale, few pitch classes, or a short figure over and over."""
    view = np.lib.stride_tricks.sliding_window_view
    classes = np.sort(view(pitches % 12, run_notes), axis=1)
    fewest = FEWEST_PITCH_CLASSES - (run_notes < LONG_RUN_NOTES)
    common = (np.diff(classes, axis=1) != 0).sum(axis=1) + 1 < fewest
    directions = view(intervals, run_notes - 1)
    common |= (directions >= 0).all(axis=1) | (directions <= 0).all(axis=1)
    for period in range(1, LONGEST_FIGURE + 1):
        if run_notes >= LONG_RUN_NOTES:
            common |= (windows[:, period:] == windows[:, :-period]).all(axis=1)
    return np.asarray(common)
