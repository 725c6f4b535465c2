"""What a person sees of the companion says where the song is, who leads, and what will happen."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

from rich.console import Console

from bridge.live.controls import Controls
from bridge.livehost.view import LiveView, event_line
from tests.live_stage import Stage


def shown(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def view_of(stage: Stage, **controls: Any) -> LiveView:
    view = LiveView()
    view.update({**stage.conductor.state(stage.now_ns), "event": "state"})
    view.update({"event": "controls", "controls": dataclasses.asdict(Controls(**controls))})
    return view


def test_before_the_first_state_it_says_that_it_starts() -> None:
    assert "starting" in shown(LiveView())


def test_clock_bar_beat_and_controls_are_shown() -> None:
    stage = Stage(Controls(clock="internal", tempo=100.0))
    stage.conductor.start_internal(0)
    stage.run_beats(6.5, 100.0)
    text = shown(view_of(stage, key="A minor", mute=True))
    assert "internal, 100.0 bpm, bar 2 beat 3.5 ●●●○" in text
    assert "listens" in text and "key A minor" in text and "MUTED" in text


def test_what_is_planned_is_shown_with_its_bar() -> None:
    stage = Stage(Controls(clock="internal"))
    stage.conductor.start_internal(0)
    stage.play(60, 1.0)
    stage.run_beats(1.0)
    assert "answers at bar 2" in shown(view_of(stage))
    stage.run_beats(3.0)
    text = shown(view_of(stage))
    assert "plays" in text and "100.0% on time" in text and "1 replies, 1 ready at their bar line" in text


def test_a_daw_that_stands_is_shown_as_stopped() -> None:
    text = shown(view_of(Stage(Controls(clock="midi"))))
    assert "stopped at bar 1 beat 1.0" in text and "waits for the clock" in text


def test_names_with_brackets_are_shown_as_they_are() -> None:
    line = event_line({"event": "take", "path": "/music/[live]/a.mid", "notes": 3, "seed": 1, "is_cut": True})
    console = Console(file=io.StringIO(), width=100)
    console.print(line)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().strip() == "reply 3 notes, seed 1, cut: /music/[live]/a.mid"


def test_what_is_of_no_interest_has_no_line() -> None:
    assert event_line({"event": "state"}) == "" and event_line({"event": "generator"}) == ""
