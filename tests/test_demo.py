"""The demo: the whole main job through a real daemon, on the song that ships, with nothing fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mido
import pytest

from bridge import manifest
from bridge.config import shipped
from bridge.demo import SONG, run_demo
from bridge.errors import StageError
from bridge.terminal import PipeSafeConsole, StageBars

EVERYTHING = [
    *("vocals", "drums", "bass", "other", "voice", "lead", "mix", "new_piece"),
    *("arrangement_audio", "continuation_audio"),
    *("notes", "notes_quantised", "arrangement", "continuation", "report"),
]


def test_the_song_that_ships_is_small_and_has_its_card() -> None:
    song = shipped("presets") / SONG
    assert song.stat().st_size < 3_000_000
    assert song.name in (song.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.real
def test_everything_comes_back_and_the_last_words_are_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bridge", "demo", "--out", str(tmp_path), "--json"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=offline)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    folder = Path(told["folder"])
    assert (told["state"], folder.parent) == ("done", tmp_path)
    assert manifest.verify(folder) == ()
    made = manifest.read_manifest(folder)
    assert [artifact.name for artifact in made.artifacts] == EVERYTHING
    assert {stage.stage: stage.state for stage in made.stages} == dict.fromkeys(made.settings, "done")
    assert made.tempo is not None
    assert (round(made.tempo.bpm, 1), made.key, made.sings, made.fallbacks) == (100.0, "C major", True, ())
    parts = {track.name for track in mido.MidiFile(folder / "Demo Song_notes.mid").tracks[1:]}
    assert parts == {"vocals", "drums", "bass", "other"}


def test_a_daemon_that_cannot_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.demo.PRESET", "nosuch")
    console = PipeSafeConsole(quiet=True)
    with pytest.raises(StageError, match="ended before the song came back"):
        run_demo(tmp_path, console, StageBars(console))
