"""Which slices a voice never learns from, so that it can be judged by them: once held out, always held out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bridge.atomic import replacing
from bridge.errors import InputError
from bridge.voices.recordings import RATE_HZ, Slice

FILE = "held_out.json"
LEAST_S = 30.0
FEWEST_SLICES = 4
HELD_OUT_SHARE = 0.1
JUDGED_S = 20.0  # of held-out recordings


def split(slices: Sequence[Slice], training: Path, folder: Path) -> tuple[list[Slice], list[Slice]]:
    """Slices to learn from, and slices to judge by; `training` remembers which, `folder` is the voice's.

    Raises:
        InputError: (`too_little`) there is not enough of both.
    """
    seconds = sum(piece.samples.size for piece in slices) / RATE_HZ
    if seconds < LEAST_S or len(slices) < FEWEST_SLICES:
        raise InputError(
            f"{folder} holds {seconds:.0f} s of speech or singing in {len(slices)} slices; {LEAST_S:.0f} s in "
            f"{FEWEST_SLICES} are the least to train on, 5 minutes the least to be of use. Add recordings: "
            f"dawbridge voices add {folder.name} FILE...",
            "too_little",
        )
    path = training / FILE
    before = set(json.loads(path.read_text("utf-8"))) if path.exists() else set()
    names = sorted(piece.name for piece in slices)
    # Names begin with a digest, so this order is as good as a draw.
    wanted = max(1, round(HELD_OUT_SHARE * len(names)))
    chosen = [name for name in names if name in before] or names[:wanted]
    training.mkdir(exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(chosen) + "\n").encode())
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
