"""Fields of settings dataclasses: a default with its range or choices. `config.read_table` checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any


def setting(
    default: Any,
    *,
    lo: float | None = None,
    hi: float | None = None,
    choices: Sequence[Any] | None = None,
    help: str = "",
) -> Any:
    """A dataclass field with a range (both ends included) or a list of choices, checked by `read_table`."""
    metadata = {"lo": lo, "hi": hi, "choices": tuple(choices) if choices else None, "help": help}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)
