"""The jobs that wait or run here, in their order: each waits once, and any of them can be called off.

Drafts go before all that are none. A job whose disk is full or away rests: others go before it until its time has
come. Lives on the event loop and takes no lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Literal

from bridge.types import Job


class Line:
    """First come, first run."""

    def __init__(self) -> None:
        self._waiting: dict[str, Job] = {}
        self._resting: dict[str, tuple[Job, asyncio.TimerHandle]] = {}
        self._running: dict[str, threading.Event] = {}
        self._cancels: dict[str, threading.Event] = {}  # of jobs that have begun, and rest or wait again
        self._some_wait = asyncio.Event()

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._waiting or job_id in self._running or job_id in self._resting

    @property
    def waiting(self) -> Sequence[str]:
        """Ids of the jobs that wait for their turn, the next one first; not of those that rest."""
        return tuple(self._waiting)

    @property
    def runs(self) -> bool:
        """Whether a job runs, or is about to."""
        return bool(self._running)

    def add(self, job: Job) -> None:
        """Put a job at the end, a draft behind the last draft; one that waits, rests or runs already stays as it is."""
        if job.id in self:
            return
        self._waiting[job.id] = job
        self._waiting = dict(sorted(self._waiting.items(), key=lambda item: not item[1].draft))
        self._some_wait.set()

    def rest(self, job: Job, seconds: float, cancel: threading.Event) -> None:
        """Let a job join the end of the line only after so many seconds, or when it is woken.

        `cancel` is the event that `next` gave with it: one that is set stays set.
        """
        self._cancels[job.id] = cancel
        timer = asyncio.get_running_loop().call_later(seconds, self.wake, job.id)
        self._resting[job.id] = (job, timer)

    def wake(self, job_id: str) -> bool:
        """Let a job that rests join the line now; whether it did rest."""
        job = self._stop_resting(job_id)
        if job is not None:
            self.add(job)
        return job is not None

    async def next(self) -> tuple[Job, threading.Event]:
        """Wait for a job; it runs from now on, until `ended`. The event is set when it is called off."""
        while not self._waiting:
            self._some_wait.clear()
            await self._some_wait.wait()
        job = self._waiting.pop(next(iter(self._waiting)))
        cancel = self._cancels.pop(job.id) if job.id in self._cancels else threading.Event()
        self._running[job.id] = cancel
        return job, cancel

    def ended(self, job: Job) -> None:
        """A job no longer runs."""
        self._running.pop(job.id, None)

    def cancel(self, job_id: str) -> tuple[Literal["gone", "told", "unknown"], Job | None]:
        """Call a job off: one that waits is gone at once (and given back), one that runs is told to end."""
        job = self._waiting.pop(job_id, None) or self._stop_resting(job_id)
        if job is not None:
            self._cancels.pop(job_id, None)
            return "gone", job
        cancel = self._running.get(job_id)
        if cancel is None:
            return "unknown", None
        cancel.set()
        return "told", None

    def _stop_resting(self, job_id: str) -> Job | None:
        job, timer = self._resting.pop(job_id, (None, None))
        if timer is not None:
            timer.cancel()
        return job
