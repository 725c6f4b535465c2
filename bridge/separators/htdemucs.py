"""Hybrid Transformer Demucs (Rouard et al., 2023) through the package demucs, from verified safetensors alone.

demucs' own loader calls whatever class a file names, and its `.th` files are pickles: so only HTDemucs is
let through here, and no pickle is ever opened.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bridge import weights
from bridge.audio import Samples
from bridge.errors import ModelError
from bridge.types import Stem

RATE_HZ = 44_100
OVERLAP = 0.25  # of one 7.8 s segment with the next

# Which stems come from which file of `weights.MODELS`, in its order. `other` is what remains.
ALL: tuple[Stem, ...] = ("vocals", "drums", "bass")
STEMS_OF_FILES: Mapping[str, tuple[tuple[Stem, ...], ...]] = {
    "htdemucs": (ALL,),
    "htdemucs_ft": (("drums",), ("bass",), ("vocals",)),
    "htdemucs_6s": (ALL,),  # its guitar and piano belong to `other` here
}


def separate(
    stereo: Samples, name: str, models_dir: Path, report: Callable[[float, float], None]
) -> dict[Stem, Samples]:
    """Vocals, drums and bass of `stereo`, all (2, frames) float32 at `RATE_HZ`.

    As demucs.api.Separator with shifts=0: no random shift, so the same input gives the same output. Fetches
    the weights if need be; then one `report` before and after each segment.

    Raises:
        ModelError: the weights can't be had, were changed, or are no HTDemucs.
    """
    import torch
    from demucs.apply import apply_model

    weights.fetch(name, models_dir, report)
    # The fast path of nn.MultiheadAttention is the slow one here: 0.785 of its time without, 121 dB equal.
    torch.backends.mha.set_fastpath_enabled(False)
    mix = torch.from_numpy(stereo)
    reference = mix.mean(0)
    mean, std = reference.mean(), reference.std() + 1e-8
    found: dict[Stem, Samples] = {}
    stems_of_files = STEMS_OF_FILES[name]
    for index, (file, stems) in enumerate(zip(weights.find(name).files, stems_of_files, strict=True)):
        model = _load(models_dir, f"{name}/{file}")
        stride = int((1 - OVERLAP) * int(model.samplerate * model.segment))
        count = math.ceil(mix.shape[1] / stride)
        tell = _Progress(report, index * count, len(stems_of_files) * count)
        out = apply_model(
            model, ((mix - mean) / std)[None], shifts=0, split=True, overlap=OVERLAP, callback=tell
        )[0]  # (sources, 2, frames)
        found |= {stem: (out[model.sources.index(stem)] * std + mean).numpy() for stem in stems}
    return found


class _Progress:
    """demucs' callback: counts finished segments; what `report` raises ends the separation."""

    def __init__(self, report: Callable[[float, float], None], done: int, total: int) -> None:
        self._report = report
        self._done = done
        self._total = total

    def __call__(self, event: Mapping[str, Any]) -> None:
        self._done += event["state"] == "end"
        self._report(self._done, self._total)


@functools.lru_cache(maxsize=3)
def _load(models_dir: Path, key: str) -> Any:
    from demucs.hf import load_safetensors_model
    from safetensors import SafetensorError, safe_open

    path = weights.verified(key, models_dir)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        klass, sources = metadata.get("klass"), json.loads(metadata.get("kwargs", "{}")).get("sources", [])
        if klass != "demucs.htdemucs.HTDemucs" or "structure" in metadata or not set(ALL) <= set(sources):
            raise ModelError(
                f"{path} holds {klass} for {sources}, not an HTDemucs. Delete it and fetch it again."
            )
        return load_safetensors_model(path).eval()
    except (SafetensorError, KeyError, ValueError, RuntimeError) as exc:
        raise ModelError(
            f"{path} is no HTDemucs that can be loaded ({exc}). Delete it and fetch it again."
        ) from exc
