"""Trains a voice on the recordings in its folder: the call behind `dawbridge voices train`.

It runs only while the owner's consent holds. `<voice>/training/` keeps checkpoints from which the same call goes
on after a break, a killed process or a full disk; the curves; and one fixed phrase as the voice sang it at each
of them. What converts a phrase it never learnt from with the least mel distance becomes the voice.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.atomic import replacing
from bridge.errors import InputError, ModelError, Refused, VoiceError
from bridge.voices import checkpoints, recordings, training_report
from bridge.voices.checkpoints import Checkpoint
from bridge.voices.consent import Permit, require_consent
from bridge.voices.encoders import WHISPER, Encoder, open_encoder
from bridge.voices.heard_slices import utterances
from bridge.voices.recordings import RATE_HZ, Slice
from bridge.voices.sovits_training import TEMPLATES, Learner, Pace, Stop, base_shape, configuration
from bridge.voices.trained_voice import Making, Measured, publish
from bridge.voices.utterance import Utterance, praat_f0

Report = Callable[[float, float, str], None]
"""`report(done, total, what)`."""

TRAINING, RECIPE, CURVE = "training", "recipe.json", "curve.json"
LEAST_S = 30.0
FEWEST_SLICES = 4
HELD_OUT_SHARE = 0.1
JUDGED_S = 20.0  # of held-out recordings
PHRASE_S = 6.0
LONGEST_UNSAVED_S = 600.0
NICENESS = 10
F0_STEP_S = 0.01
NO_BASE = (
    "It begins without a base model, from noise: hours on a graphics card, days on a processor, before it sounds like "
    "anybody. With --base G_0.pth, one that fits the encoder, minutes of recordings are enough."
)


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
    known, held_out = _split(recordings.read_slices(folder), training, folder)
    training.mkdir(exist_ok=True)
    _be_courteous()
    encoder = open_encoder(recipe.encoder, models_dir, folder=recipe.encoder_folder)
    learner, making, notes = _begin(name, recipe, encoder, training)
    hop = making.table["data"]["hop_length"]
    learnt_from = utterances(known, hop, encoder, training, report)
    judged = utterances(held_out, hop, encoder, training, report)
    course = _Course(name, voices_dir, today, training, learner, recipe, judged, report)
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


class _Course:
    """One run of training: where it is, what it keeps, and when it ends."""

    def __init__(
        self,
        name: str,
        voices_dir: Path,
        today: Callable[[], datetime.date],
        training: Path,
        learner: Learner,
        recipe: Recipe,
        held_out: Sequence[Utterance],
        report: Report,
    ) -> None:
        self.epoch, self.steps, self.seconds = 0, 0, 0.0
        self._name, self._voices_dir, self._today = name, voices_dir, today
        self._training, self._learner, self._recipe = training, learner, recipe
        self._held_out, self._phrase = held_out, _phrase(held_out)
        self._report = report
        self._curve: list[dict[str, Any]] = []
        self._began = self._saved = time.monotonic()
        self._asked_to_stop = False
        self._why = ""

    def resume(self) -> list[str]:
        """Go back to the last whole checkpoint; gives what to tell of it."""
        told = []
        for checkpoint in reversed(checkpoints.kept(self._training)):
            try:
                voice, rest = checkpoints.read_whole(self._training, checkpoint)
            except ModelError as exc:
                told.append(f"{exc.message} It goes on from the one before.")
                continue
            if self._warm(checkpoint.epoch):
                self._learner.without_discriminator()
            self._learner.restore(voice, rest, checkpoint.epoch)
            self._curve = [
                point for point in _read_curve(self._training) if point["epoch"] <= checkpoint.epoch
            ]
            self.epoch = checkpoint.epoch
            if self._curve:
                self.steps, self.seconds = self._curve[-1]["step"], self._curve[-1]["seconds"]
            told.append(f"It goes on after epoch {self.epoch}.")
            return told
        if self._warm(0):
            self._learner.without_discriminator()
        return told

    def run(self, learnt_from: Sequence[Utterance]) -> str:
        """Train to the end; gives why it ended."""
        self._began = self._saved = time.monotonic()
        if not checkpoints.kept(self._training):
            self._curve = [{"epoch": 0, "step": 0, "seconds": 0.0}]
            self._keep(self._curve[0])  # what it began as, for the ear to compare
        with self._interruptible():
            try:
                if self._warm(self.epoch):
                    self._fit(learnt_from, min(self._recipe.warm_up, self._recipe.epochs))
                    self._leave_warm_up()
                self._fit(learnt_from, self._recipe.epochs)
                self._why = f"all {self._recipe.epochs} epochs are done"
            except Stop:
                pass  # it has said why
        if self._curve and not self._curve[-1].get("kept"):
            self._keep(self._curve[-1])
        self.seconds += time.monotonic() - self._began
        return self._why

    def _fit(self, learnt_from: Sequence[Utterance], epochs: int) -> None:
        if self.epoch < epochs:
            self._learner.fit(learnt_from, self.epoch, epochs, self._after_step, self._after_epoch)

    def _leave_warm_up(self) -> None:
        """The discriminator joins: a network anew, around the same generator."""
        voice, rest = self._learner.voice_tensors(), self._learner.rest_tensors()
        self._learner = self._learner.again()
        self._learner.restore(voice, rest, self.epoch)

    def _warm(self, epoch: int) -> bool:
        return epoch < self._recipe.warm_up

    def _after_step(self, step: int, steps: int) -> None:
        self.steps += 1
        self._report(self.epoch + step / steps, self._recipe.epochs, self._told())
        elapsed_s = time.monotonic() - self._began
        if self._asked_to_stop:
            self._why = "it was interrupted"
        elif self._recipe.minutes is not None and elapsed_s > self._recipe.minutes * 60.0:
            self._why = f"its {self._recipe.minutes:g} minutes are over"
        if self._why and step < steps:
            self._after_epoch(self.epoch + 1, dict(self._learner.latest()))  # what was learnt of it counts
            raise Stop

    def _after_epoch(self, epoch: int, losses: dict[str, float]) -> None:
        self.epoch = epoch
        now = time.monotonic()
        point = {"epoch": epoch, "step": self.steps, "seconds": self.seconds + now - self._began, **losses}
        self._curve.append(point)
        if epoch % self._recipe.every == 0 or epoch == self._recipe.epochs or self._why:
            self._keep(point)
            self._end_without_gain()
        elif now - self._saved > LONGEST_UNSAVED_S:
            self._keep(point)
        if self._why:
            raise Stop

    def _keep(self, point: dict[str, Any]) -> None:
        """Judge, let the phrase be heard, keep a checkpoint; only while the consent holds."""
        require_consent(self._name, self._voices_dir, self._today())
        distance = self._learner.mel_distance(self._held_out)
        if not math.isfinite(distance):
            raise VoiceError(
                f"Training came apart after epoch {self.epoch} (the loss is no number). The last checkpoint is "
                "whole: go on with a lower --learning-rate."
            )
        point |= {"held_out_mel": distance, "kept": True}
        checkpoints.save_checkpoint(
            self._training, self.epoch, distance, self._learner.voice_tensors(), self._learner.rest_tensors()
        )
        self._saved = time.monotonic()
        _write_json(self._training / CURVE, self._curve)
        self._let_hear()
        judged = [each for each in self._curve if each.get("kept")]
        best = min(judged, key=lambda each: each["held_out_mel"])["epoch"]
        checkpoints.clean(self._training, best, ())
        training_report.write(self._training, self._name, self._curve, checkpoints.kept(self._training))

    def _let_hear(self) -> None:
        phrases = self._training / training_report.PHRASES
        phrases.mkdir(exist_ok=True)
        original = phrases / training_report.ORIGINAL
        if not original.exists():
            training_report.write_phrase(original, self._phrase.samples, RATE_HZ)
        made = self._learner.convert(self._phrase)
        training_report.write_phrase(phrases / training_report.phrase_name(self.epoch), made, RATE_HZ)

    def _end_without_gain(self) -> None:
        judged = [point["held_out_mel"] for point in self._curve if point.get("kept")]
        since = len(judged) - 1 - int(np.argmin(judged))
        if since >= self._recipe.patience and not self._why:
            self._why = f"{since} judgements in a row were no better"

    def _told(self) -> str:
        losses = self._learner.latest()
        return f"epoch {self.epoch + 1}, mel {losses.get('mel', 0.0):.1f}"

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C asks for an end; a second one does what it always does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def ask(number: int, frame: object) -> None:
            self._asked_to_stop = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


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
    _write_json(path, now)


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
    curve = _read_curve(training)
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


def _split(slices: Sequence[Slice], training: Path, folder: Path) -> tuple[list[Slice], list[Slice]]:
    """Slices to learn from, and slices held out: once held out, always held out."""
    seconds = sum(piece.samples.size for piece in slices) / RATE_HZ
    if seconds < LEAST_S or len(slices) < FEWEST_SLICES:
        raise InputError(
            f"{folder} holds {seconds:.0f} s of speech or singing in {len(slices)} slices; {LEAST_S:.0f} s in "
            f"{FEWEST_SLICES} are the least to train on, 5 minutes the least to be of use. Add recordings: "
            f"dawbridge voices add {folder.name} FILE...",
            "too_little",
        )
    path = training / "held_out.json"
    before = set(json.loads(path.read_text("utf-8"))) if path.exists() else set()
    names = sorted(piece.name for piece in slices)
    # Names begin with a digest, so this order is as good as a draw.
    wanted = max(1, round(HELD_OUT_SHARE * len(names)))
    chosen = [name for name in names if name in before] or names[:wanted]
    training.mkdir(exist_ok=True)
    _write_json(path, chosen)
    return (
        [piece for piece in slices if piece.name not in chosen],
        _at_most([piece for piece in slices if piece.name in chosen], JUDGED_S),
    )


def _at_most(slices: Sequence[Slice], seconds: float) -> list[Slice]:
    taken: list[Slice] = []
    total = 0
    for piece in slices:
        if taken and total + piece.samples.size > seconds * RATE_HZ:
            break
        taken.append(piece)
        total += piece.samples.size
    return taken


def _phrase(held_out: Sequence[Utterance]) -> Utterance:
    """What is let hear at each checkpoint: the beginning of a held-out slice."""
    longest = max(held_out, key=lambda each: each.frames)
    hop = longest.samples.size // longest.frames
    return longest.crop(0, round(PHRASE_S * RATE_HZ / hop))


def _folder(permit: Permit) -> Path:
    if permit.folder is None:
        raise Refused(f"{permit.voice} is a built-in character; it needs no training. Choose another name.")
    return permit.folder


def _read_curve(training: Path) -> list[dict[str, Any]]:
    path = training / CURVE
    points: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return points


def _write_json(path: Path, value: Any) -> None:
    with replacing(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def _be_courteous() -> None:
    """Hours of work must not be in anybody's way."""
    if hasattr(os, "nice"):
        os.nice(max(0, NICENESS - os.nice(0)))
    else:  # Windows
        import ctypes

        below_normal = 0x4000
        kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), below_normal)
