"""Voices made by code, whose truth is known: what `voices` measures with. Nothing is downloaded, no one real is heard.

A sung voice is a Kokoro speaker's words on a melody: pulses at exactly the wanted f0, each through the minimum-phase
spectrum of what was spoken there (Morise 2015, simplified), with the speaker's own voiceless sounds between them. So its f0 is
true by construction, and no tracker took part in it. The same call gives the same samples.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge import audio, types
from bridge.audio import Samples
from bridge.tempo import constant_tempo
from bridge.types import Span
from tests.benchmarks import kokoro_speech
from tests.song_a import RATE_HZ, true_stem

Array = npt.NDArray[np.float64]

HOP_S = 0.01
"""The truth stands at n * HOP_S."""

SPEECH_HZ = kokoro_speech.RATE_HZ
_FFT = 2048
_ENVELOPE_S = 0.005
_GLIDE_S = 0.1  # from note to note
_VIBRATO_HZ, _VIBRATO_CENTS = 5.5, 50.0
_VIBRATO_FROM_S = 0.45  # shorter notes have none
_LEVEL_DBFS = -20.0  # of what is sung
_ROOM_DBFS = -60.0  # noise that never stops


@dataclass(frozen=True)
class Note:
    """One note of a melody. `slides`: the pitch moves straight to it from the note before, all its length."""

    semitones: float  # above the singer's lowest note
    seconds: float
    slides: bool = False


@dataclass(frozen=True)
class Sung:
    """A sung vocal and its truth."""

    samples: Samples  # (channels, frames) at RATE_HZ
    f0_hz: Array  # (hops,) at n * HOP_S, 0.0 where not voiced
    singing: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        """Its length."""
        return float(self.samples.shape[1] / RATE_HZ)


@dataclass(frozen=True)
class Singer:
    """A Kokoro voice and the note that its melodies stand on."""

    voice: str
    lowest_midi: float


LOW = Singer("jm_kumo", 48.0)
HIGH = Singer("jf_alpha", 60.0)
BACKING = Singer("jf_tebukuro", 55.0)  # a fifth over the low one, a fourth under the high one


def _notes(pitches: Sequence[float], seconds: float) -> tuple[Note, ...]:
    return tuple(Note(pitch, seconds) for pitch in pitches)


SCORE: tuple[tuple[str, tuple[Note, ...]], ...] = (
    ("the birch canoe slid on the smooth planks", _notes((0, 4, 7, 5), 0.8)),
    (
        "glue the sheet to the dark blue background",
        _notes((0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2, 0, 4, 7, 12), 0.15),
    ),
    ("these days a chicken leg is a rare dish", _notes((0, 12, 0, 12, 7), 0.5)),
    (
        "rice is often served in round bowls",
        (Note(0, 0.6), Note(7, 0.7, True), Note(2, 0.6, True), Note(2, 0.6)),
    ),
)
"""Words and their melody: long notes with vibrato, a fast run, octave leaps, slides."""


@functools.lru_cache(maxsize=8)
def sung(singer: Singer, *, gap_s: float = 0.6) -> Sung:
    """The score by one singer, mono, `gap_s` of room noise before, between and after the phrases."""
    return _join([_phrase(singer, words, notes) for words, notes in SCORE], gap_s)


@functools.lru_cache(maxsize=2)
def sung_without_rest(singer: Singer, seconds: float) -> Sung:
    """Long notes one after the other with no rest, so that pieces can only be cut within them."""
    pitches = np.resize((0, 4, 7, 5, 9, 7, 4, 2), max(1, round(seconds / 1.5)))
    return _join([_phrase(singer, "we sow oars and we are well", _notes(pitches.tolist(), 1.5))], 0.3)


def _phrase(singer: Singer, words: str, notes: Sequence[Note]) -> tuple[Array, Array]:
    """Samples at SPEECH_HZ and f0 at each of them."""
    spoken = kokoro_speech.speak(words, singer.voice).astype(np.float64)
    f0 = 440.0 * 2.0 ** ((singer.lowest_midi + melody(notes, SPEECH_HZ) - 69.0) / 12.0)
    return resing(spoken, f0)


def in_room(dry: Sung, *, t60_s: float = 0.8, direct_db: float = 3.0) -> Sung:
    """In stereo, in a made room: noise that decays by 60 dB in `t60_s`, `direct_db` under the direct sound in all."""
    from scipy.signal import fftconvolve

    t = np.arange(round(1.2 * t60_s * RATE_HZ)) / RATE_HZ
    tail = np.random.default_rng(2).normal(size=(2, t.size)) * 10.0 ** (-3.0 * t / t60_s)
    tail[:, : round(0.004 * RATE_HZ)] = 0.0
    tail *= audio.db_to_amplitude(-direct_db) / np.sqrt((tail**2).sum(axis=1, keepdims=True))
    tail[:, 0] = 1.0
    wet = fftconvolve(np.repeat(dry.samples, 2, axis=0), tail, axes=1)[:, : dry.samples.shape[1]]
    return replace(dry, samples=wet.astype(np.float32))


def with_backing(lead: Sung, *, panned: bool, level_db: float = -6.0) -> Sung:
    """In stereo: another voice with other notes on the same words, `level_db` against the lead; right, or centred."""
    other = sung(BACKING).samples
    gains = np.array([[0.3], [1.38]]) if panned else np.ones((2, 1))  # the same power
    backing = fit((gains * other).astype(np.float32), lead.samples.shape[1])
    return replace(lead, samples=_under(lead, backing, level_db))


def with_bleed(lead: Sung, *, level_db: float = -10.0) -> Sung:
    """In stereo: the music of song_a, `level_db` against the lead."""
    return replace(lead, samples=_under(lead, fit(accompaniment(), lead.samples.shape[1]), level_db))


def accompaniment() -> Samples:
    """song_a without its singer, (2, frames) at RATE_HZ."""
    music: Samples = np.sum(
        [true_stem(stem) for stem in ("drums", "bass", "other")], axis=0, dtype=np.float32
    )
    return music


def instruments() -> Samples:
    """Strings, a lead and a piano of the shipped soundfont with nobody singing, 20 s, (2, frames) at RATE_HZ."""
    from bridge.instruments.render import render
    from bridge.instruments.sound import Sound

    notes = []
    for bar, root in enumerate((60, 67, 69, 65, 60, 67, 69, 65)):
        notes += [types.Note(4.0 * bar, 4.0, pitch, 70, "strings") for pitch in (root - 12, root - 5, root)]
        notes += [
            types.Note(4.0 * bar + step, 0.95, root + up, 100, "lead")
            for step, up in enumerate((12, 16, 19, 16))
        ]
        notes += [
            types.Note(4.0 * bar + step / 2, 0.5, root + step % 3 * 4, 80, "piano") for step in range(8)
        ]
    tempo, frames = constant_tempo(96.0, RATE_HZ), 20 * RATE_HZ
    phrase = types.Phrase(tuple(notes), 32.0)
    with TemporaryDirectory() as folder:
        path = Path(folder, "heard.wav")
        render(
            phrase,
            tempo,
            path,
            frames=frames,
            sample_rate_hz=RATE_HZ,
            sound=Sound(),
            report=lambda done, total: None,
        )
        return audio.read_raw(path)[0]


def fit(samples: Samples, frames: int) -> Samples:
    """Cut, or padded with silence, to `frames`."""
    return audio.fit_length(samples, frames)


def band_limited(dry: Sung, highest_hz: float = 5000.0) -> Sung:
    """Without anything above `highest_hz`, so that a click shows."""
    from scipy.signal import fftconvolve, firwin

    taps = firwin(401, highest_hz, fs=RATE_HZ, window=("kaiser", 10.0))
    return replace(dry, samples=fftconvolve(dry.samples, taps[None], "same", axes=1).astype(np.float32))


def melody(notes: Sequence[Note], rate_hz: int) -> Array:
    """The melody with its glides and vibrato, in semitones at each frame."""
    steps = []
    before = notes[0].semitones
    for note in notes:
        t = np.arange(round(note.seconds * rate_hz)) / rate_hz
        step = (
            before + (note.semitones - before) * t / note.seconds
            if note.slides
            else np.full(t.size, note.semitones)
        )
        if note.seconds >= _VIBRATO_FROM_S and not note.slides:
            depth = np.clip((t - 0.15) / 0.15, 0.0, 1.0) * _VIBRATO_CENTS / 100.0
            step = step + depth * np.sin(2.0 * np.pi * _VIBRATO_HZ * t)
        steps.append(step)
        before = note.semitones
    glide = np.hanning(round(_GLIDE_S * rate_hz))
    whole = np.concatenate(steps)
    padded = np.pad(whole, glide.size // 2, mode="edge")
    return np.convolve(padded, glide / glide.sum(), "same")[glide.size // 2 :][: whole.size]


def resing(spoken: Array, f0_hz: Array) -> tuple[Array, Array]:
    """What is `spoken` (SPEECH_HZ), stretched to the length of `f0_hz` and sung on it; and f0, 0.0 where not voiced."""
    envelopes, voiced = _envelopes(spoken)
    ratio = spoken.size / f0_hz.size
    at = np.minimum((np.arange(f0_hz.size) * ratio / (_ENVELOPE_S * SPEECH_HZ)).astype(int), voiced.size - 1)
    mask = voiced[at]
    fade = np.hanning(round(0.012 * SPEECH_HZ))
    weight = np.convolve(mask.astype(np.float64), fade / fade.sum(), "same")
    tone = _pulses(f0_hz, envelopes, at)
    loud = np.sqrt(np.interp(np.arange(f0_hz.size) * ratio, np.arange(spoken.size), _power(spoken)))
    tone *= loud / np.sqrt(_power(tone) + 1e-9)
    out = weight * tone + (1.0 - weight) * _stretched(spoken, f0_hz.size)
    return out, np.where(mask, f0_hz, 0.0)


def _envelopes(spoken: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Log magnitudes every _ENVELOPE_S, (hops, bins), without the harmonics; and whether the hop is voiced."""
    import parselmouth

    step = round(_ENVELOPE_S * SPEECH_HZ)
    hops = spoken.size // step + 1
    track = parselmouth.Sound(spoken, SPEECH_HZ).to_pitch_ac(
        time_step=_ENVELOPE_S, pitch_floor=75.0, pitch_ceiling=500.0
    )
    index = np.clip(
        np.round((np.arange(hops) * _ENVELOPE_S - track.x1) / track.dx).astype(int), 0, track.nx - 1
    )
    hz = track.selected_array["frequency"][index]
    padded = np.pad(spoken, _FFT)
    envelopes = np.empty((hops, _FFT // 2 + 1))
    for hop in range(hops):
        period = SPEECH_HZ / (hz[hop] or 150.0)
        window = np.hanning(2 * round(1.5 * period) + 1)
        centre = _FFT + hop * step
        piece = padded[centre - window.size // 2 :][: window.size] * window
        envelopes[hop] = _smooth(np.abs(np.fft.rfft(piece, _FFT)) ** 2, period)
    return envelopes, hz > 0


def _smooth(power: Array, period: float) -> Array:
    """Half the log of a power spectrum, without what repeats at f0 (Morise 2015, CheapTrick)."""
    width = max(1, round(_FFT / period * 2.0 / 3.0))
    mean = np.convolve(np.pad(power, width, mode="reflect"), np.full(width, 1.0 / width), "same")[
        width:-width
    ]
    cepstrum = np.fft.irfft(np.log(mean + 1e-10))
    quefrency = np.minimum(np.arange(_FFT), _FFT - np.arange(_FFT)) / period
    lifter = np.sinc(quefrency) * (1.18 - 0.18 * np.cos(2.0 * np.pi * quefrency))
    return np.asarray(np.fft.rfft(cepstrum * lifter).real / 2.0)


def _pulses(f0_hz: Array, envelopes: Array, at: npt.NDArray[np.int_]) -> Array:
    """A pulse wherever the phase passes a whole turn, to a fraction of a frame, each with its hop's spectrum."""
    rng = np.random.default_rng(0)
    phase = np.cumsum(f0_hz / SPEECH_HZ)
    turns = np.arange(1, int(phase[-1]))
    times = np.interp(turns, phase, np.arange(phase.size))
    hz = np.fft.rfftfreq(_FFT, 1.0 / SPEECH_HZ)
    breath = np.interp(hz, (0.0, 1000.0, 8000.0), (0.0, 0.03, 0.6))
    out = np.zeros(f0_hz.size + _FFT)
    for time in times:
        frame = int(time)
        spectrum = _minimum_phase(envelopes[at[frame]])
        spectrum *= 1.0 + breath * np.exp(2j * np.pi * rng.random(hz.size))
        spectrum *= np.exp(-2j * np.pi * hz * (time - frame) / SPEECH_HZ)
        spectrum[hz < 40.0] = 0.0
        out[frame : frame + _FFT] += np.fft.irfft(spectrum)
    return out[: f0_hz.size]


def _minimum_phase(log_magnitude: Array) -> npt.NDArray[np.complex128]:
    cepstrum = np.fft.irfft(log_magnitude)
    cepstrum[1 : _FFT // 2] *= 2.0
    cepstrum[_FFT // 2 + 1 :] = 0.0
    return np.asarray(np.exp(np.fft.rfft(cepstrum)))


def _power(signal: Array) -> Array:
    window = np.hanning(round(0.03 * SPEECH_HZ))
    return np.maximum(np.convolve(signal**2, window / window.sum(), "same"), 0.0)


def _stretched(spoken: Array, frames: int) -> Array:
    """The speech itself, longer, by overlapping windows: good enough for what has no pitch."""
    step = round(0.01 * SPEECH_HZ)
    window = np.hanning(2 * step + 1)[:-1]
    source = np.pad(spoken, 2 * step)
    out = np.zeros(frames + 2 * step)
    for start in range(0, frames, step):
        from_frame = round(start * spoken.size / frames) + step
        out[start : start + 2 * step] += source[from_frame : from_frame + 2 * step] * window
    return out[step : step + frames]


def _under(lead: Sung, other: npt.NDArray[Any], level_db: float) -> Samples:
    """The lead on both channels, and `other`, (2, frames), at a level against it where the lead is voiced."""
    per_frame = np.minimum(
        (np.arange(lead.samples.shape[1]) / RATE_HZ / HOP_S).astype(int), lead.f0_hz.size - 1
    )
    voiced = lead.f0_hz[per_frame] > 0
    both = np.repeat(lead.samples, 2, axis=0)
    gain_db = audio.rms_db(both[:, voiced]) + level_db - audio.rms_db(other[:, voiced].astype(np.float32))
    return (both + audio.db_to_amplitude(gain_db) * other).astype(np.float32)


def _join(phrases: Sequence[tuple[Array, Array]], gap_s: float) -> Sung:
    gap = np.zeros(round(gap_s * SPEECH_HZ))
    parts, hz, spans = [gap], [gap], []
    for samples, f0_hz in phrases:
        start_s = sum(part.size for part in parts) / SPEECH_HZ
        spans.append(Span(start_s, start_s + samples.size / SPEECH_HZ))
        loud = np.sqrt(np.mean(samples[f0_hz > 0] ** 2))
        parts += [samples * audio.db_to_amplitude(_LEVEL_DBFS) / loud, gap]
        hz += [f0_hz, gap]
    voice = audio.resample(np.concatenate(parts).astype(np.float32)[None], SPEECH_HZ, RATE_HZ)
    noise = np.random.default_rng(1).normal(size=voice.shape) * audio.db_to_amplitude(_ROOM_DBFS)
    per_frame = np.concatenate(hz)
    hops = (np.arange(int(voice.shape[1] / RATE_HZ / HOP_S)) * HOP_S * SPEECH_HZ).astype(int)
    return Sung(
        (voice + noise).astype(np.float32), per_frame[np.minimum(hops, per_frame.size - 1)], tuple(spans)
    )
