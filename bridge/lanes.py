"""The worker processes. A lane runs one stage at a time in a spawned process that keeps its models warm.

The worker reports progress and hears a cancel over its pipe, ends by itself when idle so that its
memory comes back, and ends at once when its parent is gone. A worker that does not hear a cancel is
killed and another is started for the next task. `InlineLane` runs stages in the caller's process,
for tests; the two behave alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import soundfile

from bridge.errors import Cancelled, DawbridgeError, StageError, WorkerDied
from bridge.logs import log_to_parent, pass_on
from bridge.pipeline import STAGES
from bridge.retrying import disk_code
from bridge.types import Artifact, Bounce, Context, Made, Skip

REPORTS_PER_S = 5.0
CANCEL_GRACE_S = 20.0
POLL_S = 0.1
NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
)
"""How torch and onnxruntime, which raise a RuntimeError, say that memory has run out."""

BLAS_THREADS = "OPENBLAS_NUM_THREADS"  # read when numpy is loaded
_ENVIRONMENT = threading.Lock()  # two lanes may start at once

log = logging.getLogger(__name__)

Progress = Callable[[float, float], None]
Send = Callable[[tuple[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """One stage to run; picklable, files by path and digest, never an open handle."""

    stage: str
    inputs: Mapping[str, Bounce | Artifact | None]
    settings: Any
    workdir: Path
    models_dir: Path
    voices_dir: Path
    thrifty: bool = False  # with as little memory as possible: it ran out before


class Lane(Protocol):
    """Where a stage runs."""

    async def run(self, task: Task, on_progress: Progress, cancel: threading.Event) -> Made | Skip:
        """Run one task; `on_progress(done, total)` is called from any thread.

        Raises what the stage raises, and `WorkerDied` when its process ended without an answer.
        """

    async def close(self) -> None:
        """End the worker."""


class InlineLane:
    """Runs stages in this process, in a thread."""

    async def run(self, task: Task, on_progress: Progress, cancel: threading.Event) -> Made | Skip:
        """See `Lane.run`."""

        def report(done: float, total: float) -> None:
            on_progress(done, total)
            if cancel.is_set():
                raise Cancelled("cancelled")

        return await asyncio.to_thread(run_task, task, report)

    async def close(self) -> None:
        """Nothing to end."""


class WorkerLane:
    """Runs stages in one spawned process that is started when needed."""

    def __init__(self, name: str, *, idle_s: float = 120.0) -> None:
        self._name = name
        self._idle_s = idle_s
        self._lock = asyncio.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.is_alive() else None

    async def run(self, task: Task, on_progress: Progress, cancel: threading.Event) -> Made | Skip:
        """See `Lane.run`."""
        async with self._lock:
            abandoned = threading.Event()

            def is_over() -> bool:
                return cancel.is_set() or abandoned.is_set()

            call = asyncio.ensure_future(asyncio.to_thread(self._run, task, on_progress, is_over))
            try:
                return await asyncio.shield(call)
            except asyncio.CancelledError:
                abandoned.set()  # the thread hears it and comes back; never leave it behind
                with contextlib.suppress(DawbridgeError):
                    await call
                raise

    async def close(self) -> None:
        """End the worker: by the end of its pipe, then by force."""
        async with self._lock:
            await asyncio.to_thread(self._stop)

    def _run(self, task: Task, on_progress: Progress, is_over: Callable[[], bool]) -> Made | Skip:
        pipe = self._send(task)
        cancelled_at: float | None = None
        while True:
            if is_over() and cancelled_at is None:
                cancelled_at = time.monotonic()
                with contextlib.suppress(OSError):
                    pipe.send("cancel")
            if cancelled_at is not None and time.monotonic() - cancelled_at > CANCEL_GRACE_S:
                self._stop()
                raise Cancelled("cancelled; the worker did not listen and was ended")
            try:
                if not pipe.poll(POLL_S):
                    continue
                kind, value = pipe.recv()
            except (EOFError, OSError):
                raise self._death(task) from None
            if kind == "progress":
                on_progress(*value)
            elif kind == "log":
                pass_on(value)
            elif kind == "made":
                return value  # type: ignore[no-any-return]
            else:
                raise value

    def _send(self, task: Task) -> Connection:
        for _ in range(2):  # a worker may end for idleness just now: then a new one takes the task
            if self._process is None or not self._process.is_alive():
                self._start()
            assert self._pipe is not None
            try:
                self._pipe.send(task)
                return self._pipe
            except OSError:
                self._stop()
        raise WorkerDied(f"The worker {self._name!r} could not be started. Free some memory and retry.")

    def _start(self) -> None:
        self._stop()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=worker_main,
            args=(theirs, self._idle_s),
            name=f"dawbridge-{self._name}",
            daemon=True,
        )
        with _no_interrupts(), _one_blas_thread():
            self._process.start()
        theirs.close()
        self._pipe = ours

    def _stop(self) -> None:
        """Callable from two threads at once: whoever takes the process ends it."""
        pipe, self._pipe = self._pipe, None
        process, self._process = self._process, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()

    def _death(self, task: Task) -> WorkerDied:
        process, code = self._process, None
        if process is not None:
            process.join(2.0)
            code = process.exitcode
        self._stop()
        why = "it was killed, perhaps for want of memory" if code == -9 else f"exit status {code}"
        return WorkerDied(f"The worker for {task.stage!r} ended without an answer ({why}). Retry the job.")


def run_task(task: Task, report: Progress) -> Made | Skip:
    """Call the stage's function in this process.

    Raises:
        DawbridgeError: as the stage says; any other exception becomes a StageError, logged in full.
    """
    context = Context(task.workdir, task.models_dir, task.voices_dir, report, task.thrifty)
    if task.thrifty:
        _one_thread()
    try:
        return STAGES[task.stage].run(**task.inputs, settings=task.settings, context=context)
    except DawbridgeError:
        raise
    except MemoryError:
        raise _out_of_memory(task) from None
    except (OSError, soundfile.LibsndfileError) as exc:
        raise _disk_error(task, exc) from exc
    except Exception as exc:
        if any(sign in str(exc).lower() for sign in NO_MEMORY):
            raise _out_of_memory(task) from exc
        log.exception("stage %s failed", task.stage)
        raise StageError(
            f"{task.stage} failed unexpectedly ({type(exc).__name__}: {exc}). "
            "This is a fault in dawbridge; the log has the details.",
            "unexpected",
        ) from exc


def worker_main(pipe: Connection, idle_s: float) -> None:
    """The worker process: tasks in; progress, log records and answers out; until idle or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send = _in_turn(pipe)
    log_to_parent(send)
    if hasattr(os, "nice"):
        os.nice(5)  # the DAW comes first
    with contextlib.suppress(EOFError, OSError):  # the parent closed the pipe
        while pipe.poll(idle_s):
            task = pipe.recv()
            if task == "cancel":  # it came after the answer had gone out
                continue
            try:
                answer: tuple[str, Any] = ("made", run_task(task, _reporter(pipe, send)))
            except DawbridgeError as exc:
                answer = ("error", exc)
            send(answer)
            if answer[0] == "error" and answer[1].code == "memory":
                return  # with this process goes all that it holds; the next task gets a new one


def _one_thread() -> None:
    """Every thread of a mathematical library keeps room of its own."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # for those that are not loaded yet
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _out_of_memory(task: Task) -> StageError:
    return StageError(f"{task.stage} ran out of memory. Close other programs, then retry.", "memory")


def _disk_error(task: Task, exc: BaseException) -> StageError:
    places = [task.workdir, *([task.models_dir] if task.models_dir.is_dir() else [])]
    code = disk_code(exc, *places)
    if code == "disk_full":
        shown = " or ".join(map(str, places))
        return StageError(f"{task.stage}: the disk of {shown} is full. Free some room.", code)
    return StageError(f"{task.stage} could not work with a file: {exc}.", code or "file")


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """A process started inside computes numpy's products on one thread.

    Ours are small, its threads wait for each other by spinning, and those of two workers for each other's: a whole song
    took a sixth longer.
    """
    with _ENVIRONMENT:
        before = os.environ.get(BLAS_THREADS)
        os.environ[BLAS_THREADS] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[BLAS_THREADS]
            else:
                os.environ[BLAS_THREADS] = before


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """A process started inside never gets Ctrl-C, not even while it still imports; Windows has no such mask."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)  # a stage deep in C code would not hear a closed pipe


def _in_turn(pipe: Connection) -> Send:
    """Sends over the pipe, callable from any thread: a library may log from one of its own."""
    lock = threading.Lock()

    def send(message: tuple[str, Any]) -> None:
        with lock:
            pipe.send(message)

    return send


def _reporter(pipe: Connection, send: Send) -> Progress:
    last_s = 0.0

    def report(done: float, total: float) -> None:
        nonlocal last_s
        if pipe.poll(0) and pipe.recv() == "cancel":
            raise Cancelled("cancelled")
        now_s = time.monotonic()
        if now_s - last_s >= 1.0 / REPORTS_PER_S or done >= total:
            last_s = now_s
            send(("progress", (done, total)))

    return report
