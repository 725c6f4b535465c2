"""A copied run is found in any key, part and place; music of one's own and commonplaces are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.errors import ModelError
from bridge.transformer.corpus import columns
from bridge.transformer.originality import (
    CopiedRun,
    build_index,
    copied_runs,
    load_index,
    longest_copied_run,
    save_index,
)
from bridge.types import Note, Phrase


def melody(seed: int, notes: int, part: str = "lead") -> list[Note]:
    random = np.random.default_rng(seed)
    lengths = random.choice([0.25, 0.5, 1.0], notes)
    starts = np.cumsum(lengths) - lengths
    return [
        Note(float(start), float(length), int(pitch), 80, part)
        for start, length, pitch in zip(starts, lengths, random.integers(55, 80, notes), strict=True)
    ]


def phrase(notes: list[Note]) -> Phrase:
    return Phrase(tuple(notes), max(note.start_beats + note.length_beats for note in notes))


def moved(notes: list[Note], beats: float, semitones: int, part: str) -> list[Note]:
    return [Note(n.start_beats + beats, n.length_beats, n.pitch + semitones, 80, part) for n in notes]


TRAINING = [columns(phrase(melody(seed, 200))) for seed in range(20)]
INDEX = build_index(TRAINING)


@pytest.mark.parametrize("semitones", range(-12, 13))
def test_a_planted_run_is_found_in_every_key_with_its_part_and_place(semitones: int) -> None:
    copied = melody(3, 200)[50:70]
    lead_in = melody(99, 8, "piano")
    begin = 16.0
    planted = lead_in + moved(copied, begin - copied[0].start_beats, semitones, "piano")
    assert copied_runs(phrase(planted), INDEX) == [CopiedRun("piano", begin, 20)]
    assert longest_copied_run(phrase(planted), INDEX) == 20


def test_chords_below_a_copied_line_do_not_hide_it() -> None:
    copied = melody(3, 200)[50:70]
    below = [Note(note.start_beats, 1.0, 40, 80, "lead") for note in copied[::3]]
    assert longest_copied_run(phrase(copied + below), INDEX) == 20


def test_random_notes_are_nobodys() -> None:
    for seed in range(100, 150):
        assert copied_runs(phrase(melody(seed, 100)), INDEX) == []


def test_twelve_notes_are_a_quotation_thirteen_a_copy() -> None:
    line = melody(3, 200)
    assert longest_copied_run(phrase(line[50:62]), INDEX) == 0
    assert longest_copied_run(phrase(line[50:63]), INDEX) == 13
    assert copied_runs(phrase(line[50:63]), INDEX, more_than=13) == []


def test_shorter_runs_are_measured_by_shorter_indexes() -> None:
    shorter = [build_index(TRAINING, notes) for notes in range(6, 13)]
    assert longest_copied_run(phrase(melody(3, 200)[50:59]), INDEX, shorter) == 9


def test_scales_repeated_figures_and_drums_are_commonplaces() -> None:
    steps = [0, 2, 4, 5, 7, 9, 11]
    scale = [Note(at / 2, 0.5, 48 + steps[at % 7] + 12 * (at // 7), 80, "lead") for at in range(28)]
    figure = [Note(at / 2, 0.5, (60, 64, 67, 71)[at % 4], 80, "piano") for at in range(28)]
    beats = [Note(note.start_beats, 0.25, note.pitch, 80, "drums") for note in melody(5, 40)]
    trained = phrase(scale + figure + beats)
    assert copied_runs(trained, build_index([columns(trained)])) == []


def test_an_index_survives_its_file_and_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save_index(INDEX, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    read = load_index(tmp_path / "a.npz")
    assert read.run_notes == 13
    assert np.array_equal(read.hashes, INDEX.hashes)


def test_an_index_is_small_and_seldom_wrong(tmp_path: Path) -> None:
    save_index(INDEX, tmp_path / "index.npz")
    assert (tmp_path / "index.npz").stat().st_size < 3.2 * len(INDEX.hashes) + 600
    assert INDEX.false_positives < 1e-5


@pytest.mark.parametrize("content", [b"", b"no index", b"PK\x03\x04 cut off"])
def test_a_damaged_index_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "index.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"index\.npz"):
        load_index(path)


def test_nothing_is_copied_where_nothing_is_played() -> None:
    assert longest_copied_run(Phrase((), 4.0), INDEX) == 0
