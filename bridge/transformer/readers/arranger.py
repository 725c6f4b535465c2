"""Accompaniments for chord progressions, made by MMA (Musical MIDI Accompaniment, https://www.mellowood.ca/mma/).

Its grooves give drums, bass and chords; a folk tune may give the melody, and then the chords follow from it. Only
the standard library's grooves are used: the others are converted from keyboards' own styles.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge.errors import InputError
from bridge.transformer.keys import FLAT_NAMES, find_key
from bridge.transformer.readers.midi_files import midi_notes
from bridge.transformer.readers.score import Piece, on_grid
from bridge.types import Note, Phrase

LIBRARY = Path("/usr/share/mma/lib/stdlib")
MMA_TIMEOUT_S = 60.0
NO_GROOVE = re.compile(r"intro|end|fill|metro|none", re.IGNORECASE)  # parts of a groove, and clicks
OFF_GRID = re.compile(  # plucked or rolled so slowly that chords fall between the grid's lines
    r"countrywaltz|dixie3|dixie4strum|easyswing|fastblues|folkballad|gypsyjazz|jazzguitar|mambo2|popspiritual"
    r"|rhumba2|slowspiritual|stringballad.*strum",
    re.IGNORECASE,
)
SIX_EIGHT = {"68swing": 6, "arpeggio68": 6, "blues68": 6, "68march": 2}  # file: MMA's beats in one bar of 6/8
METRES = {3: 3.0, 4: 4.0}  # MMA's beats in other files' bars, and ours
MELODY_VELOCITY = 96

CHORDS: dict[str, tuple[tuple[int, str], ...]] = {  # a mode's chords: semitones above the tonic, quality
    "major": ((0, ""), (2, "m"), (4, "m"), (5, ""), (7, ""), (7, "7"), (9, "m"), (10, "")),
    "minor": ((0, "m"), (3, ""), (5, "m"), (7, "m"), (7, "7"), (8, ""), (10, "")),
}
TONES = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10)}
FOREIGN = 0.7  # what a note outside a chord costs, in beats
CHANGE = 0.5  # what a change of chord costs; a fall by a fifth costs nothing
HOME = 1.0  # what it costs not to begin or end at home

SONGS: dict[str, tuple[str, str]] = {  # two sections, one chord a bar ("5/7": two), semitones above the tonic
    "axis": ("0 7 9m 5", "5 0 7 9m 5 0 7 7"),
    "axis from six": ("9m 5 0 7", "2m 7 0 9m 2m 7 0 0"),
    "fifties": ("0 9m 5 7", "5 5m 0 07 2 2 7 7"),
    "pachelbel": ("0 7 9m 4m 5 0 5 7", "9m 4m 5 0 9m 4m 5 7"),
    "twelve bars": ("07 07 07 07 57 57 07 07 77 57 07 77", "57 57 07 07 27 27 77 77"),
    "quick change": ("07 57 07 07 57 57 07 07 77 57 07/57 07/77", "57 07 57 07"),
    "minor blues": ("0m7 0m7 0m7 0m7 5m7 5m7 0m7 0m7 8M7 77 0m7 77", "5m7 5m7 0m7 0m7 27 27 77 77"),
    "rhythm": ("0/9m 2m/7 0/9m 2m/7 0/07 5/5m 0/7 0", "47 47 97 97 27 27 77 77"),
    "turnaround": ("2m7 77 0M7 97 2m7 77 0M7 0M7", "5m7 10 3M7 8M7 2m7 77 0M7 0M7"),
    "circle": ("9m7 2m7 77 0M7 5M7 11m7b5 47 9m", "9m 97 2m 7 0 5 47 9m"),
    "andalusian": ("0m 10 8 7", "5m 0m 8 7 5m 0m 7 0m"),
    "doubtful minor": ("0m 8 3 10", "5m 0m 8 10 5m 0m 7 7"),
    "minor plagal": ("0m 5m 0m 5m 0m 5m 77 0m", "3 10 3 10 8 8 7 77"),
    "dorian vamp": ("0m7 57 0m7 57", "8M7 10 0m7 0m7 8M7 10 57 77"),
    "mixolydian": ("0 10 5 0", "5 10 0 0 5 10 7 7"),
    "three chords": ("0 0 5 0 0 0 7 7", "5 5 0 0 7 5 0 7"),
    "country": ("0 0 07 5 5 0 7 0", "5 5 0 0 2 2 7 77"),
    "gospel": ("0 07 5 5m 0 9m 2 7", "9m 4m 5 0 9m 4m 2 7"),
    "descent": ("0 7 9m 4m 5 0 2m 7", "5 4m 2m 0 5 4m 2m 7"),
    "line cliche": ("0m 0mM7 0m7 5 8 8 77 77", "5m 5m 0m 0m 2m7b5 77 0m 0m"),
    "bossa": ("0M7 0M7 27 27 2m7 77 0M7 77", "5M7 5M7 5m7 107 0M7 97 27 77"),
    "autumn": ("5m7 107 3M7 8M7 2m7b5 77 0m 0m", "2m7b5 77 0m 0m 5m7 107 3M7 3M7"),
    "ballad": ("0M7 9m7 2m7 77 4m7 9m7 2m7 77", "5M7 4m7 2m7 0M7 5M7 4m7 27 77"),
    "royal road": ("5M7 7 4m 9m", "2m 7 0 9m 2m 4m 5 7"),
    "flat six": ("0 0 8 10", "5 5 8 10 0 0 8 7"),
    "march": ("0 0 7 0 0 9m 27 7", "5 0 5 0 7 0 27 7"),
    "hymn": ("0 5/0 0 7 0 5 0/7 0", "7 0 2/7 7 0 5 0/7 0"),
    "waltz turn": ("0 0 7 7 77 77 0 0", "5 5 0 0 7 77 0 07"),
    "ragtime": ("47 47 97 97 27 77 0 0", "5 5m 0 97 27 77 0 77"),
    "soul": ("0M7 2m7 4m7 2m7", "9m7 4m7 5M7 77 9m7 4m7 2m7 77"),
    "rock minor": ("0m 10 0m 10 8 10 0m 0m", "3 10 5 0m 3 10 8 7"),
    "modal rise": ("0 2 5 0", "9m 5 2 7 9m 5 7 7"),
    "lament": ("0m 7 10 5 8 3 5m 7", "8 10 3 0m 8 10 7 77"),
    "suspended": ("0 0sus4 5 0 9m 5 7sus4 7", "5 7 0 9m 5 7 0 0"),
}


@dataclass(frozen=True)
class Groove:
    """One of MMA's accompaniment styles."""

    file: str
    name: str
    mma_beats: int  # that MMA counts in a bar
    bar_beats: float  # quarter notes of a bar as we count them


def find_grooves(library: Path = LIBRARY) -> tuple[Groove, ...]:
    """The library's grooves in 4/4, 3/4 and 6/8, by file and name, without their intros, fills and endings.

    Raises:
        InputError: MMA is not installed.
    """
    if not library.is_dir():
        raise InputError(f"MMA's grooves are not at {library}. Install them with: apt-get install mma")
    grooves = []
    for path in sorted(library.glob("*.mma")):
        text = path.read_text("latin-1")
        times = {int(beats) for beats in re.findall(r"(?im)^\s*time\s+(\d+)", text)}
        metre = re.search(r"(?im)^\s*timesig\s+(\d+)[\s/]+(\d+)", text)
        compound = path.stem in SIX_EIGHT
        if len(times) != 1 or (metre and (metre[2] == "8") != compound):
            continue
        beats = times.pop()
        bar_beats = 3.0 if compound else METRES.get(beats, 0.0)
        for name in re.findall(r"(?im)^\s*defgroove\s+(\S+)", text):
            if bar_beats and not NO_GROOVE.search(name) and not OFF_GRID.match(name):
                grooves.append(Groove(path.stem, name, beats, bar_beats))
    return tuple(grooves)


def arrange_tune(tune: Piece, groove: Groove, semitones: int, bars: int, seed: int) -> Piece:
    """The tune's first bars as `lead`, transposed, over chords that suit it, in a groove of its metre.

    The groove's own lead instruments are silent; the title stays the tune's.

    Raises:
        InputError: MMA is missing or can't play the groove.
    """
    melody = _cut(tune.phrase, bars * tune.bar_beats, semitones)
    halves = 1 if groove.mma_beats == 3 else 2
    chords = harmonise(melody, tune.bar_beats, halves)
    chart = [chords[at : at + halves] for at in range(0, len(chords), halves)]
    return _arranged(f"{tune.name}/{groove.name}", tune.title, chart, groove, seed, melody.notes)


def arrange_song(title: str, groove: Groove, tonic: int, seed: int) -> Piece:
    """One of SONGS in the form ABA (sections of 8 bars or a blues), in the key of `tonic` (0 = C).

    Raises:
        InputError: MMA is missing or can't play the groove.
    """
    chart = song_chart(title, tonic)
    name = f"{title}/{groove.name}/{tonic}"
    return _arranged(name, f"song {title}", chart, groove, seed, ())


def song_chart(title: str, tonic: int) -> list[list[str]]:
    """A song's chord names, one or two for each bar."""
    first, second = (_section(text) for text in SONGS[title])
    chart = [[_chord(degree, tonic) for degree in bar] for bar in (*first, *second, *first)]
    return [*chart, [chart[0][0]]]


def harmonise(melody: Phrase, bar_beats: float, per_bar: int) -> list[str]:
    """Chord names for a melody, `per_bar` for each bar, by the cheapest path through its key's chords.

    A note inside a chord pays its length, one outside costs, and so does a change that is no fall by a fifth
    (Viterbi 1967).
    """
    spans = round(melody.length_beats / bar_beats) * per_bar
    span_beats = bar_beats / per_bar
    weights = np.zeros((spans, 12))
    for note in melody.notes:
        at = min(int(note.start_beats / span_beats + 1e-6), spans - 1)
        weights[at, note.pitch % 12] += min(note.length_beats, span_beats)
    tonic, mode = find_key(weights.sum(axis=0))
    chords = CHORDS[mode]
    inside = np.full((len(chords), 12), -FOREIGN)
    for row, (degree, quality) in enumerate(chords):
        inside[row, [(tonic + degree + tone) % 12 for tone in TONES[quality]]] = 1.0
    gains = weights @ inside.T
    gains[0, 1:] -= HOME
    gains[-1, 1:] -= HOME
    roots = np.array([degree for degree, _ in chords])
    falls = (roots[:, None] - roots[None, :]) % 12 == 7
    costs = np.where(falls, 0.0, CHANGE) * (1 - np.eye(len(chords)))
    return [FLAT_NAMES[(tonic + chords[at][0]) % 12] + chords[at][1] for at in _best_path(gains, costs)]


def in_three(tune: Piece) -> bool:
    """Whether a bar of three quarters is felt as three beats (3/4) rather than two (6/8)."""
    places = [round(note.start_beats % tune.bar_beats, 3) for note in tune.phrase.notes]
    return tune.bar_beats == 3.0 and places.count(1.0) + places.count(2.0) > 2 * places.count(1.5)


def _best_path(gains: npt.NDArray[np.float64], costs: npt.NDArray[np.float64]) -> list[int]:
    score = gains[0]
    back = []
    for gain in gains[1:]:
        reached = score[:, None] - costs
        back.append(reached.argmax(axis=0))
        score = reached.max(axis=0) + gain
    path = [int(score.argmax())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return path[::-1]


def _section(text: str) -> list[list[str]]:
    bars = [bar.split("/") for bar in text.split()]
    return bars if len(bars) >= 8 else bars * (8 // len(bars))


def _chord(degree: str, tonic: int) -> str:
    """The chord on a degree: "5m7" in C -> "Fm7", "107" -> "Bb7", "07" -> "C7"."""
    found = re.fullmatch(r"(1[01]|\d)(.*)", degree)
    if not found:
        raise ValueError(f"{degree} is no chord")
    return FLAT_NAMES[(tonic + int(found[1])) % 12] + found[2]


def _cut(phrase: Phrase, end_beats: float, semitones: int) -> Phrase:
    notes = (
        replace(n, pitch=n.pitch + semitones, velocity=MELODY_VELOCITY, part="lead")
        for n in phrase.notes
        if n.start_beats < end_beats
    )
    return Phrase(tuple(notes), min(end_beats, phrase.length_beats))


def _arranged(
    name: str, title: str, chart: Sequence[Sequence[str]], groove: Groove, seed: int, melody: Sequence[Note]
) -> Piece:
    length_beats = len(chart) * groove.bar_beats
    played, _, _ = midi_notes(_run_mma(_mma_text(chart, groove, seed), name), name)
    stretch = groove.bar_beats / groove.mma_beats
    accompaniment = []
    for note in played:
        start = note.start_beats * stretch
        if start < length_beats - 1e-6 and not (melody and note.part == "lead"):
            length = min(note.length_beats * stretch, length_beats - start)
            accompaniment.append(replace(note, start_beats=start, length_beats=length))
    phrase = on_grid([*accompaniment, *melody], length_beats, groove.bar_beats)
    return Piece(name, title, phrase, groove.bar_beats)


def _mma_text(chart: Sequence[Sequence[str]], groove: Groove, seed: int) -> str:
    """A song file for MMA; its random delays and strummed chords are switched off, so that all lies on the grid."""
    lines = [
        f"RndSeed {seed}",
        f"Groove stdlib/{groove.file}:{groove.name}",
        "AllTracks RTime 0",
        "AllTracks Chord Strum 0",
    ]
    for number, chords in enumerate(chart, start=1):
        places = ["/"] * groove.mma_beats
        for at, chord in enumerate(chords):
            places[at * groove.mma_beats // len(chords)] = chord
        lines.append(f"{number} {' '.join(places)}")
    return "\n".join(lines) + "\n"


def _run_mma(text: str, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "song.mma"), Path(folder, "song.mid")
        source.write_text(text, "ascii")
        try:
            done = subprocess.run(
                ["mma", "-w", "-f", str(target), str(source)],
                capture_output=True,
                text=True,
                timeout=MMA_TIMEOUT_S,
                cwd=folder,
                check=False,
            )
        except FileNotFoundError as exc:
            raise InputError("MMA is missing. Install it with: apt-get install mma") from exc
        if done.returncode or not target.exists():
            raise InputError(f"MMA could not arrange {name}: {done.stdout.strip()[-300:]}")
        return target.read_bytes()
