"""`dawbridge process`: one file, no daemon, the same code path. Ctrl-C cancels it and keeps finished stages."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.config import folders, load_config
from bridge.drafts import with_draft
from bridge.errors import ConfigError, ControlError
from bridge.intake import free
from bridge.jobs import JobResult, OnEvent, Workshop, already_returned, run_job
from bridge.logs import log_as_program
from bridge.types import Job
from bridge.workshop import open_workshop, revise, take_up


async def process_file(
    song: Path,
    outbox: Path,
    preset: str,
    role: str,
    overrides: Mapping[str, Mapping[str, Any]],
    on_event: OnEvent,
) -> JobResult:
    """Do one file and wait for it.

    Raises:
        ConfigError, InputError, PresetError: nothing was begun.
    """
    try:
        outbox.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"{outbox} can't be the outbox ({exc.strerror}). Choose another folder.") from exc
    log_as_program(folders().program_log)
    async with open_workshop(folders(), outbox=outbox) as shop:
        job = await asyncio.to_thread(
            take_up, song.absolute(), shop, preset=preset, outbox=outbox, role=role, overrides=overrides
        )
        returned = already_returned(job, shop)
        if returned is not None:
            return JobResult(job, "done", returned, shop.ledger.stages(job.id))
        (job,) = await asyncio.to_thread(with_draft, job, shop, is_wanted=False)
        return await _run(job, song.absolute(), shop, on_event)


async def process_again(
    job_id: str, overrides: Mapping[str, Mapping[str, Any]], preset: str, on_event: OnEvent
) -> JobResult:
    """Make another take of a job and wait for it, see `workshop.revise`.

    Raises:
        ControlError, PresetError: nothing was begun.
    """
    log_as_program(folders().program_log)
    async with open_workshop(folders(), outbox=load_config().outbox) as shop:
        stored = shop.ledger.stored(job_id)
        if stored is None:
            raise ControlError(f"Job {job_id} never had a bounce that could be worked on.", "unknown_job")
        job = await asyncio.to_thread(revise, stored, shop, overrides=overrides, preset=preset)
        returned = already_returned(job, shop)
        if returned is not None:
            return JobResult(job, "done", returned, shop.ledger.stages(job.id))
        return await _run(job, stored.source, shop, on_event)


async def _run(job: Job, source: Path, shop: Workshop, on_event: OnEvent) -> JobResult:
    cancel = threading.Event()
    _cancel_on_interrupt(cancel)
    shop.ledger.add_job(job, source)
    result = await run_job(job, shop, on_event, cancel)
    await asyncio.to_thread(shop.store.trim, load_config().store_max_bytes)
    if result.state == "done":
        keep = [stored.bounce.path for stored in shop.ledger.unfinished()]
        free(job.bounce.path, job.created_at, keep=keep)
    return result


def _cancel_on_interrupt(cancel: threading.Event) -> None:
    """Let Ctrl-C cancel the job between two segments; a second one ends the program at once."""
    if threading.current_thread() is not threading.main_thread():
        return

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, signal.default_int_handler)
        cancel.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
