"""A finished voice's files: `model.safetensors`, `config.json`, `card.md`, and last `voice.toml`, which names their digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge import __version__
from bridge.atomic import replacing
from bridge.voices import checkpoints
from bridge.voices.checkpoints import Checkpoint
from bridge.voices.folder import CONFIG, DESCRIPTION, MODEL, VoiceCard, write_card
from bridge.voices.sovits import ENGINE, ONLY_FOR_TRAINING
from bridge.voices.sovits_config import config_bytes, read_config


@dataclass(frozen=True)
class Making:
    """How a voice is made; what of it gives the network its shape can't change on the way."""

    template: str
    table: dict[str, Any]  # the network's config.json
    encoder: str
    encoder_sha256: str
    encoder_folder: str | None
    base: str | None  # file name of the base model
    batch: int
    segment_size: int
    learning_rate: float
    warm_up: int


@dataclass(frozen=True)
class Measured:
    """What the recordings are like."""

    minutes: float
    f0_hz: npt.NDArray[np.float32]  # of all voiced frames


def publish(
    folder: Path, name: str, chosen: Checkpoint, made: Making, measured: Measured, story: Mapping[str, Any]
) -> None:
    """Make the kept checkpoint `chosen` the voice in `folder`."""
    model = _only_for_singing(checkpoints.read_voice(folder / "training", chosen))
    config = config_bytes(read_config(json.dumps(made.table).encode(), f"the template for {name}"))
    files = {
        MODEL: model,
        CONFIG: config,
        DESCRIPTION: _description(name, chosen, made, measured, story).encode(),
    }
    for file_name, raw in files.items():
        with replacing(folder / file_name) as file:
            file.write(raw)
    low, median, high = _range(measured.f0_hz)
    card = VoiceCard(
        engine=ENGINE,
        encoder=made.encoder,
        encoder_folder=made.encoder_folder or "",
        sample_rate_hz=made.table["data"]["sampling_rate"],
        speaker=name,
        f0_median_hz=median,
        f0_low_hz=low,
        f0_high_hz=high,
        model_sha256=hashlib.sha256(model).hexdigest(),
        config_sha256=hashlib.sha256(config).hexdigest(),
    )
    write_card(folder, card)


def _only_for_singing(kept: bytes) -> bytes:
    """The tensors that the engine takes."""
    from safetensors.numpy import load, save

    return save(
        {name: values for name, values in load(kept).items() if not name.startswith(ONLY_FOR_TRAINING)}
    )


def _range(f0_hz: npt.NDArray[np.float32]) -> tuple[float | None, float | None, float | None]:
    """95% of the f0 lies between the first and the last; the median."""
    if not f0_hz.size:
        return None, None, None
    low, median, high = (round(float(hz), 1) for hz in np.quantile(f0_hz, (0.025, 0.5, 0.975)))
    return low, median, high


def _description(
    name: str, chosen: Checkpoint, made: Making, measured: Measured, story: Mapping[str, Any]
) -> str:
    losses = ", ".join(f"{key} {value:.2f}" for key, value in story["losses"].items()) or "none yet"
    notes = "".join(f"\n- {note}" for note in story["notes"])
    low, median, high = _range(measured.f0_hz)
    return f"""# {name}

A synthetic voice, trained by dawbridge {__version__} on recordings of one person. What it sings was never sung by
that person; whoever hears it should be told so. It may be used as far as `consent.toml` beside it allows, and every
file made with it carries that file's digest.

| | |
|---|---|
| data | {measured.minutes:.1f} minutes learnt from; f0 {low} to {high} Hz (95%), median {median} Hz |
| training | {story["epochs"]} epochs, {story["steps"]} steps, {story["seconds"] / 60.0:.1f} minutes; ended: {story["ended"]} |
| settings | template {made.template}, batch {made.batch}, segment {made.segment_size}, learning rate {made.learning_rate:g}, {made.warm_up} epochs without discriminator |
| base model | {made.base or "none: it began as noise"} |
| encoder | {made.encoder} |
| last losses | {losses} |
| chosen | epoch {chosen.epoch}, held-out mel distance {chosen.held_out_mel:.3f} |
| licence | the owner's consent; no other licence is given with it |

Limits: it knows the pitches above and the sounds of the language it was recorded in. Far from these it breaks or
whistles. A mel distance tells how near it comes to held-out recordings of the same voice, not how good it sounds:
listen to `training/report.html`, and choose another epoch with `dawbridge voices train "{name}" --use EPOCH`.
{notes}
"""
