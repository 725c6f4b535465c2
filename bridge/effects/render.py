"""Plays audio through a chain with pedalboard. What comes out is as long as what went in, and in time:
pedalboard takes back the latency of each effect, and a reverb's tail ends with the song. It is worked on a block at a
time, from file to file, so that a long song takes no more memory than a short one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio, sound
from bridge.audio import Samples
from bridge.effects.chains import Chain, Effect, Mix, Plugin, Step, Value
from bridge.effects.plugin import run_plugin
from bridge.effects.stream import streamed
from bridge.effects.table import EFFECTS, FREQUENCY_HZ, Choice
from bridge.errors import StageError
from bridge.progress import Report
from bridge.sound import Sound
from bridge.stretches import Stretches, over_stretches

HIGHEST_SHARE_OF_RATE = 0.45  # of a filter's frequency
UNEVEN = frozenset({"PitchShift", "GSMFullRateCompressor"})
"""They give now more and now less than they take, which pedalboard loses count of from one call to the next."""

WHOLE = Stretches(length_s=120.0, around_s=2.0, seam_s=0.05)  # for them


def render(chain: Chain, source: Sound, path: Path, report: Report) -> None:
    """Write `source` through every step of the chain to `path`, a float WAV of its shape, not clipped.

    Raises:
        StageError: an effect or plug-in fails, or gives samples that are not numbers.
    """
    total = len(chain.steps)
    report(0, total)
    for done, step in enumerate(chain.steps):
        made = path.with_name(f"{path.stem}_{done + 1}.wav")
        name = f"The effect {done + 1} ({_name(step)}) of the chain {chain.name!r}"

        def within(frames: float, all_frames: float, done: int = done) -> None:
            report(done + frames / all_frames, total)

        _apply(step, source, made, name, within)
        if done:
            path.with_name(f"{path.stem}_{done}.wav").unlink()
        source = sound.of_file(made)
        report(done + 1, total)
    made.replace(path)


def _apply(step: Step, source: Sound, path: Path, name: str, report: Report) -> None:
    if isinstance(step, Plugin):
        run_plugin(step, source, path, lambda: report(0, 1))
        for _, block in sound.of_file(path).blocks():
            _check(block, name)
        return
    with audio.wav_writer(path, source.rate_hz, *source.shape, is_float=True) as file:
        done = 0
        for block in _blocks(step, source, report):
            _check(block, name)
            file.write(block.T)
            done += block.shape[1]
            report(done, source.frames)


def _blocks(step: Effect | Mix, source: Sound, report: Report) -> Iterator[Samples]:
    """What the step makes of the source, together as long as it."""
    if not _is_uneven(step):
        effect = build(step, source.rate_hz)
        yield from streamed(lambda samples: _processed(step, effect, samples, source.rate_hz, False), source)
        return

    def whole(samples: Samples, _report: Report) -> list[Samples]:
        wet = _processed(step, build(step, source.rate_hz), samples, source.rate_hz, True)
        return [audio.fit_length(wet, samples.shape[1])]

    for (made,) in over_stretches(source, WHOLE, whole, report):
        yield made


def _processed(step: Effect | Mix, effect: Any, samples: Samples, rate_hz: int, is_whole: bool) -> Samples:
    try:
        return np.asarray(effect.process(samples, rate_hz, reset=is_whole), dtype=np.float32)
    except (ValueError, RuntimeError) as exc:
        raise StageError(f"The effect {_name(step)} failed: {exc}. Change or remove it.") from exc


def _is_uneven(step: Effect | Mix) -> bool:
    effects = [effect for branch in step.branches for effect in branch] if isinstance(step, Mix) else [step]
    return any(effect.type in UNEVEN for effect in effects)


def _check(block: Samples, name: str) -> None:
    if not np.isfinite(block).all():
        raise StageError(f"{name} gives samples that are not numbers. Change its settings, or take it out.")


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
