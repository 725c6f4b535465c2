"""Lays a straight line through MIDI clock ticks: which beat it is, and how long a beat lasts.

Least squares over at most one bar (97 ticks), cut short where the newest ticks tell of another tempo or
phase. Pure arithmetic on the moments passed in, integer nanoseconds; a tick costs about 40 microseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from bridge.tempo import beat_ns_to_bpm, bpm_to_beat_ns
from bridge.types import BeatLine

TICKS_PER_BEAT = 24
LOWEST_BPM = 20.0
HIGHEST_BPM = 400.0

_WINDOW_TICKS = 97  # both ends of one bar of four beats
_GAP_NS = 1_000_000_000
_GAP_TICKS = 12  # half a beat, where that is longer than the gap above
_STRANGE_NS = 250_000_000  # a stall's burst of late ticks looks like a fast clock for a moment
_STRANGE_TICKS = 4
_FIT_SLACK = 1.02  # a clock at exactly 20 or 400 bpm jitters across the border
_SHORTEST_TICK_NS = bpm_to_beat_ns(HIGHEST_BPM) / TICKS_PER_BEAT / _FIT_SLACK
_LONGEST_TICK_NS = bpm_to_beat_ns(LOWEST_BPM) / TICKS_PER_BEAT * _FIT_SLACK

_LEAST_SPREAD_NS = 1.5e6  # what an audio period of 256 frames makes, which may stay hidden for bars
_SPREAD_BELIEVED_TICKS = 12  # what the least one is worth at first
_SPREAD_MEMORY_TICKS = 96
_OUTLIER_SPREADS = 5.0
_DRIFT_SPREADS = 5.5  # one false alarm in 40 minutes of Gaussian jitter, none of flat jitter
_DRIFT_TICKS = 24  # the longest run of newest ticks that is tested
_VERDICT_TICKS = 4  # so many outliers in a row are no longer outliers
_NEAR_SPREADS = 2.0
_SHORT_RUN_TICKS = 6
_LONGEST_PERIOD_NS = 12e6  # an audio period of 512 frames, by which a steady clock may step
_PERIOD_SPREADS = 2.5
_FIRM_TICKS = 12  # a younger line can't tell a lost tick from its own error
_REST_TEMPO_DOUBT = 0.005  # how far a clock that paused is believed to come back at another tempo
_RELOCK_TEMPO_DOUBT = 0.02  # where too few ticks are known to tell the new tempo from the old
_PRIOR_FADES = 0.97  # per tick

_BOUNDED_FROM_TICKS = 48
_BOUNDED_KURTOSIS, _PEAKED_KURTOSIS = 2.1, 2.6  # uniform is 1.8, Gaussian 3

_Tick = tuple[int, int]  # its number, its moment in nanoseconds


@dataclass(frozen=True, slots=True)
class _Fit:
    """A line in (tick number, nanoseconds) through a window's mean point, and how firmly it stands."""

    ticks: int
    index: float
    at_ns: float
    tick_ns: float
    stiffness: float  # sum of squared distances from `index`, and the prior's share

    def at(self, index: int) -> float:
        return self.at_ns + (index - self.index) * self.tick_ns

    def doubt(self, index: int) -> float:
        """The standard error of a forecast of tick `index`, in spreads of one tick."""
        away = index - self.index
        return sqrt(1.0 + 1.0 / self.ticks + away * away / max(self.stiffness, 1e-3))


class TickFollower:
    """A follower of one MIDI clock, 24 ticks to the beat.

    The loop, as a PLL's: for a window of n ticks a tick that comes r late moves the line at that tick by
    4r/n and its tempo by 6r/n^2 per tick (least squares at the end of a window; Kay, Fundamentals of
    Statistical Signal Processing I, 3.6), so the forecast of a beat ahead moves by 5.7% of r once a bar has
    been heard. It has no steady error on a constant tempo. Where the jitter is bounded (flat, as an audio
    period makes it, kurtosis below 2.6) one cubic step towards the line of least fourth powers is added: it
    has two thirds of the error there, and moves twice as far for the outermost ticks. Gaussian jitter gets none.

    One tick off by more than five spreads (learned from the clock itself) is set aside: the line goes on
    through it. After four in a row, or where the newest 3 to 24 forecasts miss to one side together
    (recursive residuals: Brown, Durbin and Evans 1975), it decides: missed by whole ticks, ticks were lost or
    doubled and are renumbered; missed to both sides or all at once by an audio period, the clock jitters more
    than was known; else the tempo or phase has changed and the window begins anew there. Outside 20 to 400 bpm
    nothing is followed. Where a tick lasts nearly a whole number of audio periods (of 256 frames: 117 and 156
    bpm), ticks look even for bars and then step by one period; there the tempo is within about 1% only.
    """

    def __init__(self, bpm: float = 120.0) -> None:
        self.is_sane = True
        self._line: BeatLine | None = None
        self._beat_ns = bpm_to_beat_ns(bpm)
        self._origin: tuple[int, float] = (0, 0.0)  # a tick's number, its beat
        self._next = 0
        self._spread_ns = _LEAST_SPREAD_NS
        self._learned_ticks = _SPREAD_BELIEVED_TICKS
        self._window = _Window()
        self._fit: _Fit | None = None
        self._misses: deque[float] = deque(maxlen=_DRIFT_TICKS)  # newest first, in spreads
        self._outliers: list[_Tick] = []
        self._last_ns: int | None = None
        self._intervals_ns: deque[int] = deque(maxlen=5)
        self._strange_since_ns: int | None = None
        self._strange_ticks = 0

    @property
    def beat_ns(self) -> float:
        """Nanoseconds per beat: the last tempo within 20 to 400 bpm that was heard, or the first one given."""
        return self._beat_ns

    @property
    def heard_bpm(self) -> float:
        """What the newest five intervals' median says, in range or not; 0.0 before two ticks were heard."""
        if not self._intervals_ns:
            return 0.0
        middle_ns = sorted(self._intervals_ns)[len(self._intervals_ns) // 2]
        return beat_ns_to_bpm(max(1, middle_ns) * TICKS_PER_BEAT)

    @property
    def next_beat(self) -> float:
        """The beat that the next tick stands for."""
        return self._beat_of(self._next)

    def line(self) -> BeatLine | None:
        """The line through the ticks, laid at the newest one; None until a tick came since the restart."""
        return self._line

    def restart(self, beat: float) -> None:
        """The next tick is `beat`, at a phase of its own; the tempo is kept as what is likely."""
        self._window = _Window(self._prior(_REST_TEMPO_DOUBT))
        self._fit = self._line = None
        self._forget_misses()
        self._origin = (self._next, beat)

    def jump(self, beat: float) -> None:
        """The next tick is `beat`, and the clock ticks on as it did (a loop's end)."""
        self._origin = (self._next, beat)
        self._line = None
        self._publish()

    def tick(self, at_ns: int) -> None:
        """Hear one tick; a moment before the last one's counts as the last one's."""
        paused = self._note_interval(at_ns)
        at_ns = self._last_ns or 0
        index, self._next = self._next, self._next + 1
        if not self.is_sane:
            self._window, self._fit = _Window(), None
            self._forget_misses()
            return
        if paused:
            self._window, self._fit = _Window(self._prior(_REST_TEMPO_DOUBT)), None
            self._forget_misses()
        if self._fit is None:
            self._accept(index, at_ns)
        else:
            self._weigh(self._fit, index, at_ns)
        self._publish()

    def _note_interval(self, at_ns: int) -> bool:
        """Keep the interval and judge the clock's range; True where the clock had paused."""
        if self._last_ns is None:
            self._last_ns = at_ns
            return False
        interval_ns = max(0, at_ns - self._last_ns)
        self._last_ns += interval_ns
        self._intervals_ns.append(interval_ns)
        if LOWEST_BPM / _FIT_SLACK <= self.heard_bpm <= HIGHEST_BPM * _FIT_SLACK:
            self._strange_since_ns, self._strange_ticks, self.is_sane = None, 0, True
        else:
            self._note_strange(self._last_ns)
        return interval_ns > max(_GAP_NS, _GAP_TICKS * self._beat_ns / TICKS_PER_BEAT)

    def _note_strange(self, at_ns: int) -> None:
        if self._strange_since_ns is None:
            self._strange_since_ns = at_ns
        self._strange_ticks += 1
        lasted_ns = at_ns - self._strange_since_ns
        if lasted_ns >= _STRANGE_NS and self._strange_ticks > _STRANGE_TICKS:
            self.is_sane = False

    def _weigh(self, fit: _Fit, index: int, at_ns: int) -> None:
        doubt = fit.doubt(index)
        miss = (at_ns - fit.at(index)) / (self._spread_ns * doubt)
        if abs(miss) > _OUTLIER_SPREADS:
            self._outliers.append((index, at_ns))
            if len(self._outliers) >= _VERDICT_TICKS:
                self._decide(fit, self._outliers[-_VERDICT_TICKS:])
            return
        self._outliers.clear()
        if self._misses:
            self._learn_spread(miss - self._misses[0])
        self._misses.appendleft(miss)
        self._accept(index, at_ns)
        drifted = self._drifted_ticks()
        if drifted:
            self._decide(fit, self._window.newest(drifted))

    def _accept(self, index: int, at_ns: int) -> None:
        self._window.add(index, at_ns)
        self._fit = self._window.fit(self._spread_ns)

    def _learn_spread(self, difference: float) -> None:
        """From neighbours' difference, which a drifting tempo doesn't swell (von Neumann 1941)."""
        self._learned_ticks = min(self._learned_ticks + 1, _SPREAD_MEMORY_TICKS)
        grown = 1.0 + (difference * difference / 2.0 - 1.0) / self._learned_ticks
        self._spread_ns = max(_LEAST_SPREAD_NS, self._spread_ns * sqrt(grown))

    def _drifted_ticks(self) -> int:
        """How many of the newest ticks miss to one side beyond chance; 0 for none."""
        total, worst, drifted = 0.0, _DRIFT_SPREADS * _DRIFT_SPREADS, 0
        for ticks, miss in enumerate(self._misses, 1):
            total += miss
            if total * total > worst * ticks and ticks > 2:
                worst, drifted = total * total / ticks, ticks
        return max(drifted, _VERDICT_TICKS) if drifted else 0

    def _decide(self, fit: _Fit, ticks: list[_Tick]) -> None:
        """What ticks that miss the line together are: renumbered, jitter, or a new line."""
        self._forget_misses()
        self._window.drop(ticks[0][0])
        if len(self._window) >= _FIRM_TICKS:
            fit = self._window.fit(self._spread_ns)  # not bent by those in question
        misses_ns = [at_ns - fit.at(index) for index, at_ns in ticks]
        near_ns = _NEAR_SPREADS * self._spread_ns  # the first of them may still fit the line
        first = next((n for n, miss in enumerate(misses_ns[:-2]) if abs(miss) > near_ns), 0)
        lost = self._lost_ticks(misses_ns[first:]) if fit.ticks >= _FIRM_TICKS else 0
        if lost:
            self._next += lost
            self._readmit(ticks[:first] + [(index + lost, at_ns) for index, at_ns in ticks[first:]])
        elif self._is_jitter(misses_ns):
            self._readmit(ticks)
        else:
            self._relock(fit, ticks[first:] if len(ticks) <= _SHORT_RUN_TICKS else ticks)

    def _is_jitter(self, misses_ns: list[float]) -> bool:
        """Whether these are no more than a wider spread, which is then learned.

        So it is where ticks miss to both sides, or all at once by one audio period: a steady clock's ticks
        wait for the next period, and step by one each time that the tempo's remainder has added up.
        """
        limit_ns = _OUTLIER_SPREADS * self._spread_ns
        if -min(misses_ns) > limit_ns < max(misses_ns):
            self._spread_ns = sqrt(sum(miss * miss for miss in misses_ns) / len(misses_ns))
            return True
        nearest_ns, furthest_ns = min(map(abs, misses_ns)), max(map(abs, misses_ns))
        if limit_ns < nearest_ns and furthest_ns < min(_LONGEST_PERIOD_NS, nearest_ns + limit_ns / 2.0):
            self._spread_ns = max(self._spread_ns, furthest_ns / _PERIOD_SPREADS)
            return True
        return False

    def _readmit(self, ticks: list[_Tick]) -> None:
        self._window.extend(ticks)
        self._fit = self._window.fit(self._spread_ns)

    def _lost_ticks(self, misses_ns: list[float]) -> int:
        """By how many whole ticks these are late (lost before them) or early (doubled).

        0 where that fits no better than a tempo that changed, whose misses grow from tick to tick.
        """
        tick_ns, count = self._beat_ns / TICKS_PER_BEAT, len(misses_ns)
        lost = round(sum(misses_ns) / count / tick_ns)
        numbered = list(enumerate(misses_ns, 1))
        growth_ns = sum(n * miss for n, miss in numbered) / sum(n * n for n, _ in numbered)
        grown = sum((miss - n * growth_ns) ** 2 for n, miss in numbered)
        shifted = sum((miss - lost * tick_ns) ** 2 for miss in misses_ns)
        is_whole = shifted < self._spread_ns**2 * (count + 3.0 * sqrt(2.0 * count))
        return lost if is_whole and shifted < grown else 0

    def _relock(self, fit: _Fit, ticks: list[_Tick]) -> None:
        window = _Window()
        window.extend(ticks)
        found = window.fit(self._spread_ns)
        if not _is_in_range(found.tick_ns):  # a stall's late ticks, all at once
            self._outliers = ticks[1:]
            return
        if abs(found.tick_ns - fit.tick_ns) < 3.0 * self._spread_ns / sqrt(found.stiffness):
            window.prior = self._prior(_RELOCK_TEMPO_DOUBT)
            found = window.fit(self._spread_ns)
        self._window, self._fit = window, found

    def _prior(self, tempo_doubt: float) -> tuple[float, float] | None:
        """The known tempo, believed to that share of it, and its weight against ticks of the known spread."""
        if self._fit is None:
            return self._window.prior
        tick_ns = self._beat_ns / TICKS_PER_BEAT
        doubt_ns = tempo_doubt * tick_ns
        variance = self._spread_ns**2 / max(self._fit.stiffness, 1e-3) + doubt_ns**2
        return tick_ns, self._spread_ns**2 / variance

    def _forget_misses(self) -> None:
        self._misses.clear()
        self._outliers.clear()

    def _publish(self) -> None:
        fit, newest = self._fit, self._next - 1
        if fit is None:
            return
        if fit.stiffness > 0.0 and _is_in_range(fit.tick_ns):
            self._beat_ns = fit.tick_ns * TICKS_PER_BEAT
        self._line = BeatLine(self._beat_of(newest), round(fit.at(newest)), self._beat_ns)

    def _beat_of(self, index: int) -> float:
        origin_index, beat = self._origin
        return beat + (index - origin_index) / TICKS_PER_BEAT


class _Window:
    """The ticks of one straight stretch, with exact running sums, so that a fit costs the same for any length."""

    def __init__(self, prior: tuple[float, float] | None = None) -> None:
        self.prior = prior  # a tick's likely length in ns, and its weight as a sum of squared distances
        self._ticks: deque[_Tick] = deque()
        self._base: _Tick = (0, 0)  # keeps the sums small
        self._sums = (0, 0, 0, 0)

    def add(self, index: int, at_ns: int) -> None:
        if not self._ticks:
            self._base = (index, at_ns)
        self._ticks.append((index, at_ns))
        self._count(index, at_ns, 1)
        if len(self._ticks) > _WINDOW_TICKS:
            self._count(*self._ticks.popleft(), -1)
        if self.prior is not None:
            self.prior = (self.prior[0], self.prior[1] * _PRIOR_FADES)

    def __len__(self) -> int:
        return len(self._ticks)

    def extend(self, ticks: Iterable[_Tick]) -> None:
        for index, at_ns in ticks:
            self.add(index, at_ns)

    def newest(self, ticks: int) -> list[_Tick]:
        return list(self._ticks)[-ticks:]

    def drop(self, from_index: int) -> None:
        """Forget the ticks from number `from_index` on."""
        while self._ticks and self._ticks[-1][0] >= from_index:
            self._count(*self._ticks.pop(), -1)

    def fit(self, spread_ns: float) -> _Fit:
        """The line through the ticks; one tick alone takes the prior's tempo."""
        ticks = len(self._ticks)
        sum_x, sum_y, sum_xx, sum_xy = self._sums
        likely_ns, weight = self.prior or (0.0, 0.0)
        stiffness = (ticks * sum_xx - sum_x * sum_x) / ticks + weight
        slope_sum = (ticks * sum_xy - sum_x * sum_y) / ticks + weight * likely_ns
        tick_ns = slope_sum / stiffness if stiffness else 0.0
        index, at_ns = self._base[0] + sum_x / ticks, self._base[1] + sum_y / ticks
        fit = _Fit(ticks, index, at_ns, tick_ns, stiffness)
        return fit if ticks < _BOUNDED_FROM_TICKS else self._bounded(fit)

    def _bounded(self, fit: _Fit) -> _Fit:
        """One Newton step from least squares towards least fourth powers, as far as the jitter is flat."""
        middle, at_ns, tick_ns = fit.index, fit.at_ns, fit.tick_ns
        away = [index - middle for index, _ in self._ticks]
        misses = [y - at_ns - tick_ns * x for (_, y), x in zip(self._ticks, away, strict=True)]
        squares = [miss * miss for miss in misses]
        power = sum(squares)
        kurtosis = fit.ticks * sum([square * square for square in squares]) / max(power * power, 1.0)
        share = (_PEAKED_KURTOSIS - kurtosis) / (_PEAKED_KURTOSIS - _BOUNDED_KURTOSIS)
        if share <= 0.0 or power < fit.ticks:
            return fit
        cubes = [square * miss for square, miss in zip(squares, misses, strict=True)]
        gain = min(1.0, share) / (3.0 * power)
        at_ns += gain * sum(cubes)
        tick_ns += gain * fit.ticks / fit.stiffness * sum([c * x for c, x in zip(cubes, away, strict=True)])
        return _Fit(fit.ticks, middle, at_ns, tick_ns, fit.stiffness)

    def _count(self, index: int, at_ns: int, sign: int) -> None:
        x, y = index - self._base[0], at_ns - self._base[1]
        sum_x, sum_y, sum_xx, sum_xy = self._sums
        self._sums = (sum_x + sign * x, sum_y + sign * y, sum_xx + sign * x * x, sum_xy + sign * x * y)


def _is_in_range(tick_ns: float) -> bool:
    return _SHORTEST_TICK_NS <= tick_ns <= _LONGEST_TICK_NS
