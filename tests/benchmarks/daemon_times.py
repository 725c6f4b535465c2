"""What the daemon costs while nothing happens, and how soon it acts: `python -m tests.benchmarks.daemon_times`.

`[--rounds N] [--json FILE]`. A real `dawbridge run` with HTTP, discovery and file control on, in a home of its own:
start to `ready`; memory and CPU of the idle process over 10 s; from the settle time after the last byte to `queued`
and to a stage `running`; and a bounce that was processed before, dropped again, from its settle time to published
(there already, and again after its folder was deleted). Medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bridge import audio
from bridge.config import folders
from tests.benchmarks.separation import song
from tests.benchmarks.versus import machine, tell
from tests.song_a import RATE_HZ
from tests.test_daemon import QUICK, RunningDaemon

SETTLE_S = 1.0
IDLE_S = 10.0
MOST_CPU = 0.01  # of one core


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as place:
        home = set_up(Path(place))
        figures = measure(home, asked.rounds)
    goals = {
        "start to ready, s": 1.5,
        "idle memory, MB RSS": 120.0,
        "idle CPU, share of a core": MOST_CPU,
        "queued after the settle time, s": 0.5,
        "first stage runs after the settle time, s": 0.5,
        "dropped again: told as published after the settle time, s": 1.0,
        "dropped again, its folder gone: published after the settle time, s": 1.0,
    }
    rows = []
    for what, values in figures.items():
        median = statistics.median(values)
        row = {"what": what, "value": round(median, 3), "goal": f"<= {goals[what]}"}
        rows.append(row | {"holds": median <= goals[what], "all": [round(value, 3) for value in values]})
    return tell(rows, before, asked.json)


def measure(home: Path, rounds: int) -> dict[str, list[float]]:
    """All figures; the start is measured `rounds` times, then everything else on one daemon."""
    figures: dict[str, list[float]] = {}

    def add(what: str, value: float) -> None:
        figures.setdefault(what, []).append(value)

    for _ in range(rounds):
        with running_daemon(home) as (_running, ready_s):
            add("start to ready, s", ready_s)
    with running_daemon(home) as (running, _):
        process = psutil.Process(running.process.pid)
        time.sleep(2.0)
        begun = process.cpu_times()
        time.sleep(IDLE_S)
        ended = process.cpu_times()
        add("idle memory, MB RSS", process.memory_info().rss / 1e6)
        add("idle CPU, share of a core", (ended.user + ended.system - begun.user - begun.system) / IDLE_S)
        for number in range(rounds):
            _one_bounce(running, number, add)
    return figures


def _one_bounce(running: RunningDaemon, number: int, add: Any) -> None:
    samples = song(3.0)
    samples[:, 0] = (number + 1) / 2**16  # nothing of it is known
    name = f"Song{number}"
    settled = _drop(running, name, samples)
    running.wait_for("queued", 120.0)
    add("queued after the settle time, s", time.monotonic() - settled)
    running.wait_for("stage", 120.0, state="running")
    add("first stage runs after the settle time, s", time.monotonic() - settled)
    folder = Path(running.wait_for("job", 600.0, state="done")["folder"])
    settled = _drop(running, name, samples)
    running.wait_for("job", 120.0, state="done")
    add("dropped again: told as published after the settle time, s", time.monotonic() - settled)
    shutil.rmtree(folder)
    settled = _drop(running, name, samples)
    running.wait_for("job", 120.0, state="done")
    add("dropped again, its folder gone: published after the settle time, s", time.monotonic() - settled)
    assert (folder / "manifest.json").is_file()


def _drop(running: RunningDaemon, name: str, samples: Any) -> float:
    """Export as most DAWs do, straight to the final name; when its settle time is over."""
    audio.write_float_wav(running.inbox / f"{name}.wav", samples, RATE_HZ)
    return time.monotonic() + SETTLE_S


@contextmanager
def running_daemon(home: Path, *arguments: str) -> Iterator[tuple[RunningDaemon, float]]:
    """It, and how many seconds it took to be ready."""
    began = time.monotonic()
    running = RunningDaemon(home, *arguments)
    try:
        running.wait_for("ready", 120.0)
        yield running, time.monotonic() - began
    finally:
        running.end()


def set_up(place: Path) -> Path:
    """A home with the preset `quick`."""
    os.environ["DAWBRIDGE_HOME"] = str(place)
    folders().presets.mkdir(parents=True)
    (folders().presets / "quick.toml").write_text(QUICK, encoding="utf-8")
    folders().config_file.parent.mkdir(parents=True, exist_ok=True)
    folders().config_file.write_text(f"settle_s = {SETTLE_S}\n", encoding="utf-8")
    return place


if __name__ == "__main__":
    sys.exit(main())
