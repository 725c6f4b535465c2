"""The evaluation of any weights: every figure of the card, in the same run, from a small made corpus."""

from __future__ import annotations

import json
import math
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest

from bridge.transformer import evaluate
from bridge.transformer.dataset import pieces_of
from bridge.transformer.evaluate import first_rows, main
from bridge.transformer.generated import BARS, compare, differences, prompts
from bridge.transformer.measures import MEASURES
from bridge.transformer.originality import build_index
from bridge.transformer.sample import Metre
from bridge.transformer.saved import save_weights
from bridge.types import Phrase
from tests.made_works import made_works
from tests.tiny_model import TINY, tiny_arrays

SOURCES = ("airds", "arranger", "bach")
WORKS = made_works(SOURCES, 4)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return value is not None and (not isinstance(value, float) or math.isfinite(value))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the command writes and prints."""
    folder = tmp_path_factory.mktemp("evaluate")
    save_weights(folder / "weights.safetensors", tiny_arrays(), TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "read_corpus", lambda _: WORKS)
        arguments = ["--corpus", "anywhere", "--weights", str(folder / "weights.safetensors")]
        small = ["--questions-per-source", "3", "--continuations-per-source", "2"]
        with redirect_stdout(StringIO()) as printed:
            assert main([*arguments, *small, "--json", str(folder / "out.json")]) == 0
    return json.loads((folder / "out.json").read_text("utf-8")), printed.getvalue()


@pytest.fixture(scope="module")
def document(run: tuple[dict[str, Any], str]) -> dict[str, Any]:
    return run[0]


@pytest.fixture(scope="module")
def printed(run: tuple[dict[str, Any], str]) -> str:
    return run[1]


def test_every_source_has_every_figure(document: dict[str, Any]) -> None:
    assert document["split"] == "test"
    assert set(document["bits"]) == set(document["choice"]) == set(document["generated"]) == set(SOURCES)
    assert finite({name: value for name, value in document.items() if name != "differences"})
    assert set(document["differences"]) == set(MEASURES)
    for bits in document["bits"].values():
        assert set(bits) == {"notes", "model", "model_and_piece", "static", "static_and_piece"}
        assert bits["notes"] == 4 * 32 * 9
        assert min(bits.values()) > 0.0


def test_arranged_music_stands_apart_in_the_means(document: dict[str, Any]) -> None:
    bits, means = document["bits"], document["means"]
    assert means["all"]["model"] == pytest.approx(sum(b["model"] for b in bits.values()) / 3, abs=1e-4)
    assert means["real"]["model"] == pytest.approx(
        (bits["airds"]["model"] + bits["bach"]["model"]) / 2, abs=1e-4
    )
    assert document["generated_mean"]["continuations"] == 4


def test_the_piece_so_far_helps_untrained_weights_and_the_ngrams(document: dict[str, Any]) -> None:
    for bits in document["bits"].values():
        assert bits["model_and_piece"] < 0.7 * bits["model"]
        assert bits["static_and_piece"] < 0.9 * bits["static"]


def test_the_tables_name_every_source_measure_and_mean(printed: str) -> None:
    assert [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| mean of")] == [
        "mean of all sources",
        "mean of real sources",
        "mean of sources",
    ]
    for name in (*SOURCES, *(measure.replace("_", " ") for measure in MEASURES)):
        assert f"| {name} |" in printed


def test_no_more_rows_of_a_source_are_taken_than_asked() -> None:
    pieces = list(pieces_of(work for work in WORKS if work.split == "test"))
    taken = list(first_rows(pieces, 400))
    assert [(piece.source, len(piece.rows)) for piece in taken] == [
        (source, rows) for source in SOURCES for rows in (288, 112)
    ]
    assert all(len(piece.columns.targets) == len(piece.rows) for piece in taken)


def test_who_plays_the_truth_differs_from_it_in_nothing() -> None:
    asked = list(prompts(list(pieces_of(WORKS[:4])), 4, 0))
    truths = iter([prompt.truth for prompt in asked])

    def oracle(primer: Phrase, metre: Metre, seed: int) -> Phrase:
        return next(truths)

    index = build_index([work.notes for work in WORKS[:4]])
    told = compare(asked, oracle, index, [])
    assert told.generated == told.truth
    assert told.copied == told.truth_copied
    assert min(told.copied) > 30  # the truth stands in the works that the index was made of
    assert told.shared == told.truth_shared
    assert set(differences(told.generated, told.truth).values()) == {0.0}


def test_a_prompt_is_whole_bars_of_a_work_and_what_follows() -> None:
    for prompt in prompts(list(pieces_of(WORKS[:4])), 4, 0):
        assert prompt.primer.length_beats == 16 * prompt.bar_beats
        assert prompt.truth.length_beats == BARS * prompt.bar_beats
        assert len(prompt.truth.notes) == 9 * BARS
        assert all(note.start_beats + note.length_beats <= 32.0 for note in prompt.truth.notes)
