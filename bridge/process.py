"""`dawbridge process`: one file, no daemon, the same code path. Ctrl-C cancels it and keeps finished stages."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.config import folders, load_config
from bridge.errors import ConfigError
from bridge.jobs import JobResult, OnEvent, already_returned, run_job
from bridge.workshop import open_workshop, take_up


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
    async with open_workshop(folders()) as shop:
        job = await asyncio.to_thread(
            take_up, song.absolute(), shop, preset=preset, outbox=outbox, role=role, overrides=overrides
        )
        returned = already_returned(job, shop)
        if returned is not None:
            return JobResult(job, "done", returned, shop.ledger.stages(job.id))
        cancel = threading.Event()
        _cancel_on_interrupt(cancel)
        shop.ledger.add_job(job, song.absolute())
        result = await run_job(job, shop, on_event, cancel)
        await asyncio.to_thread(shop.store.trim, load_config().store_max_bytes)
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
