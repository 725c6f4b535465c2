"""The command line as a script or a musician meets it: exit codes, one clear line, JSON, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge import manifest
from bridge.config import folders
from bridge.ledger import Ledger

RATE_HZ = 44_100


@pytest.fixture(autouse=True)
def home(dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "200")
    return dawbridge_home


def dawbridge(*arguments: str | Path, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, env=os.environ
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def tone(
    path: Path, *, seconds: float = 1.0, rate_hz: int = RATE_HZ, channels: int = 2, subtype: str = "PCM_16"
) -> Path:
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    samples = np.repeat(0.3 * np.sin(2 * np.pi * 220 * time_s)[:, None], channels, axis=1)
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def halved(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def with_nan(path: Path) -> Path:
    samples = np.full((RATE_HZ, 2), 0.1)
    samples[100] = np.nan
    samples[200] = np.inf
    soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "half a WAV": (lambda d: halved(tone(d / "half.wav")), "cut off"),
    "half a FLAC": (lambda d: halved(tone(d / "half.flac", seconds=3.0)), "cut off"),
    "zero length": (lambda d: written(d / "zero.wav", b""), "empty"),
    "header only": (lambda d: written(d / "head.wav", tone(d / "x.wav").read_bytes()[:44]), "cut off"),
    "text named .wav": (lambda d: written(d / "text.wav", b"Dear DAW, " * 50), "no audio file"),
    "NaN and Inf": (lambda d: with_nan(d / "nan.wav"), "not numbers"),
    "silence": (lambda d: written(d / "s.wav", _silence(d / "s.wav")), "silent"),
    "0.3 s": (lambda d: tone(d / "short.wav", seconds=0.3), "0.30 s long"),
    "6 channels": (lambda d: tone(d / "six.wav", channels=6), "6 channels"),
    "a missing file": (lambda d: d / "missing.wav", "does not exist"),
    "a folder": (lambda d: d, "not a file"),
}


def _silence(path: Path) -> bytes:
    soundfile.write(path, np.zeros((RATE_HZ, 2)), RATE_HZ)
    return path.read_bytes()


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_in_one_line_with_exit_code_2(tmp_path: Path, what: str) -> None:
    make, says = BAD[what]
    path = make(tmp_path)
    before = path.read_bytes() if path.is_file() else None
    done = dawbridge("process", path, "--preset", "offline", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert says in done.stderr
    assert path.name in done.stderr
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "nosuch"], "no preset 'nosuch'"),
        (["--role", "kazoo"], "kazoo"),
        (["--set", "analyse"], "stage.key=value"),
        (["--set", "analyse.bpm=-3"], "out of range"),
        (["--set", "separate.engine=magic"], "must be one of"),
        (["--nosuch"], "No such option"),
    ],
)
def test_wrong_usage_has_exit_code_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = dawbridge("process", tone(tmp_path / "x.wav"), *arguments)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize("arguments", [["jobs"], ["config", "--init"]])
def test_a_home_that_cannot_be_made_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("DAWBRIDGE_HOME", str(written(tmp_path / "file", b"not a folder")))
    done = dawbridge(*arguments)
    assert done.returncode == 1
    assert "DAWBRIDGE_HOME" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_outbox_that_is_a_file_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = dawbridge("process", tone(tmp_path / "x.wav"), "--out", written(tmp_path / "file", b"x"))
    assert done.returncode == 2
    assert "can't be the outbox" in done.stderr


def test_a_wrong_configuration_has_exit_code_2_and_names_its_file() -> None:
    folders().config.mkdir(parents=True)
    folders().config_file.write_text("outbax = 'x'", encoding="utf-8")
    done = dawbridge("config")
    assert done.returncode == 2
    assert "outbax" in done.stderr
    assert str(folders().config_file) in done.stderr


@pytest.mark.real
def test_odd_names_and_formats_are_done(tmp_path: Path) -> None:
    songs = [
        tone(tmp_path / "a 🎸 .. b #1.wav"),
        tone(tmp_path / "eight.wav", rate_hz=96_000, subtype="PCM_U8"),
        tone(tmp_path / "mono.flac", channels=1),
    ]
    for song in songs:
        done = dawbridge(
            "process",
            song,
            "--preset",
            "stems-only",
            "--set",
            "separate.engine=spleeter",
            "--out",
            tmp_path / "out",
            "--json",
        )
        assert done.returncode == 0, done.stderr
        folder = Path(json.loads(done.stdout)["folder"])
        assert folder.parent == tmp_path / "out"
        assert folder.name.isascii()
        told = manifest.read_manifest(folder)
        info = soundfile.info(song)
        assert (told.bounce.name, told.bounce.sample_rate_hz, told.bounce.channels) == (
            song.name,
            info.samplerate,
            info.channels,
        )
        assert manifest.verify(folder) == ()


@pytest.mark.real
def test_a_voice_without_consent_is_refused_and_the_rest_is_delivered(tmp_path: Path) -> None:
    (folders().voices / "anna").mkdir(parents=True)
    (folders().voices / "anna" / "voice.toml").write_text('engine = "so-vits-svc"\n')
    done = dawbridge(
        "process", tone(tmp_path / "Line_vox.wav", seconds=2.0), "--preset", "offline", "--set", "convert.voice=anna",
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 1
    told = json.loads(done.stdout)
    convert = next(stage for stage in told["stages"] if stage["stage"] == "convert")
    assert (convert["state"], convert["code"]) == ("refused", "no_consent")
    names = [artifact.name for artifact in manifest.read_manifest(Path(told["folder"])).artifacts]
    assert "vocals" in names
    assert not {"voice", "lead"} & set(names)


@pytest.mark.real
def test_a_fallback_is_told_and_counts_under_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments: list[str | Path] = [
        "process",
        tone(tmp_path / "x.wav"),
        "--preset",
        "stems-only",
        "--json",
        "--out",
        tmp_path / "out",
    ]
    lenient = dawbridge(*arguments)
    assert lenient.returncode == 0
    told = json.loads(lenient.stdout)
    assert told["fallbacks"][0] | {"reason": ""} == {
        "stage": "separate",
        "wanted": "htdemucs",
        "used": "spleeter",
        "reason": "",
    }
    assert manifest.read_manifest(Path(told["folder"])).fallbacks[0].used == "spleeter"
    assert "spleeter instead of htdemucs" in lenient.stderr
    assert dawbridge(*arguments, "--strict").returncode == 1


def test_presets_models_and_config_speak_json() -> None:
    names = {row["name"] for row in json.loads(dawbridge("presets", "--json").stdout)}
    assert names == {"default", "offline", "stems-only", "midi-only", "voice-test"}
    models = {row["name"]: row for row in json.loads(dawbridge("models", "list", "--json").stdout)}
    assert {"htdemucs", "htdemucs_ft", "htdemucs_6s", "spleeter"} <= set(models)
    assert json.loads(dawbridge("config", "--json").stdout)["path"] == str(folders().config_file)
    assert json.loads(dawbridge("jobs", "--json").stdout) == []


def test_the_doctor_names_one_command_for_each_thing_that_lacks() -> None:
    done = dawbridge("doctor", "--json")
    findings = json.loads(done.stdout)
    assert {"Python", "packages", "outbox", "disk", "MIDI", "model htdemucs", "preset offline"} <= {
        finding["what"] for finding in findings
    }
    assert all(finding["verdict"] == "ok" or finding["remedy"] for finding in findings)
    assert done.returncode == 0


def test_the_doctor_tells_a_broken_preset() -> None:
    folders().presets.mkdir(parents=True)
    (folders().presets / "mine.toml").write_text("[mix]\nvolume = 11\n")
    done = dawbridge("doctor", "--json")
    mine = next(finding for finding in json.loads(done.stdout) if finding["what"] == "preset mine")
    assert (mine["verdict"], done.returncode) == ("missing", 1)
    assert "volume" in mine["detail"]


def test_a_broken_preset_of_ones_own_does_not_hide_the_others() -> None:
    folders().presets.mkdir(parents=True)
    (folders().presets / "mine.toml").write_text("[mix]\nvolume = 11\n")
    done = dawbridge("presets", "--json")
    rows = {row["name"]: row["description"] for row in json.loads(done.stdout)}
    assert "broken" in rows["mine"]
    assert "offline" in rows
    assert done.returncode == 0


def test_a_preset_without_an_inbox_is_wrong_usage() -> None:
    done = dawbridge("run", "--preset", "offline")
    assert done.returncode == 2
    assert "--inbox" in done.stderr


def test_names_that_the_terminal_cannot_write_are_written_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = dawbridge("process", tmp_path / "日本語.wav")
    assert done.returncode == 2
    assert r"\u65e5" in done.stderr


@pytest.mark.real
def test_two_at_once_on_the_same_file_give_one_folder(tmp_path: Path) -> None:
    song = tone(tmp_path / "Song.wav", seconds=3.0)
    command = [sys.executable, "-m", "bridge", "process", str(song), "--preset", "stems-only", "--json"]
    command += ["--set", "separate.engine=spleeter", "--out", str(tmp_path / "out")]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = [json.loads(process.communicate(timeout=90.0)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0]["folder"] == told[1]["folder"]
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == ["Song"]


@pytest.mark.real
def test_a_stem_that_was_moved_away_comes_back_as_a_revision(tmp_path: Path) -> None:
    arguments: list[str | Path] = ["process", tone(tmp_path / "x.wav"), "--preset", "stems-only", "--json"]
    arguments += ["--set", "separate.engine=spleeter", "--out", tmp_path / "out"]
    first = Path(json.loads(dawbridge(*arguments).stdout)["folder"])
    (first / "x_drums.wav").unlink()
    second = dawbridge(*arguments)
    assert second.returncode == 0
    folder = Path(json.loads(second.stdout)["folder"])
    assert folder.name == "x (2)"
    assert manifest.verify(folder) == ()


@pytest.mark.real
def test_ctrl_c_ends_it_in_one_line_and_keeps_what_is_finished(tmp_path: Path) -> None:
    song = tone(tmp_path / "Song.wav", seconds=30.0)
    command = [
        sys.executable,
        "-m",
        "bridge",
        "process",
        str(song),
        "--preset",
        "offline",
        "--out",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(2.0)  # in the middle of the worker's start or of its work
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60.0)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert "cancelled" in err
    assert [path.name for path in (tmp_path / "out").glob("*")] == []


def test_jobs_are_listed_with_their_reasons_and_watched_until_ctrl_c(tmp_path: Path) -> None:
    ledger = Ledger(folders().ledger)
    ledger.add_untaken(
        "refused-1", tmp_path / "Bad [take 2].wav", "offline", tmp_path, "incomplete", "it is cut off"
    )
    ledger.close()
    listed = dawbridge("jobs").stdout
    assert "Bad [take 2].wav" in listed
    assert "it is cut off" in listed
    watching = subprocess.Popen(
        [sys.executable, "-m", "bridge", "jobs", "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Who runs the tests in the background hands down that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(2.5)  # nothing tells through a pipe that it watches by now
    watching.send_signal(signal.SIGINT)
    with watching:
        out, err = watching.communicate(timeout=60.0)
    assert (watching.returncode, err) == (0, "")
    assert "refused-1" in out


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_without_a_daemon_nobody_cancels_or_retries_a_job_and_that_is_told(verb: str) -> None:
    done = dawbridge("jobs", verb, "abc")
    assert done.returncode == 1
    assert "No daemon runs. Start it with `dawbridge run`." in done.stderr


def test_peers_are_listed_as_json() -> None:
    done = dawbridge("peers", "--seconds", "0.3", "--json")
    assert done.returncode == 0
    assert all(
        {"name", "host", "port", "version", "needs_token"} == set(row) for row in json.loads(done.stdout)
    )


def test_unknown_models_are_told() -> None:
    done = dawbridge("models", "fetch", "nosuch")
    assert done.returncode == 2
    assert "no model 'nosuch'" in done.stderr


def test_config_init_writes_a_file_once() -> None:
    assert dawbridge("config", "--init").returncode == 0
    assert folders().config_file.exists()
    again = dawbridge("config", "--init")
    assert again.returncode == 2
    assert "exists already" in again.stderr
