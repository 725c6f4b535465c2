"""How well a candidate follows a prompt: the bits that each of its notes costs the model.

Fewer bits, less surprise. Both are heard in the prompt's key and metre, so that candidates compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge.errors import InputError
from bridge.sheet import read_sheet
from bridge.transformer.columns import Columns, columns_of
from bridge.transformer.decoder import Decoder, Memory
from bridge.transformer.heard import hear_midi
from bridge.transformer.keys import key_of, semitones_to_c
from bridge.transformer.parts import part_of_voice
from bridge.transformer.readers.score import on_grid
from bridge.transformer.sample import MOST_BARS, MOST_PRIMER_ROWS, Metre
from bridge.transformer.tokens import FIELDS, STEPS_PER_BEAT, encode, transposed
from bridge.types import Phrase


@dataclass(frozen=True)
class Surprise:
    """What a candidate costs."""

    notes: int  # of the candidate
    bits_per_note: float  # all fields of a note together
    bits_by_field: Mapping[str, float]  # part, shift, pitch, length, velocity; they sum to bits_per_note


def score_midi(prompt: Path, candidate: Path, model: Decoder) -> Surprise:
    """How well `candidate` goes on from `prompt`; its tick 0 stands at the bar line where the prompt ends.

    Of a long prompt the last 4,096 notes are heard.

    Raises:
        InputError: a file can't be read, or the candidate holds no notes or more than 256 bars.
    """
    heard = hear_midi(prompt, MOST_PRIMER_ROWS)
    phrase = read_sheet(candidate, part_of_voice).phrase
    most_beats = MOST_BARS * heard.metre.bar_beats
    if not phrase.notes:
        raise InputError(f"{candidate} holds no notes that a part plays, so there is nothing to score.")
    if phrase.notes[-1].start_beats >= most_beats:
        raise InputError(f"{candidate} is longer than {MOST_BARS} bars. Score a part of it.")
    return score(heard.phrase, phrase, heard.metre, model)


def score(primer: Phrase, candidate: Phrase, metre: Metre, model: Decoder) -> Surprise:
    """Bits of `candidate` given `primer`.

    `primer` is whole bars long and begins at one; the candidate's beat 0 is the primer's end. Parts are PARTS.

    Raises:
        InputError: the candidate holds no notes.
    """
    if not candidate.notes:
        raise InputError("The candidate holds no notes, so there is nothing to score.")
    end_beats, bar_beats = primer.length_beats, metre.bar_beats
    last_step_beats = end_beats - 1.0 / STEPS_PER_BEAT
    before = [replace(note, start_beats=min(note.start_beats, last_step_beats)) for note in primer.notes]
    after = [replace(note, start_beats=note.start_beats + end_beats) for note in candidate.notes]
    known = encode(on_grid(before, end_beats, bar_beats))
    joined = encode(on_grid([*before, *after], 0.0, bar_beats))
    semitones = semitones_to_c(*key_of(known if len(known) else joined))
    columns = columns_of(transposed(joined, semitones), round(bar_beats * STEPS_PER_BEAT))
    bits = row_bits(model, columns)[len(known) :]
    notes = int((columns.targets[len(known) :, -1] >= 0).sum())
    by_field = {name: round(float(bits[:, index].sum()) / notes, 4) for index, name in enumerate(FIELDS)}
    return Surprise(notes, round(float(bits.sum()) / notes, 4), by_field)


def row_bits(model: Decoder, columns: Columns) -> npt.NDArray[np.float64]:
    """(rows, fields): what each field of each row costs; 0 where a rest has no such field."""
    trunk = Memory(model).hear_all([tuple(row) for row in columns.inputs.tolist()])
    bits = np.zeros(columns.targets.shape)
    for field in range(len(FIELDS)):
        target = columns.targets[:, field]
        log_p = model.log_probabilities(columns, field, trunk)
        taken = np.take_along_axis(log_p, np.maximum(target, 0)[:, None].astype(np.int64), 1)[:, 0]
        bits[:, field] = np.where(target >= 0, -taken / np.log(2.0), 0.0)
    return bits
