"""Where log records go: each file has one writer, so that it can be rotated.

Workers send theirs over the pipe to their parent. The daemon, of which there is one, rotates its file while it writes;
every other program appends to a file of its own, and moves a large one aside when it opens it. What a job's own
log says is collected in memory while it runs.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LARGE_BYTES = 1_000_000
KEPT_FILES = 5
MOST_LINES = 5000  # of one job
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


class JobLog:
    """What happened to one job, line by line, to be sent along with a question."""

    def __init__(self, opening: str) -> None:
        self._lines = [opening]

    @property
    def text(self) -> str:
        """All of it so far."""
        return "\n".join(self._lines) + "\n"

    def note(self, line: str) -> None:
        """Add a line with the time."""
        if len(self._lines) < MOST_LINES:
            self._lines.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Add the warnings and errors that are logged while the block runs, tracebacks included."""
        handler = _ToJobLog(self)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)


class _ToParent(logging.handlers.QueueHandler):
    """Makes records picklable and sends them."""

    def __init__(self, send: Callable[[tuple[str, Any]], None]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called with the prepared record."""
        with contextlib.suppress(OSError):  # the parent has gone; so will this process
            self._send(("log", record))


class _ToJobLog(logging.Handler):
    def __init__(self, log: JobLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._log.note(self.format(record))


def _to(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
