"""Small works of the corpus, made by chance from a few motifs: they repeat as music does."""

from __future__ import annotations

import numpy as np

from bridge.transformer.corpus import StoredWork, columns
from bridge.transformer.dataset import Piece, in_c, pieces_of, rows_of
from bridge.transformer.tokens import STEPS_PER_BEAT, Rows
from bridge.types import Note, Phrase

BAR_BEATS = 4.0
SCALE = (60, 62, 64, 65, 67, 69, 71, 72)


def made_phrase(seed: int, bars: int = 32) -> Phrase:
    """A melody of four motifs of a bar each over a bass; each is heard several times."""
    random = np.random.default_rng(seed)
    motifs = [random.choice(SCALE, 8) for _ in range(4)]
    notes = []
    for bar in range(bars):
        motif = motifs[int(random.integers(4))]
        notes.append(Note(bar * BAR_BEATS, BAR_BEATS, int(motif[0]) - 24, 80, "bass"))
        notes += [
            Note(bar * BAR_BEATS + place / 2, 0.5, int(pitch), 80, "lead")
            for place, pitch in enumerate(motif)
        ]
    return Phrase(tuple(notes), bars * BAR_BEATS)


def made_work(name: str, source: str, split: str, seed: int, bars: int = 32) -> StoredWork:
    phrase = made_phrase(seed, bars)
    bar_steps = round(BAR_BEATS * STEPS_PER_BEAT)
    return StoredWork(name, source, "CC0-1.0", name, split, bar_steps, bars * bar_steps, columns(phrase))


def made_works(sources: tuple[str, ...], per_split: int, bars: int = 32) -> list[StoredWork]:
    """`per_split` works of each source and split, all different."""
    return [
        made_work(f"{source}/{split}{number}", source, split, 1000 * index + 100 * place + number, bars)
        for index, source in enumerate(sources)
        for place, split in enumerate(("train", "valid", "test"))
        for number in range(per_split)
    ]


def made_pieces(split: str, count: int, source: str = "airds") -> list[Piece]:
    works = made_works((source,), count)
    return list(pieces_of(work for work in works if work.split == split))


def made_rows(seed: int, bars: int = 32) -> Rows:
    """Rows in C."""
    return in_c(rows_of(made_work("work", "airds", "train", seed, bars)))
