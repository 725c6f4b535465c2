"""The map in `bridge/__init__.py` is true: each module stands in it, and nothing else does."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import bridge

PACKAGE = Path(bridge.__file__).parent


def modules() -> set[str]:
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return files | rooms


def test_each_module_and_room_stands_in_the_map_and_nothing_else_does() -> None:
    assert bridge.__doc__ is not None
    listed = re.findall(r"^\| `(\w+)` \|", bridge.__doc__, re.MULTILINE)
    assert sorted(listed) == sorted(modules())


def test_the_stages_that_the_map_names_are_those_of_the_pipeline() -> None:
    from bridge.pipeline import STAGES

    assert bridge.__doc__ is not None
    row = re.search(r"^\| `stages` \| (.+) \|$", bridge.__doc__, re.MULTILINE)
    assert row is not None
    assert row.group(1).split() == list(STAGES)


def test_every_module_opens_with_what_it_does() -> None:
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if name != "bridge.__main__":
            assert importlib.import_module(name).__doc__, name


def test_the_version_is_the_one_that_is_packaged() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bridge.__version__ == project["version"]


def test_the_layers_name_every_module() -> None:
    tables = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]
    layers = next(contract["layers"] for contract in tables["contracts"] if contract["type"] == "layers")
    named = {name.removeprefix("bridge.") for layer in layers for name in re.split(r"[ :|]+", layer)}
    assert named == modules() - {"__main__"}
