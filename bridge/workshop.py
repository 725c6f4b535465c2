"""Opens what every job needs, and takes one file up as a job: the same path for the daemon and `process`."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.config import Folders
from bridge.errors import ControlError, PresetError
from bridge.intake import take
from bridge.jobs import Workshop, prepare
from bridge.lanes import InlineLane, Lane, WorkerLane
from bridge.ledger_rows import StoredJob
from bridge.pipeline import LaneName
from bridge.presets import build_preset, load_preset
from bridge.rebuilding import open_ledger
from bridge.sidecar import Sidecar
from bridge.store import Store
from bridge.types import Bounce, Job, Preset, Transport

LANES: tuple[LaneName, ...] = ("heavy", "light")


@asynccontextmanager
async def open_workshop(
    folders: Folders,
    *,
    worker_idle_s: float = 120.0,
    inline: bool = False,
    outbox: Path | None = None,
    outbox_mount: Path | None = None,
) -> AsyncIterator[Workshop]:
    """Ledger, store and lanes; closed in reverse. `inline` runs stages in this process, for tests.

    A ledger that is damaged is set aside, and a new one learns from the manifests in `outbox`.
    """
    ledger, mended = open_ledger(folders, outbox)
    lanes: dict[LaneName, Lane] = {
        name: InlineLane() if inline else WorkerLane(name, idle_s=worker_idle_s) for name in LANES
    }
    try:
        yield Workshop(lanes, Store(folders.store), ledger, folders, outbox_mount, mended)
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


def revise(
    stored: StoredJob, shop: Workshop, *, overrides: Mapping[str, Mapping[str, Any]], preset: str = ""
) -> Job:
    """Another take of a job: the same bounce, other settings or another preset; what they don't touch is cached.

    Without either, the music is drawn anew from another seed. May take seconds: don't call it on an event loop.

    Raises:
        PresetError: the preset or an override is wrong.
        ControlError: the bounce is gone (`gone`) or holds other audio now (`changed`); nothing would differ (`same`).
    """
    where = f"job {stored.id}"
    wanted = {name: dict(table) for name, table in overrides.items()}
    if not preset and not wanted:
        if "generate" not in stored.settings:
            raise ControlError("Nothing would differ. Say what: --set stage.key=value, or --preset.", "same")
        wanted = {"generate": {"seed": secrets.randbelow(2**31)}}
    chosen = (
        load_preset(preset, wanted) if preset else build_preset(stored.preset, stored.settings, where, wanted)
    )
    bounce = _bounce_again(stored, shop)
    job = prepare(
        bounce,
        chosen,
        stored.outbox,
        shop.folders,
        overrides={**stored.overrides, **wanted},
        warnings=stored.warnings,
    )
    kept = () if preset else stored.fallbacks  # its settings name what was fallen back to
    fallbacks = (*kept, *(one for one in job.fallbacks if one not in kept))
    return replace(job, fallbacks=fallbacks, project=stored.project, track=stored.track)


def _bounce_again(stored: StoredJob, shop: Workshop) -> Bounce:
    """The job's bounce with a copy in the spool, read again from its source where that is gone."""
    with suppress(FileNotFoundError):
        now_ns = time.time_ns()  # exact: what the system sets may lie before the earlier take
        os.utime(
            stored.bounce.path, ns=(now_ns, now_ns)
        )  # `intake.free` leaves it, though that ends just now
        return stored.bounce
    if not stored.source.is_file():
        raise ControlError(f"{stored.source} is gone. Put it back, then ask again.", "gone")
    bounce = take(stored.source, spool=shop.folders.spool, role=stored.bounce.role).bounce
    if bounce.sha256 != stored.bounce.sha256:
        raise ControlError(f"{stored.source} holds other audio now. Export it into the inbox.", "changed")
    return replace(stored.bounce, path=bounce.path)


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
