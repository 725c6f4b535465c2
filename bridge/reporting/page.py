"""The report's page: one HTML file that needs nothing beside it; every word that isn't ours is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.reporting.controls import Control
from bridge.reporting.correlation import RATE_HZ
from bridge.reporting.loudness import Loudness
from bridge.reporting.pictures import Svg
from bridge.types import Bounce, Grid, TempoSource

TEMPLATE = "page.html"
TEMPO_FROM: Mapping[TempoSource, str] = {
    "sidecar": "as the DAW said in the sidecar",
    "acid": "from the file's acid chunk",
    "name": "from the file's name",
    "transport": "as the DAW's script reported shortly before",
    "set": "as set",
    "estimated": "estimated from the audio",
}
OF_THE_VOICE = ("voice", "transposition", "backing", "left_as_sung")
BACKINGS: Mapping[str, str] = {
    "keep": "kept as it was",
    "mute": "muted",
    "convert": "in the same voice",
}


@dataclass(frozen=True)
class Page:
    """What the page shows; a picture that is left out is replaced by the reason why."""

    bounce: Bounce
    record: Mapping[str, Any]  # what `jobs` wrote down of the job
    grid: Grid | None
    outputs: tuple[Control, ...]  # what came out, held against the bounce
    controls: tuple[Control, ...]
    loudness: Mapping[str, Loudness]
    pictures: Mapping[str, Svg]  # lag, spectrograms, likenesses, curves; and a piano roll by artifact
    why_not: Mapping[str, str]  # artifact -> why there is none


def render(page: Page) -> str:
    """The whole file; the same bytes for the same page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["level"] = _level
    environment.filters["clock"] = _clock
    sung = {name: page.record["facts"].get("convert", {}).get(name) for name in OF_THE_VOICE}
    return environment.get_template(TEMPLATE).render(
        page=page,
        correlation_hz=RATE_HZ,
        tempo_from=TEMPO_FROM,
        version=__version__,
        voice=sung.get("voice"),
        sung=sung,
        backings=BACKINGS,
    )


def _level(level_db: float) -> str:
    return f"{level_db:.1f}" if math.isfinite(level_db) else "silent"


def _clock(seconds: float) -> str:
    """Minutes and seconds, such as 1:02.5."""
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"
