"""Figures of a phrase that tell whether it is made like others: the definitions of MusPy 0.5 (Dong et al., 2020).

All count on the grid of 24 steps per beat, over the phrase's whole length. NaN stands where nothing can be counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt

from bridge.transformer.keys import SCALES
from bridge.transformer.tokens import STEPS_PER_BEAT, Rows
from bridge.types import Phrase

DRUMS = "drums"


@dataclass(frozen=True)
class Measures:
    """Five figures of one phrase, or their means over several."""

    pitch_class_entropy: float  # bits; drums left out
    scale_consistency: float  # share of notes in the major or minor scale that holds most; drums left out
    groove_consistency: (
        float  # 1 - mean share of a bar's steps that differ from the next bar's in having an onset
    )
    polyphony: float  # mean number of pitches that sound, while any does; drums left out
    empty_beats: float  # share of beats in which nothing sounds


def measure(phrase: Phrase, bar_beats: float) -> Measures:
    """The figures of a phrase of whole bars."""
    steps = round(phrase.length_beats * STEPS_PER_BEAT)
    spans = [
        (
            round(note.start_beats * STEPS_PER_BEAT),
            min(round((note.start_beats + note.length_beats) * STEPS_PER_BEAT), steps),
            note.pitch,
            note.part,
        )
        for note in phrase.notes
    ]
    sounding = np.zeros(steps, bool)
    onsets = np.zeros(steps, bool)
    roll = np.zeros((steps, 128), bool)
    for start, end, pitch, part in spans:
        onsets[start] = sounding[start:end] = True
        if part != DRUMS:
            roll[start:end, pitch] = True
    classes = np.bincount([pitch % 12 for _, _, pitch, part in spans if part != DRUMS], minlength=12)
    return Measures(
        _entropy_bits(classes),
        _scale_consistency(classes),
        _groove_consistency(onsets, round(bar_beats * STEPS_PER_BEAT)),
        _polyphony(roll),
        1.0 - float(sounding.reshape(-1, STEPS_PER_BEAT).any(1).mean()),  # (steps,) -> (beats, 24)
    )


def mean_measures(each: Sequence[Measures]) -> Measures:
    """The mean of every figure, over those phrases that have it."""
    return Measures(*(_mean([vars(one)[name] for one in each]) for name in MEASURES))


def longest_shared_run(rows: Rows, others: Rows) -> int:
    """Notes of the longest run that stands in both with equal part, shift, pitch and length."""
    one, two = ([tuple(row[:4]) for row in each.tolist()] for each in (rows, others))
    return SequenceMatcher(None, one, two, autojunk=False).find_longest_match().size


MEASURES = tuple(Measures.__dataclass_fields__)


def _entropy_bits(counts: npt.NDArray[np.int64]) -> float:
    if not counts.sum():
        return math.nan
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def _scale_consistency(classes: npt.NDArray[np.int64]) -> float:
    if not classes.sum():
        return math.nan
    scale = list(SCALES["major"])  # the natural minor scales are the same twelve sets
    return max(float(np.roll(classes, -tonic)[scale].sum()) for tonic in range(12)) / int(classes.sum())


def _groove_consistency(onsets: npt.NDArray[np.bool_], bar_steps: int) -> float:
    bars = onsets[: len(onsets) // bar_steps * bar_steps].reshape(-1, bar_steps)  # (steps,) -> (bars, steps)
    if len(bars) < 2:
        return math.nan
    return 1.0 - float((bars[1:] != bars[:-1]).mean())


def _polyphony(roll: npt.NDArray[np.bool_]) -> float:
    pitches = roll.sum(1)
    return float(pitches[pitches > 0].mean()) if pitches.any() else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
