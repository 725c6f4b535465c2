"""Is there a melody: yes for a tune, no for chords, drums, drones and what separation left behind."""

from __future__ import annotations

import random

from bridge.harmony.melody import find_melody, top_line
from bridge.types import Note, Phrase
from tests.made_notes import played, song

TUNE = (60, 62, 64, 65, 67, 65, 64, 62)


def tune(part: str, transpose: int = 0) -> list[Note]:
    return [Note(i / 2, 0.5, TUNE[i % 8] + transpose, 80, part) for i in range(64)]


def test_a_sung_tune_is_clear() -> None:
    found = find_melody(song([("A", 8)]))
    assert (found.part, found.is_clear) == ("vocals", True)
    assert {note.part for note in found.notes} == {"vocals"}


def test_a_tune_over_chords_in_one_part_is_its_top_line() -> None:
    chords = [Note(float(beat), 0.9, pitch, 70, "other") for beat in range(32) for pitch in (48, 52, 55)]
    found = find_melody(Phrase(tuple(tune("other", 12) + chords), 32.0))
    assert (found.part, found.is_clear) == ("other", True)
    assert list(found.notes) == tune("other", 12)


def test_block_chords_hold_none() -> None:
    assert not find_melody(played([(0, "maj"), (7, "maj"), (9, "min"), (5, "maj")] * 2)).is_clear


def test_a_drone_and_leaps_at_random_hold_none() -> None:
    drone = Phrase(tuple(Note(i / 2, 0.5, 60, 80, "vocals") for i in range(64)), 32.0)
    draw = random.Random(1)
    leaps = Phrase(tuple(Note(i / 4, 0.25, draw.randint(40, 90), 80, "vocals") for i in range(128)), 32.0)
    assert not find_melody(drone).is_clear
    assert not find_melody(leaps).is_clear


def test_a_few_sung_notes_in_a_long_song_are_none() -> None:
    assert not find_melody(Phrase(tuple(tune("vocals")[:12]), 256.0)).is_clear


def test_drums_alone_and_nothing_hold_none() -> None:
    drums = Phrase(tuple(Note(float(beat), 0.25, 36, 100, "drums") for beat in range(8)), 8.0)
    for phrase in (drums, Phrase((), 8.0), Phrase((), 0.0)):
        found = find_melody(phrase)
        assert (found.part, found.notes, found.clarity) == ("", (), 0.0)


def test_a_voice_that_is_no_tune_leaves_the_lead_to_another_part() -> None:
    mumbled = [Note(i / 2, 0.5, 60, 80, "vocals") for i in range(64)]
    assert find_melody(Phrase(tuple(mumbled + tune("other")), 32.0)).part == "other"


def test_a_held_note_over_moving_ones_stays_the_top_line() -> None:
    held = Note(0.0, 2.0, 72, 80, "other")
    under = [Note(i / 2, 0.5, 60 + i, 80, "other") for i in range(4)]
    after = Note(2.0, 1.0, 67, 80, "other")
    assert top_line([held, *under, after]) == [held, after]
