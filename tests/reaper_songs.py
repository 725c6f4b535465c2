"""What the daemon leaves for REAPER's scripts in tests: inbox and outbox, returned songs, the status file."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bridge.manifest import (
    Manifest,
    ManifestArtifact,
    ManifestBounce,
    ManifestTempo,
    Software,
    write_manifest,
)
from bridge.midi import write_midi
from bridge.store import file_sha256
from bridge.tempo import constant_tempo
from bridge.types import Note, Phrase

SCRIPTS = Path(__file__).parents[1] / "daw_scripts" / "reaper"
RATE_HZ = 48_000
FRAMES = 24_000  # half a second
START_FRAMES = 408_000  # 8.5 s
STEMS = ("vocals", "drums", "bass", "other")
BPM = 96.0


@dataclass(frozen=True)
class Desk:
    """A musician's folders: the installed scripts, the inbox and the outbox."""

    scripts: Path
    inbox: Path
    outbox: Path

    def script(self, name: str) -> Path:
        """The path of an action, e.g. "send"."""
        return self.scripts / f"dawbridge_{name}.lua"

    def tell(self, **status: Any) -> None:
        """Write the status file as the daemon does."""
        table = {
            "schema": 1, "version": "0.1.0", "updated_at": "2026-11-25T10:00:00.000Z", "pid": 1, "scripts": "1",
            "jobs": [], "returned": [], "live": None, "answers": {},
        }  # fmt: skip
        path = self.outbox / ".dawbridge" / "status.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(table | status, indent=1))


def make_desk(folder: Path) -> Desk:
    """The scripts as `dawbridge install-scripts` leaves them, an inbox and an outbox."""
    desk = Desk(folder / "Scripts", folder / "in box", folder / "out box")
    shutil.copytree(SCRIPTS, desk.scripts)
    desk.inbox.mkdir()
    desk.outbox.mkdir()
    paths = {"inbox": str(desk.inbox), "outbox": str(desk.outbox), "version": "1"}
    (desk.scripts / "dawbridge_paths.json").write_text(json.dumps(paths))
    return desk


def return_song(
    outbox: Path,
    folder: str = "Song",
    *,
    job: str = "1a2b3c",
    revision: int = 1,
    created_at: str = "2026-11-22T10:00:00Z",
    start_frames: int = START_FRAMES,
    rate_hz: int = RATE_HZ,
    frames: int = FRAMES,
    gain: float = 0.5,
    name: str = "Song.wav",
) -> Path:
    """A returned folder: four stems (drums approximate), a lead, two notes as MIDI, a continuation, a report."""
    path = outbox / folder
    path.mkdir(parents=True)
    artifacts = [
        dataclasses.replace(
            _audio(path, part, start_frames, rate_hz, frames, gain), approximate=part == "drums"
        )
        for part in (*STEMS, "lead")
    ]
    artifacts.append(_midi(path, "notes", start_frames, ("vocals", "bass")))
    after = start_frames + frames
    artifacts.append(_midi(path, "continuation", after, ("lead",)))
    artifacts.append(_audio(path, "continuation_audio", after, rate_hz, frames // 2, gain))
    (path / "Song_report.html").write_text("<p>report")
    report = path / "Song_report.html"
    artifacts.append(ManifestArtifact("report", "report", report.name, file_sha256(report)))
    manifest = Manifest(
        schema=1,
        id=job,
        revision=revision,
        created_at=created_at,
        bounce=ManifestBounce(name, "0" * 64, "mix", rate_hz, 2, frames, start_frames),
        preset="offline",
        settings={},
        tempo=ManifestTempo(BPM, 4, 4, 0, (), "sidecar", 1.0),
        key="C major",
        sings=True,
        artifacts=tuple(artifacts),
        stages=(),
        fallbacks=(),
        voice=None,
        software=Software("0.1.0"),
    )
    write_manifest(path, manifest)
    return path


def change_manifest(folder: Path, **changes: Any) -> None:
    """Put other values into a manifest, by hand as it were."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _audio(
    path: Path, name: str, start_frames: int, rate_hz: int, frames: int, gain: float
) -> ManifestArtifact:
    file = path / f"Song_{name}.wav"
    noise = np.random.default_rng(len(name)).uniform(-gain, gain, (frames, 2))
    soundfile.write(file, noise, rate_hz, subtype="PCM_24")
    return ManifestArtifact(name, "audio", file.name, file_sha256(file), start_frames, frames)


def _midi(path: Path, name: str, start_frames: int, parts: tuple[str, ...]) -> ManifestArtifact:
    """For each part a quarter on beat 0 and an eighth on beat 2.5, in a bar of four."""
    file = path / f"Song_{name}.mid"
    notes = tuple(
        note
        for number, part in enumerate(parts)
        for note in (Note(0.0, 1.0, 60 + number, 90, part), Note(2.5, 0.5, 67 + number, 80, part))
    )
    write_midi(file, Phrase(notes, 4.0), constant_tempo(BPM, RATE_HZ))
    return ManifestArtifact(name, "midi", file.name, file_sha256(file), start_frames, None)
