"""What is held up in the daemon: how often in a row, for how long now, and the files that can't be taken yet.

Lives on the event loop. Jobs that wait rest in `line.Line`; files rest here, since they are no jobs yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from bridge.names import printable
from bridge.retrying import rest_s
from bridge.watch import Found

log = logging.getLogger(__name__)


class Waiting:
    """By the id of a job, or of a file (`workshop.refusal_id`)."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._tell = tell
        self._times: Counter[str] = Counter()
        self._files: dict[str, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}

    def __contains__(self, file_id: str) -> bool:
        return file_id in self._files

    def hold_up(self, held_id: str, name: str, code: str, why: str) -> float:
        """Tell that something waits; for how long, in seconds: longer each time in a row."""
        self._times[held_id] += 1
        seconds = rest_s(self._times[held_id])
        log.warning("%s (%s) waits %.0f s: %s", printable(name), held_id, seconds, why)
        told = {"id": held_id, "name": printable(name), "code": code, "detail": why, "seconds": seconds}
        self._tell({"event": "waiting", **told})
        return seconds

    def over(self, held_id: str) -> None:
        """It goes on, or has ended: a file that rests no longer does."""
        self._times.pop(held_id, None)
        self._stop(held_id)

    def rest(self, file_id: str, found: Found, seconds: float, put: Callable[[Found], None]) -> None:
        """`put` a file back after so many seconds, or when it is woken."""
        self._stop(file_id)
        timer = asyncio.get_running_loop().call_later(seconds, self.wake, file_id)
        self._files[file_id] = (timer, lambda: put(found))

    def wake(self, file_id: str) -> bool:
        """Put a file back now; whether it did rest."""
        put = self._stop(file_id)
        if put is not None:
            put()
        return put is not None

    def drop(self, file_id: str) -> bool:
        """Let a file that rests never come back; whether it did rest."""
        return self._stop(file_id) is not None

    def _stop(self, file_id: str) -> Callable[[], None] | None:
        timer, put = self._files.pop(file_id, (None, None))
        if timer is not None:
            timer.cancel()
        return put
