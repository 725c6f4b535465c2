"""A folder as it comes back from a job, with as much in it as the live companion reads."""

from __future__ import annotations

from pathlib import Path

from bridge.manifest import (
    Manifest,
    ManifestArtifact,
    ManifestBounce,
    ManifestTempo,
    Software,
    write_manifest,
)
from bridge.midi import write_midi
from bridge.tempo import constant_tempo
from bridge.types import Note, Phrase


def made_song(folder: Path, key: str | None = "Eb major", beats_per_bar: int = 4) -> Path:
    """A returned folder: a singer and a piano, six bars."""
    folder.mkdir()
    tempo = constant_tempo(96.0, 44_100, beats_per_bar=beats_per_bar)
    notes = tuple(
        Note(beat / 2, 0.5, pitch + beat % 3, 90, part)
        for beat in range(12 * beats_per_bar)
        for pitch, part in ((63, "vocals"), (51, "other"))
    )
    write_midi(folder / "Song_notes_quantised.mid", Phrase(notes, 6.0 * beats_per_bar), tempo)
    artifact = ManifestArtifact("notes_quantised", "midi", "Song_notes_quantised.mid", "0" * 64)
    manifest = Manifest(
        schema=1,
        id="x",
        revision=1,
        created_at="2026-11-22T10:00:00Z",
        bounce=ManifestBounce("Song.wav", "0" * 64, "mix", 44_100, 2, 44_100, 0),
        preset="default",
        settings={},
        tempo=ManifestTempo(96.0, beats_per_bar, 4, 0, (), "sidecar", 1.0),
        key=key,
        sings=True,
        artifacts=(artifact,),
        stages=(),
        fallbacks=(),
        voice=None,
        software=Software("0.1.0"),
    )
    write_manifest(folder, manifest)
    return folder
