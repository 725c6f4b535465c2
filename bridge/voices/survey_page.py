"""The survey of a voice's recordings as a page, `recordings/report.html`, its picture, and `recordings/report.json`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from bridge import __version__
from bridge.atomic import replacing
from bridge.voices.recordings import FOLDER, read_sources
from bridge.voices.survey import LOWEST_NOTE, NOTE_NAMES, Survey
from bridge.voices.training_report import BLUE, STYLE

PAGE, TABLE, PICTURE = "report.html", "report.json", "f0.svg"
TEMPLATE = "survey.html"
SIZE_IN = (9.0, 2.6)


def write_survey(folder: Path, name: str, found: Survey) -> Path:
    """Write all three for the voice in `folder`; gives the page."""
    import jinja2

    home = folder / FOLDER
    draw_histogram(found, home / PICTURE)
    with replacing(home / TABLE) as file:
        file.write((json.dumps(asdict(found), indent=1) + "\n").encode())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    svg = (home / PICTURE).read_text("utf-8")
    page = environment.get_template(TEMPLATE).render(
        name=name,
        found=found,
        sources=read_sources(folder),
        picture=svg[svg.index("<svg") :],
        version=__version__,
    )
    with replacing(home / PAGE) as file:
        file.write(page.encode())
    return home / PAGE


def draw_histogram(found: Survey, path: Path) -> None:
    """Seconds sung or spoken on each semitone, as SVG."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    notes = range(LOWEST_NOTE, LOWEST_NOTE + len(found.f0_seconds))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.bar(list(notes), found.f0_seconds, width=0.85, color=BLUE)
        octaves = [note for note in notes if note % 12 == 0]
        axes.set_xticks(octaves, [f"{NOTE_NAMES[note % 12]}{note // 12 - 1}" for note in octaves])
        axes.set_xlabel("pitch")
        axes.set_ylabel("seconds")
        axes.grid(axis="y", alpha=0.25)
        with replacing(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
