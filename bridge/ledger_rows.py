"""What the ledger holds, as values: jobs as they are shown, jobs as they can be run again, cached results."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bridge.types import Bounce, Fallback, JobState, StageEvent, StageState, TempoMap, TempoPoint

UNDER_WAY: tuple[JobState, ...] = ("queued", "running", "waiting")
"""States that a job does not end in."""


@dataclass(frozen=True)
class JobRow:
    """A job as `jobs` shows it."""

    id: str
    name: str
    source: str
    preset: str
    outbox: str
    state: JobState
    created_at: str
    finished_at: str | None
    folder: str | None  # where it came back
    code: str
    detail: str
    warnings: tuple[str, ...]
    project: str = ""  # the DAW's project and track, where a sidecar told them
    track: str = ""
    draft: bool = False
    replaces: str = ""  # the id of the draft that it replaces


@dataclass(frozen=True)
class KeptFile:
    """One artifact of a cached result."""

    name: str
    sha256: str
    suffix: str


@dataclass(frozen=True)
class Result:
    """What a stage once made from the same inputs."""

    files: tuple[KeptFile, ...]
    detail: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class StoredJob:
    """What is needed to take a job up again after a restart."""

    id: str
    source: Path
    bounce: Bounce
    preset: str
    settings: Mapping[str, Mapping[str, Any]]
    overrides: Mapping[str, Mapping[str, Any]]
    outbox: Path
    created_at: str
    fallbacks: tuple[Fallback, ...]
    warnings: tuple[str, ...]
    project: str
    track: str
    draft: bool
    replaces: str


@dataclass(frozen=True)
class SeenFile:
    """A file that was taken up, and is not again until it changes or is forgotten."""

    path: str
    job_id: str
    size: int
    mtime_ns: int


def job_row(row: sqlite3.Row) -> JobRow:
    """A row of `jobs`."""
    return JobRow(
        id=row["id"],
        name=row["name"],
        source=row["source"],
        preset=row["preset"],
        outbox=row["outbox"],
        state=row["state"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        folder=row["folder"],
        code=row["code"],
        detail=row["detail"],
        warnings=tuple(json.loads(row["warnings"])),
        project=row["project"],
        track=row["track"],
        draft=bool(row["draft"]),
        replaces=row["replaces"],
    )


def stored_job(row: sqlite3.Row) -> StoredJob:
    """A row of `jobs` that holds a bounce."""
    return StoredJob(
        id=row["id"],
        source=Path(row["source"]),
        bounce=_bounce_from_table(json.loads(row["bounce"])),
        preset=row["preset"],
        settings=json.loads(row["settings"]),
        overrides=json.loads(row["overrides"]),
        outbox=Path(row["outbox"]),
        created_at=row["created_at"],
        fallbacks=tuple(Fallback(**table) for table in json.loads(row["fallbacks"])),
        warnings=tuple(json.loads(row["warnings"])),
        project=row["project"],
        track=row["track"],
        draft=bool(row["draft"]),
        replaces=row["replaces"],
    )


def stage_event(row: sqlite3.Row) -> StageEvent:
    """A row of `stages`."""
    state: StageState = row["state"]
    return StageEvent(
        row["job_id"],
        row["stage"],
        state,
        row["done"],
        row["total"],
        tuple(json.loads(row["made"])),
        row["code"],
        row["detail"],
        row["seconds"],
    )


def bounce_to_table(bounce: Bounce) -> dict[str, Any]:
    """A bounce as JSON keeps it."""
    return {**asdict(bounce), "path": str(bounce.path)}


def _bounce_from_table(table: dict[str, Any]) -> Bounce:
    tempo = table.pop("tempo_map")
    tempo_map = None
    if tempo is not None:
        points = tuple(TempoPoint(**point) for point in tempo.pop("points"))
        tempo_map = TempoMap(points, **tempo)
    return Bounce(**{**table, "path": Path(table["path"]), "tempo_map": tempo_map})
