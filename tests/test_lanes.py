"""The worker processes: real ones, spawned, with real stages. Inline and spawned behave alike."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.audio import read_raw, write_float_wav
from bridge.errors import Cancelled, Refused, StageError, WorkerDied
from bridge.grid import write_grid
from bridge.lanes import InlineLane, Lane, Task, WorkerLane, run_task
from bridge.stages.convert import ConvertSettings
from bridge.stages.effects import EffectsSettings
from bridge.tempo import constant_tempo
from bridge.types import Artifact, Grid, Made, Skip, Span
from tests.real import require_real
from tests.small_disk import small_disk

RATE_HZ = 44_100
SECONDS = 4.0

makers = pytest.mark.parametrize(
    "make", [InlineLane, lambda: WorkerLane("test", idle_s=60.0)], ids=["inline", "spawned"]
)


@pytest.fixture
def song(tmp_path: Path) -> Iterator[dict[str, Artifact]]:
    """A vocals stem (a gliding tone) and its grid."""
    time_s = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * (200 * time_s + 5 * np.sin(5 * time_s)))
    (tmp_path / "stems").mkdir()
    write_float_wav(tmp_path / "stems" / "vocals.wav", tone[None].astype(np.float32), RATE_HZ)
    grid = Grid(constant_tempo(120.0, RATE_HZ), "set", 1.0, "", 0.0, -14.0, -1.0, True, (Span(0.0, SECONDS),))
    write_grid(tmp_path / "grid.json", grid)
    yield {
        "stems": Artifact("stems", "stems", tmp_path / "stems", ""),
        "grid": Artifact("grid", "json", tmp_path / "grid.json", ""),
    }


def effects_task(song: dict[str, Artifact], tmp_path: Path) -> Task:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    return Task("effects", {**song, "voice": None}, EffectsSettings(), work, tmp_path, tmp_path)


def run(
    lane: Lane, task: Task, cancel: threading.Event | None = None
) -> tuple[Made | Skip, list[tuple[float, float]]]:
    heard: list[tuple[float, float]] = []

    async def go() -> Made | Skip:
        try:
            return await lane.run(
                task, lambda done, total: heard.append((done, total)), cancel or threading.Event()
            )
        finally:
            await lane.close()

    return asyncio.run(go()), heard


@makers
def test_a_stage_runs_and_its_files_lie_in_its_folder(
    make: Callable[[], Lane], song: dict[str, Artifact], tmp_path: Path
) -> None:
    made, heard = run(make(), effects_task(song, tmp_path))
    assert isinstance(made, Made)
    samples, rate_hz = read_raw(made.files["lead"])
    assert (samples.shape, rate_hz) == ((1, int(SECONDS * RATE_HZ)), RATE_HZ)
    assert heard


@makers
def test_an_error_crosses_the_border_with_its_code(
    make: Callable[[], Lane], song: dict[str, Artifact], tmp_path: Path
) -> None:
    task = Task("convert", song, ConvertSettings(voice="nobody"), tmp_path, tmp_path, tmp_path / "voices")
    with pytest.raises(Refused) as caught:
        run(make(), task)
    assert caught.value.code == "no_consent"
    assert "nobody" in caught.value.message


@makers
def test_a_cancel_is_heard_at_the_next_report(
    make: Callable[[], Lane], song: dict[str, Artifact], tmp_path: Path
) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        run(make(), effects_task(song, tmp_path), cancel)


def test_a_killed_worker_is_told_and_the_next_task_gets_a_new_one(
    song: dict[str, Artifact], tmp_path: Path
) -> None:
    async def go() -> Made | Skip:
        lane = WorkerLane("test", idle_s=60.0)
        killed = threading.Event()

        def kill(_done: float, _total: float) -> None:
            if not killed.is_set():
                killed.set()
                assert lane.pid is not None
                os.kill(lane.pid, signal.SIGKILL)

        try:
            with pytest.raises(WorkerDied, match="effects"):
                await lane.run(effects_task(song, tmp_path), kill, threading.Event())
            return await lane.run(effects_task(song, tmp_path), lambda done, total: None, threading.Event())
        finally:
            await lane.close()

    assert isinstance(asyncio.run(go()), Made)


def test_an_idle_worker_ends_by_itself_and_gives_its_memory_back(
    song: dict[str, Artifact], tmp_path: Path
) -> None:
    async def go() -> None:
        lane = WorkerLane("test", idle_s=0.2)
        try:
            await lane.run(effects_task(song, tmp_path), lambda done, total: None, threading.Event())
            first = lane.pid
            until_s = time.monotonic() + 20.0
            while lane.pid is not None and time.monotonic() < until_s:
                await asyncio.sleep(0.05)
            assert lane.pid is None
            await lane.run(effects_task(song, tmp_path), lambda done, total: None, threading.Event())
            assert lane.pid != first
        finally:
            await lane.close()

    asyncio.run(go())


def test_a_full_disk_is_told_as_such_wherever_a_stage_writes(
    song: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the midst of a conversion, and in the process of a plug-in: what filled the disk still lies there."""
    plugin = Path("/usr/lib/vst3/ZamComp.vst3")
    require_real(plugin.exists(), f"{plugin} (Debian: apt install zam-plugins)")
    (tmp_path / "chains").mkdir()
    (tmp_path / "chains" / "zam.toml").write_text(f'[[effect]]\ntype = "VST3"\npath = "{plugin}"\n')
    monkeypatch.setattr("bridge.stages.effects.chain_folders", lambda: (tmp_path / "chains",))
    ways: list[tuple[str, dict[str, Artifact | None], Any]] = [
        ("convert", {**song}, ConvertSettings()),
        ("effects", {**song, "voice": None}, EffectsSettings("zam")),
    ]
    for stage, taken, settings in ways:
        for kilobytes in (500, 900, 1300):  # the vocals are 706
            with small_disk(tmp_path / "disk", 2) as disk:
                (disk.place / "full").write_bytes(b"x" * (2_097_152 - kilobytes * 1024))
                (disk.place / "work").mkdir()
                task = Task(stage, taken, settings, disk.place / "work", tmp_path, tmp_path)
                with pytest.raises(StageError) as caught:
                    run_task(task, lambda done, total: None)
                assert caught.value.code == "disk_full", (stage, kilobytes, caught.value.message)
