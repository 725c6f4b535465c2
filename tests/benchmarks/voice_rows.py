"""What the parts of the table share: a row, and a vocal that goes through the stage and is heard again."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.audio import Samples
from bridge.stages.convert import ConvertSettings, convert
from bridge.types import Artifact, Made, Span
from tests.benchmarks import voice_metrics as metrics
from tests.benchmarks.voice_material import Array, Sung
from tests.song_a import RATE_HZ, context_in, put_grid


@dataclass(frozen=True)
class Row:
    """One figure. `holds` is None where there is no goal."""

    what: str
    value: float | str | None
    unit: str = ""
    floor: float | str | None = None  # what a bad conversion would get
    ceiling: float | str | None = None  # what the source itself gets
    goal: str = ""
    holds: bool | None = None


def heard(samples: Samples) -> Array:
    """f0 by the measuring tracker; the same samples are heard once."""
    key = hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()
    if key not in _HEARD:
        _HEARD[key] = metrics.track_f0(samples, RATE_HZ)
    return _HEARD[key]


_HEARD: dict[str, Array] = {}


def converted(vocal: Sung, voices: Path | None = None, **chosen: Any) -> Samples:
    """The stage's `voice`, of the shape of the vocal; the vocal itself where the stage skips."""
    known = {field.name for field in fields(ConvertSettings)}
    settings = ConvertSettings(**{name: value for name, value in chosen.items() if name in known})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "stems").mkdir()
        audio.write_float_wav(folder / "stems" / "vocals.wav", vocal.samples, RATE_HZ)
        stems = Artifact("stems", "stems", folder / "stems", "")
        context = context_in(folder)
        context = replace(context, voices_dir=voices or context.voices_dir)
        made = convert(stems, put_grid(folder, vocal.singing), settings=settings, context=context)
        return audio.read_raw(made.files["voice"])[0] if isinstance(made, Made) else vocal.samples


def whole(samples: Samples) -> Sung:
    """Sound that counts as sung from end to end, with a truth that nobody knows."""
    return Sung(samples, np.zeros(0), (Span(0.0, samples.shape[1] / RATE_HZ),))
