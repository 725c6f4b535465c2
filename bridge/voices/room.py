"""The room: taken out of the singing before it is converted, and given back to the new voice after.

Out by weighted prediction error (Nakatani et al. 2010, nara-wpe). Back as a decaying noise whose level and decay in each
octave are those of what was taken out. The residual itself is not given back: it is the first singer's own voice, at the
first singer's pitch. A dry vocal stays as it is, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples

WINDOW_S = 0.046
TAPS, DELAY, ITERATIONS = 10, 3, 3  # in hops of a quarter window: 12 to 116 ms are predicted from
HIGHEST_HZ = 8000.0  # a room swallows what lies above
LEAST_DB = -17.0  # against the vocal: of a dry one -32 can be predicted, of one that a network separated -20
_DITHER_DB = -40.0  # two equal channels would predict each other

OCTAVES_HZ = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)
T60S_S = tuple(0.15 * 1.15**step for step in range(22))  # 0.15 to 2.8 s
LATE_S = 0.02  # the tail begins
HOP_S = 0.01
SEED = 7
MOST_CORRECTED = (0.4, 2.5)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Room:
    """What was taken out of a vocal, in each of `OCTAVES_HZ`."""

    t60_s: tuple[float, ...]  # the time in which it decays by 60 dB
    gain: tuple[float, ...]  # its power against the dry voice's
    level_db: float  # of all of it against the dry voice


def dereverb(samples: Samples, sample_rate_hz: int, strength: float) -> Samples:
    """`samples`, (channels, frames), with `strength` (0..1) of their reverberation taken out.

    The samples themselves where there is none to speak of. All of a piece is held at once: give 20 s, not a song.
    """
    size = 1 << round(np.log2(WINDOW_S * sample_rate_hz))
    if strength <= 0.0 or samples.shape[1] < 8 * size or not samples.any():
        return samples
    dry = _predicted_away(samples, sample_rate_hz, size)
    removed = _power(samples - dry) / max(_power(samples), 1e-20)
    if removed < 10.0 ** (LEAST_DB / 10.0):
        return samples
    return cast(Samples, (samples + strength * (dry - samples)).astype(np.float32))


def measure_room(pairs: Iterable[tuple[Samples, Samples]], sample_rate_hz: int) -> Room | None:
    """The room by what was taken out: pieces of a vocal, each before and after `dereverb`; None for none."""
    heard = [
        (_envelopes(wet - dry, sample_rate_hz), _envelopes(dry, sample_rate_hz))
        for wet, dry in pairs
        if wet is not dry and not np.array_equal(wet, dry)
    ]
    if not heard:
        return None
    taken, dry = (np.concatenate(powers, axis=1) for powers in zip(*heard, strict=True))  # (octaves, hops)
    t60_s = tuple(_decay_s(tail, voice) for tail, voice in zip(taken, dry, strict=True))
    gain = tuple(float(tail.sum() / max(voice.sum(), 1e-20)) for tail, voice in zip(taken, dry, strict=True))
    level_db = 10.0 * np.log10(taken.sum() / max(dry.sum(), 1e-20))
    return Room(t60_s, gain, float(level_db))


def give_room(voice: Samples, room: Room, sample_rate_hz: int, strength: float) -> Samples:
    """`voice`, (channels, frames), with `strength` of the room around it; the same frames, the tail cut off."""
    from scipy.signal import oaconvolve

    if strength <= 0.0:
        return voice
    tail = _tail(room, sample_rate_hz, len(voice))
    ambience = oaconvolve(voice, tail, axes=1)[:, : voice.shape[1]]
    # A few harmonics meet a few random frequencies of the noise: chance must not make the room louder.
    meant = _power(voice) * 10.0 ** (room.level_db / 10.0)
    ambience *= np.clip(np.sqrt(meant / max(_power(ambience), 1e-20)), *MOST_CORRECTED)
    return cast(Samples, (voice + strength * ambience).astype(np.float32))


def _predicted_away(samples: Samples, rate: int, size: int) -> Samples:
    """What can't be predicted from what sounded up to 116 ms before; nowhere louder than it was."""
    from nara_wpe.wpe import wpe_v8
    from scipy.signal import istft, stft

    shape = {"nperseg": size, "noverlap": size - size // 4}
    found = np.swapaxes(stft(samples, rate, **shape)[2], 0, 1).astype(np.complex128)  # (bins, channels, hops)
    heard = found[: int(HIGHEST_HZ / rate * size)]
    level = np.sqrt(np.square(np.abs(heard)).mean(axis=2, keepdims=True) + 1e-20) * 10 ** (_DITHER_DB / 20)
    dither = (
        level * np.random.default_rng(SEED).standard_normal((*heard.shape, 2)).view(np.complex128)[..., 0]
    )
    dry = wpe_v8(heard + dither, taps=TAPS, delay=DELAY, iterations=ITERATIONS) - dither
    found[: len(heard)] = dry * np.minimum(1.0, np.abs(heard) / np.maximum(np.abs(dry), 1e-12))
    made = istft(np.swapaxes(found, 0, 1), rate, **shape)[1][:, : samples.shape[1]]
    return cast(Samples, np.ascontiguousarray(made, dtype=np.float32))


def _envelopes(samples: Samples, rate: int) -> Array:
    """(octaves, hops): the power of each octave in each 10 ms, of all channels."""
    from scipy.signal import sosfilt

    hop = round(HOP_S * rate)
    whole = samples.shape[1] // hop * hop
    powers = []
    for middle in OCTAVES_HZ:
        band = sosfilt(_octave(middle, rate), samples[:, :whole], axis=1)
        powers.append(np.square(band).reshape(len(samples), -1, hop).mean(axis=(0, 2)))
    return np.stack(powers)


def _octave(middle_hz: float, rate: int) -> Array:
    from scipy.signal import butter

    high = min(middle_hz * np.sqrt(2.0), 0.49 * rate)
    low = min(middle_hz / np.sqrt(2.0), 0.7 * high)
    return cast(Array, butter(2, (low, high), "bandpass", fs=rate, output="sos"))


def _decay_s(tail: Array, voice: Array) -> float:
    """The T60 with which the voice's power, decaying, looks most like the tail's."""
    from scipy.signal import lfilter

    wanted = np.power(tail, 0.3)
    likeness = []
    for t60_s in T60S_S:
        kept = 10.0 ** (-6.0 * HOP_S / t60_s)
        decaying = lfilter([0.0, 0.0, 1.0 - kept], [1.0, -kept], voice)
        likeness.append(np.corrcoef(np.power(np.maximum(decaying, 0.0), 0.3), wanted)[0, 1])
    return T60S_S[int(np.nanargmax(likeness))] if np.isfinite(likeness).any() else T60S_S[0]


def _tail(room: Room, rate: int, channels: int) -> Array:
    """(channels, frames): decaying noise, another for each channel, the same each time."""
    from scipy.signal import sosfilt

    frames = round(max(room.t60_s) * rate)
    times_s = np.arange(frames) / rate
    noise = np.random.default_rng(SEED).standard_normal((channels, frames))
    tail = np.zeros((channels, frames))
    for middle, t60_s, gain in zip(OCTAVES_HZ, room.t60_s, room.gain, strict=True):
        band = sosfilt(_octave(middle, rate), noise, axis=1) * 10.0 ** (-3.0 * times_s / t60_s)
        band[:, : round(LATE_S * rate)] = 0.0
        # Within its octave its spectrum holds `gain` in all: white noise of power p passes p per Hz.
        inside = _in_octave(band, middle, rate)
        tail += band * np.sqrt(gain / max(inside, 1e-20))
    return tail


def _in_octave(band: Array, middle_hz: float, rate: int) -> float:
    """The mean power gain of an impulse response within its octave."""
    power = np.square(np.abs(np.fft.rfft(band, axis=1)))
    hz = np.fft.rfftfreq(band.shape[1], 1 / rate)
    inside = (hz > middle_hz / np.sqrt(2.0)) & (hz < middle_hz * np.sqrt(2.0))
    return float(power[:, inside].mean()) if inside.any() else 0.0


def _power(samples: Samples) -> float:
    return float(np.square(samples, dtype=np.float64).mean())
