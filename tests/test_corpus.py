"""The corpus: what the readers hear in small scores, and that no tune stands on both sides of a split."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import mido
import numpy as np
import pytest

from bridge.errors import InputError
from bridge.transformer import corpus
from bridge.transformer.corpus import Work, columns, counts, is_sound, read_corpus, shorten, split_of
from bridge.transformer.duplicates import fingerprint, groups_of_variants
from bridge.transformer.parts import PARTS
from bridge.transformer.readers.abc import key_accidentals, metre_beats, read_abc
from bridge.transformer.readers.arranger import SONGS, find_grooves, harmonise, song_chart
from bridge.transformer.readers.midi_files import read_midi_piece
from bridge.transformer.readers.musicxml import read_musicxml
from bridge.transformer.readers.score import on_grid
from bridge.transformer.readers.wad import midi_lumps
from bridge.transformer.sources import LEFT_OUT, SOURCES
from bridge.types import Note, Phrase


def abc(body: str, key: str = "C", metre: str = "4/4", unit: str = "1/4") -> Phrase:
    (piece,) = read_abc(f"X:1\nT:Test\nM:{metre}\nL:{unit}\nK:{key}\n{body}\n")
    return piece.phrase


def pitches(phrase: Phrase) -> list[int]:
    return [note.pitch for note in phrase.notes]


def starts(phrase: Phrase) -> list[float]:
    return [note.start_beats for note in phrase.notes]


# ABC


def test_abc_octaves_accidentals_and_keys_sound_as_written() -> None:
    assert pitches(abc("C, C c c'|", "C")) == [48, 60, 72, 84]
    assert pitches(abc("F ^G G =F|F _B", "D")) == [
        66,
        68,
        68,
        65,
        66,
        70,
    ]  # an accidental lasts to the bar line


def test_abc_lengths_tuplets_and_broken_rhythm() -> None:
    assert starts(abc("C2 D/ E/ F|")) == [0.0, 2.0, 2.5, 3.0]
    triplet = abc("(3CDE F2 G4|", unit="1/8")
    assert starts(triplet) == [0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0, 2.0]
    assert starts(abc("C>D E<F|")) == [0.0, 1.5, 2.0, 2.5]
    assert starts(abc("C>>D E2|")) == [0.0, 1.75, 2.0]


def test_abc_repeats_with_endings_are_played_out() -> None:
    assert pitches(abc("|:CDEF|1 G4:|2 A4||B4|]")) == [60, 62, 64, 65, 67, 60, 62, 64, 65, 69, 71]
    assert pitches(abc("C4::D4:|")) == [60, 60, 62, 62]
    assert pitches(abc("C4||D4:|E4|")) == [60, 62, 62, 64]


def test_abc_upbeats_end_on_the_bar_line_and_repeats_keep_the_bar() -> None:
    phrase = abc("G|:CDEF|CDEF|:G4|c4|]")
    assert starts(phrase)[:2] == [3.0, 4.0]
    mended = abc("G|CDEF|CDE2:|")  # the last bar is too long for the upbeat that follows it again
    assert [start for note, start in zip(mended.notes, starts(mended), strict=True) if note.pitch == 60] == [
        4.0, 8.0, 12.0, 16.0,
    ]  # fmt: skip


def test_abc_ties_join_one_pitch_and_slurs_do_not() -> None:
    phrase = abc("C4-|C2 D-E|")
    assert [(note.pitch, note.length_beats) for note in phrase.notes] == [(60, 6.0), (62, 1.0), (64, 1.0)]


def test_abc_what_is_no_melody_is_passed_over() -> None:
    assert pitches(abc('"G7"G !trill!~A {cd}B "x"[CE]|% a comment\nw:la la\nd:|'))[:5] == [67, 69, 71, 60, 64]


def test_abc_tunes_in_several_voices_are_left_out() -> None:
    assert list(read_abc("X:1\nT:Two\nM:4/4\nL:1/4\nK:C\nV:1\nCDEF|\nV:2\nCDEF|\n")) == []


@pytest.mark.parametrize(
    ("key", "altered"),
    [
        ("G", {"F": 1}),
        ("A Dorian", {"F": 1}),
        ("Bb", {"B": -1, "E": -1}),
        ("Em", {"F": 1}),
        ("Amix", {"F": 1, "C": 1}),
    ],
)
def test_abc_keys(key: str, altered: dict[str, int]) -> None:
    assert key_accidentals(key) == altered


@pytest.mark.parametrize(("metre", "beats"), [("6/8", 3.0), ("C|", 4.0), ("9/8 % odd", 4.5), ("none", None)])
def test_abc_metres(metre: str, beats: float | None) -> None:
    assert metre_beats(metre) == beats


# MusicXML


NOTE = "<note>{chord}<pitch><step>{step}</step><octave>4</octave></pitch><duration>{length}</duration>{tie}</note>"


def xml_note(step: str, length: int, *, chord: bool = False, tie: str = "") -> str:
    tied = f'<tie type="{tie}"/>' if tie else ""
    return NOTE.format(step=step, length=length, chord="<chord/>" if chord else "", tie=tied)


def score(measures: str, second: str = "") -> bytes:
    head = "<attributes><divisions>2</divisions><time><beats>2</beats><beat-type>4</beat-type></time></attributes>"
    parts = f'<part id="P1">{measures.replace("HEAD", head)}</part>'
    if second:
        parts += f'<part id="P2">{second.replace("HEAD", head)}</part>'
    names = "".join(
        f'<score-part id="P{n}"><part-name>{name}</part-name></score-part>'
        for n, name in ((1, "Flute"), (2, "Cello"))
    )
    return f"<score-partwise><part-list>{names}</part-list>{parts}</score-partwise>".encode()


def test_musicxml_chords_voices_ties_and_repeats(tmp_path: Path) -> None:
    first = xml_note("C", 2) + xml_note("E", 2, chord=True) + xml_note("G", 2, tie="start")
    second = xml_note("G", 4, tie="stop") + "<backup><duration>4</duration></backup>" + xml_note("C", 4)
    repeat = '<barline location="right"><repeat direction="backward"/></barline>'
    path = tmp_path / "score.xml"
    path.write_bytes(score(f"<measure>HEAD{first}</measure><measure>{second}{repeat}</measure>"))
    piece = read_musicxml(path, "piano")
    once = [(0.0, 60, 1.0), (0.0, 64, 1.0), (1.0, 67, 3.0), (2.0, 60, 2.0)]
    twice = once + [(start + 4.0, pitch, length) for start, pitch, length in once]
    assert [(n.start_beats, n.pitch, n.length_beats) for n in piece.phrase.notes] == twice
    assert piece.bar_beats == 2.0
    assert piece.phrase.length_beats == 8.0


def test_musicxml_endings_hold_for_the_bars_between_their_ends(tmp_path: Path) -> None:
    def bar(step: str, extra: str = "") -> str:
        return f"<measure>{xml_note(step, 4)}{extra}</measure>"

    opens = '<barline location="left"><ending number="1" type="start"/></barline>'
    closes = (
        '<barline location="right"><ending number="1" type="stop"/><repeat direction="backward"/></barline>'
    )
    second = '<barline location="left"><ending number="2" type="start"/></barline>'
    head = f"<measure>HEAD{xml_note('C', 4)}</measure>"
    path = tmp_path / "score.xml"
    path.write_bytes(
        score(head + bar("D", opens) + bar("E") + bar("F", closes) + bar("G", second) + bar("A"))
    )
    assert pitches(read_musicxml(path, "piano").phrase) == [60, 62, 64, 65, 60, 67, 69]


def test_musicxml_says_what_its_file_says_of_rights(tmp_path: Path) -> None:
    plain = score(f"<measure>HEAD{xml_note('C', 4)}</measure>")
    path = tmp_path / "score.xml"
    for written, heard in ((b"\n  ", ""), (b" All rights\n reserved ", "All rights reserved")):
        rights = b"<identification><rights>" + written + b"</rights></identification><part-list>"
        path.write_bytes(plain.replace(b"<part-list>", rights))
        assert read_musicxml(path, "piano").rights == heard


def test_musicxml_zipped_with_parts_by_name(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(
            "META-INF/container.xml",
            '<container><rootfiles><rootfile full-path="a.xml"/></rootfiles></container>',
        )
        zipped.writestr(
            "a.xml",
            score(f"<measure>HEAD{xml_note('C', 4)}</measure>", f"<measure>HEAD{xml_note('G', 4)}</measure>"),
        )
    path = tmp_path / "score.mxl"
    path.write_bytes(archive.getvalue())
    notes = read_musicxml(path, {"flute": "lead", "": "strings"}).phrase.notes
    assert [(note.part, note.pitch) for note in notes] == [("lead", 60), ("strings", 67)]


@pytest.mark.parametrize("content", [b"no xml", b"<score-timewise/>", b"PK\x03\x04broken"])
def test_musicxml_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("a.mxl" if content.startswith(b"PK") else "a.xml")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.(mxl|xml)"):
        read_musicxml(path, "piano")


# MIDI and WAD


def midi_file(ticks: list[int], program: int = 33, channel: int = 0) -> bytes:
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
    now = 0
    for tick in ticks:
        track.append(mido.Message("note_on", channel=channel, note=40, velocity=90, time=tick - now))
        track.append(mido.Message("note_off", channel=channel, note=40, time=100))
        now = tick + 100
    file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def test_midi_programs_become_parts_and_channel_ten_drums() -> None:
    bass, drums = (read_midi_piece(midi_file([0, 480, 960], 33, channel), "x") for channel in (0, 9))
    assert bass and {note.part for note in bass.phrase.notes} == {"bass"}
    assert drums and {note.part for note in drums.phrase.notes} == {"drums"}


def test_midi_that_lies_beside_the_grid_as_a_whole_is_moved_onto_it() -> None:
    late = read_midi_piece(midi_file([60 + 480 * beat for beat in range(8)]), "x")
    assert late
    assert starts(late.phrase) == [float(beat) for beat in range(8)]


def test_midi_that_keeps_no_time_with_its_beats_is_left_out() -> None:
    free = np.cumsum(np.random.default_rng(0).integers(101, 900, 200))
    assert read_midi_piece(midi_file([int(tick) for tick in free]), "x") is None


def test_wad_gives_its_midi_lumps_alone() -> None:
    lumps = [(b"PLAYPAL", b"colours"), (b"D_E1M1", midi_file([0])), (b"D_INTRO", midi_file([480]))]
    body, directory = b"", b""
    for name, content in lumps:
        directory += struct.pack("<ii8s", 12 + len(body), len(content), name)
        body += content
    wad = struct.pack("<4sii", b"IWAD", len(lumps), 12 + len(body)) + body + directory
    assert list(midi_lumps(wad, "x.wad")) == [(name.decode(), content) for name, content in lumps[1:]]
    with pytest.raises(InputError, match=r"x\.wad is cut off"):
        list(midi_lumps(wad[:-5], "x.wad"))
    with pytest.raises(InputError, match="no WAD"):
        list(midi_lumps(b"MThd and more of it", "x.wad"))


# The arranger, without MMA


def test_harmony_follows_a_plain_melody() -> None:
    bars = [(60, 64, 67, 64), (65, 69, 72, 69), (67, 71, 74, 71), (60, 64, 67, 72)]
    notes = (
        Note(4.0 * bar + at, 1.0, pitch, 80, "lead")
        for bar, four in enumerate(bars)
        for at, pitch in enumerate(four)
    )
    assert harmonise(Phrase(tuple(notes), 16.0), 4.0, 1) == ["C", "F", "G", "C"]


@pytest.mark.parametrize("title", SONGS)
def test_every_song_has_whole_sections(title: str) -> None:
    chart = song_chart(title, 2)
    assert len(chart) % 4 == 1  # the last bar comes home
    assert all(1 <= len(bar) <= 2 for bar in chart)


def test_grooves_are_read_with_their_metre_and_without_intros(tmp_path: Path) -> None:
    (tmp_path / "waltz.mma").write_text(
        "Time 3\nTimesig 3 4\nDefGroove Waltz plain\nDefGroove WaltzEnd end\n"
    )
    (tmp_path / "68march.mma").write_text("Time 2\nTimesig 6 8\nDefGroove 68March both\n")
    (tmp_path / "odd.mma").write_text("Time 5\nTimesig 5 4\nDefGroove Odd none\n")
    assert [(g.name, g.mma_beats, g.bar_beats) for g in find_grooves(tmp_path)] == [
        ("68March", 2, 3.0),
        ("Waltz", 3, 3.0),
    ]


# The corpus


def tune(seed: int, notes: int = 64, part: str = "lead", transposed: int = 0) -> Phrase:
    random = np.random.default_rng(seed)
    made = [
        Note(at / 2, 0.5, int(pitch) + transposed, 80, part)
        for at, pitch in enumerate(random.integers(50, 80, notes))
    ]
    return Phrase(tuple(made), notes / 2)


def work(name: str, phrase: Phrase, group: str = "") -> Work:
    return Work(name, "airds", "MIT", group or name, phrase, 4.0)


def test_the_grid_rounds_cuts_and_drops_leading_bars() -> None:
    notes = [Note(8.01, 3.0, 60, 80, "lead"), Note(9.0, 1.0, 60, 80, "lead"), Note(9.0, 2.0, 60, 70, "lead")]
    phrase = on_grid(notes, 11.0, 4.0)
    assert [(n.start_beats, n.length_beats, n.velocity) for n in phrase.notes] == [
        (0.0, 1.0, 80),
        (1.0, 2.0, 70),
    ]
    assert phrase.length_beats == 4.0


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    works = [work(f"w{n}", tune(n)) for n in range(5)]
    written = corpus.write_corpus(works, tmp_path)
    read = read_corpus(tmp_path)
    assert [w.name for w in read] == [w.name for w in works]
    for given, stored, again in zip(works, written, read, strict=True):
        assert again.notes.pitch.tolist() == pitches(given.phrase)
        assert (again.notes.start_steps / 24).tolist() == starts(given.phrase)
        assert {PARTS[part] for part in again.notes.part} == {"lead"}
        assert (again.split, again.bar_steps, again.length_steps) == (stored.split, 96, 768)
    assert "| airds | MIT | 5 | 320 |" in counts(read)


def test_the_same_works_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        corpus.write_corpus([work("w", tune(1))], tmp_path / folder)
    for name in ("corpus.npz", "corpus.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_tune_in_another_key_is_the_same_tune() -> None:
    assert fingerprint(columns(tune(1))) == fingerprint(columns(tune(1, transposed=3)))
    assert fingerprint(columns(tune(1))) != fingerprint(columns(tune(2)))


def test_variants_share_a_group_and_strangers_do_not() -> None:
    lines = [
        pitches(tune(1)),
        [p + 5 for p in pitches(tune(1))[:40]] + pitches(tune(7)),
        pitches(tune(2)),
        [],
    ]
    groups = groups_of_variants(["first", "second", "third", "fourth"], lines)
    assert groups == ["first", "first", "third", "fourth"]


def test_no_group_stands_on_both_sides(tmp_path: Path) -> None:
    works = [work(f"{n}/{key}", tune(n, transposed=key), f"{n}/{key}") for n in range(40) for key in (0, 4)]
    stored = corpus.write_corpus(works, tmp_path)
    splits = {n: {w.split for w in stored if w.name.startswith(f"{n}/")} for n in range(40)}
    assert all(len(found) == 1 for found in splits.values())


def test_splits_hold_out_their_share() -> None:
    drawn = [split_of(f"group {n}") for n in range(4_000)]
    assert drawn.count("valid") / 4_000 == pytest.approx(0.05, abs=0.015)
    assert drawn.count("test") / 4_000 == pytest.approx(0.05, abs=0.015)


def test_poor_works_are_left_out_and_long_ones_end_on_a_bar_line() -> None:
    assert not is_sound(tune(1, notes=31), 4.0)
    assert not is_sound(tune(1), 0.5)
    cluster = Phrase(tuple(Note(0.0, 1.0, pitch, 80, "piano") for pitch in range(30, 70)), 4.0)
    assert not is_sound(cluster, 4.0)
    short = shorten(tune(1, notes=9_003), 3.0)
    assert len(short.notes) <= 8_000
    assert short.length_beats % 3.0 == 0.0


def test_titles_lose_articles_and_the_kind_of_dance() -> None:
    same = ["The Rakes of Mallow -- Reel", "Rakes o' Mallow (2nd setting)", "the rakes of mallow"]
    assert [corpus.title_group(title) for title in same] == [
        "rakes of mallow",
        "rakes o mallow",
        "rakes of mallow",
    ]


def test_every_source_names_its_licence_and_what_was_left_out_says_why() -> None:
    assert all(source.licence and source.note for source in SOURCES)
    assert all(name and reason for name, reason in LEFT_OUT)
    assert {"essenFolksong", "palestrina"} <= {name for name, _ in LEFT_OUT}
