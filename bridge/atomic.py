"""Files that appear whole or not at all: written beside, flushed, renamed.

A reader, or a power cut, never meets half a file under its final name.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bridge.store import fsync_folder


@contextmanager
def replacing(path: Path, *, durable: bool = True, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` when the block ends well, and vanishes when it doesn't.

    `durable=False` does not wait for the disk: for what is written often and soon again. `mode` (POSIX, less
    the umask) holds from the first byte on.

    Its temporary name starts with a dot, so that no watched folder takes it for a bounce.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        fsync_folder(path.parent)
