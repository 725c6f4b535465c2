"""Writes what comes next: rows drawn one field after the other, only from what the rules allow.

`Writer` is the piece under way, for whoever plays live; `continue_phrase` is the whole story for a phrase.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.errors import InputError
from bridge.transformer.constraints import Constraints, Mask, Rules, heard_parts
from bridge.transformer.decoder import Decoder, Floats, Memory
from bridge.transformer.keys import key_of, semitones_to_c
from bridge.transformer.parts import PARTS
from bridge.transformer.recall import Listener
from bridge.transformer.tokens import (
    DRUMS,
    LENGTH,
    LENGTHS_STEPS,
    MOST_SHIFT,
    REST,
    SIZES,
    STEPS_PER_BEAT,
    Rows,
    encode_steps,
    level_velocity,
    transposed,
)
from bridge.types import Note, Phrase

MOST_PRIMER_ROWS = 4096  # older ones are forgotten: hints come from these, attention from the last `context`
MOST_BARS = 256
LONGEST_SILENCE_BARS = 8  # at a primer's end; the rest of it counts as not there

Struck = tuple[int, int, int, int, int]
"""A note as it was drawn: onset in steps, part, pitch as it sounds, length in steps, level of its velocity."""


@dataclass(frozen=True)
class Metre:
    """Where the bar lines of a primer lie, in quarter notes."""

    bar_beats: float
    first_downbeat_beats: float = 0.0


@dataclass(frozen=True)
class Sampling:
    """How daring the draw is. The same seed gives the same notes."""

    temperature: float = 1.0  # > 0; below 1 safer, above 1 wilder
    top_p: float = 0.95  # of each field's values, the likeliest that hold this share
    min_p: float = 0.02  # and of those, the ones at least so likely as this part of the likeliest
    seed: int = 0


class Writer:
    """A piece under way: hears rows and draws the next ones. Pitches are as they sound.

    `semitones` brings the piece to C major or A minor for the model.
    """

    def __init__(self, model: Decoder, bar_steps: int, semitones: int) -> None:
        self._model = model
        self._semitones = semitones
        self._listener = Listener(bar_steps)
        self._memory = Memory(model)
        self._waiting: list[tuple[int, ...]] = [self._listener.inputs()]  # heard, but not yet by the trunk
        self._heard: Floats = np.zeros(0, np.float32)

    @property
    def now_steps(self) -> int:
        """The last onset."""
        return self._listener.now

    def fork(self) -> Writer:
        """Another piece that began as this one; the two go on apart."""
        other = copy.copy(self)
        other._listener, other._memory = self._listener.fork(), self._memory.fork()
        other._waiting = list(self._waiting)
        return other

    def hear(self, rows: Rows) -> None:
        """Notes that were played. The trunk hears them with the next draw or `catch_up`."""
        for row in transposed(rows, self._semitones).tolist():
            self._listener.push(row)
            self._waiting.append(self._listener.inputs())
        context = self._model.shape.context
        del self._waiting[: -(context * 3 // 4)]  # leave room to write before the cache must turn over

    def catch_up(self) -> Floats:
        """Let the trunk hear all that waits; its last vector."""
        if self._waiting:
            self._heard = self._memory.hear_all(self._waiting)[-1]
            self._waiting = []
        return self._heard

    def get_ready(self) -> None:
        """Do now what the next draws would have to wait for."""
        self.catch_up()
        self._memory.make_room(self._model.shape.context // 4)

    def write(self, rules: Rules, sampling: Sampling, random: np.random.Generator) -> tuple[int, ...] | None:
        """Draw one row that keeps the rules, and hear it; None when the next one lies beyond their end."""
        heard = self.catch_up()
        drawn: list[int] = []

        def draw(mask: Mask) -> int:
            field = len(drawn)
            conditions, hints = self._listener.conditions(field, drawn)
            logits = self._model.logits(heard, field, conditions, hints)
            drawn.append(draw_value(logits, mask, sampling, random))
            return drawn[-1]

        part = draw(rules.parts())
        if part == REST:
            row: tuple[int, ...] = (REST, MOST_SHIFT, 0, 0, 0)
        else:
            shift = draw(rules.shifts(part))
            if rules.is_beyond(shift):
                return None
            draw(rules.pitches(part, shift))
            draw(rules.lengths(shift))
            draw(np.ones(SIZES[4], bool))
            row = tuple(drawn)
        rules.play(row[0], row[1], row[2])
        if rules.is_beyond(0):
            return None
        self._listener.push(row)
        self._waiting.append(self._listener.inputs())
        return row if row[0] >= DRUMS else (row[0], row[1], row[2] - self._semitones, row[3], row[4])


def continue_phrase(
    model: Decoder,
    primer: Phrase,
    bars: int,
    metre: Metre,
    constraints: Constraints | None = None,
    sampling: Sampling | None = None,
    report: Callable[[float, float], None] | None = None,
) -> Phrase:
    """What comes after `primer`: `bars` bars from the bar line at or after its end, which is beat 0.

    The phrase is exactly `bars * metre.bar_beats` long, every note ends within it, and all constraints hold.
    Notes of one part that overlap more than its polyphony allows are cut short, the oldest first.
    `report(steps done, steps in all)` may raise to stop.

    Raises:
        InputError: nothing to go on from, a setting out of range, or constraints that leave nothing.
    """
    constraints, sampling = constraints or Constraints(), sampling or Sampling()
    check_values(bars, metre, sampling)
    bar_steps = round(metre.bar_beats * STEPS_PER_BEAT)
    rows, first_step = _primer_rows(primer, metre, bar_steps)
    parts = constraints.parts or heard_parts(rows)
    if not parts:
        raise InputError(
            "The primer holds no notes, so there is nothing to go on from. Name the parts to write."
        )
    semitones = semitones_to_c(*key_of(rows))
    rules = Rules(constraints, parts, bars, bar_steps, first_step, semitones)
    writer = Writer(model, bar_steps, semitones)
    writer.hear(rows)
    rules.begin(writer.now_steps)
    random = np.random.default_rng(sampling.seed)
    written: list[Struck] = []
    while (row := writer.write(rules, sampling, random)) is not None:
        if row[0] != REST:
            written.append(
                (writer.now_steps - first_step, row[0], row[2], LENGTHS_STEPS[row[LENGTH]], row[4])
            )
        if report is not None:
            report(max(0, writer.now_steps - first_step), bars * bar_steps)
    return Phrase(tuple(ended_notes(written, rules)), bars * metre.bar_beats)


def draw_value(logits: Floats, mask: Mask, sampling: Sampling, random: np.random.Generator) -> int:
    """One value that `mask` allows, by temperature, min-p (Nguyen et al., 2024) and top-p (Holtzman et al., 2019).

    `mask` must allow one at least.
    """
    allowed = np.flatnonzero(mask)
    scaled = logits[allowed].astype(np.float64) / sampling.temperature
    p = np.exp(scaled - scaled.max())
    order = np.argsort(-p, kind="stable")
    p = p[order] / p.sum()
    kept = (np.cumsum(p) - p < sampling.top_p) & (p >= sampling.min_p * p[0])
    total = np.cumsum(p[kept])  # the likeliest is always kept
    place = int(np.searchsorted(total, random.random() * total[-1], side="right"))
    return int(allowed[order[kept.nonzero()[0][min(place, len(total) - 1)]]])


def check_values(bars: int, metre: Metre, sampling: Sampling) -> None:
    """Refuse what is out of range.

    Raises:
        InputError: names the setting, its value and its range.
    """
    for name, value, low, high in (
        ("bars", bars, 1, MOST_BARS),
        ("bar length in beats", metre.bar_beats, 1 / STEPS_PER_BEAT, 64),
        ("temperature", sampling.temperature, 0.05, 5.0),
        ("top_p", sampling.top_p, 0.01, 1.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("seed", sampling.seed, 0, 2**63 - 1),
    ):
        if not low <= value <= high:
            raise InputError(f"{name} is {value}, but must lie between {low:g} and {high:g}.")


def _primer_rows(primer: Phrase, metre: Metre, bar_steps: int) -> tuple[Rows, int]:
    """The primer with its steps counted from a bar line, and the bar line where the continuation begins."""
    downbeat = round(metre.first_downbeat_beats * STEPS_PER_BEAT)
    moved = -downbeat % bar_steps  # so that no pickup lies before step 0
    notes = sorted(
        (
            max(0, round(note.start_beats * STEPS_PER_BEAT) + moved),
            PARTS.index(note.part),
            note.pitch,
            max(1, round(note.length_beats * STEPS_PER_BEAT)),
            note.velocity,
        )
        for note in primer.notes
    )
    end = max(round(primer.length_beats * STEPS_PER_BEAT) + moved, notes[-1][0] + 1 if notes else 0)
    last_onset = notes[-1][0] if notes else 0
    most = (last_onset // bar_steps + LONGEST_SILENCE_BARS) * bar_steps
    first_step = min(-(-end // bar_steps) * bar_steps, most)
    if len(notes) > MOST_PRIMER_ROWS:
        forgotten = notes[-MOST_PRIMER_ROWS][0] // bar_steps * bar_steps
        notes = [(note[0] - forgotten, *note[1:]) for note in notes[-MOST_PRIMER_ROWS:]]
        first_step -= forgotten
    return encode_steps(notes), first_step


def ended_notes(written: Sequence[Struck], rules: Rules, settled: int = 0) -> list[Note]:
    """Notes, the older ones cut where their part strikes the pitch again or has no voice left.

    `written` rises by onset; its first `settled` ones stay as they are, see `Rules.hold`.
    """
    ends: list[int] = []
    sounding: dict[int, list[int]] = {}
    for index, (onset, part, pitch, length, _) in enumerate(written):
        voices = [other for other in sounding.get(part, []) if ends[other] > onset]
        older = [other for other in voices if other >= settled and written[other][0] < onset]
        too_many = len(voices) + 1 - rules.most_at_once(part)
        for place, other in enumerate(older):
            if place < too_many or written[other][2] == pitch:
                ends[other] = onset
                voices.remove(other)
        sounding[part] = [*voices, index]
        ends.append(onset + length)
    return [
        Note(
            onset / STEPS_PER_BEAT,
            (end - onset) / STEPS_PER_BEAT,
            pitch,
            level_velocity(velocity),
            PARTS[part],
        )
        for (onset, part, pitch, _, velocity), end in zip(written, ends, strict=True)
    ]
