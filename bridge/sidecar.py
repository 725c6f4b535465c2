"""`Song.wav.dawbridge.json`: what the DAW knows of a bounce, put beside it before the audio gets its name.

Every field is optional. A sidecar that is nonsense is one `SidecarError`, which becomes a warning in
the job: the bounce is taken without it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bridge.atomic import replacing
from bridge.contracts import read_contract
from bridge.errors import SidecarError
from bridge.names import printable
from bridge.settings import setting
from bridge.types import Role

SCHEMA = 1
SUFFIX = ".dawbridge.json"
MAX_BYTES = 1 << 20
MAX_TEXT = 500
MIN_BPM, MAX_BPM = 20.0, 999.0
MAX_FRAMES = 2**53  # what every JSON reader holds exactly
REMEDY = "Mend or delete it, and export again."

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
KEY = re.compile(r"[A-G][#b]? (major|minor)")


@dataclass(frozen=True)
class TempoChange:
    """From `frames` after the bounce's first frame on, the tempo is `bpm`."""

    frames: int = field(metadata={"lo": 0, "hi": MAX_FRAMES})
    bpm: float = field(metadata={"lo": MIN_BPM, "hi": MAX_BPM})


@dataclass(frozen=True)
class SidecarTempo:
    """The project's tempo; `bpm` counts quarter notes and holds at the bounce's first frame."""

    bpm: float | None = setting(None, lo=MIN_BPM, hi=MAX_BPM)
    beats_per_bar: int = setting(4, lo=1, hi=64)
    beat_unit: int = setting(4, choices=(1, 2, 4, 8, 16, 32))
    changes: tuple[TempoChange, ...] = ()
    first_downbeat_frames: int | None = setting(None, lo=0, hi=MAX_FRAMES)  # after the bounce's first frame


@dataclass(frozen=True)
class Sidecar:
    """What stands in the file; None and "" mean that the DAW didn't say."""

    schema: int = SCHEMA
    tempo: SidecarTempo | None = None
    start_frames: int | None = setting(None, lo=0, hi=MAX_FRAMES)  # on the DAW's timeline, at the file's rate
    key: str = ""  # "C major", "F# minor"
    role: Role | None = None
    project: str = ""
    track: str = ""
    preset: str = ""
    voice: str = ""


def sidecar_path(audio: Path) -> Path:
    """Where the sidecar of an audio file stands: `Song.wav` -> `Song.wav.dawbridge.json`."""
    return audio.with_name(audio.name + SUFFIX)


def read_sidecar(path: Path) -> Sidecar:
    """Read and check a sidecar; unknown keys are ignored.

    Raises:
        SidecarError: unreadable, no JSON, of a higher schema, or a value that makes no sense.
    """
    sidecar = read_contract(
        Sidecar, path, schema=SCHEMA, max_bytes=MAX_BYTES, error=SidecarError, remedy=REMEDY
    )
    _check_changes(path, sidecar)
    _check_texts(path, sidecar)
    return sidecar


def write_sidecar(audio: Path, sidecar: Sidecar) -> Path:
    """Put `sidecar` beside `audio`, whole or not at all; what the DAW didn't say is left out."""
    path = sidecar_path(audio)
    with replacing(path) as file:
        file.write(json.dumps(_said(dataclasses.asdict(sidecar)), indent=1).encode("utf-8") + b"\n")
    return path


def _said(table: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _said(value) if isinstance(value, dict) else value for key, value in table.items()}
    return {key: value for key, value in kept.items() if value not in (None, "", (), {})}


def _check_changes(path: Path, sidecar: Sidecar) -> None:
    changes = sidecar.tempo.changes if sidecar.tempo else ()
    for before, after in pairwise(changes):
        if after.frames <= before.frames:
            raise SidecarError(
                f"{path}: tempo: changes: frames = {after.frames} follows {before.frames}; "
                f"changes must stand in rising order. {REMEDY}"
            )


def _check_texts(path: Path, sidecar: Sidecar) -> None:
    for key in ("preset", "voice"):
        value = getattr(sidecar, key)
        if value and not PLAIN_NAME.fullmatch(value):
            raise SidecarError(
                f"{path}: {key} = {value[:80]!r} is no plain name. "
                "Use up to 64 letters, digits, spaces, '.', '_' and '-'."
            )
    if sidecar.key and not KEY.fullmatch(sidecar.key):
        raise SidecarError(f"{path}: key = {sidecar.key[:80]!r} must be like 'C major' or 'F# minor'.")
    for key in ("project", "track"):
        value = getattr(sidecar, key)
        if len(value) > MAX_TEXT:
            raise SidecarError(f"{path}: {key} is longer than {MAX_TEXT} characters. Shorten it.")
        if printable(value) != value:  # JSON can say half a character; no file and no ledger can keep it
            raise SidecarError(f"{path}: {key} = {printable(value[:80])!r} holds what is no text. {REMEDY}")
