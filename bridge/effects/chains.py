"""Reads a chain of effects from TOML and checks it at load: types, keys, ranges and paths.

A chain file holds one `[[effect]]` table per effect, in order. `type` names it: one of pedalboard's
effects, `Mix` (its `branches` run side by side and are summed) or `VST3` (a plug-in by its path).
pedalboard is not imported: the daemon checks chains too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bridge.config import folders, read_toml, shipped
from bridge.effects.table import EFFECTS, Allowed, Choice, Range
from bridge.errors import PresetError

Value = float | str
TYPES = (*EFFECTS, "Mix", "VST3")
TIMEOUT = Range(1.0, 3600.0)


@dataclass(frozen=True)
class Effect:
    """One of pedalboard's own effects."""

    type: str  # the name of pedalboard's class
    parameters: Mapping[str, Value]  # only those that the file sets; a file's path is absolute


@dataclass(frozen=True)
class Mix:
    """Branches that all hear the same input; their outputs are summed."""

    branches: tuple[tuple[Effect, ...], ...]


@dataclass(frozen=True)
class Plugin:
    """A VST3 plug-in, run in a child process."""

    path: Path
    parameters: Mapping[str, float | bool | str]  # the plug-in's own, checked when it is loaded
    timeout_s: float  # for loading and rendering together


Step = Effect | Mix | Plugin


@dataclass(frozen=True)
class Chain:
    """Effects in the order in which they are heard."""

    name: str
    steps: tuple[Step, ...]
    sha256: str  # of the chain file and the sound files that it names


def chain_folders() -> tuple[Path, ...]:
    """Where chains lie: the user's own come before the shipped ones."""
    return folders().presets / "effects", shipped("presets") / "effects"


def load_chain(name: str, where: Sequence[Path]) -> Chain:
    """The chain `name` from the first of the folders that holds it.

    Raises:
        PresetError: there is none, or its file is not as this module's docstring says.
    """
    found = {path.stem: path for folder in reversed(where) for path in sorted(folder.glob("*.toml"))}
    if name not in found:
        raise PresetError(f"There is no effect chain {name!r}. {_hint(name, sorted(found), 'There are')}")
    return read_chain(found[name])


def read_chain(path: Path) -> Chain:
    """A checked chain from its file.

    Raises:
        PresetError: see `load_chain`.
    """
    table = read_toml(path, PresetError)
    for key in table:
        if key != "effect":
            raise PresetError(f"{path}: unknown key {key!r}. A chain is a list of [[effect]] tables.")
    tables = table.get("effect")
    if not isinstance(tables, list) or not tables:
        raise PresetError(f"{path} holds no effect. Write at least one [[effect]] table.")
    steps = tuple(_step(entry, f"{path}: effect {i}", path.parent) for i, entry in enumerate(tables, 1))
    digest = hashlib.sha256(path.read_bytes())
    for sound_file in _sound_files(steps):
        digest.update(sound_file.read_bytes())
    return Chain(path.stem, steps, digest.hexdigest())


def _step(table: Any, where: str, folder: Path) -> Step:
    kind = _type(table, where)
    if kind == "Mix":
        return _mix(table, f"{where} (Mix)", folder)
    if kind == "VST3":
        return _plugin(table, f"{where} (VST3)", folder)
    return _effect(table, where, folder)


def _type(table: Any, where: str) -> str:
    if not isinstance(table, Mapping):
        raise PresetError(f"{where} is no table. Write it as [[effect]] or in braces.")
    kind = table.get("type")
    if kind not in TYPES:
        raise PresetError(f"{where}: unknown type = {kind!r}. {_hint(str(kind), TYPES, 'Types')}")
    return str(kind)


def _effect(table: Mapping[str, Any], where: str, folder: Path) -> Effect:
    kind = _type(table, where)
    where = f"{where} ({kind})"
    if kind not in EFFECTS:
        raise PresetError(f"{where}: {kind} can't stand inside a Mix. Put it beside the Mix.")
    allowed = EFFECTS[kind]
    _check_keys(table, ("type", *allowed), where)
    parameters = {
        key: _value(value, allowed[key], f"{where}: {key}", folder)
        for key, value in table.items()
        if key != "type"
    }
    if kind == "Convolution" and "impulse_response_filename" not in parameters:
        raise PresetError(f"{where} needs impulse_response_filename, the path of an audio file.")
    return Effect(kind, parameters)


def _mix(table: Mapping[str, Any], where: str, folder: Path) -> Mix:
    _check_keys(table, ("type", "branches"), where)
    branches = table.get("branches")
    if not isinstance(branches, list) or not branches or not all(isinstance(b, list) and b for b in branches):
        raise PresetError(f"{where}: branches must be a list of lists of effects, none of them empty.")
    return Mix(
        tuple(
            tuple(
                _effect(entry, f"{where}: branch {i}, effect {k}", folder)
                for k, entry in enumerate(branch, 1)
            )
            for i, branch in enumerate(branches, 1)
        )
    )


def _plugin(table: Mapping[str, Any], where: str, folder: Path) -> Plugin:
    _check_keys(table, ("type", "path", "parameters", "timeout_s"), where)
    path = _existing(table.get("path"), f"{where}: path", folder)
    parameters = table.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise PresetError(f"{where}: parameters = {parameters!r} must be a table.")
    for key, value in parameters.items():
        if not isinstance(value, (bool, int, float, str)):
            raise PresetError(
                f"{where}: parameters.{key} = {value!r} must be a number, true, false or a text."
            )
    timeout_s = _number(table.get("timeout_s", 60.0), TIMEOUT, f"{where}: timeout_s")
    return Plugin(path, dict(parameters), timeout_s)


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise PresetError(f"{where}: unknown key {key!r}. {_hint(key, known, 'Known keys')}")


def _value(value: Any, allowed: Allowed, where: str, folder: Path) -> Value:
    if isinstance(allowed, Range):
        return _number(value, allowed, where)
    if isinstance(allowed, Choice):
        if value not in allowed.words:
            raise PresetError(f"{where} = {value!r} must be one of {', '.join(allowed.words)}.")
        return str(value)
    return str(_existing(value, where, folder))


def _number(value: Any, allowed: Range, where: str) -> float:
    bounds = f"it must be from {allowed.lo:g} to {allowed.hi:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PresetError(f"{where} = {value!r} is no number: {bounds}.")
    if not allowed.lo <= value <= allowed.hi:
        raise PresetError(f"{where} = {value!r} is out of range: {bounds}.")
    return float(value)


def _existing(value: Any, where: str, folder: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise PresetError(f"{where} = {value!r} must be a path in quotes.")
    path = (folder / Path(value).expanduser()).absolute()
    if not path.exists():
        raise PresetError(f"{where} = {value!r}: there is no {path}. Install it, or correct the path.")
    return path


def _hint(word: str, known: Sequence[str], title: str) -> str:
    near = get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"{title}: {', '.join(known)}."


def _sound_files(steps: Sequence[Step]) -> list[Path]:
    effects = [
        effect for step in steps if isinstance(step, Mix) for branch in step.branches for effect in branch
    ]
    effects += [step for step in steps if isinstance(step, Effect)]
    return [Path(str(e.parameters["impulse_response_filename"])) for e in effects if e.type == "Convolution"]
