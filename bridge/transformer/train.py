"""Trains the network: AdamW, warm-up and cosine, early stopping, and a checkpoint that a later run goes on from.

The best weights by held-out bits per note are written as safetensors as they come, and the curve beside them as
JSON: a run that is cut loses nothing but time.

`python -m bridge.transformer.train --corpus DIR --out DIR` makes the weights that ship with dawbridge.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bridge.atomic import replacing
from bridge.transformer.columns import Columns
from bridge.transformer.corpus import read_corpus
from bridge.transformer.dataset import Piece, Turns, pieces_of, windows_of
from bridge.transformer.network import Batch, Network, bits
from bridge.transformer.saved import Shape, save_weights

COPY_PACE = 20.0  # times the learning rate
CHECKPOINT, WEIGHTS, CURVE = "checkpoint.pt", "weights.safetensors", "curve.json"


@dataclass(frozen=True)
class Recipe:
    """How to train. Rows are notes, but for the few rests."""

    steps: int = 3700
    batch: int = 4  # windows
    learning_rate: float = 1.5e-3
    warmup_steps: int = 200
    weight_decay: float = 0.05
    dropout: float = 0.1
    judge_every_steps: int = 250
    patience: int = 8  # judgements without a gain until it stops
    judged_rows: int = 6000  # held-out rows per source
    seed: int = 1


@dataclass
class Progress:
    """Where a run stands; `curve` holds one entry per judgement."""

    step: int = 0
    rows: int = 0
    seconds: float = 0.0
    best_bits: float = math.inf
    stale: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


def train(
    pieces: Sequence[Piece],
    folder: Path,
    recipe: Recipe,
    shape: Shape,
    *,
    start: Mapping[str, Tensor] | None = None,
    report: Callable[[float, float, str], None] = lambda done, total, text: None,
) -> Progress:
    """Train on the pieces of split `train`, judge on `valid`; the best weights lie in `folder` afterwards.

    Goes on from the folder's checkpoint if there is one, else from `start`, else from nothing.
    `report(step, steps, line)` may raise to stop; the checkpoint of the last judgement stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = Network(shape, recipe.dropout).to(device)
    if start is not None:
        network.load_state_dict(dict(start))
    optimiser = _optimiser(network, recipe)
    progress = _resume(folder / CHECKPOINT, network, optimiser)
    learning = [piece for piece in pieces if piece.split == "train"]
    held_out = _held_out(
        [piece for piece in pieces if piece.split == "valid"], recipe.judged_rows, shape.context
    )
    turns = Turns(learning, source_weights(learning), recipe.seed + progress.step)
    loss_sum, taken, began = 0.0, 0, time.monotonic()
    while progress.step < recipe.steps and progress.stale < recipe.patience:
        rate = learning_rate(progress.step, recipe)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["pace"]
        batch = to_batch(turns.windows(recipe.batch, shape.context), device)
        network.train()
        loss = bits(network(batch), batch.targets).sum(-1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        progress.step += 1
        progress.rows += recipe.batch * shape.context
        loss_sum, taken = loss_sum + loss.item(), taken + 1
        report(progress.step, recipe.steps, f"{loss_sum / taken:.3f} bits per note")
        if progress.step % recipe.judge_every_steps == 0 or progress.step == recipe.steps:
            progress.seconds += time.monotonic() - began
            _judge(network, held_out, progress, rate, loss_sum / taken, folder)
            _write_checkpoint(folder / CHECKPOINT, network, optimiser, progress)
            loss_sum, taken, began = 0.0, 0, time.monotonic()
    return progress


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to 2%."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))


def source_weights(pieces: Sequence[Piece]) -> dict[str, float]:
    """The square root of a source's rows: small sources are heard more often than their share."""
    rows: Counter[str] = Counter()
    for piece in pieces:
        rows[piece.source] += len(piece.rows)
    return {source: math.sqrt(count) for source, count in rows.items()}


def to_batch(columns: Columns, device: torch.device | str = "cpu") -> Batch:
    """(windows, rows, ...) int16 arrays as int64 tensors."""

    def tensor(values: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device)

    return Batch(
        tensor(columns.inputs),
        tensor(columns.conditions),
        tensor(columns.hints),
        tensor(columns.trust),
        tensor(columns.targets),
    )


def _optimiser(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """Decay for the matrices alone. What a hint adds is a sum of few numbers that must grow far: it learns faster."""
    groups: dict[str, list[Tensor]] = {"matrix": [], "copy": [], "other": []}
    for name, parameter in network.named_parameters():
        kind = "matrix" if parameter.dim() == 2 and "embedding" not in name else "other"
        groups["copy" if name.endswith(".copy") else kind].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups["matrix"], "weight_decay": recipe.weight_decay, "pace": 1.0},
            {"params": groups["copy"], "weight_decay": 0.0, "pace": COPY_PACE},
            {"params": groups["other"], "weight_decay": 0.0, "pace": 1.0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )


def _held_out(pieces: Sequence[Piece], rows: int, context: int) -> dict[str, list[Columns]]:
    """Windows of each source's first works in the order of their names' hash, `rows` at most."""
    by_source: dict[str, list[Columns]] = defaultdict(list)
    taken: Counter[str] = Counter()
    for piece in pieces:
        for window in windows_of(piece.columns, context):
            if taken[piece.source] < rows:
                by_source[piece.source].append(window)
                taken[piece.source] += window.targets.shape[1]
    return dict(by_source)


@torch.no_grad()
def _judge(
    network: Network,
    held_out: Mapping[str, Sequence[Columns]],
    progress: Progress,
    rate: float,
    train_bits: float,
    folder: Path,
) -> None:
    """One more point of the curve; the weights are kept if they are the best so far."""
    network.eval()
    device = next(network.parameters()).device
    by_source: dict[str, float] = {}
    right = asked = 0
    for source, windows in held_out.items():
        total, rows = 0.0, 0
        for window in windows:
            batch = to_batch(window, device)
            told = network(batch)
            total += bits(told, batch.targets).sum().item()
            rows += window.targets.shape[1]
            for index, log_p in enumerate(told):
                target = batch.targets[..., index]
                right += int(((log_p.argmax(-1) == target) & (target >= 0)).sum())
                asked += int((target >= 0).sum())
        by_source[source] = total / max(1, rows)
    mean = sum(by_source.values()) / max(1, len(by_source))
    progress.curve.append(
        {
            "step": progress.step,
            "rows": progress.rows,
            "seconds": round(progress.seconds, 1),
            "learning_rate": rate,
            "train_bits": round(train_bits, 4),
            "valid_bits": round(mean, 4),
            "valid_accuracy": round(right / max(1, asked), 4),
            "by_source": {source: round(value, 3) for source, value in by_source.items()},
        }
    )
    progress.stale = 0 if mean < progress.best_bits else progress.stale + 1
    if mean < progress.best_bits:
        progress.best_bits = mean
        arrays = {name: values.cpu().numpy() for name, values in network.state_dict().items()}
        save_weights(folder / WEIGHTS, arrays, network.shape)
    with replacing(folder / CURVE) as file:
        file.write(json.dumps(progress.curve, indent=1).encode() + b"\n")


def _write_checkpoint(
    path: Path, network: Network, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    with replacing(path) as file:
        torch.save(
            {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "progress": asdict(progress),
            },
            file,
        )


def _resume(path: Path, network: Network, optimiser: torch.optim.Optimizer) -> Progress:
    if not path.exists():
        return Progress()
    kept = torch.load(path, weights_only=True)
    network.load_state_dict(kept["network"])
    optimiser.load_state_dict(kept["optimiser"])
    return Progress(**kept["progress"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Train on a corpus that `bridge.transformer.corpus` built, or go on where `--out` stands."""
    parser = argparse.ArgumentParser(prog="python -m bridge.transformer.train", description=main.__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    pieces = tuple(pieces_of(read_corpus(asked.corpus)))

    def report(done: float, total: float, line: str) -> None:
        if done % 50 == 0:
            sys.stdout.write(f"{done:.0f} of {total:.0f} steps: {line}\n")
            sys.stdout.flush()

    train(pieces, asked.out, Recipe(steps=asked.steps), Shape(), report=report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
