"""The composition root: starts the parts in order, stops them in reverse. One per state folder.

One asyncio loop runs the queue; the watcher's own threads only put what they found into it. Heavy
libraries live in the workers, never here. What was interrupted by a stop or a crash is taken up again
at the next start, from its last finished stage.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import filelock

from bridge.config import Config, Folders
from bridge.errors import ConfigError, DawbridgeError, LedgerError, PresetError
from bridge.intake import sweep
from bridge.jobs import JobResult, Workshop, already_returned, run_job
from bridge.lanes import log_to_file
from bridge.ledger import StoredJob
from bridge.livehost.remote import offer_song
from bridge.names import printable
from bridge.presets import build_preset, load_preset, preset_files
from bridge.stages.export import building_folder
from bridge.store import sweep_old
from bridge.types import Job, StageEvent
from bridge.watch import Found, Refusal, Watcher, WatchFolder, check_folders
from bridge.workshop import open_workshop, refusal_id, take_up

RETRY_S = 5.0

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any]], None]


async def run_daemon(config: Config, folders: Folders, tell: Tell) -> None:
    """Watch, queue and run jobs until SIGTERM or Ctrl-C. `tell` hears all that happens.

    Raises:
        LedgerError: another daemon holds this state folder, or its disk is full.
        ConfigError, PresetError: the configuration can't be followed.
    """
    for watch in config.watch:
        load_preset(watch.preset)
    check_folders(_watched(config), config.outbox)
    _make_folders(config)
    with _only_one(folders):
        log_to_file(folders.log)
        async with open_workshop(folders, worker_idle_s=config.worker_idle_s) as shop:
            shop.store.sweep()
            sweep_old(building_folder(config.outbox))
            stop = _stop_signal()  # before `ready` is told: whoever reads that may stop us at once
            daemon = Daemon(config, shop, tell)
            async with daemon.running() as loops:
                with _companion(config, folders, tell):
                    await _until(stop, loops)


class Daemon:
    """The queue between the watcher and the workers; lives on the event loop."""

    def __init__(self, config: Config, shop: Workshop, tell: Tell) -> None:
        self._config = config
        self._shop = shop
        self._tell = tell
        self._found: asyncio.Queue[Found] = asyncio.Queue()
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._mine: set[str] = set()  # ids of the jobs that wait or run here

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
        """Everything started; on the way out the running stage is interrupted and its job queued again."""
        self._take_up_unfinished()
        watcher = self._watcher(asyncio.get_running_loop())
        loops = [asyncio.create_task(self._take_up_found()), asyncio.create_task(self._run_jobs())]
        await asyncio.to_thread(watcher.start)
        watched = [{"inbox": str(w.inbox), "preset": w.preset} for w in self._config.watch]
        self._tell({"event": "ready", "watch": watched, "outbox": str(self._config.outbox)})
        try:
            yield loops
        finally:
            await asyncio.to_thread(watcher.stop)
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    def _watcher(self, loop: asyncio.AbstractEventLoop) -> Watcher:
        return Watcher(
            _watched(self._config),
            settle_s=self._config.settle_s,
            rescan_s=self._config.rescan_s,
            seen=self._shop.ledger.is_seen,
            on_found=lambda found: _call(loop, self._found.put_nowait, found),
            on_refused=lambda refusal: _call(loop, self._refuse, refusal),
            outbox=self._config.outbox,
            preset_names=tuple(preset_files()),
        )

    def _take_up_unfinished(self) -> None:
        for stored in self._shop.ledger.unfinished():
            try:
                self._queue(_restore(stored))
            except PresetError as exc:  # a stage or setting that this version no longer knows
                self._shop.ledger.set_state(stored.id, "failed", code=exc.code, detail=exc.message)

    async def _take_up_found(self) -> None:
        while True:
            found = await self._found.get()
            try:
                await self._enqueue(found)
            except LedgerError as exc:  # busy, or its disk is full: that passes
                log.warning("%s waits: %s", found.path, exc)
                await asyncio.sleep(RETRY_S)
                self._found.put_nowait(found)
            except (DawbridgeError, OSError) as exc:
                code = getattr(exc, "code", "file")
                self._refuse(Refusal(found.path, found.preset, code, str(exc)))
            except Exception as exc:  # a fault in one file must not stop those behind it
                log.exception("taking up %s failed", found.path)
                why = f"This is a fault in dawbridge ({type(exc).__name__}: {exc}); the log has the details."
                self._refuse(Refusal(found.path, found.preset, "unexpected", why))

    async def _enqueue(self, found: Found) -> None:
        job = await asyncio.to_thread(
            take_up,
            found.path,
            self._shop,
            preset=found.preset,
            outbox=self._config.outbox,
            folder_role=found.role,
            inbox=found.inbox,
        )
        for warning in job.warnings:
            self._tell({"event": "warning", "name": job.bounce.name, "detail": warning})
        ledger = self._shop.ledger
        returned = already_returned(job, self._shop)
        if job.id in self._mine:
            log.info("%s is on its way already as job %s", found.path, job.id)
        elif returned is not None:
            self._tell_job(JobResult(job, "done", returned, ledger.stages(job.id)))
        else:
            ledger.add_job(job, found.path)
            self._tell({"event": "queued", "id": job.id, "name": job.bounce.name, "preset": job.preset.name})
            self._queue(job)
        ledger.mark_seen(found.path, found.inode, found.size, found.mtime_ns, job.id)

    def _queue(self, job: Job) -> None:
        self._mine.add(job.id)
        self._jobs.put_nowait(job)

    async def _run_jobs(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                result = await run_job(job, self._shop, self._tell_stage, threading.Event())
                self._tell_job(result)
                if result.folder is not None:
                    await asyncio.to_thread(offer_song, self._shop.folders, result.folder)
                await asyncio.to_thread(self._tidy)
            except LedgerError as exc:
                log.warning("job %s waits: %s", job.id, exc)
                await asyncio.sleep(RETRY_S)
                self._jobs.put_nowait(job)
                continue
            except Exception:  # a fault in one job must not stop those behind it
                log.exception("job %s failed", job.id)
            self._mine.discard(job.id)

    def _tidy(self) -> None:
        self._shop.store.trim(self._config.store_max_bytes)
        sweep(self._shop.folders.spool, [stored.bounce.path for stored in self._shop.ledger.unfinished()])

    def _refuse(self, refusal: Refusal) -> None:
        job_id = refusal_id(refusal.path)
        log.warning("refused %s: %s", printable(refusal.path), refusal.reason)
        try:
            self._shop.ledger.add_quarantined(
                job_id, refusal.path, refusal.preset, self._config.outbox, refusal.code, refusal.reason
            )
        except LedgerError as exc:
            log.warning("the refusal could not be kept: %s", exc)
        self._tell(
            {"event": "refused", "id": job_id, "name": printable(refusal.path.name), "detail": refusal.reason}
        )

    def _tell_stage(self, event: StageEvent) -> None:
        self._tell({"event": "stage", **dataclasses.asdict(event)})

    def _tell_job(self, result: JobResult) -> None:
        self._tell(
            {
                "event": "job",
                "id": result.job.id,
                "name": result.job.bounce.name,
                "state": result.state,
                "folder": str(result.folder) if result.folder else None,
                "detail": result.detail,
                "fallbacks": [dataclasses.asdict(fallback) for fallback in result.job.fallbacks],
            }
        )


def _restore(stored: StoredJob) -> Job:
    preset = build_preset(stored.preset, stored.settings, f"job {stored.id}", {})
    return Job(
        stored.id,
        stored.bounce,
        preset,
        stored.outbox,
        "queued",
        stored.created_at,
        stored.overrides,
        stored.fallbacks,
        stored.warnings,
    )


def _watched(config: Config) -> tuple[WatchFolder, ...]:
    return tuple(WatchFolder(w.inbox, w.preset, w.role, w.polling) for w in config.watch)


def _make_folders(config: Config) -> None:
    for folder in (config.outbox, *(watch.inbox for watch in config.watch)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"{folder} can't be made ({exc.strerror}). Choose another folder.") from exc


@contextlib.contextmanager
def _only_one(folders: Folders) -> Iterator[None]:
    """Hold the state folder; who holds it stands beside the lock."""
    folders.state.mkdir(parents=True, exist_ok=True)
    holder = folders.state / "daemon.json"
    lock = filelock.FileLock(folders.state / "daemon.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = json.loads(holder.read_text(encoding="utf-8")) if holder.exists() else {"pid": "unknown"}
        raise LedgerError(
            f"Another daemon (process {who['pid']}) holds {folders.state}. Stop it first, or use it.",
            "locked",
        ) from None
    try:
        holder.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _companion(config: Config, folders: Folders, tell: Tell) -> contextlib.AbstractContextManager[None]:
    """The live companion, if the configuration wants it beside the daemon."""
    if not config.live.enabled:
        return contextlib.nullcontext()
    from bridge.livehost.background import companion_in_background

    return companion_in_background(config, folders, tell)


def _stop_signal() -> asyncio.Event:
    """Set by SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: its loop can't, but Ctrl-C still reaches plain handlers
            signal.signal(number, lambda *_: _call(loop, stop.set))
    return stop


async def _until(stop: asyncio.Event, loops: Sequence[asyncio.Task[None]]) -> None:
    """Until told to stop. A loop that ended is a fault: better no daemon than one that does nothing."""
    told = asyncio.create_task(stop.wait())
    await asyncio.wait([told, *loops], return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    for ended in loops:
        if ended.done():
            ended.result()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    """Call from another thread; a loop that is closing no longer wants to know."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
