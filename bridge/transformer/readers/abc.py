"""ABC notation, as folk tunes are written in it: melody, repeats, endings, tuplets, ties, broken rhythm.

Grace notes, decorations, chord symbols and words are passed over; so is the order of parts (P:) that a few
tunes give. The standard: https://abcnotation.com/wiki/abc:standard:v2.1
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.transformer.readers.score import Bar, BarNote, Piece, play

STEP = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
MIDDLE_C = 60
SHARPS = "FCGDAEB"
FIFTHS_OF_TONIC = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
FIFTHS_OF_MODE = {
    "maj": 0, "ion": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "loc": -5, "lyd": 1,
}  # fmt: skip
TUPLET_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # p notes in the time of q; others by the metre
ACCIDENTAL = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}

TOKEN = re.compile(
    r"""
      (?P<field>\[[A-Za-z]:[^\]]*\])
    | (?P<text>"[^"]*"|![^!\n]{1,30}!|\{[^}]*\})
    | (?P<bar>:*\|[\|\]:]*(?:\s*\[(?=\d))?|::+|\[\||\[(?=\d))
    | (?P<tuplet>\((?P<p>\d)(?::(?P<q>\d?))?(?::(?P<r>\d?))?)
    | (?P<chord>\[[^\]\n|]*\])
    | (?P<note>(?P<accidental>\^\^?|__?|=)?(?P<letter>[A-Ga-g])(?P<octave>[,']*))
    | (?P<rest>[zxZ])
    | (?P<broken>[<>]+)
    | (?P<tie>-)
    """,
    re.VERBOSE,
)
LENGTH = re.compile(r"(\d*)(/*)(\d*)")
ENDING = re.compile(r"\d+(?:[,-]\d+)*")
NOTE = re.compile(r"(\^\^?|__?|=)?([A-Ga-g])([,']*)(\d*/*\d*)(-?)")


def read_abc(text: str, part: str = "lead") -> Iterator[Piece]:
    """Every tune of an ABC file in its order, named by its number X; all notes are played by `part`.

    Tunes without notes or with several voices are left out: those are arrangements in parts.
    """
    for block in re.split(r"(?m)^(?=X:)", text)[1:]:
        header, body = _split_header(block)
        if not body or "V:" in block:
            continue
        number = header.get("X", ["0"])[0].split()
        tune = _Tune(header)
        for line in body:
            tune.read_line(line)
        bars = tune.finish()
        if any(bar.notes for bar in bars):
            title = header.get("T", [""])[0]
            phrase = play(bars, tune.bar_beats, part, mend_joins=tune.one_metre)
            yield Piece(number[0] if number else "0", title, phrase, tune.bar_beats)


def metre_beats(text: str) -> float | None:
    """The length of a bar in quarter notes: "6/8" -> 3.0, "C|" -> 4.0; None where the text names no metre."""
    text = text.split("%")[0].strip()
    if text in ("C", "C|"):
        return 4.0
    found = re.match(r"(\d+)\s*/\s*(\d+)", text)
    if not found or not int(found[1]) or not int(found[2]):
        return None
    return 4.0 * int(found[1]) / int(found[2])


def key_accidentals(text: str) -> dict[str, int]:
    """Letters and their alteration in a key: "D" -> {"F": 1, "C": 1}, "A Dorian" -> {"F": 1}."""
    found = re.match(r"\s*([A-G])\s*([#b]?)\s*([A-Za-z]*)", text.split("%")[0])
    if not found or text.strip().lower().startswith(("none", "hp")):
        return {"F": 1, "C": 1} if text.strip().lower().startswith("hp") else {}
    mode = found[3].lower()[:3]
    fifths = FIFTHS_OF_TONIC[found[1]] + {"#": 7, "b": -7}.get(found[2], 0) + FIFTHS_OF_MODE.get(mode, 0)
    fifths = max(-7, min(7, fifths))
    letters = SHARPS[:fifths] if fifths > 0 else SHARPS[::-1][:-fifths]
    return dict.fromkeys(letters, 1 if fifths > 0 else -1)


@dataclass
class _Tune:
    """Reads a tune's body line by line into bars."""

    header: dict[str, list[str]]
    bars: list[Bar] = field(default_factory=lambda: [Bar()])
    altered: dict[tuple[str, int], int] = field(default_factory=dict)  # by accidentals of this bar
    tuplet: tuple[float, int] = (1.0, 0)  # factor, notes left
    broken: float = 1.0  # factor for the next note

    def __post_init__(self) -> None:
        self.bar_beats = metre_beats(self.header.get("M", ["4/4"])[0]) or 4.0
        default = "1/16" if self.bar_beats < 3.0 else "1/8"
        self.unit_beats = metre_beats(self.header.get("L", [default])[0]) or 0.5
        self.key = key_accidentals(self.header.get("K", ["C"])[-1])
        self.metre_beats = self.bar_beats
        self.one_metre = True

    def read_line(self, line: str) -> None:
        if re.match(r"[A-Za-z]:(?![|:])", line):  # "d:|" is a note before a repeat sign
            self._field(line[0], line[2:])
            return
        line = line.split("%")[0]
        at = 0
        while found := TOKEN.search(line, at):
            at = found.end()
            if found["field"]:
                self._field(found["field"][1], found["field"][3:-1])
            elif found["bar"]:
                at = self._bar_line(found["bar"], line, at)
            elif found["tuplet"]:
                self._start_tuplet(int(found["p"]), found["q"], found["r"])
            elif found["chord"] or found["note"] or found["rest"]:
                length = LENGTH.match(line, at)
                at = length.end() if length else at
                self._sound(found, _length(length))
            elif found["broken"]:
                self._break(found["broken"])
            elif found["tie"]:
                self._tie()

    def finish(self) -> list[Bar]:
        if not self.bars[-1].notes and self.bars[-1].length_beats == 0.0:
            self.bars.pop()
        return self.bars

    def _field(self, letter: str, value: str) -> None:
        if letter == "K":
            self.key = key_accidentals(value)
        elif letter == "L":
            self.unit_beats = metre_beats(value) or self.unit_beats
        elif letter == "M":
            self.metre_beats = metre_beats(value) or self.metre_beats
            self.one_metre = self.one_metre and self.metre_beats == self.bar_beats

    def _bar_line(self, sign: str, line: str, at: int) -> int:
        bar = self.bars[-1]
        repeat_to = sign.startswith(":")
        repeat_from = sign.rstrip(' ["').endswith(":") and sign.strip() != ":|"
        double = sign.count("|") > 1 or "]" in sign
        if bar.notes or bar.length_beats > 0.0:
            bar.repeat_to, bar.section_end = repeat_to, double
            endings = frozenset() if repeat_to or repeat_from or double else bar.endings
            self.bars.append(Bar(endings=endings))
        elif len(self.bars) > 1:
            before = self.bars[-2]
            before.repeat_to = before.repeat_to or repeat_to
            before.section_end = before.section_end or double
        self.bars[-1].repeat_from = self.bars[-1].repeat_from or repeat_from
        self.altered = {}
        found = ENDING.match(line, at)
        if found:
            self.bars[-1].endings = _ending_numbers(found[0])
            return found.end()
        return at

    def _start_tuplet(self, notes: int, time: str | None, count: str | None) -> None:
        compound = self.metre_beats in (3.0, 4.5, 6.0) and self.unit_beats <= 0.5
        in_time = int(time) if time else TUPLET_TIME.get(notes, 3 if compound else 2)
        if notes:
            self.tuplet = (in_time / notes, int(count) if count else notes)

    def _sound(self, found: re.Match[str], length: float) -> None:
        bar = self.bars[-1]
        if found["rest"] == "Z":
            bar.length_beats += length * self.metre_beats
            return
        beats = length * self.unit_beats * self._stretch()
        pitches = []
        if found["note"]:
            pitches = [(self._pitch(found["accidental"], found["letter"], found["octave"]), False)]
        elif found["chord"]:
            members = list(NOTE.finditer(found["chord"]))
            pitches = [(self._pitch(m[1], m[2], m[3]), bool(m[5])) for m in members]
            beats *= _length(LENGTH.match(members[0][4])) if members else 1.0
        for pitch, tied in pitches:
            bar.notes.append(BarNote(bar.length_beats, beats, pitch, "1", tied))
        bar.length_beats += beats

    def _stretch(self) -> float:
        """The factor that a tuplet and a broken rhythm before this note give it."""
        factor, left = self.tuplet
        self.tuplet = (factor, left - 1) if left > 1 else (1.0, 0)
        factor, self.broken = factor * self.broken, 1.0
        return factor

    def _break(self, sign: str) -> None:
        """`>` lengthens the note before and shortens the next, `<` the reverse."""
        bar = self.bars[-1]
        if not bar.notes:
            return
        short = 0.5 ** len(sign)
        before, self.broken = (2.0 - short, short) if sign[0] == ">" else (short, 2.0 - short)
        start = bar.notes[-1].start_beats
        was = bar.length_beats - start
        for at, note in enumerate(bar.notes):
            if note.start_beats == start:
                bar.notes[at] = BarNote(start, was * before, note.pitch, note.voice, note.tied)
        bar.length_beats = start + was * before

    def _tie(self) -> None:
        bar = self.bars[-1]
        for at, note in enumerate(bar.notes):
            if note.start_beats == bar.notes[-1].start_beats:
                bar.notes[at] = BarNote(note.start_beats, note.length_beats, note.pitch, note.voice, True)

    def _pitch(self, accidental: str | None, letter: str, octave: str) -> int:
        height = octave.count("'") - octave.count(",") + letter.islower()
        letter = letter.upper()
        if accidental:
            self.altered[letter, height] = ACCIDENTAL[accidental]
        alteration = self.altered.get((letter, height), self.key.get(letter, 0))
        return MIDDLE_C + STEP[letter] + 12 * height + alteration


def _split_header(block: str) -> tuple[dict[str, list[str]], list[str]]:
    """Header fields (all lines up to and with K:), and the lines of music after them."""
    header: dict[str, list[str]] = {}
    lines = block.splitlines()
    for at, line in enumerate(lines):
        found = re.match(r"([A-Za-z]):\s*(.*)", line)
        if found:
            header.setdefault(found[1], []).append(found[2].strip())
            if found[1] == "K":
                return header, [text for text in lines[at + 1 :] if text.strip()]
    return header, []


def _length(found: re.Match[str] | None) -> float:
    """`3/2` -> 1.5, `/` -> 0.5, `//` -> 0.25, nothing -> 1."""
    if not found:
        return 1.0
    above = int(found[1]) if found[1] else 1
    below = int(found[3]) if found[3] else 2 ** len(found[2])
    return above / (below or 1)


def _ending_numbers(text: str) -> frozenset[int]:
    numbers: set[int] = set()
    for item in text.split(","):
        first, _, last = item.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)
