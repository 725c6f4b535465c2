"""Runs one job through the graph, tells each step as a StageEvent, and answers with what became of it.

A stage starts as soon as what it takes is ready, so that independent ones run side by side. What a
stage made is kept under a key of everything it depends on; the next job with the same key does not
run it again. Consent is asked before the cache is read. A stage that fails takes only those with it
that need its work.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock

from bridge.config import Folders
from bridge.errors import Cancelled, DawbridgeError, LedgerError, Refused, StageError, Waits
from bridge.holder import job_lock
from bridge.joblog import JobLog, opening
from bridge.lanes import Lane, Task
from bridge.ledger import Ledger, utc_now
from bridge.ledger_rows import KeptFile, Result
from bridge.manifest import is_whole, read_manifest
from bridge.pipeline import BOUNCE_FIELDS, KINDS, PIPELINE, LaneName, Stage, maker_of
from bridge.presets import settings_tables
from bridge.retrying import again_after, disk_code, waits_for
from bridge.store import Store
from bridge.types import Artifact, Bounce, Fallback, Job, JobState, Made, Preset, Skip, StageEvent, StageState

ID_HEX_DIGITS = 12
WAIT_S = 0.3
CANCELLED = "cancelled; finished stages are kept"
ELSEWHERE = "Another process (`dawbridge process`) runs this job. It goes on here once that has ended."

log = logging.getLogger(__name__)

OnEvent = Callable[[StageEvent], None]
Outcome = tuple[StageState, str, str, tuple[str, ...]]
"""State, detail, code, and the names of what was made."""


@dataclass(frozen=True)
class Workshop:
    """What every job needs: where to run, where to keep, what is remembered."""

    lanes: Mapping[LaneName, Lane]
    store: Store
    ledger: Ledger
    folders: Folders
    outbox_mount: Path | None = None  # where the outbox's disk belongs; None = whatever is there will do
    mended: str = ""  # one line, where the ledger had to be made anew
    unsaved: dict[str, Result] = field(default_factory=dict)  # what the ledger could not take yet


@dataclass(frozen=True)
class JobResult:
    """What became of a job."""

    job: Job
    state: JobState
    folder: Path | None  # where it came back
    stages: tuple[StageEvent, ...]
    detail: str = ""
    code: str = ""  # why it waits

    def exit_code(self, strict: bool = False) -> int:
        """0: all done, skipped with a reason or fallen back; 1: something failed or was refused."""
        if self.state == "cancelled":
            return 130  # as shells have it for Ctrl-C
        return 1 if self.state != "done" or (strict and self.job.fallbacks) else 0


def prepare(
    bounce: Bounce,
    preset: Preset,
    outbox: Path,
    folders: Folders,
    *,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    warnings: tuple[str, ...] = (),
    draft: bool = False,
) -> Job:
    """Decide what will run, fallbacks included, and name the job by all of it.

    May wait for the network for up to 5 s (are the weights reachable?): don't call it on an event loop.
    """
    settings: dict[str, Any] = dict(preset.settings)
    fallbacks: list[Fallback] = []
    for row in PIPELINE:
        if row.resolve is not None and row.name in settings:
            settings[row.name], fallback = row.resolve(settings[row.name], bounce, folders.models)
            fallbacks += [fallback] if fallback else []
    resolved = replace(preset, settings=settings)
    key = {
        "bounce": _bounce_key(bounce, ("name", "start_frames", *BOUNCE_FIELDS)),
        "settings": settings_tables(resolved),
        "versions": {
            row.name: _recipe(row, settings[row.name], folders) for row in PIPELINE if row.name in settings
        },
        "outbox": str(outbox),
        **({"draft": True} if draft else {}),
    }
    return Job(
        id=_digest(key)[:ID_HEX_DIGITS],
        bounce=bounce,
        preset=resolved,
        outbox=outbox,
        state="queued",
        created_at=utc_now(),
        overrides=overrides or {},
        fallbacks=tuple(fallbacks),
        warnings=warnings,
        draft=draft,
    )


def has_stems(job: Job, shop: Workshop) -> bool:
    """Whether the store holds what the job's `separate` would make."""
    row = next(row for row in PIPELINE if row.name == "separate")
    settings, inputs = job.preset.settings[row.name], {"bounce": job.bounce}
    result = shop.ledger.find_result(_cache_key(row, settings, inputs, {}, shop.folders))
    return result is not None and all(
        shop.store.path_of(file.sha256, file.suffix).exists() for file in result.files
    )


def already_returned(job: Job, shop: Workshop) -> Path | None:
    """The folder of an earlier, complete run of this very job, if it still stands with all its files.

    A folder with a voice whose consent no longer holds, or that is another one now, does not count.
    """
    row = shop.ledger.job(job.id)
    if row is None or row.state != "done" or row.folder is None:
        return None
    folder = Path(row.folder)
    try:
        manifest = read_manifest(folder)
        permitted = {
            (told.get("consent_sha256"), told.get("voice_sha256")) for told in _permits(job, shop.folders)
        }
    except DawbridgeError:
        return None
    voice = manifest.voice
    if voice is not None and (voice.consent_sha256, voice.voice_sha256) not in permitted:
        return None
    return folder if manifest.id == job.id and is_whole(folder, manifest) else None


def _permits(job: Job, folders: Folders) -> list[Mapping[str, Any]]:
    settings = job.preset.settings
    return [
        row.permit(settings[row.name], folders.voices)
        for row in PIPELINE
        if row.permit is not None and row.name in settings
    ]


async def run_job(
    job: Job, shop: Workshop, on_event: OnEvent, cancel: threading.Event, *, patient: bool = False
) -> JobResult:
    """Run every stage the preset asks for. Never raises for what a stage does: the result says it.

    Where a disk is full or away, a `patient` run ends as `waiting`, to be run again later: finished stages are
    kept and nothing is published; any other fails that stage and returns the rest. One process at a time runs a job: a
    second one waits, shows the first one's progress, and returns its folder; what was cancelled there is cancelled
    here too. `on_event` is called on the event loop's thread.

    Raises:
        Waits: another process runs the job, and this run is `patient`; what the ledger says of the job stays.
    """
    async with _alone(job, shop, on_event, cancel, patient):
        row = shop.ledger.job(job.id)
        if row is not None and row.state == "cancelled":  # by the process that ran it till now
            return JobResult(job, "cancelled", None, shop.ledger.stages(job.id), CANCELLED)
        returned = already_returned(job, shop)
        if returned is not None:
            stages = shop.ledger.stages(job.id)
            for event in stages:
                on_event(event)
            return JobResult(job, "done", returned, stages)
        shop.ledger.begin(job.id)
        run = _Run(job, shop, on_event, cancel, patient)
        try:
            with run.log.listening():
                await run.all_stages()
            result = run.result()
        except Cancelled:
            result = JobResult(job, "cancelled", None, run.events_in_order(), CANCELLED)
        except Waits as exc:
            result = JobResult(run.job, "waiting", None, run.events_in_order(), exc.message, exc.code)
        except asyncio.CancelledError:  # the daemon stops and goes on at its next start, or Ctrl-C came twice
            shop.ledger.set_state(job.id, "cancelled" if cancel.is_set() else "queued")
            raise
        except LedgerError:  # busy or full: whoever called tries again
            raise
        except Exception as exc:  # the border of a job: a fault in one must not take others with it
            log.exception("job %s failed", job.id)
            told = f"This is a fault in dawbridge ({type(exc).__name__}: {exc}); the log has the details."
            result = JobResult(job, "failed", None, run.events_in_order(), told)
        shop.ledger.set_state(
            job.id, result.state, folder=result.folder, code=result.code, detail=result.detail
        )
        await asyncio.to_thread(
            run.log.keep,
            shop.folders.job_log(job.id),
            f"job {result.state}. {result.folder or result.detail}",
        )
        return result


@asynccontextmanager
async def _alone(
    job: Job, shop: Workshop, on_event: OnEvent, cancel: threading.Event, patient: bool
) -> AsyncIterator[None]:
    """Hold the job's lock, which the system frees with the process that held it, however it ended."""
    path = job_lock(shop.folders, job.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    told: dict[str, StageEvent] = {}
    for failures in itertools.count():
        try:
            lock.acquire(timeout=0)
            break
        except filelock.Timeout:
            if cancel.is_set():
                raise Cancelled(CANCELLED) from None
            if patient and failures:  # more than a look at it: who holds it may take hours, or be stopped
                raise Waits(ELSEWHERE, "busy") from None
            for event in shop.ledger.stages(job.id):
                if told.get(event.stage) != event:
                    told[event.stage] = event
                    on_event(event)
            await asyncio.sleep(WAIT_S)
    try:
        yield
    finally:
        lock.release()


class _Run:
    """One job under way; lives on the event loop."""

    def __init__(
        self, job: Job, shop: Workshop, on_event: OnEvent, cancel: threading.Event, patient: bool
    ) -> None:
        self._job = job
        self._patient = patient
        self._shop = shop
        self._on_event = on_event
        self._cancel = cancel
        self._rows = [row for row in PIPELINE if row.name in job.preset.settings]
        self._artifacts: dict[str, Bounce | Artifact] = {"bounce": job.bounce}
        self._events: dict[str, StageEvent] = {}
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.log = JobLog(opening(job))

    @property
    def job(self) -> Job:
        """The job, with the fallbacks that came up on the way."""
        return self._job

    async def all_stages(self) -> None:
        for row in self._rows:
            self._tasks[row.name] = asyncio.create_task(self._when_ready(row))
        outcomes = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        raised = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        # A fault of our own is worth more than the cancellations that it caused, and these more than a wait.
        for outcome in sorted(
            raised, key=lambda exc: isinstance(exc, Cancelled) + 2 * isinstance(exc, Waits)
        ):
            raise outcome

    def events_in_order(self) -> tuple[StageEvent, ...]:
        return tuple(self._events[row.name] for row in self._rows if row.name in self._events)

    def result(self) -> JobResult:
        events = self.events_in_order()
        bad = [event for event in events if event.state in ("failed", "refused")]
        folder = self._facts.get("export", {}).get("folder")
        detail = "; ".join(f"{event.stage} {event.state}: {event.detail}" for event in bad)
        return JobResult(
            self._job, "failed" if bad else "done", Path(folder) if folder else None, events, detail
        )

    async def _when_ready(self, row: Stage) -> None:
        makers = {maker_of(name) for name in row.takes}
        before = [self._tasks[name] for name in makers if name in self._tasks]
        if "record" in row.takes:  # it tells of all that stand before it in the table
            before = [self._tasks[earlier.name] for earlier in self._rows[: self._rows.index(row)]]
        if before:
            await asyncio.gather(*before)
        if self._cancel.is_set():
            raise Cancelled("cancelled")
        started_s = time.monotonic()
        try:
            state, detail, code, made = await self._run_or_reuse(row)
        except (Cancelled, LedgerError, Waits):
            raise
        except Refused as exc:
            state, detail, code, made = "refused", exc.message, exc.code, ()
        except DawbridgeError as exc:
            state, detail, code, made = "failed", exc.message, exc.code, ()
        except OSError as exc:  # the disk of the store: full, gone or read-only
            code = disk_code(exc, self._shop.folders.cache) or "disk"
            state, detail, made = "failed", f"{row.name}: {exc}. Free some space, or mend the disk.", ()
        if self._patient and state == "failed" and waits_for(code):
            self._tell(StageEvent(self._job.id, row.name, "waiting", code=code, detail=detail))
            raise Waits(detail, code)
        seconds = time.monotonic() - started_s
        self._tell(StageEvent(self._job.id, row.name, state, 1.0, 1.0, made, code, detail, seconds))

    async def _run_or_reuse(self, row: Stage) -> Outcome:
        lacking = self._lacking(row)
        if lacking:
            return "skipped", lacking, "input_missing", ()
        self._tell(StageEvent(self._job.id, row.name, "running"))
        settings = self._job.preset.settings[row.name]
        permitted: Mapping[str, Any] = {}
        if row.permit is not None:
            permitted = row.permit(settings, self._shop.folders.voices)
        if "record" in row.takes:
            return await self._tried(row, lambda again: self._run_with_record(row, settings, again))
        cache_key = _cache_key(row, settings, self._inputs(row), permitted, self._shop.folders)
        kept = await asyncio.to_thread(self._from_cache, row, cache_key)
        if kept is not None:
            return "cached", kept.detail, "", row.gives
        return await self._tried(row, lambda again: self._run_and_keep(row, settings, cache_key, again))

    async def _run_and_keep(self, row: Stage, settings: Any, cache_key: str, thrifty: bool) -> Outcome:
        with self._shop.store.workdir(row.name) as workdir:
            answer = await self._in_lane(row, settings, workdir, self._inputs(row), thrifty)
            if isinstance(answer, Skip):
                return "skipped", answer.reason, answer.code, ()
            await asyncio.to_thread(self._keep, row, cache_key, answer)
        return "done", answer.detail, "", tuple(answer.files)

    async def _tried(self, row: Stage, work: Callable[[bool], Awaitable[Outcome]]) -> Outcome:
        """The work, and again where it failed for what may pass; the last time with less memory."""
        thrifty = False
        for failures in itertools.count(1):
            try:
                return await work(thrifty)
            except StageError as exc:
                again = again_after(exc.code, failures)
                if again is None:
                    raise
                log.warning("%s of job %s is tried again: %s", row.name, self._job.id, exc.message)
                if again.thrifty and not thrifty:
                    self._note_thrift(row, exc)
                thrifty = again.thrifty
                await self._rest(again.rest_s)
        raise AssertionError("unreachable")

    async def _rest(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            if self._cancel.is_set():
                raise Cancelled("cancelled")
            await asyncio.sleep(min(left_s, WAIT_S))

    def _note_thrift(self, row: Stage, exc: StageError) -> None:
        why = Fallback(row.name, "as fast as it can", "less memory, one thread", exc.message)
        self._job = replace(self._job, fallbacks=(*self._job.fallbacks, why))
        self._shop.ledger.set_fallbacks(self._job.id, self._job.fallbacks)

    def _lacking(self, row: Stage) -> str:
        """Why the stage can't run, or an empty string."""
        asked = [name for name in row.wants_if_asked if maker_of(name) in self._tasks]
        for name in (*row.needs, *asked):
            if name == "record" or name in self._artifacts:
                continue
            maker = maker_of(name)
            event = self._events.get(maker or "")
            why = f"{maker} {event.state}" if event else f"the preset does not run {maker}"
            return f"needs {name}: {why}"
        return ""

    def _inputs(self, row: Stage) -> dict[str, Bounce | Artifact | None]:
        return {name: self._artifacts.get(name) for name in row.takes}

    async def _in_lane(
        self,
        row: Stage,
        settings: Any,
        workdir: Path,
        inputs: Mapping[str, Bounce | Artifact | None],
        thrifty: bool,
    ) -> Made | Skip:
        loop = asyncio.get_running_loop()

        def on_progress(done: float, total: float) -> None:
            event = StageEvent(self._job.id, row.name, "running", done, total)
            loop.call_soon_threadsafe(self._tell_progress, event)

        folders = self._shop.folders
        task = Task(row.name, inputs, settings, workdir, folders.models, folders.voices, thrifty)
        return await self._shop.lanes[row.lane].run(task, on_progress, self._cancel)

    async def _run_with_record(self, row: Stage, settings: Any, thrifty: bool) -> Outcome:
        """Run a stage that tells of this very run: never from the cache, and not into it."""
        store = self._shop.store
        with store.workdir(row.name) as workdir, store.workdir("record") as desk:
            record = desk / "record.json"
            record.write_text(json.dumps(self._record(), default=str), encoding="utf-8")
            inputs = self._inputs(row) | {"record": Artifact("record", "json", record, "")}
            answer = await self._in_lane(row, settings, workdir, inputs, thrifty)
            if isinstance(answer, Skip):
                return "skipped", answer.reason, answer.code, ()
            await asyncio.to_thread(self._take, row, answer)
        return "done", answer.detail, "", tuple(answer.files)

    def _record(self) -> dict[str, Any]:
        """All that is known of the job so far, for `report` and `export`."""
        models = [
            ref
            for row in self._rows
            for ref in _models(row, self._job.preset.settings[row.name], self._shop.folders)
        ]
        return {
            "id": self._job.id,
            "created_at": self._job.created_at,
            "preset": self._job.preset.name,
            "settings": settings_tables(self._job.preset),
            "outbox": str(self._job.outbox),
            "outbox_mount": str(mount) if (mount := self._shop.outbox_mount) else None,
            "stages": [asdict(event) for event in self.events_in_order() if event.state != "running"],
            "fallbacks": [asdict(fallback) for fallback in self._job.fallbacks],
            "warnings": list(self._job.warnings),
            "draft": self._job.draft,
            "replaces": self._job.replaces,
            "facts": self._facts,
            "log": self.log.text,
            "models": [asdict(ref) for ref in models],
        }

    def _from_cache(self, row: Stage, cache_key: str) -> Result | None:
        result = self._shop.unsaved.get(cache_key) or self._shop.ledger.find_result(cache_key)
        if result is None:
            return None
        found = [
            self._shop.store.find(file.name, KINDS[file.name], file.sha256, file.suffix)
            for file in result.files
        ]
        if not all(found):
            return None
        self._artifacts |= {artifact.name: artifact for artifact in found if artifact}
        self._facts[row.name] = result.facts
        if cache_key in self._shop.unsaved:
            self._save(row, cache_key, result)
        return result

    def _keep(self, row: Stage, cache_key: str, made: Made) -> None:
        files = self._take(row, made)
        self._save(row, cache_key, Result(files, made.detail, made.facts))

    def _save(self, row: Stage, cache_key: str, result: Result) -> None:
        """A ledger that is busy, or on a full disk, must not cost the work: it is asked again next time."""
        self._shop.unsaved[cache_key] = result
        self._shop.ledger.keep_result(cache_key, row.name, result)
        del self._shop.unsaved[cache_key]

    def _take(self, row: Stage, made: Made) -> tuple[KeptFile, ...]:
        """Move what a stage made into the store, for the stages after it."""
        files: list[KeptFile] = []
        for name, path in made.files.items():
            suffix = path.suffix if path.is_file() else ""
            artifact = self._shop.store.keep(name, KINDS[name], path)
            self._artifacts[name] = artifact
            files.append(KeptFile(name, artifact.sha256, suffix))
        self._facts[row.name] = made.facts
        return tuple(files)

    def _tell_progress(self, event: StageEvent) -> None:
        latest = self._events.get(event.stage)
        if latest is None or latest.state != "running":  # a late report must not undo an end
            return
        try:
            self._tell(event)
        except LedgerError as exc:  # the next report will do
            log.warning("progress of %s is not kept: %s", event.stage, exc)

    def _tell(self, event: StageEvent) -> None:
        self._note(event)
        self._events[event.stage] = event
        self._shop.ledger.record(event)
        self._on_event(event)

    def _note(self, event: StageEvent) -> None:
        if event.state != "running":
            self.log.note(f"{event.stage} {event.state} after {event.seconds:.1f} s. {event.detail}".rstrip())
        elif event.stage not in self._events:
            self.log.note(f"{event.stage} begins")


def _cache_key(
    row: Stage,
    settings: Any,
    inputs: Mapping[str, Bounce | Artifact | None],
    permitted: Mapping[str, Any],
    folders: Folders,
) -> str:
    told: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, Bounce):
            told[name] = _bounce_key(value, row.bounce_fields)
        else:
            told[name] = value.sha256 if value else None
    recipe = _recipe(row, settings, folders)
    return _digest(
        {"settings": asdict(settings), "recipe": recipe, "inputs": told, "permit": dict(permitted)}
    )


def _recipe(row: Stage, settings: Any, folders: Folders) -> list[str]:
    """What decides a stage's result beside its inputs and settings."""
    digests = list(row.digests(settings)) if row.digests is not None else []
    return [row.name, row.version, *digests, *(ref.sha256 for ref in _models(row, settings, folders))]


def _models(row: Stage, settings: Any, folders: Folders) -> tuple[Any, ...]:
    return row.models(settings, folders.models) if row.models is not None else ()


def _bounce_key(bounce: Bounce, fields: tuple[str, ...]) -> dict[str, Any]:
    table = asdict(bounce)
    return {name: table[name] for name in fields}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
