"""Long trials of the companion on a clock of its own, for a test to hold and a benchmark to report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from bridge.live import wire
from bridge.live.controls import COMMANDS, Controls
from tests.live_stage import MS, Stage, eighths, note_ons, tick_until

RECORDED = json.loads(Path(__file__).with_name("data_live_times.json").read_text(encoding="utf-8"))


def answered_on_line(phrases: int) -> int:
    """How many phrases get their reply on the next bar line, with the times that the shipped model took."""
    random = Random(0)
    times = iter(RECORDED["first_bar_ms"] * (2 + phrases // 100))

    def recorded(ask: Mapping[str, Any], bar: int) -> tuple[float, list[list[Any]]]:
        took = next(times) if bar == 0 else random.choice(RECORDED["next_bar_ms"])
        return took, eighths(ask, bar)[1]

    on_line = 0
    for _ in range(phrases):
        bpm = random.uniform(60.0, 180.0)
        stage = Stage(Controls(clock="internal", tempo=bpm, bars=2), write=recorded)
        stage.conductor.start_internal(0)
        stage.run_beats(random.uniform(0.0, 4.0), bpm)
        for _ in range(random.randrange(1, 12)):
            stage.play(random.randrange(48, 72), random.choice((0.25, 0.5, 1.0)), bpm)
        ended = stage.companion.listener.last_end_beats
        line = -(-(ended + 0.5) // 4) * 4
        stage.run_beats(line - ended + 1.0, bpm)
        first = note_ons(stage)[0][0] if note_ons(stage) else 0
        on_line += abs(first - line * 60e9 / bpm) < 1 * MS
    return on_line


COMMAND_NAMES = [name for name in COMMANDS if name != "capture"]


def random_step(stage: Stage, random: Random) -> None:
    """One of all the things that can happen to a companion."""
    pitch, channel = random.randrange(55, 70), random.randrange(2)
    step = random.randrange(16)
    if step < 3:
        stage.midi(wire.note_on(channel, pitch, 90))
        if random.random() < 0.8:
            stage.midi(wire.note_off(channel, pitch))
    elif step == 3:
        stage.midi(wire.control(channel, 123, 0))
    elif step == 4:
        stage.midi(bytes((random.choice((wire.START, wire.CONTINUE)),)))
    elif step == 5:
        stage.midi(bytes((wire.STOP,)))
        assert not stage.instrument().on, "stop means silence"
    elif step == 6:
        stage.midi(wire.song_position(random.randrange(0, 400)))
    elif step == 7:
        stage.conductor.command(random.choice(COMMAND_NAMES), stage.now_ns)
    elif step == 8:
        changes: dict[str, Any] = {
            "mode": random.choice(("call", "continue", "loop")),
            "thru": random.random() < 0.3,
            "mute": random.random() < 0.1,
            "channel": random.randrange(1, 17),
            "beats_per_bar": random.choice((3, 4)),
            "bars": random.randrange(1, 4),
        }
        stage.conductor.set_controls(replace(stage.conductor.controls, **changes), stage.now_ns)
    elif step == 9:
        stage.generator_hangs = random.random() < 0.1
    else:
        tick_until(stage, random.randrange(1, 80), random.uniform(90.0, 200.0))


def overlapping(ask: Mapping[str, Any], bar: int) -> tuple[float, list[list[Any]]]:
    """A bar of notes that last over bar lines and strike pitches that still sound; some come late."""
    random = Random(f"{ask['id']} {bar}")
    line = ask["from_beat"] + bar * 4.0
    notes = [
        [line + random.randrange(16) / 4, random.uniform(0.1, 7.0), random.randrange(58, 66), 90, "piano"]
        for _ in range(12)
    ]
    return random.choice((20.0, 60.0, 2500.0)), sorted(notes)


def hung_notes(stages: int, events: int) -> tuple[int, int]:
    """(notes sent, notes left on) after `events` random events in each of so many stages.

    The instrument ignores "all notes off".
    """
    random = Random(7)
    hung = notes = 0
    for _ in range(stages):
        stage = Stage(Controls(bars=2), write=overlapping)
        for _ in range(events):
            random_step(stage, random)
        stage.midi(bytes((wire.STOP,)))
        stage.run_beats(40.0)
        stage.conductor.halt(stage.now_ns)
        heard = stage.instrument()
        notes += heard.notes
        hung += len(heard.on)
    return notes, hung
