"""What was played live lies on disk as files that any DAW takes: whole bars, every note ended, nothing overwritten."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from datetime import datetime
from pathlib import Path

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import OutboxError
from bridge.live.controls import Controls
from bridge.livehost.takes import Take, move_take, to_midi, write_take
from bridge.midi import midi_to_phrase, read_midi
from bridge.sheet import read_sheet
from bridge.types import PPQ, Note

NOW = datetime(2026, 11, 25, 20, 15, 3)
NOTES = (Note(64.0, 1.0, 60, 90, "piano"), Note(66.5, 1.5, 36, 80, "bass"))
REPLY = Take(
    kind="reply",
    notes=NOTES,
    start_beat=64.0,
    length_beats=8.0,
    bpm=97.5,
    beats_per_bar=4,
    beat_unit=4,
    key="Eb major",
    model="dawbridge-small",
    seed=11,
    settings={"temperature": 0.9, "part": "piano"},
    song_beat=64.0,
)


def texts(path: Path) -> list[str]:
    return [event.text for event in mido.MidiFile(path).tracks[0] if event.type == "text"]


def test_a_reply_begins_on_its_bar_line_in_the_projects_tempo_metre_and_key(tmp_path: Path) -> None:
    path = write_take(tmp_path, REPLY, NOW)
    assert path == tmp_path / "live" / "2026-11-25 20-15-03 reply bar 17.mid"
    phrase, tempo = read_midi(path)
    assert phrase.length_beats == 8.0
    assert {(n.part, n.start_beats, n.length_beats, n.pitch, n.velocity) for n in phrase.notes} == {
        ("piano", 0.0, 1.0, 60, 90),
        ("bass", 2.5, 1.5, 36, 80),
    }
    assert tempo.points[0].bpm == pytest.approx(97.5, abs=1e-3)
    assert (tempo.beats_per_bar, tempo.beat_unit) == (4, 4)
    file = mido.MidiFile(path)
    assert (file.type, file.ticks_per_beat) == (1, PPQ)
    assert [event.key for event in file.tracks[0] if event.type == "key_signature"] == ["Eb"]


def test_its_text_tells_how_to_make_it_again(tmp_path: Path) -> None:
    (text,) = texts(write_take(tmp_path, dataclasses.replace(REPLY, is_cut=True), NOW))
    told, _, wish = text.partition(" settings=")
    assert told.startswith("dawbridge ")
    for word in (
        "live reply",
        "bar=17",
        "beat=64.0",
        "key=Eb major",
        "model=dawbridge-small",
        "seed=11",
        "cut=yes",
    ):
        assert word in told
    assert json.loads(wish) == REPLY.settings


def test_the_live_process_words_become_a_take() -> None:
    controls = dataclasses.asdict(Controls(beats_per_bar=6, beat_unit=8))
    played = {
        "type": "played",
        "id": 3,
        "from_beat": 66.0,
        "song_beat": 18.0,
        "length_beats": 3.0,
        "notes": [[66.0, 0.5, 60, 90, "piano"]],
        "seed": 5,
        "key": "",
        "is_cut": True,
        "bpm": 140.0,
        "controls": controls,
    }
    take = Take.of_reply(played, "mine")
    assert (take.bar, take.seed, take.model, take.is_cut) == (7, 5, "mine", True)
    phrase, tempo = midi_to_phrase(to_midi(take, "x"))
    assert phrase.notes == (Note(0.0, 0.5, 60, 90, "piano"),)
    assert phrase.length_beats == 3.0
    assert (tempo.beats_per_bar, tempo.beat_unit) == (6, 8)


def test_a_capture_keeps_the_musician_apart_from_the_replies_and_drums_on_their_channel(
    tmp_path: Path,
) -> None:
    heard = [
        [13.0, 1.0, 64, 70, "piano", False],
        [13.5, 0.5, 38, 70, "drums", False],
        [17.0, 2.0, 50, 80, "piano", True],
    ]
    take = Take.of_capture(heard, 120.0, Controls())
    path = write_take(tmp_path, take, NOW)
    assert path.name == "2026-11-25 20-15-03 capture.mid"
    phrase = read_sheet(path).phrase
    assert phrase.length_beats == 8.0
    assert {(n.part, n.start_beats, n.pitch) for n in phrase.notes} == {
        ("musician", 1.0, 64),
        ("drums", 1.5, 38),
        ("piano", 5.0, 50),
    }
    drums = next(track for track in mido.MidiFile(path).tracks if track.name == "drums")
    assert {event.channel for event in drums if not event.is_meta} == {9}


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(tmp_path: Path) -> None:
    paths = [write_take(tmp_path, dataclasses.replace(REPLY, seed=seed), NOW) for seed in range(3)]
    assert [path.stem[-10:] for path in paths] == ["ply bar 17", "bar 17 (2)", "bar 17 (3)"]
    assert [f"seed={seed}" in texts(path)[0] for seed, path in enumerate(paths)] == [True] * 3


def test_the_name_is_plain_and_without_a_place_in_the_song_it_names_none(tmp_path: Path) -> None:
    path = write_take(tmp_path, dataclasses.replace(REPLY, song_beat=None, kind="session"))
    assert path.name.isascii()
    assert "#" not in path.name
    assert "bar" not in path.name
    assert write_take(tmp_path, dataclasses.replace(REPLY, song_beat=-4.0), NOW).stem.endswith("bar 0")


def test_the_same_take_gives_the_same_bytes() -> None:
    assert to_midi(REPLY, "x") == to_midi(REPLY, "x")


times = st.floats(-30.0, 30.0)
some_notes = st.lists(
    st.builds(
        Note,
        times,
        st.floats(0.0, 20.0),
        st.integers(0, 127),
        st.integers(1, 127),
        st.sampled_from(["lead", "piano", "drums"]),
    ),
    max_size=12,
).map(tuple)


@settings(deadline=None)
@given(
    notes=some_notes,
    musician=some_notes,
    start=times,
    length=st.floats(0.0, 40.0),
    metre=st.sampled_from([(4, 4), (3, 4), (6, 8), (7, 8), (5, 4)]),
    bpm=st.floats(20.0, 400.0),
)
def test_any_take_is_whole_bars_long_and_ends_every_note(
    notes: tuple[Note, ...],
    musician: tuple[Note, ...],
    start: float,
    length: float,
    metre: tuple[int, int],
    bpm: float,
) -> None:
    take = Take("capture", notes, start, length, bpm, *metre, musician=musician)
    phrase, _ = midi_to_phrase(to_midi(take, "x"))
    bars = phrase.length_beats / take.bar_beats
    assert bars >= 1
    assert bars == pytest.approx(round(bars))
    assert phrase.length_beats >= length - 1e-3
    for note in phrase.notes:
        assert 0 <= note.start_beats < note.start_beats + note.length_beats <= phrase.length_beats + 1e-9


def test_a_take_is_put_aside_under_a_free_name(tmp_path: Path) -> None:
    first = move_take(write_take(tmp_path, REPLY, NOW), "kept")
    second = move_take(write_take(tmp_path, REPLY, NOW), "kept")
    assert first == tmp_path / "live" / "kept" / "2026-11-25 20-15-03 reply bar 17.mid"
    assert second.stem.endswith("(2)")
    assert sorted((tmp_path / "live").glob("*.mid")) == []
    with pytest.raises(OutboxError, match="can't take"):
        move_take(tmp_path / "live" / "gone.mid", "kept")


def test_a_full_disk_is_named_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutboxError, match="is full") as caught:
        write_take(tmp_path, REPLY, NOW)
    assert caught.value.code == "disk_full"
    assert list((tmp_path / "live").iterdir()) == []


def test_an_outbox_that_is_no_folder_is_named(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    outbox.write_text("a file stands here", encoding="utf-8")
    with pytest.raises(OutboxError, match="outbox can't take what was played"):
        write_take(outbox, REPLY, NOW)
