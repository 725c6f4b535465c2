"""What reverberation, a backing voice and bleed cost a converted voice, and what each step of the stage gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from bridge.audio import Samples
from bridge.stages.convert import ConvertSettings
from tests.benchmarks import voice_material as material
from tests.benchmarks import voice_metrics as metrics
from tests.benchmarks.voice_material import Sung
from tests.benchmarks.voice_metrics import F0Errors
from tests.benchmarks.voice_rows import Row, converted, heard

SHARE = 1.0 / 3.0

OFF: dict[str, Any] = {
    "backing": "keep",
    "split": False,
    "dereverb": 0.0,
    "room": 0.0,
    "mend_f0": False,
    "tune": 0.0,
    "carry_loudness": False,
    "guard": False,
    "deess": 0.0,
}
"""Every step of the stage, switched off."""

ALONE: dict[str, dict[str, Any]] = {
    "split, backing muted": {"split": True, "backing": "mute"},
    "dereverb": {"dereverb": 1.0},
    "room": {"room": 1.0},
    "dereverb and room": {"dereverb": 1.0, "room": 1.0},
    "mend_f0": {"mend_f0": True},
    "carry_loudness": {"carry_loudness": True},
    "guard": {"guard": True},
    "deess": {"deess": 1.0},
}
"""Each step by itself. Tuning is left out: it is meant to change the pitch."""


ALL_ON: dict[str, Any] = {"split": True, "backing": "mute", "dereverb": 1.0, "room": 0.0, "mend_f0": True}
"""All steps that make the pitch safer; the room is given back to the ear alone, and the rest is as shipped."""


def reverb() -> list[Row]:
    """A room with a T60 of 0.8 s."""
    return _degraded("T60 0.8 s", material.in_room)


def dry() -> list[Row]:
    """Nothing is wrong with the vocal: what the steps do to it all the same."""
    return _degraded("dry", lambda vocal: vocal)


def backing() -> list[Row]:
    """Another voice under the lead."""
    return [
        *_degraded("backing -6 dB right", lambda dry: material.with_backing(dry, panned=True)),
        *_degraded("backing -6 dB centred", lambda dry: material.with_backing(dry, panned=False)),
    ]


def bleed() -> list[Row]:
    """The band under the voice."""
    return _degraded("bleed -10 dB", material.with_bleed)


def _degraded(name: str, degrade: Callable[[Sung], Sung]) -> list[Row]:
    """What `degrade` costs: with all steps off, with each alone and with all on.

    The floor is all off. The ceiling is the voice converted dry and degraded afterwards: nobody can hear more through that
    than the tracker. The goal is held against the dry voice with all steps on.
    """
    dry = material.sung(material.HIGH)
    spoilt = degrade(dry)
    clean, source = _errors(dry, converted(dry, **ALL_ON)), _errors(dry, spoilt.samples)
    ceiling = _told(_errors(dry, degrade(replace(dry, samples=converted(dry, **OFF))).samples))
    floor = _told(_errors(dry, converted(spoilt, **OFF)))
    rows = [
        Row(f"{name}: source, unconverted", _told(source)),
        Row(f"{name}: all off", floor, ceiling=ceiling),
    ]
    known = {field.name for field in fields(ConvertSettings)}
    for step, chosen in ALONE.items():
        if chosen.keys() <= known:
            rows.append(
                Row(
                    f"{name}: {step}",
                    _told(_errors(dry, converted(spoilt, **{**OFF, **chosen}))),
                    "",
                    floor,
                    ceiling,
                )
            )
    found = _errors(dry, converted(spoilt, **ALL_ON))
    rows.append(Row(f"{name}: all on", _told(found), "", floor, ceiling))
    return [*rows, *_lost(name, found, clean, source)]


def _lost(name: str, found: F0Errors, clean: F0Errors, source: F0Errors) -> list[Row]:
    most, least = clean.rmse_cents * (1.0 + SHARE), clean.right * (1.0 - SHARE)
    jumps, there = metrics.new_jumps(found, source), len(source.jumps)
    return [
        Row(f"{name}, all on: RMSE", found.rmse_cents, "cents", None, clean.rmse_cents, f"<= {most:.0f} cents", found.rmse_cents <= most),
        Row(f"{name}, all on: right within 50 cents", found.right, "%", None, clean.right, f">= {100 * least:.0f} %", found.right >= least),
        Row(f"{name}, all on: octave jumps that the source lacks", jumps, "", None, f"{there} in it", "0", jumps == 0),
    ]  # fmt: skip


def _errors(dry: Sung, samples: Samples) -> F0Errors:
    return metrics.f0_errors(dry.f0_hz, heard(samples))


def _told(errors: F0Errors) -> str:
    """Share within 50 cents; RMSE and median in cents; voicing errors; octave jumps per minute."""
    cents = f"{errors.rmse_cents:.0f} ({errors.median_cents:.0f}) c"
    return f"{100 * errors.right:.0f} %; {cents}; {100 * errors.voicing:.0f} %; {errors.jumps_per_min:.0f}"
