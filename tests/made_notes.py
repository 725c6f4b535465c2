"""Small songs made of notes, for tests of what reads chords, form and melody from them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bridge.harmony.chords import QUALITIES
from bridge.types import Note, Phrase

C_MAJOR = frozenset((0, 2, 4, 5, 7, 9, 11))
Symbol = tuple[int, str]  # root, quality

CHORDS: dict[str, tuple[Symbol, ...]] = {
    "A": ((0, "maj"), (7, "maj"), (9, "min"), (5, "maj")),
    "B": ((9, "min"), (2, "min"), (5, "maj"), (7, "maj")),
    "C": ((5, "maj"), (7, "maj"), (4, "min"), (9, "min")),
}
"""One chord a bar, by kind of section."""
KICKS_AND_SNARES: dict[str, tuple[tuple[float, int], ...]] = {
    "A": ((0, 36), (1, 38), (2, 36), (3, 38)),
    "B": ((0, 36), (0.5, 36), (1, 38), (2.5, 36), (3, 38), (3.5, 38)),
    "C": ((0, 36), (2, 38)),
}


def played(
    progression: Sequence[Symbol], unit_beats: float = 4.0, seed: int = 0, mistakes: float = 0.0
) -> Phrase:
    """Chords in beats over a bass of root and fifth; `mistakes` is the share of notes left out, and of wrong ones."""
    draw = random.Random(seed)
    notes = []
    for index, (root, quality) in enumerate(progression):
        start = index * unit_beats
        for beat in range(int(unit_beats)):
            for step in QUALITIES[quality].intervals:
                if draw.random() >= mistakes:
                    length, velocity = draw.choice((0.25, 0.5, 0.9)), draw.randint(60, 110)
                    notes.append(Note(start + beat, length, 60 + (root + step) % 12, velocity, "other"))
            if draw.random() < mistakes:
                notes.append(Note(start + beat + 0.5, 0.25, draw.randint(55, 80), 70, "other"))
            low = root if beat == 0 or draw.random() < 0.7 else (root + 7) % 12
            notes.append(Note(start + beat, 0.5, 36 + low, 100, "bass"))
    return sorted_phrase(notes, len(progression) * unit_beats)


def song(form: Sequence[tuple[str, int]], seed: int = 0, mistakes: float = 0.15, sung: bool = True) -> Phrase:
    """Sections as (kind, bars) in 4/4 with drums, bass, chords, and where sung another tune in each verse."""
    draw = random.Random(seed)
    notes = []
    kinds = [(kind, bar) for kind, bars in form for bar in range(bars)]
    for index, (kind, bar) in enumerate(kinds):
        start = 4.0 * index
        root, quality = CHORDS[kind][bar % 4]
        hits = [*KICKS_AND_SNARES[kind], *((eighth / 2, 42) for eighth in range(8))]
        bar_notes = [Note(start + at, 0.25, drum, 90, "drums") for at, drum in hits]
        for beat in range(4):
            later = 0.5 if kind == "B" else 0.0
            for step in QUALITIES[quality].intervals:
                bar_notes.append(Note(start + beat + later, 0.5, 60 + (root + step) % 12, 80, "other"))
            bar_notes.append(Note(start + beat, 0.9, 36 + root, 90, "bass"))
        if sung and kind != "C":
            pitch = 67
            for place in sorted(draw.sample(range(16), 6)):
                pitch = min(max(pitch + draw.choice((-2, -1, 1, 2)), 60), 74)
                in_key = pitch if pitch % 12 in C_MAJOR else pitch - 1
                bar_notes.append(Note(start + place / 4, 0.25, in_key, 90, "vocals"))
        notes += [note for note in bar_notes if draw.random() >= mistakes]
    return sorted_phrase(notes, 4.0 * len(kinds))


def sorted_phrase(notes: Sequence[Note], length_beats: float) -> Phrase:
    """A phrase as the stages make them."""
    return Phrase(tuple(sorted(notes, key=lambda n: (n.start_beats, n.part, n.pitch))), length_beats)
