"""How the live companion keeps time and survives over a real JACK server, as one JSON object.

`uv run python -m tests.benchmarks.live_timing [--json FILE] [--only NAME,...]` runs each part of `live_measures` in a
process of its own with a time limit, one after the other, and holds its figures against their goals; a part that
fails is reported as such. Takes 7 minutes. Needs Debian's jackd2 and jack-midi-clock. Never in CI.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bridge.live.player import raise_priority
from tests.benchmarks import live_measures as measures
from tests.jack import LOOK_S, ONE_AT_A_TIME, WAIT_FOR_OTHERS_S

Figures = Mapping[str, Any]

SLACK_S = 30.0  # for a process to start and end


@dataclass(frozen=True)
class Part:
    """One measurement."""

    measure: Callable[[], Figures]
    limit_s: float
    goal: str
    holds: Callable[[Figures], bool]


PARTS: Mapping[str, Part] = {
    "sender_quiet": Part(
        measures.sender_quiet,
        60.0,
        "p99 <= 0.5 ms, max <= 2 ms",
        lambda told: all(run["p99_ms"] <= 0.5 and run["max_ms"] <= 2.0 for run in told["runs"].values()),
    ),
    "sender_loaded": Part(
        measures.sender_loaded,
        90.0,
        "p99 <= 5 ms; with SCHED_FIFO p99 <= 0.5 ms",
        lambda told: (
            told["runs"]["ordinary"]["p99_ms"] <= 5.0
            and ("fifo" not in told["runs"] or told["runs"]["fifo"]["p99_ms"] <= 0.5)
        ),
    ),
    "receiver_spread": Part(
        measures.receiver_spread,
        60.0,
        "std about the fitted line <= 1.5 x that of jack_midi_clock",
        lambda told: bool(told["ratio"] <= 1.5),
    ),
    "delivery": Part(
        measures.delivery,
        60.0,
        "0 of 10,000 lost, order kept",
        lambda told: told["sent"] == 20_000 and told["lost"] == 0 and bool(told["is_order_kept"]),
    ),
    "replies_real_time": Part(
        measures.replies_real_time,
        180.0,
        "10 of 10 ready at their bar line, first note in that bar",
        lambda told: told["replies"] == told["on_line"] == told["first_note_in_its_bar"] == 10,
    ),
    "parent_kills": Part(
        measures.parent_kills, 300.0, "0 notes on a second later", lambda told: told["hung"] == 0
    ),
    "live_killed": Part(
        measures.live_killed,
        60.0,
        "back within 1 s; first CC 120 and 123 on all channels",
        lambda told: told["worst_first_bytes_s"] <= 1.0 and bool(told["are_first_bytes_off"]),
    ),
    "link": Part(
        measures.link,
        60.0,
        "phase within 1 ms",
        lambda told: told["two_peers_ms"] <= 1.0 and told["companion_ms"] <= 1.0,
    ),
    "start": Part(
        measures.start,
        60.0,
        "ready within 1 s; private memory <= 60 MB",
        lambda told: told["worst_ready_s"] <= 1.0 and told["private_mb"] <= 60.0,
    ),
    "replies_simulated": Part(
        measures.replies_simulated,
        60.0,
        ">= 99.5% of 200 phrases answered on the next bar line, 60 to 180 bpm, with recorded generation times",
        lambda told: told["on_line"] >= 0.995 * told["phrases"],
    ),
    "hung_simulated": Part(
        measures.hung_simulated,
        60.0,
        "0 notes left on after 10,000 random events",
        lambda told: told["hung"] == 0 and told["notes"] > 0,
    ),
    "input_flood": Part(
        measures.input_flood,
        60.0,
        "no crash, told within 1 s, a good end",
        lambda told: told["longest_silence_s"] <= 1.0 and told["exit"] == 0,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the object there too")
    parser.add_argument("--only", default=",".join(PARTS), help="some parts, with commas")
    parser.add_argument("--inside", choices=PARTS, help="measure one part in this process")
    asked = parser.parse_args()
    if asked.inside:
        _measure(PARTS[asked.inside])
    told = {"machine": machine()} | {name: _measured(name) for name in asked.only.split(",")}
    text = json.dumps(told, indent=1) + "\n"
    sys.stdout.write(text)
    if asked.json:
        asked.json.write_text(text, encoding="utf-8")
    return 0


def machine() -> Figures:
    """Where this ran."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "is_fifo_allowed": _is_fifo_allowed(),
    }


def _measure(part: Part) -> NoReturn:
    with ONE_AT_A_TIME.acquire(
        WAIT_FOR_OTHERS_S, LOOK_S
    ):  # the part's time counts from when no test uses JACK any more
        faulthandler.dump_traceback_later(part.limit_s, exit=True)
        sys.stdout.write(json.dumps(part.measure()) + "\n")
        sys.stdout.flush()
        os._exit(0)  # no client of a JACK server that has gone may be taken apart


def _measured(name: str) -> Figures:
    part = PARTS[name]
    sys.stderr.write(f"{name} ...\n")
    load = round(os.getloadavg()[0], 2)
    command = (sys.executable, "-m", "tests.benchmarks.live_timing", "--inside", name)
    limit_s = WAIT_FOR_OTHERS_S + part.limit_s + SLACK_S
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        why = f"exit {done.returncode}: a fault, or no end within {part.limit_s:.0f} s"
        return {"goal": part.goal, "holds": False, "failed": why, "load": load}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"goal": part.goal, "holds": part.holds(told), **told, "load": load}


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _is_fifo_allowed() -> bool:
    allowed: list[bool] = []
    thread = threading.Thread(target=lambda: allowed.append(raise_priority()))
    thread.start()
    thread.join()
    return allowed[0]


if __name__ == "__main__":
    raise SystemExit(main())
