"""What a person sees of the companion: clock, bar and beat, what was heard and is planned, and how it keeps time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

LINES_KEPT = 8
SOURCES = {"internal": "internal", "midi": "MIDI clock", "link": "Ableton Link"}
BEAT_ON, BEAT_OFF = "●", "○"


class LiveView:
    """Feed it the session's events; draw it as often as you like."""

    def __init__(self) -> None:
        self._state: Mapping[str, Any] = {}
        self._controls: Mapping[str, Any] = {}
        self._ports: tuple[str, ...] = ()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)

    def update(self, event: Mapping[str, Any]) -> None:
        """Something happened."""
        kind = event["event"]
        if kind == "state":
            self._state = event
        elif kind == "controls":
            self._controls = event["controls"]
        elif kind == "ready":
            self._ports = tuple(event["ports"])
        line = event_line(event)
        if line:
            self._lines.append(line)

    def __rich__(self) -> RenderableType:
        """The view as it stands."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in self._rows():
            table.add_row(name, value)
        return Group(table, *(Text.from_markup(line) for line in self._lines))

    def _rows(self) -> list[tuple[str, str]]:
        state, controls = self._state, self._controls
        if not state:
            return [("companion", "starting ...")]
        rows = [("ports", escape(", ".join(self._ports) or "none: inside the process"))]
        rows.append(("clock", f"{_source(state)}, {state['bpm']:.1f} bpm, {_place(state)}"))
        rows.append(("heard", f"{state['heard']} notes, {state['keys_down']} keys down"))
        rows.append(("companion", _doing(state)))
        if controls:
            rows.append(("controls", escape(_controls(controls))))
        sent = state["on_time"] + state["late"] + state["dropped"]
        share = f"{100 * state['on_time'] / sent:.1f}% on time, " if sent else ""
        rows.append(("sent", f"{sent} notes, {share}{state['late']} late, {state['dropped']} dropped"))
        bars = f"{state['replies']} replies, {state['on_line']} ready at their bar line"
        rows.append(("replies", f"{bars}, {state['late_bars']} bars late, {state['missed_bars']} missed"))
        return rows


def event_line(event: Mapping[str, Any]) -> str:
    """One line for what a person wants to keep; empty for the rest."""
    kind = event["event"]
    if kind == "ready":
        where = ", ".join(event["ports"]) or "no MIDI ports (inside the process)"
        return f"Ready on {escape(where)}. Ctrl-C ends it."
    if kind == "take":
        cut = ", cut" if event["is_cut"] else ""
        return f"[green]reply[/] {event['notes']} notes, seed {event['seed']}{cut}: {escape(event['path'])}"
    if kind in ("keep", "undo", "capture"):
        return f"[green]{kind}[/] {escape(event['path'])}"
    if kind == "told":
        colour = "yellow" if event["kind"] == "warning" else "cyan"
        return f"[{colour}]{event['kind']}[/] {escape(event['detail'])}"
    if kind == "song":
        metre = f"{event['beats_per_bar']}/{event['beat_unit']}"
        return f"[cyan]song[/] {escape(event['key'] or 'no key')}, {metre}, {', '.join(event['parts'])}"
    return ""


def _source(state: Mapping[str, Any]) -> str:
    name = state["source_name"]
    return SOURCES[state["source"]] + (f" ({escape(name)})" if name else "")


def _place(state: Mapping[str, Any]) -> str:
    bar_beats = state["bar_beats"]
    bar = math.floor(state["beat"] / bar_beats)
    within = state["beat"] - bar * bar_beats
    beats = max(1, round(bar_beats))
    dots = "".join(BEAT_ON if beat <= within else BEAT_OFF for beat in range(beats))
    where = f"bar {bar + 1} beat {within + 1:.1f} {dots}"
    return where if state["playing"] else f"stopped at {where}"


def _doing(state: Mapping[str, Any]) -> str:
    if state["replying"]:
        return "plays"
    if state["planned_beat"] is not None:
        return f"answers at bar {math.floor(state['planned_beat'] / state['bar_beats']) + 1}"
    return "listens" if state["playing"] else "waits for the clock"


def _controls(controls: Mapping[str, Any]) -> str:
    muted = ", MUTED" if controls["mute"] else ""
    return (
        f"{controls['mode']}, {controls['bars']} bars, {controls['part']} on channel {controls['channel']}, "
        f"key {controls['key']}, temperature {controls['temperature']:g}, "
        f"{controls['beats_per_bar']}/{controls['beat_unit']}{muted}"
    )
