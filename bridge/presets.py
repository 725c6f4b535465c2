"""presets/*.toml (pipelines) -> Preset, checked against the pipeline. The user's own come before the shipped ones.

A table per stage; a stage without a table does not run. `--set stage.key=value` lies over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bridge.config import folders, parse_scalar, read_table, read_toml, shipped
from bridge.errors import PresetError, UsageError
from bridge.pipeline import STAGES, maker_of
from bridge.types import Preset

Overrides = Mapping[str, Mapping[str, Any]]


def preset_files() -> dict[str, Path]:
    """Name -> file of every preset; the user's own win over shipped ones of the same name."""
    found: dict[str, Path] = {}
    for folder in (shipped("presets"), folders().presets):
        found |= {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return found


def load_preset(name: str, overrides: Overrides | None = None) -> Preset:
    """Read and check a preset.

    Raises:
        PresetError: no such preset, an unknown stage or key, or a value out of range.
    """
    files = preset_files()
    if name not in files:
        near = get_close_matches(name, files, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(files))}."
        raise PresetError(f"There is no preset {name!r}. {hint}")
    path = files[name]
    table = read_toml(path, PresetError)
    table.pop("description", None)
    return build_preset(name, table, str(path), overrides or {})


def build_preset(name: str, table: Mapping[str, Any], where: str, overrides: Overrides) -> Preset:
    """A Preset from a table of stage tables, with `overrides` laid over them.

    Raises:
        PresetError: as `load_preset`; an override for a stage that the preset does not run.
    """
    table = {"export": {}, **table}
    for key, value in table.items():
        if key not in STAGES:
            raise PresetError(f"{where}: unknown stage [{key}]. Stages: {', '.join(STAGES)}.")
        if not isinstance(value, dict):
            raise PresetError(f"{where}: {key} = {value!r} must be a table: write [{key}].")
    for key in overrides:
        if key not in STAGES:
            raise PresetError(f"--set {key}: there is no stage {key!r}. Stages: {', '.join(STAGES)}.")
        if key not in table:
            runs = ", ".join(table)
            raise PresetError(f"--set {key}: the preset {name!r} does not run {key}. It runs: {runs}.")
    settings: dict[str, Any] = {}
    for stage_name, stage in STAGES.items():
        if stage_name in table:
            checked = read_table(stage.settings, table[stage_name], f"{where} [{stage_name}]", PresetError)
            over = overrides.get(stage_name, {})
            read_table(stage.settings, over, f"--set {stage_name}", PresetError)
            merged = {**table[stage_name], **over}
            settings[stage_name] = read_table(stage.settings, merged, where, PresetError) if over else checked
            if stage.digests is not None:
                stage.digests(settings[stage_name])  # reads what it names, e.g. an effect chain
    _check_it_can_run(settings, where)
    return Preset(name, settings)


def _check_it_can_run(settings: Mapping[str, Any], where: str) -> None:
    """Each stage must get what it needs from another one of the preset."""
    if all("record" in STAGES[name].needs for name in settings):
        raise PresetError(f"{where}: it runs no stage. Add at least [separate] or [analyse].")
    made = {"bounce", "record"}.union(*(STAGES[name].gives for name in settings))
    for name in settings:
        for needed in STAGES[name].needs:
            if needed not in made:
                raise PresetError(f"{where}: [{name}] needs {needed}. Add [{maker_of(needed)}].")


def preset_description(path: Path) -> str:
    """The one line a preset says of itself."""
    return str(read_toml(path, PresetError).get("description", ""))


def parse_overrides(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`["analyse.bpm=152"]` -> `{"analyse": {"bpm": 152}}`.

    Raises:
        UsageError: not of the form stage.key=value.
    """
    overrides: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        stage_name, dot, key = name.strip().partition(".")
        if not (equals and dot and stage_name and key):
            raise UsageError(f"--set {pair!r} must look like stage.key=value, e.g. analyse.bpm=152.")
        overrides.setdefault(stage_name, {})[key] = parse_scalar(value.strip())
    return overrides


def settings_tables(preset: Preset) -> dict[str, dict[str, Any]]:
    """The preset as plain tables, from which `build_preset` makes it again."""
    return {name: asdict(settings) for name, settings in preset.settings.items()}
