"""What recordings are worth as training material: how much, how high, how clean, whose, and what to record next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples
from bridge.voices import decay, speakers
from bridge.voices.speech import HOP_S, Stretch, seconds_of
from bridge.voices.utterance import praat_f0

LOWEST_NOTE, HIGHEST_NOTE = 36, 96  # MIDI, C2 to C7: the histogram's semitones
F0_STEP_S = 0.02
CLIPPED_FROM = 0.985  # of full scale
CLIPPED_RUN = 3
BANDWIDTH_BEHIND_DB = 75.0  # under the loudest part of the spectrum there is nothing
BEST_SNR_DB = 90.0
MOST_EMBEDDINGS = 40  # kept of one recording
NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

TELEPHONE_HZ, DULL_HZ = 5_000.0, 10_000.0
NOISY_DB = 25.0
ROOMY_S = 0.6
CLIPPED_PER_MINUTE = 5.0
LEAST_MINUTES, GOOD_MINUTES = 5.0, 15.0
LEAST_NOTE_S = 1.0  # of a semitone, to count as recorded
WANTED_SEMITONES = 19  # an octave and a half: what most songs use


@dataclass(frozen=True)
class Source:
    """What is known of one recording."""

    name: str
    sha256: str  # of its samples
    seconds: float
    kept_s: float
    silence_s: float
    noise_s: float
    music_s: float
    slices: int
    f0_seconds: tuple[float, ...]  # voiced seconds on each semitone from LOWEST_NOTE on
    snr_db: float
    clipped_per_minute: float  # flattened peaks
    decay_s: float | None  # for 60 dB, after words
    bandwidth_hz: float
    embeddings: tuple[tuple[float, ...], ...]  # of pieces of it
    schema: int = 1


@dataclass(frozen=True)
class Survey:
    """All recordings of a voice together."""

    sources: int
    minutes_kept: float
    minutes_dropped: dict[str, float]  # silence, noise, music
    slices: int
    f0_seconds: tuple[float, ...]
    lowest_note: str | None
    median_hz: float | None
    highest_note: str | None
    snr_db: float  # of the noisiest
    clipped_per_minute: float  # of the worst
    decay_s: float | None  # of the roomiest
    bandwidth_hz: float  # of the narrowest
    several_speakers: bool
    speaker_likeness: float  # of the two groups that the pieces fall into
    advice: tuple[str, ...]


def examine(
    name: str,
    digest: str,
    samples: Samples,
    rate_hz: int,
    mono: Samples,
    mono_hz: int,
    stretches: Sequence[Stretch],
    slices: Sequence[Samples],
) -> Source:
    """Measure one recording: `samples` as recorded, `mono` at `mono_hz`, and the slices cut of it."""
    voice = np.concatenate(list(slices), axis=1)
    found = speakers.embed(voice, mono_hz)
    every = max(1, -(-len(found) // MOST_EMBEDDINGS))
    whole = tuple(stretches)
    return Source(
        name=name,
        sha256=digest,
        seconds=samples.shape[1] / rate_hz,
        kept_s=voice.shape[1] / mono_hz,
        silence_s=seconds_of(whole, "silence"),
        noise_s=seconds_of(whole, "noise"),
        music_s=seconds_of(whole, "music"),
        slices=len(slices),
        f0_seconds=_f0_seconds(voice, mono_hz),
        snr_db=_snr_db(mono, mono_hz, whole),
        clipped_per_minute=_clipped(samples) / (samples.shape[1] / rate_hz / 60.0),
        decay_s=decay.decay_s(mono, mono_hz),
        bandwidth_hz=_bandwidth_hz(voice, mono_hz),
        embeddings=tuple(tuple(round(float(value), 4) for value in row) for row in found[::every]),
    )


def survey(sources: Sequence[Source]) -> Survey:
    """All together, with what to record next; at least one source."""
    f0_seconds = tuple(float(sum(column)) for column in zip(*(s.f0_seconds for s in sources), strict=True))
    pieces = np.array([row for source in sources for row in source.embeddings], dtype=np.float32)
    who = speakers.judge(pieces)
    decays = [source.decay_s for source in sources if source.decay_s is not None]
    found = Survey(
        sources=len(sources),
        minutes_kept=sum(source.kept_s for source in sources) / 60.0,
        minutes_dropped={
            "silence": sum(source.silence_s for source in sources) / 60.0,
            "noise": sum(source.noise_s for source in sources) / 60.0,
            "music": sum(source.music_s for source in sources) / 60.0,
        },
        slices=sum(source.slices for source in sources),
        f0_seconds=f0_seconds,
        lowest_note=_note(min(_recorded(f0_seconds), default=None)),
        median_hz=_median_hz(f0_seconds),
        highest_note=_note(max(_recorded(f0_seconds), default=None)),
        snr_db=min(source.snr_db for source in sources),
        clipped_per_minute=max(source.clipped_per_minute for source in sources),
        decay_s=max(decays, default=None),
        bandwidth_hz=min(source.bandwidth_hz for source in sources),
        several_speakers=who.several,
        speaker_likeness=who.likeness,
        advice=(),
    )
    return Survey(**{**vars(found), "advice": tuple(_advice(found, sources))})


def _advice(found: Survey, sources: Sequence[Source]) -> Iterable[str]:
    if found.several_speakers:
        yield (
            f"Two voices are heard (likeness {found.speaker_likeness:.2f}; one person who speaks has 0.8 or more): two "
            "people, or one who sings very high and very low. If two, the voice would become a mixture: remove the "
            "recordings of the other."
        )
    if found.minutes_kept < LEAST_MINUTES:
        yield f"{found.minutes_kept:.1f} minutes are under {LEAST_MINUTES:.0f}, the least to be of use. Record more."
    elif found.minutes_kept < GOOD_MINUTES:
        yield f"{found.minutes_kept:.1f} minutes will do; {GOOD_MINUTES:.0f} and more are better."
    yield from _advice_on_range(found)
    for source in sources:
        yield from _advice_on(source)


def _advice_on_range(found: Survey) -> Iterable[str]:
    notes = _recorded(found.f0_seconds)
    if not notes:
        yield "Hardly anything voiced was found. Sing or speak longer vowels."
        return
    if max(notes) - min(notes) < WANTED_SEMITONES:
        yield (
            f"Nothing above {_note(max(notes))} and nothing below {_note(min(notes))}. Sing scales beyond both, "
            "softly and loudly: the voice can't sing well what it never heard."
        )


def _advice_on(source: Source) -> Iterable[str]:
    if source.bandwidth_hz < TELEPHONE_HZ:
        yield (
            f"{source.name}: nothing above {source.bandwidth_hz / 1000.0:.1f} kHz, like a telephone. The voice will be as "
            "dull as that. Record with a microphone at 44.1 kHz."
        )
    elif source.bandwidth_hz < DULL_HZ:
        yield f"{source.name}: nothing above {source.bandwidth_hz / 1000.0:.1f} kHz. Use a recording that was never compressed."
    if source.snr_db < NOISY_DB:
        yield f"{source.name}: the noise lies only {source.snr_db:.0f} dB under the voice. Record in a quieter place, or nearer."
    if source.decay_s is not None and source.decay_s > ROOMY_S:
        yield f"{source.name}: the room rings on for about {source.decay_s:.1f} s. Record among soft things, or nearer."
    if source.clipped_per_minute > CLIPPED_PER_MINUTE:
        yield f"{source.name}: {source.clipped_per_minute:.0f} clipped peaks a minute. Record at a lower level."
    if source.music_s > 0.2 * source.seconds:
        yield f"{source.name}: {source.music_s:.0f} s of it are music and were left out. Give the bare voice."


def _f0_seconds(voice: Samples, rate_hz: int) -> tuple[float, ...]:
    times = np.arange(0.0, voice.shape[1] / rate_hz, F0_STEP_S)
    hz = praat_f0(voice[0], rate_hz, times) if times.size > 1 else np.zeros(0)
    notes = np.round(69.0 + 12.0 * np.log2(hz[hz > 0] / 440.0)).astype(int)
    counts = np.bincount(
        np.clip(notes, LOWEST_NOTE, HIGHEST_NOTE) - LOWEST_NOTE, minlength=HIGHEST_NOTE - LOWEST_NOTE + 1
    )
    return tuple(round(float(count) * F0_STEP_S, 2) for count in counts)


def _recorded(f0_seconds: Sequence[float]) -> list[int]:
    """MIDI notes that were sung or spoken for long enough."""
    return [LOWEST_NOTE + index for index, seconds in enumerate(f0_seconds) if seconds >= LEAST_NOTE_S]


def _median_hz(f0_seconds: Sequence[float]) -> float | None:
    total = np.cumsum(f0_seconds)
    if total[-1] <= 0:
        return None
    note = LOWEST_NOTE + int(np.searchsorted(total, total[-1] / 2.0))
    return round(float(440.0 * 2.0 ** ((note - 69) / 12.0)), 1)


def _note(midi: int | None) -> str | None:
    return None if midi is None else f"{NOTE_NAMES[midi % 12]}{midi // 12 - 1}"


def _snr_db(mono: Samples, rate_hz: int, stretches: Sequence[Stretch]) -> float:
    """Power of the voice over that of what lies between: silence where there is some, else the quietest moments."""
    hop = round(HOP_S * rate_hz)
    hops = mono.shape[1] // hop
    power = np.square(mono[0, : hops * hop].reshape(hops, hop), dtype=np.float64).mean(axis=1)
    kinds = np.full(hops, "silence", dtype="<U7")
    for stretch in stretches:
        kinds[int(stretch.start_s / HOP_S) : int(np.ceil(stretch.end_s / HOP_S))] = stretch.kind
    voice = power[kinds == "voice"]
    quiet = power[kinds == "silence"]
    floor = float(np.median(quiet)) if quiet.size * HOP_S > 0.5 else float(np.quantile(power, 0.05))
    return float(min(BEST_SNR_DB, 10.0 * np.log10(max(voice.mean(), 1e-12) / max(floor, 1e-12))))


def _clipped(samples: Samples) -> int:
    """Runs of CLIPPED_RUN and more samples at full scale."""
    peak = float(np.abs(samples).max())
    if peak < CLIPPED_FROM:
        return 0
    total = 0
    for channel in samples:
        high = np.pad((np.abs(channel) >= CLIPPED_FROM * peak).astype(np.int8), 1)
        edges = np.flatnonzero(np.diff(high))
        total += int(np.sum(edges[1::2] - edges[::2] >= CLIPPED_RUN))
    return total


def _bandwidth_hz(voice: Samples, rate_hz: int) -> float:
    """Where the long-term spectrum falls under what could be heard."""
    from scipy.signal import welch

    hz, power = welch(voice[0].astype(np.float64), rate_hz, nperseg=2048)
    smooth = np.convolve(power, np.ones(9) / 9.0, "same")
    level = 10.0 * np.log10(np.maximum(smooth, 1e-20))
    heard = cast("npt.NDArray[np.int64]", np.flatnonzero(level > level.max() - BANDWIDTH_BEHIND_DB))
    return float(hz[heard[-1]])
