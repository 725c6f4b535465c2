"""Times one thing two ways in one run: each way in a process of its own, turn by turn, on the same threads.

A way is a function named `module:function` that loads what it needs and gives a function to time. Cold is from the
start of a bare process to its first answer; warm is each later one. What both give is compared once per run.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Work = Callable[[], Any]
"""What is timed; its answer can be pickled."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Timing:
    """Seconds of one way: wall and CPU of each warm turn, wall of each cold one, and its first answer."""

    warm_s: tuple[float, ...]
    warm_cpu_s: tuple[float, ...]
    cold_s: tuple[float, ...]
    answer: Any


def turn_by_turn(
    ways: Mapping[str, str], *, rounds: int, cold_rounds: int = 1, threads: int = 1
) -> dict[str, Timing]:
    """Time each way `rounds` times warm and `cold_rounds` times cold, in turn."""
    cold: dict[str, list[float]] = {name: [] for name in ways}
    warm: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    answers: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        pipes: dict[str, Connection] = {}
        for turn in range(cold_rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                pipe = stack.enter_context(_process(way, threads)) if turn == 0 else None
                if pipe is not None:
                    pipes[name], answers[name] = pipe, _ask(pipe)[2]
                else:
                    with _process(way, threads) as passing:
                        _ask(passing)
                cold[name].append(time.perf_counter() - began)
        for _ in range(rounds):
            for name, pipe in pipes.items():
                warm[name].append(_ask(pipe)[:2])
    return {
        name: Timing(
            tuple(wall for wall, _ in warm[name]),
            tuple(cpu for _, cpu in warm[name]),
            tuple(cold[name]),
            answers[name],
        )
        for name in ways
    }


def ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """Ours over the peer's, median of the turns: both of a turn ran one after the other, so load hits both."""
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))


def table(ours: Timing, peer: Timing) -> dict[str, Any]:
    """The figures of two ways, for JSON."""
    return {
        "ratio_warm": round(ratio(ours.warm_s, peer.warm_s), 3),
        "ratio_warm_of_the_quickest": round(min(ours.warm_s) / min(peer.warm_s), 3),
        "ratio_warm_cpu": round(ratio(ours.warm_cpu_s, peer.warm_cpu_s), 3),
        "ratio_cold": round(ratio(ours.cold_s, peer.cold_s), 3),
        **{
            f"{name}_{kind}_s": [round(seconds, 3) for seconds in times]
            for name, timing in (("ours", ours), ("peer", peer))
            for kind, times in (("warm", timing.warm_s), ("cold", timing.cold_s))
        },
    }


def machine() -> dict[str, Any]:
    """Where and when a figure was taken; the load is what ran beside it."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def tell(rows: Sequence[Mapping[str, Any]], before: Mapping[str, Any], file: Path | None) -> int:
    """Print a table of rows with `what`, `value`, `goal` and `holds`; write all of it as JSON. 0 if all hold."""
    for row in rows:
        mark = {True: "holds", False: "MISSED", None: ""}[row["holds"]]
        sys.stdout.write(f"| {row['what']} | {row['value']} | {row['goal']} | {mark} |\n")
    told = {"machine": dict(before), "load_after": round(os.getloadavg()[0], 2), "rows": list(rows)}
    if file is not None:
        file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    else:
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0 if all(row["holds"] in (True, None) for row in rows) else 1


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


@contextmanager
def _process(way: str, threads: int) -> Iterator[Connection]:
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, way))
    process.start()
    theirs.close()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    try:
        yield ours
    finally:
        ours.close()  # a way may have started processes of its own, which end with it
        process.join(30.0)
        process.kill()


def _serve(pipe: Connection, way: str) -> None:
    module, _, function = way.partition(":")
    work: Work = getattr(importlib.import_module(module), function)()
    is_first = True
    with contextlib.suppress(EOFError):
        while pipe.recv() == "go":
            wall, cpu = time.perf_counter(), time.process_time()
            answer = work()
            took = time.perf_counter() - wall, time.process_time() - cpu
            pipe.send((*took, answer if is_first else None))
            is_first = False


def _ask(pipe: Connection) -> tuple[float, float, Any]:
    pipe.send("go")
    told: tuple[float, float, Any] = pipe.recv()
    return told
