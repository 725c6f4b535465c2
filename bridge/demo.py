"""`dawbridge demo`: the main job for real, on a short song that ships with dawbridge.

It starts the daemon on temporary folders as a process of its own, drops the song into the inbox as a
DAW would, shows the daemon's progress, and prints what came back. Nothing is fetched: preset
`offline`. The daemon is ended in every case.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bridge.config import shipped
from bridge.errors import StageError
from bridge.manifest import Manifest, read_manifest
from bridge.terminal import StageBars
from bridge.types import StageEvent

SONG = "demo/Demo Song.flac"
PRESET = "offline"
READY_TIMEOUT_S = 120.0
SILENCE_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class DemoResult:
    """What came back."""

    state: str
    folder: Path
    seconds: float  # from the drop to the folder
    manifest: Manifest


def run_demo(out: Path | None, console: Console, bars: StageBars) -> DemoResult:
    """Run it; the returned folder stays in `out` (a new temporary folder if None).

    Raises:
        StageError: the daemon did not start, or brought nothing back.
    """
    outbox = (out or Path(tempfile.mkdtemp(prefix="dawbridge-demo-"))).absolute()
    outbox.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dawbridge-home-") as home:
        inbox = Path(home) / "inbox"
        inbox.mkdir()
        with _daemon(Path(home), inbox, outbox) as told:
            _wait_for(told, "ready", READY_TIMEOUT_S)
            console.print(f"The daemon watches [bold]{inbox}[/]. Dropping [bold]{Path(SONG).name}[/] in ...")
            started_s = time.monotonic()
            _drop(shipped("presets") / SONG, inbox)
            with bars:
                ended = _follow(told, bars)
            seconds = time.monotonic() - started_s
    if not ended.get("folder"):
        raise StageError(f"The demo brought nothing back: {ended.get('detail')}. Run `dawbridge doctor`.")
    folder = Path(ended["folder"])
    return DemoResult(ended["state"], folder, seconds, read_manifest(folder))


@contextmanager
def _daemon(home: Path, inbox: Path, outbox: Path) -> Iterator[queue.Queue[dict[str, Any]]]:
    """The daemon as a child process; what it tells comes out of the queue, `{}` when it ended."""
    command = [sys.executable, "-m", "bridge", "run", "--json", "--preset", PRESET]
    command += ["--inbox", str(inbox), "--outbox", str(outbox)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "DAWBRIDGE_HOME": str(home)}
    )
    told: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told.put(json.loads(line))
        told.put({})

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield told
    finally:
        process.terminate()
        process.wait(30.0)
        listener.join()
        assert process.stdout is not None
        process.stdout.close()


def _drop(song: Path, inbox: Path) -> None:
    """Export as a careful DAW does: a temporary name, then the final one."""
    part = inbox / f"{song.name}.part"
    shutil.copyfile(song, part)
    part.rename(inbox / song.name)


def _follow(told: queue.Queue[dict[str, Any]], bars: StageBars) -> dict[str, Any]:
    while True:
        message = _next(told, SILENCE_TIMEOUT_S)
        if message["event"] == "stage":
            bars.update(StageEvent(**{key: value for key, value in message.items() if key != "event"}))
        elif message["event"] in ("job", "refused"):
            return message


def _wait_for(told: queue.Queue[dict[str, Any]], event: str, timeout_s: float) -> None:
    while _next(told, timeout_s)["event"] != event:
        pass


def _next(told: queue.Queue[dict[str, Any]], timeout_s: float) -> dict[str, Any]:
    try:
        message = told.get(timeout=timeout_s)
    except queue.Empty:
        raise StageError(f"The daemon said nothing for {timeout_s:.0f} s. Run `dawbridge doctor`.") from None
    if not message:
        raise StageError("The daemon ended before the song came back; its reason stands above.")
    return message
