"""What a wheel can't carry by itself stands in a file beside it, and the two never part."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_shipped_overrides_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (ROOT / "bridge" / "overrides.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == project["tool"]["uv"][
        "override-dependencies"
    ]


def test_every_dependency_has_a_floor() -> None:
    """Without one, a resolver may answer with a version of years ago that knows nothing of the rest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert [line for line in project["project"]["dependencies"] if ">=" not in line] == []
