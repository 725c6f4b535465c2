"""Plays audio through a chain with pedalboard. What comes out is as long as what went in, and in time:
pedalboard takes back the latency of each effect, and a reverb's tail ends with the song."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bridge.audio import Samples, fit_length
from bridge.effects.chains import Chain, Effect, Mix, Plugin, Step, Value
from bridge.effects.plugin import run_plugin
from bridge.effects.table import EFFECTS, FREQUENCY_HZ, Choice
from bridge.errors import StageError

HIGHEST_SHARE_OF_RATE = 0.45  # of a filter's frequency


def render(
    chain: Chain, samples: Samples, sample_rate_hz: int, workdir: Path, report: Callable[[float, float], None]
) -> Samples:
    """`samples` through every step of the chain; (channels, frames) in and out, not clipped.

    Raises:
        StageError: an effect or plug-in fails, or gives samples that are not numbers.
    """
    total = len(chain.steps)
    report(0, total)
    for done, step in enumerate(chain.steps):

        def on_wait(done: int = done) -> None:
            report(done, total)

        wet = _apply(step, samples, sample_rate_hz, workdir, on_wait)
        samples = fit_length(wet, samples.shape[1])
        if not np.isfinite(samples).all():
            raise StageError(
                f"The effect {done + 1} ({_name(step)}) of the chain {chain.name!r} gives samples that are "
                "not numbers. Change its settings, or take it out."
            )
        report(done + 1, total)
    return samples


def _apply(
    step: Step, samples: Samples, sample_rate_hz: int, workdir: Path, on_wait: Callable[[], None]
) -> Samples:
    if isinstance(step, Plugin):
        return run_plugin(step, samples, sample_rate_hz, workdir, on_wait)
    try:
        wet = build(step, sample_rate_hz).process(samples, sample_rate_hz)
    except (ValueError, RuntimeError) as exc:
        raise StageError(f"The effect {_name(step)} failed: {exc}. Change or remove it.") from exc
    return np.asarray(wet, dtype=np.float32)


def build(step: Effect | Mix, sample_rate_hz: int) -> Any:
    """The pedalboard plug-in for a step."""
    import pedalboard

    if isinstance(step, Mix):
        branches = [[build(effect, sample_rate_hz) for effect in branch] for branch in step.branches]
        return pedalboard.Mix([pedalboard.Chain(branch) for branch in branches])
    plain: dict[str, Value] = {}
    words: dict[str, str] = {}
    for key, value in step.parameters.items():
        allowed = EFFECTS[step.type][key]
        if isinstance(allowed, Choice):
            words[key] = str(value)
        elif allowed is FREQUENCY_HZ:
            plain[key] = min(float(value), HIGHEST_SHARE_OF_RATE * sample_rate_hz)
        else:
            plain[key] = value
    effect = getattr(pedalboard, step.type)(**plain)
    for key, word in words.items():  # a word names a member of pedalboard's enumeration
        setattr(effect, key, type(getattr(effect, key)).__members__[word])
    return effect


def _name(step: Step) -> str:
    return step.type if isinstance(step, Effect) else type(step).__name__
