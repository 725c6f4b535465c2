"""One daemon per state folder: a lock that the system frees with the process, and who holds it beside it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from bridge.config import Folders
from bridge.errors import LedgerError

LOOK_S, POLL_S = 1.0, 0.02


@contextlib.contextmanager
def only_one(folders: Folders) -> Iterator[None]:
    """Hold the state folder. May wait a second: whoever looks whether it is held holds it for a moment.

    Raises:
        LedgerError: another daemon does (`locked`).
    """
    folders.state.mkdir(parents=True, exist_ok=True)
    holder = folders.state / "daemon.json"
    lock = filelock.FileLock(_lock_path(folders))
    try:
        lock.acquire(timeout=LOOK_S, poll_interval=POLL_S)
    except filelock.Timeout:
        raise LedgerError(
            f"Another daemon (process {_pid(holder)}) holds {folders.state}. Stop it first, or use it.",
            "locked",
        ) from None
    try:
        holder.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def daemon_runs(folders: Folders) -> bool:
    """Whether a daemon holds the state folder now."""
    return is_held(_lock_path(folders))


def another_daemon_runs(folders: Folders) -> bool:
    """Whether a daemon that is not this process holds the state folder now."""
    return daemon_runs(folders) and _pid(folders.state / "daemon.json") != os.getpid()


def jobs_run(folders: Folders) -> bool:
    """Whether any process runs a job of this state folder now: the daemon, or `dawbridge process`."""
    return any(is_held(path) for path in job_locks(folders).glob("*.lock"))


def job_runs(folders: Folders, job_id: str) -> bool:
    """Whether any process runs this job now."""
    return is_held(job_lock(folders, job_id))


def job_lock(folders: Folders, job_id: str) -> Path:
    """The lock of a job, held while it runs."""
    return job_locks(folders) / f"{job_id}.lock"


def job_locks(folders: Folders) -> Path:
    """Where each running job has a lock."""
    return folders.state / "locks"


def is_held(path: Path) -> bool:
    """Whether a process holds this lock. To look is not to use: its age stays as it is."""
    try:
        before = path.stat()
    except FileNotFoundError:
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    with contextlib.suppress(OSError):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    lock.release()
    return False


def _lock_path(folders: Folders) -> Path:
    return folders.state / "daemon.lock"


def _pid(holder: Path) -> object:
    try:
        return json.loads(holder.read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError, TypeError):  # it starts or ends just now
        return "unknown"
