"""Values that cross borders between rooms and processes.

Frozen, picklable, and made of the standard library alone, so that every process may import them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Stem = Literal["vocals", "drums", "bass", "other"]
Role = Literal["mix", "vocals", "drums", "bass", "other"]
ArtifactKind = Literal["audio", "stems", "midi", "json", "report", "folder"]
StageState = Literal["running", "waiting", "done", "cached", "skipped", "refused", "failed"]
JobState = Literal["queued", "running", "waiting", "done", "failed", "quarantined", "cancelled"]
TempoSource = Literal["sidecar", "acid", "name", "transport", "set", "estimated"]

STEMS: tuple[Stem, ...] = ("vocals", "drums", "bass", "other")
ROLES: tuple[Role, ...] = ("mix", "vocals", "drums", "bass", "other")
PPQ = 480
"""Ticks per quarter note in every MIDI file we write."""


@dataclass(frozen=True)
class TempoPoint:
    """From `frame` on the tempo is `bpm`; `beat` is the quarter notes since the bounce's frame 0."""

    frame: int
    beat: float
    bpm: float


@dataclass(frozen=True)
class TempoMap:
    """Piecewise constant tempo of one bounce. Beats are quarter notes counted from frame 0."""

    points: tuple[TempoPoint, ...]  # the first one at frame 0, beat 0.0
    sample_rate_hz: int
    beats_per_bar: int = 4
    beat_unit: int = 4
    first_downbeat_frame: int = 0


@dataclass(frozen=True, slots=True)
class BeatLine:
    """Musical time laid on the monotonic clock: at `at_ns` it is beat `beat`, and a beat lasts `beat_ns`.

    Beats are quarter notes from the song's start; nanoseconds are `time.monotonic_ns()`'s.
    """

    beat: float
    at_ns: int
    beat_ns: float


@dataclass(frozen=True)
class Span:
    """A stretch of time in seconds from the bounce's first frame."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Bounce:
    """One settled, readable audio file in our private spool, with what is known of it."""

    path: Path  # the spool's copy, not the user's file
    name: str  # the user's file name, e.g. "Song.wav"
    sha256: str
    role: Role
    sample_rate_hz: int
    channels: int
    frames: int
    start_frames: int = 0  # where it stands on the DAW's timeline, at its own rate
    tempo_map: TempoMap | None = None  # known tempo, else None: analyse estimates it
    tempo_source: TempoSource = "estimated"
    key: str | None = None  # known key such as "C major"
    is_float: bool = False  # the file holds floating-point samples


@dataclass(frozen=True)
class Artifact:
    """A file or folder in the store, named by content."""

    name: str
    kind: ArtifactKind
    path: Path
    sha256: str


@dataclass(frozen=True)
class Transport:
    """What a DAW's script last told of its project, beside any bounce."""

    bpm: float  # quarter notes per minute
    beats_per_bar: int = 4
    beat_unit: int = 4
    playing: bool = False
    beat: float = 0.0  # quarter notes from the project's start
    track: str = ""  # the selected one
    project: str = ""


@dataclass(frozen=True)
class Peer:
    """Another dawbridge on the network, as it tells of itself: trust none of it."""

    name: str
    host: str  # an address
    port: int
    version: str
    needs_token: bool


@dataclass(frozen=True)
class Grid:
    """What `analyse` found: the song's own time, key, loudness, and who sings where."""

    tempo: TempoMap
    tempo_source: TempoSource
    tempo_confidence: float  # 0..1
    key: str  # "C major", "A minor", or "" where nothing tonal was heard
    key_confidence: float  # 0..1
    loudness_lufs: float  # integrated, -inf for silence
    true_peak_dbtp: float
    sings: bool
    singing: tuple[Span, ...]  # where somebody sings


@dataclass(frozen=True)
class Note:
    """One note; `start_beats` counts quarter notes from tick 0."""

    start_beats: float
    length_beats: float
    pitch: int  # MIDI 0..127
    velocity: int  # 1..127
    part: str  # vocals, drums, bass, other; lead, piano, guitar, strings for generated music


@dataclass(frozen=True)
class Phrase:
    """Notes of any number of parts, and the length up to end-of-track."""

    notes: tuple[Note, ...]
    length_beats: float


@dataclass(frozen=True)
class Preset:
    """A pipeline: for each stage that shall run, its frozen Settings dataclass."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ModelRef:
    """A model file that took part in making something."""

    name: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Fallback:
    """Something else was used than what the preset wanted, and why."""

    stage: str
    wanted: str
    used: str
    reason: str


@dataclass(frozen=True)
class Made:
    """A stage's answer: a file or folder per artifact name, all inside its working folder."""

    files: Mapping[str, Path]
    detail: str = ""  # one line for the musician
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON values for the manifest


@dataclass(frozen=True)
class Skip:
    """A stage's answer when there is sensibly nothing to do."""

    reason: str
    code: str = "nothing_to_do"


@dataclass(frozen=True)
class Context:
    """What a stage gets beside its artifacts and settings.

    `report(done, total)` tells how far it is (any unit, at least once a second or once a segment)
    and raises `errors.Cancelled` when the user asked to stop.
    """

    workdir: Path  # empty, private, on the store's file system
    models_dir: Path  # where weights live
    voices_dir: Path  # where voice folders live
    report: Callable[[float, float], None]
    thrifty: bool = False  # memory has run out before: take as little as possible, even if it takes longer


@dataclass(frozen=True)
class StageEvent:
    """Something happened to one stage of one job."""

    job_id: str
    stage: str
    state: StageState
    done: float = 0.0
    total: float = 0.0
    made: tuple[str, ...] = ()
    code: str = ""
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """One bounce on its way through one preset to one outbox."""

    id: str
    bounce: Bounce
    preset: Preset
    outbox: Path
    state: JobState
    created_at: str  # ISO 8601, UTC
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fallbacks: tuple[Fallback, ...] = ()
    warnings: tuple[str, ...] = ()
    project: str = ""  # the DAW's project and track, where a sidecar told them
    track: str = ""
    draft: bool = False  # made quickly, to be replaced by another job of the same bounce
    replaces: str = ""  # the id of the draft that this one replaces
