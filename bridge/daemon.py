"""The composition root: starts the parts in order, stops them in reverse. One per state folder.

One asyncio loop runs the queue; the watcher's own threads only put what they found into it. Heavy
libraries live in the workers, never here. What was interrupted by a stop or a crash is taken up again
at the next start, from its last finished stage. What a full or missing disk holds up waits, and goes on by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.answering import Answering
from bridge.cleaning import clean, jobs_under_way, sweep_leftovers
from bridge.config import Config, Folders
from bridge.control import ADDRESSEE, Control, unknown_job
from bridge.drafts import with_draft
from bridge.errors import (
    Cancelled,
    ConfigError,
    ControlError,
    DawbridgeError,
    LedgerError,
    PresetError,
    Waits,
)
from bridge.filecontrol import FileControl
from bridge.holder import job_runs, only_one
from bridge.intake import free, sweep
from bridge.jobs import CANCELLED, JobResult, Workshop, already_returned, run_job
from bridge.ledger_rows import UNDER_WAY, JobRow, StoredJob
from bridge.line import Line
from bridge.livehost.remote import offer_song
from bridge.logs import log_as_daemon
from bridge.names import printable
from bridge.notice import with_notices
from bridge.outbox_disk import is_away, known_mount
from bridge.presets import build_preset, load_preset, preset_files
from bridge.rebuilding import known_again
from bridge.retrying import disk_code, waits_for
from bridge.returned import Shelf
from bridge.telling import Tell, unfailing
from bridge.types import Job, StageEvent, Transport
from bridge.waiting import Waiting
from bridge.watch import Found, Refusal, Watcher, WatchFolder, check_folders
from bridge.workshop import open_workshop, refusal_id, revise, take_up

REPORT_HOLDS_S = 600.0  # so long the tempo that a DAW reported counts for a bounce without any

log = logging.getLogger(__name__)


async def run_daemon(config: Config, folders: Folders, tell: Tell) -> None:
    """Watch, queue and run jobs until SIGTERM or Ctrl-C. `tell` hears all that happens.

    Raises:
        LedgerError: another daemon holds this state folder, or its disk is full.
        ConfigError, PresetError: the configuration can't be followed.
    """
    for watch in config.watch:
        load_preset(watch.preset)
    if config.notice.enabled:
        tell = with_notices(tell)
    check_folders(_watched(config), config.outbox)
    mount = known_mount(config.outbox, folders.state / "outbox.json")
    _make_folders(config, mount)
    with only_one(folders):
        log_as_daemon(folders.log)
        async with open_workshop(
            folders, worker_idle_s=config.worker_idle_s, outbox=config.outbox, outbox_mount=mount
        ) as shop:
            sweep_leftovers(folders, shop.store, shop.ledger, config.outbox)
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
        self._tell = unfailing(tell)
        self._transport = transport  # what a DAW reported within so many seconds
        self._found: asyncio.Queue[Found] = asyncio.Queue()
        self._line = Line()
        self._taking = asyncio.Lock()  # one file is taken up at a time
        self._cleaning = asyncio.Lock()  # no job begins meanwhile
        self._waiting = Waiting(self._tell)
        self._answering = Answering(
            shop.ledger,
            ADDRESSEE,
            {
                "cancel": self._cancel,
                "retry": self._retry,
                "take": self._take,
                "forget": self._forget,
                "look": self._look,
                "again": self._again,
                "clean": self._clean,
            },
        )

    @asynccontextmanager
    async def running(self, url: str | None = None) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
        """Everything started; on the way out the running stage is interrupted and its job queued again."""
        self._answering.begin()
        if self._shop.mended:
            self._tell({"event": "warning", "name": "ledger", "detail": self._shop.mended})
        self._take_up_unfinished()
        self._watcher = self._make_watcher(asyncio.get_running_loop())
        work = (self._take_up_found(), self._run_jobs(), self._answering.run())
        loops = [asyncio.create_task(loop) for loop in work]
        await asyncio.to_thread(self._watcher.start)
        watched = [{"inbox": str(w.inbox), "preset": w.preset} for w in self._config.watch]
        self._tell({"event": "ready", "watch": watched, "outbox": str(self._config.outbox), "http": url})
        try:
            yield loops
        finally:
            await asyncio.to_thread(self._watcher.stop)
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self._answering.end()

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
        self._shop.ledger.forget_waiting_files()  # the watcher finds those that are still there
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
                    if not seen(found.path, found.size, found.mtime_ns):
                        await self._enqueue(found, is_asked_for=False)
            except Exception as exc:  # a fault in one file must not stop those behind it
                _end_if_damaged(exc)
                code, why = _reason(exc)
                if code == "unexpected":
                    log.exception("taking up %s failed", found.path)
                if waits_for(code):
                    self._rest_file(found, code, why)
                else:
                    self._refuse(Refusal(found.path, found.preset, code, why))

    async def _enqueue(self, found: Found, role: str = "", *, is_asked_for: bool = True) -> Job:
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
        self._let_go_if_ended(job.id)
        returned = already_returned(job, self._shop)
        seen_as = job.id
        if job.id in self._line:
            log.info("%s is on its way already as job %s", found.path, job.id)
        elif returned is not None:
            ledger.set_source(job.id, found.path)
            self._tell_job(JobResult(job, "done", returned, ledger.stages(job.id)))
        elif not is_asked_for and (old := known_again(job, found.mtime_ns, ledger)):
            log.info("%s came back before the ledger was made anew", found.path)
            for row in old:
                ledger.set_source(row.id, found.path)
            seen_as = next(row.id for row in old if not row.draft)
        else:
            for one in await asyncio.to_thread(with_draft, job, self._shop, is_wanted=self._config.draft):
                if one.id not in self._line:  # two presets may have one draft
                    self._queue(one, found.path)
        ledger.mark_seen(found.path, found.size, found.mtime_ns, seen_as)
        ledger.remove_job(refusal_id(found.path))  # what was wrong with the file is mended
        self._waiting.over(refusal_id(found.path))
        return job

    def _rest_file(self, found: Found, code: str, why: str) -> None:
        """The file can't be taken for what passes by itself: look at it again later, and say so."""
        file_id = refusal_id(found.path)
        try:
            self._shop.ledger.add_untaken(
                file_id, found.path, found.preset, self._config.outbox, code, why, "waiting"
            )
        except LedgerError as exc:
            log.warning("that %s waits could not be kept: %s", found.path, exc)
        seconds = self._waiting.hold_up(file_id, found.path.name, code, why)
        self._waiting.rest(file_id, found, seconds, self._put_back)

    def _put_back(self, found: Found) -> None:
        """A file that rested, as it is now: it may have been exported anew."""
        now = self._watcher.found(found.path)
        if now is not None:
            found = dataclasses.replace(found, size=now.size, mtime_ns=now.mtime_ns)
        self._found.put_nowait(found)

    def _queue(self, job: Job, source: Path) -> None:
        self._shop.ledger.add_job(job, source)
        told = {"id": job.id, "name": job.bounce.name, "preset": job.preset.name, "draft": job.draft}
        self._tell({"event": "queued", **told})
        self._line.add(job)

    async def _run_jobs(self) -> None:
        while True:
            job, cancel = await self._line.next()
            # What is cleaned just now may be what the job needs; the next cleaning sees the job.
            async with self._cleaning:
                pass
            result = await self._outcome(job, cancel)
            self._line.ended(job)
            if result.state == "waiting":
                seconds = self._waiting.hold_up(job.id, job.bounce.name, result.code, result.detail)
                self._line.rest(result.job, seconds, cancel)
            else:
                self._tell_job(result)
                await self._after(result)

    async def _outcome(self, job: Job, cancel: threading.Event) -> JobResult:
        """What became of a job, whatever came up; the ledger knows it too. `waiting`: to be run again later."""
        try:
            try:
                result = await run_job(job, self._shop, self._tell_stage, cancel, patient=True)
                if result.state != "waiting" or not cancel.is_set():
                    return result
                # It was called off while it was being put off.
                result = dataclasses.replace(result, state="cancelled", detail=CANCELLED, code="")
            except (Cancelled, Waits) as exc:  # another process runs the same job, whose row it is
                if isinstance(exc, Cancelled) or cancel.is_set():
                    return JobResult(job, "cancelled", None, (), CANCELLED)
                return JobResult(job, "waiting", None, (), exc.message, exc.code)
            except LedgerError:
                raise
            except Exception as exc:  # noqa: BLE001 -- a fault in one job must not stop those behind it
                result = _without_a_run(job, exc)
            self._shop.ledger.set_state(job.id, result.state, code=result.code, detail=result.detail)
        except LedgerError as exc:  # busy, or its disk is full: it can't even be told that the job waits
            _end_if_damaged(exc)
            return JobResult(job, "waiting", None, (), exc.message, exc.code)
        return result

    async def _after(self, result: JobResult) -> None:
        """What follows the end of a job; what fails here is no failure of the job's."""
        self._waiting.over(result.job.id)
        if result.state == "done":  # a draft that was held up would come too late
            with _logged("its draft can't be called off"):
                self._call_off(result.job.replaces)
        if result.folder is not None:
            with _logged("the companion can't be offered the song"):
                await asyncio.to_thread(offer_song, self._shop.folders, result.folder)
        with _logged("what is no longer needed can't be removed"):
            await asyncio.to_thread(self._tidy, result)

    # what others ask for, see `control`

    async def _cancel(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        row = self._row(body["job"])
        if self._waiting.drop(row.id):
            self._shop.ledger.set_state(row.id, "cancelled", detail=CANCELLED)
            return {"job": row.id, "state": "cancelled"}
        self._call_off(row.replaces)
        how = self._call_off(row.id)
        if how == "unknown":
            raise _not_here(row)
        return {"job": row.id, "state": "cancelled" if how == "gone" else "cancelling"}

    def _call_off(self, job_id: str) -> str:
        """Take a job out of the line, or tell it to end: as `Line.cancel`."""
        how, job = self._line.cancel(job_id)
        if job is not None:
            self._waiting.over(job_id)
            if not job_runs(self._shop.folders, job_id):  # else the ledger tells how it goes there
                self._shop.ledger.set_state(job_id, "cancelled", detail=CANCELLED)
            self._tell_job(JobResult(job, "cancelled", None, (), CANCELLED))
        return how

    async def _retry(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        row = self._row(body["job"])
        self._let_go_if_ended(row.id)
        if self._line.wake(row.id) or self._waiting.wake(row.id):
            return {"job": row.id, "state": "queued"}
        if row.id in self._line:
            raise ControlError(f"Job {row.id} is under way already.", "under_way")
        if row.state in (*UNDER_WAY, "done"):
            raise _not_here(row)
        stored = self._shop.ledger.stored(row.id)
        if stored is not None and stored.bounce.path.exists():
            self._queue(_restore(stored), stored.source)
            return {"job": row.id, "state": "queued"}
        return await self._take_again(row)

    def _let_go_if_ended(self, job_id: str) -> None:
        """Another process may have ended a job that rested here: then it is under way no more."""
        row = self._shop.ledger.job(job_id)
        if row is not None and row.state not in UNDER_WAY:
            self._line.cancel(job_id)

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
        if job.id != row.id and row.id not in self._line:  # a draft may be on its way again
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

    async def _forget(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        row = self._row(body["job"])
        if row.id in self._line or row.id in self._waiting or row.state in UNDER_WAY:
            raise ControlError(f"Job {row.id} is under way. Cancel it first.", "under_way")
        for path in self._shop.ledger.forget_job(row.id):
            self._watcher.forget(path)
        return {"job": row.id, "state": "forgotten"}

    async def _look(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A file was forgotten: look at it as if for the first time."""
        self._watcher.forget(Path(body["path"]))
        return {}

    async def _again(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        stored = self._shop.ledger.stored(self._row(body["job"]).id)
        if stored is None:
            raise unknown_job(body["job"])
        async with self._taking:
            job = await asyncio.to_thread(
                revise, stored, self._shop, overrides=body["overrides"], preset=body["preset"]
            )
            if job.id not in self._line:
                self._queue(job, stored.source)
        return {"job": job.id, "state": "queued"}

    async def _clean(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._taking, self._cleaning:
            if self._line.runs:
                raise jobs_under_way()
            freed = await asyncio.to_thread(
                clean,
                self._shop.folders,
                self._shop.ledger,
                body["what"],
                outbox=self._config.outbox,
                dry_run=body["dry_run"],
            )
        return dataclasses.asdict(freed)

    def _row(self, job_id: str) -> JobRow:
        row = self._shop.ledger.job(job_id)
        if row is None:
            raise unknown_job(job_id)
        return row

    def _tidy(self, result: JobResult) -> None:
        self._shop.store.trim(self._config.store_max_bytes)
        needed = [stored.bounce.path for stored in self._shop.ledger.unfinished()]
        if result.state == "done":
            free(result.job.bounce.path, result.job.created_at, keep=needed)
        sweep(self._shop.folders.spool, needed)

    def _refuse(self, refusal: Refusal) -> None:
        job_id = refusal_id(refusal.path)
        log.warning("refused %s: %s", printable(refusal.path), refusal.reason)
        try:
            self._waiting.over(job_id)
            self._shop.ledger.add_untaken(
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
                "draft": result.job.draft,
                "state": result.state,
                "folder": str(result.folder) if result.folder else None,
                "detail": result.detail,
                "fallbacks": [dataclasses.asdict(fallback) for fallback in result.job.fallbacks],
            }
        )


def _without_a_run(job: Job, exc: Exception) -> JobResult:
    """The result of a job that could not be run to any end of its own."""
    code, told = _reason(exc)
    if not waits_for(code):
        log.exception("job %s can't be run", job.id)
    return JobResult(job, "waiting" if waits_for(code) else "failed", None, (), told, code)


def _reason(exc: Exception) -> tuple[str, str]:
    """Why a file can't be taken or a job can't be run: code and words. Some codes tell that it passes by itself."""
    if isinstance(exc, DawbridgeError):
        return exc.code, exc.message
    if isinstance(exc, OSError):
        return disk_code(exc) or "file", f"{exc}. Mend the disk or its permissions."
    told = f"This is a fault in dawbridge ({type(exc).__name__}: {exc}); the log has the details."
    return "unexpected", told


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        _end_if_damaged(exc)
        log.exception("%s", what)


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
        stored.draft,
        stored.replaces,
    )


def _not_here(row: JobRow) -> ControlError:
    if row.state in UNDER_WAY:
        return ControlError(
            f"Job {row.id} is run by another process (`dawbridge process`). End it there.", "elsewhere"
        )
    return ControlError(f"Job {row.id} is {row.state} already.", "ended")


def _watched(config: Config) -> tuple[WatchFolder, ...]:
    return tuple(WatchFolder(w.inbox, w.preset, w.role, w.polling) for w in config.watch)


def _end_if_damaged(exc: Exception) -> None:
    """Nothing can be done with a ledger that is damaged: the next start sets it aside and makes a new one."""
    if isinstance(exc, LedgerError) and exc.code == "damaged":
        raise exc


def _make_folders(config: Config, mount: Path) -> None:
    """The folders of the configuration; but no outbox where its disk is away."""
    outboxes = () if is_away(mount) else (config.outbox,)
    for folder in (*outboxes, *(watch.inbox for watch in config.watch)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"{folder} can't be made ({exc.strerror}). Choose another folder.") from exc


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
