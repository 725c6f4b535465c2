"""Continuations of held-out primers against what the works themselves play there: measures, copies, repeats."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bridge.transformer.constraints import Constraints
from bridge.transformer.dataset import Piece
from bridge.transformer.measures import MEASURES, Measures, longest_shared_run, mean_measures, measure
from bridge.transformer.originality import RunIndex, longest_copied_run
from bridge.transformer.sample import Metre
from bridge.transformer.tokens import SHIFT, STEPS_PER_BEAT, decode, encode
from bridge.types import Phrase

BARS = 8  # of a continuation
PRIMER_BARS = (16, 8)  # the first that leaves room for a continuation
FEWEST_NOTES = 8  # of a primer and of what follows it
UNBOUNDED = Constraints(ranges={}, polyphony={})

Continue = Callable[[Phrase, Metre, int], Phrase]
"""BARS bars after a primer: (primer, metre, seed) -> continuation, as `sample.continue_phrase`."""


@dataclass(frozen=True)
class Prompt:
    """A stretch of a held-out work from bar line to bar line, and what follows it."""

    source: str
    bar_beats: float
    primer: Phrase
    truth: Phrase  # BARS bars


@dataclass(frozen=True)
class Comparison:
    """Continuations of one source, or the mean of all, against the truth of the same places."""

    continuations: int
    generated: Measures
    truth: Measures
    halves: tuple[Measures, Measures]  # of the truth
    copied: tuple[int, ...]  # notes of the longest run that stands in the training set, for each
    truth_copied: tuple[int, ...]
    shared: tuple[int, ...]  # notes of the longest run that stands in the primer, for each
    truth_shared: tuple[int, ...]


def prompts(pieces: Sequence[Piece], per_source: int, seed: int) -> Iterator[Prompt]:
    """Up to `per_source` stretches of each source's works, each work in turn, at random places."""
    by_source: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        if _full_bars(piece) >= PRIMER_BARS[-1] + BARS:
            by_source[piece.source].append(piece)
    for source in sorted(by_source):
        random = np.random.default_rng(seed)
        works = [by_source[source][index] for index in random.permutation(len(by_source[source]))]
        for number in range(per_source):
            prompt = _prompt(works[number % len(works)], random)
            if min(len(prompt.primer.notes), len(prompt.truth.notes)) >= FEWEST_NOTES:
                yield prompt


def compare(
    asked: Sequence[Prompt], go_on: Continue, index: RunIndex, shorter: Sequence[RunIndex]
) -> Comparison:
    """Continue each prompt, by seeds 0, 1, 2 ..., and hold the result against the truth."""
    made, true = [], []
    copied, truth_copied, shared, truth_shared = [], [], [], []
    for seed, prompt in enumerate(asked):
        written = go_on(prompt.primer, Metre(prompt.bar_beats), seed)
        primer = encode(prompt.primer)
        made.append(measure(written, prompt.bar_beats))
        true.append(measure(prompt.truth, prompt.bar_beats))
        copied.append(longest_copied_run(written, index, shorter))
        truth_copied.append(longest_copied_run(prompt.truth, index, shorter))
        shared.append(longest_shared_run(encode(written), primer))
        truth_shared.append(longest_shared_run(encode(prompt.truth), primer))
    return Comparison(
        len(asked),
        mean_measures(made),
        mean_measures(true),
        (mean_measures(true[::2]), mean_measures(true[1::2])),
        tuple(copied),
        tuple(truth_copied),
        tuple(shared),
        tuple(truth_shared),
    )


def mean_of_sources(each: Sequence[Comparison]) -> Comparison:
    """Every source counts alike in the measures; the runs are those of all."""
    return Comparison(
        sum(one.continuations for one in each),
        mean_measures([one.generated for one in each]),
        mean_measures([one.truth for one in each]),
        (mean_measures([one.halves[0] for one in each]), mean_measures([one.halves[1] for one in each])),
        tuple(run for one in each for run in one.copied),
        tuple(run for one in each for run in one.truth_copied),
        tuple(run for one in each for run in one.shared),
        tuple(run for one in each for run in one.truth_shared),
    )


def differences(one: Measures, other: Measures) -> Mapping[str, float]:
    """For each measure how far `one` lies from `other`, as a share of `other`."""
    return {name: _difference(getattr(one, name), getattr(other, name)) for name in MEASURES}


def _difference(value: float, truth: float) -> float:
    if value == truth:
        return 0.0
    return abs(value - truth) / abs(truth) if truth else math.inf


def _prompt(piece: Piece, random: np.random.Generator) -> Prompt:
    bars = _full_bars(piece)
    primer_bars = next(count for count in PRIMER_BARS if count + BARS <= bars)
    bar_beats = piece.bar_steps / STEPS_PER_BEAT
    whole = decode(piece.rows.tolist(), bars * bar_beats)
    first = int(random.integers(0, bars - primer_bars - BARS + 1)) * bar_beats
    middle = first + primer_bars * bar_beats
    return Prompt(
        piece.source,
        bar_beats,
        _between(whole, first, middle),
        _between(whole, middle, middle + BARS * bar_beats),
    )


def _between(phrase: Phrase, start_beats: float, end_beats: float) -> Phrase:
    """The notes that begin there, counted from its start and ended by its end."""
    notes = (
        replace(
            note,
            start_beats=note.start_beats - start_beats,
            length_beats=min(note.length_beats, end_beats - note.start_beats),
        )
        for note in phrase.notes
        if start_beats <= note.start_beats < end_beats
    )
    return Phrase(tuple(notes), end_beats - start_beats)


def _full_bars(piece: Piece) -> int:
    """All but the one in which the last note begins: there works end, and a continuation goes on."""
    return int(piece.rows[:, SHIFT].astype(int).sum()) // piece.bar_steps
