"""A band writes what comes next, each part from what it played itself; chords, key and grid hold them together.

Measured on song_a: written all at once, or one by one with the others to listen to, parts fall silent within some
bars and don't come back. Alone, each goes on in its own way for as long as asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.composing.guides import CHORD_PLAYERS, guides
from bridge.composing.taste import Taste
from bridge.harmony.chords import Chord
from bridge.progress import Report, part_of
from bridge.transformer.constraints import POLYPHONY, Constraints, grid_steps
from bridge.transformer.decoder import Decoder
from bridge.transformer.sample import Metre, continue_phrase
from bridge.transformer.tokens import STEPS_PER_BEAT
from bridge.types import Note, Phrase

LOWEST_HELD = {"bass": 36, "piano": 55, "guitar": 52, "strings": 60}  # MIDI pitches
HELD_VELOCITY = 72
MOST_TIMES, FEWEST_NOTES_PER_BEAT = 3.0, 0.5
MOSTLY = 0.9
EIGHTH_STEPS = STEPS_PER_BEAT // 2
GRIDS_OF_A_BEAT = tuple(steps for steps in range(1, STEPS_PER_BEAT + 1) if STEPS_PER_BEAT % steps == 0)


@dataclass(frozen=True)
class Passage:
    """What was heard, and what shall follow it. All beats count from a bar line."""

    heard: Phrase  # whole bars
    heard_chords: tuple[Chord, ...]
    bars: int  # to write
    chords: tuple[Chord, ...]  # of the bars to write
    bar_beats: float
    scale: frozenset[int] | None
    players: tuple[str, ...]


def write_band(model: Decoder, passage: Passage, taste: Taste, report: Report) -> Phrase:
    """What the players play for `passage.bars` bars; beat 0 is the bar line after what was heard.

    Who was not heard yet goes on from the passage's chords, held.

    Raises:
        InputError: a part that is none, or a setting out of range.
    """
    scale = passage.scale if taste.key_lock else None
    harmony = guides(passage.chords, passage.bar_beats, scale)
    written: list[Note] = []
    for index, part in enumerate(passage.players):
        own = [note for note in passage.heard.notes if note.part == part]
        own = own or held_chords(passage.heard_chords, part)
        constraints = Constraints(
            parts=(part,),
            scale=scale,
            polyphony={part: _most_at_once(own, part)},
            most_notes_per_beat=_most_notes_per_beat(own, passage.heard.length_beats),
            harmony=harmony,
            grid_steps=_grid_steps(own, taste.density),
        )
        written += continue_phrase(
            model,
            Phrase(tuple(own), passage.heard.length_beats),
            passage.bars,
            Metre(passage.bar_beats),
            constraints,
            taste.sampling,
            part_of(report, index, len(passage.players)),
        ).notes
    written.sort(key=lambda note: (note.start_beats, note.part, note.pitch))
    return Phrase(tuple(written), passage.bars * passage.bar_beats)


def held_chords(chords: Sequence[Chord], part: str) -> list[Note]:
    """Chords, or for the bass their roots, from their beginning to their end; nothing for who plays neither."""
    notes = []
    for chord in chords:
        classes = chord.pitch_classes if part in CHORD_PLAYERS else frozenset((chord.root,))
        if part not in LOWEST_HELD or not chord.pitch_classes:
            continue
        low = LOWEST_HELD[part]
        length = chord.end_beats - chord.start_beats
        notes += [
            Note(chord.start_beats, length, low + (pitch_class - low) % 12, HELD_VELOCITY, part)
            for pitch_class in sorted(classes)
        ]
    return notes


def _grid_steps(own: Sequence[Note], density: str) -> int:
    """The part's own grid, twice as coarse where sparse and twice as fine where dense.

    A part that moves in eighths but for some slips keeps to them, since a slip would become its pace.
    """
    onsets = {round(note.start_beats * STEPS_PER_BEAT) for note in own}
    on_eighths = sum(onset % EIGHTH_STEPS == 0 for onset in onsets)
    grid = EIGHTH_STEPS if on_eighths >= MOSTLY * len(onsets) else grid_steps(own)
    if density == "sparse":
        return next(steps for steps in GRIDS_OF_A_BEAT if steps >= 2 * grid)
    return max(1, grid // 2) if density == "dense" else grid


def _most_at_once(own: Sequence[Note], part: str) -> int:
    """As many notes as the part sounded at once before, but for its few fullest moments."""
    sounding = sorted(
        sum(other.start_beats <= note.start_beats < other.start_beats + other.length_beats for other in own)
        for note in own
    )
    usual = sounding[int(MOSTLY * (len(sounding) - 1))] if sounding else POLYPHONY[part]
    return min(usual, POLYPHONY[part])


def _most_notes_per_beat(own: Sequence[Note], heard_beats: float) -> float:
    """Far above what the part played before: it only holds back one that runs away."""
    return max(FEWEST_NOTES_PER_BEAT, MOST_TIMES * len(own) / max(heard_beats, 1.0))
