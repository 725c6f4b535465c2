"""What came back stands on new tracks of a Live set, once, at its place, in one undo step; or one line says why not."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.manifest import (
    Manifest,
    ManifestArtifact,
    ManifestBounce,
    ManifestTempo,
    Software,
    write_manifest,
)
from bridge.midi import write_midi
from bridge.sidecar import TempoChange
from bridge.store import file_sha256
from bridge.tempo import constant_tempo, tempo_from_changes
from bridge.types import Note, Phrase, TempoMap
from tests.ableton_set import FIRST_BEAT_S, MAIN_ONLY, SCRIPTS, SimulatedLive, Stage
from tests.real import require_real

RATE_HZ = 8_000
SECONDS = 6.0
STEMS = ("vocals", "drums", "bass", "other")
PACKAGE = SCRIPTS / "dawbridge"
STUBS = {"11.3.43.post2": "3.10", "12.3.6.post8": "3.11"}  # release: the oldest Python that mypy still checks
PYTHON_3_7 = next(
    iter(
        [
            str(path)
            for path in (Path.home() / ".pyenv" / "versions").glob("3.7*/bin/python3.7")
            if sys.platform != "win32"
        ]
    ),
    shutil.which("python3.7") or "",
)

World = Callable[..., Stage]


class Outbox:
    """A daemon's two folders, as the script finds them."""

    def __init__(self, root: Path) -> None:
        self.outbox, self.inbox = root / "outbox", root / "inbox"
        (self.outbox / ".dawbridge").mkdir(parents=True)
        self.inbox.mkdir()
        self.config = root / "config.json"
        self.entries: list[Any] = []
        self.configure()
        self.tell()

    def configure(self, **settings: Any) -> None:
        """The installer's file."""
        table = {
            "schema": 1,
            "version": "1",
            "inbox": str(self.inbox),
            "outbox": str(self.outbox),
            **settings,
        }
        self.config.write_text(json.dumps(table))

    def song(
        self,
        title: str = "Song",
        *,
        start_frames: int = 2 * RATE_HZ,
        bpm: float = 120.0,
        changes: tuple[tuple[int, float], ...] = (),
        source: Any = "estimated",
        extra: tuple[str, ...] = ("mix",),
        seconds: float = SECONDS,
        revision: int = 1,
        project: str = "",
        job: str = "x1",
        draft: bool = False,
        replaces: str = "",
    ) -> Path:
        """A returned folder: stems, a mix, notes as played and on the grid; told by the daemon."""
        folder = self.outbox / title
        folder.mkdir()
        frames = int(seconds * RATE_HZ)
        artifacts = []
        for name in (*STEMS, *extra):
            path = write_wav(folder / f"Song_{name}.wav", frames)
            artifacts.append(artifact(name, "audio", path, start_frames, frames))
        tempo: TempoMap = constant_tempo(bpm, RATE_HZ)
        if changes:
            tempo = tempo_from_changes([(0, bpm), *changes], RATE_HZ)
        notes = (
            Note(0.0, 1.0, 40, 90, "bass"),
            Note(7.5, 0.5, 36, 100, "drums"),
            Note(8.0, 1.0, 60, 70, "vocals"),
        )
        for name in ("notes", "notes_quantised"):
            path = folder / f"Song_{name}.mid"
            write_midi(path, Phrase(notes, 12.0), tempo)
            artifacts.append(artifact(name, "midi", path, start_frames, frames))
        bounce = ManifestBounce("Song.wav", "0" * 64, "mix", RATE_HZ, 1, frames, start_frames)
        told = tuple(TempoChange(*change) for change in changes)
        manifest = Manifest(
            schema=1,
            id=job,
            revision=revision,
            created_at="2026-11-22T10:00:00Z",
            bounce=bounce,
            preset="offline",
            settings={},
            tempo=ManifestTempo(bpm, 4, 4, 0, told, source, 1.0),
            key=None,
            sings=True,
            artifacts=tuple(artifacts),
            stages=(),
            fallbacks=(),
            voice=None,
            software=Software("0.1.0"),
            draft=draft,
            replaces=replaces,
        )
        write_manifest(folder, manifest)
        entry = {"id": job, "folder": title, "name": "Song.wav", "revision": revision, "project": project}
        self.entries.insert(0, entry)
        self.tell()
        return folder

    def tell(self, **more: Any) -> None:
        """The daemon writes its status."""
        status = {"schema": 1, "version": "0.1.0", "pid": 1, "scripts": "1", "returned": self.entries, **more}
        path = self.outbox / ".dawbridge" / "status.json"
        path.with_suffix(".tmp").write_text(json.dumps(status) + " " * len(self.entries))
        path.with_suffix(".tmp").replace(path)

    @property
    def hello(self) -> Path:
        """What the script last told."""
        return self.inbox / ".dawbridge" / "live-hello.json"


def write_wav(path: Path, frames: int) -> Path:
    """Silence, one channel, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, frames, "NONE", ""))
        file.writeframes(bytes(2 * frames))
    return path


def artifact(name: str, kind: Any, path: Path, start_frames: int, frames: int) -> ManifestArtifact:
    """Its line in the manifest."""
    return ManifestArtifact(name, kind, path.name, file_sha256(path), start_frames, frames)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """A daemon that has run."""
    return Outbox(tmp_path)


@pytest.fixture
def stage(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Starts a simulated Live with the script in it, which has read the status."""
    stages = []
    monkeypatch.setattr(sys, "path", list(sys.path))

    def start(version: str = "12.3", settled: bool = True, clock: Any = None, **live: Any) -> Stage:
        made = Stage(SimulatedLive(version, **live), outbox.config, **({"clock": clock} if clock else {}))
        stages.append(made)
        if settled:
            made.until(lambda: made.script._status is not None)
        return made

    yield start
    for made in stages:
        made.script.disconnect()
    for name in [n for n in sys.modules if n == "Live" or n.split(".")[0] == "dawbridge"]:
        del sys.modules[name]


def tracks(stage: Stage) -> dict[str, Any]:
    """The new tracks by name."""
    return {track["name"]: track for track in stage.live.picture()["tracks"][2:]}


def test_a_song_stands_on_new_named_coloured_tracks_at_its_place_with_warp_off(
    outbox: Outbox, stage: World
) -> None:
    outbox.song()
    live = stage()
    before = live.live.picture()
    live.press()
    line = live.until_said("new tracks")
    made = tracks(live)
    assert list(made) == [
        *(f"Song {name}" for name in (*STEMS, "mix")),
        *(f"Song notes_quantised {part}" for part in ("vocals", "bass", "drums")),
    ]
    for name in (*STEMS, "mix"):
        track = made[f"Song {name}"]
        [clip] = track["arrangement"]
        assert (clip["start"], clip["end"]) == (4.0, 16.0)  # 2 s and 8 s at 120 bpm
        assert (clip["warping"], clip["from_s"], clip["file"]) == (False, 0.0, f"Song_{name}.wav")
        assert clip["name"] == track["name"] and clip["color"] == track["color"]
        assert track["mute"] == (name == "mix") and not track["session"]
    assert len({made[f"Song {name}"]["color"] for name in STEMS}) == 4
    [bass] = made["Song notes_quantised bass"]["arrangement"]
    assert (bass["start"], bass["end"], bass["notes"]) == (4.0, 16.0, [(40, 0.0, 1.0, 90.0)])
    [drums] = made["Song notes_quantised drums"]["arrangement"]
    assert drums["notes"] == [(36, 7.5, 0.5, 100.0)]
    after = live.live.picture()
    assert after["tracks"][:2] == before["tracks"] and after["selected"] == before["selected"]
    assert live.live.undo_steps == 1 and not live.live.in_step
    assert line == "dawbridge: Song: 8 new tracks"


def test_stems_that_auto_warp_moved_to_its_first_beat_start_at_their_first_sample(
    outbox: Outbox, stage: World
) -> None:
    outbox.song(start_frames=0)
    live = stage()
    live.press()
    line = live.until_said("new tracks")
    for name in STEMS:
        [clip] = tracks(live)[f"Song {name}"]["arrangement"]
        assert (clip["from_s"], clip["start"], clip["end"]) == (0.0, 0.0, 12.0)
    assert "check" not in line and FIRST_BEAT_S > 0


def test_short_sounds_that_live_leaves_alone_need_no_detour(outbox: Outbox, stage: World) -> None:
    outbox.song(seconds=1.0)
    live = stage()
    live.press()
    live.until_said("new tracks")
    [clip] = tracks(live)["Song drums"]["arrangement"]
    assert (clip["start"], clip["end"], clip["warping"]) == (4.0, 6.0, False)


def test_where_live_insists_on_another_place_the_line_says_which_tracks_to_check(
    outbox: Outbox, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.song(extra=())
    live = stage()
    monkeypatch.setattr("dawbridge.loader._from_file_start", lambda clip: None)
    live.press()
    line = live.until_said("new tracks")
    assert f"check {', '.join(f'Song {name}' for name in STEMS)}: Live placed them otherwise" in line
    assert str(outbox.outbox / "Song") in line


@pytest.mark.parametrize("version", ["11.3", "12.0.0"])
def test_a_live_that_cannot_load_audio_gets_tracks_and_notes_and_a_line_that_says_what_to_drag_where(
    version: str, outbox: Outbox, stage: World
) -> None:
    folder = outbox.song()
    live = stage(version)
    live.press()
    line = live.until_said("new tracks")
    made = tracks(live)
    assert len(made) == 8
    assert all(not made[f"Song {name}"]["arrangement"] for name in STEMS)
    bass = made["Song notes_quantised bass"]
    [clip] = bass["arrangement"]
    assert clip["start"] == 4.0 and clip["notes"] == [(40, 0.0, 1.0, 90.0)] and not bass["session"]
    assert f"drag it from {folder} onto them at 2.1, Warp off" in line
    assert live.live.undo_steps == 1


def test_a_late_live_11_whose_call_returns_nothing_gets_the_audio_too(outbox: Outbox, stage: World) -> None:
    outbox.song()
    live = stage("11.3.43")
    live.press()
    live.until_said("new tracks")
    [clip] = tracks(live)["Song bass"]["arrangement"]
    assert (clip["start"], clip["end"], clip["warping"], clip["from_s"]) == (4.0, 16.0, False, 0.0)


def test_the_same_song_twice_makes_one_set_of_tracks_and_a_revision_stands_beside(
    outbox: Outbox, stage: World
) -> None:
    outbox.song()
    live = stage()
    live.press()
    live.until_said("new tracks")
    once = live.live.picture()
    live.press()
    live.until_said("in this set already")
    assert live.live.picture() == once
    outbox.song("Song (2)", revision=2)
    live.until(lambda: len(live.script._status.returned) == 2)
    live.press()
    live.until_said("Song (2): 8 new tracks")
    assert live.live.picture()["tracks"][: len(once["tracks"])] == once["tracks"]
    assert "Song (2) vocals" in tracks(live)


def draft_and_best(outbox: Outbox, live: Stage, replaces: str) -> Any:
    """A draft is loaded, its drums muted by hand, and the best has come back; the set's picture."""
    outbox.song(job="d1", draft=True)
    live.until(lambda: len(live.script._status.returned) == 1)
    live.press()
    assert live.until_said("new tracks") == "dawbridge: Song: 8 new tracks; it is a draft: the best follows"
    drums = next(track for track in live.live.set.tracks if track.name == "Song drums")
    drums.mute = True
    outbox.song("Song (2)", revision=2, job="b2", replaces=replaces)
    live.until(lambda: len(live.script._status.returned) == 2)
    return live.live.picture()


def test_the_best_sounds_in_place_of_its_draft_in_the_same_undo_step(outbox: Outbox, stage: World) -> None:
    live = stage()
    before = draft_and_best(outbox, live, replaces="d1")
    steps = live.live.undo_steps
    live.press()
    line = live.until_said("Song (2): 8 new tracks")
    assert line.endswith("it sounds in place of its draft, whose 6 tracks are muted now")
    count = len(before["tracks"])
    after = live.live.picture()["tracks"]
    assert after[:count] == [*before["tracks"][:2], *({**t, "mute": True} for t in before["tracks"][2:])]
    assert [track["name"] for track in after[count:] if not track["mute"]][:4] == [
        f"Song (2) {stem}" for stem in STEMS
    ]
    assert live.live.undo_steps == steps + 1


def test_only_its_own_draft_is_replaced(outbox: Outbox, stage: World) -> None:
    live = stage()
    before = draft_and_best(outbox, live, replaces="d")
    live.press()
    assert live.until_said("Song (2): 8 new tracks").endswith("8 new tracks")
    assert live.live.picture()["tracks"][: len(before["tracks"])] == before["tracks"]


def test_where_live_refuses_to_mute_the_draft_it_sounds_as_before_and_nothing_is_loaded(
    outbox: Outbox, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = stage()
    before = draft_and_best(outbox, live, replaces="d1")
    last = live.live.set.tracks[-1]
    set_value: Any = type(last).__setattr__

    def refuse(track: Any, name: str, value: Any) -> None:
        if track is last and name == "mute":
            raise RuntimeError("no")
        set_value(track, name, value)

    monkeypatch.setattr(type(last), "__setattr__", refuse)
    live.press()
    live.until_said("Song (2) is not loaded: Live refused (no)")
    assert live.live.picture() == before


def test_a_live_that_loads_no_audio_leaves_the_draft_sounding(outbox: Outbox, stage: World) -> None:
    outbox.song(job="d1", draft=True)
    live = stage("11.3")
    live.press()
    live.until_said("new tracks")
    outbox.song("Song (2)", revision=2, job="b2", replaces="d1")
    live.until(lambda: len(live.script._status.returned) == 2)
    before = live.live.picture()["tracks"]
    live.press()
    assert live.until_said("Song (2): 8 new tracks").endswith("then mute its draft's tracks")
    assert live.live.picture()["tracks"][: len(before)] == before


def test_who_deletes_the_tracks_may_load_again(outbox: Outbox, stage: World) -> None:
    outbox.song()
    live = stage()
    live.press()
    live.until_said("new tracks")
    while len(live.live.set.tracks) > 2:
        live.live.set.delete_track(2)
    live.live.messages.clear()
    live.press()
    live.until_said("8 new tracks")


def test_a_new_song_of_this_project_comes_by_itself_and_others_do_not(outbox: Outbox, stage: World) -> None:
    outbox.song("Old", project="My Set")
    live = stage()
    outbox.song("Foreign", project="Another Set")
    outbox.song("Nobody's", project="")
    outbox.song("Ours", project="My Set")
    live.until_said("Ours: 8 new tracks")
    for _ in range(20):
        live.tick()
    assert {name.split()[0] for name in tracks(live)} == {"Ours"}


def test_autoload_can_be_off_and_can_take_everything(outbox: Outbox, stage: World) -> None:
    outbox.configure(autoload="off")
    live = stage()
    outbox.song("Ours", project="My Set")
    live.until(lambda: bool(live.script._status.returned))
    for _ in range(20):
        live.tick()
    assert not tracks(live)
    outbox.configure(autoload="all")
    live = stage()
    outbox.song("Foreign", project="Another Set")
    live.until_said("Foreign: 8 new tracks")


def test_the_mapped_controller_loads_and_no_other_midi_does(outbox: Outbox, stage: World) -> None:
    outbox.configure(load_cc=20, load_channel=3)
    outbox.song()
    live = stage()
    live.script.build_midi_map(99)
    assert live.live.forwarded == [(2, 20)]
    for wrong in ({"number": 21}, {"channel": 4}, {"value": 10}):
        live.press(**{"number": 20, "channel": 3, **wrong})
    live.script.receive_midi((0xF0, 1, 2, 3, 0xF7))
    assert live.script._reading is None and not live.live.messages
    live.press(20, 3)
    live.until_said("new tracks")


def test_the_newest_song_of_this_project_goes_before_a_newer_one_of_another(
    outbox: Outbox, stage: World
) -> None:
    outbox.song("Ours", project="My Set")
    outbox.song("Foreign", project="Another Set")
    live = stage()
    live.press()
    live.until_said("Ours: 8 new tracks")


def test_a_part_of_the_project_that_is_frozen_is_neither_touched_nor_in_the_way(
    outbox: Outbox, stage: World
) -> None:
    outbox.song()
    live = stage()
    live.live.set.tracks[1].is_frozen = True
    before = live.live.picture()
    live.press()
    live.until_said("new tracks")
    assert live.live.picture()["tracks"][:2] == before["tracks"]


# Bad input: one clear line, and the set is as it was.


def _newer(folder: Path) -> None:
    _edit(folder, schema=2)


def _half(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _nonsense(folder: Path) -> None:
    (folder / "manifest.json").write_text(
        '{"schema": 1, "id": 3, "revision": "x", "bounce": [], "artifacts": {}}'
    )


def _without_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _missing(folder: Path) -> None:
    (folder / "Song_drums.wav").unlink()


def _changed(folder: Path) -> None:
    with (folder / "Song_drums.wav").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x01\x02")


def _half_midi(folder: Path) -> None:
    path = folder / "Song_notes_quantised.mid"
    path.write_bytes(path.read_bytes()[:-9])
    table = json.loads((folder / "manifest.json").read_text())
    for item in table["artifacts"]:
        if item["name"] == "notes_quantised":
            item["sha256"] = file_sha256(path)
    (folder / "manifest.json").write_text(json.dumps(table))


def _outside(folder: Path) -> None:
    table = json.loads((folder / "manifest.json").read_text())
    table["artifacts"][0]["path"] = "../Song_vocals.wav"
    (folder / "manifest.json").write_text(json.dumps(table))


def _far_away(folder: Path) -> None:
    table = json.loads((folder / "manifest.json").read_text())
    table["artifacts"][0]["start_frames"] = 10**13
    (folder / "manifest.json").write_text(json.dumps(table))


def _unplugged(folder: Path) -> None:
    shutil.rmtree(folder)


def _edit(folder: Path, **keys: Any) -> None:
    table = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**table, **keys}))


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (_newer, "manifest.json is of schema 2; this script knows 1. Run: dawbridge install-scripts live"),
        (_half, "manifest.json is damaged"),
        (_nonsense, "manifest.json is damaged"),
        (_without_manifest, "manifest.json can't be read (No such file or directory). Is the outbox there?"),
        (_missing, "Song: Song_drums.wav is missing"),
        (_changed, "Song: Song_drums.wav has changed since it was made. Have the song made again."),
        (_half_midi, "Song_notes_quantised.mid can't be read: it ends in the middle"),
        (_outside, "leads out of the folder"),
        (_far_away, "behind the end of Live's timeline"),
        (_unplugged, "manifest.json can't be read"),
    ],
)
def test_a_folder_that_is_not_whole_gives_one_line_and_leaves_the_set_alone(
    harm: Callable[[Path], None], line: str, outbox: Outbox, stage: World
) -> None:
    harm(outbox.song())
    live = stage()
    before = live.live.picture()
    live.press()
    live.until_said(line)
    for _ in range(5):
        live.tick()
    assert live.live.messages == ["dawbridge: Song is being checked.", live.live.messages[-1]]
    assert live.live.picture() == before and live.live.undo_steps == 0


def _arrangement(live: SimulatedLive) -> None:
    live.set.is_playing = live.set.record_mode = True


def _session(live: SimulatedLive) -> None:
    live.set.is_playing = live.set.session_record = True


def _count_in(live: SimulatedLive) -> None:
    live.set.is_counting_in = True


def _slot(live: SimulatedLive) -> None:
    live.set.tracks[1].arm = True
    live.set.tracks[1].clip_slots[0].is_recording = True


@pytest.mark.parametrize("record", [_arrangement, _session, _count_in, _slot])
def test_nothing_is_loaded_while_anything_is_recorded(
    record: Callable[[SimulatedLive], None], outbox: Outbox, stage: World
) -> None:
    outbox.song()
    live = stage()
    record(live.live)
    before = live.live.picture()
    live.press()
    live.until_said("Song is not loaded while something is being recorded. Stop, then load again.")
    assert live.live.picture() == before


def test_a_song_that_comes_by_itself_waits_for_the_end_of_a_recording(outbox: Outbox, stage: World) -> None:
    live = stage()
    _arrangement(live.live)
    outbox.song(project="My Set")
    live.until_said("Song is back; it is loaded when the recording ends.")
    for _ in range(10):
        live.tick()
    assert not tracks(live) and len(live.live.messages) == 1
    live.live.set.record_mode = False
    live.until_said("8 new tracks")


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ({"most_tracks": 6}, "Live refused (This edition of Live allows no more tracks)"),
        ({"new_tracks_frozen": True}, "the new track 3-Audio is frozen"),
    ],
)
def test_where_live_refuses_halfway_the_tracks_made_so_far_are_taken_away(
    trouble: dict[str, Any], line: str, outbox: Outbox, stage: World
) -> None:
    outbox.song()
    live = stage()
    vars(live.live).update(trouble)
    before = live.live.picture()
    live.press()
    live.until_said(line)
    assert live.live.picture() == before and not live.live.in_step
    vars(live.live).update(most_tracks=1000, new_tracks_frozen=False)
    live.press()
    live.until_said("8 new tracks")


def test_a_set_closed_while_a_song_is_placed_keeps_no_half_of_it(outbox: Outbox, stage: World) -> None:
    outbox.song()
    live = stage()
    before = live.live.picture()
    live.press()
    live.until(lambda: live.script._placing is not None and bool(tracks(live)))
    live.script.disconnect()
    assert live.live.picture() == before and not live.live.in_step


def test_new_tracks_are_not_left_armed(outbox: Outbox, stage: World) -> None:
    outbox.song()
    live = stage()
    live.live.new_tracks_armed = True
    live.press()
    live.until_said("new tracks")
    assert not any(track["arm"] for track in tracks(live).values())


def test_an_outbox_that_goes_away_is_told_once_and_comes_back(outbox: Outbox, stage: World) -> None:
    outbox.song()
    live = stage()
    away = outbox.outbox.rename(outbox.outbox.with_name("unplugged"))
    live.until_said("The outbox is gone: plug it in, or start dawbridge run.")
    live.press()
    live.until_said(f"{outbox.outbox} is not there, or dawbridge has never run")
    assert not tracks(live)
    away.rename(outbox.outbox)
    live.until(lambda: live.script._status is not None)
    live.press()
    live.until_said("8 new tracks")


def test_before_anything_came_back_the_line_says_so(outbox: Outbox, stage: World) -> None:
    live = stage()
    live.press()
    live.until_said("Nothing has come back yet.")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "can't be read"),
        ("{", "is damaged"),
        ("[]", "holds no settings"),
        ('{"inbox": "x", "outbox": "y"}', "inbox = 'x' is no whole path"),
        (
            '{"inbox": "ROOT", "outbox": "ROOT", "load_cc": 200}',
            "load_cc = 200 must be a whole number from -1 to 127",
        ),
        (
            '{"inbox": "ROOT", "outbox": "ROOT", "autoload": "yes"}',
            "autoload = 'yes' must be one of off, project, all",
        ),
    ],
)
def test_a_configuration_that_makes_no_sense_is_told_and_the_script_rests(
    text: str | None, line: str, outbox: Outbox, stage: World
) -> None:
    outbox.config.unlink()
    if text is not None:
        outbox.config.write_text(text.replace("ROOT", outbox.inbox.as_posix()))
    live = stage(settled=False)
    for _ in range(3):
        live.tick()
    live.script.build_midi_map(1)
    live.press()
    assert line in live.live.messages[0] and not live.live.forwarded


# Time.


def test_a_song_at_another_tempo_than_the_set_sounds_together_and_the_line_says_so(
    outbox: Outbox, stage: World
) -> None:
    outbox.song(bpm=100.0)
    live = stage(tempo=120.0)
    live.press()
    line = live.until_said("new tracks")
    made = tracks(live)
    [bass], [vocals] = (made[f"Song notes_quantised {part}"]["arrangement"] for part in ("bass", "vocals"))
    assert bass["notes"] == [(40, 0.0, 1.2, 90.0)]  # a beat of the song is 0.6 s: 1.2 beats of the set
    assert vocals["notes"] == [(60, 9.6, 1.2, 70.0)]
    [sound] = made["Song bass"]["arrangement"]
    assert bass["start"] == sound["start"] == 4.0
    assert "the song has 100.00 bpm, this set 120.00: notes follow the sound, not the grid" in line


def test_notes_of_a_song_whose_tempo_drifts_stay_with_its_sound(outbox: Outbox, stage: World) -> None:
    outbox.song(bpm=120.0, changes=((2 * RATE_HZ, 60.0),))  # four beats in 2 s, then one beat a second
    live = stage(tempo=120.0)
    live.press()
    line = live.until_said("new tracks")
    [vocals] = tracks(live)["Song notes_quantised vocals"]["arrangement"]
    assert vocals["notes"] == [(60, 12.0, 2.0, 70.0)]  # beat 8 is at 6 s
    assert "the song's tempo changes: its notes follow the sound, not the grid" in line


def test_tempo_changes_that_the_project_itself_told_are_in_the_set_so_notes_keep_their_beats(
    outbox: Outbox, stage: World
) -> None:
    outbox.song(bpm=120.0, changes=((2 * RATE_HZ, 60.0),), source="sidecar")
    live = stage(tempo=120.0)
    live.press()
    line = live.until_said("new tracks")
    [vocals] = tracks(live)["Song notes_quantised vocals"]["arrangement"]
    assert vocals["notes"] == [(60, 8.0, 1.0, 70.0)]
    assert "check where it starts" in line


def test_positions_are_told_as_live_shows_them_in_other_metres(outbox: Outbox, stage: World) -> None:
    outbox.song(start_frames=int(2.75 * RATE_HZ))  # 5.5 beats: 11 eighths
    live = stage("11.3")
    live.live.set.signature_numerator, live.live.set.signature_denominator = 6, 8
    live.press()
    assert "onto them at 2.6, Warp off" in live.until_said("new tracks")


# What the daemon hears.


def test_the_daemon_hears_where_the_set_stands_at_most_once_a_second_and_only_news(
    outbox: Outbox, stage: World
) -> None:
    now = [100.0]
    live = stage(clock=lambda: now[0])
    live.until(outbox.hello.exists)
    told = json.loads(outbox.hello.read_text())
    assert told == {
        "schema": 1,
        "id": "live-hello",
        "command": "hello",
        "script": "live",
        "script_version": "1",
        "transport": {
            "bpm": 120.0,
            "beats_per_bar": 4,
            "beat_unit": 4,
            "playing": False,
            "beat": 0.0,
            "track": "2-Audio",
            "project": "My Set",
        },
    }
    outbox.hello.unlink()
    told_at = []
    send = live.script._worker.hello

    def hello(transport: dict[str, Any]) -> None:
        told_at.append((now[0], transport["bpm"]))
        send(transport)

    live.script._worker.hello = hello
    live.live.set.tempo = 90.0
    for _ in range(40):
        now[0] += 0.1
        live.tick()
    assert len(told_at) == 1 and told_at[0][1] == 90.0 and told_at[0][0] >= 101.0 - 1e-9
    live.live.set.is_playing = True
    for step in range(40):
        now[0] += 0.1
        live.live.set.current_song_time = step * 0.15
        live.tick()
    assert 4 <= len(told_at) <= 6
    live.until(outbox.hello.exists)


def test_a_daemon_that_starts_again_is_told_again(outbox: Outbox, stage: World) -> None:
    now = [100.0]
    live = stage(clock=lambda: now[0])
    live.until(outbox.hello.exists)
    outbox.hello.unlink()
    now[0] += 5.0
    for _ in range(20):
        live.tick()
    assert not outbox.hello.exists()
    outbox.tell(pid=2)
    live.until(outbox.hello.exists)


def test_without_a_daemons_inbox_nothing_is_written_anywhere(outbox: Outbox, stage: World) -> None:
    outbox.inbox.rmdir()
    live = stage()
    for _ in range(20):
        live.tick()
    assert not outbox.inbox.exists()


def test_scripts_older_than_the_daemon_say_so_once(outbox: Outbox, stage: World) -> None:
    live = stage()
    for pid in (1, 2, 3):
        outbox.tell(pid=pid, scripts="2", more="x" * pid)
        live.until(lambda pid=pid: live.script._status.daemon == str(pid))  # type: ignore[misc]
    assert live.live.messages == [
        "dawbridge: These scripts (1) are older than dawbridge's (2). "
        "Run: dawbridge install-scripts live, then restart Live."
    ]


def test_a_status_from_the_future_and_entries_that_lead_elsewhere_do_no_harm(
    outbox: Outbox, stage: World
) -> None:
    live = stage()
    outbox.tell(schema=2)
    live.until_said("dawbridge's status is of schema 2")
    outbox.entries = [{"folder": "../../etc"}, {"folder": "/etc"}, {"folder": 3}, "x", {"folder": "C:\\x"}]
    outbox.tell()
    live.press()
    live.until_said("Nothing has come back yet.")


# The thread, the language, the types.


def test_a_worker_that_touched_live_would_be_found(
    outbox: Outbox, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = stage()
    monkeypatch.setattr(live.script._worker, "_look", lambda: live.live.set.tempo)
    live.until_said(MAIN_ONLY)
    for _ in range(20):
        live.tick()
    assert len(live.live.messages) == 1  # told, not repeated


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_every_file_of_the_script_is_python_3_7(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_the_script_uses_nothing_that_came_after_python_3_7() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from vermin import main; main()",
            "-t=3.7-",
            "--violations",
            "--no-tips",
            str(PACKAGE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0 and "Minimum required versions: 3.7" in found.stdout, found.stdout


def test_python_3_7_itself_loads_a_song(outbox: Outbox, stage: World) -> None:
    if not PYTHON_3_7:
        pytest.skip("no Python 3.7 here; the two tests before this one stand for it")
    outbox.song()
    root = Path(__file__).parent.parent
    found = subprocess.run(
        [PYTHON_3_7, "-c", RUN_ALONE, "11.3", str(outbox.config)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert found.returncode == 0, found.stderr
    here = stage("11.3")
    here.press()
    here.until_said("new tracks")
    assert json.loads(found.stdout) == json.loads(json.dumps(here.live.picture()))


RUN_ALONE = "import runpy; runpy.run_path('tests/ableton_set.py', run_name='__main__')"
"""Not as a module: the package of the tests is of a later Python."""


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Fetches a release of Live's stubs; two of them can't be installed beside each other."""

    def fetch(release: str) -> Path:
        folder = tmp_path_factory.mktemp("stubs")
        tool = shutil.which("uv")
        wanted = f"ableton-live-stubs=={release}"
        command = [
            *(str(tool), "pip", "install", "-q", "--no-deps", "--python", sys.executable),
            *("--target", str(folder), wanted),
        ]
        got = subprocess.run(command, cwd=folder, capture_output=True, check=False) if tool else None
        require_real(got is not None and got.returncode == 0, f"{wanted} (from the package registry, by uv)")
        (folder / "Live-stubs").rename(folder / "Live")
        # A stub of this module imports a class from the module itself, which blinds mypy for it.
        base = folder / "Live" / "Base.pyi"
        text = base.read_text(encoding="utf-8")
        base.write_text(text.replace("    from Live.Base import Vector\n", "    pass\n"), encoding="utf-8")
        (folder / "mypy.ini").write_text(
            "[mypy]\nstrict = true\nwarn_unreachable = true\n[mypy-Live.*]\nignore_errors = true\n"
        )
        return folder

    return fetch


@pytest.mark.real
@pytest.mark.parametrize("release", STUBS)
def test_the_script_agrees_with_the_types_of_live(
    release: str, stubs: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = stubs(release)
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import Live\ndef f(s: Live.Song.Song) -> None:\n    s.create_audio_trak(-1)\n    s.tracks[0].nane\n"
    )

    def check(*what: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "mypy", "--config-file", str(folder / "mypy.ini")),
                *("--cache-dir", str(folder / "cache"), "--python-version", STUBS[release], *what),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "MYPYPATH": os.pathsep.join([str(SCRIPTS), str(folder)])},
        )

    found = check("-p", "dawbridge")
    assert found.returncode == 0 and "no issues found" in found.stdout, found.stdout + found.stderr
    refused = check(str(wrong))
    assert "create_audio_trak" in refused.stdout and "nane" in refused.stdout
