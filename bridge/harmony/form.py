"""A song's form from its notes: which stretches of bars belong together, and which of them come back.

Bars are compared by their harmony and by each part's rhythm. Sections begin where the bars before differ most from
the bars after (a checkerboard along the self-similarity's diagonal: Foote 2000, "Automatic audio segmentation using
a measure of audio novelty"), and last four or eight bars unless the notes speak clearly for something else.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.types import Note, Phrase

Array = npt.NDArray[np.float64]

POSITIONS = 16  # of a bar, at which onsets are compared
_REACH_BARS = 4  # what lies so far before and behind a bar line decides whether a section begins there
_LEAST_NOVELTY = 0.12
_SAME, _MOST_SAME = (
    0.45,
    0.85,
)  # how far from the song's mean likeness to 1 bars that repeat lie, and where at most
_RHYTHM_WEIGHTS = {"drums": 1.0, "bass": 1.0, "vocals": 0.5, "lead": 0.5}  # second verses have other words
_LENGTH_PRIOR = {8: 0.0, 4: -0.05, 16: -0.2, 12: -0.25, 6: -0.3, 2: -0.35, 10: -0.35}
_OTHER_LENGTH = -0.5
_MOST_BARS = 16


@dataclass(frozen=True)
class Section:
    """`bars` bars from `first_bar` on; sections with one label repeat each other. Bar 0 begins at the first downbeat."""

    label: str  # A, B, ... in order of appearance
    first_bar: int
    bars: int


def find_form(phrase: Phrase, bar_beats: float, first_downbeat_beats: float = 0.0) -> tuple[Section, ...]:
    """Sections that cover all bars from the first downbeat to the end of the phrase, a partial last one included."""
    bars = math.ceil((phrase.length_beats - first_downbeat_beats) / bar_beats - 1e-6)
    if bars < 1:
        return ()
    likeness = _likeness(phrase.notes, bars, bar_beats, first_downbeat_beats)
    sections: list[Section] = []
    for first, last in _cut(_novelty(likeness)):
        sections.append(Section(_label(likeness, sections, first, last), first, last - first))
    return tuple(sections)


def _likeness(notes: Sequence[Note], bars: int, bar_beats: float, origin_beats: float) -> Array:
    """(bars, bars): 0 for bars that share nothing .. 1 for equal ones."""
    parts = sorted({note.part for note in notes})
    chroma = np.zeros((bars, 2, 12))  # of each half bar
    onsets = np.zeros((bars, len(parts) + 1, POSITIONS))  # kick and snare apart from the rest of the drums
    for note in notes:
        bar, within = divmod((note.start_beats - origin_beats) / bar_beats, 1.0)
        if not 0 <= bar < bars:
            continue
        if note.part != "drums":
            chroma[int(bar), int(within * 2), note.pitch % 12] += min(note.length_beats, bar_beats / 2)
        row = len(parts) if note.part == "drums" and note.pitch > 40 else parts.index(note.part)
        onsets[int(bar), row, int(within * POSITIONS + 1e-6)] = _RHYTHM_WEIGHTS.get(note.part, 0.7)
    return (_cosines(np.sqrt(chroma.reshape(bars, -1))) + _cosines(onsets.reshape(bars, -1))) / 2


def _cosines(rows: Array) -> Array:
    """Of each row with each; two empty rows are alike."""
    length = np.linalg.norm(rows, axis=1)
    empty = length == 0
    unit = rows / np.where(empty, 1.0, length)[:, None]
    return np.asarray(unit @ unit.T + np.outer(empty, empty))


def _novelty(likeness: Array) -> Array:
    """(bars,): how much less the bars behind each bar line are like those before it than each side is like itself."""
    bars = len(likeness)
    novelty = np.zeros(bars)
    for line in range(1, bars):
        reach = min(_REACH_BARS, line, bars - line)
        before, after = slice(line - reach, line), slice(line, line + reach)
        within = (likeness[before, before].mean() + likeness[after, after].mean()) / 2
        novelty[line] = (within - likeness[before, after].mean()) * reach / _REACH_BARS
    return novelty


def _cut(novelty: Array) -> list[tuple[int, int]]:
    """First bar and end of each section: the division with the most novelty at its lines and the best lengths."""
    bars = novelty.size
    gain = np.append(novelty - _LEAST_NOVELTY, 0.0)
    best = [0.0] + [-math.inf] * bars
    begins = [0] * (bars + 1)
    for end in range(1, bars + 1):
        for first in range(max(0, end - _MOST_BARS), end):
            score = best[first] + _LENGTH_PRIOR.get(end - first, _OTHER_LENGTH) + gain[end]
            if score > best[end]:
                best[end], begins[end] = score, first
    lines = [bars]
    while lines[-1] > 0:
        lines.append(begins[lines[-1]])
    return list(zip(lines[:0:-1], lines[-2::-1], strict=True))


def _label(likeness: Array, sections: Sequence[Section], first: int, last: int) -> str:
    """That of the earlier section whose bars are most like these, one by one; a new one where none is."""
    alike: list[tuple[float, str]] = []
    for section in sections:
        shared = min(section.bars, last - first)
        if 2 * shared >= max(section.bars, last - first):
            bars = np.arange(shared)
            alike.append((float(likeness[section.first_bar + bars, first + bars].mean()), section.label))
    best, label = max(alike, default=(0.0, ""))
    mean = float(likeness.mean())
    is_same = best >= min(mean + _SAME * (1.0 - mean), _MOST_SAME)
    return label if is_same else _name(len({section.label for section in sections}))


def _name(index: int) -> str:
    """A .. Z, then A2 .. Z2 and so on."""
    lap, letter = divmod(index, 26)
    return string.ascii_uppercase[letter] + (str(lap + 1) if lap else "")
