"""The daemon as a process of its own, with real stages: what is dropped comes back, once, also after a restart."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge import manifest
from bridge.config import folders
from bridge.ledger import Ledger

RATE_HZ = 44_100
QUICK = """\
[separate]
engine = "spleeter"
[analyse]
"""

pytestmark = pytest.mark.real


class RunningDaemon:
    """`dawbridge run --json` as a child process."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.inbox = home / "inbox"
        self.outbox = home / "outbox"
        command = [sys.executable, "-m", "bridge", "run", "--json", "--preset", "quick"]
        command += ["--inbox", str(self.inbox), "--outbox", str(self.outbox), *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
        )
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._told.put(json.loads(line))

    def wait_for(self, event: str, timeout_s: float = 60.0, **wanted: Any) -> dict[str, Any]:
        until_s = time.monotonic() + timeout_s
        while True:
            message = self._told.get(timeout=max(0.01, until_s - time.monotonic()))
            if message["event"] == event and all(message.get(key) == value for key, value in wanted.items()):
                return message

    def tells_nothing(self, event: str, seconds: float) -> bool:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            try:
                if self._told.get(timeout=0.05)["event"] == event:
                    return False
            except queue.Empty:
                continue
        return True

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30.0)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return code


@pytest.fixture
def home(dawbridge_home: Path) -> Path:
    folders().presets.mkdir(parents=True)
    (folders().presets / "quick.toml").write_text(QUICK, encoding="utf-8")
    folders().config_file.write_text("settle_s = 0.3\nrescan_s = 1.0\n", encoding="utf-8")
    return dawbridge_home


@pytest.fixture
def daemon(home: Path) -> Iterator[RunningDaemon]:
    running = RunningDaemon(home)
    yield running
    running.end()


def export_from_daw(inbox: Path, name: str, *, seconds: float = 2.0, seed: int = 0) -> Path:
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    random = np.random.default_rng(seed)
    tone = 0.2 * np.sin(2 * np.pi * (220 + 20 * seed) * time_s) + random.normal(0, 0.02, time_s.size)
    part = inbox / f"{name}.part"
    soundfile.write(part, np.stack([tone, tone], axis=1), RATE_HZ, subtype="PCM_24", format="WAV")
    return part.rename(inbox / name)


def returned(outbox: Path) -> list[str]:
    return sorted(path.name for path in outbox.iterdir() if not path.name.startswith("."))


def test_a_bounce_comes_back_once_and_the_source_is_untouched(daemon: RunningDaemon) -> None:
    daemon.wait_for("ready")
    source = export_from_daw(daemon.inbox, "Song.wav")
    before = (source.read_bytes(), source.stat().st_mtime_ns)
    done = daemon.wait_for("job")
    assert (done["state"], done["detail"]) == ("done", "")
    assert manifest.verify(Path(done["folder"])) == ()
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before
    assert daemon.tells_nothing("job", 2.5)  # two rescans later: nothing was taken again
    assert returned(daemon.outbox) == ["Song"]


def test_the_same_audio_dropped_again_costs_nothing_and_new_audio_is_a_revision(
    daemon: RunningDaemon,
) -> None:
    daemon.wait_for("ready")
    export_from_daw(daemon.inbox, "Song.wav")
    daemon.wait_for("job")
    shutil.copy(daemon.inbox / "Song.wav", daemon.inbox / ".hidden.wav")
    (daemon.inbox / ".hidden.wav").rename(daemon.inbox / "Song.wav")
    started_s = time.monotonic()
    again = daemon.wait_for("job")
    assert again["state"] == "done"
    assert time.monotonic() - started_s < 5.0
    assert returned(daemon.outbox) == ["Song"]
    export_from_daw(daemon.inbox, "Song.wav", seed=1)
    assert daemon.wait_for("job")["folder"].endswith("Song (2)")


def test_a_returned_folder_that_was_deleted_is_published_again(daemon: RunningDaemon) -> None:
    daemon.wait_for("ready")
    source = export_from_daw(daemon.inbox, "Song.wav")
    folder = Path(daemon.wait_for("job")["folder"])
    shutil.rmtree(folder)
    os.utime(source)
    stage = daemon.wait_for("stage", stage="separate", state="cached")
    assert stage["state"] == "cached"
    assert Path(daemon.wait_for("job")["folder"]) == folder
    assert manifest.verify(folder) == ()


def test_a_broken_file_is_quarantined_with_its_reason_and_the_next_one_is_done(daemon: RunningDaemon) -> None:
    daemon.wait_for("ready")
    broken = daemon.inbox / "Broken.wav"
    broken.write_text("this is no audio")
    refused = daemon.wait_for("refused")
    assert "Broken.wav" in refused["detail"]
    assert broken.read_text() == "this is no audio"
    export_from_daw(daemon.inbox, "Song.wav")
    assert daemon.wait_for("job")["state"] == "done"
    ledger = Ledger(folders().ledger)
    states = {row.name: row.state for row in ledger.jobs()}
    ledger.close()
    assert states == {"Broken.wav": "quarantined", "Song.wav": "done"}


def test_a_name_that_is_no_text_stops_nothing(daemon: RunningDaemon) -> None:
    daemon.wait_for("ready")
    exported = export_from_daw(daemon.outbox, "plain.wav")
    exported.rename(daemon.inbox / os.fsdecode(b"bad\xff.wav"))
    assert "rename" in daemon.wait_for("refused")["detail"].lower()
    export_from_daw(daemon.inbox, "Song.wav")
    assert daemon.wait_for("job")["state"] == "done"


def test_it_works_on_when_nobody_listens_any_more(home: Path) -> None:
    (home / "inbox").mkdir()
    command = [sys.executable, "-m", "bridge", "run", "--json", "--preset", "quick"]
    command += ["--inbox", str(home / "inbox"), "--outbox", str(home / "outbox")]
    reading, writing = os.pipe()
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.DEVNULL) as process:
        os.close(writing)
        os.read(reading, 10)  # it is ready
        os.close(reading)
        export_from_daw(home / "inbox", "One.wav")
        export_from_daw(home / "inbox", "Two.wav", seed=1)
        until_s = time.monotonic() + 60.0
        while len(returned(home / "outbox")) < 2 and time.monotonic() < until_s:
            time.sleep(0.1)
        assert returned(home / "outbox") == ["One", "Two"]
        process.terminate()
        assert process.wait(30.0) == 0


def test_what_a_killed_process_began_is_taken_up(home: Path) -> None:
    (home / "inbox").mkdir()
    song = export_from_daw(home / "inbox", "Song.wav", seconds=20.0)
    command = [
        sys.executable,
        "-m",
        "bridge",
        "process",
        str(song),
        "--preset",
        "quick",
        "--out",
        str(home / "outbox"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ledger = Ledger(folders().ledger)
    until_s = time.monotonic() + 30.0
    while not any(row.state == "running" for row in ledger.jobs()) and time.monotonic() < until_s:
        time.sleep(0.05)
    process.kill()
    process.wait(10.0)
    ledger.close()
    daemon = RunningDaemon(home)
    assert daemon.wait_for("job")["state"] == "done"
    daemon.end()
    assert returned(daemon.outbox) == ["Song"]


def test_a_subfolder_named_after_a_role_says_what_the_bounce_is(daemon: RunningDaemon) -> None:
    daemon.wait_for("ready")
    (daemon.inbox / "bass").mkdir()
    export_from_daw(daemon.inbox / "bass", "Riff.wav")
    folder = Path(daemon.wait_for("job")["folder"])
    told = manifest.read_manifest(folder)
    assert told.bounce.role == "bass"
    assert [artifact.name for artifact in told.artifacts] == ["bass"]


def test_sigterm_ends_it_well_and_a_second_daemon_is_told_who_holds_the_folder(home: Path) -> None:
    first = RunningDaemon(home)
    first.wait_for("ready")
    second = RunningDaemon(home)
    assert second.process.wait(30.0) == 1
    assert second.process.stderr is not None
    assert f"process {first.process.pid}" in second.process.stderr.read()
    second.end()
    assert first.end(signal.SIGTERM) == 0


def test_sigterm_at_the_very_moment_it_is_ready_ends_it_well(home: Path) -> None:
    daemon = RunningDaemon(home)
    daemon.wait_for("ready")
    assert daemon.end(signal.SIGTERM) == 0
    assert not (folders().state / "daemon.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_restarted_daemon_goes_on_with_what_it_had(home: Path, number: int) -> None:
    first = RunningDaemon(home)
    first.wait_for("ready")
    export_from_daw(first.inbox, "Song.wav", seconds=20.0)
    first.wait_for("stage", stage="separate", state="running")
    first.end(number)
    assert returned(first.outbox) == []
    second = RunningDaemon(home)
    done = second.wait_for("job")
    assert done["state"] == "done"
    assert second.tells_nothing("job", 1.5)
    second.end()
    assert returned(second.outbox) == ["Song"]
    assert manifest.verify(Path(done["folder"])) == ()


def test_a_bounce_exported_while_the_daemon_was_off_is_found_at_its_start(home: Path) -> None:
    (home / "inbox").mkdir()
    export_from_daw(home / "inbox", "Song.wav")
    daemon = RunningDaemon(home)
    assert daemon.wait_for("job")["state"] == "done"
    daemon.end()
