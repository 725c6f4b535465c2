"""A virtual screen for a program that a test runs; it ends with the test, or when the test's process dies."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from pathlib import Path

from tests.jack import end, start

START_LIMIT_S = 40.0


@contextlib.contextmanager
def virtual_display(log: Path) -> Iterator[str]:
    """A virtual screen on the first free display."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as number:
        # Without -noreset the server starts anew, and refuses others meanwhile, whenever its last client leaves.
        command = ("Xvfb", "-displayfd", str(writing), "-nolisten", "tcp", "-noreset")
        process = start(command, log, (writing,))
        os.close(writing)  # so that a dead Xvfb reads as an empty number
        try:
            if not select.select([number], [], [], START_LIMIT_S)[0]:
                raise TimeoutError(f"Xvfb names no display: {log.read_text(errors='replace')[-2000:]}")
            yield f":{int(number.readline())}"
        finally:
            end(process)
