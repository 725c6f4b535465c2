"""`config.json` beside this file: the installer writes the folders, the user may change the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .problem import Problem

NAME = "config.json"
REMEDY = "Run: dawbridge install-scripts live"
AUTOLOAD = ("off", "project", "all")
OFF = -1


@dataclass(frozen=True)
class Config:
    """Where dawbridge's folders are, and how to start loading."""

    inbox: Path
    outbox: Path
    version: str  # of these scripts
    load_cc: int = 119  # the MIDI controller that loads the newest song; -1: none
    load_channel: int = 16  # 1..16
    autoload: str = "project"  # "off"; "project": songs of the project named like this set; "all"


def read_config(path: Path) -> Config:
    """Read and check it; unknown keys are ignored.

    Raises:
        Problem: missing, damaged, or a value that makes no sense.
    """
    try:
        table = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise Problem(f"{path} can't be read ({error.strerror}). {REMEDY}") from error
    except ValueError as error:
        raise Problem(f"{path} is damaged ({error}). {REMEDY}") from error
    if not isinstance(table, dict):
        raise Problem(f"{path} holds no settings. {REMEDY}")
    return Config(
        inbox=_folder(table, "inbox", path),
        outbox=_folder(table, "outbox", path),
        version=str(table.get("version", "")),
        load_cc=_number(table, "load_cc", OFF, 127, Config.load_cc, path),
        load_channel=_number(table, "load_channel", 1, 16, Config.load_channel, path),
        autoload=_choice(table, path),
    )


def _folder(table: dict[str, Any], key: str, path: Path) -> Path:
    value = table.get(key)
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise Problem(f"{path}: {key} = {value!r} is no whole path. {REMEDY}")
    return Path(value)


def _number(table: dict[str, Any], key: str, lo: int, hi: int, default: int, path: Path) -> int:
    value = table.get(key, default)
    if type(value) is not int or not lo <= value <= hi:
        raise Problem(f"{path}: {key} = {value!r} must be a whole number from {lo} to {hi}.")
    return value


def _choice(table: dict[str, Any], path: Path) -> str:
    value = table.get("autoload", Config.autoload)
    if value not in AUTOLOAD:
        raise Problem("{}: autoload = {!r} must be one of {}.".format(path, value, ", ".join(AUTOLOAD)))
    return str(value)
