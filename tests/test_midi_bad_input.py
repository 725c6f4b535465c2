"""MIDI files of other programs, and broken ones: what sounds in them, or one clear error; never a hang."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputError
from bridge.midi import midi_to_phrase, phrase_to_midi
from bridge.midievents import MOST_BYTES
from bridge.sheet import Bars, Sheet, midi_to_sheet
from bridge.tempo import constant_tempo
from bridge.transformer.heard import Heard, hear_midi
from bridge.transformer.parts import part_of_voice
from bridge.types import Note, Phrase
from tests.midi_bytes import (
    chunk,
    dense,
    event,
    meta,
    metre,
    named,
    note,
    off,
    on,
    program,
    smf,
    tempo,
    track,
)

SECONDS = 8.0
"""Of processor time: no file may take longer."""


def read(data: bytes) -> Sheet:
    return midi_to_sheet(data, "x.mid", part_of_voice)


def notes(data: bytes) -> list[tuple[float, float, int, str]]:
    return [(n.start_beats, n.length_beats, n.pitch, n.part) for n in read(data).phrase.notes]


def hear(tmp_path: Path, data: bytes) -> Heard:
    path = tmp_path / "x.mid"
    path.write_bytes(data)
    return hear_midi(path)


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "half a header": (smf()[:9], "cut off"),
    "text": (b"Dear DAW, here is my song.", "does not begin as one does"),
    "type 2": (smf(track(note(60)), kind=2), "of type 2"),
    "type 3": (smf(track(note(60)), kind=3), "does not begin as one does"),
    "SMPTE time": (smf(track(note(60)), ppq=-0x18D8), "SMPTE"),
    "no ticks in a beat": (smf(track(note(60)), ppq=0), "SMPTE"),
    "cut off in a track": (smf(track(note(60), note(62)))[:-9], "cut off"),
    "cut off between tracks": (smf(track(note(60)), track(note(62)))[: 14 + len(track(note(60)))], "1 of 2"),
    "a track that ends within a message": (smf(chunk(b"MTrk", b"\x00\x90\x3c")), "within a message"),
    "a meta event longer than its track": (smf(chunk(b"MTrk", b"\x00\xff\x01\x7fabc")), "within a message"),
    "data without a status": (smf(chunk(b"MTrk", b"\x00\x3c\x40\x00")), "without a status"),
    "a number that never ends": (smf(chunk(b"MTrk", b"\xff" * 1_000_000)), "never ends"),
    "too long": (smf(track(note(60))) + bytes(MOST_BYTES), "16 MB is the most"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_cannot_be_read_is_one_clear_error(what: str) -> None:
    data, says = REFUSED[what]
    began = time.process_time()
    with pytest.raises(InputError, match=says) as caught:
        read(data)
    assert "x.mid" in caught.value.message
    assert "Export" in caught.value.message
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize("size", range(1, 90, 3))
def test_a_file_cut_anywhere_is_an_error_and_not_a_hang(size: int) -> None:
    whole = smf(
        track(named(b"Lead"), program(80), note(60), note(62), metre(4, 2)), track(note(36, channel=9))
    )
    with pytest.raises(InputError):
        read(whole[: min(size, len(whole) - 1)])


@given(st.binary(max_size=300))
def test_noise_in_a_track_is_read_or_refused(noise: bytes) -> None:
    with contextlib.suppress(InputError):
        read(smf(chunk(b"MTrk", noise)))


@given(st.binary(max_size=300), st.integers(0, 400))
def test_a_file_with_flipped_bytes_is_read_or_refused(noise: bytes, place: int) -> None:
    data = bytearray(
        phrase_to_midi(Phrase((Note(0.0, 1.0, 60, 80, "lead"),) * 20, 8.0), constant_tempo(120.0, 44_100))
    )
    data[place : place + len(noise)] = noise
    with contextlib.suppress(InputError):
        read(bytes(data))


@pytest.mark.parametrize(
    "data",
    [smf(), smf(track()), smf(track(meta(0, 0x01, b"no notes here"), event(9, 0xB0, 7, 100), end=960))],
    ids=["header only", "an empty track", "text and a volume"],
)
def test_a_file_without_notes_is_an_empty_phrase(tmp_path: Path, data: bytes) -> None:
    assert read(data).phrase.notes == ()
    heard = hear(tmp_path, data)
    assert heard.phrase == Phrase((), 0.0)
    assert heard.bpm == 120.0


def test_running_status_is_understood_also_across_meta_events() -> None:
    events = on(0, 60), b"\x60\x3c\x00", meta(0, 0x05, b"la"), b"\x00\x40\x50", b"\x60\x40\x00"
    assert notes(smf(track(*events), ppq=96)) == [(0.0, 1.0, 60, "piano"), (1.0, 1.0, 64, "piano")]


def test_velocity_0_ends_a_note_and_a_note_without_length_still_sounds() -> None:
    data = smf(track(on(0, 60), on(240, 60, 0), on(0, 62), off(0, 62)))
    first, second = notes(data)
    assert first == (0.0, 0.5, 60, "piano")
    assert second[0] == 0.5
    assert 0.0 < second[1] < 0.01


def test_notes_never_ended_end_with_their_track_and_none_hangs_in_what_is_written() -> None:
    data = smf(track(on(0, 60), on(0, 60), on(480, 64), end=480), track(note(48, 4800)))
    assert notes(data) == [
        (0.0, 10.0, 48, "piano"),
        (0.0, 2.0, 60, "piano"),
        (0.0, 2.0, 60, "piano"),
        (1.0, 1.0, 64, "piano"),
    ]
    phrase, map_ = midi_to_phrase(data)
    file = mido.MidiFile(file=io.BytesIO(phrase_to_midi(phrase, map_)))
    for written in file.tracks:
        played = [m.type for m in written if m.type in ("note_on", "note_off")]
        assert played.count("note_on") == played.count("note_off")


def test_the_sustain_pedal_holds_notes_until_it_is_lifted_or_they_are_struck_again() -> None:
    down, up = event(0, 0xB0, 64, 127), event(480, 0xB0, 64, 0)
    data = smf(track(down, note(60, 240), note(64, 240), note(60, 240), up, note(67, 480)))
    assert notes(data) == [
        (0.0, 1.0, 60, "piano"),
        (0.5, 2.0, 64, "piano"),
        (1.0, 1.5, 60, "piano"),
        (2.5, 1.0, 67, "piano"),
    ]


def test_a_pedal_never_lifted_holds_no_longer_than_the_track() -> None:
    data = smf(track(event(0, 0xB0, 64, 64), note(60, 240), end=240))
    assert notes(data) == [(0.0, 1.0, 60, "piano")]


def test_parts_come_from_programs_of_each_channel_and_change_with_them() -> None:
    data = smf(
        track(
            program(33, channel=1),
            program(48, channel=2),
            note(40, channel=1),
            note(60, channel=2),
            note(38, channel=9),
            program(73, channel=2),
            note(72, channel=2),
            program(127, channel=3),
            note(50, channel=3),  # a gunshot is no part
        ),
        kind=0,
    )
    assert [(pitch, part) for _, _, pitch, part in notes(data)] == [
        (40, "bass"), (60, "strings"), (38, "drums"), (72, "lead"),
    ]  # fmt: skip


def test_all_sixteen_channels_of_a_type_0_file_are_heard() -> None:
    programs = [0, 24, 32, 40, 56, 64, 72, 80, 88, 0, 104, 0, 16, 48, 110, 11]
    events = [program(value, channel) for channel, value in enumerate(programs)]
    events += [note(60 + channel, 10, channel=channel) for channel in range(16)]
    found = notes(smf(track(*events), kind=0))
    assert sorted(pitch for _, _, pitch, _ in found) == list(range(60, 76))
    assert {part for *_, part in found} == {"lead", "piano", "guitar", "bass", "strings", "drums"}


def test_a_track_without_programs_has_those_that_another_sets_on_its_channel() -> None:
    data = smf(
        track(program(33, channel=4)),
        track(note(40, channel=4)),
        track(program(73), note(72)),
        track(note(60)),
    )
    assert {(pitch, part) for _, _, pitch, part in notes(data)} == {(40, "bass"), (72, "lead"), (60, "lead")}


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        (b"vocals", 53, "lead"),
        (b"other", 0, "piano"),
        (b"Bass 2", None, "bass"),
        (b"Drums", 0, "drums"),
        (b"Bass", 52, "strings"),  # sung: the program says so
        (b"Gr\xfc\xdfe", None, "piano"),
        (b"", None, "piano"),
    ],
)
def test_names_count_where_the_program_says_nothing(name: bytes, value: int | None, part: str) -> None:
    change = program(value) if value is not None else b""
    assert [found for *_, found in notes(smf(track(named(name), change, note(50))))] == [part]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Gitarre für Zoë".encode("latin-1"), "Gitarre für Zoë"), ("für 🎸".encode(), "für 🎸")],
)
def test_text_in_latin_1_and_in_utf_8_is_read(name: bytes, shown: str) -> None:
    phrase, _ = midi_to_phrase(smf(track(named(name), note(60))))
    assert phrase.notes[0].part == shown


def test_chunks_that_nobody_knows_and_what_follows_the_last_track_are_passed_over() -> None:
    data = smf(chunk(b"XFIH", b"\xff" * 9), track(note(60)), chunk(b"JUNK", b""), track(note(64))) + b"tail"
    assert [pitch for _, _, pitch, _ in notes(data)] == [60, 64]


def test_damaged_signatures_and_tempi_are_passed_over() -> None:
    odd = (
        metre(0, 2),
        metre(4, 200),
        meta(0, 0x58, b"\x03"),
        tempo(0),
        meta(0, 0x59, b"\x63\x07"),
        meta(0, 0x51),
    )
    sheet = read(smf(track(*odd, note(60))))
    assert sheet.bars == (Bars(0.0, 4, 4),)
    assert [point.bpm for point in sheet.tempo.points] == [120.0]


@pytest.mark.parametrize(("microseconds", "bpm"), [(66_667, 900.0), (0xFFFFFF, 3.576)])
def test_tempi_at_the_edges_are_read(tmp_path: Path, microseconds: int, bpm: float) -> None:
    assert hear(tmp_path, smf(track(tempo(microseconds), note(60)))).bpm == pytest.approx(bpm, rel=1e-3)


@pytest.mark.parametrize(("bpm", "held"), [(1.0, 3.576), (900.0, 900.0), (1e9, 6e7)])
def test_a_tempo_that_midi_cannot_hold_is_written_as_the_nearest(bpm: float, held: float) -> None:
    data = phrase_to_midi(Phrase((Note(0.0, 1.0, 60, 80, "lead"),), 4.0), constant_tempo(bpm, 44_100))
    assert read(data).tempo.points[0].bpm == pytest.approx(held, rel=1e-3)


@pytest.mark.parametrize(("ppq", "length"), [(1, 3), (32_767, 3 * 32_767)])
def test_any_number_of_ticks_in_a_beat_is_understood(ppq: int, length: int) -> None:
    assert notes(smf(track(note(60, length)), ppq=ppq)) == [(0.0, 3.0, 60, "piano")]


@pytest.mark.parametrize(
    ("signature", "bar_beats", "model_bar_beats"),
    [((1, 6), 1 / 16, 1.0), ((31, 4), 7.75, 7.75), ((5, 6), 5 / 16, 1.25), ((6, 3), 3.0, 3.0)],
)
def test_odd_metres_are_bars_on_the_grid(
    tmp_path: Path, signature: tuple[int, int], bar_beats: float, model_bar_beats: float
) -> None:
    heard = hear(tmp_path, smf(track(metre(*signature), note(60, 48), note(62, 9 * 480))))
    assert heard.bars.bar_beats == bar_beats
    assert heard.metre.bar_beats == model_bar_beats
    assert heard.phrase.length_beats % model_bar_beats == 0.0


def test_after_metre_changes_the_last_one_holds_and_its_bar_lines_stand_where_the_file_ends(
    tmp_path: Path,
) -> None:
    bars = metre(5, 2), note(60, 480, delta=4320), metre(3, 2), *(note(62, 480) for _ in range(96))
    heard = hear(tmp_path, smf(track(*bars)))  # two bars of 5/4, then 32 of 3/4
    assert (heard.bars.beats_per_bar, heard.bars.beat_unit) == (3, 4)
    assert (
        heard.phrase.length_beats == 99.0
    )  # of 10 beats in 5/4 the first note stands in the last bar of three
    assert heard.phrase.notes[-1].start_beats == 98.0


def test_one_odd_bar_at_the_end_is_no_new_metre(tmp_path: Path) -> None:
    played = [note(60, 480) for _ in range(32)]
    heard = hear(tmp_path, smf(track(metre(4, 2), *played, metre(2, 2), note(62, 480), note(64, 480))))
    assert heard.bars.beats_per_bar == 4
    assert heard.phrase.length_beats == 36.0  # 34 beats, laid out from the end
    assert heard.phrase.notes[-1].start_beats == 35.0


def test_a_silent_last_bar_belongs_to_the_piece_and_a_long_silence_does_not(tmp_path: Path) -> None:
    assert hear(tmp_path, smf(track(note(60), end=7 * 480))).phrase.length_beats == 8.0
    assert hear(tmp_path, smf(track(note(60), end=400 * 480))).phrase.length_beats == 4.0


def test_huge_deltas_take_neither_time_nor_room(tmp_path: Path) -> None:
    wait = 0x0FFFFFFF
    data = smf(
        track(note(60), note(64, wait, delta=wait), note(67, 480, delta=wait), on(wait, 70), end=wait), ppq=1
    )
    began = time.process_time()
    heard = hear(tmp_path, data)
    assert time.process_time() - began < SECONDS
    assert [n.pitch for n in heard.phrase.notes] == [60, 64, 67, 70]
    assert heard.phrase.length_beats < 400.0
    assert max(n.length_beats for n in heard.phrase.notes) <= 16.0


def test_drums_alone_are_heard(tmp_path: Path) -> None:
    heard = hear(tmp_path, smf(track(*(note(36, 240, channel=9) for _ in range(16)))))
    assert {n.part for n in heard.phrase.notes} == {"drums"}
    assert heard.phrase.length_beats == 8.0


def test_2000_notes_at_once_are_each_pitch_of_each_part_once(tmp_path: Path) -> None:
    struck = [on(0, pitch, channel=channel) for channel in range(16) for pitch in range(1, 126)]
    heard = hear(tmp_path, smf(track(*struck, end=480), kind=0))
    assert len(read(smf(track(*struck, end=480), kind=0)).phrase.notes) == 2000
    assert len(heard.phrase.notes) == 2 * 125  # all channels are pianos, but for the drums
    assert heard.phrase.length_beats == 4.0


def test_forty_tracks_are_read() -> None:
    tracks = [track(named(b"Part %d" % n), program(n), note(40 + n)) for n in range(40)]
    assert len(read(smf(*tracks)).phrase.notes) == 40


def test_three_hours_are_read_in_seconds_and_listened_to_from_their_end(tmp_path: Path) -> None:
    path = tmp_path / "long.mid"
    path.write_bytes(dense(32_400))
    began = time.process_time()
    heard = hear_midi(path, 4096)
    assert time.process_time() - began < SECONDS
    assert len(heard.phrase.notes) > 3500  # some fall on one step and pitch
    assert heard.phrase.length_beats < 700.0


def test_a_key_struck_a_hundred_thousand_times_and_never_released_takes_no_longer() -> None:
    began = time.process_time()
    assert len(read(smf(track(on(0, 60), b"\x01\x3c\x50" * 100_000))).phrase.notes) == 100_001
    assert time.process_time() - began < SECONDS
