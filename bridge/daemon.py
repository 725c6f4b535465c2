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
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import filelock

from bridge.config import Config, Folders
from bridge.control import ADDRESSEE, Control, unknown_job
from bridge.errors import Cancelled, ConfigError, ControlError, DawbridgeError, LedgerError, PresetError
from bridge.filecontrol import FileControl
from bridge.intake import sweep
from bridge.jobs import CANCELLED, JobResult, Workshop, already_returned, run_job
from bridge.lanes import log_to_file
from bridge.ledger import JobRow, StoredJob
from bridge.line import Line
from bridge.livehost.remote import offer_song
from bridge.names import printable
from bridge.presets import build_preset, load_preset, preset_files
from bridge.returned import Shelf
from bridge.stages.export import building_folder
from bridge.store import sweep_old
from bridge.types import Job, StageEvent, Transport
from bridge.watch import Found, Refusal, Watcher, WatchFolder, check_folders
from bridge.workshop import open_workshop, refusal_id, take_up

RETRY_S = 5.0
REQUEST_POLL_S = 0.1  # how often requests are looked for
REPORT_HOLDS_S = 600.0  # so long the tempo that a DAW reported counts for a bounce without any

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
            control = Control(folders, shop.ledger, Shelf(config.outbox))
            async with _http(config, folders, control, tell) as (url, tell_all):
                files = FileControl(control, [w.inbox for w in config.watch], config.outbox, tell_all)
                daemon = Daemon(config, shop, tell_all, files.transport)
                async with daemon.running(url) as loops:
                    with files.running(), _companion(config, folders, tell_all):
                        await _until(stop, loops)


class Daemon:
    """The queue between the watcher and the workers; lives on the event loop."""

    def __init__(
        self, config: Config, shop: Workshop, tell: Tell, transport: Callable[[float], Transport | None]
    ) -> None:
        self._config = config
        self._shop = shop
        self._tell = tell
        self._transport = transport  # what a DAW reported within so many seconds
        self._found: asyncio.Queue[Found] = asyncio.Queue()
        self._line = Line()
        self._taking = asyncio.Lock()  # one file is taken up at a time
        self._answering: dict[int, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self, url: str | None = None) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
        """Everything started; on the way out the running stage is interrupted and its job queued again."""
        self._shop.ledger.forget_requests(ADDRESSEE)
        self._take_up_unfinished()
        self._watcher = self._make_watcher(asyncio.get_running_loop())
        work = (self._take_up_found(), self._run_jobs(), self._take_requests())
        loops = [asyncio.create_task(loop) for loop in work]
        await asyncio.to_thread(self._watcher.start)
        watched = [{"inbox": str(w.inbox), "preset": w.preset} for w in self._config.watch]
        self._tell({"event": "ready", "watch": watched, "outbox": str(self._config.outbox), "http": url})
        try:
            yield loops
        finally:
            await asyncio.to_thread(self._watcher.stop)
            tasks = [*loops, *self._answering.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._refuse_requests()

    def _make_watcher(self, loop: asyncio.AbstractEventLoop) -> Watcher:
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
                self._line.add(_restore(stored))
            except PresetError as exc:  # a stage or setting that this version no longer knows
                self._shop.ledger.set_state(stored.id, "failed", code=exc.code, detail=exc.message)

    async def _take_up_found(self) -> None:
        while True:
            found = await self._found.get()
            seen = self._shop.ledger.is_seen
            try:
                async with self._taking:
                    # Between being found and now a script may have asked for this very file.
                    if not seen(found.path, found.inode, found.size, found.mtime_ns):
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

    async def _enqueue(self, found: Found, role: str = "") -> Job:
        job = await asyncio.to_thread(
            take_up,
            found.path,
            self._shop,
            preset=found.preset,
            outbox=self._config.outbox,
            role=role,
            folder_role=found.role,
            inbox=found.inbox,
            transport=self._transport(REPORT_HOLDS_S),
        )
        for warning in job.warnings:
            self._tell({"event": "warning", "name": job.bounce.name, "detail": warning})
        ledger = self._shop.ledger
        returned = already_returned(job, self._shop)
        if job.id in self._line:
            log.info("%s is on its way already as job %s", found.path, job.id)
        elif returned is not None:
            self._tell_job(JobResult(job, "done", returned, ledger.stages(job.id)))
        else:
            self._queue(job, found.path)
        ledger.mark_seen(found.path, found.inode, found.size, found.mtime_ns, job.id)
        return job

    def _queue(self, job: Job, source: Path) -> None:
        self._shop.ledger.add_job(job, source)
        self._tell({"event": "queued", "id": job.id, "name": job.bounce.name, "preset": job.preset.name})
        self._line.add(job)

    async def _run_jobs(self) -> None:
        while True:
            job, cancel = await self._line.next()
            try:
                result = await run_job(job, self._shop, self._tell_stage, cancel)
                self._tell_job(result)
                if result.folder is not None:
                    await asyncio.to_thread(offer_song, self._shop.folders, result.folder)
                await asyncio.to_thread(self._tidy)
            except LedgerError as exc:
                log.warning("job %s waits: %s", job.id, exc)
                self._line.ended(job)
                self._line.add(job)
                await asyncio.sleep(RETRY_S)
                continue
            except Cancelled:  # while it waited for another process that runs the same job, and goes on
                self._tell_job(JobResult(job, "cancelled", None, (), CANCELLED))
            except Exception:  # a fault in one job must not stop those behind it
                log.exception("job %s failed", job.id)
            self._line.ended(job)

    # what others ask for, see `control`

    async def _take_requests(self) -> None:
        while True:
            try:
                for request_id, body in self._shop.ledger.open_requests(ADDRESSEE):
                    if request_id not in self._answering:
                        task = asyncio.create_task(self._answer(request_id, body))
                        self._answering[request_id] = task
            except LedgerError as exc:
                log.warning("requests wait: %s", exc)
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(REQUEST_POLL_S)

    async def _answer(self, request_id: int, body: Mapping[str, Any]) -> None:
        do = {"cancel": self._cancel, "retry": self._retry, "take": self._take}
        try:
            answer = {"ok": True, **await do[body["name"]](body)}
        except DawbridgeError as exc:
            answer = {"ok": False, "code": exc.code, "detail": exc.message}
        except Exception as exc:  # a fault in one request must not stop the others
            log.exception("request %s failed", body)
            told = f"This is a fault in dawbridge ({type(exc).__name__}: {exc}); the log has the details."
            answer = {"ok": False, "code": "unexpected", "detail": told}
        try:
            self._shop.ledger.answer(request_id, answer)
        except LedgerError as exc:
            log.warning("the answer to %s is lost: %s", body, exc)
        del self._answering[request_id]

    def _refuse_requests(self) -> None:
        """Let nobody wait for a daemon that ends."""
        told = {"ok": False, "code": "silent", "detail": "The daemon is being stopped. Ask the next one."}
        with contextlib.suppress(LedgerError):
            for request_id, _ in self._shop.ledger.open_requests(ADDRESSEE):
                self._shop.ledger.answer(request_id, told)

    async def _cancel(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        row = self._row(body["job"])
        how, job = self._line.cancel(row.id)
        if how == "unknown":
            raise _not_here(row)
        if job is not None:
            self._shop.ledger.set_state(job.id, "cancelled", detail=CANCELLED)
            self._tell_job(JobResult(job, "cancelled", None, (), CANCELLED))
        return {"job": row.id, "state": "cancelled" if how == "gone" else "cancelling"}

    async def _retry(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        row = self._row(body["job"])
        if row.id in self._line:
            raise ControlError(f"Job {row.id} is under way already.", "under_way")
        if row.state in ("queued", "running", "done"):
            raise _not_here(row)
        stored = self._shop.ledger.stored(row.id)
        if stored is not None and stored.bounce.path.exists():
            self._queue(_restore(stored), stored.source)
            return {"job": row.id, "state": "queued"}
        return await self._take_again(row)

    async def _take_again(self, row: JobRow) -> Mapping[str, Any]:
        """Our copy is gone, or there never was one: read the file itself, as if for the first time."""
        found = self._watcher.found(Path(row.source))
        if found is None:
            raise ControlError(
                f"{row.source} lies in no watched folder any more. Put it back, or run `dawbridge process` on it.",
                "gone",
            )
        async with self._taking:
            job = await self._enqueue(dataclasses.replace(found, preset=row.preset))
        if job.id != row.id:
            self._shop.ledger.remove_job(row.id)
        return {"job": job.id, "state": "queued"}

    async def _take(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        found = self._watcher.found(Path(body["path"]))
        if found is None:
            raise ControlError(
                f"{body['path']} is no audio file in a watched folder. Put it into an inbox.", "outside"
            )
        async with self._taking:
            preset = body["preset"] or found.preset
            job = await self._enqueue(dataclasses.replace(found, preset=preset), body["role"])
        return {"job": job.id, "state": "queued" if job.id in self._line else "done"}

    def _row(self, job_id: str) -> JobRow:
        row = self._shop.ledger.job(job_id)
        if row is None:
            raise unknown_job(job_id)
        return row

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
        stored.project,
        stored.track,
    )


def _not_here(row: JobRow) -> ControlError:
    if row.state in ("queued", "running"):
        return ControlError(
            f"Job {row.id} is run by another process (`dawbridge process`). End it there.", "elsewhere"
        )
    return ControlError(f"Job {row.id} is {row.state} already.", "ended")


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


@asynccontextmanager
async def _http(
    config: Config, folders: Folders, control: Control, tell: Tell
) -> AsyncIterator[tuple[str | None, Tell]]:
    """HTTP, if the configuration wants it: its address, and a `tell` that its listeners hear too."""
    if not config.http.enabled:
        yield None, tell
        return
    from bridge.webserver import serving

    async with serving(config, folders, control, tell) as (url, tell_all):
        yield url, tell_all


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
