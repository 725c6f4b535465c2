"""`again`, `forget` and `clean` on the command line, for real, without a daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge import audio, manifest
from bridge.config import folders
from bridge.midi import read_midi
from bridge.types import Phrase
from tests.song_a import RATE_HZ, true_stem
from tests.test_daemon import export_from_daw, returned

pytestmark = pytest.mark.real


def dawbridge(*arguments: str, code: int = 0) -> Any:
    command = [sys.executable, "-m", "bridge", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100.0, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def test_another_take_is_a_revision_from_what_is_kept(dawbridge_home: Path) -> None:
    outbox = dawbridge_home / "outbox"
    folders().presets.mkdir(parents=True)
    (folders().presets / "quick.toml").write_text('[separate]\nengine = "spleeter"\n[analyse]\n')
    folders().config_file.write_text(f'outbox = "{outbox.as_posix()}"\n')
    song = export_from_daw(dawbridge_home, "Riff_bass.wav")
    first = dawbridge("process", str(song), "--preset", "quick")
    assert first["state"] == "done" and list(folders().spool.glob("*.wav")) == []
    second = dawbridge("again", "Riff_bass", "--set", "analyse.bpm=100")
    assert {s["stage"]: s["state"] for s in second["stages"]} == {
        "separate": "cached",
        "analyse": "done",
        "export": "done",
    }
    assert Path(second["folder"]) == outbox / "Riff_bass (2)"
    told = manifest.read_manifest(Path(second["folder"]))
    assert told.tempo is not None and (told.tempo.bpm, told.bounce.role) == (100.0, "bass")
    assert manifest.verify(outbox / "Riff_bass") == manifest.verify(outbox / "Riff_bass (2)") == ()
    assert (outbox / "Riff_bass (2)" / "Riff_bass_log.txt").read_text().startswith("dawbridge ")
    same = dawbridge("again", first["id"], "--set", "analyse.bpm=100")
    assert same["folder"] == second["folder"]
    assert "Nothing would differ" in dawbridge("again", first["id"], code=1)
    assert dawbridge("jobs", "forget", first["id"])["state"] == "forgotten"
    assert [row["id"] for row in dawbridge("jobs")] == [second["id"]]
    would = dawbridge("clean", "--store", "--dry-run")
    assert would["store_bytes"] > 100_000
    assert dawbridge("clean", "--store") == would
    assert list(folders().store.glob("objects/*/*")) == []
    assert returned(outbox) == ["Riff_bass", "Riff_bass (2)"]


def test_another_seed_is_another_music_from_the_same_notes(dawbridge_home: Path) -> None:
    """`again --set generate.seed=N` with the real stages: only the music is written anew."""
    outbox = dawbridge_home / "outbox"
    folders().presets.mkdir(parents=True)
    preset = '[separate]\n[analyse]\n[transcribe]\n[generate]\nmode = "continue"\nbars = 2\n'
    (folders().presets / "take.toml").write_text(preset)
    folders().config_file.write_text(f'outbox = "{outbox.as_posix()}"\n')
    audio.write_float_wav(dawbridge_home / "Keys_other.wav", true_stem("other", 10.0), RATE_HZ)
    first = dawbridge("process", str(dawbridge_home / "Keys_other.wav"), "--preset", "take")
    assert first["state"] == "done"
    second = dawbridge("again", "Keys_other", "--set", "generate.seed=7")
    states = {stage["stage"]: stage["state"] for stage in second["stages"]}
    assert states == {
        "separate": "cached",
        "analyse": "cached",
        "transcribe": "cached",
        "generate": "done",
        "export": "done",
    }
    assert [Path(made["folder"]).name for made in (first, second)] == ["Keys_other", "Keys_other (2)"]

    def read(name: str) -> list[Phrase]:
        paths = [Path(made["folder"], f"Keys_other_{name}.mid") for made in (first, second)]
        return [read_midi(path, RATE_HZ)[0] for path in paths]

    heard, again = read("notes")
    assert heard.notes and heard == again
    went_on, otherwise = read("continuation")
    assert went_on.notes and otherwise.notes and went_on != otherwise
    assert went_on.length_beats == otherwise.length_beats
