"""Opens what every job needs, and takes one file up as a job: the same path for the daemon and `process`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.config import Folders
from bridge.errors import PresetError
from bridge.intake import take
from bridge.jobs import Workshop, prepare
from bridge.lanes import InlineLane, Lane, WorkerLane
from bridge.ledger import Ledger
from bridge.pipeline import LaneName
from bridge.presets import load_preset
from bridge.sidecar import Sidecar
from bridge.store import Store
from bridge.types import Job, Preset, Transport

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
    transport: Transport | None = None,
) -> Job:
    """Read the file and its sidecar, copy it into the spool, and decide what will run.

    `role` is what the user says, `folder_role` what the inbox's subfolder says (the weaker word),
    `transport` what the DAW reported a short while ago.
    May take seconds: don't call it on an event loop.

    Raises:
        InputError: the file can't be worked on; it stays untouched.
        PresetError: the preset or an override is wrong.
    """
    taken = take(
        path,
        spool=shop.folders.spool,
        role=role,
        folder_role=folder_role,
        inbox=inbox,
        transport=transport,
    )
    over = {name: dict(table) for name, table in (overrides or {}).items()}
    chosen, warnings = _preset(preset, over, taken.sidecar)
    job = prepare(
        taken.bounce,
        chosen,
        outbox,
        shop.folders,
        overrides=over,
        warnings=(*taken.warnings, *warnings),
    )
    if taken.sidecar is None:
        return job
    return replace(job, project=taken.sidecar.project, track=taken.sidecar.track)


def _preset(
    name: str, overrides: Mapping[str, Mapping[str, Any]], sidecar: Sidecar | None
) -> tuple[Preset, tuple[str, ...]]:
    """The preset, with what the sidecar asks for; a sidecar that asks for nonsense gets a warning."""
    preset, warnings = load_preset(name, overrides), []
    if sidecar is not None and sidecar.preset:
        try:
            preset = load_preset(sidecar.preset, overrides)
        except PresetError as exc:
            warnings.append(f"The sidecar's preset is not used, {name!r} is: {exc.message}")
    if sidecar is not None and sidecar.voice and "voice" not in overrides.get("convert", {}):
        if "convert" in preset.settings:
            convert = replace(preset.settings["convert"], voice=sidecar.voice)
            preset = replace(preset, settings={**preset.settings, "convert": convert})
        else:
            warnings.append(f"The sidecar's voice is not used: the preset {preset.name!r} converts no vocal.")
    return preset, tuple(warnings)


def refusal_id(path: Path) -> str:
    """The name under which a file that can't be worked on stands in the ledger."""
    return "refused-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
