"""What passes by itself, how often it is tried again, and after how long.

Two kinds. A stage whose worker died or ran out of memory is tried again at once, a bounded number of times, the last
time with less memory. What the user or a disk must mend first (no room, an outbox that is away, a busy ledger) puts
the whole job off: it waits, says so, and goes on by itself, however long that takes.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

NEARLY_FULL_BYTES = 8 << 20
"""Less free room counts as none: libraries that write files don't always say why they failed."""

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS,)
AWAY = tuple(
    getattr(errno, name)
    for name in [
        "ENODEV",
        "ENXIO",
        "ESTALE",
        "ENOTCONN",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ETIMEDOUT",
        "EIO",
        "EBUSY",
        "EAGAIN",
    ]
    if hasattr(errno, name)
)
CROWDED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

WAITED_FOR = ("disk_full", "disk_away", "read_only", "crowded", "busy")
"""Codes of what puts a job off until it has passed."""

REST_S, LONGEST_REST_S = 2.0, 60.0


@dataclass(frozen=True)
class Again:
    """One more try of a stage."""

    rest_s: float
    thrifty: bool = False  # with less memory: one thread, and shorter stretches where the stage knows them


TRIES: dict[str, tuple[Again, ...]] = {
    "worker_died": (Again(0.5), Again(2.0, thrifty=True)),
    "memory": (Again(2.0, thrifty=True),),
}
"""Code of a stage's error -> what follows the first, the second ... failure of that stage in one run."""


def rest_s(times: int) -> float:
    """How long to wait after the job was put off for the `times`-th time in a row (from 1)."""
    return float(min(REST_S * 2.0 ** min(times - 1, 10), LONGEST_REST_S))


def again_after(code: str, failures: int) -> Again | None:
    """What follows the `failures`-th failure (from 1) of a stage with this code; None: it has failed for good."""
    tries = TRIES.get(code, ())
    return tries[failures - 1] if failures <= len(tries) else None


def waits_for(code: str) -> bool:
    """Whether an error of this code puts the job off instead of failing it."""
    return code in WAITED_FOR


def disk_code(exc: BaseException, *folders: Path) -> str:
    """The code of WAITED_FOR that fits a failure to read or write in `folders`, which were there; else ""."""
    number = exc.errno if isinstance(exc, OSError) else None
    if number in FULL:
        return "disk_full"
    if number in READ_ONLY:
        return "read_only"
    if number in CROWDED:
        return "crowded"
    if number in AWAY or any(not folder.is_dir() for folder in folders):
        return "disk_away"
    return "disk_full" if any(_free_bytes(folder) < NEARLY_FULL_BYTES for folder in folders) else ""


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
