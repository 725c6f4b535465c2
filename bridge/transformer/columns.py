"""A whole piece as the arrays a network learns from and is judged on: one line for each row to be foretold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.transformer.recall import (
    CONDITIONS,
    HINTS,
    INPUTS,
    NONE,
    PITCH_CONDITIONS,
    PITCH_INPUTS,
    Listener,
)
from bridge.transformer.tokens import DRUMS, FIELDS, PART, PITCH, REST, SHIFT, Rows

Integers = npt.NDArray[np.int16]
CONDITION_STARTS = tuple(int(start) for start in np.cumsum([0, *map(len, CONDITIONS)]))
"""Where each field's conditions begin in `Columns.conditions`; the last entry is their number."""


@dataclass(frozen=True)
class Columns:
    """Line i foretells row i from the rows before it."""

    inputs: Integers  # (rows, len(INPUTS)): the row before
    conditions: Integers  # (rows, all conditions of all fields side by side)
    hints: Integers  # (rows, fields, hints): the hinted value, -1 for none
    trust: Integers  # (rows, fields, hints)
    targets: Integers  # (rows, fields): the row itself; -1 where a rest has no such field

    def __getitem__(self, lines: slice) -> Columns:
        return Columns(
            self.inputs[lines],
            self.conditions[lines],
            self.hints[lines],
            self.trust[lines],
            self.targets[lines],
        )


def columns_of(rows: Rows, bar_steps: int) -> Columns:
    """The columns of one piece in C major or A minor, heard from its beginning."""
    listener = Listener(bar_steps)
    count = len(rows)
    inputs = np.zeros((count, len(INPUTS)), np.int16)
    conditions = np.zeros((count, CONDITION_STARTS[-1]), np.int16)
    hints = np.full((count, len(FIELDS), len(HINTS)), -1, np.int16)
    trust = np.full((count, len(FIELDS), len(HINTS)), NONE, np.int16)
    for line, row in enumerate(rows.tolist()):
        inputs[line] = listener.inputs()
        told: list[int] = []
        for asked in range(len(FIELDS)):
            columns, hinted = listener.conditions(asked, row[:asked])
            told += columns
            for kind, (value, sure) in enumerate(hinted):
                hints[line, asked, kind] = value
                trust[line, asked, kind] = sure
        conditions[line] = told
        listener.push(row)
    targets = rows.copy()
    targets[rows[:, PART] == REST, SHIFT:] = -1
    return Columns(inputs, conditions, hints, trust, targets)


def transpose_columns(columns: Columns, semitones: int) -> Columns:
    """The same lines with every pitched part moved; what leaves MIDI's range returns by an octave."""
    if semitones == 0:
        return columns
    inputs, conditions = columns.inputs.copy(), columns.conditions.copy()
    for column in PITCH_INPUTS:
        inputs[:, column] = _moved(inputs[:, column], semitones)
    for field, members in enumerate(PITCH_CONDITIONS):
        for member in members:
            column = CONDITION_STARTS[field] + member
            conditions[:, column] = _moved(conditions[:, column], semitones)
    hints, targets = columns.hints.copy(), columns.targets.copy()
    pitched = targets[:, PART] < DRUMS
    hints[pitched, PITCH] = _moved(columns.hints[pitched, PITCH], semitones)
    targets[pitched, PITCH] = _moved(columns.targets[pitched, PITCH], semitones)
    return Columns(inputs, conditions, hints, columns.trust, targets)


def _moved(pitches: Integers, semitones: int) -> Integers:
    """Pitches 0 to 127 moved; drums (from 128 on), none at all and unknown (-1) stay."""
    inside = (pitches >= 0) & (pitches < 128)
    moved = pitches + semitones
    moved = moved - 12 * (moved > 127) + 12 * (moved < 0)
    return np.where(inside, moved, pitches).astype(np.int16)
