"""The model card's tables, for any weights: `python -m bridge.transformer.evaluate --corpus DIR --weights FILE`.

Held-out works are judged by the model and by the n-grams in the same run; what mixes them is learned on the other
held-out split. One CPU thread is enough; `--rows-per-source` and its like bound the time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from bridge.atomic import replacing
from bridge.transformer.choice import Question, questions, share_right
from bridge.transformer.columns import columns_of
from bridge.transformer.corpus import StoredWork, read_corpus
from bridge.transformer.dataset import Piece, in_c, pieces_of, rows_of
from bridge.transformer.decoder import Decoder
from bridge.transformer.generated import BARS, UNBOUNDED, Comparison, Prompt, compare, prompts
from bridge.transformer.judgement import Bits, Choice, Judgement, tables, to_json
from bridge.transformer.mixture import Floats
from bridge.transformer.ngrams import Copying, StaticNgrams, bits_per_note
from bridge.transformer.originality import NoteColumns, build_index
from bridge.transformer.sample import Metre, Sampling, continue_phrase
from bridge.transformer.saved import read_weights
from bridge.transformer.scoring import row_bits
from bridge.transformer.tokens import PART, REST, Rows
from bridge.types import Phrase

SHORTER_RUNS = (4, 6, 8, 10, 12)  # notes; shorter copies than the index's own are told to these lengths
SEED = 1


class OfSource(Protocol):
    """Anything that came from a source of the corpus."""

    @property
    def source(self) -> str: ...


Sourced = TypeVar("Sourced", bound=OfSource)


@dataclass(frozen=True)
class Limits:
    """How much of the held-out works is judged, for each source."""

    rows: int = 15_000  # whole works, but for the last
    questions: int = 60
    continuations: int = 24


@dataclass(frozen=True)
class Judges:
    """All that give probabilities to rows."""

    model: Decoder
    model_copying: Copying
    static: StaticNgrams
    static_copying: Copying


def evaluate(
    model: Decoder, works: Sequence[StoredWork], split: str, limits: Limits, report: Callable[[str], None]
) -> Judgement:
    """Judge a model on the works of `split`, "valid" or "test"; mixtures learn from the other one."""
    began = time.monotonic()
    held_out = tuple(pieces_of(work for work in works if work.split != "train"))
    judged = tuple(first_rows([piece for piece in held_out if piece.split == split], limits.rows))
    tuning = tuple(first_rows([piece for piece in held_out if piece.split != split], limits.rows))
    report(f"{sum(len(piece.rows) for piece in judged)} rows of {len(judged)} works")
    judges = learn(model, [in_c(rows_of(work)) for work in works if work.split == "train"], tuning)
    report("n-grams counted and mixed")
    bits = judge_bits(judges, judged)
    report("bits per note")
    whole = [piece for piece in held_out if piece.split == split]
    choice = judge_choice(judges, tuple(questions(whole, held_out, limits.questions, SEED)))
    report("choice of the true continuation")
    train = [work.notes for work in works if work.split == "train"]
    generated = judge_generated(model, tuple(prompts(whole, limits.continuations, SEED)), train)
    return Judgement(split, bits, choice, generated, time.monotonic() - began)


def first_rows(pieces: Sequence[Piece], most_rows: int) -> Iterator[Piece]:
    """Works of each source in their order, up to so many rows of each."""
    left: dict[str, int] = defaultdict(lambda: most_rows)
    for piece in pieces:
        rows = min(left[piece.source], len(piece.rows))
        left[piece.source] -= rows
        if rows:
            yield replace(piece, rows=piece.rows[:rows], columns=piece.columns[:rows])


def learn(model: Decoder, train: Sequence[Rows], tuning: Sequence[Piece]) -> Judges:
    """Count the n-grams, and learn on `tuning` how to mix them and the model."""
    static = StaticNgrams(train, tuning)
    return Judges(
        model,
        Copying(tuning, [model_probabilities(model, piece) for piece in tuning]),
        static,
        Copying(tuning, [static.probabilities(piece.rows) for piece in tuning]),
    )


def model_probabilities(model: Decoder, piece: Piece) -> Floats:
    """(rows, fields): as `StaticNgrams.probabilities`. Every row is heard after 256 others at least, where there are."""
    probabilities: Floats = np.exp2(-row_bits(model, piece.columns))
    return probabilities


def judge_bits(judges: Judges, pieces: Sequence[Piece]) -> dict[str, Bits]:
    """For each source."""
    return {source: _bits(judges, own) for source, own in _by_source(pieces).items()}


def judge_choice(judges: Judges, asked: Sequence[Question]) -> dict[str, Choice]:
    """For each source."""

    def model_score(rows: Rows, bar_steps: int, first: int) -> float:
        return float(row_bits(judges.model, columns_of(rows, bar_steps))[first:].sum())

    def ngram_score(rows: Rows, _bar_steps: int, first: int) -> float:
        told = judges.static_copying.probabilities(rows, judges.static.probabilities(rows))
        return float(-np.log2(told[first:]).sum())

    return {
        source: Choice(len(own), share_right(own, model_score), share_right(own, ngram_score))
        for source, own in _by_source(asked).items()
    }


def judge_generated(
    model: Decoder, asked: Sequence[Prompt], train: Sequence[NoteColumns]
) -> dict[str, Comparison]:
    """For each source: continuations by default sampling, held to nothing but the primer's parts."""
    index = build_index(train)
    shorter = [build_index(train, notes) for notes in SHORTER_RUNS]

    def go_on(primer: Phrase, metre: Metre, seed: int) -> Phrase:
        return continue_phrase(model, primer, BARS, metre, UNBOUNDED, Sampling(seed=seed))

    return {source: compare(own, go_on, index, shorter) for source, own in _by_source(asked).items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and write all figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bridge.transformer.evaluate", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--rows-per-source", type=int, default=Limits.rows)
    parser.add_argument("--questions-per-source", type=int, default=Limits.questions)
    parser.add_argument("--continuations-per-source", type=int, default=Limits.continuations)
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args(arguments)
    limits = Limits(asked.rows_per_source, asked.questions_per_source, asked.continuations_per_source)
    judgement = evaluate(
        Decoder(*read_weights(asked.weights)),
        read_corpus(asked.corpus),
        asked.split,
        limits,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    with replacing(asked.json) as file:
        file.write(json.dumps(to_json(judgement), indent=1).encode() + b"\n")
    sys.stdout.write(tables(judgement) + "\n")
    return 0


def _bits(judges: Judges, pieces: Sequence[Piece]) -> Bits:
    model = [model_probabilities(judges.model, piece) for piece in pieces]
    static = [judges.static.probabilities(piece.rows) for piece in pieces]
    pairs = list(zip(pieces, model, static, strict=True))
    return Bits(
        sum(int((piece.rows[:, PART] != REST).sum()) for piece in pieces),
        bits_per_note(model, pieces),
        bits_per_note(
            [judges.model_copying.probabilities(piece.rows, told) for piece, told, _ in pairs], pieces
        ),
        bits_per_note(static, pieces),
        bits_per_note(
            [judges.static_copying.probabilities(piece.rows, told) for piece, _, told in pairs], pieces
        ),
    )


def _by_source(each: Sequence[Sourced]) -> dict[str, list[Sourced]]:
    groups: dict[str, list[Sourced]] = defaultdict(list)
    for one in each:
        groups[one.source].append(one)
    return groups


if __name__ == "__main__":
    raise SystemExit(main())
