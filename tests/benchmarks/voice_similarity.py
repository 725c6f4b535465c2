"""How near a trained voice comes to its owner, by Resemblyzer's speaker embeddings; prints JSON.

    DAWBRIDGE_HOME=... python -m tests.benchmarks.voice_similarity NAME --source OTHER.wav --same SAME.wav

`--source` is another speaker, `--same` the owner, both with sentences that training never heard. The floor is the
unconverted source against the owner, the ceiling the owner's other sentences against the recordings trained on.
The voice is judged as its folder has it; while training still runs, `--use-best` publishes the best checkpoint first.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
from pathlib import Path

import numpy as np

from bridge import audio
from bridge.audio import Samples, to_mono
from bridge.config import folders
from bridge.voices import checkpoints
from bridge.voices.consent import require_consent
from bridge.voices.converter import Converter
from bridge.voices.engines import open_voice
from bridge.voices.f0 import HOP_S, F0Track
from bridge.voices.recordings import RATE_HZ, read_slices
from bridge.voices.speakers import Embeddings, embed, likeness
from bridge.voices.utterance import praat_f0


@dataclasses.dataclass(frozen=True)
class Likeness:
    """Cosines of mean embeddings; 1.0 is the same."""

    name: str
    unconverted: float  # the other speaker, as recorded
    converted: float  # the other speaker, in the voice
    same_speaker: float  # the owner, other sentences
    converted_to_source: float  # how much of the other speaker is left
    semitones: int
    seconds: float  # of converted speech


def measure(name: str, source: Path, same: Path) -> Likeness:
    """Judge the voice `name` on two files of speech."""
    today = datetime.date.today()
    permit = require_consent(name, folders().voices, today)
    assert permit.folder is not None
    known = np.concatenate([piece.samples for piece in read_slices(permit.folder)])[None]
    owner = embed(known[:, : 120 * RATE_HZ], RATE_HZ)
    spoken, converted, semitones = _convert(open_voice(permit, folders().models), source)
    before, after = embed(spoken, RATE_HZ), embed(converted, RATE_HZ)
    return Likeness(
        name=name,
        unconverted=likeness(before, owner),
        converted=likeness(after, owner),
        same_speaker=likeness(_of_file(same), owner),
        converted_to_source=likeness(after, before),
        semitones=semitones,
        seconds=spoken.shape[1] / RATE_HZ,
    )


def _convert(voice: Converter, path: Path) -> tuple[Samples, Samples, int]:
    """What was said, what came of it, and how far it was moved."""
    samples, rate = audio.read(path)
    spoken = audio.resample(to_mono(samples), rate, RATE_HZ)
    hops = math.ceil(spoken.shape[1] / RATE_HZ / HOP_S) + 1
    hz = praat_f0(spoken[0], RATE_HZ, np.arange(hops) * HOP_S)
    track = F0Track(hz, (hz > 0).astype(np.float64))
    moved = voice.transposition(track).semitones
    return spoken, voice.convert(spoken, RATE_HZ, track, moved), moved


def _of_file(path: Path) -> Embeddings:
    samples, rate = audio.read(path)
    return embed(to_mono(samples), rate)


def _publish_best(name: str) -> int:
    """Make the best kept checkpoint the voice, also where training has not ended yet; gives its epoch."""
    from bridge.voices import train

    permit = require_consent(name, folders().voices, datetime.date.today())
    assert permit.folder is not None
    training = permit.folder / train.TRAINING
    best = min(checkpoints.kept(training), key=lambda each: each.held_out_mel)
    train.use_epoch(name, folders().voices, best.epoch, datetime.date.today())
    return best.epoch


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--same", type=Path, required=True)
    parser.add_argument("--use-best", action="store_true")
    asked = parser.parse_args()
    epoch = _publish_best(asked.name) if asked.use_best else None
    print(json.dumps(dataclasses.asdict(measure(asked.name, asked.source, asked.same)) | {"epoch": epoch}))


if __name__ == "__main__":
    main()
