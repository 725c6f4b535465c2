"""Every General MIDI program has its place among the model's parts."""

from __future__ import annotations

import pytest

from bridge.transformer.parts import PARTS, PROGRAMS, part_of_program


def test_the_table_names_each_program_once_and_in_order() -> None:
    assert [program for programs, _ in PROGRAMS for program in programs] == list(range(128))


def test_a_program_never_becomes_drums_or_an_unknown_part() -> None:
    assert {part_of_program(program) for program in range(128)} == {*PARTS, None} - {"drums"}


@pytest.mark.parametrize(
    ("program", "part"),
    [(0, "piano"), (19, "piano"), (25, "guitar"), (33, "bass"), (48, "strings"), (80, "lead"), (127, None)],
)
def test_well_known_programs(program: int, part: str | None) -> None:
    assert part_of_program(program) == part
