"""Promises of the MIDI files: what is written is read back, note-ons and note-offs pair up, errors are plain."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from pathlib import Path

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputError
from bridge.midi import midi_to_phrase, phrase_to_midi, read_midi, write_midi
from bridge.sheet import DRUM_CHANNEL, FIRST_DOWNBEAT
from bridge.tempo import beats_to_ticks, constant_tempo, tempo_from_changes
from bridge.types import PPQ, Note, Phrase

TEMPO = constant_tempo(100.0, 44_100)
PHRASE = Phrase(
    (
        Note(0.0, 1.0, 36, 100, "bass"),
        Note(0.0, 0.25, 36, 110, "drums"),
        Note(0.5, 0.25, 42, 60, "drums"),
        Note(1.0, 2.0, 64, 90, "other"),
        Note(1.0, 2.0, 60, 80, "other"),
        Note(1.5, 0.5, 67, 70, "vocals"),
    ),
    8.0,
)


def parse(data: bytes) -> mido.MidiFile:
    return mido.MidiFile(file=io.BytesIO(data), charset="utf-8")


def events(data: bytes, kind: str) -> list[tuple[int, mido.Message]]:
    found = []
    for track in parse(data).tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == kind:
                found.append((now, message))
    return found


def test_what_is_written_is_read_back() -> None:
    phrase, tempo = midi_to_phrase(phrase_to_midi(PHRASE, TEMPO))
    assert sorted(phrase.notes, key=str) == sorted(PHRASE.notes, key=str)
    assert phrase.length_beats == PHRASE.length_beats
    assert tempo == TEMPO


def test_one_track_per_part_named_after_it() -> None:
    file = parse(phrase_to_midi(PHRASE, TEMPO, title="Söng 🎵"))
    assert (file.type, file.ticks_per_beat) == (1, PPQ)
    assert [track.name for track in file.tracks] == ["Söng 🎵", "vocals", "bass", "other", "drums"]


def test_drums_are_on_channel_ten_and_other_parts_on_channels_of_their_own() -> None:
    parts = ("drums", "bass", "vocals", "other", "lead", "piano", "guitar", "strings", "kazoo", "theremin")
    phrase = Phrase(tuple(Note(0.0, 1.0, 60, 80, part) for part in parts), 4.0)
    file = parse(phrase_to_midi(phrase, TEMPO))
    channels = {track.name: {m.channel for m in track if not m.is_meta} for track in file.tracks[1:]}
    assert channels.pop("drums") == {DRUM_CHANNEL}
    assert all(len(used) == 1 for used in channels.values())
    assert len(set.union(*channels.values())) == len(parts) - 1
    assert DRUM_CHANNEL not in set.union(*channels.values())


def test_track_0_says_tempo_metre_key_and_where_it_comes_from() -> None:
    tempo = tempo_from_changes(
        [(0, 100.0), (44_100, 120.0)], 44_100, beats_per_bar=6, beat_unit=8, first_downbeat_frame=22_050
    )
    data = phrase_to_midi(PHRASE, tempo, key="A# minor", provenance="dawbridge artifact=notes")
    tempi = [(tick, m.tempo) for tick, m in events(data, "set_tempo")]
    assert tempi == [(0, 600_000), (beats_to_ticks(100 / 60), 500_000)]
    [(_, metre)] = events(data, "time_signature")
    assert (metre.numerator, metre.denominator) == (6, 8)
    assert events(data, "key_signature")[0][1].key == "A#m"
    assert events(data, "text")[0][1].text == "dawbridge artifact=notes"
    [(tick, marker)] = events(data, "marker")
    assert (tick, marker.text) == (beats_to_ticks(0.5 * 100 / 60), FIRST_DOWNBEAT)


def test_tempo_changes_and_the_first_downbeat_come_back_within_two_milliseconds() -> None:
    tempo = tempo_from_changes(
        [(0, 97.3), (70_000, 121.7), (300_000, 88.1)], 48_000, beats_per_bar=3, first_downbeat_frame=11_111
    )
    _, read = midi_to_phrase(phrase_to_midi(Phrase((), 16.0), tempo), 48_000)
    assert (read.beats_per_bar, read.beat_unit) == (3, 4)
    assert abs(read.first_downbeat_frame - tempo.first_downbeat_frame) < 96
    for mine, theirs in zip(tempo.points, read.points, strict=True):
        assert abs(mine.frame - theirs.frame) < 96  # each is rounded to a tick of 1.3 ms
        assert theirs.bpm == pytest.approx(mine.bpm, rel=1e-5)


@pytest.mark.parametrize("key", ["", "H major", "C", "nonsense"])
def test_an_unknown_key_is_left_out(key: str) -> None:
    assert not events(phrase_to_midi(PHRASE, TEMPO, key=key), "key_signature")


@pytest.mark.parametrize(
    "tonic", ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B", "Db", "Gb"]
)
@pytest.mark.parametrize("mode", ["major", "minor"])
def test_every_key_can_be_written(tonic: str, mode: str) -> None:
    assert len(events(phrase_to_midi(PHRASE, TEMPO, key=f"{tonic} {mode}"), "key_signature")) == 1


def test_overlapping_notes_on_one_pitch_are_cut() -> None:
    phrase = Phrase((Note(0.0, 2.0, 60, 80, "other"), Note(1.0, 2.0, 60, 90, "other")), 4.0)
    notes = midi_to_phrase(phrase_to_midi(phrase, TEMPO))[0].notes
    assert [(n.start_beats, n.length_beats, n.velocity) for n in notes] == [(0.0, 1.0, 80), (1.0, 2.0, 90)]


def test_of_two_notes_at_one_moment_the_louder_stays() -> None:
    phrase = Phrase((Note(0.0, 2.0, 60, 80, "other"), Note(0.0, 1.0, 60, 90, "other")), 4.0)
    [note] = midi_to_phrase(phrase_to_midi(phrase, TEMPO))[0].notes
    assert note.velocity == 90


@pytest.mark.parametrize(("start_beats", "tick"), [(3.9999, 1919), (4.0, 1919), (4.2, 1919), (-0.1, 0)])
def test_a_note_that_begins_outside_the_phrase_is_moved_in_and_not_lost(
    start_beats: float, tick: int
) -> None:
    phrase = Phrase((Note(start_beats, 0.5, 60, 80, "other"),), 4.0)
    [note] = midi_to_phrase(phrase_to_midi(phrase, TEMPO))[0].notes
    assert beats_to_ticks(note.start_beats) == tick
    assert note.start_beats + note.length_beats <= 4.0


@given(
    st.lists(
        st.builds(
            Note,
            st.floats(-1.0, 10.0),
            st.floats(0.0, 4.0),
            st.integers(58, 62),
            st.integers(1, 127),
            st.sampled_from(["bass", "drums", "other"]),
        ),
        max_size=30,
    ),
    st.floats(0.0, 9.0),
)
def test_no_note_hangs_and_the_end_is_exact(notes: list[Note], length_beats: float) -> None:
    data = phrase_to_midi(Phrase(tuple(notes), length_beats), TEMPO)
    for track in parse(data).tracks:
        sounding: Counter[int] = Counter()
        for message in track:
            if message.type == "note_on":
                assert sounding[message.note] == 0
                sounding[message.note] += 1
            elif message.type == "note_off":
                sounding[message.note] -= 1
        assert not +sounding
        assert sum(message.time for message in track) == beats_to_ticks(length_beats)


def test_the_same_phrase_gives_the_same_bytes() -> None:
    assert phrase_to_midi(PHRASE, TEMPO) == phrase_to_midi(PHRASE, TEMPO)


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated:UserWarning")
def test_another_reader_hears_the_same_notes(tmp_path: Path) -> None:
    import pretty_midi

    write_midi(tmp_path / "a.mid", PHRASE, TEMPO)
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid"))
    heard = {
        (instrument.name, note.pitch, note.velocity, round(note.start, 6), round(note.end, 6))
        for instrument in midi.instruments
        for note in instrument.notes
    }
    beat_s = 0.6
    assert heard == {
        (
            n.part,
            n.pitch,
            n.velocity,
            round(n.start_beats * beat_s, 6),
            round((n.start_beats + n.length_beats) * beat_s, 6),
        )
        for n in PHRASE.notes
    }
    assert [i.name for i in midi.instruments if i.is_drum] == ["drums"]


def test_a_type_0_file_of_another_program_is_read() -> None:
    file = mido.MidiFile(type=0, ticks_per_beat=96)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.Message("note_on", note=60, velocity=64, time=0))
    track.append(mido.Message("note_on", note=38, velocity=90, channel=9, time=48))
    track.append(mido.Message("note_on", note=60, velocity=0, time=48))
    buffer = io.BytesIO()
    file.save(file=buffer)
    phrase, tempo = midi_to_phrase(buffer.getvalue())
    assert phrase.notes[0] == Note(0.0, 1.0, 60, 64, "channel 1")
    assert phrase.notes[1] == Note(0.5, 0.5, 38, 90, "drums")  # never released: ends with its track
    assert tempo.points[0].bpm == 120.0


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mid can't be read"):
        read_midi(tmp_path / "gone.mid")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no midi at all",
        phrase_to_midi(PHRASE, TEMPO)[:-30],
        b"MThd" + b"\xff" * 60,
        b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\xe7\x28MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
        b"MThd\x00\x00\x00\x06\x00\x02\x00\x01\x01\xe0MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
    ],
    ids=["empty", "text", "cut off", "noise", "SMPTE", "type 2"],
)
def test_a_damaged_file_is_an_input_error(data: bytes) -> None:
    with pytest.raises(InputError, match="Export it"):
        midi_to_phrase(data, name="x.mid")


@given(st.binary(max_size=200))
def test_noise_after_a_good_header_never_escapes_as_another_error(noise: bytes) -> None:
    with contextlib.suppress(InputError):
        midi_to_phrase(b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0MTrk\x00\x00\x00\x40" + noise)
