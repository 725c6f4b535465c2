"""What every reader makes: a piece of music in beats, its repeats written out as they are played.

A plain reader that passes each bar once hides the repetition that music is made of, so bars carry their
repeat signs and numbered endings until `unfold` puts them in playing order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from bridge.types import Note, Phrase

VELOCITY = 80  # where the source has none
STEPS_PER_BEAT = 24
MOST_BARS = 4_000  # an unfolded piece never gets longer; damaged repeat signs can't run away


@dataclass(frozen=True)
class Piece:
    """One piece as a reader found it; beat 0 is the bar line at or before its first note."""

    name: str  # unique within its source
    title: str
    phrase: Phrase
    bar_beats: float  # length of a bar in quarter notes, by the first metre
    rights: str = ""  # what the file itself says of them


@dataclass(frozen=True)
class BarNote:
    """A note within its bar."""

    start_beats: float
    length_beats: float
    pitch: int
    voice: str  # notes are tied within one voice
    tied: bool = False  # goes on in the next note of its voice and pitch
    velocity: int = VELOCITY


@dataclass
class Bar:
    """A stretch between two bar lines with the signs at its ends."""

    notes: list[BarNote] = field(default_factory=list)
    length_beats: float = 0.0
    repeat_from: bool = False  # |: at its start
    repeat_to: bool = False  # :| at its end
    section_end: bool = False  # || at its end
    endings: frozenset[int] = frozenset()  # it stands under these numbered endings; empty: always played


def unfold(bars: Sequence[Bar]) -> list[int]:
    """The bars' indices in playing order: each repeat played as often as its endings say, else twice."""
    order: list[int] = []
    start, turn, explicit, at = 0, 1, False, 0
    while at < len(bars) and len(order) < MOST_BARS:
        bar = bars[at]
        if bar.repeat_from and at != start:
            start, turn, explicit = at, 1, True
        explicit = explicit or bar.repeat_from
        if bar.endings and turn not in bar.endings:
            at += 1
            continue
        order.append(at)
        turns = max(2, _last_ending(bars, start, at))
        if bar.repeat_to and turn < turns:
            turn, at = turn + 1, start
            continue
        at += 1
        closed = bar.repeat_to or (turn > 1 and _ends_volta(bars, at))
        if closed or (bar.section_end and not explicit):
            start, turn, explicit = at, 1, False
    return order


def play(
    bars: Sequence[Bar], bar_beats: float, parts: dict[str, str] | str, mend_joins: bool = False
) -> Phrase:
    """The bars in playing order as a phrase on the grid; `parts` gives each voice's part, or one for all.

    A first bar that is too short is an upbeat: it ends on the second bar line. Tied notes become one. With
    `mend_joins` the last note before a repeat is held longer or shorter, as a player does it, where the bar and
    the upbeat after it don't make up whole bars; that wants one metre throughout.
    """
    order = unfold(bars)
    if mend_joins:
        bars, order = _mended(bars, order, bar_beats)
    first = bars[order[0]].length_beats if order else 0.0
    now = bar_beats - first if 0.0 < first < bar_beats - 1e-6 else 0.0
    notes: list[Note] = []
    open_ties: dict[tuple[str, int], int] = {}  # (voice, pitch) -> index of the note that goes on
    for index in order:
        for note in sorted(bars[index].notes, key=lambda n: n.start_beats):
            start = now + note.start_beats
            held = open_ties.pop((note.voice, note.pitch), None)
            if held is not None and abs(notes[held].start_beats + notes[held].length_beats - start) < 1e-3:
                before = notes[held]
                length = before.length_beats + note.length_beats
                notes[held] = Note(before.start_beats, length, before.pitch, before.velocity, before.part)
                at = held
            else:
                part = parts if isinstance(parts, str) else parts[note.voice]
                notes.append(Note(start, note.length_beats, note.pitch, note.velocity, part))
                at = len(notes) - 1
            if note.tied:
                open_ties[note.voice, note.pitch] = at
        now += bars[index].length_beats
    return on_grid(notes, now, bar_beats)


def on_grid(notes: Iterable[Note], length_beats: float, bar_beats: float) -> Phrase:
    """Notes rounded to 24 steps per beat, whole bars long, each part's pitch sounding once at a time.

    Of two notes of a part that begin together on one pitch the longer stays; one that reaches into the next on
    its pitch is cut. Leading empty bars go.
    """
    by_key: dict[tuple[str, int], dict[int, tuple[int, int]]] = {}
    for note in notes:
        start = round(note.start_beats * STEPS_PER_BEAT)
        length = max(1, round((note.start_beats + note.length_beats) * STEPS_PER_BEAT) - start)
        at_start = by_key.setdefault((note.part, note.pitch), {})
        at_start[start] = max(at_start.get(start, (0, 0)), (length, note.velocity))
    rows = []
    for (part, pitch), at_start in by_key.items():
        starts = sorted(at_start)
        for start, following in zip(starts, [*starts[1:], 1 << 60], strict=True):
            length, velocity = at_start[start]
            rows.append((start, part, pitch, min(length, following - start), velocity))
    if not rows:
        return Phrase((), 0.0)
    rows.sort()
    bar_steps = round(bar_beats * STEPS_PER_BEAT)
    skip = rows[0][0] // bar_steps * bar_steps
    end = max(round(length_beats * STEPS_PER_BEAT), max(row[0] + row[3] for row in rows)) - skip
    bars = -(-end // bar_steps)
    return Phrase(
        tuple(
            Note((start - skip) / STEPS_PER_BEAT, length / STEPS_PER_BEAT, pitch, velocity, part)
            for start, part, pitch, length, velocity in rows
        ),
        bars * bar_steps / STEPS_PER_BEAT,
    )


def _mended(bars: Sequence[Bar], order: list[int], bar_beats: float) -> tuple[list[Bar], list[int]]:
    """The bars as they are played, each join's last bar fitted to the upbeat that follows it."""
    played = [bars[index] for index in order]
    short = [bar.length_beats < bar_beats - 1e-6 for bar in played]
    now = bar_beats - played[0].length_beats if played and short[0] else 0.0
    for at, bar in enumerate(played[:-1]):
        now += bar.length_beats
        jumps = order[at + 1] != order[at] + 1 or bar.repeat_to or bar.section_end
        if jumps and bar.notes:
            upbeat = played[at + 1].length_beats if short[at + 1] else 0.0
            excess = (now + upbeat) % bar_beats
            last = bar.notes[-1]
            change = -excess if excess <= bar_beats / 2 and last.length_beats > excess else bar_beats - excess
            if min(excess, bar_beats - excess) > 1e-6:
                held = replace(last, length_beats=last.length_beats + change)
                played[at] = replace(
                    bar, notes=[*bar.notes[:-1], held], length_beats=bar.length_beats + change
                )
                now += change
    return played, list(range(len(played)))


def _last_ending(bars: Sequence[Bar], start: int, at: int) -> int:
    """The highest ending of the repeat that begins at `start` and whose sign stands at the end of bar `at`."""
    last, after = 0, at + 1
    for bar in bars[start:after]:
        last = max(last, *bar.endings, 0)
    while after < len(bars) and bars[after].endings and not bars[after].repeat_from:
        last = max(last, *bars[after].endings)
        after += 1
    return last


def _ends_volta(bars: Sequence[Bar], after: int) -> bool:
    """Whether the bar before `after` was the last one under a numbered ending."""
    return bool(bars[after - 1].endings) and (after >= len(bars) or not bars[after].endings)
