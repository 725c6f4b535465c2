"""One run of training: where it is, what it keeps, when it ends. Each checkpoint is kept only while the consent holds."""

from __future__ import annotations

import datetime
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bridge.atomic import replacing
from bridge.errors import ModelError, VoiceError
from bridge.voices import checkpoints, training_report
from bridge.voices.consent import require_consent
from bridge.voices.recipe import Recipe
from bridge.voices.recordings import RATE_HZ, Report
from bridge.voices.sovits_training import Learner, Stop
from bridge.voices.utterance import Utterance

CURVE = "curve.json"
PHRASE_S = 6.0
LONGEST_UNSAVED_S = 600.0


class Course:
    """`resume` first, then `run`."""

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
                point for point in read_curve(self._training) if point["epoch"] <= checkpoint.epoch
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
        with replacing(self._training / CURVE) as file:
            file.write((json.dumps(self._curve, indent=1) + "\n").encode())
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


def read_curve(training: Path) -> list[dict[str, Any]]:
    """A point per epoch: losses, steps, seconds, and the held-out distance where it was judged."""
    path = training / CURVE
    points: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return points


def _phrase(held_out: Sequence[Utterance]) -> Utterance:
    """What is let hear at each checkpoint: the beginning of a held-out slice."""
    longest = max(held_out, key=lambda each: each.frames)
    hop = longest.samples.size // longest.frames
    return longest.crop(0, round(PHRASE_S * RATE_HZ / hop))
