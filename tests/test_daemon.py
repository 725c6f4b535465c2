"""The daemon as a process of its own, with real stages: what is dropped comes back, once, also after a restart."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge import manifest
from bridge.config import folders
from bridge.install import shipped_version
from bridge.ledger import Ledger
from bridge.store import Store

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


def test_what_is_exported_at_the_same_moment_comes_back_each_once(daemon: RunningDaemon) -> None:
    """Stems of one project, as a DAW writes them: all at once. One of them is another's very audio."""
    daemon.wait_for("ready")
    names = ["Song_bass.wav", "Song_drums.wav", "Song_other.wav", "Song.wav"]
    parts = [export_from_daw(daemon.inbox.parent, name, seed=seed) for seed, name in enumerate(names)]
    parts.append(Path(shutil.copyfile(parts[0], daemon.inbox.parent / "Copy_bass.wav")))
    for part in parts:
        part.rename(daemon.inbox / part.name)
    ended = [daemon.wait_for("job") for _ in parts]
    assert [job["state"] for job in ended] == ["done"] * 5
    assert daemon.tells_nothing("job", 2.5)
    assert returned(daemon.outbox) == ["Copy_bass", "Song", "Song_bass", "Song_drums", "Song_other"]
    assert all(manifest.verify(daemon.outbox / song) == () for song in returned(daemon.outbox))


def test_the_store_keeps_to_its_bound_and_what_came_back_stays(home: Path) -> None:
    (folders().presets / "quick.toml").write_text("[separate]\n", encoding="utf-8")
    folders().config_file.write_text("settle_s = 0.3\nstore_max_gb = 0.1\n", encoding="utf-8")
    daemon = RunningDaemon(home)
    try:
        daemon.wait_for("ready")
        for seed in range(3):  # each leaves 42 MB in the store
            export_from_daw(daemon.inbox, f"Take{seed}_bass.wav", seconds=120.0, seed=seed)
            assert daemon.wait_for("job")["state"] == "done"
    finally:
        assert daemon.end() == 0
    kept = Store(folders().store).size_bytes()
    assert 80_000_000 < kept <= 100_000_000  # what was used last is still there
    assert returned(daemon.outbox) == ["Take0_bass", "Take1_bass", "Take2_bass"]
    assert all(manifest.verify(folder) == () for folder in daemon.outbox.glob("Take*"))


def test_a_ledger_damaged_while_it_runs_ends_the_daemon_and_the_next_start_mends_it(home: Path) -> None:
    daemon = RunningDaemon(home)
    daemon.wait_for("ready")
    export_from_daw(daemon.inbox, "One_bass.wav")
    assert daemon.wait_for("job")["state"] == "done"
    for path in folders().ledger.parent.glob(f"{folders().ledger.name}*"):
        path.write_bytes(b"this is no database " * (path.stat().st_size // 20 + 1))
    export_from_daw(daemon.inbox, "Two_bass.wav", seed=1)
    try:
        code = daemon.process.wait(30.0)
        assert daemon.process.stderr is not None
        said = daemon.process.stderr.read()
    finally:
        daemon.end()
    assert code != 0 and "damaged" in said and "Traceback" not in said

    daemon = RunningDaemon(home)
    try:
        daemon.wait_for("ready")
        assert daemon.wait_for("job", name="Two_bass.wav")["state"] == "done"
        assert daemon.tells_nothing("job", 2.5)
    finally:
        assert daemon.end() == 0
    assert returned(daemon.outbox) == ["One_bass", "Two_bass"]
    assert list(folders().ledger.parent.glob("ledger.sqlite.corrupt-*"))


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


class Script:
    """A script beside the daemon: it speaks HTTP, and it reads and drops files."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self.daemon = daemon
        state = json.loads(folders().http_state.read_text())
        self.url, self.port, self.token = state["url"], state["port"], state["token"]
        self._sent = 0

    def http(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=30.0) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read()

    def table(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        table: dict[str, Any] = json.loads(self.http(method, path, body)[1])
        return table

    def status(self) -> dict[str, Any]:
        path = self.daemon.outbox / ".dawbridge" / "status.json"
        table: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"jobs": [], "answers": {}}
        return table

    def wait(self, found: Callable[[], Any], seconds: float = 60.0) -> Any:
        until_s = time.monotonic() + seconds
        while not (value := found()):
            assert time.monotonic() < until_s, self.status()
            time.sleep(0.05)
        return value

    def drop(self, command: str, **fields: Any) -> dict[str, Any]:
        """A command as a file; its answer."""
        self._sent += 1
        command_id = f"test-{self._sent}"
        folder = self.daemon.inbox / ".dawbridge"
        folder.mkdir(exist_ok=True)
        part = folder / f"{command_id}.tmp"
        part.write_text(json.dumps({"schema": 1, "id": command_id, "command": command, **fields}))
        part.rename(folder / f"{command_id}.json")
        answer: dict[str, Any] = self.wait(lambda: self.status()["answers"].get(command_id))
        return answer


def test_a_song_comes_back_by_http_and_is_heard_of_on_the_way(daemon: RunningDaemon) -> None:
    ready = daemon.wait_for("ready")
    script = Script(daemon)
    assert ready["http"] == script.url
    with socket.create_connection(("127.0.0.1", script.port), timeout=60.0) as events:
        events.sendall(
            f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{script.port}\r\n"
            f"Authorization: Bearer {script.token}\r\n\r\n".encode()
        )
        source = export_from_daw(daemon.inbox, "Song.wav")
        heard = b""
        while b"event: job\n" not in heard:
            heard += events.recv(1 << 16)
    assert heard.index(b"event: queued") < heard.index(b"event: stage") < heard.index(b"event: job")
    (song,) = script.table("GET", "/returned")["returned"]
    assert (song["folder"], song["name"]) == ("Song", "Song.wav")
    assert script.table("GET", f"/jobs/{song['id']}")["state"] == "done"
    for artifact in song["artifacts"]:
        status, content = script.http("GET", f"/returned/{song['id']}/{artifact['name']}")
        assert status == 200
        assert content == (daemon.outbox / "Song" / artifact["path"]).read_bytes()
    again = script.table("POST", "/jobs", {"path": str(source), "role": "drums"})
    assert (again["ok"], again["job"] != song["id"]) == (True, True)
    assert daemon.wait_for("job", id=again["job"])["state"] == "done"
    assert script.http("POST", "/jobs", {"path": "/etc/passwd"})[0] == 400
    assert daemon.end() == 0
    assert not folders().http_state.exists()


def test_a_song_is_cancelled_and_retried_by_files_and_by_the_command_line(daemon: RunningDaemon) -> None:
    daemon.wait_for("ready")
    script = Script(daemon)
    export_from_daw(daemon.inbox, "Song.wav", seconds=30.0)
    daemon.wait_for("stage", stage="separate", state="running")
    (job,) = script.wait(lambda: [j for j in script.status()["jobs"] if j["state"] == "running"])
    assert (job["name"], job["stage"]) == ("Song.wav", "separate")
    assert script.drop("cancel", job=job["id"])["state"] == "cancelling"
    assert daemon.wait_for("job", id=job["id"])["state"] == "cancelled"
    assert returned(daemon.outbox) == []
    assert script.drop("cancel", job=job["id"])["code"] == "ended"
    command = [sys.executable, "-m", "bridge", "jobs", "retry", job["id"]]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=True).stdout
    assert told.split() == [job["id"], "queued"]
    assert daemon.wait_for("job", 100.0, id=job["id"])["state"] == "done"
    (back,) = script.wait(lambda: script.status()["returned"])
    assert (back["id"], back["folder"]) == (job["id"], "Song")
    assert not list((daemon.inbox / ".dawbridge").iterdir())


def test_a_script_tells_its_version_and_the_tempo_of_its_project(daemon: RunningDaemon) -> None:
    daemon.wait_for("ready")
    script = Script(daemon)
    transport = {"bpm": 97.5, "beats_per_bar": 3, "beat_unit": 4, "playing": False, "beat": 0.0}
    version = shipped_version()
    assert script.drop("hello", script="live", script_version=version, transport=transport) == {"ok": True}
    old = script.drop("hello", script="live", script_version="0")
    assert old["detail"] == daemon.wait_for("warning")["detail"]
    export_from_daw(daemon.inbox, "Song.wav", seconds=8.0)
    tempo = manifest.read_manifest(Path(daemon.wait_for("job")["folder"])).tempo
    assert tempo is not None
    assert (tempo.source, tempo.beats_per_bar) == ("transport", 3)
    assert abs(tempo.bpm - 97.5) < 0.5


def test_without_http_files_do_and_nothing_listens(home: Path) -> None:
    with folders().config_file.open("a") as file:
        file.write("[http]\nenabled = false\n")
    daemon = RunningDaemon(home)
    assert daemon.wait_for("ready")["http"] is None
    assert not folders().http_state.exists()
    daemon.end()
