"""A training run as a picture: learning rate, loss and accuracy against steps (the paper's figures 5 to 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.atomic import replacing

SIZE_IN = (10.5, 3.0)
BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#718096"
STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.size": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",
    "svg.hashsalt": "dawbridge",
}


def draw(curve: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Three panels as SVG; `curve` is what `train` writes, at least one entry. The same curve gives the same bytes.

    Thin lines are the held-out bits of each source, where there are several.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    steps = [entry["step"] for entry in curve]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        FigureCanvasSVG(figure)
        rate, loss, accuracy = figure.subplots(1, 3)
        rate.plot(steps, [entry["learning_rate"] for entry in curve], color=GREY)
        rate.set_title("learning rate")
        sources = sorted(curve[-1]["by_source"])
        for source in sources if len(sources) > 1 else ():
            loss.plot(steps, [entry["by_source"].get(source) for entry in curve], color=ORANGE, lw=0.4)
        loss.plot(steps, [entry["train_bits"] for entry in curve], color=BLUE, label="training")
        loss.plot(steps, [entry["valid_bits"] for entry in curve], color=ORANGE, label="held out")
        loss.set_title("loss: bits per note")
        loss.legend()
        accuracy.plot(steps, [100.0 * entry["valid_accuracy"] for entry in curve], color=ORANGE)
        accuracy.set_title("accuracy: held-out fields foretold, %")
        for axes in (rate, loss, accuracy):
            axes.set_xlabel("steps")
            axes.grid(alpha=0.25)
            if len(steps) == 1:
                axes.lines[-1].set_marker("o")
        with replacing(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
