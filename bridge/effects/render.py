"""Plays audio through a chain with pedalboard. What comes out is as long as what went in, and in time:
pedalboard takes back the latency of each effect, and a reverb's tail ends with the song. It is worked on a block at a
time, from file to file, so that a long song takes no more memory than a short one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from bridge.progress import Report, part_of
from bridge.scratch import scratch
from bridge.sound import Sound
from bridge.stretches import Stretches, over_stretches

HIGHEST_SHARE_OF_RATE = 0.45  # of a filter's frequency
UNEVEN = frozenset({"PitchShift", "GSMFullRateCompressor"})
"""They give now more and now less than they take, which pedalboard loses count of from one call to the next."""

WHOLE = Stretches(length_s=120.0, around_s=2.0, seam_s=0.05)  # for them, and shorter above the usual rates,
USUAL_HZ = 48_000  # that a cancel be heard


def render(chain: Chain, source: Sound, path: Path, report: Report) -> None:
    """Write `source` through every step of the chain to `path`, a float WAV of its shape, not clipped.

    Raises:
        StageError: an effect or plug-in fails, or gives samples that are not numbers.
    """
    names = [
        f"The effect {number} ({_name(step)}) of the chain {chain.name!r}"
        for number, step in enumerate(chain.steps, 1)
    ]
    with scratch(path.parent) as folder:
        _through(list(zip(chain.steps, names, strict=True)), source, folder / "wet", report).replace(path)


def _through(steps: Sequence[tuple[Step, str]], source: Sound, path: Path, report: Report) -> Path:
    """The source through steps, each with its name, one after the other: the last one's file, beside `path`."""
    report(0, len(steps))
    before = None
    for done, (step, name) in enumerate(steps):
        made = path.with_name(f"{path.name}_{done}.wav")
        _apply(step, source, made, name, part_of(report, done, len(steps)))
        if before:
            before.unlink()
        source, before = sound.of_file(made), made
        report(done + 1, len(steps))
    assert before is not None  # a chain holds an effect
    return before


def _apply(step: Step, source: Sound, path: Path, name: str, report: Report) -> None:
    if isinstance(step, Mix):
        _mix(step, source, path, name, report)
    elif isinstance(step, Plugin):
        run_plugin(step, source, path, lambda: report(0, 1))
        for _, block in sound.of_file(path).blocks():
            _check(block, name)
    else:
        with audio.wav_writer(path, source.rate_hz, *source.shape, is_float=True) as file:
            done = 0
            for block in _blocks(step, source, report):
                _check(block, name)
                file.write(block.T)
                done += block.shape[1]
                report(done, source.frames)


def _mix(mix: Mix, source: Sound, path: Path, name: str, report: Report) -> None:
    """The branches together, each by itself: block by block, pedalboard's own Mix loses count of a late branch."""
    parts = [
        _through(
            [(effect, name) for effect in branch],
            source,
            path.with_name(f"{path.stem}_{index}"),
            part_of(report, index, len(mix.branches)),
        )
        for index, branch in enumerate(mix.branches)
    ]
    sound.write(sound.added([sound.of_file(part) for part in parts]), path)
    for part in parts:
        part.unlink()


def _blocks(effect: Effect, source: Sound, report: Report) -> Iterator[Samples]:
    """What the effect makes of the source, together as long as it."""
    rate_hz = source.rate_hz
    if effect.type not in UNEVEN:
        built = build(effect, rate_hz)
        yield from streamed(lambda samples: _processed(effect, built, samples, rate_hz, False), source)
        return

    def whole(samples: Samples, _report: Report) -> list[Samples]:
        wet = _processed(effect, build(effect, rate_hz), samples, rate_hz, True)
        return [audio.fit_length(wet, samples.shape[1])]

    cut = replace(WHOLE, length_s=WHOLE.length_s * min(1.0, USUAL_HZ / rate_hz))
    for (made,) in over_stretches(source, cut, whole, report):
        yield made


def _processed(effect: Effect, built: Any, samples: Samples, rate_hz: int, is_whole: bool) -> Samples:
    try:
        return np.asarray(built.process(samples, rate_hz, reset=is_whole), dtype=np.float32)
    except (ValueError, RuntimeError) as exc:
        raise StageError(f"The effect {effect.type} failed: {exc}. Change or remove it.") from exc


def _check(block: Samples, name: str) -> None:
    if not np.isfinite(block).all():
        raise StageError(f"{name} gives samples that are not numbers. Change its settings, or take it out.")


def build(step: Effect, sample_rate_hz: int) -> Any:
    """pedalboard's plug-in for an effect."""
    import pedalboard

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
