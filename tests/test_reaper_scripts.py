"""Auto-load and the panel cost nothing noticeable and do what they show; the scripts use only what REAPER has."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import mido
import pytest
import soundfile
from lupa.lua54 import LuaRuntime

from bridge.control import Control
from bridge.filecontrol import FileControl
from tests.reaper_api import GFX, GFX_FIELDS, REAPER, RENDER_NUMBERS, RENDER_TEXTS
from tests.reaper_host import Reaper
from tests.reaper_project import Project
from tests.reaper_songs import RATE_HZ, SCRIPTS, Desk, make_desk, return_song

ACTIONS = sorted(SCRIPTS.glob("*.lua"))
TURNS_PER_S = 30
CONTROLS = {"mode": "call", "bars": 4, "temperature": 1.0, "mute": False}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """The scripts, an inbox and an outbox."""
    return make_desk(tmp_path)


def entry(folder: str, project: str = "Song", **fields: Any) -> dict[str, Any]:
    """A song as the status tells it."""
    told = {"id": folder, "folder": folder, "name": f"{folder}.wav", "created_at": "", "revision": 1}
    return told | {"project": project, "track": ""} | fields


def seconds(reaper: Reaper, count: float) -> None:
    """Let time go by, 30 turns a second."""
    reaper.turn(round(count * TURNS_PER_S), 1 / TURNS_PER_S)


# auto-load


def test_what_comes_back_while_the_musician_works_is_loaded_once_and_what_lay_there_is_not(
    desk: Desk,
) -> None:
    return_song(desk.outbox, "Before")
    desk.tell(returned=[entry("Before")])
    project = Project()
    reaper = Reaper(project)
    reaper.run(desk.script("autoload"))
    assert reaper.options == 1 | 4 and not project.tracks
    return_song(desk.outbox, "New", job="new")
    desk.tell(returned=[entry("New"), entry("Before")])
    seconds(reaper, 2.5)
    assert project.tracks[0].name == "New" and len(project.tracks) == 11
    assert [step.name for step in project.undo] == ["dawbridge: load New"]
    project.undo_once()  # the musician does not want it
    desk.tell(returned=[entry("New"), entry("Before")], updated_at="2026-11-25T10:01:00Z", pid=2)
    seconds(reaper, 10)
    assert not project.tracks and not reaper.boxes
    reaper.close()
    assert reaper.options == 8


def test_a_song_of_another_project_waits_until_that_project_is_in_front(desk: Desk) -> None:
    desk.tell()
    project, other = Project(name="Mine.rpp"), Project(name="Other.RPP")
    reaper = Reaper(project)
    reaper.run(desk.script("autoload"))
    return_song(desk.outbox, "New", job="new")
    desk.tell(returned=[entry("New", project="Other"), entry("Foreign", project="")])
    seconds(reaper, 5)
    assert not project.tracks
    reaper.project = other
    seconds(reaper, 5)
    assert other.tracks[0].name == "New" and not project.tracks and not reaper.boxes


def test_an_unsaved_project_gets_back_what_it_sent_even_if_it_is_saved_meanwhile(desk: Desk) -> None:
    desk.tell()
    project = Project(name="", time_selection=(0.0, 1.0))
    reaper = Reaper(project)
    reaper.run(desk.script("autoload"))
    reaper.run(desk.script("send"))
    assert (desk.inbox / "reaper.wav").exists()
    return_song(desk.outbox, "reaper", job="new")
    desk.tell(returned=[entry("reaper", project="(not saved)")])
    reaper.project = Project(name="")  # another tab that was never saved
    seconds(reaper, 5)
    assert not reaper.project.tracks
    project.name = "A new song.rpp"
    reaper.project = project
    seconds(reaper, 5)
    assert project.tracks[0].name == "reaper"


def test_nothing_is_loaded_while_reaper_records(desk: Desk) -> None:
    desk.tell()
    project = Project(play_state=5)
    reaper = Reaper(project)
    reaper.run(desk.script("autoload"))
    return_song(desk.outbox, "New", job="new")
    desk.tell(returned=[entry("New")])
    seconds(reaper, 5)
    assert not project.tracks
    project.play_state = 1
    seconds(reaper, 3)
    assert project.tracks[0].name == "New"


def test_a_song_that_can_not_be_loaded_is_told_once_in_one_line_without_a_box(desk: Desk) -> None:
    desk.tell()
    project = Project(sample_rate_hz=44_100)
    before = project.state()
    reaper = Reaper(project)
    reaper.run(desk.script("autoload"))
    return_song(desk.outbox, "Other rate", job="new")
    (return_song(desk.outbox, "Broken", job="broken") / "manifest.json").write_text("{")
    bad = [entry("Broken"), entry("Other rate"), entry("../outside"), entry("gone")]
    desk.tell(returned=bad)
    seconds(reaper, 3)
    desk.tell(returned=bad, pid=2)
    seconds(reaper, 6)
    told = reaper.said[1:]
    assert len(told) == 3 and all("\n" not in line for line in told) and not reaper.boxes
    assert sum("The project runs at 44100 Hz" in line for line in told) == 1
    assert project.state() == before


def test_an_unplugged_outbox_is_told_once_and_taken_up_when_it_is_back(desk: Desk) -> None:
    project = Project()
    reaper = Reaper(project)
    reaper.run(desk.script("autoload"))
    seconds(reaper, 10)
    assert reaper.said == [
        "The daemon has told nothing yet. Start it with `dawbridge run`.",
        "What comes back for this project is loaded by itself from now on.",
    ]
    desk.tell()
    seconds(reaper, 3)
    return_song(desk.outbox, "New", job="new")
    desk.tell(returned=[entry("New")])
    seconds(reaper, 3)
    assert project.tracks[0].name == "New"


def test_auto_load_opens_one_file_in_two_seconds_and_touches_reaper_no_more_than_the_clock(
    desk: Desk,
) -> None:
    desk.tell(returned=[entry(f"Song ({number})") for number in range(50)])
    reaper = Reaper(Project())
    reaper.run(desk.script("autoload"))
    opened, reaper.calls = reaper.files_opened, []
    seconds(reaper, 60)
    assert reaper.files_opened - opened <= 31
    by_name = {name: reaper.calls.count(name) for name in set(reaper.calls)}
    assert by_name.pop("time_precise") <= 60 * TURNS_PER_S + 31
    assert by_name.pop("defer") == 60 * TURNS_PER_S
    assert by_name == {} and reaper.is_deferring


def test_without_paths_auto_load_does_not_start(desk: Desk) -> None:
    (desk.scripts / "dawbridge_paths.json").unlink()
    reaper = Reaper(Project())
    reaper.run(desk.script("autoload"))
    reaper.turn()
    assert len(reaper.boxes) == 1 and not reaper.is_deferring and reaper.options == 0


# the panel


class Daemon:
    """The daemon's side of the files, and what was asked of it."""

    def __init__(self, desk: Desk) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.table: list[Mapping[str, Any]] = []
        self.companion: dict[str, Any] | None = {
            "state": {},
            "controls": dict(CONTROLS),
            "ports": [],
            "pid": 7,
        }
        self.warnings: list[Mapping[str, Any]] = []
        self.files = FileControl(cast(Control, self), [desk.inbox], desk.outbox, self.warnings.append)

    def jobs(self, _limit: int) -> list[Mapping[str, Any]]:
        return self.table

    def returned(self) -> list[Mapping[str, Any]]:
        return []

    def folder_name(self, folder: str | None) -> str | None:
        return folder

    def live(self) -> Mapping[str, Any] | None:
        return self.companion

    def cancel(self, job: str) -> Mapping[str, Any]:
        self.asked.append(("cancel", job))
        return {}

    def retry(self, job: str) -> Mapping[str, Any]:
        self.asked.append(("retry", job))
        return {}

    def live_set(self, name: str, value: Any, _timeout_s: float = 5.0) -> Mapping[str, Any]:
        self.asked.append((name, value))
        assert self.companion is not None
        self.companion = self.companion | {"controls": self.companion["controls"] | {name: value}}
        return {}

    def live_command(self, name: str) -> Mapping[str, Any]:
        self.asked.append((name,))
        return {}


def job(name: str, state: str, done: float = 0.0) -> Mapping[str, Any]:
    """A job as the ledger has it."""
    stages = [{"stage": "separate", "state": "running", "done": done, "total": 1.0}]
    told: dict[str, Any] = {
        "id": f"id-{name}",
        "name": name,
        "preset": "default",
        "draft": name == "Draft.wav",
        "state": state,
        "detail": "",
    }
    return told | {"folder": None, "stages": stages}


def open_panel(desk: Desk) -> tuple[Reaper, Daemon]:
    """A panel with the daemon's files fresh."""
    daemon = Daemon(desk)
    daemon.table = [job("New.wav", "running", 0.42), job("Old.wav", "failed"), job("Done.wav", "done")]
    daemon.files.look()
    reaper = Reaper(Project())
    reaper.run(desk.script("panel"))
    daemon.files.look()
    seconds(reaper, 1)
    return reaper, daemon


def shown(reaper: Reaper) -> str:
    """All that is drawn."""
    return "\n".join(text for text, _, _ in reaper.drawn)


def test_the_panel_shows_the_jobs_and_how_far_they_are(desk: Desk) -> None:
    reaper, daemon = open_panel(desk)
    assert "New.wav   separate 42 %" in shown(reaper) and "Old.wav   failed" in shown(reaper)
    daemon.table = [job("New.wav", "done"), job("Draft.wav", "running", 0.5)]
    daemon.files.look()
    seconds(reaper, 1)
    assert "New.wav   done" in shown(reaper) and "Old.wav" not in shown(reaper)
    assert "Draft.wav (draft)   separate 50 %" in shown(reaper)


def test_the_panels_buttons_are_commands_that_the_daemon_takes_and_answers(desk: Desk) -> None:
    reaper, daemon = open_panel(desk)
    assert not daemon.warnings
    daemon.asked.clear()
    for label in (
        "cancel",
        "retry",
        "mode: call",
        "mute",
        "bars +",
        "bars -",
        "heat -",
        "answer",
        "stop",
        "keep",
        "undo",
        "panic",
    ):
        reaper.click(label)
        daemon.files.look()
        seconds(reaper, 1)
        assert ": done" in shown(reaper), shown(reaper)
    assert daemon.asked == [
        ("cancel", "id-New.wav"), ("retry", "id-Old.wav"), ("mode", "continue"), ("mute", True),
        ("bars", 5), ("bars", 4), ("temperature", 0.9), ("answer",), ("stop",), ("keep",), ("undo",), ("panic",),
    ]  # fmt: skip
    assert "muted" in shown(reaper) and "mode: continue" in shown(reaper)
    assert not list((desk.inbox / ".dawbridge").iterdir())


def test_the_companions_controls_stay_in_their_range(desk: Desk) -> None:
    reaper, daemon = open_panel(desk)
    daemon.companion = {"state": {}, "controls": CONTROLS | {"bars": 1, "temperature": 2.0, "mode": "loop"}}
    daemon.asked.clear()
    daemon.files.look()
    seconds(reaper, 1)
    for label in ("bars -", "heat +", "mode: loop"):
        reaper.click(label)
        daemon.files.look()
        seconds(reaper, 1)
    assert daemon.asked == [("bars", 1), ("temperature", 2.0), ("mode", "call")]


def test_hello_tells_the_daemon_where_the_project_stands(desk: Desk) -> None:
    _, daemon = open_panel(desk)
    transport = daemon.files.transport(60.0)
    assert transport is not None and (transport.bpm, transport.beats_per_bar) == (120.0, 4)
    assert (transport.project, transport.playing, transport.beat) == ("Song", False, 2.5)


def test_a_refusal_a_missing_answer_and_a_silent_daemon_are_one_line_each(desk: Desk) -> None:
    reaper, daemon = open_panel(desk)
    reaper.click("cancel")
    (command,) = (desk.inbox / ".dawbridge").glob("*.json")
    command.write_text(command.read_text().replace('"cancel"', '"explode"'))
    daemon.files.look()
    seconds(reaper, 1)
    assert "cancel New.wav: command = 'explode' is unknown." in shown(reaper)
    reaper.click("retry")
    seconds(reaper, 11)
    assert "retry Old.wav: the daemon gave no answer. Does `dawbridge run` run?" in shown(reaper)
    seconds(reaper, 10)
    assert "The daemon gives no sign of life. Start it with `dawbridge run`." in shown(reaper)


def test_the_panel_sends_and_loads_and_tells_it_in_its_own_line(desk: Desk) -> None:
    reaper, _ = open_panel(desk)
    assert reaper.project is not None
    reaper.click("send")
    assert "Nothing is selected." in shown(reaper) and not reaper.boxes
    reaper.project.time_selection = (0.0, 1.0)
    reaper.click("send")
    assert "Sent the time selection as Song.wav." in shown(reaper)
    return_song(desk.outbox)
    reaper.click("load newest")
    assert reaper.project.tracks[0].name == "Song"
    assert "Song is loaded" in shown(reaper)
    reaper.click("choose ...")
    assert reaper.menus and not reaper.boxes and not reaper.said


def test_an_open_panel_reads_twice_a_second_and_draws_only_what_changed(desk: Desk) -> None:
    reaper, _ = open_panel(desk)
    opened, reaper.calls = reaper.files_opened, []
    seconds(reaper, 10)
    assert 19 <= reaper.files_opened - opened <= 21
    assert reaper.calls.count("drawstr") == 0 and "GetTrack" not in reaper.calls
    reaper.gfx(mouse_x=50)
    reaper.turn()
    assert reaper.calls.count("drawstr") > 5


def test_closing_the_window_ends_the_panel_and_its_switch(desk: Desk) -> None:
    reaper, _ = open_panel(desk)
    assert reaper.options == 1 | 4
    reaper._gfx_quit()
    reaper.turn()
    assert not reaper.is_deferring
    reaper.close()
    assert reaper.options == 8


def test_a_status_that_is_damaged_newer_or_without_a_companion_is_said(desk: Desk) -> None:
    reaper, _ = open_panel(desk)
    status = desk.outbox / ".dawbridge" / "status.json"
    status.write_text("{")
    seconds(reaper, 1)
    assert "status.json is damaged." in shown(reaper)
    desk.tell(schema=2)
    seconds(reaper, 1)
    assert "The daemon is newer than these scripts." in shown(reaper)
    desk.tell(scripts="3")
    seconds(reaper, 1)
    assert "These scripts are version 2, the daemon ships 3." in shown(reaper)
    assert "The companion does not run" in shown(reaper)


# the parts


def lua(encoding: str = "utf-8") -> Any:
    """A Lua with one of our modules' loader: `use(name)`."""
    runtime = LuaRuntime(encoding=encoding)
    runtime.execute("reaper = {}")
    return runtime.eval("function(here) return dofile(here .. 'dawbridge/core.lua')(here).use end")(
        f"{SCRIPTS}/"
    )


@pytest.mark.parametrize(
    "value",
    [
        {}, {"a": [1, 2.5, -3e-7, True, False], "b": {"c": "ü 🎵 \" \\ \n \x7f \u2028"}}, ["x"], "", 0, -(2**53),
        2**53, 0.1, [[[1]], [2]],
    ],
)  # fmt: skip
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_is_read_as_it_was_written(value: Any, ascii_only: bool) -> None:
    json_ = lua()("json")
    assert (
        json.loads(json_.encode(json_.decode(json.dumps(value, ensure_ascii=ascii_only, indent=1)))) == value
    )


def test_a_null_is_an_absent_key_and_stays_in_a_list() -> None:
    json_ = lua()("json")
    assert json_.encode(json_.decode('\ufeff{"a": null, "b": [1, null]}')) == '{"b": [1, null]}'


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1,]", '{"a":1,}', "01", "1.", ".5", "+1", '"\\x"', "[1 2]", '{"a" 1}', "nul", "1 2", "[" * 99,
        '"a\nb"', '"\\u12"', '{"a":1 "b":2}', "NaN", "Infinity", "{1:2}", '"abc', "-",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_with_its_place(text: str) -> None:
    json_ = lua()("json")
    with pytest.raises(Exception, match="no JSON at character"):
        json_.decode(text)


@pytest.mark.parametrize("size", [0, 3, 55, 56, 63, 64, 65, 1000])
def test_sha_256_is_sha_256(size: int) -> None:
    data = random.Random(size).randbytes(size)
    digest = lua("latin-1")("sha256").hex(data.decode("latin-1"))
    assert digest == hashlib.sha256(data).hexdigest()


def test_any_midi_file_is_read_with_running_status_tempo_changes_and_hanging_notes(tmp_path: Path) -> None:
    file = mido.MidiFile(type=1, ticks_per_beat=96)
    file.tracks.append(mido.MidiTrack([
        mido.MetaMessage("set_tempo", tempo=500_000), mido.MetaMessage("set_tempo", tempo=250_000, time=96),
    ]))  # fmt: skip
    file.tracks.append(mido.MidiTrack([
        mido.MetaMessage("track_name", name="keys"), mido.Message("sysex", data=(1, 2, 3)),
        mido.Message("note_on", note=60, velocity=64), mido.Message("note_on", note=64, velocity=65),
        mido.Message("control_change", control=7, value=3, time=48), mido.Message("aftertouch", value=9),
        mido.Message("note_on", note=60, velocity=0, time=48), mido.Message("note_off", note=99),
        mido.MetaMessage("end_of_track", time=96),
    ]))  # fmt: skip
    path = tmp_path / "x.mid"
    file.save(path)
    running = path.read_bytes()  # mido leaves out the second note-on's kind
    at = running.rindex(b"MTrk") + 4
    told = running[at + 4 :].replace(b"\x00@A", b"\x00\x90@A")
    full = running[:at] + len(told).to_bytes(4, "big") + told
    assert len(full) == len(running) + 1
    midi = lua("latin-1")("midi")
    for data in (running, full):
        score = midi.read(data.decode("latin-1"))
        (track,) = score.tracks.values()
        notes = [(n.pitch, n.velocity, n.start_s, n.stop_s) for n in track.notes.values()]
        assert notes == [(60, 64, 0.0, 0.5), (64, 65, 0.0, 0.75)] and track.name == "keys"
        assert score.length_s == 0.75


@pytest.mark.parametrize("rf64", [False, True])
def test_a_wav_files_header_is_read_whatever_chunks_stand_in_it(tmp_path: Path, rf64: bool) -> None:
    path = tmp_path / "x.wav"
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, "FLOAT", format="RF64" if rf64 else "WAV") as file:
        file.write([[0.0, 0.0]] * 777)
    runtime = lua()
    facts = runtime("wav").facts(str(path))
    assert (facts.rate_hz, facts.channels, facts.frames) == (RATE_HZ, 2, 777)
    assert runtime("wav").facts(str(tmp_path / "missing.wav")) is None


# the package


def test_scripts_use_just_what_is_written_down_of_reapers_interface() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS.rglob("*.lua"))
    assert set(re.findall(r"\breaper\.(\w+)", code)) == set(REAPER)
    used = set(re.findall(r"\bgfx\.(\w+)", code))
    assert used - set(GFX_FIELDS) == set(GFX)
    settings = set(re.findall(r"\bRENDER_[A-Z0-9_]+", code)) - {"RENDER_TARGETS"}
    assert settings == {*RENDER_NUMBERS, *RENDER_TEXTS}


def test_all_scripts_bear_the_version_that_the_daemon_compares() -> None:
    version = (SCRIPTS.parent / "VERSION").read_text().strip()
    assert f'VERSION = "{version}"' in (SCRIPTS / "dawbridge" / "core.lua").read_text()
    for action in ACTIONS:
        assert re.search(rf"^-- @version {version}$", action.read_text(), re.MULTILINE), action


def test_reapack_finds_every_file_in_one_package() -> None:
    package = (SCRIPTS / "dawbridge_send.lua").read_text()
    for tag in ("@description", "@author", "@changelog", "@provides"):
        assert f"-- {tag}" in package
    for action in ACTIONS:
        if action.name != "dawbridge_send.lua":
            assert f"[main] {action.name}" in package and "-- @noindex" in action.read_text()
    assert "[nomain] dawbridge/*.lua" in package


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.lua")), ids=lambda path: path.name)
def test_scripts_are_lua_5_4_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert LuaRuntime().eval("function(text, name) return assert(load(text, name)) ~= nil end")(
        text, path.name
    )
    assert text.startswith("-- ") and "-- GPL-3.0-or-later" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_checklist_is_ten_lines() -> None:
    lines = (SCRIPTS / "CHECKLIST.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(".")[0] for line in lines if re.match(r"\d+\. ", line)] == [
        str(n) for n in range(1, 11)
    ]
