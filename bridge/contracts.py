"""The JSON files we share with DAWs and scripts -> frozen dataclasses.

One reader for all of them: it refuses a higher schema, ignores keys it doesn't know, and its errors
name file, key, value and remedy.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from bridge.config import read_table
from bridge.errors import DawbridgeError

T = TypeVar("T")

MAX_INTEGER = 2**63 - 1  # what JSON readers in other languages hold
MAX_MESSAGE = 500


def read_contract(
    cls: type[T], path: Path, *, schema: int, max_bytes: int, error: type[DawbridgeError], remedy: str
) -> T:
    """Read `path` as one JSON object and build the dataclass `cls` from it.

    A null counts as not given where the field takes none. A schema lower than `schema` is read as it
    is. `remedy` ends the messages on files that are no such object at all.
    """
    table = _load(path, max_bytes, error, remedy)
    found = table.get("schema", schema)
    if type(found) is not int or found < 1:
        raise error(f"{path}: schema = {found!r} must be a whole number from 1. {remedy}")
    if found > schema:
        raise error(
            f"{path}: schema = {found} is newer than {schema}, the newest known here. Update dawbridge."
        )
    try:
        return read_table(cls, known_only(cls, table, str(path), error), str(path), error)
    except error as exc:
        raise error(_shortened(exc.message)) from exc


def parse_object(raw: bytes, where: str, error: type[DawbridgeError], remedy: str) -> dict[str, Any]:
    """Bytes from outside as one JSON object, its numbers bounded.

    Raises:
        DawbridgeError: `error`, which begins with `where` and ends with `remedy`.
    """
    try:
        table = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_int=_bounded_int)
    except (ValueError, RecursionError) as exc:  # ValueError: bad JSON, bad UTF-8, or a number refused below
        raise error(f"{where} is no JSON that can be read ({exc}). {remedy}") from exc
    if not isinstance(table, dict):
        raise error(f"{where} holds no JSON object. {remedy}")
    return table


def _load(path: Path, max_bytes: int, error: type[DawbridgeError], remedy: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as exc:
        raise error(f"{path} can't be read ({exc.strerror}). {remedy}") from exc
    if len(raw) > max_bytes:
        raise error(f"{path} is larger than {max_bytes} bytes. {remedy}")
    return parse_object(raw, str(path), error, remedy)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _bounded_int(text: str) -> int:
    number = int(text)
    if abs(number) > MAX_INTEGER:
        raise ValueError(f"{text[:20]}... is too large")
    return number


def _shortened(message: str) -> str:
    """A message that quotes a monstrous value, without its middle."""
    return message if len(message) <= MAX_MESSAGE else f"{message[:300]} ... {message[-100:]}"


def known_only(hint: Any, value: Any, where: str, error: type[DawbridgeError]) -> Any:
    """For `read_table`: `value` without the keys that `hint` doesn't know; a key that it must have and lacks is an error."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType) and value is not None:
        return known_only(arguments[0], value, where, error)
    if origin is tuple and isinstance(value, list):
        return [known_only(arguments[0], v, f"{where}[{i}]", error) for i, v in enumerate(value)]
    if not dataclasses.is_dataclass(hint) or not isinstance(value, Mapping):
        return value
    hints = typing.get_type_hints(hint)
    known: dict[str, Any] = {}
    for field in dataclasses.fields(hint):
        given, wanted = value.get(field.name), hints[field.name]
        if given is not None or (field.name in value and types.NoneType in typing.get_args(wanted)):
            known[field.name] = known_only(wanted, given, f"{where}: {field.name}", error)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise error(f"{where}: {field.name} is missing. Add it.")
    return known
