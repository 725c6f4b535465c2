"""The song with known stems, laid out as the stages of a job find it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge import audio
from bridge.audio import Samples
from bridge.grid import write_grid
from bridge.tempo import constant_tempo
from bridge.types import STEMS, Artifact, Context, Grid, Span, Stem

DATA = Path(__file__).parent / "data" / "song_a"
RATE_HZ = 44100
SINGING = tuple(Span(start, start + 4.6) for start in (0.15, 9.75, 19.35, 28.95))
"""Where the true vocals stem is not silent."""


@functools.lru_cache(maxsize=8)
def _true_stem(stem: Stem) -> Samples:
    samples, _ = audio.read_raw(DATA / f"{stem}.flac")
    samples.setflags(write=False)
    return samples


def true_stem(stem: Stem, seconds: float | None = None) -> Samples:
    """A stem of the song from its start, (2, frames) at `RATE_HZ`; not to be written to."""
    samples = _true_stem(stem)
    return samples if seconds is None else samples[:, : round(seconds * RATE_HZ)]


def put_stems(
    folder: Path, seconds: float | None = None, stems: Iterable[Stem] = STEMS, channels: int = 2
) -> Artifact:
    """The `stems` artifact."""
    path = folder / "stems"
    path.mkdir()
    for stem in stems:
        audio.write_float_wav(path / f"{stem}.wav", true_stem(stem, seconds)[:channels], RATE_HZ)
    return Artifact("stems", "stems", path, "")


def put_audio(folder: Path, name: str, samples: Samples, rate_hz: int = RATE_HZ) -> Artifact:
    """An audio artifact such as `voice` or `lead`."""
    path = folder / f"{name}.wav"
    audio.write_float_wav(path, samples, rate_hz)
    return Artifact(name, "audio", path, hashlib.sha256(path.read_bytes()).hexdigest())


def put_grid(folder: Path, singing: Iterable[Span] = SINGING) -> Artifact:
    """The `grid` artifact with what is true of the song."""
    spans = tuple(singing)
    grid = Grid(
        tempo=constant_tempo(100.0, RATE_HZ),
        tempo_source="set",
        tempo_confidence=1.0,
        key="C major",
        key_confidence=1.0,
        loudness_lufs=-15.5,
        true_peak_dbtp=-3.4,
        sings=bool(spans),
        singing=spans,
    )
    path = folder / "grid.json"
    write_grid(path, grid)
    return Artifact("grid", "json", path, "")


class Reports:
    """Keeps what a stage reported."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def __call__(self, done: float, total: float) -> None:
        self.seen.append((done, total))


def context_in(folder: Path, reports: Reports | None = None) -> Context:
    """A context whose folders lie in `folder`."""
    workdir = folder / "work"
    workdir.mkdir()
    return Context(workdir, folder / "models", folder / "voices", reports or Reports())


def envelope(samples: Samples, step: int = 44, window: int = 441) -> npt.NDArray[np.float64]:
    """RMS of all channels in sliding windows, every `step` frames, without its mean."""
    power = np.square(samples, dtype=np.float64).mean(axis=0)
    smooth = np.maximum(np.convolve(power, np.full(window, 1.0 / window), "same"), 0.0)
    level: npt.NDArray[np.float64] = np.sqrt(smooth[::step])
    return level - np.mean(level)


def lag_ms(first: Samples, second: Samples, reach_ms: int = 50) -> float:
    """By how much `second` comes later than `first`, from their envelopes, in steps of 1 ms."""
    a, b = envelope(first), envelope(second)
    lags = range(-reach_ms, reach_ms + 1)
    likeness = [float(np.dot(a[reach_ms:-reach_ms], np.roll(b, -lag)[reach_ms:-reach_ms])) for lag in lags]
    return lags[int(np.argmax(likeness))] * 44 / RATE_HZ * 1000.0
