"""A listener to what the daemon tells that may fail, and never stops whoever tells it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any]], None]


def unfailing(tell: Tell) -> Tell:
    """Tell what can be told; the first failure in a row is logged, what it should have heard is lost."""
    fails = False

    def tell_or_log(message: Mapping[str, Any]) -> None:
        nonlocal fails
        try:
            tell(message)
        except Exception as exc:
            if not fails:
                is_ours = not isinstance(exc, OSError)
                log.warning("what goes on can't be told (%s)", exc, exc_info=is_ours)
            fails = True
        else:
            fails = False

    return tell_or_log
