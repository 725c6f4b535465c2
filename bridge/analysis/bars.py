"""Which beats begin a bar, how many make one, and the tempo map that beats and bars give together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridge.analysis.beats import ENOUGH_BEATS, Beats
from bridge.analysis.chroma import Chroma
from bridge.analysis.onsets import HOP_S, Onsets
from bridge.analysis.spectrum import Array
from bridge.tempo import constant_tempo, tempo_from_changes
from bridge.types import TempoMap

_METRES = (4, 3)  # the usual one first: it stands where too few beats are heard to tell
_FOUR_IS_USUAL = 1.25  # three beats to the bar must be heard clearly
_STARTS_ON_ONE = 1.0  # in standard deviations: a bounce mostly begins with a bar
_STARTS_ON_LINE_S = 0.02  # a bar line this near the first frame is the first frame: instruments speak late
_REACH_S = 0.03  # strength of a beat is the largest this near to it
_LEAST_CHANGE = 0.1  # harmony that varies less is noise, not chords
_LEAST_VARIANCE = 0.25
_MAX_DEVIATION_S = 0.012  # a tempo map with changes keeps every beat this near


@dataclass(frozen=True)
class Bars:
    """`first_index` is the first beat of the first whole bar of music, as an index into the beats."""

    beats_per_bar: int
    first_index: int


def find_bars(
    beats: Beats, onsets: Onsets, chroma: Chroma | None, start_s: float, beats_per_bar: int = 0
) -> Bars:
    """Bars by how much stronger their first beats are than the others; a known `beats_per_bar` is kept.

    `start_s` is where the music begins; `chroma` is None where nothing tonal is heard. A first beat has the kick, no snare, and a change of chord and bass.
    """
    times = beats.times_s
    accent = _first_beat_evidence(times, onsets, chroma)
    struck = np.flatnonzero(onsets.accents > 0.1 * onsets.accents.max())
    playing = (times >= start_s - 2 * _REACH_S) & (times <= struck[-1] * HOP_S + _REACH_S)
    opening = int(np.argmax(playing)) if playing.any() else 0
    best, best_score = Bars(beats_per_bar or 4, opening), -np.inf
    audible = _METRES if np.count_nonzero(playing) >= ENOUGH_BEATS else _METRES[:1]
    for metre in (beats_per_bar,) if beats_per_bar else audible:
        for offset in range(metre):
            first = np.zeros(times.size, dtype=bool)
            first[(opening + offset) % metre :: metre] = True
            score = _separation(accent[playing & first], accent[playing & ~first])
            score = score * (_FOUR_IS_USUAL if metre == 4 else 1.0) + (_STARTS_ON_ONE if offset == 0 else 0.0)
            if score > best_score:
                best, best_score = Bars(metre, opening + offset), score
    return best


def to_tempo_map(beats: Beats, bars: Bars, sample_rate_hz: int, beat_unit: int = 4) -> TempoMap:
    """One tempo where the song keeps one, else a change at as few bar lines as the beats allow."""
    quarters = 4.0 / beat_unit
    times = beats.times_s
    index = min(bars.first_index, times.size - 1)
    first_s = float(times[index]) if abs(times[index]) > _STARTS_ON_LINE_S else 0.0
    first_downbeat = max(0, round(first_s * sample_rate_hz))
    metre = {
        "beats_per_bar": bars.beats_per_bar,
        "beat_unit": beat_unit,
        "first_downbeat_frame": first_downbeat,
    }
    if beats.bpm is not None:
        return constant_tempo(quarters * beats.bpm, sample_rate_hz, **metre)
    lines = range(index, times.size, bars.beats_per_bar)
    knots, knot_times = _fewest_knots(times, lines)
    bpms = quarters * 60.0 * np.diff(knots) / np.diff(knot_times)
    frames = np.round(knot_times[:-1] * sample_rate_hz).astype(int)
    changes = [(0, float(bpms[0]))]
    changes += [(int(frame), float(bpm)) for frame, bpm in zip(frames[1:], bpms[1:], strict=True)]
    return tempo_from_changes(changes, sample_rate_hz, **metre)


def _first_beat_evidence(times: Array, onsets: Onsets, chroma: Chroma | None) -> Array:
    """One value per beat: kick and harmonic change speak for the first beat of a bar, snare against."""
    low, high = (_strength_at(times, band) for band in (onsets.low, onsets.high))
    snare = high * np.maximum(0.0, 1.0 - low / max(float(np.quantile(low, 0.9)), 1e-9))  # a crash has a kick
    evidence = 0.6 * _scored(low) - 0.4 * _scored(snare)
    if chroma is None:
        return evidence
    harmony, bass = (_change(times, chroma, bass=bass) for bass in (False, True))
    return evidence + _scored(harmony, _LEAST_CHANGE) + _scored(bass, _LEAST_CHANGE)


def _strength_at(times: Array, strength: Array) -> Array:
    reach = round(_REACH_S / HOP_S)
    hops = np.round(times / HOP_S).astype(int)[:, None] + np.arange(-reach, reach + 1)
    return np.asarray(strength[np.clip(hops, 0, strength.size - 1)].max(axis=1))


def _change(times: Array, chroma: Chroma, *, bass: bool) -> Array:
    """How different the harmony of the two beats after each beat is from that of the two before, 0..1."""
    length = np.median(np.diff(times)) if times.size > 1 else 0.5
    change = np.zeros(times.size)
    for index, at in enumerate(times):
        if at < length:
            continue
        before = chroma.between(max(0.0, at - 2 * length), at, bass=bass)
        after = chroma.between(at, at + 2 * length, bass=bass)
        size = float(np.linalg.norm(before) * np.linalg.norm(after))
        change[index] = 1.0 - float(before @ after) / size if size > 0 else 0.0
    return change


def _scored(values: Array, least_spread: float = 1e-6) -> Array:
    """In standard deviations, limited so that one loud bar does not decide."""
    return np.asarray(np.clip((values - values.mean()) / max(float(values.std()), least_spread), -2.5, 2.5))


def _separation(firsts: Array, others: Array) -> float:
    """Welch's t of the first beats against the others; machine-even bars do not make small differences large."""
    if firsts.size < 2 or others.size < 2:
        return 0.0
    error = np.sqrt(
        (firsts.var() + _LEAST_VARIANCE) / firsts.size + (others.var() + _LEAST_VARIANCE) / others.size
    )
    return float((firsts.mean() - others.mean()) / error)


def _fewest_knots(times: Array, lines: range) -> tuple[Array, Array]:
    """Beat numbers and fitted times of tempo changes, taken from the bar lines.

    Greedy: a knot is added at the bar line nearest the worst beat, until least squares over straight pieces
    leaves no beat further than `_MAX_DEVIATION_S`, or a knot stands on every line.
    """
    numbers = np.arange(times.size, dtype=np.float64)
    knots = [0, times.size - 1]
    free = [line for line in lines if 0 < line < times.size - 1]
    while True:
        x = np.array(sorted(knots), dtype=np.float64)
        hats = np.stack([np.interp(numbers, x, row) for row in np.eye(x.size)], axis=1)  # (beats, knots)
        y = np.linalg.lstsq(hats, times, rcond=None)[0]
        deviation = np.abs(hats @ y - times)
        if deviation.max() <= _MAX_DEVIATION_S or not free:
            return x, np.asarray(y)
        worst = int(np.argmax(deviation))
        free.sort(key=lambda line: (abs(line - worst), line))
        knots.append(free.pop(0))
