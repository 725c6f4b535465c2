"""Chords from notes: named right, at the right half bar, and through the mistakes that transcriptions make."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest

from bridge.harmony.chords import NO_CHORD, QUALITIES, Chord, chords_between, find_chords
from bridge.midi import read_midi
from bridge.types import Note, Phrase
from tests.made_notes import C_MAJOR, Symbol, played, sorted_phrase
from tests.song_a import DATA

DIATONIC: tuple[Symbol, ...] = tuple(
    (root, quality)
    for quality in ("maj", "min")
    for root in range(12)
    if {(root + step) % 12 for step in QUALITIES[quality].intervals} <= C_MAJOR
)


def at(chords: tuple[Chord, ...], beat: float) -> Chord:
    return next(chord for chord in chords if chord.start_beats <= beat < chord.end_beats)


def test_every_quality_on_every_root_is_named() -> None:
    for quality in QUALITIES:
        for root in range(12):
            found = find_chords(played([(root, quality)] * 2), 4.0)
            assert [(chord.root, chord.quality) for chord in found] == [(root, quality)], (root, quality)


def test_the_chords_of_a_song_whose_truth_is_known() -> None:
    notes = [note for part in ("bass", "other", "drums") for note in read_midi(DATA / f"{part}.mid")[0].notes]
    truth = json.loads((DATA / "truth.json").read_text(encoding="utf-8"))["chords"]
    found = find_chords(sorted_phrase(notes, 64.0), 4.0, 0.0, C_MAJOR)
    assert [chord.name for chord in found] == truth * 4
    assert [chord.start_beats for chord in found] == [4.0 * bar for bar in range(16)]


@pytest.mark.parametrize(("unit_beats", "least"), [(4.0, 0.97), (2.0, 0.9)])
def test_nearly_all_are_right_where_a_seventh_of_the_notes_is_wrong(unit_beats: float, least: float) -> None:
    right = asked = 0
    for seed in range(8):
        draw = random.Random(seed)
        truth = [draw.choice(DIATONIC) for _ in range(16)]
        found = find_chords(played(truth, unit_beats, seed, mistakes=0.15), 4.0, 0.0, C_MAJOR)
        for index, symbol in enumerate(truth):
            chord = at(found, index * unit_beats + 0.5)
            right += (chord.root, chord.quality) == symbol
            asked += 1
    assert right / asked >= least


def test_the_whole_phrase_is_covered_without_gaps_also_before_the_first_downbeat() -> None:
    phrase = Phrase(played([(0, "maj"), (7, "maj")] * 2).notes, 15.3)
    found = find_chords(phrase, 4.0, 1.5)
    assert (found[0].start_beats, found[-1].end_beats) == (0.0, 15.3)
    assert all(a.end_beats == b.start_beats for a, b in pairwise(found))
    assert all((chord.start_beats - 1.5) % 2.0 == 0 for chord in found[1:])


def test_chords_in_three_four_change_at_bar_lines_alone() -> None:
    found = find_chords(played([(0, "maj"), (5, "maj"), (7, "maj")], 3.0), 3.0)
    assert [(chord.name, chord.start_beats) for chord in found] == [("C", 0.0), ("F", 3.0), ("G", 6.0)]


def test_a_bar_without_chords_keeps_the_one_before_and_a_long_pause_has_none() -> None:
    played_once = played([(0, "maj")]).notes
    later = tuple(Note(n.start_beats + 8, n.length_beats, n.pitch, n.velocity, n.part) for n in played_once)
    assert [chord.name for chord in find_chords(Phrase((*played_once, *later), 12.0), 4.0)] == ["C"]
    pause = find_chords(Phrase(played_once, 64.0), 4.0)
    assert [chord.quality for chord in pause] == ["maj", NO_CHORD]


def test_drums_alone_and_nothing_at_all_have_no_chord() -> None:
    drums = Phrase(tuple(Note(float(beat), 0.25, 36, 100, "drums") for beat in range(8)), 8.0)
    assert [(chord.quality, chord.pitch_classes) for chord in find_chords(drums, 4.0)] == [
        (NO_CHORD, frozenset())
    ]
    assert find_chords(Phrase((), 0.0), 4.0) == ()


def test_a_stretch_of_chords_counts_from_its_own_start() -> None:
    chords = find_chords(played([(0, "maj"), (7, "maj"), (9, "min")]), 4.0)
    cut = chords_between(chords, 2.0, 9.0)
    assert [(chord.name, chord.start_beats, chord.end_beats) for chord in cut] == [
        ("C", 0.0, 2.0),
        ("G", 2.0, 6.0),
        ("Am", 6.0, 7.0),
    ]
