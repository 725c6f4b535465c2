"""`manifest.json`, the last file put into a returned folder: what came back, from what, made how.

Scripts in DAWs read it, so its keys change only with its schema number.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from bridge.atomic import replacing
from bridge.contracts import read_contract
from bridge.errors import ManifestError
from bridge.sidecar import TempoChange
from bridge.store import file_sha256
from bridge.types import Fallback, ModelRef, Role, TempoMap, TempoSource

SCHEMA = 1
NAME = "manifest.json"
MAX_BYTES = 16 << 20
REMEDY = "Have the song made again (`dawbridge process`)."
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ManifestBounce:
    """The file that was dropped in."""

    name: str  # the user's own file name
    sha256: str
    role: Role
    sample_rate_hz: int = field(metadata={"lo": 1})
    channels: int = field(metadata={"lo": 1})
    frames: int = field(metadata={"lo": 1})
    start_frames: int = field(metadata={"lo": 0})  # on the DAW's timeline


@dataclass(frozen=True)
class ManifestTempo:
    """The song's time; frames count from the bounce's first frame, `bpm` counts quarter notes."""

    bpm: float = field(metadata={"lo": 1.0})  # at the bounce's first frame
    beats_per_bar: int = field(metadata={"lo": 1})
    beat_unit: int = field(metadata={"lo": 1})
    first_downbeat_frames: int
    changes: tuple[TempoChange, ...]
    source: TempoSource
    confidence: float = field(metadata={"lo": 0.0, "hi": 1.0})


@dataclass(frozen=True)
class ManifestArtifact:
    """One returned file."""

    name: str
    kind: Literal["audio", "midi", "report"]
    path: str  # relative to the folder, with "/"
    sha256: str
    start_frames: int = 0  # where its first frame or tick 0 stands on the DAW's timeline
    frames: int | None = None  # length at the bounce's rate; None for a report
    synthetic: bool = False  # holds a synthetic voice or generated music
    approximate: bool = False  # a stem made by a rule of thumb, not by a trained separator


@dataclass(frozen=True)
class ManifestStage:
    """How one stage went."""

    stage: str
    state: Literal["done", "cached", "skipped", "refused", "failed"]
    code: str = ""  # why not done, e.g. "no_consent"
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class ManifestVoice:
    """The voice that took part."""

    name: str
    consent_sha256: str | None = None
    voice_sha256: str | None = None  # of its voice.toml, which names the model's digest


@dataclass(frozen=True)
class Software:
    """What made it."""

    dawbridge: str  # version
    models: tuple[ModelRef, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The whole file, in the order it is written; None where a job did not find out."""

    schema: int
    id: str
    revision: int
    created_at: str  # ISO 8601, UTC
    bounce: ManifestBounce
    preset: str
    settings: Mapping[str, Mapping[str, Any]]
    tempo: ManifestTempo | None
    key: str | None
    sings: bool | None
    artifacts: tuple[ManifestArtifact, ...]
    stages: tuple[ManifestStage, ...]
    fallbacks: tuple[Fallback, ...]
    voice: ManifestVoice | None
    software: Software
    draft: bool = False  # made quickly; a better revision follows
    replaces: str = ""  # the id of the draft that this one replaces


def describe_tempo(tempo: TempoMap, source: TempoSource, confidence: float) -> ManifestTempo:
    """A tempo map as the manifest states it."""
    first, *later = tempo.points
    return ManifestTempo(
        first.bpm,
        tempo.beats_per_bar,
        tempo.beat_unit,
        tempo.first_downbeat_frame,
        tuple(TempoChange(point.frame, point.bpm) for point in later),
        source,
        confidence,
    )


def to_json(manifest: Manifest) -> str:
    """The file's text: keys in the order of the contract, settings by name; the same each time."""
    table = dataclasses.asdict(manifest)
    table["settings"] = {
        stage: dict(sorted(keys.items())) for stage, keys in sorted(table["settings"].items())
    }
    for artifact in table["artifacts"]:
        if not artifact["approximate"]:
            del artifact["approximate"]
    for key in ("draft", "replaces"):
        if not table[key]:
            del table[key]
    return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Put the manifest into `folder`, whole or not at all.

    Raises:
        ManifestError: a name twice, a path out of the folder, or a digest that is none.
    """
    path = folder / NAME
    _check(path, manifest)
    with replacing(path) as file:
        file.write(to_json(manifest).encode("utf-8"))
    return path


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a returned folder; unknown keys are ignored.

    Raises:
        ManifestError: missing, damaged, of a higher schema, or a value that makes no sense.
    """
    path = folder / NAME
    manifest = read_contract(
        Manifest, path, schema=SCHEMA, max_bytes=MAX_BYTES, error=ManifestError, remedy=REMEDY
    )
    _check(path, manifest)
    return manifest


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether all returned files are there; `verify` looks into them too, which takes long."""
    return all((folder / artifact.path).is_file() for artifact in manifest.artifacts)


def verify(folder: Path) -> tuple[str, ...]:
    """What is missing or altered in a returned folder, one line each; empty where it is whole.

    Raises:
        ManifestError: as `read_manifest`.
    """
    problems: list[str] = []
    for artifact in read_manifest(folder).artifacts:
        path = folder / artifact.path
        if not path.is_file():
            problems.append(f"{path} ({artifact.name}) is missing.")
        elif file_sha256(path) != artifact.sha256:
            problems.append(f"{path} ({artifact.name}) has changed since it was made.")
    return tuple(problems)


def _check(path: Path, manifest: Manifest) -> None:
    tables: Any = manifest.settings
    if not isinstance(tables, Mapping) or not all(isinstance(keys, Mapping) for keys in tables.values()):
        raise ManifestError(f"{path}: settings must hold one table for each stage. {REMEDY}")
    names: set[str] = set()
    for artifact in manifest.artifacts:
        where = f"{path}: artifacts: {artifact.name}"
        if artifact.name in names:
            raise ManifestError(f"{where} stands there twice; names must be unique. {REMEDY}")
        names.add(artifact.name)
        if not _is_inside(artifact.path):
            raise ManifestError(
                f"{where}: path = {artifact.path!r} must lead into the folder, with '/'. {REMEDY}"
            )
        if not SHA256.fullmatch(artifact.sha256):
            raise ManifestError(f"{where}: sha256 = {artifact.sha256!r} is no SHA-256. {REMEDY}")


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    is_plain = "\\" not in path and ":" not in path and "\0" not in path
    return bool(parts) and is_plain and not path.startswith("/") and ".." not in parts
