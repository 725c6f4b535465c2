"""A job's own log: collected in memory while it runs, kept in the state folder, and sent back with the song.

It is what a musician sends along with a question, so it opens with the machine, the bounce and all settings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bridge import __version__
from bridge.presets import settings_tables
from bridge.types import Job

MOST_LINES = 5000

log = logging.getLogger(__name__)


def opening(job: Job) -> str:
    """Its first lines."""
    bounce = job.bounce
    lines = (
        f"dawbridge {__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores",
        f"job {job.id}, preset {job.preset.name}: {settings_tables(job.preset)}",
        f"{bounce.name}: {bounce.role}, {bounce.frames} frames, {bounce.channels} channels, {bounce.sample_rate_hz} Hz",
        *(f"warning: {warning}" for warning in job.warnings),
        *(f"fallback: {f.stage}: {f.used} instead of {f.wanted}: {f.reason}" for f in job.fallbacks),
    )
    return "\n".join(lines)


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

    def keep(self, path: Path, last_line: str) -> None:
        """Write it down with a last line; a disk that won't take it costs only the log."""
        self.note(last_line)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text, encoding="utf-8", errors="backslashreplace")
        except OSError as exc:
            log.warning("a job's log is not kept: %s", exc)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Add the warnings and errors that are logged while the block runs, tracebacks included."""
        handler = _ToJobLog(self)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)


class _ToJobLog(logging.Handler):
    def __init__(self, log: JobLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._log.note(self.format(record))
