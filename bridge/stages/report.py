"""One HTML page on a job: what came out against what went in, with controls; what ran, from what, how long.

It opens by a double click and needs no network. It tells of this very run, so it is made anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bridge.grid import read_grid
from bridge.midi import read_midi
from bridge.reporting import pictures
from bridge.reporting.controls import Control, controls
from bridge.reporting.correlation import correlate, read_signal
from bridge.reporting.loudness import measure
from bridge.reporting.page import Page, render
from bridge.reporting.spectrogram import likeness, spectrogram
from bridge.types import Artifact, Bounce, Context, Made, Skip

STAGE_VERSION = "1"
BOUNCE = "bounce"
WHAT_CAME_OUT: Mapping[str, str] = {
    "new_piece": "the lead over the arrangement: new music for the song's own bars",
    "mix": "the lead over the original music",
    "lead": "the vocal in another character, with effects",
}
MADE_BY = {
    "grid": "analyse",
    "notes": "transcribe",
    "continuation": "generate",
    "arrangement": "generate",
    "lead": "effects",
    "mix": "mix",
    "new_piece": "mix",
}
ROLLS = ("notes", "continuation", "arrangement")

Tick = Callable[[], None]


@dataclass(frozen=True)
class ReportSettings:
    """There is nothing to set."""


def report(
    bounce: Bounce,
    record: Artifact,
    grid: Artifact | None,
    notes: Artifact | None,
    continuation: Artifact | None,
    arrangement: Artifact | None,
    lead: Artifact | None,
    mix: Artifact | None,
    new_piece: Artifact | None,
    *,
    settings: ReportSettings,
    context: Context,
) -> Made | Skip:
    """Make `report`; what is not there is left out with the reason. `facts` hold the correlations."""
    told = json.loads(record.path.read_text(encoding="utf-8"))
    artifacts = (grid, notes, continuation, arrangement, lead, mix, new_piece)
    given = {artifact.name: artifact.path for artifact in artifacts if artifact}
    sounds = {name: given[name] for name in WHAT_CAME_OUT if name in given}
    outputs = {name: path for name, path in sounds.items() if name != "lead" or len(sounds) == 1}
    compared, yardsticks, drawn = _compare(bounce.path, outputs, partial(context.report, 0, 3))
    tick = partial(context.report, 1, 3)
    loudness = {name: measure(path, tick) for name, path in {BOUNCE: bounce.path, **sounds}.items()}
    context.report(2, 3)
    rolls = _piano_rolls(given, bounce.sample_rate_hz)
    page = Page(
        bounce=bounce,
        record=told,
        grid=read_grid(grid.path) if grid else None,
        outputs=compared,
        controls=yardsticks,
        loudness=loudness,
        pictures={**drawn, **rolls, "curves": pictures.loudness_curves(loudness)},
        why_not={name: _why_not(name, told) for name in MADE_BY if name not in given},
    )
    path = context.workdir / "report.html"
    path.write_text(render(page), encoding="utf-8")
    context.report(3, 3)
    return Made({"report": path}, _detail(compared), _facts((*compared, *yardsticks)))


def _compare(
    bounce: Path, outputs: Mapping[str, Path], tick: Tick
) -> tuple[tuple[Control, ...], tuple[Control, ...], dict[str, pictures.Svg]]:
    """Outputs and controls against the bounce, and the pictures of it; nothing where nothing came out."""
    if not outputs:
        return (), (), {}
    signal = read_signal(bounce, tick)
    compared = tuple(
        Control(name, WHAT_CAME_OUT[name], correlate(signal, read_signal(path, tick)))
        for name, path in outputs.items()
    )
    yardsticks = controls(signal, tick)
    spectra = {name: spectrogram(path, tick) for name, path in {BOUNCE: bounce, **outputs}.items()}
    matrices = {name: likeness(spectra[BOUNCE], found) for name, found in spectra.items()}
    seconds = {name: found.seconds for name, found in spectra.items()}
    drawn = {
        "spectrograms": pictures.spectrograms(spectra),
        "likenesses": pictures.likenesses(matrices, seconds),
    }
    correlations = {row.name: row.correlation for row in (*compared, *yardsticks) if row.correlation}
    if correlations:
        drawn["lag"] = pictures.power_against_lag(correlations)
    return compared, yardsticks, drawn


def _piano_rolls(given: Mapping[str, Path], sample_rate_hz: int) -> dict[str, pictures.Svg]:
    """Those that hold a note."""
    read = {name: read_midi(given[name], sample_rate_hz) for name in ROLLS if name in given}
    return {
        name: pictures.piano_roll(phrase, tempo) for name, (phrase, tempo) in read.items() if phrase.notes
    }


def _why_not(name: str, told: Mapping[str, Any]) -> str:
    stage = MADE_BY[name]
    event = next((event for event in told["stages"] if event["stage"] == stage), None)
    if event is None:
        why = f"the preset {told['preset']} does not run {stage}"
    elif event["state"] in ("done", "cached"):
        why = f"{stage} made none"
    else:
        why = f"{stage} {event['state']}" + (f": {event['detail']}" if event["detail"] else "")
    return f"No {name}: {why}."


def _detail(compared: tuple[Control, ...]) -> str:
    found = [
        f"{row.name} {row.correlation.highest:.2f} at {row.correlation.lag_s:.3f} s"
        for row in compared
        if row.correlation
    ]
    return f"likeness to the bounce: {', '.join(found)}" if found else ""


def _facts(rows: tuple[Control, ...]) -> dict[str, Any]:
    found = {row.name: row.correlation for row in rows if row.correlation}
    return {
        "correlation": {
            name: {"highest": one.highest, "lag_s": one.lag_s, "raw": one.raw} for name, one in found.items()
        }
    }
