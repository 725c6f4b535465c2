"""What is selected in REAPER lies in the inbox with the project's time beside it, and REAPER is as it was before."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.intake import take
from bridge.sidecar import read_sidecar, sidecar_path
from bridge.tempo import beats_to_seconds, seconds_to_beats
from bridge.watch import is_bounce_name
from tests.reaper_host import Reaper
from tests.reaper_project import Project, TempoMarker
from tests.reaper_songs import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """The scripts, an inbox and an outbox."""
    return make_desk(tmp_path)


def band() -> Project:
    """Three tracks with items, at 100 bpm."""
    project = Project(tempo=[TempoMarker(0.0, 100.0, 4, 4)])
    for name, start in (("Guitar", 0.0), ("Lead Vox", 2.5), ("Drums", 4.8)):
        project.add_item(project.add_track(name), start, 6.0)
    return project


def send(project: Project, desk: Desk) -> Reaper:
    """Run the action; REAPER must be as before."""
    before = project.state()
    reaper = Reaper(project)
    reaper.run(desk.script("send"))
    assert project.state() == before
    return reaper


def bounces(desk: Desk) -> list[Path]:
    """The audio in the inbox, and nothing else but sidecars and the folder for commands."""
    audio = sorted(path for path in desk.inbox.iterdir() if path.suffix == ".wav")
    others = {path.name for path in desk.inbox.iterdir()} - {path.name for path in audio}
    assert others - {sidecar_path(path).name for path in audio} <= {".dawbridge"}
    assert not list((desk.inbox / ".dawbridge").glob("*"))
    return audio


def test_selected_items_go_out_as_one_file_with_the_projects_tempo_and_place(desk: Desk) -> None:
    project = band()
    for item in project.tracks[1].items:
        item.info["B_UISEL"] = 1.0
    project.add_item(project.tracks[1], 9.0, 1.0, is_selected=True)
    reaper = send(project, desk)
    (audio,) = bounces(desk)
    assert audio.name == "Song_vocals.wav" and not reaper.boxes
    assert reaper.said == ["Sent 2 selected items as Song_vocals.wav."]
    info = soundfile.info(audio)
    assert (info.samplerate, info.channels, info.frames) == (48_000, 2, 7.5 * 48_000)
    assert info.subtype == "PCM_24"
    assert np.abs(soundfile.read(audio)[0]).max() == pytest.approx(0.5, abs=1e-3)  # no normalising
    sidecar = read_sidecar(sidecar_path(audio))
    assert sidecar.tempo is not None and (sidecar.tempo.bpm, sidecar.tempo.changes) == (100.0, ())
    assert (sidecar.tempo.beats_per_bar, sidecar.tempo.beat_unit) == (4, 4)
    assert (sidecar.start_frames, sidecar.role) == (120_000, "vocals")
    assert (sidecar.project, sidecar.track) == ("Song", "Lead Vox")


def test_the_bridge_takes_what_was_sent_without_a_warning_and_knows_its_bar_lines(
    desk: Desk, tmp_path: Path
) -> None:
    project = band()
    project.time_selection = (3.0, 7.0)  # 5 beats in: the next bar line lies three beats on
    send(project, desk)
    taken = take(bounces(desk)[0], spool=tmp_path / "spool", inbox=desk.inbox)
    assert taken.warnings == () and taken.bounce.role == "mix"
    assert taken.bounce.start_frames == 144_000
    tempo = taken.bounce.tempo_map
    assert tempo is not None and taken.bounce.tempo_source == "sidecar"
    assert tempo.first_downbeat_frame == round(3 * 0.6 * 48_000)


def test_a_time_selection_sends_the_mix_though_a_track_is_selected(desk: Desk) -> None:
    project = band()
    project.tracks[2].info["I_SELECTED"] = 1
    project.time_selection = (1.0, 3.0)
    reaper = send(project, desk)
    (audio,) = bounces(desk)
    assert audio.name == "Song.wav" and reaper.said == ["Sent the time selection as Song.wav."]
    assert read_sidecar(sidecar_path(audio)).role == "mix"


def test_each_selected_track_is_sent_as_the_part_its_name_tells(desk: Desk) -> None:
    project = band()
    for track in project.tracks:
        track.info["I_SELECTED"] = 1
    send(project, desk)
    roles = {path.name: read_sidecar(sidecar_path(path)).role for path in bounces(desk)}
    assert roles == {"Song_Guitar.wav": None, "Song_vocals.wav": "vocals", "Song_drums.wav": "drums"}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Vox", "vocals"), ("BASS DI", "bass"), ("drums", "drums"), ("Backing vocals 2", "vocals"),
        ("Bass Drum", None), ("Contrabassoon", None), ("Überbass", None), ("", None),
    ],
)  # fmt: skip
def test_only_a_whole_word_gives_a_role_and_two_give_none(desk: Desk, name: str, role: str | None) -> None:
    project = Project()
    track = project.add_track(name)
    track.info["I_SELECTED"] = 1
    project.add_item(track, 0.0, 1.0)
    send(project, desk)
    assert read_sidecar(sidecar_path(bounces(desk)[0])).role == role


def test_tempo_changes_inside_the_range_are_told_from_the_files_first_frame(
    desk: Desk, tmp_path: Path
) -> None:
    project = band()
    project.tempo = [TempoMarker(0.0, 90.0, 3, 4), TempoMarker(4.0, 120.0), TempoMarker(6.0, 60.0)]
    project.time_selection = (2.0, 8.0)
    send(project, desk)
    sidecar = read_sidecar(sidecar_path(bounces(desk)[0]))
    assert sidecar.tempo is not None
    assert [(c.frames, c.bpm) for c in sidecar.tempo.changes] == [(96_000, 120.0), (192_000, 60.0)]
    assert (sidecar.tempo.bpm, sidecar.tempo.beats_per_bar) == (90.0, 3)
    tempo = take(bounces(desk)[0], spool=tmp_path / "spool").bounce.tempo_map
    assert tempo is not None
    assert beats_to_seconds(tempo, 3.0 + 4.0 + 2.0) == pytest.approx(6.0)


def test_a_gradual_change_holds_every_quarter_note_to_a_millisecond(desk: Desk, tmp_path: Path) -> None:
    project = band()
    project.tempo = [TempoMarker(0.0, 80.0, 4, 4, is_gradual=True), TempoMarker(20.0, 160.0)]
    project.time_selection = (3.0, 15.0)
    send(project, desk)
    tempo = take(bounces(desk)[0], spool=tmp_path / "spool").bounce.tempo_map
    assert tempo is not None
    first = project.quarters_at(3.0)
    quarters = range(int(first) + 1, int(project.quarters_at(15.0)))
    off_s = [
        beats_to_seconds(tempo, quarter - first) - (project.seconds_at(quarter) - 3.0) for quarter in quarters
    ]
    assert len(off_s) > 15 and max(map(abs, off_s)) < 1e-3


def test_bars_of_eighths_are_told_in_quarter_notes_per_minute(desk: Desk, tmp_path: Path) -> None:
    project = band()
    project.tempo = [TempoMarker(0.0, 120.0, 6, 8)]
    project.time_selection = (1.0, 4.0)
    send(project, desk)
    bounce = take(bounces(desk)[0], spool=tmp_path / "spool").bounce
    assert bounce.tempo_map is not None
    assert (bounce.tempo_map.beats_per_bar, bounce.tempo_map.beat_unit) == (6, 8)
    assert seconds_to_beats(bounce.tempo_map, 1.0) == pytest.approx(2.0)
    assert bounce.tempo_map.first_downbeat_frame == 24_000


def test_the_first_bar_line_is_told_where_the_tempo_changed_before_the_range(desk: Desk) -> None:
    project = band()
    project.tempo = [TempoMarker(0.0, 60.0, 4, 4), TempoMarker(3.0, 120.0)]
    project.time_selection = (3.2, 6.0)
    send(project, desk)
    sidecar = json.loads(sidecar_path(bounces(desk)[0]).read_text())
    assert sidecar["tempo"]["first_downbeat_frames"] == round(0.3 * 48_000)  # bar 2 begins at 3.5 s


def test_a_metre_that_changes_inside_and_an_odd_tempo_are_said(desk: Desk) -> None:
    project = band()
    project.tempo = [TempoMarker(0.0, 100.0, 4, 4), TempoMarker(2.4, 100.0, 3, 4)]
    project.time_selection = (0.0, 5.0)
    assert "the metre changes inside, only 4/4 is told" in send(project, desk).said[0]
    project.tempo = [TempoMarker(0.0, 12.0, 4, 4)]
    reaper = send(project, desk)
    assert "a tempo of 12.0 is outside 20 to 999" in reaper.said[0]
    assert read_sidecar(sidecar_path(desk.inbox / "Song 2.wav")).tempo is None


def test_nothing_in_the_inbox_is_ever_overwritten(desk: Desk) -> None:
    project = band()
    project.time_selection = (0.0, 1.0)
    for _ in range(3):
        send(project, desk)
    assert [path.name for path in bounces(desk)] == ["Song 2.wav", "Song 3.wav", "Song.wav"]


@pytest.mark.parametrize(
    ("name", "file"),
    [("Lied für Élise?.rpp", "Lied f_r _lise.wav"), ("", "reaper.wav"), ("...rpp", "reaper.wav"),
        ("CON.RPP", "song_CON.wav"), ("lpt1", "song_lpt1.wav"), ("Conga", "Conga.wav"), ("x" * 300, "x" * 60 + ".wav")],
)  # fmt: skip
def test_the_files_name_is_safe_everywhere(desk: Desk, name: str, file: str) -> None:
    project = dataclasses.replace(band(), name=name, time_selection=(0.0, 1.0))
    send(project, desk)
    (audio,) = bounces(desk)
    assert audio.name == file and is_bounce_name(audio.name)


def test_the_sidecar_has_its_name_before_the_audio_and_the_audio_grows_elsewhere(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, seen = band(), []
    project.time_selection = (0.0, 1.0)
    render = Project.render

    def watched(self: Project) -> None:
        render(self)
        seen.append([path.name for path in desk.inbox.iterdir()])

    monkeypatch.setattr(Project, "render", watched)
    reaper = Reaper(project)
    renames = reaper.record_renames()
    reaper.run(desk.script("send"))
    assert seen == [[".dawbridge"]]
    assert [Path(to).name for to in renames] == ["Song.wav.dawbridge.json", "Song.wav"]


@pytest.mark.parametrize("outcome", ["fails", "short", "raises"])
@pytest.mark.parametrize("kind", ["items", "range", "track"])
def test_a_render_that_fails_leaves_nothing_behind_and_every_setting_as_it_was(
    desk: Desk, outcome: str, kind: str
) -> None:
    project = dataclasses.replace(band(), render_outcome=outcome)
    if kind == "items":
        project.tracks[0].items[0].info["B_UISEL"] = 1.0
    elif kind == "range":
        project.time_selection = (0.0, 2.0)
    else:
        project.tracks[1].info["I_SELECTED"] = 1
    reaper = send(project, desk)
    assert len(reaper.boxes) == 1 and not reaper.said and not bounces(desk)


def test_a_reaper_that_writes_a_file_per_item_is_told_so_before_it_renders(desk: Desk) -> None:
    project = dataclasses.replace(band(), joins_items=False)
    for track in project.tracks:
        track.items[0].info["B_UISEL"] = 1.0
    reaper = send(project, desk)
    assert reaper.boxes == [
        "This REAPER renders the selection as 3 files. Glue the items, or select a time range."
    ]
    assert not reaper.actions and not bounces(desk)


def unplug(desk: Desk, _project: Project) -> None:
    """The inbox's disk is away."""
    desk.inbox.rmdir()


def record(_desk: Desk, project: Project) -> None:
    """Recording runs."""
    project.play_state = 5


def deselect(_desk: Desk, project: Project) -> None:
    """Nothing is selected."""
    project.time_selection = (0.0, 0.0)


def forget_paths(desk: Desk, _project: Project) -> None:
    """The scripts were copied without `dawbridge install-scripts`."""
    (desk.scripts / "dawbridge_paths.json").unlink()


def break_paths(desk: Desk, _project: Project) -> None:
    """The paths were edited by hand."""
    (desk.scripts / "dawbridge_paths.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (unplug, "is not there or can't be written. Is its disk plugged in?"),
        (record, "REAPER records. Stop the recording, then try again."),
        (deselect, "Nothing is selected. Select items, a time range or tracks, then send."),
        (forget_paths, "Run `dawbridge install-scripts`."),
        (break_paths, "is damaged. Run `dawbridge install-scripts` again."),
    ],
)
def test_what_can_not_be_sent_is_one_clear_line_and_the_project_is_unchanged(
    desk: Desk, spoil: Any, line: str
) -> None:
    project = band()
    project.time_selection = (0.0, 2.0)
    spoil(desk, project)
    reaper = send(project, desk)
    (box,) = reaper.boxes
    assert box.endswith(line) and "\n" not in box
    assert not reaper.actions and not project.undo
    assert not desk.inbox.exists() or not bounces(desk)


@pytest.mark.parametrize("script", ["send", "load", "choose"])
def test_no_open_project_and_an_old_reaper_are_one_clear_line(desk: Desk, script: str) -> None:
    reaper = Reaper(None)
    reaper.run(desk.script(script))
    assert reaper.boxes == ["No project is open. Open one, then try again."]
    old = Reaper(band())
    old.version = "6.82/linux-x86_64"
    old.run(desk.script(script))
    assert old.boxes == ["These scripts need REAPER 7; this is 6.82/linux-x86_64. Update REAPER."]


def test_an_empty_track_is_not_sent(desk: Desk) -> None:
    project = Project()
    project.add_track("Vox").info["I_SELECTED"] = 1
    reaper = send(project, desk)
    assert reaper.boxes == ["There is nothing to render: track Vox lasts 0.000 s."] and not bounces(desk)


def test_inbox_and_outbox_can_be_set_in_reaper_too(desk: Desk, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (desk.scripts / "dawbridge_paths.json").unlink()
    project = band()
    project.time_selection = (0.0, 1.0)
    reaper = Reaper(project)
    reaper.ext_state = {("dawbridge", "inbox"): f"{elsewhere}/", ("dawbridge", "outbox"): str(elsewhere)}
    reaper.run(desk.script("send"))
    assert (elsewhere / "Song.wav").exists()
