"""A folder for what lies between two steps of a stage.

It goes when its work is done. After an error it stays: whether the disk was full is judged by the room that is left, and
the store removes a stage's whole working folder anyway.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(inside: Path) -> Iterator[Path]:
    """A new folder in `inside`."""
    folder = Path(tempfile.mkdtemp(dir=inside))
    yield folder
    shutil.rmtree(folder)
