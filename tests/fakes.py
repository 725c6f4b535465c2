"""A pipeline of small stages that obey files in their settings, for testing the job runner without models."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bridge.audio import write_float_wav
from bridge.errors import Refused, StageError
from bridge.pipeline import Stage, stage
from bridge.types import Artifact, Bounce, Context, Made, Skip


@dataclass(frozen=True)
class FakeSettings:
    """`do`: make | skip | fail | refuse | crash | wait (until cancelled) | fill (the disk, once) | memory."""

    do: str = "make"
    level: float = 0.1


calls: list[str] = []
"""Names of the stages that really ran, in order."""

ballast: list[Path] = []
"""Files that fill a disk; a stage told to `fill` takes all room once, then goes on."""

waiting = threading.Event()
"""Set once a stage waits to be cancelled."""


def obey(name: str, gives: tuple[str, ...], settings: FakeSettings, context: Context) -> Made | Skip:
    """What every fake stage does."""
    calls.append(name)
    context.report(1, 2)
    if settings.do == "skip":
        return Skip(f"{name} had nothing to do")
    if settings.do == "fail":
        raise StageError(f"{name} failed as told")
    if settings.do == "refuse":
        raise Refused(f"{name} was refused as told", "no_consent")
    if settings.do == "memory" and not context.thrifty:
        raise MemoryError
    if settings.do == "fill":
        fill(context.workdir)
    if settings.do == "crash":
        raise ZeroDivisionError(name)
    while settings.do == "wait":
        waiting.set()
        context.report(1, 2)
        time.sleep(0.01)
    files: dict[str, Path] = {}
    for artifact in gives:
        path = context.workdir / f"{artifact}.wav"
        own = settings.level + sum(map(ord, artifact)) / 1e4  # no two artifacts are equal
        write_float_wav(path, np.full((1, 1000), own, np.float32), 1000)
        files[artifact] = path
    return Made(files, f"{name} made {len(files)}", {"said": name})


def fill(folder: Path) -> None:
    """Take all room on the disk of `folder`, the first time."""
    if ballast:
        return
    ballast.append(folder.parent.parent / "ballast")
    with ballast[0].open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass


def separate(bounce: Bounce, *, settings: FakeSettings, context: Context) -> Made | Skip:
    """bounce -> stems"""
    return obey("separate", ("stems",), settings, context)


def analyse(
    bounce: Bounce, stems: Artifact | None, *, settings: FakeSettings, context: Context
) -> Made | Skip:
    """bounce, stems? -> grid"""
    return obey("analyse", ("grid",), settings, context)


def convert(stems: Artifact, grid: Artifact, *, settings: FakeSettings, context: Context) -> Made | Skip:
    """stems, grid -> voice"""
    return obey("convert", ("voice",), settings, context)


def effects(
    stems: Artifact, grid: Artifact, voice: Artifact | None, *, settings: FakeSettings, context: Context
) -> Made | Skip:
    """stems, grid, voice? -> lead"""
    return obey("effects", ("lead",), settings, context)


def report(
    bounce: Bounce, record: Artifact, lead: Artifact | None, *, settings: FakeSettings, context: Context
) -> Made | Skip:
    """Everything -> report: what it was told"""
    calls.append("report")
    if settings.do == "fill":
        fill(context.workdir)
    path = context.workdir / "report.html"
    path.write_bytes(record.path.read_bytes())
    return Made({"report": path})


def export(
    bounce: Bounce,
    record: Artifact,
    lead: Artifact | None,
    report: Artifact | None,
    *,
    settings: FakeSettings,
    context: Context,
) -> Made | Skip:
    """Everything -> a folder"""
    calls.append("export")
    if settings.do == "fill":
        fill(context.workdir)
    folder = context.workdir.parent.parent / "published"
    folder.mkdir(exist_ok=True)
    (folder / "record.json").write_bytes(record.path.read_bytes())
    if report is not None:
        (folder / "report.html").write_bytes(report.path.read_bytes())
    return Made({}, str(folder), {"folder": str(folder)})


def fake_pipeline() -> tuple[Stage, ...]:
    """The rows, as `pipeline.stage` builds them from real modules."""
    return (
        stage(_module(separate), needs=("bounce",), gives=("stems",), lane="heavy"),
        stage(_module(analyse), needs=("bounce",), wants=("stems",), gives=("grid",), lane="light"),
        stage(_module(convert, permit=_permit), needs=("stems", "grid"), gives=("voice",), lane="light"),
        stage(
            _module(effects),
            needs=("stems", "grid"),
            wants_if_asked=("voice",),
            gives=("lead",),
            lane="light",
        ),
        stage(_module(report), needs=("bounce", "record"), wants=("lead",), gives=("report",), lane="light"),
        stage(_module(export), needs=("bounce", "record"), wants=("lead", "report"), gives=(), lane="light"),
    )


consent = {"given": True}
"""What the fake consent check answers."""


def _permit(settings: FakeSettings, voices_dir: Path) -> dict[str, Any]:
    if not consent["given"]:
        raise Refused("the consent was revoked", "no_consent")
    return {"consent_sha256": None}


def _module(function: Any, **extra: Any) -> ModuleType:
    name = function.__name__
    module = ModuleType(f"fakes.{name}")
    vars(module).update(
        {name: function, f"{name.capitalize()}Settings": FakeSettings, "STAGE_VERSION": "1"} | extra
    )
    return module
