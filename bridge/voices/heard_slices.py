"""All slices as utterances, each worked out once: `<training>/features/` keeps what the encoder heard."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bridge.atomic import replacing
from bridge.voices.encoders import Encoder
from bridge.voices.recordings import RATE_HZ, Slice
from bridge.voices.utterance import Utterance, utterance

FOLDER = "features"
VERSION = "1"

Report = Callable[[float, float, str], None]


def utterances(
    slices: Sequence[Slice], hop_frames: int, encoder: Encoder, training: Path, report: Report
) -> list[Utterance]:
    """Each slice as an utterance, from what is kept or anew."""
    made = []
    for index, piece in enumerate(slices):
        report(index, len(slices), "listening to the recordings")
        key = f"{VERSION} {piece.name} {encoder.sha256} {encoder.dims} {hop_frames}"
        path = training / FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
        heard = _read(path, piece, hop_frames)
        if heard is None:
            heard = utterance(piece.samples, RATE_HZ, hop_frames, encoder)
            _write(path, heard)
        made.append(heard)
    return made


def _read(path: Path, piece: Slice, hop_frames: int) -> Utterance | None:
    """What is kept, or None where nothing is, or nothing that fits."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    frames = piece.samples.size // hop_frames
    try:
        found = load(path.read_bytes())
        content, f0_hz, voiced = found["content"], found["f0_hz"], found["voiced"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    if content.shape[1] != frames or not f0_hz.shape == voiced.shape == (frames,):
        return None
    return Utterance(piece.samples[: frames * hop_frames], content, f0_hz, voiced)


def _write(path: Path, heard: Utterance) -> None:
    from safetensors.numpy import save

    path.parent.mkdir(exist_ok=True)
    arrays = {"content": np.ascontiguousarray(heard.content), "f0_hz": heard.f0_hz, "voiced": heard.voiced}
    with replacing(path, durable=False) as file:
        file.write(save(arrays))
