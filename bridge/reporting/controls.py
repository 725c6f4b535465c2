"""What the correlation gives for recordings whose likeness to the bounce is known, as a yardstick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from bridge.config import shipped
from bridge.reporting.correlation import RATE_HZ, Correlation, Signal, correlate, read_signal

SHIFT_S = 1.0
_DEMO_SONG = "demo/Demo Song.flac"
_SAME_RECORDING = 0.3  # no other song comes near it
_TUNE = (64, 64, 65, 67, 67, 65, 64, 62, 60, 60, 62, 64, 64, 62, 62)
_TUNE_NOTE_S = 0.5
_NOISE_SEED = 0


@dataclass(frozen=True)
class Control:
    """A recording that stands beside the output, and how it compares with the bounce."""

    name: str
    what: str  # one line for the reader
    correlation: Correlation | None


def controls(bounce: Signal, report: Callable[[], None]) -> tuple[Control, ...]:
    """The bounce itself, itself later, another song and noise; the last two as long and as loud as the bounce."""
    report()
    late = np.concatenate([np.zeros(round(SHIFT_S * RATE_HZ), np.float32), bounce])
    noise = np.random.default_rng(_NOISE_SEED).standard_normal(bounce.size, np.float32)
    return (
        Control("the bounce itself", "identity: what doing nothing gives", correlate(bounce, bounce)),
        Control("shifted copy", f"the bounce, {SHIFT_S:g} s later", correlate(bounce, late)),
        _another_song(bounce, report),
        Control("noise", "white noise, as loud as the bounce", correlate(bounce, _as_loud(noise, bounce))),
    )


def tune(frames: int) -> Signal:
    """The first lines of Beethoven's "Ode to Joy" by decaying sine tones, over and over, at `RATE_HZ`."""
    time_s = np.arange(round(_TUNE_NOTE_S * RATE_HZ)) / RATE_HZ
    decay = np.exp(-4.0 * time_s)
    tones = [decay * np.sin(2 * np.pi * 440.0 * 2 ** ((pitch - 69) / 12) * time_s) for pitch in _TUNE]
    return cast(Signal, np.resize(np.concatenate(tones), frames).astype(np.float32))


def _another_song(bounce: Signal, report: Callable[[], None]) -> Control:
    song = read_signal(shipped("presets") / _DEMO_SONG, report)
    found = correlate(bounce, _as_loud(np.resize(song, bounce.size), bounce))
    what = "dawbridge's demo song"
    if found is not None and abs(found.highest) > _SAME_RECORDING:
        found = correlate(bounce, _as_loud(tune(bounce.size), bounce))
        what = '"Ode to Joy" by sine tones, since the demo song is this bounce or part of it'
    return Control("another song", f"{what}, repeated to the same length", found)


def _as_loud(signal: Signal, as_signal: Signal) -> Signal:
    have, want = (float(np.sqrt(np.mean(np.square(s, dtype=np.float64)))) for s in (signal, as_signal))
    return signal * np.float32(want / have if have else 0.0)
