"""New music for a song: exact lengths, in key, on its chords, in its form; whatever the weights say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bridge.composing.arrangement import arrange_song, shared_with
from bridge.composing.band import Passage, held_chords, write_band
from bridge.composing.continuation import continue_song, looped_chords
from bridge.composing.guides import guides, refit
from bridge.composing.song import Song, between, read_song
from bridge.composing.taste import Taste
from bridge.harmony.chords import Chord
from bridge.midi import read_midi
from bridge.tempo import constant_tempo
from bridge.transformer.constraints import RANGES, HarmonySpan, grid_steps
from bridge.transformer.sample import Sampling
from bridge.transformer.shipped import SHIPPED, load_model
from bridge.types import Grid, Note, Phrase
from tests.made_notes import C_MAJOR, song, sorted_phrase
from tests.song_a import DATA
from tests.tiny_model import tiny_decoder

MODEL = tiny_decoder()
C, G = Chord(0.0, 4.0, 0, "maj"), Chord(4.0, 8.0, 7, "maj")


def silent(_done: float, _total: float) -> None:
    return None


def grid(key: str = "C major", sings: bool = False, first_downbeat_beats: float = 0.0) -> Grid:
    downbeat = round(first_downbeat_beats * 30_000)  # 60 bpm at 30 kHz would be 30,000; 100 bpm is 18,000
    tempo = constant_tempo(60.0, 30_000, first_downbeat_frame=downbeat)
    return Grid(tempo, "set", 1.0, key, 1.0, -14.0, -1.0, sings, ())


def heard(form: str = "A8 B8 A8", **more: bool) -> Phrase:
    return song([(section[0], int(section[1:])) for section in form.split()], seed=3, **more)


def read(phrase: Phrase, told: Grid | None = None) -> Song:
    return read_song(phrase, told or grid(), phrase.length_beats)


def taste(seed: int = 0, **more: object) -> Taste:
    return replace(Taste(Sampling(seed=seed)), **more)  # type: ignore[arg-type]


def shifted(phrase: Phrase, by: float) -> Phrase:
    notes = tuple(replace(note, start_beats=note.start_beats + by) for note in phrase.notes)
    return Phrase(notes, phrase.length_beats + by)


def pitched(phrase: Phrase) -> list[Note]:
    return [note for note in phrase.notes if note.part != "drums"]


def assert_inside(phrase: Phrase) -> None:
    for note in phrase.notes:
        assert 0.0 <= note.start_beats < phrase.length_beats
        assert 0.0 < note.length_beats <= phrase.length_beats - note.start_beats + 1e-6
        low, high = RANGES[note.part]
        assert low <= note.pitch <= high


# What a song is


def test_stems_become_the_parts_of_the_band() -> None:
    assert {note.part for note in read(heard()).band.notes} == {"lead", "piano", "bass", "drums"}
    phrase = heard()
    held = [replace(n, length_beats=3.0) if n.part == "other" else n for n in phrase.notes]
    assert "strings" in {note.part for note in read(Phrase(tuple(held), phrase.length_beats)).band.notes}


def test_without_a_clear_melody_nobody_leads() -> None:
    found = read(heard(sung=False))
    assert not found.melody.is_clear
    assert "lead" not in {note.part for note in found.band.notes}


def test_a_melody_over_chords_in_one_stem_leads_and_leaves_the_chords() -> None:
    tune = [Note(i / 2, 0.5, 72 + (0, 2, 4, 5, 7, 5, 4, 2)[i % 8], 80, "other") for i in range(64)]
    chords = [Note(float(beat), 0.9, pitch, 70, "other") for beat in range(32) for pitch in (48, 52, 55)]
    band = read(sorted_phrase(tune + chords, 32.0)).band
    assert [note.pitch for note in band.notes if note.part == "lead"] == [note.pitch for note in tune]
    assert {note.pitch for note in band.notes if note.part == "piano"} == {48, 52, 55}


def test_a_last_hit_makes_a_bar_and_a_tail_does_not() -> None:
    phrase = heard("A8")
    assert read_song(Phrase(phrase.notes, 40.0), grid(), 33.0).bars == 8
    assert read_song(Phrase(phrase.notes, 40.0), grid(), 34.5).bars == 9
    last_hit = Note(32.0, 2.0, 36, 100, "bass")
    assert read_song(Phrase((*phrase.notes, last_hit), 40.0), grid(), 33.0).bars == 9


def test_bars_begin_where_the_notes_do_also_when_the_first_downbeat_is_told_late() -> None:
    late = read(heard("A8"), grid(first_downbeat_beats=9.0))
    assert (late.metre.first_downbeat_beats, late.bars) == (1.0, 8)
    pickup = read(shifted(heard("A8"), 1.5), grid(first_downbeat_beats=1.5))
    assert (pickup.metre.first_downbeat_beats, pickup.bars) == (1.5, 8)
    beyond = read(Phrase(heard("A2").notes, 8.0), grid(first_downbeat_beats=40.0))
    assert (beyond.metre.first_downbeat_beats, beyond.bars) == (0.0, 2)


# What the harmony allows


def test_the_bass_begins_a_chord_with_its_root_and_the_others_keep_to_its_notes() -> None:
    spans = guides((C, G), 4.0, C_MAJOR)

    def allowed(part: str, beat: float) -> frozenset[int] | None:
        found = [s for s in spans if part in s.parts and s.start_beats <= beat < s.end_beats]
        return found[0].pitch_classes if found else None

    assert allowed("bass", 4.0) == frozenset({7})
    assert allowed("bass", 5.0) == allowed("piano", 4.0) == allowed("strings", 7.9) == frozenset({7, 11, 2})
    assert allowed("lead", 6.0) == frozenset({7, 11, 2})
    assert allowed("lead", 6.5) is None
    assert allowed("drums", 4.0) is None


def test_the_scale_goes_before_the_chord() -> None:
    e7, f_sharp = Chord(0.0, 4.0, 4, "7"), Chord(4.0, 8.0, 6, "maj")
    spans = guides((e7, f_sharp), 4.0, frozenset({0, 2, 4, 5, 7, 9, 11}))
    assert {span.pitch_classes for span in spans if "piano" in span.parts} == {frozenset({4, 11, 2})}
    assert max(span.end_beats for span in spans) == 4.0


def test_notes_that_fit_stay_and_others_move_to_the_nearest_that_do() -> None:
    notes = [Note(0.0, 1.0, 48, 80, "bass"), Note(1.0, 1.0, 64, 80, "piano"), Note(1.0, 1.0, 38, 80, "drums")]
    assert refit(notes, guides((C,), 4.0, C_MAJOR), C_MAJOR) == tuple(notes)
    over_g = (replace(G, start_beats=0.0, end_beats=4.0),)
    assert [note.pitch for note in refit(notes, guides(over_g, 4.0, C_MAJOR), C_MAJOR)] == [43, 62, 38]
    only_b = (HarmonySpan(0.0, 4.0, frozenset({11}), ("piano",)),)
    twins = [Note(0.0, 1.0, 59, 80, "piano"), Note(0.0, 1.0, 60, 80, "piano")]
    assert [note.pitch for note in refit(twins, only_b, None)] == [59]


def test_the_grid_is_the_coarsest_that_the_notes_lie_on() -> None:
    def at(*steps: int) -> list[Note]:
        return [Note(step / 24, 0.1, 60, 80, "piano") for step in steps]

    assert [
        grid_steps(at(*steps)) for steps in ((0, 6, 12, 18), (0, 8, 16), (0, 6, 8), (0, 3), (1,), ())
    ] == [
        6,
        8,
        2,
        3,
        1,
        6,
    ]


# The band


def test_who_was_not_heard_goes_on_from_held_chords_and_the_bass_from_their_roots() -> None:
    strings, bass = held_chords((C, G), "strings"), held_chords((C, G), "bass")
    assert [(n.start_beats, n.length_beats) for n in strings] == [(0.0, 4.0)] * 3 + [(4.0, 4.0)] * 3
    assert [{n.pitch % 12 for n in half} for half in (strings[:3], strings[3:])] == [{0, 4, 7}, {7, 11, 2}]
    assert [n.pitch for n in bass] == [36, 43]
    assert held_chords((C, G), "drums") == held_chords((C, G), "lead") == []
    assert held_chords((replace(C, quality="none"),), "piano") == []


@pytest.mark.parametrize(("density", "grid_beats"), [("sparse", 1.0), ("normal", 0.5), ("dense", 0.25)])
def test_density_is_the_grid_of_the_part_made_coarser_or_finer(density: str, grid_beats: float) -> None:
    made = continue_song(MODEL, read(heard("A4", sung=False)), 8, taste(density=density), silent)
    assert made.notes
    assert all(note.start_beats % grid_beats == 0 for note in made.notes)


def test_nobody_plays_more_notes_or_voices_than_the_song_by_far() -> None:
    thin = Phrase(tuple(Note(float(beat), 0.9, 60 + beat % 5, 80, "piano") for beat in range(32)), 32.0)
    passage = Passage(thin, (C,), 8, (replace(C, end_beats=32.0),), 4.0, C_MAJOR, ("piano",))
    for seed in range(4):
        made = write_band(MODEL, passage, taste(seed), silent)
        for bar in range(8):
            assert len(between(made.notes, bar * 4.0, bar * 4.0 + 4.0)) <= 12
        ordered = sorted(made.notes, key=lambda note: note.start_beats)
        for before, after in pairwise(ordered):
            assert before.start_beats + before.length_beats <= after.start_beats + 1e-6


# The continuation


@pytest.mark.parametrize("bars", [1, 8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_continuation_is_exactly_so_long_and_in_key_and_nothing_leaves_it(bars: int, seed: int) -> None:
    made = continue_song(MODEL, read(heard()), bars, taste(seed), silent)
    assert made.length_beats == 4.0 * bars
    assert_inside(made)
    assert {note.pitch % 12 for note in pitched(made)} <= C_MAJOR
    assert all((note.start_beats * 4) % 1 == 0 for note in made.notes)


def test_it_goes_on_with_the_chords_of_the_last_section() -> None:
    chords = looped_chords(read(heard("A8 B8")), 6)
    assert [chord.name for chord in chords] == ["Am", "Dm", "F", "G", "Am", "Dm"]
    assert [chord.start_beats for chord in chords] == [0.0, 4.0, 8.0, 12.0, 16.0, 20.0]
    made = continue_song(MODEL, read(heard("A8 B8")), 16, taste(parts=("piano",)), silent)
    looped = looped_chords(read(heard("A8 B8")), 16)
    assert made.notes
    for note in made.notes:
        chord = next(c for c in looped if c.start_beats <= note.start_beats < c.end_beats)
        assert note.pitch % 12 in chord.pitch_classes


def test_the_same_seed_gives_the_same_notes_and_another_one_others() -> None:
    def made(seed: int) -> Phrase:
        return continue_song(MODEL, read(heard("A8")), 2, taste(seed), silent)

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_nobody_leads_a_continuation_without_a_melody_unless_asked() -> None:
    song_without = read(heard(sung=False))
    for seed in range(2):
        made = continue_song(MODEL, song_without, 4, taste(seed), silent)
        assert "lead" not in {note.part for note in made.notes}
    asked = continue_song(MODEL, song_without, 8, taste(parts=("lead",)), silent)
    assert {note.part for note in asked.notes} == {"lead"}


def test_drums_alone_go_on_as_drums_alone() -> None:
    drums = Phrase(tuple(note for note in heard().notes if note.part == "drums"), 96.0)
    made = continue_song(MODEL, read(drums, grid(key="")), 8, taste(), silent)
    assert {note.part for note in made.notes} == {"drums"}


def test_a_second_draw_has_another_seed_and_is_a_little_bolder() -> None:
    asked = Taste(Sampling(temperature=1.0, seed=2**31 - 1))
    assert asked.again(0) == asked
    assert asked.again(1).sampling.seed == 0
    assert 1.0 < asked.again(1).sampling.temperature < asked.again(2).sampling.temperature <= 1.5


# The arrangement


def arranged(phrase: Phrase, told: Grid | None = None, seed: int = 0, **more: object) -> Phrase:
    return arrange_song(MODEL, read(phrase, told), taste(seed, **more), silent)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_arrangement_is_as_long_as_the_bounce_in_key_and_new(seed: int) -> None:
    phrase = heard()
    made = arranged(phrase, seed=seed)
    assert made.length_beats == phrase.length_beats
    assert_inside(made)
    assert {note.pitch % 12 for note in pitched(made)} <= C_MAJOR
    assert shared_with(made, read(phrase).band) < 0.5


def test_a_section_that_comes_back_brings_its_music() -> None:
    made = arranged(heard("A8 B8 A8"))
    first, second, third = (between(made.notes, start, start + 32.0) for start in (0.0, 32.0, 64.0))
    assert first == third
    assert first
    assert first != second


def test_where_a_repeat_has_other_chords_its_notes_follow_them() -> None:
    phrase = heard("A8 A8")
    lower = {
        note: replace(note, pitch=note.pitch - 1 if note.pitch % 12 == 7 else note.pitch)
        for note in phrase.notes
        if note.part in ("other", "bass") and 56.0 <= note.start_beats < 60.0
    }
    found = read(Phrase(tuple(lower.get(note, note) for note in phrase.notes), 64.0))
    assert [section.label for section in found.form] == ["A", "A"]
    made = arrange_song(MODEL, found, taste(), silent)
    for note in pitched(made):
        chord = next(c for c in found.chords if c.start_beats <= note.start_beats < c.end_beats)
        assert note.part == "lead" or note.pitch % 12 in (chord.pitch_classes & C_MAJOR or C_MAJOR)


def test_nobody_leads_where_somebody_sings() -> None:
    both = {"parts": ("lead", "piano")}
    for seed in range(2):
        made = arranged(heard("A4"), grid(sings=True), seed, **both)
        assert "lead" not in {note.part for note in made.notes}
    assert "lead" in {
        note.part for seed in range(3) for note in arranged(heard("A4"), None, seed, **both).notes
    }


def test_a_silent_section_stays_silent_and_drums_rest_where_the_song_s_do() -> None:
    phrase = heard("A8 A8 A8")
    without = tuple(note for note in phrase.notes if not 32.0 <= note.start_beats < 64.0)
    assert between(arranged(Phrase(without, 96.0)).notes, 32.0, 64.0) == ()
    no_drums = tuple(n for n in phrase.notes if n.part != "drums" or not 32.0 <= n.start_beats < 64.0)
    middle = between(arranged(Phrase(no_drums, 96.0)).notes, 32.0, 64.0)
    assert middle
    assert "drums" not in {note.part for note in middle}


def test_drums_lead_in_where_the_song_has_a_pickup() -> None:
    phrase = shifted(heard("A8 A8"), 2.0)
    quiet = arranged(phrase, grid(first_downbeat_beats=2.0), parts=("drums",))
    assert between(quiet.notes, 0.0, 2.0) == ()
    upbeat = Phrase((Note(1.0, 1.0, 67, 90, "vocals"), *phrase.notes), phrase.length_beats)
    for seed in range(4):
        made = arranged(upbeat, grid(first_downbeat_beats=2.0), seed, parts=("drums", "piano"))
        lead_in = between(made.notes, 0.0, 2.0)
        ending = between([note for note in made.notes if note.part == "drums"], 32.0, 34.0)
        assert [(n.start_beats, n.pitch) for n in lead_in] == [(n.start_beats, n.pitch) for n in ending]


def test_the_last_partial_bar_is_cut_to_the_bounce() -> None:
    phrase = heard("A8")
    cut = Phrase(tuple(note for note in phrase.notes if note.start_beats < 29.3), 29.3)
    made = arranged(cut)
    assert made.length_beats == 29.3
    assert_inside(made)


def test_drums_alone_are_arranged_for_drums() -> None:
    drums = Phrase(tuple(note for note in heard().notes if note.part == "drums"), 96.0)
    assert {note.part for note in arranged(drums, grid(key="")).notes} <= {"drums"}


@pytest.mark.real
def test_with_the_shipped_weights_the_music_is_new_and_nobody_falls_silent(tmp_path: Path) -> None:
    model = load_model(SHIPPED, tmp_path)
    notes = [note for part in ("bass", "other", "drums") for note in read_midi(DATA / f"{part}.mid")[0].notes]
    stems = [replace(note, part="other") if note.part == "pad" else note for note in notes]
    found = read(sorted_phrase(stems, 64.0), grid(sings=True))
    draws = [arrange_song(model, found, taste().again(draw), silent) for draw in range(2)]
    assert min(shared_with(made, found.band) for made in draws) < 0.5
    made = draws[0]
    for bar in range(16):
        playing = {note.part for note in between(made.notes, bar * 4.0, bar * 4.0 + 4.0)}
        assert {"drums", "bass", "piano"} <= playing
