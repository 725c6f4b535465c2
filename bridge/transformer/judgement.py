"""What an evaluation found, as JSON and as the tables of the model card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from bridge.transformer.choice import Right
from bridge.transformer.generated import Comparison, differences, mean_of_sources
from bridge.transformer.measures import MEASURES
from bridge.transformer.sources import SOURCES

ARRANGED = frozenset(source.name for source in SOURCES if source.arranged)
"""Sources that are no music by people: they have a row of their own, and means are given without them too."""


@dataclass(frozen=True)
class Bits:
    """Bits per note of one source, or the mean of several."""

    notes: int
    model: float
    model_and_piece: float  # mixed with the n-gram of the piece so far
    static: float  # the 5-gram of the training works
    static_and_piece: float


@dataclass(frozen=True)
class Choice:
    """How often the true continuation was picked among four."""

    questions: int
    model: Right
    static_and_piece: Right


@dataclass(frozen=True)
class Judgement:
    """Everything, by source."""

    split: str
    bits: Mapping[str, Bits]
    choice: Mapping[str, Choice]
    generated: Mapping[str, Comparison]
    seconds: float


def to_json(judgement: Judgement) -> dict[str, Any]:
    """All figures with the means over sources; what can't be counted is null."""
    made = all_generated(judgement)
    document = asdict(judgement) | {
        "means": {name: asdict(mean) for name, mean in mean_bits(judgement).items()},
        "choice_mean": asdict(mean_choice(judgement)) if judgement.choice else None,
        "generated_mean": asdict(made) if made else None,
        "differences": dict(differences(made.generated, made.truth)) if made else None,
        "differences_of_halves": dict(differences(*made.halves)) if made else None,
    }
    finite: dict[str, Any] = _without_nan(document)
    return finite


def mean_bits(judgement: Judgement) -> dict[str, Bits]:
    """The mean of all sources, and of those that are music by people."""
    kinds = {
        "all": judgement.bits.values(),
        "real": [b for s, b in judgement.bits.items() if s not in ARRANGED],
    }
    return {
        name: Bits(
            sum(one.notes for one in each),
            fmean(one.model for one in each),
            fmean(one.model_and_piece for one in each),
            fmean(one.static for one in each),
            fmean(one.static_and_piece for one in each),
        )
        for name, each in kinds.items()
        if each
    }


def mean_choice(judgement: Judgement) -> Choice:
    """Every source counts alike."""
    each = list(judgement.choice.values())
    return Choice(
        sum(one.questions for one in each),
        _mean_right([one.model for one in each]),
        _mean_right([one.static_and_piece for one in each]),
    )


def all_generated(judgement: Judgement) -> Comparison | None:
    """The mean of the sources of music by people."""
    each = [one for source, one in judgement.generated.items() if source not in ARRANGED]
    return mean_of_sources(each) if each else None


def tables(judgement: Judgement) -> str:
    """Markdown."""
    return "\n".join(
        (*_bits_table(judgement), "", *_choice_table(judgement), "", *_generated_tables(judgement))
    )


def _bits_table(judgement: Judgement) -> Iterator[str]:
    yield f"Bits per note, split {judgement.split}, whole works; `+ piece`: mixed with the n-gram of the piece so far:"
    yield ""
    yield "| source | notes | model | model + piece | 5-gram | 5-gram + piece | model against 5-gram + piece |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    means = {f"mean of {name} sources": mean for name, mean in mean_bits(judgement).items()}
    for source, bits in {**judgement.bits, **means}.items():
        change = bits.model / bits.static_and_piece - 1.0
        yield (
            f"| {source} | {bits.notes:,} | {bits.model:.3f} | {bits.model_and_piece:.3f} | {bits.static:.3f} "
            f"| {bits.static_and_piece:.3f} | {change:+.1%} |"
        )


def _choice_table(judgement: Judgement) -> Iterator[str]:
    yield "The true continuation picked among four (chance 25%), as what the primer saves the most bits, and as what"
    yield "costs the fewest bits after it:"
    yield ""
    yield "| source | questions | model, bits saved | 5-gram + piece | model, fewest bits | 5-gram + piece |"
    yield "|---|--:|--:|--:|--:|--:|"
    mean = {"mean of sources": mean_choice(judgement)} if judgement.choice else {}
    for source, choice in {**judgement.choice, **mean}.items():
        model, other = choice.model, choice.static_and_piece
        yield (
            f"| {source} | {choice.questions} | {model.by_bits_saved:.0%} | {other.by_bits_saved:.0%} "
            f"| {model.by_bits:.0%} | {other.by_bits:.0%} |"
        )


def _generated_tables(judgement: Judgement) -> Iterator[str]:
    made = all_generated(judgement)
    if made is None:
        return
    apart, halves = differences(made.generated, made.truth), differences(*made.halves)
    yield f"{made.continuations} continuations of 8 bars against what the works play there (mean of sources):"
    yield ""
    yield "| measure | generated | truth | difference | truth against itself, two halves |"
    yield "|---|--:|--:|--:|--:|"
    for name in MEASURES:
        values = getattr(made.generated, name), getattr(made.truth, name)
        yield f"| {name.replace('_', ' ')} | {values[0]:.3f} | {values[1]:.3f} | {apart[name]:.1%} | {halves[name]:.1%} |"
    yield ""
    yield "| longest run of notes | generated: median, mean, max | truth: median, mean, max |"
    yield "|---|--:|--:|"
    yield f"| copied from training | {_spread(made.copied)} | {_spread(made.truth_copied)} |"
    yield f"| shared with the primer | {_spread(made.shared)} | {_spread(made.truth_shared)} |"


def _spread(runs: Sequence[int]) -> str:
    return f"{median(runs):g}, {fmean(runs):.1f}, {max(runs)}"


def _mean_right(each: Sequence[Right]) -> Right:
    return Right(fmean(one.by_bits for one in each), fmean(one.by_bits_saved for one in each))


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
