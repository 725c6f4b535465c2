"""Training as it can be heard and seen: one phrase at each checkpoint, and mel, KL and total loss (the paper's figures 2-4).

`training/report.html`, `losses.svg`, `losses.png` and `curve.json` are whole at any time, while training goes on too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge import __version__
from bridge.atomic import replacing
from bridge.voices.checkpoints import Checkpoint

PHRASES, ORIGINAL = "phrases", "original.wav"
PAGE, PICTURE_SVG, PICTURE_PNG = "report.html", "losses.svg", "losses.png"
TEMPLATE = "training.html"
SIZE_IN = (10.5, 3.0)
BLUE, ORANGE = "#2b6cb0", "#c05621"
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
PANELS = (("mel", "mel spectrogram loss"), ("kl", "KL divergence loss"), ("total", "total loss"))


def phrase_name(epoch: int) -> str:
    """The file that holds the phrase as it was sung after `epoch`."""
    return f"epoch-{epoch:06d}.wav"


def write_phrase(path: Path, samples: npt.NDArray[np.float32], rate_hz: int) -> None:
    """16-bit mono, whole or not at all; (frames,)."""
    import soundfile

    with replacing(path) as file:
        soundfile.write(file, np.clip(samples, -1.0, 1.0), rate_hz, subtype="PCM_16", format="WAV")


def write(training: Path, name: str, curve: Sequence[Mapping[str, Any]], kept: Sequence[Checkpoint]) -> None:
    """The page and its pictures."""
    draw_losses(curve, training)
    with replacing(training / PAGE) as file:
        file.write(_render(training, name, curve, kept).encode())


def draw_losses(curve: Sequence[Mapping[str, Any]], training: Path) -> None:
    """Three panels against epochs, as SVG and PNG; the same curve gives the same SVG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trained = [point for point in curve if "mel" in point]
    judged = [point for point in curve if point.get("kept") and point["epoch"] > 0]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (key, title) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            marker = "o" if len(trained) == 1 else None
            axes.plot(
                [p["epoch"] for p in trained],
                [p[key] for p in trained],
                color=BLUE,
                marker=marker,
                label="training",
            )
            if key == "mel":
                # The package's mel loss is 45 times the distance: shown on one scale.
                axes.plot(
                    [p["epoch"] for p in judged],
                    [45.0 * p["held_out_mel"] for p in judged],
                    color=ORANGE,
                    marker=".",
                    label="held out",
                )
                axes.legend()
            axes.set_title(title)
            axes.set_xlabel("epochs")
            axes.grid(alpha=0.25)
        with replacing(training / PICTURE_SVG) as file:
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        with replacing(training / PICTURE_PNG) as file:
            figure.savefig(file, format="png", dpi=120)


def _render(training: Path, name: str, curve: Sequence[Mapping[str, Any]], kept: Sequence[Checkpoint]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    svg = (training / PICTURE_SVG).read_text("utf-8")
    judged = [point for point in curve if point.get("kept")]
    heard = [p for p in judged if (training / PHRASES / phrase_name(p["epoch"])).exists()]
    return environment.get_template(TEMPLATE).render(
        name=name,
        version=__version__,
        picture=svg[svg.index("<svg") :],
        points=heard,
        phrases=PHRASES,
        original=ORIGINAL,
        phrase_name=phrase_name,
        kept={checkpoint.epoch for checkpoint in kept},
        best=min(judged, key=lambda p: p["held_out_mel"])["epoch"] if judged else None,
    )
