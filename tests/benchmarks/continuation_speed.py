"""How fast one note comes after 512, on one CPU thread, and what the process weighs: the model card's rows.

`uv run python -m tests.benchmarks.continuation_speed --weights FILE [--notochord PYTHON]` measures the writer as it
is (listener, trunk, heads, rules, draw) on numpy, torch and onnxruntime, each in a process of its own; Notochord by
the Python of an environment that has it (`uv venv NOTO; uv pip install notochord==0.8.0`). Never in CI.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.transformer.decoder import Decoder

ENGINES = ("numpy", "torch", "onnxruntime")
NOTES_BEFORE, NOTES = 512, 400
BAR_STEPS = 96


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--engine", choices=ENGINES, help="measure in this process, and print JSON")
    parser.add_argument("--graphs", type=Path, help="where onnxruntime's graphs lie")
    parser.add_argument("--export", type=Path, help="write those graphs there")
    parser.add_argument("--notochord", type=Path, help="the Python of Notochord's environment")
    asked = parser.parse_args()
    if asked.export:
        from tests.benchmarks.torch_engine import export

        export(asked.weights, asked.export)
    elif asked.engine:
        sys.stdout.write(json.dumps(measure(asked.engine, asked.weights, asked.graphs)) + "\n")
    else:
        print_table(asked.weights, asked.notochord)
    return 0


def print_table(weights: Path, notochord: Path | None) -> None:
    """One engine after the other, each in a process of its own."""
    own = (sys.executable, "-m", "tests.benchmarks.continuation_speed", "--weights", str(weights))
    sys.stdout.write("| engine | ms per note p50 | p95 | worst | prefill of 512, ms | RSS, MB |\n")
    sys.stdout.write("|---|--:|--:|--:|--:|--:|\n")
    with tempfile.TemporaryDirectory() as graphs:
        run(*own, "--export", graphs)
        for engine in ENGINES:
            sys.stdout.write(table_row(engine, run(*own, "--engine", engine, "--graphs", graphs)))
    if notochord:
        script = Path(__file__).with_name("notochord_speed.py")
        told = run(str(notochord), str(script), str(2 * NOTES_BEFORE), str(NOTES))
        sys.stdout.write(table_row("Notochord, per event (a note is two)", told))


def run(*command: str) -> str:
    """The last line that a command prints, on one thread."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        command, env=os.environ | threads, check=True, stdout=subprocess.PIPE, text=True, timeout=600
    )
    return (done.stdout.splitlines() or [""])[-1]


def measure(engine: str, weights: Path, graphs: Path) -> dict[str, Any]:
    """Prefill, each note's time, and the most memory this process ever held."""
    import resource

    import numpy as np

    from bridge.transformer import sample
    from bridge.transformer.constraints import Constraints, Rules
    from bridge.transformer.keys import scale_of
    from bridge.transformer.recall import Listener
    from bridge.transformer.tokens import encode_steps

    rows = encode_steps(song(NOTES_BEFORE))
    model = load(engine, weights, graphs)
    listener = Listener(BAR_STEPS)
    inputs = []
    for row in rows.tolist():
        listener.push(row)
        inputs.append(listener.inputs())
    memory = vars(sample)["Memory"]
    memory(model).hear_all(inputs[:8])
    began = time.perf_counter()
    memory(model).hear_all(inputs)
    prefill_ms = (time.perf_counter() - began) * 1e3
    writer = sample.Writer(model, BAR_STEPS, 0)
    writer.hear(rows)
    parts = ("lead", "piano", "bass", "drums")
    first_step = -(-writer.now_steps // BAR_STEPS) * BAR_STEPS
    rules = Rules(Constraints(scale=scale_of("C major")), parts, sample.MOST_BARS, BAR_STEPS, first_step, 0)
    rules.begin(writer.now_steps)
    writer.catch_up()
    draws = np.random.default_rng(0)
    took_ms = []
    for _ in range(NOTES):
        began = time.perf_counter()
        writer.write(rules, sample.Sampling(), draws)
        took_ms.append((time.perf_counter() - began) * 1e3)
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"prefill_ms": prefill_ms, "took_ms": took_ms, "rss_mb": rss_mb}


def load(engine: str, weights: Path, graphs: Path) -> Decoder:
    """The model on an engine; the writer takes its memory from there too."""
    from bridge.transformer import sample

    if engine == "torch":
        from tests.benchmarks import torch_engine

        vars(sample)["Memory"] = torch_engine.TorchMemory
        return torch_engine.TorchDecoder(weights)
    if engine == "onnxruntime":
        from tests.benchmarks import onnx_engine

        vars(sample)["Memory"] = onnx_engine.OnnxMemory
        return onnx_engine.OnnxDecoder(weights, graphs)
    from bridge.transformer.decoder import Decoder
    from bridge.transformer.saved import read_weights

    return Decoder(*read_weights(weights))


def song(notes: int) -> list[tuple[int, int, int, int, int]]:
    """(onset in steps, part, pitch, length in steps, velocity): four parts that repeat every four bars."""
    chance = random.Random(0)
    loop = []
    for beat in range(16):
        step = beat * 24
        loop.append((step, 5, 36 if beat % 2 == 0 else 38, 6, 100))
        loop.append((step, 3, 36 + chance.choice((0, 5, 7)), 24, 90))
        loop += [(step + half, 0, chance.choice((60, 62, 64, 67, 69)), 12, 80) for half in (0, 12)]
        if beat % 4 == 0:
            loop += [(step, 1, pitch, 96, 70) for pitch in (60, 64, 67)]
    loops = -(-notes // len(loop))
    return [
        (onset + 16 * 24 * turn, part, pitch, length, velocity)
        for turn in range(loops)
        for onset, part, pitch, length, velocity in loop
    ][:notes]


def table_row(name: str, line: str) -> str:
    told = json.loads(line)
    took = sorted(told["took_ms"])
    p50, p95 = (took[int(share * len(took))] for share in (0.5, 0.95))
    return f"| {name} | {p50:.2f} | {p95:.2f} | {took[-1]:.1f} | {told['prefill_ms']:.0f} | {told['rss_mb']:.0f} |\n"


if __name__ == "__main__":
    raise SystemExit(main())
