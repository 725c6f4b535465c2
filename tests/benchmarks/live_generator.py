"""How quickly the live partner hears and answers, with the shipped weights on one CPU thread, as one JSON object.

`uv run python -m tests.benchmarks.live_generator [--json FILE] [--times FILE]` starts the process as the companion
does and measures from this side of the pipe, and the parts by themselves in a process of one thread. `--times`
writes recorded answer times, which a test on a clock of its own replays. Never in CI.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bridge.livehost.improviser import Ask, Improviser
from bridge.livehost.piped import ONE_THREAD, start_generator
from bridge.transformer.shipped import SHIPPED, load_model
from bridge.types import Note

NOTES_BEFORE = 512
REPLIES = 40
BARS = 4
BANDS: tuple[tuple[str, ...], ...] = (("piano",), ("piano", "bass"), ("lead", "piano", "bass", "drums"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the object there too")
    parser.add_argument("--times", type=Path, help="write recorded answer times there")
    parser.add_argument("--inside", action="store_true", help="measure the parts in this process")
    asked = parser.parse_args()
    if asked.inside:
        sys.stdout.write(json.dumps(inside()) + "\n")
        return 0
    recorded, told = outside()
    told |= json.loads(in_one_thread("--inside")) | {"load": round(os.getloadavg()[0], 2)}
    text = json.dumps(told, indent=1) + "\n"
    sys.stdout.write(text)
    if asked.json:
        asked.json.write_text(text, encoding="utf-8")
    if asked.times:
        asked.times.write_text(json.dumps(recorded) + "\n", encoding="utf-8")
    return 0


def outside() -> tuple[dict[str, Any], dict[str, Any]]:
    """Recorded times, and the figures that the companion sees: start, first bar, whole reply, memory."""
    told: dict[str, Any] = {}
    recorded: dict[str, list[float]] = {"first_bar_ms": [], "next_bar_ms": []}
    with tempfile.TemporaryDirectory() as models:
        began_s = time.perf_counter()
        process, pipe = start_generator(SHIPPED, Path(models))
        receive(pipe)
        told["start_to_ready_s"] = round(time.perf_counter() - began_s, 3)
        tell(pipe, "context", notes=[[*played(note)] for note in session(NOTES_BEFORE)])
        for band in BANDS:
            first_ms, whole_ms = [], []
            for seed in range(REPLIES * 2):
                times_ms = reply_ms(pipe, band, seed)
                first_ms.append(times_ms[0])
                whole_ms.append(sum(times_ms))
                recorded["first_bar_ms"].append(times_ms[0])
                recorded["next_bar_ms"] += times_ms[1:]
            told[f"first_bar_ms_{len(band)}_parts"] = spread(first_ms)
            told[f"reply_of_{BARS}_bars_ms_{len(band)}_parts"] = spread(whole_ms)
        told["rss_mb"] = resident_mb(process.pid)
        pipe.close()
        process.wait()
    chance = random.Random(0)
    return {
        name: [round(ms, 1) for ms in chance.sample(times_ms, 200)] for name, times_ms in recorded.items()
    }, told


def reply_ms(pipe: Connection, band: Sequence[str], seed: int) -> list[float]:
    """How long each bar of a reply let wait, after the one before."""
    settings = {"parts": band, "key": "follow", "temperature": 1.0, "seed": seed}
    from_beat = NOTES_BEFORE / 2 + 4.0
    before_s = time.perf_counter()
    tell(pipe, "ask", id=seed, from_beat=from_beat, bars=BARS, deadline_beat=from_beat, settings=settings)
    times_ms = []
    while True:
        message = receive(pipe)
        now_s = time.perf_counter()
        times_ms.append((now_s - before_s) * 1e3)
        before_s = now_s
        if message["last"]:
            return times_ms


def inside() -> dict[str, Any]:
    """The parts by themselves: hearing note by note, the fork, another key."""
    with tempfile.TemporaryDirectory() as models:
        model = load_model(SHIPPED, Path(models))
    partner = Improviser(model)
    hear_ms = [timed_ms(partner.hear, [note]) for note in session(NOTES_BEFORE)]
    writer = vars(partner)["_writer"]
    list(partner.write(Ask(0, NOTES_BEFORE / 2, 1, ("piano",))))
    keys = ("Eb major", "E major") * 5
    return {
        "hear_one_note_ms": spread(hear_ms),
        "fork_ms": spread([timed_ms(writer.fork) for _ in range(50)]),
        "another_key_ms": spread([timed_ms(partner.fix_key, key) for key in keys]),
    }


def timed_ms(work: Callable[..., Any], *args: Any) -> float:
    began_s = time.perf_counter()
    work(*args)
    return (time.perf_counter() - began_s) * 1e3


def in_one_thread(*args: str) -> str:
    command = (sys.executable, "-m", "tests.benchmarks.live_generator", *args)
    done = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, check=True, stdout=subprocess.PIPE, text=True, timeout=600
    )
    return done.stdout


def session(count: int) -> list[Note]:
    """A pianist: eighths with the odd chord and bass, near the grid, phrases that come again."""
    chance = random.Random(0)
    phrase = [chance.choice((57, 60, 62, 64, 65, 67, 69, 72)) for _ in range(16)]
    notes = []
    for eighth in range(count):
        pitch = 45 if eighth % 8 == 0 else phrase[eighth % 16] + chance.choice((0, 0, 0, 12, 2))
        start = max(0.0, eighth / 2 + chance.gauss(0, 0.015))
        notes.append(Note(start, 0.45, pitch, chance.randint(60, 110), "piano"))
    return sorted(notes, key=lambda note: note.start_beats)


def played(note: Note) -> tuple[float, float, int, int, str]:
    return note.start_beats, note.length_beats, note.pitch, note.velocity, note.part


def tell(pipe: Connection, kind: str, **fields: Any) -> None:
    pipe.send_bytes(json.dumps({"type": kind, **fields}).encode())


def receive(pipe: Connection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(pipe.recv_bytes())
    if message["type"] == "error":
        raise RuntimeError(message["detail"])
    return message


def resident_mb(pid: int) -> float | None:
    """The most memory that a process has held; Linux only."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def spread(times_ms: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    shown = {"p50": ordered[len(ordered) // 2], "p95": ordered[int(0.95 * len(ordered))], "max": ordered[-1]}
    return {name: round(ms, 2) for name, ms in shown.items()}


if __name__ == "__main__":
    raise SystemExit(main())
