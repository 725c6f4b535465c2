"""How a voice is to be trained: what `dawbridge voices train` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.voices.encoders import WHISPER


@dataclass(frozen=True)
class Recipe:
    """How to train."""

    epochs: int = 1000  # at most; one is a pass over all slices
    minutes: float | None = None  # at most
    batch: int = 4
    segment_size: int = 10_240  # samples that the decoder makes of each slice in a step
    learning_rate: float = 1e-4
    template: str = "quickvc"
    base: Path | None = None  # the user's base model, G_*.pth
    encoder: str = WHISPER
    encoder_folder: Path | None = None
    every: int = 10  # epochs between judgements
    patience: int = 20  # judgements without gain before it ends
    warm_up: int = 0  # epochs without the discriminator, at the start
    crop_frames: int = 300  # of a slice, in a step
    sizes: dict[str, Any] = field(default_factory=dict)  # of the network, where not the template's
