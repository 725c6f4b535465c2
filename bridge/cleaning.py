"""Frees disk: what can be made again (store, spool), what killed processes left, and the list of ended jobs.

Nothing in an inbox or an outbox that a musician made or got is ever touched.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bridge.config import Folders
from bridge.errors import ControlError, UsageError
from bridge.holder import job_locks, jobs_run
from bridge.intake import sweep
from bridge.ledger import Ledger
from bridge.stages.export import building_folder
from bridge.store import LEFTOVER_S, Store, size_bytes, sweep_old

WHAT = ("store", "spool", "jobs")


@dataclass(frozen=True)
class Freed:
    """What was removed, or would be."""

    store_bytes: int = 0
    spool_bytes: int = 0
    jobs: int = 0  # ended ones that are forgotten


def clean(
    folders: Folders, ledger: Ledger, what: Collection[str], *, outbox: Path, dry_run: bool = False
) -> Freed:
    """Empty the named ones of WHAT. Jobs that wait keep their bounces, and make their stages again.

    Raises:
        UsageError: one of them is unknown.
        ControlError: a job runs just now (`under_way`).
    """
    unknown = sorted(set(what) - set(WHAT))
    if unknown:
        raise UsageError(f"{unknown[0]!r} can't be cleaned. Use: {', '.join(WHAT)}.")
    if jobs_run(folders):
        raise jobs_under_way()
    store = Store(folders.store)
    freed = Freed(
        store.size_bytes() if "store" in what else 0,
        sum(size_bytes(path) for path in _copies(folders, ledger)) if "spool" in what else 0,
        ledger.count_ended() if "jobs" in what else 0,
    )
    if dry_run:
        return freed
    if "store" in what:
        store.trim(0)
        ledger.forget_results()
        sweep_leftovers(folders, store, ledger, outbox)
    if "spool" in what:
        for path in _copies(folders, ledger):
            with contextlib.suppress(OSError):  # Windows: another program reads it
                path.unlink()
    if "jobs" in what:
        ledger.forget_ended()
    return freed


def jobs_under_way() -> ControlError:
    """Nothing is cleaned while a job runs."""
    return ControlError("A job runs just now. Let it end, or cancel it; then clean.", "under_way")


def sweep_leftovers(folders: Folders, store: Store, ledger: Ledger, outbox: Path) -> None:
    """Remove what killed processes left half made: all of it where no job runs, else what is a day old.

    Copies of bounces that no job needs any more go too, once they are an hour old.
    """
    is_quiet = not jobs_run(folders)
    older_than_s = 0.0 if is_quiet else LEFTOVER_S
    store.sweep(older_than_s)
    building = building_folder(outbox)
    if not (building.is_symlink() or building.parent.is_symlink()):  # what lies behind a link is not ours
        sweep_old(building, older_than_s)
    sweep(folders.spool, [stored.bounce.path for stored in ledger.unfinished()])
    if is_quiet:
        _sweep_locks(job_locks(folders))


def _copies(folders: Folders, ledger: Ledger) -> list[Path]:
    """The spool's copies that no job needs any more."""
    needed = {stored.bounce.path.name for stored in ledger.unfinished()}
    return [path for path in folders.spool.glob("*") if path.name not in needed]


def _sweep_locks(folder: Path) -> None:
    for path in folder.glob("*.lock"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - LEFTOVER_S:
                path.unlink()
