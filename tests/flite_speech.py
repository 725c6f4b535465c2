"""Speech for tests by flite, a small free synthesizer: made while the test runs, a second for a minute of it."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from bridge import audio
from bridge.audio import Samples
from tests.real import require_real

RATE_HZ = 16_000
MALE, FEMALE = "rms", "slt"
SENTENCES = (
    "The birch canoe slid on the smooth planks, and glue held the sheet to the dark blue background.",
    "It is easy to tell the depth of a well when the sun is low and the water is clear.",
    "These days a chicken leg is a rare dish, but rice is often served in round bowls.",
    "The juice of lemons makes fine punch, and the box was thrown beside the parked truck.",
    "Four hours of steady work faced us before the large house could be painted again.",
    "A large size in stockings is hard to sell, so the boy was there when the sun rose.",
    "The hogs were fed chopped corn and garbage while the soft cushion broke the man's fall.",
    "A rod is used to catch pink salmon, and the source of the huge river is the clear spring.",
    "Kick the ball straight and follow through, then help the woman get back to her feet.",
    "A pot of tea helps to pass the evening when smoky fires lack flame and heat.",
    "The salt breeze came across from the sea, and the girl at the booth sold fifty bonds.",
    "The small pup gnawed a hole in the sock while the fish twisted and turned on the bent hook.",
)
"""Harvard sentences (IEEE 1969), two and two together."""


def spoken(voice: str, sentences: tuple[str, ...] = SENTENCES, pause_s: float = 0.6) -> Samples:
    """The sentences with pauses, (1, frames) at RATE_HZ; about 6 s each."""
    return _spoken(voice, sentences, pause_s).copy()


@functools.lru_cache(maxsize=8)
def _spoken(voice: str, sentences: tuple[str, ...], pause_s: float) -> Samples:
    require_real(shutil.which("flite") is not None, "flite (apt install flite)")
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for index, sentence in enumerate(sentences):
            path = Path(folder) / f"{index}.wav"
            subprocess.run(
                ["flite", "-voice", voice, "-t", sentence, "-o", str(path)], check=True, timeout=60
            )
            samples, _ = audio.read_raw(path)
            parts.append(np.pad(samples, ((0, 0), (0, round(pause_s * RATE_HZ)))))
    return np.concatenate(parts, axis=1)
