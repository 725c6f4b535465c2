"""How well the tempo follower reads a jittering MIDI clock: `python -m tests.benchmarks.tempo_follower [--json FILE]`.

Prints one JSON object; seeds are fixed. Ticks arrive in order, so a late one holds up those behind it. Moments
are integer nanoseconds; the phase error is the line's at the newest tick against that tick's true moment.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bridge.live.follower import TICKS_PER_BEAT, TickFollower
from bridge.tempo import beat_ns_to_bpm, beat_to_ns, bpm_to_beat_ns

MS = 1e6
START_NS = 1e9
BAR_TICKS = 97  # both ends of a bar of four beats
TEMPOS_BPM = (60, 90, 117, 120, 150, 180)  # at 117 a tick is nearly four audio periods, the worst for those
PERIOD_NS = 256 / 48_000 * 1e9
STEADY_FROM = 48  # phase errors count from the third beat on

Arrival = Callable[[float], float]


def exact(_chance: random.Random) -> Arrival:
    return lambda at_ns: at_ns


def uniform(width_ms: float) -> Callable[[random.Random], Arrival]:
    return lambda chance: lambda at_ns: at_ns + chance.uniform(-width_ms / 2, width_ms / 2) * MS


def gaussian(std_ms: float) -> Callable[[random.Random], Arrival]:
    return lambda chance: lambda at_ns: at_ns + chance.gauss(0.0, std_ms) * MS


def audio_period(chance: random.Random) -> Arrival:
    """Each tick waits for the next period; where the periods lie is chance."""
    offset_ns = chance.uniform(0.0, PERIOD_NS)
    return lambda at_ns: -(-(at_ns + offset_ns) // PERIOD_NS) * PERIOD_NS - offset_ns


JITTERS: dict[str, Callable[[random.Random], Arrival]] = {
    "exact": exact,
    "uniform, 5 ms peak to peak": uniform(5.0),
    "uniform, +-5 ms": uniform(10.0),
    "Gaussian, std 5 ms": gaussian(5.0),
    "audio period of 256 frames": audio_period,
}


def true_moments(ticks: int, bpm_at: Callable[[float], float]) -> list[float]:
    """When ticks truly fall, in ns, at a tempo that depends on the beat."""
    moments, at_ns = [], START_NS
    for tick in range(ticks):
        moments.append(at_ns)
        at_ns += bpm_to_beat_ns(bpm_at(tick / TICKS_PER_BEAT)) / TICKS_PER_BEAT
    return moments


def heard(moments: Sequence[float], arrival: Arrival) -> Iterator[int]:
    """The same as they arrive, in order."""
    last_ns = 0
    for moment in moments:
        last_ns = max(last_ns, round(arrival(moment)))
        yield last_ns


def tempo_errors_percent(jitter: Callable[[random.Random], Arrival], bpm: float, seeds: int) -> list[float]:
    """How far the tempo is off after one bar, for each seed."""
    moments = true_moments(BAR_TICKS, lambda _: bpm)
    errors = []
    for seed in range(seeds):
        follower = TickFollower()
        for at_ns in heard(moments, jitter(random.Random(seed))):
            follower.tick(at_ns)
        errors.append(abs(beat_ns_to_bpm(follower.beat_ns) / bpm - 1.0) * 100.0)
    return errors


def errors_of(moments: Sequence[float], arrival: Arrival) -> Iterator[tuple[float, float]]:
    """After each tick: the tempo in bpm, and by how many ms the line is late (plus) or early."""
    follower = TickFollower()
    for tick, at_ns in enumerate(heard(moments, arrival)):
        follower.tick(at_ns)
        line = follower.line()
        assert line is not None
        late_ms = (beat_to_ns(line, tick / TICKS_PER_BEAT) - moments[tick]) / MS
        yield beat_ns_to_bpm(follower.beat_ns), late_ms


def ticks_to_relock(
    jitter: Callable[[random.Random], Arrival], seed: int, percent: float, before: float, after: float
) -> int:
    """Ticks after a step until the tempo is within `percent` and the phase within 3 ms, for good."""
    moments = true_moments(97 + 48, lambda beat: before if beat < 4.0 else after)
    relocked = 0
    for tick, (bpm, late_ms) in enumerate(errors_of(moments, jitter(random.Random(seed)))):
        if abs(bpm / after - 1.0) * 100.0 > percent or abs(late_ms) > 3.0:
            relocked = tick + 1
    return relocked - 96


def worst_phase_ms(
    jitter: Callable[[random.Random], Arrival], seed: int, before: float, after: float
) -> float:
    """The greatest phase error where the tempo glides over 8 beats, after 4 steady ones."""
    moments = true_moments(
        16 * TICKS_PER_BEAT, lambda beat: before + (after - before) * min(1.0, max(0.0, (beat - 4.0) / 8.0))
    )
    errors = list(errors_of(moments, jitter(random.Random(seed))))
    return max(abs(late_ms) for _, late_ms in errors[STEADY_FROM:])


def microseconds_per_tick(ticks: int = 10_000) -> float:
    """With a full window and jitter, which is the costly case."""
    moments = list(heard(true_moments(ticks, lambda _: 120.0), uniform(5.0)(random.Random(0))))
    follower = TickFollower()
    began = time.perf_counter()
    for at_ns in moments:
        follower.tick(at_ns)
    return (time.perf_counter() - began) / ticks * 1e6


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "p95": round(sorted(values)[int(len(values) * 0.95)], 4),
        "max": round(max(values), 4),
    }


def _tempo(name: str, seeds: int) -> dict[str, Any]:
    figures = {}
    for bpm in TEMPOS_BPM:
        errors = tempo_errors_percent(JITTERS[name], bpm, seeds)
        share = sum(error <= 0.1 for error in errors) / len(errors)
        figures[f"{bpm} bpm"] = {**_spread(errors), "share_within_0.1_percent": round(share, 3)}
    return figures


def measure(seeds: int = 100) -> dict[str, Any]:
    """All figures."""
    some = ("exact", "uniform, 5 ms peak to peak", "Gaussian, std 5 ms")
    return {
        "seeds": seeds,
        "tempo_error_percent_after_one_bar": {name: _tempo(name, seeds) for name in JITTERS},
        "step_90_to_140_ticks_until_relocked": {
            name: _spread(
                [
                    float(ticks_to_relock(JITTERS[name], seed, 0.5 if name == "exact" else 1.0, 90.0, 140.0))
                    for seed in range(seeds)
                ]
            )
            for name in some
        },
        "glide_100_to_120_over_8_beats_worst_phase_ms": {
            name: _spread([worst_phase_ms(JITTERS[name], seed, 100.0, 120.0) for seed in range(seeds // 2)])
            for name in some
        },
        "microseconds_per_tick": round(microseconds_per_tick(), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the tempo follower.")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args()
    text = json.dumps(measure(), indent=1)
    if chosen.json is not None:
        chosen.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
