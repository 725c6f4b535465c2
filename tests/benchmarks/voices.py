"""What becomes of a voice that is converted, as one table: each figure between a floor and a ceiling, with its goal.

`python -m tests.benchmarks.voices [--only PART,...]` makes its own material, whose truth is known, runs the stage convert
on it and writes `voices.json` beside this file. The ceiling is what the same measure says of the source, so no
conversion can do better; the floor is what a bad one would get, measured too where that can be made. A part that was not
measured in this run keeps its figures, with their own date and load.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks import voice_degraded, voice_parts
from tests.benchmarks.voice_rows import Row

RESULTS = Path(__file__).with_suffix(".json")

PARTS: Mapping[str, Callable[[], Sequence[Row]]] = {
    "f0": voice_parts.pitch,
    "clicks": voice_parts.clicks_and_gaps,
    "so-vits": voice_parts.trained,
    "words": voice_parts.words,
    "japanese": voice_parts.japanese,
    "dry": voice_degraded.dry,
    "reverb": voice_degraded.reverb,
    "backing": voice_degraded.backing,
    "bleed": voice_degraded.bleed,
    "instrumental": voice_parts.instrumental,
    "speed": voice_parts.speed,
    "similarity": voice_parts.similarity,
}


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"of {', '.join(PARTS)}, with commas between")
    parser.add_argument("--print", action="store_true", help="measure nothing, print what was written before")
    asked = parser.parse_args()
    wanted = [] if asked.print else [name for name in (asked.only or ",".join(PARTS)).split(",") if name]
    for name in wanted:
        if name not in PARTS:
            parser.error(f"there is no part {name!r}; use {', '.join(PARTS)}")
    written = _written()
    for name in wanted:
        told = measure(name)
        written = {
            **_written(),
            name: told,
        }  # read again: another run may have measured other parts meanwhile
        in_order = {known: written[known] for known in PARTS if known in written}
        RESULTS.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")
    show({name: written[name] for name in PARTS if name in written})
    return 0


def measure(part: str) -> dict[str, Any]:
    """One part's rows, with when, where and how long."""
    began_s, load = time.perf_counter(), os.getloadavg()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = PARTS[part]()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "took_s": round(time.perf_counter() - began_s, 1),
        "rows": [
            {**{key: _plain(value) for key, value in asdict(row).items()}, "holds": row.holds} for row in rows
        ],
    }


def show(written: Mapping[str, Any]) -> None:
    """The table, on standard output."""
    table = Table(title="Voices: what conversion does", show_lines=False)
    for heading in ("part", "what", "floor", "value", "ceiling", "goal", "held"):
        table.add_column(
            heading, justify="right" if heading in ("floor", "value", "ceiling") else "left", overflow="fold"
        )
    for part, told in written.items():
        for row in told["rows"]:
            held = {None: "", True: "yes", False: "NO"}[row["holds"]]
            figures = (_figure(row[name], row["unit"]) for name in ("floor", "value", "ceiling"))
            table.add_row(part, row["what"], *figures, row["goal"], held)
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    for part, told in written.items():
        load = " to ".join(str(value) for value in told["load"])
        print(f"{part}: {told['date']}, {told['machine']}, load {load}, {told['took_s']} s")


def _written() -> dict[str, Any]:
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else str(value)
    return value


def _figure(value: float | str | None, unit: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return f"{value} {unit}".strip()
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.3g} {unit}".strip() if abs(value) < 1000 else f"{value:.0f} {unit}".strip()


if __name__ == "__main__":
    raise SystemExit(main())
