"""How well the companion keeps to the grid of a real DAW that leads it, as one JSON object.

`uv run python -m tests.benchmarks.live_ardour [--json FILE]` lets Ardour's clock and transport drive the live process,
whose parent writes known notes, and reads back what Ardour recorded of them, at JACK periods of 64 and 256 frames.
Needs a real JACK and a real Ardour, see `tests/ardour.py`; `test_live_ardour.py` measures the same. Never in CI.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.live.pipe import receive_message
from tests.ardour import CLOCK_OUT, Ardour, TakenNote, ardour_session
from tests.jack import RATE_HZ, jack_server
from tests.live_jack import IN_PORT, OUT_PORT, READY_S, LiveChild

PERIODS_FRAMES = (64, 256)
FROM_BARS = (0, 2)  # counted from 0
BPM = 137.0  # no beat of it is whole periods long
BAR_BEATS = 4.0
REPLY_BARS = 9
STEP_BEATS, LENGTH_BEATS = 0.25, 0.2
PITCHES = range(36, 36 + 48)  # three bars of steps: a note's pitch tells its place
NEAR_BEATS = 0.2  # so far from its place a recorded note is still that note
TAIL_S = 0.5  # recorded after the reply
ROLL_S = 5.0
START_ATTEMPTS = 3


@dataclass(frozen=True)
class Deviation:
    """A take held against what was to be played. Late is positive."""

    begins_beats: float  # in Ardour's time, where the first note belongs
    notes: int  # that were to be played
    lost: int
    extra: int
    hung: int  # recorded without a note-off
    median_ms: float
    std_ms: float
    worst_ms: float  # the farthest from the median

    def __str__(self) -> str:
        return json.dumps(dataclasses.asdict(self))


class ScriptedChild(LiveChild):
    """The live process with a parent that answers with `scripted_notes`."""

    def _receive(self) -> None:
        message = receive_message(self._pipe)
        self.told.append((time.monotonic(), message))
        if message["type"] == "ask":
            self._answer(message)

    def _answer(self, ask: Mapping[str, Any]) -> None:
        notes = scripted_notes(ask["bars"])
        for bar in range(ask["bars"]):
            in_bar = [
                [ask["from_beat"] + start, LENGTH_BEATS, pitch, 90, "piano"]
                for start, pitch in notes
                if start // BAR_BEATS == bar
            ]
            self.send(type="phrase", id=ask["id"], bar=bar, notes=in_bar, key="")


def measure(folder: Path, period_frames: int, from_bar: int) -> Deviation:
    """A new Ardour rolls from that bar, counted from 0, and records a reply of nine bars from the next bar line on."""
    with started_ardour(folder, period_frames, BPM) as ardour:
        child = ScriptedChild(clock="midi", bars=REPLY_BARS)
        try:
            child.wait_for("ready", limit_s=READY_S)
            connect(ardour)
            take = _recorded(ardour, child, from_bar)
        finally:
            child.end()
    begins = bar_line(take[0].start_beats) if take else 0.0
    return deviation(take, scripted_notes(REPLY_BARS), begins, BPM)


@contextmanager
def started_ardour(
    folder: Path, period_frames: int, bpm: float, musician: Path | None = None
) -> Iterator[Ardour]:
    """Ardour on a JACK server of its own; both begin anew where JACK drops Ardour as it starts, which is seldom."""
    for attempt in range(1, START_ATTEMPTS + 1):
        with ExitStack() as stack:
            jack = stack.enter_context(jack_server(period_frames))
            try:
                ardour = stack.enter_context(ardour_session(folder / str(attempt), jack, bpm, musician))
            except (TimeoutError, RuntimeError):
                if attempt == START_ATTEMPTS:
                    raise
                continue
            yield ardour
            return


def connect(ardour: Ardour) -> None:
    """Ardour's clock to the companion, and what it plays to the track `take`."""
    jack = ardour.jack
    jack.connect(CLOCK_OUT, jack.wait_for_port(IN_PORT))
    jack.connect(jack.wait_for_port(OUT_PORT), ardour.input_of("take"))


def scripted_notes(bars: int) -> list[tuple[float, int]]:
    """(start in beats, pitch) of a reply of so many bars, counted from its own bar line."""
    steps = round(bars * BAR_BEATS / STEP_BEATS)
    return [(step * STEP_BEATS, PITCHES[step % len(PITCHES)]) for step in range(steps)]


def deviation(
    take: Iterable[TakenNote], expected: Sequence[tuple[float, int]], begins_beats: float, bpm: float
) -> Deviation:
    """`expected` are (start in beats, pitch) counted from `begins_beats` of Ardour's time."""
    left = list(take)
    hung = sum(note.length_beats is None for note in left)
    late_beats = []
    for start, pitch in expected:
        at = begins_beats + start
        near = [note for note in left if note.pitch == pitch and abs(note.start_beats - at) <= NEAR_BEATS]
        if near:
            note = min(near, key=lambda note: abs(note.start_beats - at))
            left.remove(note)
            late_beats.append(note.start_beats - at)
    late_ms = [late * 60_000.0 / bpm for late in late_beats] or [0.0]
    middle_ms = statistics.median(late_ms)
    return Deviation(
        begins_beats=begins_beats,
        notes=len(expected),
        lost=len(expected) - len(late_beats),
        extra=len(left),
        hung=hung,
        median_ms=round(middle_ms, 3),
        std_ms=round(statistics.pstdev(late_ms), 3),
        worst_ms=round(max(abs(late - middle_ms) for late in late_ms), 3),
    )


def own_offset_ms(period_frames: int, from_bar: int) -> float:
    """Where Ardour 7.3 records what comes just with its clock: in a take from zero a period and 16 frames early."""
    return 0.0 if from_bar else -(period_frames + 16) / RATE_HZ * 1e3


def frames(beats: float, bpm: float) -> int:
    """Ardour's position of a beat."""
    return round(beats * 60.0 / bpm * RATE_HZ)


def period_ms(period_frames: int) -> float:
    """How long JACK's period lasts."""
    return period_frames / RATE_HZ * 1e3


def bar_line(beats: float) -> float:
    """The nearest one."""
    return round(beats / BAR_BEATS) * BAR_BEATS


def _recorded(ardour: Ardour, child: LiveChild, from_bar: int) -> list[TakenNote]:
    ardour.arm("take")
    ardour.locate(frames(from_bar * BAR_BEATS, BPM))
    ardour.record_enable()
    ardour.play()
    child.wait(lambda: child.state.get("playing"), "transport that rolls", ROLL_S)
    child.send(type="command", name="answer")
    child.wait_for("played", limit_s=(REPLY_BARS + 3) * BAR_BEATS * 60.0 / BPM)
    time.sleep(TAIL_S)
    ardour.stop()
    ardour.save()
    return ardour.read_take()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the object there too")
    asked = parser.parse_args()
    told: dict[str, Any] = {}
    for period_frames, from_bar in itertools.product(PERIODS_FRAMES, FROM_BARS):
        with tempfile.TemporaryDirectory() as folder:
            take = measure(Path(folder), period_frames, from_bar)
        told[f"period {period_frames}, from bar {from_bar + 1}"] = {
            **dataclasses.asdict(take),
            "ardours_own_ms": round(own_offset_ms(period_frames, from_bar), 3),
        }
    text = json.dumps(told | {"load": round(os.getloadavg()[0], 2)}, indent=1) + "\n"
    sys.stdout.write(text)
    if asked.json:
        asked.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
