"""The Music Transformer as a partner who listens: hears what is played, and writes bars when asked.

Pure, for one thread. What is written is only planned: it becomes part of the piece when it is heard. The same
things heard, primed and asked in the same order give the same notes. All bars of one reply keep `Rules`, and no
bar changes a note of an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bridge.errors import InputError
from bridge.live.controls import FOLLOW, FREE
from bridge.livehost.ear import Ear
from bridge.transformer.constraints import RANGES, Constraints, Rules
from bridge.transformer.continuing import own_key
from bridge.transformer.decoder import Decoder
from bridge.transformer.keys import SCALES, read_key, scale_of, semitones_to_c
from bridge.transformer.parts import PARTS
from bridge.transformer.sample import Metre, Sampling, Struck, Writer, check_values, ended_notes
from bridge.transformer.tokens import (
    DRUMS,
    LENGTH,
    LENGTHS_STEPS,
    MOST_SHIFT,
    REST,
    STEPS_PER_BEAT,
    Rows,
)
from bridge.types import Note

SILENCE_KEY = "C major"  # until something was heard
KEY_BARS = 16  # that tell the key
FEW_NOTES = 24  # until then the key is a guess, and changes at once
SURE_BARS = 2  # later another key must have been found so often, bar after bar
REDRAWS = 3
MOST_NOTES_PER_BEAT = 48.0


@dataclass(frozen=True)
class Ask:
    """Write `bars` bars. The same ask after the same music gives the same notes."""

    id: int
    from_beat: float  # a bar line, on the axis
    bars: int  # 1..256
    parts: tuple[str, ...]  # of PARTS
    key: str = (
        FOLLOW  # FOLLOW what is heard; FREE: all twelve; or the only notes allowed: "A minor", "D dorian"
    )
    ranges: Mapping[str, tuple[int, int]] = field(
        default_factory=dict
    )  # lowest and highest pitch per part; else RANGES
    most_notes_per_beat: float | None = None  # of each part, on the mean of a bar
    temperature: float = 1.0
    top_p: float = 0.95
    min_p: float = 0.02
    seed: int = 0
    opening_beats: float | None = None  # the first note begins so soon; None: when it comes
    planned: tuple[Note, ...] = ()  # will sound until then, but has not been heard yet

    @property
    def sampling(self) -> Sampling:
        """How the notes are drawn."""
        return Sampling(self.temperature, self.top_p, self.min_p, self.seed)


@dataclass(frozen=True)
class WrittenBar:
    """One finished bar: the notes that begin in it, none of which any later bar changes."""

    index: int  # from 0
    notes: tuple[Note, ...]  # in beats of the axis; they may sound into the bars behind, not beyond the last
    is_last: bool


class Improviser:
    """One piece under way, on an axis of beats whose bar lines are the multiples of `bar_beats`.

    Raises:
        InputError: a bar of less than a 24th of a beat, or not of whole 24ths.
    """

    def __init__(self, model: Decoder, bar_beats: float = 4.0) -> None:
        self._model = model
        self._bar_steps = _bar_steps(bar_beats)
        self._ear = Ear(self._bar_steps)
        self._heard_key, self._song_key, self._fixed_key = "", "", ""
        self._other_key = ("", 0)  # found instead of the heard one, and in how many bars running
        self._judged_bar = 0
        self._semitones = 0  # from what sounds to what the model hears
        self._writer = Writer(model, self._bar_steps, 0)

    @property
    def bar_beats(self) -> float:
        """Quarter notes in a bar."""
        return self._bar_steps / STEPS_PER_BEAT

    @property
    def notes_kept(self) -> int:
        """How many notes it remembers: 2,000 at most."""
        return len(self._ear.notes)

    def hear(self, notes: Sequence[Note]) -> None:
        """What was played, by whom ever, in rising order; takes 1 to 3 ms a call and seldom up to a tenth of a second.

        Raises:
            InputError: a note that is none; then nothing was heard.
        """
        rows = self._ear.take(notes)
        if not len(rows):
            return
        self._writer.hear(rows)
        is_stale = self._ear.is_full
        if is_stale:
            self._ear.forget()
        self._listen_for_key()
        self._tune(is_stale)

    def forget(self, notes: Sequence[Note]) -> None:
        """Notes that were heard and shall not count any more: a reply that was taken back.

        Raises:
            InputError: a note that is none.
        """
        self._ear.take_back(notes)
        self._tune(is_stale=True)

    def prime(self, notes: Sequence[Note], bar_beats: float, key: str) -> None:
        """A song of the same project, as if it had been played before all that was heard; its key holds ("": none).

        Beat 0 of its notes is a bar line. With other bars than ours only its key counts.

        Raises:
            InputError: no such key, or a note that is none.
        """
        if key:
            read_key(key)
        if _bar_steps(bar_beats) == self._bar_steps:
            self._ear.put_before(notes)
        self._song_key = key
        self._listen_for_key()
        self._tune(is_stale=True)

    def fix_key(self, key: str) -> None:
        """The model hears the piece in this key from now on, whatever is played; "": in the song's or its own again.

        Raises:
            InputError: no such key.
        """
        if key:
            read_key(key)
        self._fixed_key = key
        self._tune(is_stale=False)

    def key_for(self, asked: str) -> str:
        """The key that an ask of this key will keep to; "" for none.

        Raises:
            InputError: no such key.
        """
        if asked == FREE:
            return ""
        if asked != FOLLOW:
            read_key(asked)
            return asked
        return self._song_key or self._heard_key or SILENCE_KEY

    def write(self, ask: Ask, between: Callable[[], None] = lambda: None) -> Iterator[WrittenBar]:
        """Bar after bar, each as soon as it is finished; what was heard when the first one is asked for counts.

        A first bar without any note is drawn again up to three times. `between()` is called before each row; it
        may raise to stop, and must not change what was heard.

        Raises:
            InputError: a setting out of range, or nothing that could be played.
        """
        self._check(ask)
        for draw in range(1 + REDRAWS):
            bars = self._draw(ask, draw, between)
            first = next(bars)
            if first.notes:
                break
        yield first
        yield from bars

    def _draw(self, ask: Ask, draw: int, between: Callable[[], None]) -> Iterator[WrittenBar]:
        ear, writer, semitones = self._fork(ask)
        first_step = ear.place(ask.from_beat)
        rests = -(-(first_step - writer.now_steps) // MOST_SHIFT) - 1  # all that could be drawn up to there
        writer.hear(_rests(rests))
        rules = Rules(
            self._constraints(ask, ear.grid), ask.parts, ask.bars, self._bar_steps, first_step, semitones
        )
        rules.begin(writer.now_steps)
        random = np.random.default_rng([ask.seed, draw] if draw else ask.seed)
        bars = _Bars(ask, rules, self._bar_steps)
        while True:
            between()
            rules.hold(bars.ringing())
            row = writer.write(rules, ask.sampling, random)
            yield from bars.up_to(
                ask.bars * self._bar_steps if row is None else writer.now_steps - first_step
            )
            if row is None:
                return
            if row[0] != REST:
                bars.add((writer.now_steps - first_step, row[0], row[2], LENGTHS_STEPS[row[LENGTH]], row[4]))

    def _fork(self, ask: Ask) -> tuple[Ear, Writer, int]:
        """Copies that have heard what is planned too."""
        ear = self._ear.fork()
        if any(note[1] < DRUMS for note in ear.notes):
            writer, semitones = self._writer.fork(), self._semitones
        else:  # no key was heard: begin in the asked one
            semitones = _semitones(self.key_for(ask.key) or SILENCE_KEY)
            writer = Writer(self._model, self._bar_steps, semitones)
            writer.hear(ear.rows())
        writer.hear(ear.take(ask.planned))
        return ear, writer, semitones

    def _constraints(self, ask: Ask, grid: int) -> Constraints:
        key = self.key_for(ask.key)
        return Constraints(
            scale=scale_of(key) if key else None,
            ranges={**RANGES, **ask.ranges},
            most_notes_per_beat=ask.most_notes_per_beat,
            grid_steps=grid,
            opening_steps=None if ask.opening_beats is None else round(ask.opening_beats * STEPS_PER_BEAT),
        )

    def _listen_for_key(self) -> None:
        """Once a bar; another key counts when it has been found for some bars running."""
        bar = self._ear.now // self._bar_steps
        is_guess = self.notes_kept <= FEW_NOTES or not self._heard_key
        if bar == self._judged_bar and not is_guess:
            return
        self._judged_bar = bar
        found = own_key(self._ear.latest_rows(KEY_BARS))
        if not found or found == self._heard_key:
            self._other_key = ("", 0)
            return
        other, times = self._other_key
        self._other_key = (found, times + 1 if found == other else 1)
        if is_guess or self._other_key[1] > SURE_BARS:
            self._heard_key, self._other_key = found, ("", 0)

    def _tune(self, is_stale: bool) -> None:
        """Get ready to write; hear all that is kept anew in another key, or if it is stale. 0.1 s at most."""
        semitones = _semitones(self._fixed_key or self.key_for(FOLLOW))
        if is_stale or semitones != self._semitones:
            self._semitones = semitones
            self._writer = Writer(self._model, self._bar_steps, semitones)
            self._writer.hear(self._ear.rows())
        self._writer.get_ready()

    def _check(self, ask: Ask) -> None:
        check_values(ask.bars, Metre(self.bar_beats), ask.sampling)
        if ask.seed != int(ask.seed) or ask.bars != int(ask.bars):
            raise InputError(f"bars is {ask.bars} and seed {ask.seed}, but both must be whole numbers.")
        if not abs(ask.from_beat) < 1e9 or round(ask.from_beat * STEPS_PER_BEAT, 3) % self._bar_steps:
            raise InputError(
                f"from_beat is {ask.from_beat}, but must be a bar line: a multiple of {self.bar_beats:g}."
            )
        if not ask.parts:
            raise InputError(f"parts is empty. Name who plays: {', '.join(PARTS)}.")
        if unknown := set(ask.ranges) - set(PARTS):
            raise InputError(f'"{min(unknown)}" in ranges is no part. Parts are {", ".join(PARTS)}.')
        most = ask.most_notes_per_beat
        if most is not None and not 0 < most <= MOST_NOTES_PER_BEAT:
            raise InputError(
                f"most_notes_per_beat is {most}, but must lie above 0 and up to {MOST_NOTES_PER_BEAT:g}."
            )
        self.key_for(ask.key)


class _Bars:
    """Notes drawn so far, and the bars that they finish. Steps count from the first bar."""

    def __init__(self, ask: Ask, rules: Rules, bar_steps: int) -> None:
        self._ask, self._rules, self._bar_steps = ask, rules, bar_steps
        self._bar = 0
        self._written: list[Struck] = []  # of this bar, behind those of earlier ones that still sound
        self._settled = 0  # how many of these are of earlier ones

    def add(self, note: Struck) -> None:
        self._written.append(note)

    def ringing(self) -> list[tuple[int, int, int, int]]:
        """What reaches into later bars than its own, as `Rules.hold` wants it: a bar once given stays as it is."""
        line = (self._bar + 1) * self._bar_steps
        return [
            (part, pitch, onset if index < self._settled else line, onset + length)
            for index, ((onset, part, pitch, _, _), length) in enumerate(self._lengths())
            if onset + length > line or index < self._settled
        ]

    def up_to(self, step: int) -> Iterator[WrittenBar]:
        """The bars that end at or before `step`."""
        while self._bar < self._ask.bars and step >= (self._bar + 1) * self._bar_steps:
            index, self._bar = self._bar, self._bar + 1
            notes = ended_notes(self._written, self._rules, self._settled)[self._settled :]
            line = self._bar * self._bar_steps
            self._written = [
                (*note[:3], length, note[4]) for note, length in self._lengths() if note[0] + length > line
            ]
            self._settled = len(self._written)
            start = self._ask.from_beat
            moved = tuple(replace(note, start_beats=start + note.start_beats) for note in notes)
            yield WrittenBar(index, moved, self._bar == self._ask.bars)

    def _lengths(self) -> list[tuple[Struck, int]]:
        """What was written, and how many steps it sounds."""
        notes = ended_notes(self._written, self._rules, self._settled)
        return [
            (struck, round(note.length_beats * STEPS_PER_BEAT))
            for struck, note in zip(self._written, notes, strict=True)
        ]


def _rests(count: int) -> Rows:
    """So many rows that only let time pass; none for a count below 1."""
    rests: Rows = np.array([(REST, MOST_SHIFT, 0, 0, 0)] * max(0, count), np.int16).reshape(-1, 5)
    return rests


def _bar_steps(bar_beats: float) -> int:
    if not 1 / STEPS_PER_BEAT <= bar_beats <= 64 or round(bar_beats * STEPS_PER_BEAT, 6) % 1:
        raise InputError(
            f"A bar of {bar_beats} beats is not possible: it must have whole 24ths of a beat, and 64 beats at most."
        )
    return round(bar_beats * STEPS_PER_BEAT)


def _semitones(key: str) -> int:
    tonic, name = read_key(key)
    is_minor = 3 in SCALES[name] and 4 not in SCALES[name]
    return semitones_to_c(tonic, "minor" if is_minor else "major")
