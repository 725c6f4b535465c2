"""The whole bridge on the song whose truth is known: every goal of the README's table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.song_a import Row, measure_mix, measure_parts

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def missed(rows: list[Row]) -> list[str]:
    return [f"{row.what}: {row.value:.3f}, goal {row.sign} {row.goal}" for row in rows if not row.is_reached]


def test_the_mix_reaches_its_goals(dawbridge_home: Path, tmp_path: Path) -> None:
    rows = measure_mix(tmp_path / "outbox")
    assert len(rows) >= 14
    assert missed(rows) == []


def test_each_part_given_by_its_role_reaches_its_goal(dawbridge_home: Path, tmp_path: Path) -> None:
    rows = measure_parts(tmp_path / "outbox")
    assert len(rows) == 5
    assert missed(rows) == []
