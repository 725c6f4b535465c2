"""The lead and its backing: a second voice is told from the lead by its own pitch, and in stereo by its place.

The lead is what the trackers follow. What remains between its harmonics is listened to again: where a voice of
another pitch sings there, loud enough and for long enough, its harmonics go to the backing, by soft masks in the
short-time spectrum, and with them what stands elsewhere in the stereo image. Doubles in unison stay with the lead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples, to_mono
from bridge.voices.f0 import HOP_S, F0Track, track_f0

WINDOW_S = 0.093
MOST_VOICES = 2  # beside the lead
LEAST_SHARE = 0.2  # of the lead's voiced time that a backing must sing
LEAST_SURE = 0.5
LEAST_DB = -14.0  # of a backing against the lead
NEAR_SEMITONES = 0.7
ECHO_S = 0.6  # a room still sounds of what the lead sang so long ago
HIGHEST_HZ = 8000.0  # above it harmonics are no longer told apart

_WIDTH_BINS = 1.3
_FLOOR = 0.02
_CROSSING = 1.0  # per semitone of a jump: what makes the lead stay on one line
_ASIDE = 0.45  # side against middle from which a bin stands elsewhere than the lead

Spectrum = npt.NDArray[np.complex64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Frame:
    """The short-time Fourier transform of one piece."""

    size: int
    hop: int
    rate: int
    frames: int  # of the samples


def find_lead(vocals: Samples, sample_rate_hz: int) -> Samples:
    """The lead in `vocals`, (channels, frames); the vocals themselves where there is no backing.

    Lead and backing add up: the backing is the vocals minus the lead.
    """
    shape = _shape(vocals, sample_rate_hz)
    if vocals.shape[1] < 4 * shape.size:
        return vocals
    lead = track_f0(to_mono(vocals), sample_rate_hz)
    if not (lead.hz > 0).any():
        return vocals
    spectrum = _stft(vocals, shape)  # (channels, frames, bins)
    combs = [_comb(lead, shape, spectrum.shape)]
    for _ in range(MOST_VOICES):
        second = _another_voice(spectrum, combs, lead, shape)
        if second is None:
            break
        lead, second = _louder_first(spectrum, lead, second, shape)
        combs = [_comb(lead, shape, spectrum.shape), *combs[1:], _comb(second, shape, spectrum.shape)]
    if len(combs) == 1:
        return vocals
    mask = _ownership(spectrum, combs[0], np.maximum.reduce(combs[1:]))
    if len(vocals) == 2:
        mask = mask * _in_place(spectrum, combs[0], mask)
    return _istft(spectrum * mask, shape)


def _shape(vocals: Samples, rate: int) -> _Frame:
    size = 1 << round(np.log2(WINDOW_S * rate))
    return _Frame(size, size // 4, rate, vocals.shape[1])


def _stft(samples: Samples, shape: _Frame) -> Spectrum:
    from scipy.signal import stft

    _, _, found = stft(samples, shape.rate, nperseg=shape.size, noverlap=shape.size - shape.hop)
    return cast(Spectrum, np.ascontiguousarray(np.swapaxes(found, 1, 2), dtype=np.complex64))


def _istft(spectrum: Spectrum, shape: _Frame) -> Samples:
    from scipy.signal import istft

    _, made = istft(
        np.swapaxes(spectrum, 1, 2), shape.rate, nperseg=shape.size, noverlap=shape.size - shape.hop
    )
    return cast(Samples, np.ascontiguousarray(made[:, : shape.frames], dtype=np.float32))


def _comb(f0: F0Track, shape: _Frame, like: tuple[int, ...]) -> Array:
    """(frames, bins): 1 on the voice's harmonics, 0 between them and where it is silent."""
    hop = np.clip(
        np.round(np.arange(like[1]) * shape.hop / shape.rate / HOP_S).astype(int), 0, f0.hz.size - 1
    )
    hz = f0.hz[hop][:, np.newaxis]
    bins_hz = np.arange(like[2]) * shape.rate / shape.size
    sounding = np.maximum(hz, 1.0)
    harmonic = np.maximum(1.0, np.round(bins_hz / sounding))
    bend = _bend(f0, shape)[hop][:, np.newaxis]  # how far the pitch moves within a window, as a share of it
    width = _WIDTH_BINS * shape.rate / shape.size + 0.5 * bend * harmonic * sounding
    comb = np.exp(-0.5 * np.square((bins_hz - harmonic * sounding) / width))
    return np.asarray(np.where((hz > 0) & (bins_hz < HIGHEST_HZ) & (width < 0.5 * sounding), comb, 0.0))


def _bend(f0: F0Track, shape: _Frame) -> Array:
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    reach = max(1, round(0.5 * shape.size / shape.rate / HOP_S))
    octaves = np.log2(np.maximum(f0.hz, 1.0))
    high = maximum_filter1d(np.where(f0.hz > 0, octaves, 0.0), reach)
    low = minimum_filter1d(np.where(f0.hz > 0, octaves, 20.0), reach)
    return np.asarray(np.clip(np.where(f0.hz > 0, high - low, 0.0) * np.log(2) / 2, 0.0, 0.1))


def _another_voice(spectrum: Spectrum, combs: list[Array], lead: F0Track, shape: _Frame) -> F0Track | None:
    """The pitch of a voice between the harmonics of those that are known; None where there is none to speak of."""
    between = 1.0 - np.maximum.reduce(combs)
    rest = _istft(spectrum * between, shape)
    # In stereo the rest may stand aside, where a mean of both channels would lose it.
    mono = rest[np.argmax(np.square(rest, dtype=np.float64).sum(axis=1))] if len(rest) == 2 else rest[0]
    found = track_f0(mono, shape.rate)
    own = (found.hz > 0) & (found.confidence >= LEAST_SURE) & ~_is_of(found, lead)
    voiced = lead.hz > 0
    if (own & voiced).sum() < LEAST_SHARE * voiced.sum():
        return None
    second = F0Track(np.where(own, found.hz, 0.0), found.confidence)
    theirs = _comb(second, shape, spectrum.shape) * between
    ours = combs[0] * (theirs.max(axis=1, keepdims=True) > 0)
    power = np.square(np.abs(spectrum)).sum(axis=0)
    level_db = 10 * np.log10((power * theirs).sum() / max(float((power * ours).sum()), 1e-20) + 1e-20)
    return second if level_db >= LEAST_DB else None


def _is_of(found: F0Track, lead: F0Track) -> npt.NDArray[np.bool_]:
    """Where it is the lead again: an overtone or undertone of it, or what a room keeps of its last notes."""
    pitch, own = (12 * np.log2(np.maximum(track.hz, 1.0)) for track in (found, lead))
    same = np.zeros(found.hz.size, dtype=bool)
    for semitones in (0.0, 12.0, -12.0, 19.02, -19.02, 24.0):
        same |= (np.abs(pitch - own - semitones) < NEAR_SEMITONES) & (lead.hz > 0)
    for back in range(2, round(ECHO_S / HOP_S), 2):
        before = np.concatenate([np.zeros(back), own[:-back]]) if back < own.size else np.zeros(own.size)
        same |= (np.abs(pitch - before) < NEAR_SEMITONES) & (before > 0)
    return same


def _louder_first(
    spectrum: Spectrum, first: F0Track, second: F0Track, shape: _Frame
) -> tuple[F0Track, F0Track]:
    """Both tracks, sorted anew: where they crossed over, the louder and steadier one is the lead. Viterbi."""
    combs = [_comb(track, shape, spectrum.shape) for track in (first, second)]
    power = np.square(np.abs(spectrum)).sum(axis=0)
    ours, theirs = ((power * comb * (1 - other)).sum(axis=1) for comb, other in (combs, combs[::-1]))
    frame = np.minimum(
        np.round(np.arange(first.hz.size) * HOP_S * shape.rate / shape.hop).astype(int), len(ours) - 1
    )
    both = (first.hz > 0) & (second.hz > 0)
    louder = np.where(both, np.clip(np.log((ours + 1e-12) / (theirs + 1e-12)), -2.0, 2.0)[frame], 0.0)
    swapped = _swapped(louder, both, first.hz, second.hz)
    hz = [np.where(swapped, *pair) for pair in ((second.hz, first.hz), (first.hz, second.hz))]
    sure = [
        np.where(swapped, *pair)
        for pair in ((second.confidence, first.confidence), (first.confidence, second.confidence))
    ]
    return F0Track(hz[0], sure[0]), F0Track(hz[1], sure[1])


def _swapped(
    louder: Array, both: npt.NDArray[np.bool_], first_hz: Array, second_hz: Array
) -> npt.NDArray[np.bool_]:
    """(hops,): where the second track is the lead."""
    pitch = 12 * np.log2(np.maximum(np.stack([first_hz, np.where(both, second_hz, first_hz)]), 1.0))
    gains = np.stack([louder, -louder]) * 0.5
    came_from = np.zeros(pitch.shape, dtype=np.intp)
    score = gains[:, 0].copy()
    for hop in range(1, pitch.shape[1]):
        jump = np.minimum(np.abs(pitch[:, hop][:, np.newaxis] - pitch[:, hop - 1][np.newaxis, :]), 3.0)
        total = score[np.newaxis, :] - _CROSSING * np.where(jump > 0.7, jump, 0.0)
        came_from[:, hop] = total.argmax(axis=1)
        score = total.max(axis=1) + gains[:, hop]
    path = np.zeros(pitch.shape[1], dtype=np.intp)
    path[-1] = score.argmax()
    for hop in range(pitch.shape[1] - 1, 0, -1):
        path[hop - 1] = came_from[path[hop], hop]
    return np.asarray((path == 1) & both)


def _ownership(spectrum: Spectrum, lead: Array, backing: Array) -> Array:
    """(frames, bins): how much of each bin is the lead's; all of it where no backing's harmonic lies."""
    from scipy.ndimage import uniform_filter1d

    power = np.square(np.abs(spectrum)).sum(axis=0)
    theirs, ours = ((power * comb).sum(axis=1) for comb in (backing * (1 - lead), lead * (1 - backing)))
    share = uniform_filter1d(theirs, 15, mode="nearest") / np.maximum(
        uniform_filter1d(ours, 15, mode="nearest"), 1e-20
    )
    rival = np.square(backing) * np.clip(share, 0.01, 4.0)[:, np.newaxis]
    return np.asarray(1.0 - rival / (rival + np.square(lead) + _FLOOR * (backing < 0.5) + 1e-4))


def _in_place(spectrum: Spectrum, lead: Array, mask: Array) -> Array:
    """(frames, bins): 1 where a bin stands where the lead stands, toward 0 elsewhere."""
    sure = (lead > 0.7) & (mask > 0.9)
    if not sure.any():
        return np.ones_like(mask)
    left, right = spectrum
    power = [float((np.square(np.abs(channel)) * sure).sum()) for channel in spectrum]
    angle = np.arctan2(np.sqrt(power[1]), np.sqrt(power[0]))
    middle = np.abs(np.cos(angle) * left + np.sin(angle) * right)
    side = np.abs(np.cos(angle) * right - np.sin(angle) * left)
    return np.asarray(1.0 / (1.0 + (side / (_ASIDE * middle + 1e-9)) ** 4))
