"""Trains the voice `ann` on a tiny network: `python -m tests.training_child HOME EPOCHS`, to be killed in its midst."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from bridge.voices.recipe import Recipe
from bridge.voices.recordings import Report
from bridge.voices.train import Trained, train_voice

SIZES = {
    "inter_channels": 16,
    "hidden_channels": 16,
    "filter_channels": 32,
    "n_layers": 1,
    "upsample_initial_channel": 16,
    "gin_channels": 16,
}


def recipe(epochs: int, **more: object) -> Recipe:
    """Everything as for a real voice, but small; without discriminator, which has one size only."""
    return Recipe(
        **{  # type: ignore[arg-type]
            "epochs": epochs,
            "every": 1,
            "batch": 4,
            "segment_size": 2048,
            "crop_frames": 40,
            "learning_rate": 2e-3,
            "warm_up": 10_000,
            "sizes": SIZES,
            **more,
        }
    )


def train(home: Path, epochs: int, report: Report | None = None, **more: object) -> Trained:
    """Train `ann` in `home`."""
    silent: Callable[[float, float, str], None] = lambda done, total, what: None  # noqa: E731
    return train_voice(
        "ann", home / "data" / "voices", home / "data" / "models", recipe(epochs, **more), report or silent
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    train(Path(sys.argv[1]), int(sys.argv[2]), lambda done, total, what: print(done, what, flush=True))
