"""Checkpoints of a voice in training: `<training>/checkpoints/<epoch>/`, each whole or not there.

The record is written last and names the digests of the tensors, so that a file cut short by a full disk or a
power cut is known for what it is. Tensors are safetensors; nothing is ever unpickled. Beside the last two, which
training can go on from, the voice alone of the best and of those that were chosen to listen to is kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bridge.atomic import replacing
from bridge.contracts import read_contract
from bridge.errors import ModelError

FOLDER = "checkpoints"
VOICE, REST, RECORD = "voice.safetensors", "rest.safetensors", "checkpoint.json"
KEPT_WHOLE = 2
SCHEMA = 1
REMEDY = "Train on from an earlier one: it is looked for by itself."


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a kept state."""

    epoch: int  # epochs done
    held_out_mel: float  # distance on held-out recordings, lower is better
    voice_sha256: str
    rest_sha256: str
    schema: int = SCHEMA


def save_checkpoint(
    training: Path, epoch: int, held_out_mel: float, voice: Mapping[str, Any], rest: Mapping[str, Any]
) -> Checkpoint:
    """Keep a state; raises OSError where the disk is full, and then what was kept before is untouched."""
    folder = _folder(training, epoch)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        made = Checkpoint(epoch, held_out_mel, _write(folder / VOICE, voice), _write(folder / REST, rest))
        with replacing(folder / RECORD) as file:
            file.write((json.dumps(asdict(made)) + "\n").encode())
    except OSError as exc:
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(exc.errno, exc.strerror, str(folder)) from exc
    return made


def kept(training: Path) -> list[Checkpoint]:
    """All checkpoints whose record can be read, by epoch."""
    found = []
    for path in sorted((training / FOLDER).glob(f"*/{RECORD}")):
        with suppress(ModelError):  # it was never finished, or its disk is failing
            found.append(
                read_contract(
                    Checkpoint, path, schema=SCHEMA, max_bytes=1 << 16, error=ModelError, remedy=REMEDY
                )
            )
    return sorted(found, key=lambda checkpoint: checkpoint.epoch)


def read_voice(training: Path, checkpoint: Checkpoint) -> bytes:
    """The voice's safetensors, found to be what was written.

    Raises:
        ModelError: missing, cut off, or changed.
    """
    return _verified(_folder(training, checkpoint.epoch) / VOICE, checkpoint.voice_sha256)


def read_whole(training: Path, checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """The voice's tensors and the rest, to go on from.

    Raises:
        ModelError: missing, cut off, or changed.
    """
    from safetensors.torch import load

    rest = _verified(_folder(training, checkpoint.epoch) / REST, checkpoint.rest_sha256)
    return load(read_voice(training, checkpoint)), load(rest)


def clean(training: Path, best_epoch: int, to_listen_to: Sequence[int]) -> None:
    """Remove what is not kept: all but the last two, the best, and `to_listen_to`; of these two the voice only."""
    whole = [checkpoint.epoch for checkpoint in kept(training)][-KEPT_WHOLE:]
    for path in (training / FOLDER).glob("*"):
        epoch = int(path.name) if path.name.isdigit() else -1
        if epoch in whole:
            continue
        if epoch == best_epoch or epoch in to_listen_to:
            (path / REST).unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _folder(training: Path, epoch: int) -> Path:
    return training / FOLDER / f"{epoch:06d}"


def _write(path: Path, tensors: Mapping[str, Any]) -> str:
    from safetensors.torch import save

    raw = save(dict(tensors))
    with replacing(path) as file:
        file.write(raw)
    return hashlib.sha256(raw).hexdigest()


def _verified(path: Path, sha256: str) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise ModelError(f"The checkpoint {path} can't be read ({exc.strerror}). {REMEDY}") from exc
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise ModelError(f"The checkpoint {path} is damaged or cut off ({len(raw)} bytes). {REMEDY}")
    return raw
