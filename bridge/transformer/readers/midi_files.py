"""MIDI files as pieces for training: parts by General MIDI program, beats on the grid, bars by the first metre."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import replace

import mido
import numpy as np
from mido.midifiles.meta import KeySignatureError

from bridge.errors import InputError
from bridge.transformer.parts import part_of_program
from bridge.transformer.readers.score import STEPS_PER_BEAT, Piece, on_grid
from bridge.types import Note

DRUM_CHANNEL = 9
FEWEST_ON_GRID = 0.6  # of the onsets lie on 16ths or triplets; at random it is a quarter


def read_midi_piece(data: bytes, name: str) -> Piece | None:
    """A type 0 or 1 file as a piece, moved as a whole to where most of its notes lie on the grid.

    None where the notes keep no time with the file's beats: played freely, or at a tempo that isn't the music's.

    Raises:
        InputError: no such file, or one without a note that a part plays.
    """
    notes, length_beats, bar_beats = midi_notes(data, name)
    moved, share = _best_offset(notes)
    if share < FEWEST_ON_GRID:
        return None
    notes = [replace(note, start_beats=note.start_beats - moved / STEPS_PER_BEAT) for note in notes]
    return Piece(name, name, on_grid(notes, length_beats, bar_beats), bar_beats)


def midi_notes(data: bytes, name: str) -> tuple[list[Note], float, float]:
    """The notes of a file, its length, and its first metre's bar (else 4.0), in beats.

    Channel 10 is `drums`; programs that no part plays are left out.

    Raises:
        InputError: no type 0 or 1 file, or one without a note that a part plays.
    """
    file = _parse(data, name)
    bar_beats = beat = 0.0
    notes: list[Note] = []
    sounding: dict[tuple[int, int], list[tuple[float, int, str]]] = defaultdict(list)
    programs: dict[int, int] = defaultdict(int)
    for message in mido.merge_tracks(file.tracks):
        beat += message.time / file.ticks_per_beat
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "time_signature" and not bar_beats:
            bar_beats = 4.0 * message.numerator / message.denominator
        elif message.type == "note_on" and message.velocity > 0:
            drums = message.channel == DRUM_CHANNEL
            part = "drums" if drums else part_of_program(programs[message.channel])
            if part:
                sounding[message.channel, message.note].append((beat, message.velocity, part))
        elif message.type in ("note_on", "note_off") and sounding[message.channel, message.note]:
            start, velocity, part = sounding[message.channel, message.note].pop(0)
            notes.append(Note(start, beat - start, message.note, velocity, part))
    if not notes:
        raise InputError(f"{name} holds no notes that a part plays. Leave it out.")
    return notes, beat, bar_beats or 4.0


def _parse(data: bytes, name: str) -> mido.MidiFile:
    try:
        file = mido.MidiFile(file=io.BytesIO(data), charset="latin-1", clip=True)
    except (OSError, EOFError, ValueError, LookupError, TypeError, KeySignatureError) as exc:
        raise InputError(f"{name} is no MIDI file that can be read ({exc}). Leave it out.") from exc
    if file.type == 2 or file.ticks_per_beat <= 0:
        raise InputError(f"{name} is of type 2 or timed in SMPTE frames. Export it as type 1.")
    return file


def _best_offset(notes: list[Note]) -> tuple[int, float]:
    """The shift in steps (0..5, small ones first) that puts most onsets on 16ths or triplets, and their share."""
    steps = np.round(np.array([note.start_beats for note in notes]) * STEPS_PER_BEAT)
    shares = []
    for moved in range(6):
        places = (steps - moved) % STEPS_PER_BEAT
        shares.append(float(np.mean((places % 6 == 0) | (places % 8 == 0))))
    best = int(np.argmax(shares))
    return best, shares[best]
