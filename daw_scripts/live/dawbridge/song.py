"""A returned folder -> what to place where. Nothing is believed unseen: every file's digest is checked.

Runs in the worker's thread: it reads files and knows nothing of Live.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .midi_file import MAX_BYTES, MidiFile, parse_midi
from .problem import Problem

SCHEMA = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
CHUNK_BYTES = 4 << 20
MADE_AGAIN = "Have the song made again."
UPDATE = "Run: dawbridge install-scripts live, then restart Live."
TAKES_PLACE_OF = {"notes": "notes_quantised"}
"""Notes as played are left out where the same notes stand on the grid."""


@dataclass(frozen=True)
class Audio:
    """One returned sound."""

    name: str  # the artifact's: vocals, mix
    path: Path
    start_s: float  # on the DAW's timeline
    length_s: float


@dataclass(frozen=True)
class Midi:
    """One returned MIDI file."""

    name: str
    start_s: float  # of tick 0, on the DAW's timeline
    file: MidiFile


@dataclass(frozen=True)
class Song:
    """One returned folder, whole and checked."""

    title: str  # the folder's name
    folder: Path
    mark: str  # the same for the same content, never for another revision
    bpm: float | None  # at the bounce's first frame; None where nothing tells
    tempo_changes: bool
    tempo_from_daw: bool  # the project itself told its tempo
    audio: tuple[Audio, ...]
    midi: tuple[Midi, ...]
    is_draft: bool = False  # a better one follows
    replaces: str = ""  # the id of the draft that it replaces


def read_song(folder: Path) -> Song:
    """Read a returned folder and check it against its manifest.

    Raises:
        Problem: the manifest is missing, damaged or too new, or a file is missing or has changed.
    """
    raw = _read(folder / MANIFEST, MAX_MANIFEST_BYTES)
    try:
        return _song(folder, raw, json.loads(raw.decode("utf-8-sig")))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, OverflowError) as error:
        line = f"{folder.name}: {MANIFEST} is damaged ({_shown(error)}). {MADE_AGAIN}"
        raise Problem(line) from error


def _song(folder: Path, raw: bytes, table: Any) -> Song:
    if not isinstance(table, dict):
        raise ValueError("no object")
    schema = table.get("schema", SCHEMA)
    if type(schema) is not int or schema < 1:
        raise ValueError(f"schema = {schema!r}")
    if schema > SCHEMA:
        line = "{}: {} is of schema {}; this script knows {}. {}"
        raise Problem(line.format(folder.name, MANIFEST, schema, SCHEMA, UPDATE))
    rate = _count(table["bounce"]["sample_rate_hz"], 1)
    artifacts = {str(item["name"]): item for item in table["artifacts"]}
    left_out = {name for name, better in TAKES_PLACE_OF.items() if better in artifacts}
    audio: list[Audio] = []
    midi: list[Midi] = []
    for name, item in artifacts.items():
        start_s = _count(item.get("start_frames", 0), 0) / rate
        if item["kind"] == "audio":
            path = _checked(folder, item)
            audio.append(Audio(name, path, start_s, _count(item["frames"], 1) / rate))
        elif item["kind"] == "midi" and name not in left_out:
            midi.append(Midi(name, start_s, _midi(_checked(folder, item))))
    tempo: dict[str, Any] = table.get("tempo") or {}
    return Song(
        title=folder.name,
        folder=folder,
        mark="{}:{}:{}".format(table["id"], table["revision"], hashlib.sha256(raw).hexdigest()[:16]),
        bpm=_tempo(tempo.get("bpm")),
        tempo_changes=bool(tempo.get("changes")),
        tempo_from_daw=tempo.get("source") == "sidecar",
        audio=tuple(audio),
        midi=tuple(midi),
        is_draft=table.get("draft") is True,
        replaces=str(table.get("replaces") or ""),
    )


def _checked(folder: Path, item: dict[str, Any]) -> Path:
    """The file of an artifact, which is there and has not changed."""
    plain = str(item["path"])
    parts = PurePosixPath(plain).parts
    if not parts or plain.startswith("/") or ".." in parts or "\\" in plain or ":" in plain or "\0" in plain:
        raise ValueError(f"path = {plain!r} leads out of the folder")
    path = folder.joinpath(*parts)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
                digest.update(chunk)
    except OSError as error:
        line = f"{folder.name}: {plain} is missing ({error.strerror}). {MADE_AGAIN}"
        raise Problem(line) from error
    if digest.hexdigest() != item["sha256"]:
        raise Problem(f"{folder.name}: {plain} has changed since it was made. {MADE_AGAIN}")
    return path


def _midi(path: Path) -> MidiFile:
    try:
        return parse_midi(_read(path, MAX_BYTES))
    except ValueError as error:
        line = f"{path.parent.name}: {path.name} can't be read: {error}. {MADE_AGAIN}"
        raise Problem(line) from error


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        line = "{}: {} can't be read ({}). Is the outbox there?"
        raise Problem(line.format(path.parent.name, path.name, error.strerror)) from error
    if len(raw) > max_bytes:
        raise Problem(f"{path.parent.name}: {path.name} is larger than {max_bytes} bytes.")
    return raw


def _count(value: Any, lo: int) -> int:
    if type(value) is not int or not lo <= value < 2**53:
        raise ValueError(f"{value!r} is no count of frames")
    return value


def _tempo(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1.0 <= value <= 1e6:
        raise ValueError(f"bpm = {value!r}")
    return float(value)


def _shown(error: BaseException) -> str:
    missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return missing[:120]
