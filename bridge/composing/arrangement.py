"""A new instrumental over a song's own bars: its form and its chords, other notes.

Each kind of section is written once, as what might follow the song's own notes of that section, and comes back
wherever the section does; where the chords differ then, the notes that no longer fit move to the nearest that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.composing.band import Passage, write_band
from bridge.composing.guides import INSTANT_BEATS, guides, refit
from bridge.composing.song import Song, between
from bridge.composing.taste import Taste
from bridge.harmony.chords import chords_between
from bridge.harmony.form import Section
from bridge.progress import Report, part_of
from bridge.transformer.constraints import HarmonySpan
from bridge.transformer.decoder import Decoder
from bridge.types import Note, Phrase

SEEDS_APART = 101  # so that no section, and no second draw of one, is the continuation again


def arrange_song(model: Decoder, song: Song, taste: Taste, report: Report) -> Phrase:
    """New music as long as the bounce; beat 0 is its first frame.

    Nobody leads while somebody sings, or where the song has no clear melody. Drums rest where the song's own do,
    and play alone where they do; a section without any notes stays silent. Into the first bar the drums lead
    where the song has a pickup.

    Raises:
        InputError: a part that is none, or a setting out of range.
    """
    labels = list(dict.fromkeys(section.label for section in song.form))
    music = {
        label: _write(
            model,
            song,
            _longest(song.form, label),
            taste.reseeded(SEEDS_APART * (1 + index)),
            part_of(report, index, len(labels)),
        )
        for index, label in enumerate(labels)
    }
    scale = song.scale if taste.key_lock else None
    notes: list[Note] = []
    for section in song.form:
        start = song.line_beats(section.first_bar)
        own = between(music[section.label].notes, 0.0, section.bars * song.metre.bar_beats)
        notes += _moved(refit(own, _guides(song, section, scale), scale), start)
    return Phrase(_within(song, [*_pickup(song, notes), *notes]), song.band.length_beats)


def shared_with(written: Phrase, heard: Phrase) -> float:
    """The share, 0..1, of pitched notes in `written` that begin on the same pitch at the same time in `heard`."""
    known = {_place(note) for note in heard.notes if note.part != "drums"}
    pitched = [note for note in written.notes if note.part != "drums"]
    return sum(_place(note) in known for note in pitched) / max(1, len(pitched))


def _longest(form: Sequence[Section], label: str) -> Section:
    return max((s for s in form if s.label == label), key=lambda section: section.bars)


def _write(model: Decoder, song: Song, section: Section, taste: Taste, report: Report) -> Phrase:
    """The section's music; its beat 0 is the section's first bar line."""
    start = song.line_beats(section.first_bar)
    length = section.bars * song.metre.bar_beats
    heard = between(song.band.notes, start, start + length)
    chords = chords_between(song.chords, start, start + length)
    passage = Passage(
        heard=Phrase(heard, length),
        heard_chords=chords,
        bars=section.bars,
        chords=chords,
        bar_beats=song.metre.bar_beats,
        scale=song.scale,
        players=_players(song, heard, taste),
    )
    return write_band(model, passage, taste, report)


def _players(song: Song, heard: Sequence[Note], taste: Taste) -> tuple[str, ...]:
    """Who plays in a section whose own notes are `heard`."""
    playing = {note.part for note in heard}
    wanted = set(taste.parts or ("lead", "bass", "piano", "strings", "drums"))
    if taste.density == "dense" and not taste.parts:
        wanted.add("guitar")
    if song.sings or not song.melody.is_clear:
        wanted.discard("lead")
    if "drums" not in playing:
        wanted.discard("drums")
    if not playing - {"drums"}:
        wanted &= {"drums"}
    return tuple(wanted)


def _guides(song: Song, section: Section, scale: frozenset[int] | None) -> tuple[HarmonySpan, ...]:
    start = song.line_beats(section.first_bar)
    chords = chords_between(song.chords, start, start + section.bars * song.metre.bar_beats)
    return guides(chords, song.metre.bar_beats, scale)


def _pickup(song: Song, notes: Sequence[Note]) -> list[Note]:
    """Drums before the first downbeat, where the song plays there: those that end its first section."""
    first_line = song.line_beats(0)
    if not any(note.start_beats < first_line - INSTANT_BEATS for note in song.band.notes):
        return []
    end = song.line_beats(song.form[0].bars)
    lead_in = min(first_line, song.metre.bar_beats)
    drums = [note for note in notes if note.part == "drums"]
    return _moved(between(drums, end - lead_in, end), first_line - lead_in)


def _moved(notes: Sequence[Note], by_beats: float) -> list[Note]:
    return [replace(note, start_beats=note.start_beats + by_beats) for note in notes]


def _within(song: Song, notes: Sequence[Note]) -> tuple[Note, ...]:
    """Sorted, and cut to the bounce."""
    inside = between(notes, 0.0, song.band.length_beats)
    return tuple(sorted(inside, key=lambda note: (note.start_beats, note.part, note.pitch)))


def _place(note: Note) -> tuple[int, int]:
    return round(note.start_beats / INSTANT_BEATS), note.pitch
