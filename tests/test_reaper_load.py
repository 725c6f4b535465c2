"""What came back stands on new tracks under one folder, at its place, once, in one undo step; or one line says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.intake import take
from tests.reaper_host import CANCEL, Reaper
from tests.reaper_project import PPQ, Project, TempoMarker, Track
from tests.reaper_songs import (
    BPM,
    FRAMES,
    RATE_HZ,
    START_FRAMES,
    STEMS,
    Desk,
    change_manifest,
    make_desk,
    return_song,
)

START_S, LENGTH_S = START_FRAMES / RATE_HZ, FRAMES / RATE_HZ
NAMES = [
    "Song", "vocals", "drums (approximate)", "bass", "other", "lead", "continuation audio",
    "Song MIDI", "continuation: lead", "notes: vocals", "notes: bass",
]  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """The scripts, an inbox and an outbox."""
    return make_desk(tmp_path)


def session() -> Project:
    """A project at the song's tempo with two tracks of the musician's, something selected."""
    project = Project(tempo=[TempoMarker(0.0, BPM, 4, 4)], time_selection=(1.0, 2.0))
    track = project.add_track("Guitar")
    project.add_item(track, 8.5, 2.0, is_selected=True)
    project.add_track("Vox").info["I_SELECTED"] = 1
    return project


def load(project: Project, desk: Desk, script: str = "load", choice: int = 0) -> Reaper:
    """Run an action that loads."""
    reaper = Reaper(project)
    reaper.choice = choice
    reaper.run(desk.script(script))
    assert not reaper.is_window_open
    return reaper


def names(tracks: list[Track]) -> list[str]:
    """Of tracks."""
    return [track.name for track in tracks]


def only_view(state: dict[str, Any]) -> dict[str, Any]:
    """Of a project's state what loading must never change, though it adds tracks."""
    return {key: value for key, value in state.items() if key not in ("tracks", "undo")}


def test_stems_stand_on_new_tracks_under_one_folder_at_their_place_named_and_coloured(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    before = project.state()
    reaper = load(project, desk)
    after = project.state()
    assert after["tracks"][:2] == before["tracks"] and only_view(after) == only_view(before)
    assert names(project.tracks[2:]) == NAMES and not reaper.boxes
    assert [track.info["I_FOLDERDEPTH"] for track in project.tracks[2:]] == [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, -2]
    for track in project.tracks[3:8]:
        (item,) = track.items
        (a_take,) = item.takes
        assert a_take.source is not None and Path(a_take.source.path).parent == desk.outbox / "Song"
        assert (item.info["D_POSITION"], item.info["D_LENGTH"]) == (START_S, LENGTH_S)
        assert (item.info["C_BEATATTACHMODE"], item.info["B_LOOPSRC"], item.info["B_UISEL"]) == (0, 0, 0)
        assert a_take.name == Path(a_take.source.path).stem
    colours = [track.info["I_CUSTOMCOLOR"] for track in project.tracks[3:7]]
    assert len(set(colours)) == 4 and all(int(colour) & 0x1000000 for colour in colours)
    assert project.tracks[8].items[0].info["D_POSITION"] == START_S + LENGTH_S
    assert 40047 in reaper.actions
    assert reaper.said == [
        "Song is loaded: 6 audio and 3 MIDI tracks in a muted folder; unmute it to hear the stems."
    ]


def test_nothing_doubles_what_plays_and_the_unmuted_folder_is_the_bounce(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    load(project, desk)
    assert project.tracks[2].info["B_MUTE"] == 1
    heard = [track.name for track in project.tracks[3:9] if not track.info["B_MUTE"]]
    assert [name.split()[0] for name in heard] == list(STEMS)


def test_midi_notes_lie_on_the_projects_grid_on_tracks_of_their_own(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    load(project, desk)
    by_name = {track.name: track.items[0] for track in project.tracks if ": " in track.name}
    vocals = by_name["notes: vocals"]
    assert vocals.info["D_POSITION"] == START_S
    assert vocals.info["D_LENGTH"] == pytest.approx(4 * 60 / BPM)
    assert vocals.takes[0].notes == [(0, PPQ, 0, 60, 90), (PPQ * 5 // 2, PPQ * 3, 0, 67, 80)]
    assert vocals.takes[0].controllers == [(0, 0xC0, 0, 53, 0)] and vocals.takes[0].is_sorted
    assert [note[2:4] for note in by_name["notes: bass"].takes[0].notes] == [(1, 61), (1, 68)]
    assert by_name["continuation: lead"].info["D_POSITION"] == START_S + LENGTH_S
    assert by_name["notes: bass"].takes[0].name == "notes: bass"


def test_one_undo_takes_all_of_it_back(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    before = project.state()
    load(project, desk)
    (step,) = project.undo
    assert (step.name, step.flags) == ("dawbridge: load Song", -1)
    project.undo_once()
    assert project.state() == before


def test_what_was_sent_comes_back_to_the_sample_it_was_sent_from(desk: Desk, tmp_path: Path) -> None:
    project = session()
    project.tracks[0].items[0].info["D_POSITION"] = 123_457 / RATE_HZ
    Reaper(project).run(desk.script("send"))
    bounce = take(desk.inbox / "Song_Guitar.wav", spool=tmp_path / "spool").bounce
    return_song(desk.outbox, start_frames=bounce.start_frames, frames=bounce.frames, name=bounce.name)
    load(project, desk)
    position = project.tracks[3].items[0].info["D_POSITION"]
    assert position == project.tracks[0].items[0].info["D_POSITION"]


def test_loading_twice_makes_one_set_of_tracks(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    load(project, desk)
    once = project.state()
    reaper = load(project, desk)
    assert project.state() == once and reaper.said == ["Song is loaded already: track 3."]
    change_manifest(desk.outbox / "Song", created_at="2026-11-24T10:00:00Z")  # published again, same content
    assert load(project, desk).said == ["Song is loaded already: track 3."]
    assert project.state() == once


def test_a_new_revision_stands_beside_the_old_one(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    load(project, desk)
    project.add_track("Added later")
    return_song(
        desk.outbox, "Song (2)", job="4d5e6f", revision=2, created_at="2026-11-23T10:00:00Z", gain=0.4
    )
    first = project.state()["tracks"][:13]
    load(project, desk)
    assert project.state()["tracks"][:13] == first
    assert names(project.tracks)[13:15] == ["Song (2)", "vocals"]
    assert project.tracks[-1].name == "Added later" and len(project.tracks) == 2 + 11 + 11 + 1
    assert sum(track.info["I_FOLDERDEPTH"] for track in project.tracks) == 0


def return_draft_and_best(desk: Desk, project: Project) -> Track:
    """A draft is loaded, changed by hand, and the best has come back; the draft's folder track."""
    change_manifest(return_song(desk.outbox), draft=True)
    assert (
        load(project, desk).said[0].endswith("unmute it to hear the stems. It is a draft: the best follows.")
    )
    best = return_song(
        desk.outbox, "Song (2)", job="4d5e6f", revision=2, created_at="2026-11-23T10:00:00Z", gain=0.4
    )
    change_manifest(best, replaces="1a2b3c")
    project.tracks[4].info["B_MUTE"] = 1  # the musician mutes the draft's drums
    return project.tracks[2]


def test_the_best_sounds_in_place_of_a_draft_that_sounded_and_one_undo_swaps_back(desk: Desk) -> None:
    project = session()
    draft = return_draft_and_best(desk, project)
    draft.info["B_MUTE"] = 0
    before = project.state()
    reaper = load(project, desk)
    assert reaper.said == [
        "Song (2) is loaded: 6 audio and 3 MIDI tracks in a folder that sounds in place of its draft, "
        "which is muted now."
    ]
    assert (project.tracks[13].name, project.tracks[13].info["B_MUTE"]) == ("Song (2)", 0)
    assert project.tracks[2].info["B_MUTE"] == 1
    project.tracks[2].info["B_MUTE"] = 0  # that is all that was touched of what stood there
    assert project.state()["tracks"][:13] == before["tracks"]
    project.tracks[2].info["B_MUTE"] = 1
    assert len(project.undo) == 2
    project.undo_once()
    assert project.state()["tracks"] == before["tracks"]


def test_a_draft_that_is_muted_stays_so_and_so_comes_the_best(desk: Desk) -> None:
    project = session()
    return_draft_and_best(desk, project)
    before = project.state()["tracks"]
    assert load(project, desk).said[0].endswith("unmute it to hear the stems. Its draft is muted, too.")
    assert project.state()["tracks"][:13] == before and project.tracks[13].info["B_MUTE"] == 1


def test_only_its_own_draft_is_replaced(desk: Desk) -> None:
    project = session()
    draft = return_draft_and_best(desk, project)
    draft.info["B_MUTE"] = 0
    change_manifest(desk.outbox / "Song (2)", replaces="another")
    before = project.state()["tracks"]
    assert load(project, desk).said[0].endswith("tracks in a muted folder; unmute it to hear the stems.")
    assert project.state()["tracks"][:13] == before


def test_the_songs_folder_lies_in_no_folder_of_the_musicians(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    project.add_track("Bus", depth=1)
    project.add_track("in the bus")  # the project's last folder is left open
    before = project.state()["tracks"]
    load(project, desk)
    assert project.tracks[0].name == "Song" and project.state()["tracks"][11:] == before
    closed = session()
    closed.add_track("Bus", depth=1)
    closed.add_track("in the bus", depth=-1)
    load(closed, desk)
    assert closed.tracks[4].name == "Song"


def test_an_empty_project_is_enough(desk: Desk) -> None:
    return_song(desk.outbox)
    project = Project(uses_sample_rate=False)
    load(project, desk)
    assert names(project.tracks) == NAMES


def future(folder: Path) -> None:
    """A manifest of a later dawbridge."""
    change_manifest(folder, schema=2)


def halve(folder: Path) -> None:
    """Half a manifest."""
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(folder: Path) -> None:
    """A stem is gone."""
    (folder / "Song_bass.wav").unlink()


def shorten(folder: Path) -> None:
    """A stem was edited to another length."""
    samples, rate = soundfile.read(folder / "Song_bass.wav")
    soundfile.write(folder / "Song_bass.wav", samples[:-1], rate, subtype="PCM_24")


def repaint(folder: Path) -> None:
    """A short stem has other samples, of the same length."""
    soundfile.write(folder / "Song_bass.wav", np.zeros((FRAMES, 2)), RATE_HZ, subtype="PCM_24")


def resample(folder: Path) -> None:
    """A stem has another rate."""
    samples, _ = soundfile.read(folder / "Song_bass.wav")
    soundfile.write(folder / "Song_bass.wav", samples, 44_100, subtype="PCM_24")


def cut(folder: Path) -> None:
    """A copy was broken off."""
    path = folder / "Song_bass.wav"
    path.write_bytes(path.read_bytes()[:-1000])


def fake(folder: Path) -> None:
    """It only calls itself a WAV file."""
    (folder / "Song_bass.wav").write_bytes(b"OggS" + bytes(1000))


def retune(folder: Path) -> None:
    """A MIDI file was edited."""
    path = folder / "Song_notes.mid"
    path.write_bytes(path.read_bytes().replace(bytes([0x90, 60, 90]), bytes([0x90, 61, 90])))


def _artifact(folder: Path, **changes: Any) -> None:
    table = json.loads((folder / "manifest.json").read_text())
    table["artifacts"][0] |= changes
    change_manifest(folder, artifacts=table["artifacts"])


def escape(folder: Path) -> None:
    """A path that leads out of the folder."""
    _artifact(folder, path="../../secret.wav")


def double(folder: Path) -> None:
    """A name twice."""
    _artifact(folder, name="drums")


def negate(folder: Path) -> None:
    """Before the project's start."""
    _artifact(folder, start_frames=-5)


def empty(folder: Path) -> None:
    """Nothing came back."""
    change_manifest(folder, artifacts=[])


def forget_bounce(folder: Path) -> None:
    """The bounce is missing."""
    change_manifest(folder, bounce=None)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (future, "schema = 2 is newer than these scripts know. Run `dawbridge install-scripts`."),
        (halve, "manifest.json is damaged (no JSON at character"),
        (remove, "Song_bass.wav is missing. Have the song made again."),
        (shorten, "Song_bass.wav has changed since it was made (23999 frames at 48000 Hz)."),
        (repaint, "Song_bass.wav has changed since it was made. Have the song made again."),
        (resample, "Song_bass.wav has changed since it was made (24000 frames at 44100 Hz)."),
        (cut, "Song_bass.wav is no whole WAV file. Have the song made again."),
        (fake, "Song_bass.wav is no whole WAV file. Have the song made again."),
        (retune, "Song_notes.mid has changed since it was made. Have the song made again."),
        (escape, "vocals: its path leads out of the folder. Have the song made again."),
        (double, "drums stands there twice. Have the song made again."),
        (negate, "vocals: start_frames = -5 makes no sense. Have the song made again."),
        (empty, "holds nothing that can be loaded."),
        (forget_bounce, "id, revision or bounce is missing. Have the song made again."),
    ],
)
@pytest.mark.parametrize("script", ["load", "choose"])
def test_a_song_that_is_not_as_it_was_made_is_one_clear_line_and_the_project_is_unchanged(
    desk: Desk, spoil: Any, line: str, script: str
) -> None:
    spoil(return_song(desk.outbox))
    project = session()
    before = project.state()
    reaper = load(project, desk, script, choice=1)
    (box,) = reaper.boxes
    assert line in box and "\n" not in box and not reaper.said
    assert project.state() == before and not project.undo
    assert all(source.is_destroyed for source in reaper.sources)


def test_long_stems_are_checked_by_rate_and_length_alone_since_lua_is_slow(desk: Desk) -> None:
    folder = return_song(desk.outbox, frames=10 * FRAMES)  # 1.4 MB each
    soundfile.write(folder / "Song_bass.wav", np.zeros((10 * FRAMES, 2)), RATE_HZ, subtype="PCM_24")
    assert load(session(), desk).said[0].startswith("Song is loaded:")
    shorten(folder)
    assert "Song_bass.wav has changed since it was made" in load(session(), desk).boxes[0]


def test_a_missing_or_empty_outbox_and_a_running_recording_are_one_clear_line(desk: Desk) -> None:
    project = session()
    before = project.state()
    empty_box = load(project, desk).boxes
    desk.outbox.rmdir()
    gone = load(project, desk).boxes
    assert (
        empty_box
        == gone
        == [f"No song lies in the outbox {desk.outbox}. Has one come back, and is its disk plugged in?"]
    )
    return_song(desk.outbox)
    project.play_state = 4
    assert load(project, desk).boxes == ["REAPER records. Stop the recording, then try again."]
    project.play_state = 0
    assert project.state() == before


def test_a_project_at_another_sample_rate_is_asked_about_and_a_no_changes_nothing(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    project.sample_rate_hz = 44_100
    before = project.state()
    reaper = Reaper(project)
    reaper.answer = CANCEL
    reaper.run(desk.script("load"))
    question = "The project runs at 44100 Hz, the song at 48000 Hz."
    assert reaper.boxes == [
        f"{question} REAPER would resample it while playing. Load it?",
        f"{question} It was not loaded.",
    ]
    assert project.state() == before
    load(project, desk)
    item = project.tracks[3].items[0]
    assert (item.info["D_POSITION"], item.info["D_LENGTH"]) == (START_S, LENGTH_S)


def test_tempo_changes_inside_the_range_move_and_stretch_nothing(desk: Desk) -> None:
    return_song(desk.outbox)
    project = session()
    project.tempo = [TempoMarker(0.0, 60.0, 4, 4), TempoMarker(9.0, 180.0), TempoMarker(9.7, 90.0)]
    tempo = list(project.tempo)
    reaper = load(project, desk)
    assert project.tempo == tempo
    item = project.tracks[3].items[0]
    assert (item.info["D_POSITION"], item.info["D_LENGTH"]) == (START_S, LENGTH_S)
    notes = next(track for track in project.tracks if track.name == "notes: vocals").items[0].takes[0].notes
    first = project.quarters_at(START_S)
    heard_s = [project.seconds_at(first + note[0] / PPQ) - START_S for note in notes]
    assert heard_s == pytest.approx([0.0, 2.5 * 60 / BPM], abs=1e-3)
    assert reaper.said[0].endswith("the song at 96.0: nothing is stretched.")


@pytest.mark.parametrize("function", ["SetMediaItemTake_Source", "MIDI_Sort", "CreateNewMIDIItemInProj"])
def test_what_reaper_refuses_halfway_is_taken_away_again(desk: Desk, function: str) -> None:
    return_song(desk.outbox)
    project = session()
    before = project.state()
    reaper = Reaper(project)
    reaper.fails_at = function
    reaper.run(desk.script("load"))
    assert project.state() == before
    (box,) = reaper.boxes
    assert box.startswith("Song could not be loaded:")
    held = 0 if function == "SetMediaItemTake_Source" else 6
    assert sum(not source.is_destroyed for source in reaper.sources) == held  # those went with their tracks


def test_what_cannot_be_taken_away_again_is_one_undo_step_and_reaper_is_left_as_it_should_be(
    desk: Desk,
) -> None:
    return_song(desk.outbox)
    project = session()
    before = project.state()
    reaper = Reaper(project)
    reaper.fails_at = "MIDI_Sort DeleteTrack"
    reaper.run(desk.script("load"))  # it checks that block and refresh are closed
    (box,) = reaper.boxes
    assert "MIDI_Sort failed" in box and box.endswith("Undo takes away what is left of it.")
    assert only_view(project.state()) == only_view(before)
    assert [step.name for step in project.undo] == ["dawbridge: load Song"]


def test_the_newest_song_is_loaded_though_a_damaged_folder_lies_beside_it(desk: Desk) -> None:
    return_song(desk.outbox, "Older", created_at="2026-11-20T10:00:00Z")
    return_song(desk.outbox, "Newest", job="ffff", created_at="2026-11-24T10:00:00Z")
    halve(return_song(desk.outbox, "Broken", created_at="2026-11-25T10:00:00Z"))
    (desk.outbox / ".dawbridge" / "building" / "x").mkdir(parents=True)
    (desk.outbox / "live").mkdir()
    project = session()
    load(project, desk)
    assert project.tracks[2].name == "Newest"


def test_a_song_that_came_while_reaper_runs_is_found_at_once(desk: Desk) -> None:
    return_song(desk.outbox, "First", created_at="2026-11-20T10:00:00Z")
    reaper = Reaper(session())
    reaper.run(desk.script("load"))
    return_song(desk.outbox, "Second", job="ffff", created_at="2026-11-24T10:00:00Z")
    reaper.run(desk.script("load"))
    assert reaper.said[1].startswith("Second is loaded:")


def test_a_song_is_chosen_from_a_menu_that_marks_what_is_loaded(desk: Desk) -> None:
    return_song(desk.outbox, "A|B", created_at="2026-11-20T10:00:00Z")
    return_song(desk.outbox, "Newest", job="ffff", created_at="2026-11-24T10:00:00Z")
    project = session()
    load(project, desk)
    reaper = load(project, desk, "choose", choice=0)
    assert reaper.menus == ["!Newest   2026-11-24 10:00:00|A B   2026-11-20 10:00:00"]
    assert not reaper.said and len(project.tracks) == 2 + 11
    assert load(project, desk, "choose", choice=2).said[0].startswith("A|B is loaded:")
