"""Where log records go: each file has one writer, so that it can be rotated.

Workers send theirs over the pipe to their parent. The daemon, of which there is one, rotates its file while it writes;
every other program appends to a file of its own, and moves a large one aside when it opens it. A record that can't be
written is lost, and nobody is told: whoever logs must not be held up by it.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGE_BYTES = 1_000_000
KEPT_FILES = 5
FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


def log_as_daemon(path: Path) -> None:
    """Send this process' records to a file that is rotated; the caller holds the state folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _to(
        logging.handlers.RotatingFileHandler(
            path, maxBytes=LARGE_BYTES, backupCount=KEPT_FILES, encoding="utf-8", delay=True
        )
    )


def log_as_program(path: Path) -> None:
    """Append this process' records to a file; others may append at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # none yet; or (Windows) another program has it open: it grows on
        if path.stat().st_size > LARGE_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    _to(logging.FileHandler(path, encoding="utf-8", delay=True))


def log_to_parent(send: Callable[[tuple[str, Any]], None]) -> None:
    """Send a worker's records over its pipe, as `("log", record)`."""
    _to(_ToParent(send))


def pass_on(record: logging.LogRecord) -> None:
    """Log what a worker sent, in the parent."""
    logging.getLogger(record.name).handle(record)


class _ToParent(logging.handlers.QueueHandler):
    """Makes records picklable and sends them."""

    def __init__(self, send: Callable[[tuple[str, Any]], None]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called with the prepared record."""
        with contextlib.suppress(OSError):  # the parent has gone; so will this process
            self._send(("log", record))


def _to(handler: logging.Handler) -> None:
    logging.raiseExceptions = (
        False  # else the terminal gets a traceback for each record that a full disk refuses
    )
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
