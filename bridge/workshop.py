"""Opens what every job needs, and takes one file up as a job: the same path for the daemon and `process`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.config import Folders
from bridge.intake import take
from bridge.jobs import Workshop, prepare
from bridge.lanes import InlineLane, Lane, WorkerLane
from bridge.ledger import Ledger
from bridge.pipeline import LaneName
from bridge.presets import load_preset
from bridge.store import Store
from bridge.types import Job

LANES: tuple[LaneName, ...] = ("heavy", "light")


@asynccontextmanager
async def open_workshop(
    folders: Folders, *, worker_idle_s: float = 120.0, inline: bool = False
) -> AsyncIterator[Workshop]:
    """Ledger, store and lanes; closed in reverse. `inline` runs stages in this process, for tests."""
    ledger = Ledger(folders.ledger)
    lanes: dict[LaneName, Lane] = {
        name: InlineLane() if inline else WorkerLane(name, idle_s=worker_idle_s, log_file=folders.log)
        for name in LANES
    }
    try:
        yield Workshop(lanes, Store(folders.store), ledger, folders)
    finally:
        for lane in lanes.values():
            await lane.close()
        ledger.close()


def take_up(
    path: Path,
    shop: Workshop,
    *,
    preset: str,
    outbox: Path,
    role: str = "",
    folder_role: str = "",
    inbox: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Job:
    """Read the file and its sidecar, copy it into the spool, and decide what will run.

    `role` is what the user says, `folder_role` what the inbox's subfolder says (the weaker word).
    May take seconds: don't call it on an event loop.

    Raises:
        InputError: the file can't be worked on; it stays untouched.
        PresetError: the preset or an override is wrong.
    """
    taken = take(path, spool=shop.folders.spool, role=role, folder_role=folder_role, inbox=inbox)
    sidecar = taken.sidecar
    over = {name: dict(table) for name, table in (overrides or {}).items()}
    wanted = preset
    if sidecar is not None and sidecar.preset:
        wanted = sidecar.preset
    chosen = load_preset(wanted, over)
    if (
        sidecar is not None
        and sidecar.voice
        and "convert" in chosen.settings
        and "voice" not in over.get("convert", {})
    ):
        chosen = load_preset(wanted, {**over, "convert": {**over.get("convert", {}), "voice": sidecar.voice}})
    job = prepare(taken.bounce, chosen, outbox, shop.folders, overrides=over, warnings=taken.warnings)
    return replace(job, outbox=outbox)


def refusal_id(path: Path) -> str:
    """The name under which a file that can't be worked on stands in the ledger."""
    return "refused-" + hashlib.sha256(str(path).encode()).hexdigest()[:8]
