"""A made vocal whose f0 is known to the sample: harmonics through moving formants, consonants, breath."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.voices.f0 import HOP_S

RATE_HZ = 44_100
MELODY = (57, 60, 62, 64, 60, 57, 55, 57)  # MIDI
FORMANTS_HZ = ((800, 1200, 2600), (450, 2000, 2700), (300, 2400, 3000), (450, 850, 2500), (320, 750, 2400))

Signal = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sung:
    """What was made."""

    samples: Signal  # (frames,), peak at `level`
    hz: Signal  # (hops,) the true f0 at each hop, 0.0 where nothing is voiced

    @property
    def mono(self) -> npt.NDArray[np.float32]:
        """(1, frames)"""
        return self.samples[np.newaxis].astype(np.float32)


def sing(
    melody: tuple[float, ...] = MELODY,
    *,
    note_s: float = 0.6,
    gap_s: float = 0.08,
    vibrato_semitones: float = 0.3,
    level: float = 0.3,
    first_vowel: int = 0,
    seed: int = 0,
    consonants: bool = True,
) -> Sung:
    """A note of `note_s` for each pitch; the last `gap_s` of each hold an s where `consonants`, else nothing."""
    count = round(len(melody) * note_s * RATE_HZ)
    t = np.arange(count) / RATE_HZ
    note = np.minimum((t / note_s).astype(int), len(melody) - 1)
    within = t - note * note_s
    semitones = np.array(melody, dtype=np.float64)[note]
    glide = np.exp(-within / 0.03) * np.diff(np.array(melody, float), prepend=melody[0])[note]
    pitch = semitones - glide + vibrato_semitones * np.sin(2 * np.pi * 5.5 * t) * np.clip(within / 0.2, 0, 1)
    hz = 440.0 * 2 ** ((pitch - 69) / 12)
    phase = np.cumsum(hz / RATE_HZ)
    sounds = np.clip(np.minimum(within / 0.02, (note_s - gap_s - within) / 0.03), 0.0, 1.0)
    vowels = np.array(FORMANTS_HZ, float)[(note + first_vowel) % len(FORMANTS_HZ)]
    out = np.zeros(count)
    for harmonic in range(1, int(6000 / hz.min())):
        at = harmonic * hz
        gain = sum(1.0 / (1.0 + ((at - vowels[:, k]) / 110.0) ** 2) for k in range(3)) + 0.02
        out += np.where(at < 6000, gain / harmonic**0.6, 0.0) * np.sin(2 * np.pi * harmonic * phase)
    out *= sounds / np.abs(out).max()
    if consonants:
        out += (
            0.15 * _hiss(count, seed) * np.clip(1.0 - np.abs(within - note_s + gap_s / 2) / (gap_s / 2), 0, 1)
        )
    at_hops = np.minimum(
        np.round(np.arange(int(count / RATE_HZ / HOP_S) + 1) * HOP_S * RATE_HZ).astype(int), count - 1
    )
    return Sung(level * out, np.where(sounds[at_hops] > 0.5, hz[at_hops], 0.0))


def cents(hz: Signal, true_hz: Signal) -> Signal:
    """The error where both are voiced."""
    both = (hz > 0) & (true_hz > 0)
    return np.asarray(1200.0 * np.log2(hz[both] / true_hz[both]))


def octave_jumps(hz: Signal) -> int:
    """Steps of more than 9 semitones between neighbouring hops that are both voiced."""
    both = (hz[1:] > 0) & (hz[:-1] > 0)
    return int((np.abs(12 * np.log2(hz[1:][both] / hz[:-1][both])) > 9).sum())


def noise(frames: int, seed: int = 1) -> Signal:
    """Pink noise with an RMS of 1."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(frames))
    spectrum /= np.sqrt(np.arange(spectrum.size) + 1.0)
    made = np.fft.irfft(spectrum, frames)
    return np.asarray(made / made.std())


def level_db(samples: npt.ArrayLike) -> float:
    """RMS in dB."""
    return float(10 * np.log10(np.mean(np.square(np.asarray(samples, float))) + 1e-20))


def room_response(t60_s: float, wet_db: float, *, channels: int = 1, seed: int = 3) -> Signal:
    """(channels, frames): the direct sound, then after 5 ms a noise that decays by 60 dB in `t60_s`.

    `wet_db` is the tail's energy against the direct sound's.
    """
    count = round(1.2 * t60_s * RATE_HZ)
    t = np.arange(count) / RATE_HZ
    tail = np.random.default_rng(seed).standard_normal((channels, count)) * 10 ** (-3 * t / t60_s)
    tail[:, : round(0.005 * RATE_HZ)] = 0.0
    tail *= 10 ** (wet_db / 20) / np.sqrt(np.square(tail).sum(axis=1, keepdims=True))
    tail[:, 0] = 1.0
    return np.asarray(tail)


def _hiss(count: int, seed: int) -> Signal:
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    spectrum *= np.exp(-0.5 * ((hz - 7000) / 1500) ** 2)
    made = np.fft.irfft(spectrum, count)
    return np.asarray(made / np.abs(made).max())
