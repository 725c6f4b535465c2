"""A real file system of a few megabytes, in memory, that a test can fill, take away and bring back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real import require_real


class SmallDisk:
    """A tmpfs; what it holds is lost when it is taken away."""

    def __init__(self, place: Path, megabytes: int) -> None:
        self.place = place
        self._options = f"size={megabytes}m"
        self.is_there = False

    def mount(self) -> bool:
        """Bring it (empty); whether this process may."""
        self.place.mkdir(parents=True, exist_ok=True)
        self.is_there = _run("mount", "-t", "tmpfs", "-o", self._options, "tmpfs", str(self.place))
        return self.is_there

    def unmount(self) -> None:
        """Take it away."""
        assert _run("umount", "-l", str(self.place))
        self.is_there = False

    def allow_writing(self, yes: bool) -> None:
        """Make it read-only, or writable again."""
        assert _run("mount", "-o", f"remount,{'rw' if yes else 'ro'},{self._options}", str(self.place))


@contextmanager
def small_disk(place: Path, megabytes: int = 16) -> Iterator[SmallDisk]:
    """Mounted while the block runs; the test is skipped where that is not allowed."""
    disk = SmallDisk(place, megabytes)
    require_real(sys.platform == "linux" and disk.mount(), "the right to mount a tmpfs: run as root")
    try:
        yield disk
    finally:
        if disk.is_there:
            disk.unmount()


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
