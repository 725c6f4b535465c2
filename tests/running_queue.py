"""The daemon's queue in a thread, with stages that obey, and the control that speaks to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge import jobs, lanes, presets
from bridge.config import Config, WatchConfig, folders
from bridge.control import Control
from bridge.daemon import Daemon
from bridge.errors import ControlError, DawbridgeError
from bridge.holder import only_one
from bridge.ledger import Ledger
from bridge.returned import Shelf
from bridge.types import Transport
from bridge.workshop import open_workshop
from tests import fakes
from tests.fakes import fake_pipeline

WAIT_S = 20.0
RATE_HZ = 8000
PRESETS = {"quick": "make", "slow": "wait", "bad": "fail"}


def use_fake_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that obey their presets, in the home that is set."""
    rows = fake_pipeline()
    monkeypatch.setattr(jobs, "PIPELINE", rows)
    monkeypatch.setattr(jobs, "maker_of", lambda name: next((r.name for r in rows if name in r.gives), None))
    monkeypatch.setattr(lanes, "STAGES", {row.name: row for row in rows})
    monkeypatch.setattr(presets, "STAGES", {row.name: row for row in rows})
    fakes.calls.clear()
    fakes.waiting.clear()
    folders().presets.mkdir(parents=True)
    for name, do in PRESETS.items():
        (folders().presets / f"{name}.toml").write_text(f'[separate]\ndo = "{do}"\n')


class Running:
    """The daemon's queue in a thread, with stages that obey, and the control that speaks to it."""

    def __init__(self, home: Path, preset: str, settle_s: float, draft: bool) -> None:
        self.inbox, self.outbox = home / "inbox", home / "outbox"
        for folder in (self.inbox, self.outbox):
            folder.mkdir(exist_ok=True)
        self.told: list[Mapping[str, Any]] = []
        self.reported: Transport | None = None
        watch = (WatchConfig(self.inbox, preset),)
        self.config = Config(self.outbox, watch, settle_s=settle_s, rescan_s=0.5, draft=draft)
        self.ledger = Ledger(folders().ledger)
        self.control = Control(folders(), self.ledger, Shelf(self.outbox))

    async def serve(self, stop: asyncio.Event, up: threading.Event) -> None:
        with only_one(folders()):
            await self._serve(stop, up)

    async def _serve(self, stop: asyncio.Event, up: threading.Event) -> None:
        async with open_workshop(folders(), inline=True) as shop:
            daemon = Daemon(self.config, shop, self.told.append, lambda _: self.reported)
            async with daemon.running():
                up.set()
                await stop.wait()

    def drop(self, name: str, seed: int = 0) -> Path:
        noise = np.random.default_rng(seed).normal(0, 0.1, RATE_HZ)
        part = self.inbox / f"{name}.part"
        soundfile.write(part, noise, RATE_HZ, subtype="PCM_16", format="WAV")
        return part.rename(self.inbox / name)

    def wait(self, found: Callable[[], Any], what: str) -> Any:
        until_s = time.monotonic() + WAIT_S
        while not (value := found()):
            assert time.monotonic() < until_s, f"no {what}; {self.states()}; {self.told[-3:]}"
            time.sleep(0.02)
        return value

    def wait_for(self, name: str, state: str) -> str:
        """The id of a job, once it is in this state."""

        def found() -> str:
            return next(
                (j["id"] for j in self.control.jobs() if (j["name"], j["state"]) == (name, state)), ""
            )

        job_id: str = self.wait(found, f"{name} {state}")
        return job_id

    def states(self) -> dict[str, str]:
        return {job["name"]: job["state"] for job in self.control.jobs()}


@contextmanager
def running(
    home: Path, preset: str = "quick", settle_s: float = 0.1, *, keep_jobs: bool = False, draft: bool = True
) -> Iterator[Running]:
    daemon = Running(home, preset, settle_s, draft)
    loop, stop, up = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(daemon.serve(stop, up))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(WAIT_S)
        yield daemon
    finally:
        for job in daemon.control.jobs():
            if job["state"] in ("queued", "running") and not keep_jobs:
                with contextlib.suppress(ControlError):  # it ends just now
                    daemon.control.cancel(job["id"])  # a stage that waits would wait for ever
        loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_S)
        daemon.ledger.close()
    assert not thread.is_alive()


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(DawbridgeError) as told:
        call()
    return told.value.code, told.value.message
