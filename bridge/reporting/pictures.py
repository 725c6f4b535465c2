"""The report's pictures as SVG that stands inside the page and takes the page's own ink, light or dark.

The same figures give the same bytes. matplotlib is imported inside, and its global state (pyplot) never used.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bridge.reporting.correlation import FLOOR_DB, Correlation
from bridge.reporting.loudness import HOP_S, SHORT_TERM_S, Loudness
from bridge.reporting.spectrogram import RANGE_DB, Array, Spectrogram
from bridge.tempo import bar_length_beats, beats_to_seconds, first_downbeat_beats
from bridge.types import Note, Phrase, TempoMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Svg = str
"""An `<svg>` element, for inside an HTML page."""

WIDTH_IN = 9.0
LEFT_IN, BOTTOM_IN = 0.75, 0.45  # for the labels of the axes
SCALE_IN, LEGEND_IN = 0.9, 1.1  # to the right
RASTER_DPI = 144
INK = "#0a0b0c"  # stands for the page's own colour of text
COLOURS = (
    "#3b8ede",
    "#e08a1e",
    "#23a455",
    "#d6538c",
    "#9a6bd8",
    "#2aa8a8",
    "#b08a3c",
)  # readable on black and white
STYLE = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.facecolor": "none",
    "font.size": 8.0,
    "image.aspect": "auto",
    "image.interpolation": "none",  # the SVG holds one pixel per value
    "image.origin": "lower",
    "legend.frameon": False,
    "lines.linewidth": 0.9,
    "svg.fonttype": "none",
    "svg.hashsalt": "dawbridge",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
SHOWN_HZ = (100, 500, 1000, 2000, 5000, 10_000)
QUIETEST_LUFS = -60.0
MOST_BAR_LINES = 24


def power_against_lag(correlations: Mapping[str, Correlation]) -> Svg:
    """One small picture for each recording that was held against the bounce, all with the same axes."""
    columns = 3
    rows = math.ceil(len(correlations) / columns)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, (name, found), colour in zip(axes, correlations.items(), COLOURS, strict=False):
            ax.plot(found.lags_s, found.power_db, color=colour)
            ax.set_title(f"{name}: {found.highest:.3f} at {found.lag_s:.3f} s")
            ax.set_ylim(FLOOR_DB, 3.0)
        for ax in axes[len(correlations) :]:
            ax.remove()
        for ax in axes[max(0, len(correlations) - columns) : len(correlations)]:
            ax.tick_params(labelbottom=True)  # nothing stands below it
        figure.supxlabel("lag in s, positive: later than the bounce", fontsize="medium")
        figure.supylabel("power in dB", fontsize="medium")

    return _picture(
        draw, 0.6 + 1.4 * rows, "Power of the correlation with the bounce against lag", row_gap=0.3
    )


def spectrograms(recordings: Mapping[str, Spectrogram]) -> Svg:
    """Side by side, with one time axis, one frequency axis and one scale in dB."""
    loudest_db = max(float(found.level_db.max()) for found in recordings.values())
    seconds = max(found.seconds for found in recordings.values())

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(recordings), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (name, found) in zip(axes, recordings.items(), strict=True):
            bands = len(found.level_db)
            image = ax.imshow(
                found.level_db,
                extent=(0.0, found.seconds, -0.5, bands - 0.5),
                vmin=loudest_db - RANGE_DB,
                vmax=loudest_db,
                cmap="magma",
            )
            shown = [hz for hz in SHOWN_HZ if hz <= found.highest_hz]
            ax.set_yticks([found.band_of(hz) for hz in shown], [f"{hz:,}" for hz in shown])
            ax.set(title=name, xlabel="s", xlim=(0.0, seconds), ylim=(-0.5, bands - 0.5))
        axes[0].set_ylabel("Hz, mel scale")
        _colour_scale(figure, image, "dB")

    return _picture(draw, 3.0, "Spectrograms", right_in=SCALE_IN)


def likenesses(matrices: Mapping[str, Array], seconds: Mapping[str, float]) -> Svg:
    """Squares of time against time; the bounce is the first recording, and all are held against it."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
        for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
            extent = (0.0, seconds[name], 0.0, next(iter(seconds.values())))
            image = ax.imshow(matrix, extent=extent, vmin=-1.0, vmax=1.0, cmap="RdBu_r")
            ax.set_box_aspect(1)
            ax.set(title=f"bounce and {name}", xlabel=f"{name}, s")
        axes[0].set_ylabel("bounce, s")
        _colour_scale(figure, image, "correlation")

    return _picture(draw, 3.3, "Correlation matrix of spectra over time", right_in=SCALE_IN)


def piano_roll(phrase: Phrase, tempo: TempoMap) -> Svg:
    """Pitch against time with a colour for each part; drums in a strip of their own; bars counted on top."""
    parts = sorted({note.part for note in phrase.notes})
    pitched = [note for note in phrase.notes if note.part != "drums"]
    drums = [note for note in phrase.notes if note.part == "drums"]
    strips = [notes for notes in (pitched, drums) if notes]
    colours = dict(zip(parts, COLOURS * math.ceil(len(parts) / len(COLOURS)), strict=False))

    def draw(figure: Figure) -> None:
        ratios = [1 if notes is drums and pitched else 3 for notes in strips]
        axes = figure.subplots(
            len(strips), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios}
        )[:, 0]
        for ax, notes in zip(axes, strips, strict=True):
            _draw_notes(ax, notes, tempo, colours)
            ax.set_ylabel("drum" if notes is drums else "MIDI pitch")
            for _, line_s in _bar_lines(phrase, tempo):
                ax.axvline(line_s, color=INK, linewidth=0.5, alpha=0.3)
        axes[-1].set(xlabel="s", xlim=(0.0, beats_to_seconds(tempo, phrase.length_beats)))
        _number_bars(axes[0], _bar_lines(phrase, tempo))
        figure.legend(
            handles=[_patch(colours[part], part) for part in parts], loc="upper right", title="part"
        )

    height_in = 1.0 + sum(2.4 if notes is pitched else 1.0 for notes in strips)
    return _picture(draw, height_in, "Piano roll", right_in=LEGEND_IN, top_in=0.5)


def loudness_curves(measured: Mapping[str, Loudness]) -> Svg:
    """Short-term loudness over time, each value at the middle of its window."""

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        for (name, found), colour in zip(measured.items(), COLOURS, strict=False):
            middles_s = SHORT_TERM_S / 2 + HOP_S * np.arange(found.short_term_lufs.size)
            ax.plot(middles_s, np.maximum(found.short_term_lufs, QUIETEST_LUFS), color=colour, label=name)
        ax.set(xlabel="s", ylabel="LUFS", ylim=(QUIETEST_LUFS, 0.0))
        figure.legend(loc="upper right")

    return _picture(draw, 2.4, "Short-term loudness", right_in=LEGEND_IN)


def _picture(
    draw: Callable[[Figure], None],
    height_in: float,
    about: str,
    *,
    right_in: float = 0.1,
    top_in: float = 0.3,
    row_gap: float = 0.1,
) -> Svg:
    """What `draw` puts on an empty figure, as an `<svg>` element; equal ids in two pictures mean equal content.

    The margins are given, since for matplotlib to find them it must draw twice; `row_gap` is that between two rows, as a share
    of their height.
    """
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with style.context(["default", STYLE]):  # whatever the user's own matplotlibrc says
        figure = Figure(figsize=(WIDTH_IN, height_in), dpi=RASTER_DPI)
        figure.subplots_adjust(
            LEFT_IN / WIDTH_IN, BOTTOM_IN / height_in, 1 - right_in / WIDTH_IN, 1 - top_in / height_in
        )
        figure.subplots_adjust(wspace=0.08, hspace=row_gap)
        draw(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata=nothing)  # type: ignore[no-untyped-call] # savefig would draw twice
    svg = buffer.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :]).replace(INK, "currentColor")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{about}" ', 1)


def _colour_scale(figure: Figure, image: AxesImage, label: str) -> None:
    """In the margin to the right, as high as the pictures."""
    top, bottom = figure.subplotpars.top, figure.subplotpars.bottom
    beside = figure.add_axes((1 - (SCALE_IN - 0.1) / WIDTH_IN, bottom, 0.1 / WIDTH_IN, top - bottom))
    figure.colorbar(image, cax=beside, label=label)


def _draw_notes(ax: Axes, notes: Sequence[Note], tempo: TempoMap, colours: Mapping[str, str]) -> None:
    from matplotlib.collections import PolyCollection

    corners = []
    for note in notes:
        start_s, end_s = (
            beats_to_seconds(tempo, beat) for beat in (note.start_beats, note.start_beats + note.length_beats)
        )
        low, high = note.pitch - 0.45, note.pitch + 0.45
        corners.append([(start_s, low), (end_s, low), (end_s, high), (start_s, high)])
    faces = [colours[note.part] for note in notes]
    ax.add_collection(PolyCollection(corners, facecolors=faces, rasterized=True))  # thousands: as pixels
    pitches = [note.pitch for note in notes]
    ax.set_ylim(min(pitches) - 1.5, max(pitches) + 1.5)
    ax.locator_params(axis="y", integer=True)


def _bar_lines(phrase: Phrase, tempo: TempoMap) -> list[tuple[int, float]]:
    """Number and second of each bar line, or of every 2nd, 4th, 8th ... where there are many."""
    first, length = first_downbeat_beats(tempo), bar_length_beats(tempo)
    bars = max(0, math.floor((phrase.length_beats - first) / length) + 1)
    step = 1
    while bars > step * MOST_BAR_LINES:
        step *= 2
    return [(bar + 1, beats_to_seconds(tempo, first + bar * length)) for bar in range(0, bars, step)]


def _number_bars(ax: Axes, lines: Sequence[tuple[int, float]]) -> None:
    above = ax.secondary_xaxis("top")
    above.set_xticks([line_s for _, line_s in lines], [str(number) for number, _ in lines])
    above.set_xlabel("bar")


def _patch(colour: str, label: str) -> object:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)
