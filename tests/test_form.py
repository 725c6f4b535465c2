"""Form from notes: where sections begin, and which come back."""

from __future__ import annotations

import pytest

from bridge.harmony.form import find_form
from bridge.types import Note, Phrase
from tests.made_notes import song

FORMS = (
    "A8 B8 A8 B8 C8 B8",
    "A8 C4 A8 B8",
    "A8 A8 B8",
    "A6",
    "C4 A8 B8 A8",
)


def parsed(form: str) -> list[tuple[str, int]]:
    return [(section[0], int(section[1:])) for section in form.split()]


def told(phrase: Phrase, bar_beats: float = 4.0, first_downbeat_beats: float = 0.0) -> list[tuple[str, int]]:
    return [(section.label, section.bars) for section in find_form(phrase, bar_beats, first_downbeat_beats)]


def renamed(form: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Labels in order of appearance."""
    order = list(dict.fromkeys(kind for kind, _ in form))
    return [("ABC"[order.index(kind)], bars) for kind, bars in form]


@pytest.mark.parametrize("mistakes", [0.0, 0.15, 0.3])
@pytest.mark.parametrize("form", FORMS)
def test_the_sections_are_found_through_missing_notes_and_new_words(form: str, mistakes: float) -> None:
    assert told(song(parsed(form), seed=3, mistakes=mistakes)) == renamed(parsed(form))


def test_sections_follow_each_other_without_gaps() -> None:
    sections = find_form(song(parsed("A8 B8 A8 C4")), 4.0)
    ends = [section.first_bar + section.bars for section in sections]
    assert [section.first_bar for section in sections] == [0, *ends[:-1]]
    assert ends[-1] == 28


def test_bars_count_from_the_first_downbeat_and_a_partial_last_one_counts() -> None:
    phrase = song(parsed("A8 B8"))
    notes = tuple(
        Note(n.start_beats + 1.5, n.length_beats, n.pitch, n.velocity, n.part) for n in phrase.notes
    )
    assert told(Phrase(notes, 1.5 + 62.0), 4.0, 1.5) == [("A", 8), ("B", 8)]


def test_a_short_song_is_one_section_and_an_empty_one_too() -> None:
    assert told(song(parsed("A3"))) == [("A", 3)]
    assert told(Phrase((), 8.0)) == [("A", 2)]
    assert told(Phrase((), 0.0)) == []
