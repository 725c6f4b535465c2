"""Who sings where: whether a vocals stem holds a voice at all, and when.

Separators bleed, and on instrumentals they even invent vocals, so a loud stem proves nothing. What tells a voice from
a flute, a violin or a synthesiser is the mouth: the second formant wanders over more than an octave with the vowels, and
it glides, while an instrument keeps one body, whose tone follows from pitch and loudness. Both are read from the centre
of the spectrum between 0.7 and 3 kHz, where that formant lies. An instrumental must never reach a voice model: in doubt the answer is that nobody sings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.analysis.spectrum import RATE_HZ, Array, Signal, analysis_signal, blocks, largest, magnitudes
from bridge.audio import Samples
from bridge.sound import Sound
from bridge.types import Span

_HOP_FRAMES = 220
_HOP_S = _HOP_FRAMES / RATE_HZ  # about 10 ms
_WINDOW_FRAMES = 704  # 32 ms
_FORMANT_HZ = (700.0, 3000.0)
_PITCH_HZ = (75.0, 1000.0)
_PITCH_HOPS, _PITCH_MARGIN_HOPS = 12_000, 200  # two minutes, and two seconds heard beside them
_GLIDE_HOPS = 8  # 80 ms: a diphthong, or a vowel into a consonant

_QUIETEST_DB = -55.0  # level of a voice, in dBFS of its frame
_BEHIND_DB = 25.0  # frames this far under the stem's loud ones are bleed or reverberation
_UNDER_BOUNCE_DB = 20.0  # a voice that lies this far under the bounce would not be heard

# Set between what was measured on synthetic voices (speaking and singing, separated from a band) and on 120 General MIDI
# leads; no recordings of people were at hand, and nothing was held out. Voices as loud as the band: vowels >= 0.44
# octaves, glides >= 0.62. Leads: vowels <= 0.32, save an agogo with 0.41, whose glides are 0.12. Missed: voices 8 dB
# under the band, one vowel held throughout, and slow formant synthesis. Scraps of a violin passed both, but for 1.3 s.
_LEAST_VOWELS = 0.37
_LEAST_GLIDES = 0.25
_LEAST_VOICED_S = 2.0
_LEAST_VOICED_SHARE = 0.25  # instead, in files under 8 s

_LONGEST_GAP_S = 0.5
_SHORTEST_SPAN_S = 0.3


@dataclass(frozen=True)
class Presence:
    """The verdict, where, and the evidence for it."""

    sings: bool
    spans: tuple[Span, ...]  # empty where nobody sings
    voiced_s: float  # how long a pitch in a voice's range sounds, loud enough to be the singer
    level_db: float  # of those moments against the bounce, median; 0 where there are none
    vowels_octaves: float  # spread of the second formant's region that pitch and loudness don't explain
    glides_octaves: float  # how far it moves within 80 ms while voiced, ninth decile


NOBODY = Presence(False, (), 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class _Frames:
    """One value per hop."""

    level_db: Array
    formant_octaves: Array


def find_singing(
    vocals: Samples | Sound, bounce: Samples | Sound, sample_rate_hz: int, *, labelled: bool = False
) -> Presence:
    """Judge a vocals stem against the bounce it came from; both (channels, frames).

    `labelled`: the user says that this is a vocal, so that hearing anything voiced is enough.
    """
    whole = _frames(analysis_signal(bounce, sample_rate_hz))
    signal = analysis_signal(vocals, sample_rate_hz)
    stem = _frames(signal)
    loud = float(np.quantile(stem.level_db, 0.98))
    active = (stem.level_db > max(loud - _BEHIND_DB, _QUIETEST_DB)) & (
        stem.level_db > whole.level_db - _UNDER_BOUNCE_DB
    )
    if not active.any():
        return NOBODY
    pitch = _pitch_semitones(signal, active.size)
    voiced = active & np.isfinite(pitch)
    if not voiced.any():
        return NOBODY
    vowels = _unexplained(stem.formant_octaves[voiced], pitch[voiced], stem.level_db[voiced])
    glides = _glides(stem.formant_octaves, voiced)
    voiced_s = float(voiced.sum() * _HOP_S)
    least_s = min(_LEAST_VOICED_S, _LEAST_VOICED_SHARE * active.size * _HOP_S)
    sings = voiced_s >= least_s and (labelled or (vowels >= _LEAST_VOWELS and glides >= _LEAST_GLIDES))
    spans = _spans(active, voiced, vocals.shape[1] / sample_rate_hz) if sings else ()
    level = float(np.median((stem.level_db - whole.level_db)[voiced]))
    return Presence(bool(spans), spans, voiced_s, level, vowels, glides)


def _frames(signal: Signal) -> _Frames:
    hz = np.fft.rfftfreq(_WINDOW_FRAMES, 1 / RATE_HZ)
    inside = (hz > _FORMANT_HZ[0]) & (hz < _FORMANT_HZ[1])
    full_scale = largest(signal)
    levels, centroids = [], []
    for first, last in blocks(signal.size, _HOP_FRAMES):
        power = magnitudes(signal, first, last, _WINDOW_FRAMES, _HOP_FRAMES) ** 2  # (hops, bins)
        levels.append(power.sum(axis=1) * full_scale**2)
        formant = power[:, inside]
        centroids.append(formant @ np.log2(hz[inside]) / np.maximum(formant.sum(axis=1), 1e-12))
    return _Frames(10.0 * np.log10(np.concatenate(levels) + 1e-12), np.concatenate(centroids))


def _pitch_semitones(signal: Signal, hops: int) -> Array:
    """MIDI pitch with fraction at each hop by Praat's autocorrelation (Boersma 1993); NaN where unvoiced."""
    import parselmouth

    low, high = _PITCH_HZ
    if signal.size / RATE_HZ < 3.0 / low + _HOP_S:
        return np.full(hops, np.nan)
    hz = np.zeros(hops)
    for first in range(0, hops, _PITCH_HOPS):  # in pieces: Praat takes ten times the memory of what it hears
        last = min(hops, first + _PITCH_HOPS)
        if hops - last < _PITCH_MARGIN_HOPS:
            last = hops
        start = max(0, first - _PITCH_MARGIN_HOPS) * _HOP_FRAMES
        piece = signal[start : (last + _PITCH_MARGIN_HOPS) * _HOP_FRAMES].astype(np.float64)
        track = parselmouth.Sound(piece, RATE_HZ).to_pitch_ac(
            time_step=_HOP_S, pitch_floor=low, pitch_ceiling=high
        )
        times_s = np.arange(first, last) * _HOP_S - start / RATE_HZ
        at = np.clip(np.round((times_s - track.x1) / track.dx).astype(int), 0, track.nx - 1)
        hz[first:last] = track.selected_array["frequency"][at]
        if last == hops:
            break
    return np.where(hz > 0, 69.0 + 12.0 * np.log2(np.maximum(hz, 1.0) / 440.0), np.nan)


def _unexplained(formant_octaves: Array, pitch: Array, level_db: Array) -> float:
    """Standard deviation of what a smooth function of pitch and level leaves over."""
    pitch, level_db = pitch - pitch.mean(), level_db - level_db.mean()
    terms = np.stack([np.ones_like(pitch), pitch, pitch**2, level_db], axis=1)
    fitted = terms @ np.linalg.lstsq(terms, formant_octaves, rcond=None)[0]
    return float(np.std(formant_octaves - fitted))


def _glides(formant_octaves: Array, voiced: npt.NDArray[np.bool_]) -> float:
    if voiced.size <= _GLIDE_HOPS:
        return 0.0
    whole = np.lib.stride_tricks.sliding_window_view(voiced, _GLIDE_HOPS + 1).all(axis=1)
    moved = np.abs(formant_octaves[_GLIDE_HOPS:] - formant_octaves[:-_GLIDE_HOPS])[whole]
    return float(np.quantile(moved, 0.9)) if moved.size else 0.0


def _spans(active: npt.NDArray[np.bool_], voiced: npt.NDArray[np.bool_], seconds: float) -> tuple[Span, ...]:
    """Stretches of activity that hold something voiced: so consonants belong to their words."""
    edges = np.flatnonzero(np.diff(np.pad(active.astype(np.int8), 1)))
    merged: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if merged and (start - merged[-1][1]) * _HOP_S < _LONGEST_GAP_S:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(
        Span(start * _HOP_S, min(end * _HOP_S, seconds))
        for start, end in merged
        if (end - start) * _HOP_S >= _SHORTEST_SPAN_S and voiced[start:end].any()
    )
