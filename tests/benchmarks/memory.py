"""How much memory each stage of preset offline takes for a 2 min and for a 20 min bounce; the goal: 300 MB more at most.

`uv run python -m tests.benchmarks.memory [--minutes 2 20] [--stages NAME ...] [--out FILE.json]`. Every stage runs in a
fresh process, one at a time, on song_a played again and again (48 kHz stereo): the stages after `separate` get
its true stems, what else they take is what the stage before them made. `peak_mb` is the process' own highest
resident set, code and models included; `anon_mb` the part of it that no file stands behind; `quiet_s` the longest time
in which it would not have heard a cancel.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bridge import audio
from bridge.lanes import Task, run_task
from bridge.pipeline import PIPELINE, STAGES
from bridge.presets import load_preset
from bridge.types import STEMS, Artifact, Bounce, Made
from tests.song_a import DATA

RATE_HZ = 48_000
GOAL_MB = 300.0
SAMPLE_S = 0.01
RECORD = {
    "id": "memory",
    "created_at": "2026-11-25T00:00:00Z",
    "preset": "offline",
    "settings": {},
    "stages": [],
    "fallbacks": [],
    "warnings": [],
    "facts": {},
    "models": [],
}


def lay_out(folder: Path, minutes: float) -> None:
    """The bounce, 24 bits, and its true stems, as long as asked."""
    (folder / "stems").mkdir(parents=True)
    frames = round(minutes * 60 * RATE_HZ)
    stems = {s: audio.resample(audio.read_raw(DATA / f"{s}.flac")[0], 44_100, RATE_HZ) for s in STEMS}
    _repeat(folder / "bounce.wav", np.sum(list(stems.values()), axis=0), frames, is_float=False)
    for stem, samples in stems.items():
        _repeat(folder / "stems" / f"{stem}.wav", samples, frames, is_float=True)


def measure(folder: Path, name: str, models: Path) -> dict[str, Any]:
    """Run one stage in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", "--run", name, str(folder), str(models)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_here(name: str, folder: Path, models: Path) -> dict[str, Any]:
    """Run one stage in this process; what it made stays in `folder` for the next ones."""
    row, settings = STAGES[name], load_preset("offline").settings
    work = folder / name
    work.mkdir()
    inputs: dict[str, Bounce | Artifact | None] = {taken: _given(folder, taken) for taken in row.takes}
    task = Task(name, inputs, settings.get(name) or row.settings(), work, models, folder)
    anon_kb, ended = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(anon_kb, ended), daemon=True)
    watcher.start()
    heard_s = [time.monotonic()]
    made = run_task(task, lambda done, total: heard_s.append(time.monotonic()))
    heard_s.append(time.monotonic())
    ended.set()
    watcher.join()
    made_as = {key: str(path) for key, path in made.files.items()} if isinstance(made, Made) else {}
    facts = dict(made.facts) if isinstance(made, Made) else {}
    (work / "made.json").write_text(json.dumps({"files": made_as, "facts": facts}, default=str))
    return {
        "stage": name,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "anon_mb": round(anon_kb[0] / 1024, 1),
        "seconds": round(heard_s[-1] - heard_s[0], 1),
        "quiet_s": round(float(np.diff(heard_s).max()), 2),
        "said": getattr(made, "detail", getattr(made, "reason", "")),
    }


def main() -> None:
    """Lay out, run, print and keep."""
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(run_here(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))))
        return
    asked = _asked()
    figures: dict[str, Any] = {"machine": platform.platform(), "cpus": os.cpu_count(), "minutes": {}}
    with tempfile.TemporaryDirectory(prefix="dawbridge-memory-") as temporary:
        models = Path(temporary) / "models"
        for minutes in asked.minutes:
            folder = Path(temporary) / f"{minutes:g}"
            lay_out(folder, minutes)
            rows = figures["minutes"].setdefault(f"{minutes:g}", [])
            for name in asked.stages:
                rows.append(measure(folder, name, models) | {"load": round(os.getloadavg()[0], 1)})
                print(minutes, rows[-1], flush=True)
                if asked.out:
                    asked.out.write_text(json.dumps(figures, indent=1) + "\n")
    _print_growth(figures, asked.minutes)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    stages = [row.name for row in PIPELINE]
    parser.add_argument("--minutes", nargs="+", type=float, default=[2.0, 20.0])
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _print_growth(figures: dict[str, Any], minutes: Sequence[float]) -> None:
    first, *_, last = [figures["minutes"][f"{value:g}"] for value in (minutes[0], minutes[0], minutes[-1])]
    for short, long in zip(first, last, strict=True):
        grown = long["peak_mb"] - short["peak_mb"]
        print(f"{short['stage']:<11} {short['peak_mb']:8.1f} {long['peak_mb']:8.1f} {grown:+8.1f} MB", end="")
        print("" if grown <= GOAL_MB else f"  more than {GOAL_MB:.0f}")


def _watch(anon_kb: list[int], ended: threading.Event) -> None:
    while not ended.wait(SAMPLE_S):
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        anon_kb[0] = max(anon_kb[0], int(line.split()[1]))


def _given(folder: Path, name: str) -> Bounce | Artifact | None:
    if name == "bounce":
        path = folder / "bounce.wav"
        return Bounce(path, path.name, "0" * 64, "mix", RATE_HZ, 2, soundfile.info(path).frames)
    if name == "stems":
        return Artifact("stems", "stems", folder / "stems", "0" * 64)
    made = [json.loads(path.read_text()) for path in folder.glob("*/made.json")]
    if name == "record":
        facts = {row.parent.name: json.loads(row.read_text())["facts"] for row in folder.glob("*/made.json")}
        record = folder / "record.json"
        record.write_text(json.dumps({**RECORD, "facts": facts, "outbox": str(folder / "outbox")}))
        return Artifact("record", "json", record, "0" * 64)
    files = {key: path for one in made for key, path in one["files"].items()}
    from bridge.pipeline import KINDS

    return Artifact(name, KINDS[name], Path(files[name]), "0" * 64) if name in files else None


def _repeat(path: Path, samples: audio.Samples, frames: int, *, is_float: bool) -> None:
    with audio.wav_writer(path, RATE_HZ, samples.shape[0], frames, is_float=is_float) as file:
        block = samples.T if is_float else (np.clip(samples.T, -1, 0.9999999) * 2.0**31).astype(np.int32)
        left = frames
        while left:
            file.write(block[:left])
            left -= min(left, len(block))


if __name__ == "__main__":
    main()
