"""Trains a voice on the recordings in its folder: the call behind `dawbridge voices train`.

It runs only while the owner's consent holds. `<voice>/training/` keeps checkpoints from which the same call goes
on after a break, a killed process or a full disk; the curves; and one fixed phrase as the voice sang it at each
of them. What converts a phrase it never learnt from with the least mel distance becomes the voice.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.atomic import replacing
from bridge.errors import InputError, ModelError, Refused, VoiceError
from bridge.voices import checkpoints, recordings
from bridge.voices.checkpoints import Checkpoint
from bridge.voices.consent import Permit, require_consent
from bridge.voices.course import Course, read_curve
from bridge.voices.encoders import Encoder, open_encoder
from bridge.voices.heard_slices import utterances
from bridge.voices.held_out import split
from bridge.voices.recipe import Recipe
from bridge.voices.recordings import RATE_HZ, Report, Slice
from bridge.voices.sovits_training import TEMPLATES, Learner, Pace, base_shape, configuration
from bridge.voices.trained_voice import Making, Measured, publish
from bridge.voices.utterance import praat_f0

TRAINING, RECIPE = "training", "recipe.json"
NICENESS = 10
F0_STEP_S = 0.01
NO_BASE = (
    "It begins without a base model, from noise: hours on a graphics card, days on a processor, before it sounds like "
    "anybody. With --base G_0.pth, one that fits the encoder, minutes of recordings are enough."
)


@dataclass(frozen=True)
class Trained:
    """What came of it."""

    name: str
    folder: Path
    epoch: int  # of the checkpoint that is the voice now
    epochs: int  # trained in all
    steps: int
    seconds: float  # of training, over all runs
    minutes_of_data: float
    held_out_mel: float
    ended: str  # why training ended, one line
    notes: tuple[str, ...]  # what the user should know


def train_voice(
    name: str,
    voices_dir: Path,
    models_dir: Path,
    recipe: Recipe,
    report: Report = lambda done, total, what: None,
    today: Callable[[], datetime.date] = datetime.date.today,
) -> Trained:
    """Train the voice `name`, or go on with it, and make its best checkpoint the voice.

    Ctrl-C ends it after the step it is at, with everything kept.

    Raises:
        Refused: (`no_consent`) no consent that holds, before or in the midst; what was kept stays.
        InputError: too little to learn from (`too_little`), or a setting that doesn't go with the rest.
        ModelError: the encoder or the base model is missing, unsafe or made for something else.
        OSError: the disk is full or failing; the checkpoints before it are whole.
    """
    permit = require_consent(name, voices_dir, today())
    folder = _folder(permit)
    training = folder / TRAINING
    known, held_out = split(recordings.read_slices(folder), training, folder)
    training.mkdir(exist_ok=True)
    _be_courteous()
    encoder = open_encoder(recipe.encoder, models_dir, folder=recipe.encoder_folder)
    learner, making, notes = _begin(name, recipe, encoder, training)
    hop = making.table["data"]["hop_length"]
    learnt_from = utterances(known, hop, encoder, training, report)
    judged = utterances(held_out, hop, encoder, training, report)
    course = Course(name, voices_dir, today, training, learner, recipe, judged, report)
    notes += course.resume()
    ended = course.run(learnt_from)
    chosen = _best(training)
    measured = Measured(
        minutes=sum(piece.samples.size for piece in known) / RATE_HZ / 60.0,
        f0_hz=np.concatenate([each.f0_hz[each.voiced > 0] for each in learnt_from]),
    )
    publish(folder, name, chosen, making, measured, _story(training, ended, notes))
    return Trained(
        name, folder, chosen.epoch, course.epoch, course.steps, course.seconds, measured.minutes,
        chosen.held_out_mel, ended, tuple(notes),
    )  # fmt: skip


def use_epoch(name: str, voices_dir: Path, epoch: int, today: datetime.date) -> Checkpoint:
    """Make the kept checkpoint of `epoch` the voice, as an ear chose it.

    Raises:
        Refused: (`no_consent`) no consent that holds.
        InputError: no such checkpoint is kept.
    """
    folder = _folder(require_consent(name, voices_dir, today))
    kept = {checkpoint.epoch: checkpoint for checkpoint in checkpoints.kept(folder / TRAINING)}
    if epoch not in kept:
        there = ", ".join(map(str, kept)) or "none"
        raise InputError(f"No checkpoint of epoch {epoch} of {name} is kept. Kept are: {there}.")
    try:
        making = Making(**json.loads((folder / TRAINING / RECIPE).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as exc:
        raise VoiceError(
            f"{folder / TRAINING / RECIPE} can't be read ({exc}). Train the voice again."
        ) from exc
    slices = recordings.read_slices(folder)
    publish(
        folder,
        name,
        kept[epoch],
        making,
        Measured(sum(piece.samples.size for piece in slices) / RATE_HZ / 60.0, _f0_of(slices)),
        _story(folder / TRAINING, "not asked", ["This checkpoint was chosen by ear."]),
    )
    return kept[epoch]


def _begin(name: str, recipe: Recipe, encoder: Encoder, training: Path) -> tuple[Learner, Making, list[str]]:
    """The networks, untaught or from the base model, and what to tell of them."""
    if recipe.template not in TEMPLATES:
        raise InputError(f"There is no template {recipe.template!r}. Use one of: {', '.join(TEMPLATES)}.")
    pace = Pace(recipe.batch, recipe.segment_size, recipe.crop_frames, recipe.learning_rate)
    speakers = 1
    if recipe.base is not None:
        speakers, dims = base_shape(recipe.base)
        if dims != encoder.dims:
            raise InputError(
                f"{recipe.base} was trained with an encoder of {dims} dimensions; {encoder.name} has {encoder.dims}. "
                "Name its own by --encoder, or train without --base."
            )
    table = configuration(recipe.template, encoder.dims, name, pace, speakers)
    table["model"] |= recipe.sizes
    making = Making(
        template=recipe.template,
        table=table,
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        encoder_folder=str(recipe.encoder_folder.absolute()) if recipe.encoder_folder else None,
        base=recipe.base.name if recipe.base else None,
        batch=recipe.batch,
        segment_size=recipe.segment_size,
        learning_rate=recipe.learning_rate,
        warm_up=recipe.warm_up,
    )
    _check_same(training, making)
    learner = Learner(table, pace)
    if recipe.base is None:
        return learner, making, [NO_BASE]
    return learner, making, [learner.begin_from(recipe.base) + "."]


def _check_same(training: Path, making: Making) -> None:
    """What is trained on must have the shape it began with."""
    path = training / RECIPE
    now = json.loads(json.dumps(asdict(making)))
    if path.exists() and checkpoints.kept(training):
        began = json.loads(path.read_text("utf-8"))
        pairs = {
            "template": (began.get("template"), now["template"]),
            "encoder": (began.get("encoder_sha256"), now["encoder_sha256"]),
            "size of network": (began.get("table", {}).get("model"), now["table"]["model"]),
        }
        for what, (before, after) in pairs.items():
            if before != after:
                raise InputError(
                    f"This voice's training began with another {what} ({str(before)[:80]}). Name the same again, or "
                    f"remove {training} to begin anew."
                )
    with replacing(path) as file:
        file.write((json.dumps(now, indent=1) + "\n").encode())


def _best(training: Path) -> Checkpoint:
    """The kept checkpoint that came nearest to the held-out recordings."""
    for checkpoint in sorted(checkpoints.kept(training), key=lambda kept: kept.held_out_mel):
        try:
            checkpoints.read_voice(training, checkpoint)
        except ModelError:
            continue
        return checkpoint
    raise ModelError(f"No checkpoint in {training} is whole. Train again.")


def _story(training: Path, ended: str, notes: Sequence[str]) -> dict[str, Any]:
    """What the card tells of the way there."""
    curve = read_curve(training)
    last: dict[str, Any] = next((point for point in reversed(curve) if "mel" in point), {})
    return {
        "epochs": last.get("epoch", 0),
        "steps": last.get("step", 0),
        "seconds": last.get("seconds", 0.0),
        "ended": ended,
        "losses": {key: last[key] for key in ("mel", "kl", "total") if key in last},
        "notes": list(notes),
    }


def _f0_of(slices: Sequence[Slice]) -> npt.NDArray[np.float32]:
    """f0 of all voiced frames."""
    found = [
        praat_f0(piece.samples, RATE_HZ, np.arange(0.0, piece.samples.size / RATE_HZ, F0_STEP_S))
        for piece in slices
    ]
    hz = np.concatenate(found)
    return hz[hz > 0].astype(np.float32)


def _folder(permit: Permit) -> Path:
    if permit.folder is None:
        raise Refused(f"{permit.voice} is a built-in character; it needs no training. Choose another name.")
    return permit.folder


def _be_courteous() -> None:
    """Hours of work must not be in anybody's way."""
    if hasattr(os, "nice"):
        os.nice(max(0, NICENESS - os.nice(0)))
    else:  # Windows
        import ctypes

        below_normal = 0x4000
        kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), below_normal)
