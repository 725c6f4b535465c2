"""Answers the request rows that other processes write into the ledger, each by a function from a table.

Lives on the event loop; several requests may be under way at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bridge.errors import DawbridgeError, LedgerError
from bridge.ledger import Ledger

POLL_S = 0.1  # how often requests are looked for
RETRY_S = 5.0
GOING = {"ok": False, "code": "silent", "detail": "The daemon is being stopped. Ask the next one."}

log = logging.getLogger(__name__)

Do = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Answering:
    """Requests to one addressee."""

    def __init__(self, ledger: Ledger, addressee: str, table: Mapping[str, Do]) -> None:
        """`table`: the request's `name` -> what answers it; a DawbridgeError of it becomes the answer."""
        self._ledger = ledger
        self._addressee = addressee
        self._table = table
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def begin(self) -> None:
        """What was asked of a predecessor is not done."""
        self._ledger.forget_requests(self._addressee)

    async def run(self) -> None:
        """Answer for ever.

        Raises:
            LedgerError: it is damaged; only a new start can mend that.
        """
        while True:
            try:
                for request_id, body in self._ledger.open_requests(self._addressee):
                    if request_id not in self._tasks:
                        self._tasks[request_id] = asyncio.create_task(self._answer(request_id, body))
            except LedgerError as exc:
                if exc.code == "damaged":
                    raise
                log.warning("requests wait: %s", exc)
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(POLL_S)

    async def end(self) -> None:
        """Break off what is under way; let nobody wait for a daemon that ends."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(LedgerError):
            for request_id, _ in self._ledger.open_requests(self._addressee):
                self._ledger.answer(request_id, GOING)

    async def _answer(self, request_id: int, body: Mapping[str, Any]) -> None:
        try:
            answer = {"ok": True, **await self._table[body["name"]](body)}
        except DawbridgeError as exc:
            answer = {"ok": False, "code": exc.code, "detail": exc.message}
        except Exception as exc:  # a fault in one request must not stop the others
            log.exception("request %s failed", body)
            told = f"This is a fault in dawbridge ({type(exc).__name__}: {exc}); the log has the details."
            answer = {"ok": False, "code": "unexpected", "detail": told}
        try:
            self._ledger.answer(request_id, answer)
        except LedgerError as exc:
            log.warning("the answer to %s is lost: %s", body, exc)
        del self._tasks[request_id]
