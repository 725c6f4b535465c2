"""What the model hears of a MIDI file: its parts on the grid, in whole bars that end where what comes next begins.

A file may hold anything, so this bounds it: silence is shortened, hanging notes are cut, and bars too short for
the grid count as several in one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.sheet import Bars, Sheet, read_sheet
from bridge.tempo import constant_tempo
from bridge.transformer.parts import part_of_voice
from bridge.transformer.readers.score import on_grid
from bridge.transformer.sample import Metre
from bridge.transformer.tokens import LENGTHS_STEPS, STEPS_PER_BEAT
from bridge.types import Note, Phrase, TempoMap

LONGEST_NOTE_BEATS = LENGTHS_STEPS[-1] / STEPS_PER_BEAT
LONGEST_SILENCE_BARS = 16  # between two onsets; what is longer loses whole bars
LONGEST_TAIL_BARS = (
    8  # silence or a last chord that still belongs to the piece; else it ends with its last onset
)
ENDING_BEATS = 64.0  # the metre of a piece's end is the one that most of this has
SAMPLE_RATE_HZ = 44_100  # a tempo map must have one; nothing here counts frames


@dataclass(frozen=True)
class Heard:
    """A piece ready for the model, and what holds at its end."""

    phrase: Phrase  # parts from PARTS; beat 0 is a bar line; whole bars long
    bars: Bars  # the metre, as the file says it
    bpm: float  # quarter notes per minute

    @property
    def metre(self) -> Metre:
        """Bars as the model counts them: whole steps, and a beat at least."""
        return Metre(bars_in_one(self.bars) * self.bars.bar_beats)

    @property
    def tempo(self) -> TempoMap:
        """For music that goes on from here."""
        return constant_tempo(
            self.bpm,
            SAMPLE_RATE_HZ,
            beats_per_bar=self.bars.beats_per_bar,
            beat_unit=self.bars.beat_unit,
        )


def hear_midi(path: Path, most_notes: int | None = None) -> Heard:
    """The whole file, or its last `most_notes` notes. A file without notes gives an empty phrase.

    Raises:
        InputError: as `sheet.read_sheet`.
    """
    sheet = read_sheet(path, part_of_voice)
    end_beats = _end_beats(sheet)
    bars = _last_bars(sheet.bars, end_beats)
    bpm = next(
        point.bpm for point in reversed(sheet.tempo.points) if point.beat < end_beats or point.beat == 0
    )
    bar_beats = bars_in_one(bars) * bars.bar_beats
    moved = -end_beats % bar_beats  # bar lines are counted from the end, where the metre is known
    notes = [
        replace(note, start_beats=note.start_beats + moved)
        for note in sheet.phrase.notes[-most_notes if most_notes else None :]
    ]
    notes, end_beats = _without_long_silence(notes, end_beats + moved, bar_beats)
    cut = [replace(note, length_beats=min(note.length_beats, end_beats - note.start_beats)) for note in notes]
    return Heard(on_grid(cut, end_beats, bar_beats), bars, bpm)


def bars_in_one(bars: Bars) -> int:
    """How many bars of a file are one bar for the model: 1 but for bars off the grid or shorter than a beat."""
    count = 1
    while count * bars.bar_beats < 1.0 or count * bars.bar_beats * STEPS_PER_BEAT % 1.0:
        count += 1
    return count


def _end_beats(sheet: Sheet) -> float:
    """The bar line where what comes next begins.

    It is the one after the last onset, or the one nearest to end-of-track, if that is not far behind.
    """
    if not sheet.phrase.notes:
        return 0.0
    after_onset = _line_after(sheet.bars, sheet.phrase.notes[-1].start_beats)
    bar_beats = _bars_at(sheet.bars, after_onset).bar_beats
    at_end = _line_after(sheet.bars, sheet.phrase.length_beats - bar_beats / 2)
    near = after_onset < at_end <= after_onset + LONGEST_TAIL_BARS * bar_beats
    return at_end if near else after_onset


def _line_after(bars: Sequence[Bars], beats: float) -> float:
    """The first bar line behind `beats`, which counts as on the next step if it is nearer to that."""
    here = _bars_at(bars, beats)
    steps = round((beats - here.start_beats) * STEPS_PER_BEAT)
    line = (
        here.start_beats + (math.floor(steps / STEPS_PER_BEAT / here.bar_beats + 1e-6) + 1) * here.bar_beats
    )
    following = (other.start_beats for other in bars if other.start_beats > here.start_beats)
    return min(line, next(following, line))


def _bars_at(bars: Sequence[Bars], beats: float) -> Bars:
    return bars[max(0, bisect_right(bars, beats, key=lambda other: other.start_beats) - 1)]


def _last_bars(bars: Sequence[Bars], end_beats: float) -> Bars:
    """Those of most of the piece's last beats: an odd bar at the end is no new metre."""
    edges = [*(other.start_beats for other in bars[1:]), math.inf]
    shares = {
        index: min(edge, end_beats) - max(other.start_beats if index else 0.0, end_beats - ENDING_BEATS)
        for index, (other, edge) in enumerate(zip(bars, edges, strict=True))
    }
    return bars[max(shares, key=lambda index: (shares[index], index))]


def _without_long_silence(
    notes: Sequence[Note], end_beats: float, bar_beats: float
) -> tuple[list[Note], float]:
    """Notes, and the end, moved earlier by the whole bars that a long silence has too many; lengths bounded."""
    kept: list[Note] = []
    removed = last = 0.0
    for note in notes:
        silent_bars = math.floor((note.start_beats - last) / bar_beats)
        removed += max(0, silent_bars - LONGEST_SILENCE_BARS) * bar_beats
        last = note.start_beats
        length = min(note.length_beats, LONGEST_NOTE_BEATS)
        kept.append(replace(note, start_beats=note.start_beats - removed, length_beats=length))
    return kept, end_beats - removed
