"""The `grid` artifact: what `analyse` found, as JSON. Every later stage reads time from it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from bridge.types import Grid, Span, TempoMap, TempoPoint


def write_grid(path: Path, grid: Grid) -> None:
    """Write `grid`; infinities (silence) become null."""
    table = dataclasses.asdict(grid)
    for name in ("loudness_lufs", "true_peak_dbtp"):
        if not math.isfinite(table[name]):
            table[name] = None
    path.write_text(json.dumps(table, indent=1, sort_keys=True), encoding="utf-8")


def read_grid(path: Path) -> Grid:
    """The grid that `write_grid` wrote."""
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    tempo = table.pop("tempo")
    points = tuple(TempoPoint(**point) for point in tempo.pop("points"))
    for name in ("loudness_lufs", "true_peak_dbtp"):
        if table[name] is None:
            table[name] = float("-inf")
    singing = tuple(Span(**span) for span in table.pop("singing"))
    return Grid(tempo=TempoMap(points, **tempo), singing=singing, **table)
