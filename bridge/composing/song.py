"""A song as composing sees it: its band in the model's parts, its bars, key, chords, form and melody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from bridge.harmony.chords import Chord, find_chords
from bridge.harmony.form import Section, find_form
from bridge.harmony.melody import Melody, find_melody
from bridge.tempo import bar_length_beats, first_downbeat_beats
from bridge.transformer.keys import scale_of
from bridge.transformer.sample import Metre
from bridge.types import Grid, Note, Phrase

HELD_BEATS = 1.5  # chords whose notes are mostly longer are strings, else a piano


@dataclass(frozen=True)
class Song:
    """Beats are quarter notes from the bounce's first frame; before bar 0 there is less than a bar of notes."""

    band: Phrase  # its notes as lead, piano, strings, bass and drums; as long as the bounce
    metre: Metre
    bars: int  # to the end of the music, a partial last one included
    scale: frozenset[int] | None  # pitch classes of its key, where it has one
    chords: tuple[Chord, ...]  # of the whole bounce
    form: tuple[Section, ...]  # of its bars
    melody: Melody
    sings: bool

    def line_beats(self, bar: int) -> float:
        """Where a bar begins."""
        return self.metre.first_downbeat_beats + bar * self.metre.bar_beats


def read_song(heard: Phrase, grid: Grid, ends_beats: float) -> Song:
    """What the notes (of vocals, drums, bass, other) and the grid tell. The sound ends at `ends_beats`."""
    metre = _metre(heard, grid)
    melody = find_melody(heard)
    scale = scale_of(grid.key) if grid.key else None
    bars = _bars(heard, metre, ends_beats)
    last_line = metre.first_downbeat_beats + bars * metre.bar_beats
    return Song(
        band=Phrase(to_band(heard.notes, melody), heard.length_beats),
        metre=metre,
        bars=bars,
        scale=scale,
        chords=find_chords(heard, metre.bar_beats, metre.first_downbeat_beats, scale),
        form=find_form(Phrase(heard.notes, last_line), metre.bar_beats, metre.first_downbeat_beats),
        melody=melody,
        sings=grid.sings,
    )


def to_band(notes: Sequence[Note], melody: Melody) -> tuple[Note, ...]:
    """Stems as the model's parts. A clear melody is the lead, wherever it was heard; a voice without one is left out."""
    lead = set(melody.notes) if melody.is_clear else set()
    starts = {(note.start_beats, note.pitch) for note in lead}
    rest = [
        note
        for note in notes
        if note.part == "other" and not (melody.part == "other" and (note.start_beats, note.pitch) in starts)
    ]
    held = bool(rest) and median(note.length_beats for note in rest) >= HELD_BEATS
    part_of = {"bass": "bass", "drums": "drums"}
    band = [replace(note, part="lead") for note in lead]
    band += [replace(note, part="strings" if held else "piano") for note in rest]
    band += [replace(note, part=part_of[note.part]) for note in notes if note.part in part_of]
    return tuple(sorted(band, key=lambda note: (note.start_beats, note.part, note.pitch)))


def between(notes: Sequence[Note], start_beats: float, end_beats: float) -> tuple[Note, ...]:
    """Notes that begin in a stretch, cut to its end; their beats count from its start."""
    return tuple(
        replace(
            note,
            start_beats=max(0.0, note.start_beats - start_beats),
            length_beats=min(note.length_beats, end_beats - note.start_beats),
        )
        for note in notes
        if start_beats - 1e-6 <= note.start_beats < end_beats - 1e-6
    )


def _metre(heard: Phrase, grid: Grid) -> Metre:
    """The grid's bars, from the first one that the notes fill: what comes more than a bar early is no pickup."""
    bar, downbeat = bar_length_beats(grid.tempo), first_downbeat_beats(grid.tempo)
    first = min((note.start_beats for note in heard.notes), default=downbeat)
    return Metre(bar, downbeat - max(0, math.floor((downbeat - first) / bar + 1e-6)) * bar)


def _bars(heard: Phrase, metre: Metre, ends_beats: float) -> int:
    """A bar belongs to the song if a note begins in it, or if it sounds for half of it: a tail alone is none."""
    onset = max((note.start_beats for note in heard.notes), default=0.0)
    origin, bar = metre.first_downbeat_beats, metre.bar_beats
    struck = math.floor((onset - origin) / bar + 1e-6) + 1
    sounding = math.floor((ends_beats - origin) / bar + 0.5)
    return max(1, struck, sounding)
