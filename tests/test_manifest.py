"""The manifest is what the contract says, is written the same each time, and tells when a file is gone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bridge.errors import ManifestError
from bridge.manifest import (
    Manifest,
    ManifestArtifact,
    ManifestBounce,
    ManifestStage,
    ManifestTempo,
    ManifestVoice,
    Software,
    describe_tempo,
    read_manifest,
    to_json,
    verify,
    write_manifest,
)
from bridge.sidecar import TempoChange
from bridge.tempo import tempo_from_changes
from bridge.types import Fallback, ModelRef

SCHEMA = json.loads(Path(__file__).with_name("test_manifest.schema.json").read_text(encoding="utf-8"))
VOCALS = b"vocals"
SHA256 = hashlib.sha256(VOCALS).hexdigest()

MANIFEST = Manifest(
    schema=1,
    id="1a2b3c",
    revision=1,
    created_at="2026-11-22T10:00:00Z",
    bounce=ManifestBounce("Söng 🎵.wav", SHA256, "mix", 48000, 2, 1843200, 0),
    preset="offline",
    settings={"separate": {"engine": "spleeter"}, "generate": {"seed": 7, "bars": 8}},
    tempo=ManifestTempo(100.0, 4, 4, 0, (TempoChange(96000, 101.0),), "estimated", 0.9),
    key="C major",
    sings=True,
    artifacts=(
        ManifestArtifact("vocals", "audio", "Song_vocals.wav", SHA256, 0, 1843200, approximate=True),
        ManifestArtifact("notes", "midi", "midi/Song_notes.mid", SHA256, 0, 1843200),
        ManifestArtifact("report", "report", "report.html", SHA256),
    ),
    stages=(ManifestStage("convert", "refused", "no_consent", 1.2, "no consent"),),
    fallbacks=(Fallback("separate", "htdemucs", "spleeter", "no network"),),
    voice=ManifestVoice("character"),
    software=Software("0.1.0", (ModelRef("vocals.onnx", SHA256, "MIT"),)),
)


def change(**changes: Any) -> Manifest:
    return dataclasses.replace(MANIFEST, **changes)


@pytest.mark.parametrize(
    "manifest",
    [
        MANIFEST,
        change(
            tempo=None, key=None, sings=None, artifacts=(), stages=(), fallbacks=(), voice=None, settings={}
        ),
        change(draft=True),
        change(replaces="0d1e2f"),
    ],
)
def test_what_is_written_fits_the_schema_and_is_read_again(tmp_path: Path, manifest: Manifest) -> None:
    path = write_manifest(tmp_path, manifest)
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), SCHEMA)
    assert path.name == "manifest.json"
    assert read_manifest(tmp_path) == manifest
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


def test_keys_stand_in_the_order_of_the_contract() -> None:
    table = json.loads(to_json(MANIFEST))
    assert list(table) == SCHEMA["required"]
    for part in ("bounce", "tempo", "voice", "software"):
        assert list(table[part]) == SCHEMA["properties"][part]["required"]
    artifact = SCHEMA["properties"]["artifacts"]["items"]["required"]
    assert [list(a) for a in table["artifacts"]] == [[*artifact, "approximate"], artifact, artifact]


def test_the_same_manifest_gives_the_same_bytes() -> None:
    shuffled = {"generate": {"bars": 8, "seed": 7}, "separate": {"engine": "spleeter"}}
    assert to_json(change(settings=shuffled)) == to_json(MANIFEST)


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    table = json.loads(to_json(MANIFEST)) | {"later": 1}
    table["artifacts"][0]["later"] = table["bounce"]["later"] = None
    (tmp_path / "manifest.json").write_text(json.dumps(table))
    assert read_manifest(tmp_path) == MANIFEST


def test_a_tempo_map_is_described_from_the_first_frame() -> None:
    tempo = tempo_from_changes([(0, 100.0), (96000, 101.0)], 48000, first_downbeat_frame=12)
    assert describe_tempo(tempo, "sidecar", 1.0) == ManifestTempo(
        100.0, 4, 4, 12, (TempoChange(96000, 101.0),), "sidecar", 1.0
    )


def set_in(table: Any, keys: str, value: Any) -> None:
    *parents, last = keys.split(".")
    for key in parents:
        table = table[int(key) if key.isdigit() else key]
    table[last] = value


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        ("schema", 2, "schema = 2 is newer than 1"),
        ("id", None, "id is missing"),
        ("id", 5, "id = 5 must be text"),
        ("bounce.frames", 0, "frames = 0 is out of range"),
        ("bounce.role", "guitar", "role = 'guitar'"),
        ("bounce", [], "bounce = .. must be a table"),
        ("software", None, "software is missing"),
        ("settings", [], "settings must hold one table"),
        ("settings", {"generate": 1}, "settings must hold one table"),
        ("tempo.confidence", 2, "confidence = 2.0 is out of range"),
        ("artifacts.1.name", "vocals", "vocals stands there twice"),
        ("artifacts.0.kind", "video", "kind = 'video'"),
        ("artifacts.0.sha256", "abc", "sha256 = 'abc' is no SHA-256"),
        ("artifacts.0.path", "../../etc/passwd", "must lead into the folder"),
        ("artifacts.0.path", "a/../../b.wav", "must lead into the folder"),
        ("artifacts.0.path", "/etc/passwd", "must lead into the folder"),
        ("artifacts.0.path", "C:/x.wav", "must lead into the folder"),
        ("artifacts.0.path", "a\\b.wav", "must lead into the folder"),
        ("artifacts.0.path", "", "must lead into the folder"),
        ("artifacts.0.path", ".", "must lead into the folder"),
        ("stages.0.state", "running", "state = 'running'"),
    ],
)
def test_nonsense_is_refused_with_file_key_and_value(
    tmp_path: Path, keys: str, value: Any, says: str
) -> None:
    table = json.loads(to_json(MANIFEST))
    set_in(table, keys, value)
    (tmp_path / "manifest.json").write_text(json.dumps(table))
    with pytest.raises(ManifestError, match=says) as caught:
        read_manifest(tmp_path)
    assert caught.value.message.startswith(str(tmp_path / "manifest.json"))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": NaN}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_a_manifest_that_lies_is_not_written(tmp_path: Path) -> None:
    twice = change(artifacts=(MANIFEST.artifacts[0], MANIFEST.artifacts[0]))
    outside = change(artifacts=(dataclasses.replace(MANIFEST.artifacts[0], path="../x.wav"),))
    for manifest in (twice, outside):
        with pytest.raises(ManifestError):
            write_manifest(tmp_path, manifest)
    assert list(tmp_path.iterdir()) == []


def test_missing_and_changed_files_are_told(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    (tmp_path / "midi").mkdir()
    for artifact in MANIFEST.artifacts:
        (tmp_path / artifact.path).write_bytes(VOCALS)
    assert verify(tmp_path) == ()
    (tmp_path / "midi/Song_notes.mid").unlink()
    (tmp_path / "Song_vocals.wav").write_bytes(b"other")
    changed, missing = verify(tmp_path)
    assert "(vocals) has changed" in changed and "(notes) is missing" in missing
