"""Hybrid Transformer Demucs (Rouard et al., 2023) from verified safetensors alone, several segments at a time.

demucs' own loader calls whatever class a file names, and its `.th` files are pickles: so only HTDemucs is
let through here, and no pickle is ever opened. The network itself is in `htdemucs_network`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge import weights
from bridge.audio import Samples
from bridge.errors import ModelError
from bridge.progress import Report
from bridge.sound import Sound, of_array
from bridge.types import Stem

if TYPE_CHECKING:
    from torch import Tensor

RATE_HZ = 44_100
OVERLAP = 0.25  # of one 7.8 s segment with the next
MOST_AT_ONCE = 4  # segments; each takes some 0.4 GB of memory

# Which stems come from which file of `weights.MODELS`, in its order. `other` is what remains.
ALL: tuple[Stem, ...] = ("vocals", "drums", "bass")
STEMS_OF_FILES: Mapping[str, tuple[tuple[Stem, ...], ...]] = {
    "htdemucs": (ALL,),
    "htdemucs_ft": (("drums",), ("bass",), ("vocals",)),
    "htdemucs_6s": (ALL,),  # its guitar and piano belong to `other` here
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Level:
    """Mean and standard deviation of a whole song's mono sum: what demucs brings it to 0 and 1 by."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, song: Sound) -> Level:
        """Of a sound of any length, a block at a time."""
        total = squares = 0.0
        for _, block in song.blocks():
            mono = block.mean(axis=0, dtype=np.float64)
            total += float(mono.sum())
            squares += float(np.square(mono).sum())
        mean, count = total / max(1, song.frames), max(1, song.frames - 1)
        return cls(mean, max(0.0, (squares - song.frames * mean * mean) / count) ** 0.5)


def separate(
    stereo: Samples, name: str, models_dir: Path, report: Report, level: Level | None = None
) -> dict[Stem, Samples]:
    """Vocals, drums and bass of `stereo`, all (2, frames) float32 at `RATE_HZ`.

    As demucs.api.Separator with shifts=0: no random shift, so the same input gives the same output. Fetches
    the weights if need be; then one `report` before the first segment and after each. `level` is that of the
    song where `stereo` is a part of it, else its own.

    Raises:
        ModelError: the weights can't be had, were changed, or are no HTDemucs.
    """
    import torch

    weights.fetch(name, models_dir, report)
    mix = torch.from_numpy(stereo)
    level = level or Level.of(of_array(stereo, RATE_HZ))
    mean, deviation = level.mean, level.deviation + 1e-8
    mix = (mix - mean) / deviation
    found: dict[Stem, Samples] = {}
    stems_of_files = STEMS_OF_FILES[name]
    for index, (file, stems) in enumerate(zip(weights.find(name).files, stems_of_files, strict=True)):
        loaded = _load(models_dir, f"{name}/{file}", stems)

        def tell(done: int, total: int, index: int = index) -> None:
            report(index * total + done, len(stems_of_files) * total)

        out = _in_segments(mix, loaded, len(stems), tell)
        found |= {stem: (sound * deviation + mean).numpy() for stem, sound in zip(stems, out, strict=True)}
    return found


class _Loaded:
    """A network and the frames of its segments."""

    def __init__(self, model: Any, stems: Sequence[Stem]) -> None:
        from bridge.separators.htdemucs_network import Network

        self.segment_frames = int(model.samplerate * model.segment)
        wanted = [model.sources.index(stem) for stem in stems]
        self.run: Callable[[Tensor], Tensor]
        try:
            self.run = Network(model, stems)
        except ValueError as exc:
            log.warning("computed by demucs itself, which is slower: %s", exc)
            self.run = lambda segment: model(segment[None])[0, wanted]


def _in_segments(mix: Tensor, loaded: _Loaded, stems: int, tell: Callable[[int, int], None]) -> Tensor:
    """(stems, 2, frames): overlapping segments faded into each other, as demucs.apply.apply_model does it."""
    import torch

    frames, segment_frames = mix.shape[1], loaded.segment_frames
    stride = int((1 - OVERLAP) * segment_frames)
    starts = range(0, frames, stride)
    half = segment_frames // 2
    weight = torch.cat((torch.arange(1, half + 1), torch.arange(segment_frames - half, 0, -1)))
    weight = weight / weight.max()
    out, weights_sum = mix.new_zeros(stems, *mix.shape), mix.new_zeros(frames)
    constant: dict[tuple[float, ...], Tensor] = {}  # silence is computed once

    def run(start: int) -> Tensor:
        segment = _segment(mix, start, segment_frames)
        key = tuple(segment[:, 0].tolist())
        is_constant = bool((segment == segment[:, :1]).all())
        with torch.inference_mode():
            result = constant[key] if is_constant and key in constant else loaded.run(segment)
        if is_constant:
            constant[key] = result
        return result

    tell(0, len(starts))
    with _pool() as pool:
        for done, (start, result) in enumerate(zip(starts, pool.map(run, starts), strict=True), 1):
            length = min(segment_frames, frames - start)
            before = (segment_frames - length) // 2
            out[..., start : start + length] += weight[:length] * result[..., before : before + length]
            weights_sum[start : start + length] += weight[:length]
            tell(done, len(starts))
    return out.div_(weights_sum)


def _segment(mix: Tensor, start: int, segment_frames: int) -> Tensor:
    """A whole segment; a shorter rest lies in the middle of one, with what the song has on either side."""
    from torch.nn import functional

    frames = mix.shape[1]
    first = start - max(0, start + segment_frames - frames) // 2
    last = first + segment_frames
    return functional.pad(mix[:, max(0, first) : last], (max(0, -first), max(0, last - frames)))


@contextlib.contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that take a segment each: more of torch's threads for one segment mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    at_once = min(threads, MOST_AT_ONCE)
    torch.set_num_threads(threads // at_once)
    pool = ThreadPoolExecutor(at_once)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


@functools.lru_cache(maxsize=3)
def _load(models_dir: Path, key: str, stems: Sequence[Stem]) -> _Loaded:
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
        return _Loaded(load_safetensors_model(path).eval(), stems)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as exc:
        raise ModelError(
            f"{path} is no HTDemucs that can be loaded ({exc}). Delete it and fetch it again."
        ) from exc
