"""Where the beats fall: one constant tempo where the song keeps it, else a tempo that follows the song.

Music from a DAW mostly runs on a constant grid, so that one is fitted to the whole song first. Only where the
attacks drift away from it are the beats tracked one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.analysis.onsets import HOP_S, Onsets, attack_times
from bridge.analysis.spectrum import Array

LOWEST_BPM, HIGHEST_BPM = 50.0, 220.0
ENOUGH_BEATS = 16  # four bars of four; in fewer, chance makes patterns as regular as a song's
_USUAL_BPM, _SPREAD_OCTAVES = 115.0, 0.9  # a log-normal prior over tempo, as in Ellis (2007), a little wider
_HIT_S = 0.025  # an attack this near a beat hits it
_FEWEST_TRACKED = 8  # beats; fewer say nothing about how a tempo changes
_SEARCH = 0.03  # the first guess of the period is within this share
_STRONGEST = 800  # attacks that take part in the search
_CLEAR = 0.4  # correlation of a stretch with itself a beat or a bar later: drums 0.9, noise 0.1
_TEMPO_RANGE = 1.5  # how far a changing tempo may go from the song's usual one
_TRACKING_TIGHTNESS = 300.0  # weight of an even pulse against strong onsets (Ellis 2007 uses 100 to 680)


@dataclass(frozen=True)
class Beats:
    """Beat times in seconds, rising, from about the first frame to about the last."""

    times_s: Array
    bpm: float | None  # beats per minute where one tempo holds throughout
    confidence: float  # 0..1: the share of beats that are struck, less what chance would give; low where few are heard


def find_beats(onsets: Onsets, bpm: float = 0.0) -> Beats | None:
    """The beats, or None where nothing repeats. A known `bpm` (beats, not quarters) is kept exactly."""
    attacks, heights = attack_times(onsets.accents)
    if attacks.size < (2 if bpm else 4):
        return None
    if bpm:
        period = 60.0 / bpm
        times = _grid(_phase(onsets.accents, period, attacks, heights), period, onsets.seconds)
        return Beats(times, bpm, _confidence(times, attacks, onsets))
    period = _best_period(onsets, attacks, heights)
    origin, period = _fit_constant(onsets.accents, period, attacks, heights)
    tempo = _rounded(60.0 / period, onsets.seconds)
    times = _grid(origin, 60.0 / tempo, onsets.seconds)
    constant = Beats(times, tempo, _confidence(times, attacks, onsets))
    if times.size < 2 or _is_steady(times, attacks, heights):
        return constant
    tracked = _track(onsets.accents, period)
    if tracked.size < _FEWEST_TRACKED:
        return constant
    return Beats(tracked, None, _confidence(tracked, attacks, onsets))


def _autocorrelation(strength: Array) -> Array:
    """Correlation of the strength with itself, by lag in hops, 1 at lag 0, unbiased by the overlap."""
    from scipy.ndimage import gaussian_filter1d

    smooth = gaussian_filter1d(strength, 0.010 / HOP_S)
    smooth = smooth - smooth.mean()
    size = 2 * smooth.size
    spectrum = np.fft.rfft(smooth, size)
    raw = np.fft.irfft(spectrum * np.conj(spectrum), size)[: smooth.size]
    raw = raw / np.maximum(1, smooth.size - np.arange(smooth.size))
    return np.asarray(raw / raw[0]) if raw[0] > 0 else raw


def _best_period(onsets: Onsets, attacks: Array, heights: Array) -> float:
    """The beat's length in seconds: what repeats, is usual, divides in two, and whose off-beats are weaker."""
    periods = 60.0 / np.geomspace(LOWEST_BPM, HIGHEST_BPM, 400)
    correlation = _autocorrelation(onsets.accents)
    lags = np.arange(correlation.size) * HOP_S
    repeats = np.mean([np.interp(k * periods, lags, correlation, right=0.0) for k in (1, 2, 3, 4)], axis=0)
    prior = np.exp(-0.5 * (np.log2(60.0 / periods / _USUAL_BPM) / _SPREAD_OCTAVES) ** 2)
    score = np.maximum(0.0, repeats) * prior
    peaks = np.flatnonzero((score >= np.roll(score, 1)) & (score >= np.roll(score, -1)))
    best = peaks[np.argsort(score[peaks])[::-1][:8]]
    refined = [_refined(periods[i], attacks, heights, onsets.seconds) for i in best]
    fits = [
        _contrast(onsets, period) * (0.4 + 0.6 * _divides(period, attacks, heights)) for period in refined
    ]
    return refined[int(np.argmax(score[best] * fits))]


def _refined(period_s: float, attacks: Array, heights: Array, seconds: float) -> float:
    """The period near `period_s` on whose beats and halves most attacks agree over the whole song."""
    strong = np.argsort(heights)[::-1][:_STRONGEST]
    step = min(0.002, 0.010 / max(seconds, 1.0))  # moves no beat of the song by more than 10 ms
    candidates = period_s * np.arange(1.0 - _SEARCH, 1.0 + _SEARCH, step)
    turns = 2j * np.pi * attacks[strong] / candidates[:, None]  # (candidates, attacks)
    agreement = sum(np.abs(np.exp(k * turns) @ heights[strong]) / k for k in (1, 2))
    return float(candidates[int(np.argmax(agreement))])


def _divides(period_s: float, attacks: Array, heights: Array) -> float:
    """1 where all attacks lie on halves or quarters of the beat; near 0 where they divide it in three."""
    turns = 2j * np.pi * attacks / period_s
    halves, quarters = (float(np.abs(np.exp(k * turns) @ heights)) for k in (2, 4))
    return max(halves, 0.85 * quarters) / float(heights.sum())


def _contrast(onsets: Onsets, period_s: float) -> float:
    """1 where nothing is struck half-way between beats, down to 0.75 where it is as strong as on them."""
    folded, _ = _fold(onsets.low + onsets.mid, period_s)
    on = int(np.argmax(folded))
    off = float(folded[(on + folded.size // 2) % folded.size])
    return 1.0 - 0.25 * off / max(float(folded[on]), 1e-9)


def _fold(strength: Array, period_s: float) -> tuple[Array, float]:
    """Mean strength over the phases of a period, and the length of one phase step in seconds."""
    from scipy.ndimage import gaussian_filter1d

    steps = max(8, round(period_s / HOP_S))
    phase = (np.arange(strength.size) * HOP_S / period_s) % 1.0
    index = np.minimum((phase * steps).astype(np.int64), steps - 1)
    total = np.bincount(index, strength, minlength=steps)
    mean = total / np.maximum(1, np.bincount(index, minlength=steps))
    return gaussian_filter1d(mean, 0.010 / HOP_S, mode="wrap"), period_s / steps


def _phase(strength: Array, period_s: float, attacks: Array, heights: Array) -> float:
    """Time of the first beat of a known period, in [0, period): the fold's peak, moved onto the attacks."""
    folded, step_s = _fold(strength, period_s)
    origin = (int(np.argmax(folded)) + 0.5) * step_s
    for tolerance_s in (period_s / 8, _HIT_S):
        offset = _residual(attacks, origin, period_s)
        near = np.abs(offset) < tolerance_s
        if near.any():
            origin += _weighted_median(offset[near], heights[near])
    return float(origin % period_s)


def _fit_constant(strength: Array, period_s: float, attacks: Array, heights: Array) -> tuple[float, float]:
    """Origin and period of the constant grid through the attacks, by least squares over those on beats."""
    origin = _phase(strength, period_s, attacks, heights)
    for tolerance_s in (period_s / 8, _HIT_S, _HIT_S):
        offset = _residual(attacks, origin, period_s)
        near = np.abs(offset) < tolerance_s
        index = np.round((attacks[near] - origin) / period_s)
        if np.unique(index).size < 3:
            break
        slope, constant = np.polyfit(index, attacks[near], 1, w=np.sqrt(heights[near]))
        origin, period_s = float(constant), float(slope)
    return origin % period_s, period_s


def _rounded(bpm: float, seconds: float) -> float:
    """The nearest whole tempo where it moves no beat by more than 10 ms: projects mostly have such tempi."""
    whole = float(round(bpm))
    return whole if abs(bpm / whole - 1.0) * seconds < 0.010 else bpm


def _is_steady(times: Array, attacks: Array, heights: Array) -> bool:
    """Whether the grid holds throughout: no stretch of the song drifts from it or hits it far less than others."""
    strong = attacks[heights > 0.4 * np.quantile(heights, 0.9)]
    shares = []
    for stretch in np.array_split(times, max(1, times.size // 12)):
        offset = _to_nearest(stretch, strong)
        struck = np.abs(offset) < (times[1] - times[0]) / 4
        if struck.mean() < 0.25:
            continue  # a pause, or held notes
        if abs(float(np.median(offset[struck]))) > _HIT_S:
            return False
        shares.append(float(np.mean(np.abs(offset[struck]) < _HIT_S)))
    return not shares or (min(shares) >= 0.5 * max(shares) and float(np.median(shares)) >= 0.6)


def _residual(attacks: Array, origin: float, period_s: float) -> Array:
    """How far each attack lies from the nearest beat, in seconds."""
    return np.asarray((attacks - origin + period_s / 2) % period_s - period_s / 2)


def _to_nearest(times: Array, attacks: Array) -> Array:
    """From each time to the attack nearest to it, in seconds; `attacks` rise and are not empty."""
    after = np.searchsorted(attacks, times)
    left = attacks[np.maximum(after - 1, 0)] - times
    right = attacks[np.minimum(after, attacks.size - 1)] - times
    return np.where(np.abs(left) < np.abs(right), left, right)


def _grid(origin: float, period_s: float, seconds: float) -> Array:
    return np.asarray(origin + period_s * np.arange(max(1, int((seconds - origin) / period_s) + 1)))


def _confidence(times: Array, attacks: Array, onsets: Onsets) -> float:
    """The share of beats that are struck, less what chance would give, times how clearly the accents repeat.

    It is scaled down where fewer than `ENOUGH_BEATS` are heard: any few attacks lie on some even grid.
    """
    inside = times[times >= attacks[0] - _HIT_S]
    if not inside.size:
        return 0.0
    heard = np.count_nonzero(inside <= attacks[-1] + _HIT_S)
    chance = min(0.9, attacks.size * 2 * _HIT_S / onsets.seconds)
    struck = float(np.mean(np.abs(_to_nearest(inside, attacks)) < _HIT_S))
    regular = float(np.clip((struck - chance) / (1 - chance), 0.0, 1.0)) * _clarity(times, onsets.accents)
    return regular * min(1.0, heard / ENOUGH_BEATS)


def _clarity(times: Array, strength: Array) -> float:
    """1 where each 16 beats repeat after 1, 2 or 4 beats; noise stays under 0.3."""
    found = []
    for stretch in np.array_split(times, max(1, times.size // 16)):
        if stretch.size < 4:
            continue
        piece = strength[max(0, round(stretch[0] / HOP_S)) : round(stretch[-1] / HOP_S) + 1]
        correlation = _autocorrelation(piece)
        lags = np.array([1.0, 2.0, 4.0]) * float(np.median(np.diff(stretch))) / HOP_S
        lags = lags[:, None] + np.arange(-3, 4)
        found.append(float(np.interp(lags, np.arange(correlation.size), correlation, right=0.0).max()))
    return float(np.clip(np.mean(found) / _CLEAR, 0.0, 1.0)) if found else 0.0


def _track(strength: Array, period_s: float) -> Array:
    """Beats by dynamic programming (Ellis 2007) along a pulse whose length may change over the song."""
    from scipy.ndimage import gaussian_filter1d

    local = _local_periods(strength, period_s)
    smooth = gaussian_filter1d(strength, 0.010 / HOP_S) / max(float(strength.std()), 1e-9)
    total, previous = smooth.copy(), np.full(smooth.size, -1)
    for hop in range(smooth.size):
        pulse = local[hop] / HOP_S
        first, last = hop - round(1.6 * pulse), hop - round(0.6 * pulse)
        if last < 0:
            continue
        candidates = np.arange(max(0, first), last + 1)
        cost = np.log((hop - candidates) / pulse) ** 2
        values = total[candidates] - _TRACKING_TIGHTNESS * cost
        best = int(np.argmax(values))
        if values[best] > 0:
            total[hop] += values[best]
            previous[hop] = candidates[best]
    hop = max(0, total.size - round(period_s / HOP_S)) + int(np.argmax(total[-round(period_s / HOP_S) :]))
    beats = []
    while hop >= 0:
        beats.append(hop)
        hop = int(previous[hop])
    return _on_attacks(np.array(beats[::-1]) * HOP_S, *attack_times(strength))


def _local_periods(strength: Array, period_s: float) -> Array:
    """The beat's length around each hop: the smoothest path through the autocorrelations of 6 s windows."""
    window, jump = round(6.0 / HOP_S), round(0.75 / HOP_S)
    choices = period_s * np.geomspace(1 / _TEMPO_RANGE, _TEMPO_RANGE, 121)
    centres = np.arange(0, strength.size, jump)
    scores = np.zeros((centres.size, choices.size))
    for row, centre in enumerate(centres):
        piece = strength[max(0, centre - window // 2) : centre + window // 2]
        correlation = _autocorrelation(piece)
        lags = np.arange(correlation.size) * HOP_S
        scores[row] = sum(np.interp(k * choices, lags, correlation, right=0.0) for k in (1, 2, 4))
    apart = np.abs(np.arange(choices.size)[:, None] - np.arange(choices.size))
    path = _best_path(scores, 0.02 * apart)
    return np.asarray(np.interp(np.arange(strength.size), centres, choices[path]))


def _best_path(scores: Array, change_cost: Array) -> npt.NDArray[np.int64]:
    """Viterbi: one column per row of `scores`, with the largest sum less the cost of each change."""
    back = np.zeros(scores.shape, dtype=np.int64)
    total = scores[0]
    for row in range(1, len(scores)):
        arrivals = total[:, None] - change_cost
        back[row] = np.argmax(arrivals, axis=0)
        total = arrivals.max(axis=0) + scores[row]
    path = [int(np.argmax(total))]
    for row in range(len(scores) - 1, 0, -1):
        path.append(int(back[row][path[-1]]))
    return np.array(path[::-1])


def _on_attacks(times: Array, attacks: Array, heights: Array) -> Array:
    """Each beat moved onto the strongest attack within 40 ms, where there is one."""
    moved = times.copy()
    for index, at in enumerate(times):
        near = np.abs(attacks - at) < 0.04
        if near.any():
            moved[index] = attacks[near][int(np.argmax(heights[near]))]
    return moved


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(cumulative, cumulative[-1] / 2))])
