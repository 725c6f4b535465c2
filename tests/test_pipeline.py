"""The graph's one table, held against the functions it names."""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest

from bridge.pipeline import KINDS, PIPELINE, STAGES, Stage, maker_of
from bridge.types import Artifact, Bounce, Context

rows = pytest.mark.parametrize("row", PIPELINE, ids=lambda row: row.name)


@rows
def test_a_stage_takes_just_the_artifacts_of_its_row(row: Stage) -> None:
    parameters = inspect.signature(row.run).parameters
    artifacts = [n for n, p in parameters.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert sorted(artifacts) == sorted(row.takes)
    assert {n for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY} == {
        "settings",
        "context",
    }


@rows
def test_what_is_only_wanted_may_be_none_and_what_is_needed_may_not(row: Stage) -> None:
    hints = typing.get_type_hints(row.run)
    for name in row.takes:
        plain = Bounce if name == "bounce" else Artifact
        expected = plain if name in row.needs else plain | None
        assert hints[name] == expected, name
    assert hints["settings"] is row.settings
    assert hints["context"] is Context


@rows
def test_settings_are_frozen_and_have_defaults(row: Stage) -> None:
    assert row.settings.__dataclass_params__.frozen
    row.settings()


@rows
def test_what_a_stage_takes_is_made_by_an_earlier_one(row: Stage) -> None:
    names = list(STAGES)
    for name in row.takes:
        maker = maker_of(name)
        if name not in ("bounce", "record"):
            assert maker is not None, name
            assert names.index(maker) < names.index(row.name)


def test_each_artifact_has_one_maker_and_a_kind() -> None:
    made = [name for row in PIPELINE for name in row.gives]
    assert len(made) == len(set(made))
    assert set(made) | {"record"} == set(KINDS)


def test_export_is_last_and_takes_everything() -> None:
    last = PIPELINE[-1]
    assert last.name == "export"
    assert set(last.takes) == {"bounce", "record", *(name for row in PIPELINE for name in row.gives)}


@rows
def test_what_of_the_bounce_counts_is_really_part_of_it(row: Stage) -> None:
    assert set(row.bounce_fields) <= {field.name for field in dataclasses.fields(Bounce)}
