"""Small songs with known truth for the tests: kick, snare and hats as decaying sines and noise, chords as sines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples

Signal = npt.NDArray[np.float64]

PATTERNS: dict[int, tuple[str, str]] = {3: ("K.....", "..S.S."), 4: ("K...K...", "..S...S.")}
"""Kick and snare in eighths of a bar, by beats per bar."""


@dataclass(frozen=True)
class Song:
    """The parts of a made song, each (1, frames), and the true times of its beats and bar lines."""

    drums: Samples
    music: Samples
    beats_s: tuple[float, ...]
    downbeats_s: tuple[float, ...]

    @property
    def mix(self) -> Samples:
        """All parts together."""
        return self.drums + self.music


def make_song(
    bpm: float | Sequence[float],
    *,
    bars: int = 12,
    beats_per_bar: int = 4,
    offset_s: float = 0.0,
    pickup_beats: int = 0,
    rate_hz: int = 44_100,
    roots: Sequence[int] = (48, 55, 57, 53),
    seed: int = 0,
) -> Song:
    """Drums and a chord per bar; `bpm` may name a tempo per bar. `offset_s` of silence comes first.

    `pickup_beats` beats with hats alone stand before the first bar.
    """
    rng = np.random.default_rng(seed)
    tempi = [float(bpm)] * bars if isinstance(bpm, (int, float)) else [float(b) for b in bpm]
    beats = [offset_s]
    for index in range(pickup_beats + bars * beats_per_bar):
        bar = max(0, index - pickup_beats) // beats_per_bar
        beats.append(beats[-1] + 60.0 / tempi[bar])
    frames = int(beats[-1] * rate_hz) + rate_hz // 4
    drums, music = np.zeros(frames), np.zeros(frames)
    kick, snare = PATTERNS[beats_per_bar]
    for index, (start, end) in enumerate(pairwise(beats)):
        for half in (0, 1):
            at = start + half * (end - start) / 2
            eighth = ((index - pickup_beats) * 2 + half) % (2 * beats_per_bar)
            _add(drums, hat_hit(rng, rate_hz), at, rate_hz)
            if index >= pickup_beats and kick[eighth] == "K":
                _add(drums, kick_hit(rate_hz), at, rate_hz)
            if index >= pickup_beats and snare[eighth] == "S":
                _add(drums, snare_hit(rng, rate_hz), at, rate_hz)
    downbeats = beats[pickup_beats:-1:beats_per_bar]
    for bar, start in enumerate(downbeats):
        length = beats_per_bar * 60.0 / tempi[bar]
        root = roots[bar % len(roots)]
        third = 3 if root % 12 in (9, 4, 2) else 4  # the minor triads of C major
        for pitch in (root - 12, root, root + third, root + 7):
            _add(music, tone(pitch, length * 0.97, rate_hz), start, rate_hz)
    return Song(_samples(drums), _samples(music), tuple(beats[:-1]), tuple(downbeats))


def tone(pitch: float, length_s: float, rate_hz: int, gain: float = 0.06) -> Signal:
    """A plucked note with four harmonics and a 3 ms attack."""
    t = np.arange(int(length_s * rate_hz)) / rate_hz
    hz = 440.0 * 2 ** ((pitch - 69) / 12)
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 5))
    envelope = np.minimum(1.0, t / 0.003) * np.exp(-t / 1.2) * np.minimum(1.0, (length_s - t) / 0.02)
    return np.asarray(gain * wave * envelope)


def kick_hit(rate_hz: int) -> Signal:
    """A sine that falls from 150 to 50 Hz."""
    t = np.arange(int(0.25 * rate_hz)) / rate_hz
    return np.asarray(0.5 * np.sin(2 * np.pi * (50 * t + 2 * (1 - np.exp(-t / 0.02)))) * np.exp(-t / 0.08))


def snare_hit(rng: np.random.Generator, rate_hz: int) -> Signal:
    """A noise burst with a short 190 Hz body."""
    t = np.arange(int(0.2 * rate_hz)) / rate_hz
    body = 0.15 * np.sin(2 * np.pi * 190 * t) * np.exp(-t / 0.05)
    return np.asarray(body + 0.12 * rng.standard_normal(t.size) * np.exp(-t / 0.06))


def hat_hit(rng: np.random.Generator, rate_hz: int) -> Signal:
    """A short burst of noise with its low end taken away."""
    t = np.arange(int(0.05 * rate_hz)) / rate_hz
    return np.asarray(0.06 * np.diff(rng.standard_normal(t.size), prepend=0.0) * np.exp(-t / 0.012))


def _add(track: Signal, hit: Signal, at_s: float, rate_hz: int) -> None:
    start = round(at_s * rate_hz)
    stop = min(track.size, start + hit.size)
    track[start:stop] += hit[: stop - start]


def _samples(signal: Signal) -> Samples:
    return signal[None, :].astype(np.float32)
