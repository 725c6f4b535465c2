"""When a file in a watched folder is ready: quiet, unchanged, and whole by its own container.

A pure state machine: stat results and the clock are fed in, so every way of writing a file can be
tested without waiting. It is owned by one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stamp:
    """What must stay the same while a file is quiet, or while it is copied."""

    size: int
    mtime_ns: int
    inode: int  # tells a rename over it; means nothing once its disk was mounted anew

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """From a stat result."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)

    @property
    def known_by(self) -> tuple[int, int]:
        """What a file is known again by, once it was dealt with."""
        return self.size, self.mtime_ns


@dataclass(frozen=True)
class Verdict:
    """A file that needs no more watching until it changes."""

    path: Path
    stamp: Stamp
    reason: str = ""  # why it is held to be cut off for good; empty where it has settled


@dataclass
class _Pending:
    stamp: Stamp
    seen_s: float  # the clock at the last observation
    look_at_s: float  # so long it must have been quiet before the container is looked at again
    quiet_s: float = 0.0


class Settler:
    """Decides from repeated observations which files are ready.

    Observe every pending file at least twice in `settle_s`. Quiet time is summed up from the steps
    between observations, none of which counts for more than half of `settle_s`: a clock that jumps
    can neither settle a file early nor hold it for ever.
    """

    def __init__(
        self, *, settle_s: float, incomplete_s: float, incomplete: Callable[[Path], str | None]
    ) -> None:
        """`incomplete` says why a quiet file is not whole, or None; it may read the file."""
        self._settle_s = settle_s
        self._incomplete_s = incomplete_s
        self._incomplete = incomplete
        self._pending: dict[Path, _Pending] = {}
        self._finished: dict[Path, tuple[int, int]] = {}

    @property
    def pending(self) -> tuple[Path, ...]:
        """Files that must be observed again."""
        return tuple(self._pending)

    @property
    def known(self) -> tuple[Path, ...]:
        """All files it remembers."""
        return (*self._pending, *self._finished)

    def knows(self, path: Path, stamp: Stamp) -> bool:
        """Whether the file was observed before, just as it is now."""
        pending = self._pending.get(path)
        return self._finished.get(path) == stamp.known_by or (pending is not None and pending.stamp == stamp)

    def observe(self, path: Path, stamp: Stamp | None, now_s: float) -> Verdict | None:
        """Feed one look at a file; `stamp` None means that it is gone. A verdict is given once per change."""
        if stamp is None:
            self.forget(path)
            return None
        if self._finished.get(path) == stamp.known_by:
            return None
        file = self._pending.get(path)
        if file is None or file.stamp != stamp:
            self._finished.pop(path, None)
            self._pending[path] = _Pending(stamp, now_s, self._settle_s)
            return None
        file.quiet_s += min(max(now_s - file.seen_s, 0.0), self._settle_s / 2)
        file.seen_s = now_s
        return self._judge(path, file) if file.quiet_s >= file.look_at_s else None

    def finish(self, path: Path, stamp: Stamp) -> None:
        """Take the file as dealt with until it changes."""
        self._pending.pop(path, None)
        self._finished[path] = stamp.known_by

    def forget(self, path: Path) -> None:
        """Take the file as never seen."""
        self._pending.pop(path, None)
        self._finished.pop(path, None)

    def _judge(self, path: Path, file: _Pending) -> Verdict | None:
        reason = self._incomplete(path)
        if reason and file.quiet_s < self._incomplete_s:
            file.look_at_s = file.quiet_s + self._settle_s
            return None
        self.finish(path, file.stamp)
        return Verdict(path, file.stamp, reason or "")
