"""The whole daemon with stages that take a moment instead of a minute: `python -m tests.tiny_daemon run ...`.

Watcher, queue, ledger, store, lanes and their worker processes, and `export` are the real ones. The other stages do
little and write down, in the file that TINY_LOG names, when they begin and for which bounce. A spawned worker
imports this module too, as its main one, before anything else; so it has the same graph.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import bridge.pipeline as graph
from bridge import audio
from bridge.grid import write_grid
from bridge.stages import export
from bridge.tempo import constant_tempo
from bridge.types import STEMS, Artifact, Bounce, Context, Grid, Made

LONGEST_S = 0.4
STEPS = 5


@dataclass(frozen=True)
class TinySettings:
    """Nothing to set."""


def separate(bounce: Bounce, *, settings: TinySettings, context: Context) -> Made:
    """Four stems that add up."""
    _work("separate", bounce, context)
    samples, rate_hz = audio.read(bounce.path)
    folder = context.workdir / "stems"
    folder.mkdir()
    for stem, share in zip(STEMS, (0.25, 0.25, 0.25, 0.25), strict=True):
        audio.write_float_wav(folder / f"{stem}.wav", (samples * share).astype(np.float32), rate_hz)
    return Made({"stems": folder}, "four quarters")


def analyse(bounce: Bounce, stems: Artifact | None, *, settings: TinySettings, context: Context) -> Made:
    """100 bpm, whatever it is."""
    _work("analyse", bounce, context)
    path = context.workdir / "grid.json"
    tempo = constant_tempo(100.0, bounce.sample_rate_hz)
    write_grid(path, Grid(tempo, "estimated", 0.5, "C major", 0.5, -20.0, -3.0, True, ()))
    return Made({"grid": path}, "100 bpm")


def convert(
    bounce: Bounce, stems: Artifact, grid: Artifact, *, settings: TinySettings, context: Context
) -> Made:
    """The vocals, half as loud."""
    _work("convert", bounce, context)
    samples, rate_hz = audio.read_raw(stems.path / "vocals.wav")
    path = context.workdir / "voice.wav"
    audio.write_float_wav(path, (samples / 2).astype(np.float32), rate_hz)
    return Made({"voice": path}, "half as loud")


def _work(stage: str, bounce: Bounce, context: Context) -> None:
    line = f"{stage} {bounce.sha256}\n".encode()
    log = os.open(os.environ["TINY_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line)  # one write: whole, or not there
    os.close(log)
    for step in range(STEPS):
        time.sleep(random.uniform(0.0, LONGEST_S / STEPS))
        context.report(step + 1, STEPS)


def _module(function: Any) -> ModuleType:
    name = function.__name__
    module = ModuleType(f"tiny.{name}")
    vars(module).update({name: function, f"{name.capitalize()}Settings": TinySettings, "STAGE_VERSION": "1"})
    return module


def use_tiny_stages() -> None:
    """Put them into the graph of this process, before anything else has read it."""
    graph.PIPELINE = (
        graph.stage(_module(separate), needs=("bounce",), gives=("stems",), lane="heavy"),
        graph.stage(_module(analyse), needs=("bounce",), wants=("stems",), gives=("grid",), lane="light"),
        graph.stage(_module(convert), needs=("bounce", "stems", "grid"), gives=("voice",), lane="heavy"),
        next(row for row in graph.PIPELINE if row.run is export.export),
    )
    graph.STAGES = {row.name: row for row in graph.PIPELINE}


PRESET = "[separate]\n[analyse]\n[convert]\n"

if __name__ in ("__main__", "__mp_main__"):  # the daemon, or a worker that it spawned
    use_tiny_stages()
if __name__ == "__main__":
    from bridge.cli import main

    sys.argv[0] = str(Path(sys.argv[0]))
    main()
