"""A REAPER project made of plain data: tracks, items, tempo, selection, undo steps, render settings, and a render that
writes real WAV files. What REAPER would do with it stands here; how scripts reach it, in `reaper_host`.

It is made hostile where REAPER is unknown: a render moves cursor, view and selection, so that a script which does not
put them back is found out.
"""

from __future__ import annotations

import base64
import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.reaper_api import RENDER_NUMBERS, RENDER_TEXTS

PPQ = 960
TONE_HZ = 220.0
ITEMS_ONE_BY_ONE, ITEMS_VIA_MASTER, TRACKS_VIA_MASTER, AS_ONE_FILE = 32, 64, 128, 4 << 16
CUSTOM_RANGE, WHOLE_PROJECT, TIME_SELECTION, SELECTED_ITEMS = 0, 1, 2, 4
STRANGE_RENDER_SETTINGS: dict[str, float] = {name: 1.0 + i for i, name in enumerate(RENDER_NUMBERS)}
WAV_DEPTHS = {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}


@dataclass(eq=False)
class Source:
    """An opened media file."""

    path: str
    is_destroyed: bool = False


@dataclass(eq=False)
class Take:
    """One take of an item: a file, or notes (start and end in ticks, channel, pitch, velocity)."""

    item: Item
    name: str = ""
    source: Source | None = None
    notes: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    controllers: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    is_sorted: bool = True


@dataclass(eq=False)
class Item:
    """A media item; `info` holds its numbers by REAPER's names."""

    track: Track
    info: dict[str, float] = field(default_factory=dict)
    takes: list[Take] = field(default_factory=list)


@dataclass(eq=False)
class Track:
    """A track; `info` holds its numbers, `texts` its name and P_EXT values, by REAPER's names."""

    info: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    @property
    def name(self) -> str:
        """P_NAME."""
        return self.texts.get("P_NAME", "")


@dataclass(frozen=True)
class TempoMarker:
    """A tempo marker; `bpm` counts quarter notes. `num` 0: the metre goes on."""

    at_s: float
    bpm: float
    num: int = 0
    denom: int = 0
    is_gradual: bool = False


@dataclass
class UndoStep:
    """What the musician sees in the undo history, and the project as it was before."""

    name: str
    flags: int
    before: list[Track]


@dataclass
class Project:
    """One project tab."""

    name: str = "Song.rpp"
    sample_rate_hz: int = 48_000
    uses_sample_rate: bool = True
    play_state: int = 0
    cursor_s: float = 1.25
    time_selection: tuple[float, float] = (0.0, 0.0)
    loop: tuple[float, float] = (2.0, 6.0)
    view: tuple[float, float] = (0.0, 30.0)
    tempo: list[TempoMarker] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=lambda: dict(STRANGE_RENDER_SETTINGS))
    texts: dict[str, str] = field(
        default_factory=lambda: dict(zip(RENDER_TEXTS, ("C:/mine", "$project", "l3pm", "evaw"), strict=True))
    )
    undo: list[UndoStep] = field(default_factory=list)
    render_outcome: str = "whole"  # or "fails", "short", "raises"
    joins_items: bool = True  # knows RENDER_SETTINGS 4<<16

    def add_track(self, name: str = "", depth: int = 0) -> Track:
        """A track at the end."""
        track = Track({"I_FOLDERDEPTH": depth, "B_MUTE": 0, "I_SELECTED": 0}, {"P_NAME": name})
        self.tracks.append(track)
        return track

    def add_item(self, track: Track, start_s: float, length_s: float, is_selected: bool = False) -> Item:
        """An item with something that sounds."""
        item = Item(track, {"D_POSITION": start_s, "D_LENGTH": length_s, "B_UISEL": float(is_selected)})
        item.takes.append(Take(item, "mine"))
        track.items.append(item)
        return item

    @property
    def items(self) -> list[Item]:
        """All items, in the tracks' order."""
        return [item for track in self.tracks for item in track.items]

    @property
    def length_s(self) -> float:
        """The end of the last item."""
        return max((item.info["D_POSITION"] + item.info["D_LENGTH"] for item in self.items), default=0.0)

    def selected_items(self) -> list[Item]:
        """In the tracks' order."""
        return [item for item in self.items if item.info.get("B_UISEL")]

    def selected_tracks(self) -> list[Track]:
        """In order."""
        return [track for track in self.tracks if track.info.get("I_SELECTED")]

    def state(self) -> dict[str, Any]:
        """Everything that may be compared, as plain data."""
        return {
            "tracks": [
                (
                    dict(track.info),
                    dict(track.texts),
                    [(dict(item.info), [_take_state(take) for take in item.takes]) for item in track.items],
                )
                for track in self.tracks
            ],
            "cursor": self.cursor_s,
            "time_selection": self.time_selection,
            "loop": self.loop,
            "view": self.view,
            "tempo": list(self.tempo),
            "render": {**self.numbers, **self.texts},
            "undo": [step.name for step in self.undo if step.flags],
        }

    def undo_once(self) -> None:
        """What Ctrl+Z does."""
        self.tracks = self.undo.pop().before

    def snapshot(self) -> list[Track]:
        """A deep copy of all tracks."""
        return copy.deepcopy(self.tracks)

    # Time

    def quarters_at(self, seconds: float) -> float:
        """Quarter notes from the project's start to a time in seconds."""
        quarters = 0.0
        for start, stop, bpm, end_bpm in self._stretches():
            if seconds <= start and start > 0:
                break
            within = min(seconds, stop) - start
            slope = (end_bpm - bpm) / (stop - start) if stop < np.inf else 0.0
            quarters += (bpm * within + slope * within**2 / 2) / 60
        return quarters

    def seconds_at(self, quarters: float) -> float:
        """The time at which a quarter note falls, by bisection."""
        low, high = 0.0, 1e5
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if self.quarters_at(middle) < quarters else (low, middle)
        return high

    def _stretches(self) -> Iterator[tuple[float, float, float, float]]:
        """Start, end, tempo there and at the end, from time 0 on."""
        markers = [*([TempoMarker(0.0, 120.0, 4, 4)] if not self._starts_marked() else []), *self.tempo]
        for marker, following in itertools.pairwise([*markers, None]):
            assert marker is not None
            stop = following.at_s if following else np.inf
            yield (
                marker.at_s,
                stop,
                marker.bpm,
                following.bpm if following and marker.is_gradual else marker.bpm,
            )

    def _starts_marked(self) -> bool:
        return bool(self.tempo) and self.tempo[0].at_s == 0.0

    def metre_at(self, seconds: float) -> tuple[int, int]:
        """Numerator and denominator."""
        found = (4, 4)
        for marker in self.tempo:
            if marker.at_s <= seconds and marker.num:
                found = (marker.num, marker.denom)
        return found

    def tempo_at(self, seconds: float) -> float:
        """Quarter notes per minute."""
        for start, stop, bpm, end_bpm in self._stretches():
            if start <= seconds < stop:
                share = (seconds - start) / (stop - start) if stop < np.inf else 0.0
                return bpm + (end_bpm - bpm) * share
        return 120.0

    def beat_at(self, seconds: float) -> tuple[float, int, int]:
        """Beats in the bar, the bar's index, and the bar's beats."""
        quarters = self.quarters_at(seconds)
        bar, first, num, denom = self._metre_before(quarters)
        length = num * 4 / denom
        bars = int((quarters - first + 1e-9) // length)
        return max(0.0, (quarters - first - bars * length) * denom / 4), bar + bars, num

    def bar_start_s(self, bar: int) -> float:
        """The time at which a bar begins."""
        for at, first, num, denom in reversed(self._metres()):
            if bar >= at:
                return self.seconds_at(first + (bar - at) * num * 4 / denom)
        raise AssertionError(bar)

    def _metres(self) -> list[tuple[int, float, int, int]]:
        """First bar, its quarter, numerator, denominator of every stretch of one metre."""
        found = [(0, 0.0, *self.metre_at(0.0))]
        for marker in self.tempo:
            if marker.num and marker.at_s > 0:
                bar, first, num, denom = found[-1]
                quarters = self.quarters_at(marker.at_s)
                bars = int(np.ceil((quarters - first) / (num * 4 / denom) - 1e-9))
                found.append((bar + bars, quarters, marker.num, marker.denom))
        return found

    def _metre_before(self, quarters: float) -> tuple[int, float, int, int]:
        return next(metre for metre in reversed(self._metres()) if metre[1] <= quarters + 1e-9)

    # Rendering

    def render_targets(self) -> list[Path]:
        """The files that a render would write."""
        folder, pattern = Path(self.texts["RENDER_FILE"]), self.texts["RENDER_PATTERN"]
        parts = self._parts()
        if len(parts) == 1:
            return [folder / f"{pattern}.wav"]
        return [folder / f"{pattern}-{number:03}.wav" for number in range(1, len(parts) + 1)]

    def render(self) -> None:
        """Write what the render settings say; cursor, view and selection are left as a render may leave them."""
        targets, parts = self.render_targets(), self._parts()
        self.cursor_s, self.view, self.time_selection = 0.0, (0.0, 1.0), (0.0, 0.0)
        for track in self.tracks:
            track.info["I_SELECTED"] = 0
        if self.render_outcome == "raises":
            raise RuntimeError("the render broke")
        if self.render_outcome == "fails":
            return
        for path, (start, stop) in zip(targets, parts, strict=True):
            self._write(path, start, stop)

    def _parts(self) -> list[tuple[float, float]]:
        settings, bounds = int(self.numbers["RENDER_SETTINGS"]), int(self.numbers["RENDER_BOUNDSFLAG"])
        if settings & (ITEMS_ONE_BY_ONE | ITEMS_VIA_MASTER):
            assert bounds == SELECTED_ITEMS
            spans = [
                (item.info["D_POSITION"], item.info["D_POSITION"] + item.info["D_LENGTH"])
                for item in self.selected_items()
            ]
            if settings & AS_ONE_FILE and self.joins_items:
                return [(min(start for start, _ in spans), max(stop for _, stop in spans))]
            return spans
        ranges = {
            CUSTOM_RANGE: (self.numbers["RENDER_STARTPOS"], self.numbers["RENDER_ENDPOS"]),
            WHOLE_PROJECT: (0.0, self.length_s),
            TIME_SELECTION: self.time_selection,
        }
        copies = len(self.selected_tracks()) if settings & TRACKS_VIA_MASTER else 1
        return [ranges[bounds]] * copies

    def _write(self, path: Path, start: float, stop: float) -> None:
        rate = int(self.numbers["RENDER_SRATE"]) or self.sample_rate_hz
        tail = 1.0 if self.numbers["RENDER_TAILFLAG"] else 0.0
        seconds = (stop - start + tail) * (0.5 if self.render_outcome == "short" else 1.0)
        times = start + np.arange(round(seconds * rate)) / rate
        gain = 0.1 if self.numbers["RENDER_NORMALIZE"] else 0.5
        samples = np.repeat(
            gain * np.sin(2 * np.pi * TONE_HZ * times)[:, None], int(self.numbers["RENDER_CHANNELS"]), 1
        )
        sink = base64.b64decode(self.texts["RENDER_FORMAT"])
        assert sink[:4] == b"evaw" and not self.texts["RENDER_FORMAT2"]
        soundfile.write(path, samples, rate, subtype=WAV_DEPTHS[sink[4]])
        if int(self.numbers["RENDER_ADDTOPROJ"]) & 1:
            self.add_track("rendered")


def _take_state(take: Take) -> tuple[Any, ...]:
    return take.name, take.source.path if take.source else None, list(take.notes), list(take.controllers)
