"""Scripts without sockets are told what goes on and are obeyed, and nothing that lies in their folder can do harm."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge import filecontrol
from bridge.config import Folders, folders
from bridge.errors import LiveError, UsageError
from bridge.filecontrol import FileControl
from bridge.install import shipped_version
from bridge.ledger import Ledger, utc_now
from bridge.live.controls import COMMANDS
from bridge.returned import Shelf
from bridge.types import Bounce, Job, Preset, StageEvent
from tests.fakes import FakeSettings
from tests.returned_song import made_song
from tests.served import WritesDown


class WithCompanion(WritesDown):
    """A control whose companion is a table."""

    def __init__(self, where: Folders, ledger: Ledger, shelf: Shelf) -> None:
        super().__init__(where, ledger, shelf)
        self.companion: dict[str, Any] | None = None
        self.set: list[tuple[Any, Any]] = []

    def live(self) -> Mapping[str, Any] | None:
        return self.companion

    def live_set(self, name: Any, value: Any, timeout_s: float = 5.0) -> Mapping[str, Any]:
        if self.companion is None:
            raise LiveError("No companion runs.", "not_running")
        if value == 32:
            raise UsageError("out of range")
        self.set.append((name, value))
        self.companion["controls"][name] = value
        return {"ok": True, "name": name, "value": value}

    def live_command(self, name: Any) -> Mapping[str, Any]:
        if name not in COMMANDS:
            raise UsageError("no command")
        self.set.append((name, None))
        return {"ok": True}


class Desk:
    """A FileControl that is looked at by hand, with a clock that stands."""

    def __init__(self, home: Path) -> None:
        self.inbox, self.outbox = home / "inbox", home / "outbox"
        self.inbox.mkdir()
        self.outbox.mkdir()
        self.ledger = Ledger(folders().ledger)
        self.control = WithCompanion(folders(), self.ledger, Shelf(self.outbox))
        self.told: list[Mapping[str, Any]] = []
        self.now_s = 1000.0
        self.files = FileControl(
            self.control, [self.inbox], self.outbox, self.told.append, clock=lambda: self.now_s
        )
        self.files.look()

    @property
    def commands(self) -> Path:
        return self.inbox / ".dawbridge"

    def status(self) -> dict[str, Any]:
        table: dict[str, Any] = json.loads((self.outbox / ".dawbridge" / "status.json").read_text())
        return table

    def stamp(self) -> int:
        return (self.outbox / ".dawbridge" / "status.json").stat().st_ino

    def send(self, command: str, command_id: str = "c1", **fields: Any) -> dict[str, Any]:
        """Drop a command as a script does; its answer."""
        body = {"schema": 1, "id": command_id, "command": command, **fields}
        return self.drop(f"{command_id}.json", json.dumps(body).encode())

    def drop(self, name: str, content: bytes) -> dict[str, Any]:
        part = self.commands / f"{name}.tmp"
        part.write_bytes(content)
        part.rename(self.commands / name)
        self.files.look()
        answer: dict[str, Any] = self.status()["answers"].get(Path(name).stem, {})
        return answer


@pytest.fixture
def desk(dawbridge_home: Path) -> Iterator[Desk]:
    made = Desk(dawbridge_home)
    yield made
    made.ledger.close()


def add_job(desk: Desk, job_id: str, name: str = "Song.wav", **more: Any) -> None:
    bounce = Bounce(Path("x.wav"), name, "f" * 64, "mix", 48_000, 2, 96_000)
    preset = Preset("offline", {"separate": FakeSettings()})
    desk.ledger.add_job(
        Job(job_id, bounce, preset, desk.outbox, "queued", utc_now(), **more), Path("/in/Song.wav")
    )


# status


def test_the_status_tells_jobs_with_stage_and_progress_and_what_came_back(desk: Desk) -> None:
    for number in range(25):
        add_job(desk, f"old{number}")
    add_job(desk, "x", project="My Song", track="Master")
    made_song(desk.outbox / "Song (2)")
    desk.ledger.set_state("x", "done", folder=desk.outbox / "Song (2)")
    add_job(desk, "runs")
    desk.ledger.begin("runs")
    desk.ledger.record(StageEvent("runs", "separate", "done", 1.0, 1.0))
    desk.ledger.record(StageEvent("runs", "analyse", "running", 2.0, 8.0))
    desk.files.look()
    status = desk.status()
    assert (status["schema"], status["pid"], status["scripts"]) == (1, os.getpid(), shipped_version())
    assert len(status["jobs"]) == 20
    first, second = status["jobs"][:2]
    assert first == {
        "id": "runs", "name": "Song.wav", "preset": "offline", "state": "running", "stage": "analyse",
        "progress": 0.25, "detail": "", "folder": None, "draft": False,
    }  # fmt: skip
    assert (second["id"], second["progress"], second["stage"], second["folder"]) == ("x", 1.0, "", "Song (2)")
    assert status["returned"] == [
        {
            "id": "x", "folder": "Song (2)", "name": "Song.wav", "created_at": "2026-11-22T10:00:00Z", "revision": 1,
            "project": "My Song", "track": "Master", "draft": False, "replaces": "",
        }
    ]  # fmt: skip
    assert (status["live"], status["answers"]) == (None, {})


def test_the_status_is_written_when_something_changed_and_as_a_sign_of_life(desk: Desk) -> None:
    before = desk.stamp()
    for _ in range(3):
        desk.now_s += 1.0
        desk.files.look()
    assert desk.stamp() == before
    add_job(desk, "new")
    desk.files.look()
    changed = desk.stamp()
    assert changed != before
    told_at = desk.status()["updated_at"]
    desk.now_s += filecontrol.ALIVE_S
    time.sleep(0.002)
    desk.files.look()
    assert desk.stamp() != changed
    assert desk.status()["updated_at"] > told_at
    assert [path.name for path in (desk.outbox / ".dawbridge").iterdir()] == ["status.json"]


def test_a_companion_is_told_as_it_shows_itself(desk: Desk) -> None:
    desk.control.companion = {
        "state": {"bpm": 97.5},
        "controls": {"mode": "loop"},
        "ports": ["In"],
        "pid": 7,
        "api": "jack",
    }
    desk.files.look()
    assert desk.status()["live"] == {"state": {"bpm": 97.5}, "controls": {"mode": "loop"}, "ports": ["In"]}


def test_an_inbox_or_outbox_that_is_away_is_not_made_anew_and_is_served_again_when_it_is_back(
    desk: Desk,
) -> None:
    shutil.rmtree(desk.inbox)
    shutil.rmtree(desk.outbox)
    desk.now_s += 10.0
    desk.files.look()
    assert not desk.inbox.exists() and not desk.outbox.exists()
    desk.inbox.mkdir()
    desk.outbox.mkdir()
    desk.files.look()
    assert desk.send("hello", script="reaper", script_version=shipped_version()) == {"ok": True}


# commands


def test_commands_reach_the_daemon_and_the_companion_and_are_answered_by_their_id(desk: Desk) -> None:
    add_job(desk, "abc")
    desk.control.companion = {"controls": {}}
    assert desk.send("cancel", "c1", job="abc") == {"ok": True, "job": "abc", "state": "queued"}
    assert desk.send("retry", "c2", job="abc")["ok"]
    assert desk.send("live_set", "c3", name="mode", value="loop")["value"] == "loop"
    assert desk.send("live", "c4", name="panic") == {"ok": True}
    assert desk.control.asked == [{"name": "cancel", "job": "abc"}, {"name": "retry", "job": "abc"}]
    assert desk.control.set == [("mode", "loop"), ("panic", None)]
    assert list(desk.commands.iterdir()) == []
    assert list(desk.status()["answers"]) == ["c1", "c2", "c3", "c4"]


def test_the_last_twenty_answers_are_kept(desk: Desk) -> None:
    for number in range(30):
        desk.send("hello", f"c{number}", script="live", script_version=shipped_version())
    assert list(desk.status()["answers"]) == [f"c{number}" for number in range(10, 30)]


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"command": "cancel", "job": "nobody"}, "unknown_job", "no job 'nobody'"),
        ({"command": "cancel"}, "usage", "job must be text"),
        ({"command": "cancel", "job": ["x"]}, "usage", "job must be text"),
        ({"command": "cancel", "job": "../../x"}, "unknown_job", "no job"),
        ({"command": "rm"}, "usage", "command = 'rm' is unknown"),
        ({"command": None}, "usage", "unknown"),
        ({"command": {"x": 1}}, "usage", "unknown"),
        ({}, "usage", "unknown"),
        ({"schema": 2, "command": "hello"}, "usage", "schema = 2 is not 1"),
        ({"schema": "1"}, "usage", "schema"),
        ({"id": "other", "command": "hello"}, "usage", "id must be the file's name"),
        ({"command": "live", "name": "song"}, "usage", "no command"),
        ({"command": "live_set", "name": "mode", "value": "loop"}, "not_running", "No companion runs"),
        ({"command": "hello", "script": "x" * 600, "script_version": "1"}, "usage", "script must be text"),
        ({"command": "hello", "script": "x", "script_version": "1", "transport": 3}, "usage", "transport"),
        ({"command": "hello", "script": "x", "script_version": "1", "transport": {}}, "usage", "bpm is missing"),
        ({"command": "hello", "script": "x", "script_version": "1", "transport": {"bpm": 0}}, "usage", "bpm = 0.0"),
        ({"command": "hello", "script": "x", "script_version": "1", "transport": {"bpm": 9, "beat_unit": 3}}, "usage", "bpm"),
        ({"command": "hello", "script": "x", "script_version": "1", "transport": {"bpm": 99, "beat_unit": 3}}, "usage", "beat_unit = 3"),
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense_is_answered_with_the_reason(
    desk: Desk, fields: Mapping[str, Any], code: str, says: str
) -> None:
    answer = desk.drop("c1.json", json.dumps(fields).encode())
    assert (answer["ok"], answer["code"]) == (False, code)
    assert says in answer["detail"]
    assert list(desk.commands.iterdir()) == []
    assert desk.files.transport(600.0) is None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "usage"),
        (b"{", "usage"),
        (b"[]", "usage"),
        (b"\xff\xfe\x00", "usage"),
        (b"[" * 50_000, "usage"),
        (b'{"command": NaN}', "usage"),
        (b'{"command": ' + b"9" * 5000 + b"}", "usage"),
        (b'{"command": "hello", "x": "' + b"x" * 70_000 + b'"}', "too_large"),
        (b" " * 10_000_000, "too_large"),
    ],
)
def test_bytes_that_are_no_command_are_answered_and_removed(desk: Desk, content: bytes, code: str) -> None:
    answer = desk.drop("c1.json", content)
    assert (answer["ok"], answer["code"]) == (False, code)
    assert len(answer["detail"]) <= 600
    assert list(desk.commands.iterdir()) == []


def test_what_is_not_a_small_file_of_its_own_never_holds_the_daemon_up(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"command": "hello"}')
    (desk.commands / "link.json").symlink_to(secret)
    (desk.commands / "endless.json").symlink_to("/dev/zero")
    (desk.commands / "dangling.json").symlink_to(tmp_path / "nowhere")
    os.mkfifo(desk.commands / "pipe.json")
    (desk.commands / "folder.json").mkdir()
    (desk.commands / ".half.json").write_text("{")
    (desk.commands / "c9.json.tmp").write_text("{")
    started_s = time.monotonic()
    desk.files.look()
    assert time.monotonic() - started_s < 2.0
    answers = desk.status()["answers"]
    assert sorted(answers) == ["dangling", "endless", "link", "pipe"]
    assert not any(answer["ok"] for answer in answers.values())
    assert secret.read_text() == '{"command": "hello"}'
    assert sorted(path.name for path in desk.commands.iterdir()) == [
        ".half.json",
        "c9.json.tmp",
        "folder.json",
    ]


def test_a_folder_of_commands_that_is_a_link_is_not_touched(desk: Desk, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "settings.json").write_text('{"command": "hello"}')
    desk.commands.rmdir()
    desk.commands.symlink_to(precious, target_is_directory=True)
    desk.files.look()
    assert (precious / "settings.json").exists()
    assert desk.status()["answers"] == {}


@pytest.mark.parametrize("name", ["a b", "x" * 65, "söng", "a$b", "a\nb"])
def test_a_command_whose_name_is_no_plain_id_can_be_answered_to_nobody_and_is_told(
    desk: Desk, name: str
) -> None:
    desk.drop(f"{name}.json", b'{"command": "hello"}')
    assert desk.status()["answers"] == {}
    assert list(desk.commands.iterdir()) == []
    assert "no plain name" in desk.told[0]["detail"]


def test_a_listener_that_fails_keeps_no_script_from_its_answer(
    desk: Desk,
) -> None:
    def fails(message: Mapping[str, Any]) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    files = FileControl(desk.control, [desk.inbox], desk.outbox, fails, clock=lambda: desk.now_s)
    (desk.commands / "a b.json").write_bytes(b'{"command": "hello"}')  # told: it has no plain name
    (desk.commands / "c1.json").write_bytes(b'{"command": "none"}')
    files.look()
    assert desk.status()["answers"]["c1"]["code"] == "usage"
    assert list(desk.commands.iterdir()) == []


def test_a_flood_of_files_is_taken_bit_by_bit(desk: Desk) -> None:
    for number in range(filecontrol.MAX_COMMANDS + 20):
        (desk.commands / f"c{number:03}.json").write_text("{}")
    desk.files.look()
    assert len(list(desk.commands.iterdir())) == 20
    desk.files.look()
    assert list(desk.commands.iterdir()) == []


def test_a_command_that_cannot_be_deleted_is_obeyed_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    add_job(desk, "abc")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".json":
            raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        for _ in range(3):
            desk.send("cancel", job="abc") if not desk.control.asked else desk.files.look()
    assert desk.control.asked == [{"name": "cancel", "job": "abc"}]
    assert [told["detail"] for told in desk.told if "can't be deleted" in told["detail"]] != []
    assert len(desk.told) == 1


def test_what_nobody_can_delete_or_is_no_command_keeps_no_command_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for number in range(filecontrol.MAX_COMMANDS):
        (desk.commands / f"a{number:03}.json").write_text("{}")
    for number in range(2000):
        (desk.commands / f".left-{number}.tmp").touch()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        desk.files.look()
    add_job(desk, "abc")
    desk.send("cancel", "z", job="abc")
    assert desk.control.asked == [{"name": "cancel", "job": "abc"}]


def test_commands_that_take_long_do_not_silence_the_status(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(job_id: str) -> Mapping[str, Any]:
        desk.now_s += 5.0  # as where the daemon gives no answer
        return {}

    monkeypatch.setattr(desk.control, "cancel", slowly)
    for number in range(6):
        body = {"command": "cancel", "job": "abc"}
        (desk.commands / f"c{number}.json").write_text(json.dumps(body))
    desk.files.look()
    assert set(desk.status()["answers"]) == {"c0"}
    for _ in range(5):
        desk.files.look()
    assert len(desk.status()["answers"]) == 6


def test_a_fault_of_ours_is_its_answer_and_stops_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> Mapping[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.control, "cancel", breaks)
    assert desk.send("cancel", job="abc")["code"] == "unexpected"
    assert desk.send("hello", "c2", script="live", script_version=shipped_version())["ok"]


# hello


def test_a_script_that_is_older_is_told_once_and_answered_each_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filecontrol, "shipped_version", lambda: "1.10")
    for version, is_older in (
        ("1.9", True),
        ("1.9", True),
        ("1.10", False),
        ("2", False),
        ("1", True),
        ("x", True),
    ):
        answer = desk.send("hello", script="reaper", script_version=version)
        assert answer["ok"] and ("install-scripts" in answer.get("detail", "")) == is_older, version
    lines = [told["detail"] for told in desk.told]
    assert len(lines) == 3
    assert lines[0].startswith("The reaper script is version 1.9, this dawbridge ships 1.10.")
    assert {told["event"] for told in desk.told} == {"warning"}


TRANSPORT = {
    "bpm": 97.5,
    "beats_per_bar": 6,
    "beat_unit": 8,
    "playing": True,
    "beat": 12.5,
    "project": "Song",
}


def test_the_last_reported_transport_is_known_until_it_is_too_old(desk: Desk) -> None:
    assert desk.files.transport(600.0) is None
    desk.send("hello", script="live", script_version="1", transport=TRANSPORT)
    found = desk.files.transport(600.0)
    assert found is not None
    assert (found.bpm, found.beats_per_bar, found.beat_unit, found.project) == (97.5, 6, 8, "Song")
    desk.now_s += 599.0
    assert desk.files.transport(600.0) == found
    desk.now_s += 2.0
    assert desk.files.transport(600.0) is None


def test_numbers_as_lua_writes_them_and_keys_of_later_versions_are_understood(desk: Desk) -> None:
    table = {"bpm": 120, "beats_per_bar": 3.0, "beat_unit": 4.0, "playing": False, "beat": 0, "loop": [1, 2]}
    assert desk.send("hello", script="reaper", script_version="1", transport=table)["ok"]
    found = desk.files.transport(600.0)
    assert found is not None and (found.bpm, found.beats_per_bar) == (120.0, 3)


def test_the_companion_learns_the_metre_once_so_that_the_hand_can_still_change_it(desk: Desk) -> None:
    desk.control.companion = {"pid": 1, "controls": {"beats_per_bar": 4, "beat_unit": 4}}

    def hello(**changes: Any) -> list[tuple[Any, Any]]:
        desk.control.set.clear()
        desk.send("hello", script="live", script_version="1", transport={**TRANSPORT, **changes})
        return desk.control.set

    assert hello() == [("beats_per_bar", 6), ("beat_unit", 8)]
    assert hello(beat=99.0) == []
    desk.control.companion["controls"]["beats_per_bar"] = 12  # `dawbridge live set beats_per_bar 12`
    assert hello(beat=100.0) == []
    assert hello(beats_per_bar=3, beat_unit=4) == [("beats_per_bar", 3), ("beat_unit", 4)]
    desk.control.companion = {"pid": 2, "controls": {"beats_per_bar": 4, "beat_unit": 4}}
    assert hello(beats_per_bar=3, beat_unit=4) == [("beats_per_bar", 3)]
    assert hello(beat_unit=32) == [("beats_per_bar", 6)]  # nobody plays along in 32nds; the bounce may
    found = desk.files.transport(600.0)
    assert found is not None and found.beat_unit == 32


# the thread


def test_the_thread_looks_twice_a_second_and_outlives_what_goes_wrong(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filecontrol, "LOOK_S", 0.02)
    looks = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise ZeroDivisionError

    monkeypatch.setattr(desk.files, "look", look)
    with desk.files.running():
        until_s = time.monotonic() + 10.0
        while len(looks) < 3 and time.monotonic() < until_s:
            time.sleep(0.01)
    ended = len(looks)
    assert ended >= 3
    time.sleep(0.1)
    assert len(looks) == ended
