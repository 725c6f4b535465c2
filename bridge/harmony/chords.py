"""The chords of a song from its notes, one for each half bar, smoothed over time.

A hidden Markov model without training: each chord states which pitch classes it expects of all parts and of the
bass, changes are dear (dearer inside a bar), and chords of the key are likelier.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bridge.types import Note, Phrase

Array = npt.NDArray[np.float64]

NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
NO_CHORD = "none"


class _Quality(NamedTuple):
    intervals: tuple[int, ...]  # semitones over the root
    suffix: str
    prior: float  # in nats: the plain triads are likelier than what colours them


QUALITIES: Mapping[str, _Quality] = {
    "maj": _Quality((0, 4, 7), "", 0.0),
    "min": _Quality((0, 3, 7), "m", 0.0),
    "7": _Quality((0, 4, 7, 10), "7", -0.5),
    "maj7": _Quality((0, 4, 7, 11), "maj7", -0.7),
    "min7": _Quality((0, 3, 7, 10), "m7", -0.7),
    "dim": _Quality((0, 3, 6), "dim", -1.0),
    "sus4": _Quality((0, 5, 7), "sus4", -1.0),
    "power": _Quality((0, 7), "5", -0.6),
}
PART_WEIGHTS: Mapping[str, float] = {"drums": 0.0, "vocals": 0.4, "lead": 0.4, "bass": 0.7}
"""How much a part says of the harmony; the others 1. Melodies pass through notes that the chord lacks."""

_INSIDE = 0.92  # of what sounds, the share that belongs to the chord
_SHARES = {0: 1.1, 3: 0.8, 4: 0.8, 5: 0.8, 6: 0.8, 7: 1.0, 10: 0.8, 11: 0.8}  # roots and fifths are doubled
_BASS_SHARES = {0: 0.55, 7: 0.15, 3: 0.08, 4: 0.08}  # the rest falls on all twelve
_MOST_EVIDENCE_BEATS = 6.0  # of a half bar, so that a dense one does not outvote its neighbours
_MOST_BASS_BEATS = 2.0
_OUT_OF_KEY = -0.8  # in nats, for each pitch class of a chord that the key lacks
_CHANGE_AT_BAR, _CHANGE_INSIDE = -1.2, -2.6  # in nats
_SILENCE = 0.4  # in nats for each half bar without a pitch: a long pause has no chord
_NOISE = -1.5  # in nats: what fits no chord
_SHORTEST_BEATS = 0.5  # transcribed notes are often cut short: each speaks for at least so long


@dataclass(frozen=True)
class Chord:
    """A stretch of one harmony. Beats are quarter notes from tick 0."""

    start_beats: float
    end_beats: float
    root: int  # 0 = C .. 11; 0 where there is no chord
    quality: str  # a key of QUALITIES, or "none"

    @property
    def pitch_classes(self) -> frozenset[int]:
        """Its notes, 0 = C; empty where there is no chord."""
        if self.quality == NO_CHORD:
            return frozenset()
        return frozenset((self.root + step) % 12 for step in QUALITIES[self.quality].intervals)

    @property
    def name(self) -> str:
        """Such as "Am7"; "-" where there is no chord."""
        return "-" if self.quality == NO_CHORD else NAMES[self.root] + QUALITIES[self.quality].suffix


def find_chords(
    phrase: Phrase,
    bar_beats: float,
    first_downbeat_beats: float = 0.0,
    scale: frozenset[int] | None = None,
) -> tuple[Chord, ...]:
    """Chords that cover the phrase from 0 to its length, without gaps; equal neighbours are one.

    They change at multiples of `harmonic_rhythm_beats`. `scale` holds the pitch classes of the key where it is
    known.
    """
    units = _units(phrase.length_beats, bar_beats, first_downbeat_beats)
    if not units:
        return ()
    heard = _heard(phrase.notes, units)
    bass = _heard(_bass_line(phrase.notes), units)
    at_bar = [_is_bar_line(start, bar_beats, first_downbeat_beats) for start, _ in units]
    states = _viterbi(_evidence(heard, bass, scale), at_bar)
    chords: list[Chord] = []
    for (start, end), state in zip(units, states, strict=True):
        root, quality = _STATES[state]
        if chords and (chords[-1].root, chords[-1].quality) == (root, quality):
            chords[-1] = replace(chords[-1], end_beats=end)
        else:
            chords.append(Chord(start, end, root, quality))
    return tuple(chords)


def harmonic_rhythm_beats(bar_beats: float) -> float:
    """How often a chord may change: each half of a bar of an even number of beats, four or more; else each bar."""
    return bar_beats / 2 if bar_beats >= 4 and bar_beats % 2 == 0 else bar_beats


def chords_between(chords: Sequence[Chord], start_beats: float, end_beats: float) -> tuple[Chord, ...]:
    """The chords of a stretch, cut to it; their beats count from `start_beats`."""
    return tuple(
        replace(
            chord,
            start_beats=max(chord.start_beats, start_beats) - start_beats,
            end_beats=min(chord.end_beats, end_beats) - start_beats,
        )
        for chord in chords
        if chord.end_beats > start_beats and chord.start_beats < end_beats
    )


_STATES: tuple[tuple[int, str], ...] = (
    *((root, quality) for quality in QUALITIES for root in range(12)),
    (0, NO_CHORD),
)


def _units(length_beats: float, bar_beats: float, first_downbeat_beats: float) -> list[tuple[float, float]]:
    """The stretches that have one chord each, from 0 to the end."""
    step = harmonic_rhythm_beats(bar_beats)
    first = first_downbeat_beats - math.ceil(first_downbeat_beats / step) * step
    count = math.ceil((length_beats - first) / step - 1e-6)
    lines = [0.0, *(first + index * step for index in range(1, count)), length_beats]
    return [(start, end) for start, end in pairwise(lines) if end - start > 1e-6]


def _is_bar_line(beat: float, bar_beats: float, first_downbeat_beats: float) -> bool:
    bars = (beat - first_downbeat_beats) / bar_beats
    return abs(bars - round(bars)) < 1e-6


def _heard(notes: Sequence[Note], units: Sequence[tuple[float, float]]) -> Array:
    """(units, 12): beats for which each pitch class sounds in each unit, weighted by part and velocity."""
    starts = np.array([start for start, _ in units])
    heard = np.zeros((len(units), 12))
    for note in notes:
        weight = PART_WEIGHTS.get(note.part, 1.0) * note.velocity / 127.0
        stop = note.start_beats + max(note.length_beats, _SHORTEST_BEATS)
        index = max(0, int(np.searchsorted(starts, note.start_beats, side="right")) - 1)
        while weight > 0 and index < len(units) and units[index][0] < stop:
            beats = min(stop, units[index][1]) - max(note.start_beats, units[index][0])
            heard[index, note.pitch % 12] += weight * max(beats, 0.0)
            index += 1
    return heard


def _bass_line(notes: Sequence[Note]) -> list[Note]:
    """The bass part; where there is none, the lowest note at each onset of what plays chords."""
    line = [note for note in notes if note.part == "bass"]
    if line:
        return line
    lowest: dict[float, Note] = {}
    for note in notes:
        low = lowest.get(note.start_beats)
        if PART_WEIGHTS.get(note.part, 1.0) == 1.0 and (low is None or note.pitch < low.pitch):
            lowest[note.start_beats] = note
    return list(lowest.values())


def _evidence(heard: Array, bass: Array, scale: frozenset[int] | None) -> Array:
    """(units, states): how well each chord explains each unit, in nats; 0 says nothing."""
    evidence = _limited(heard, _MOST_EVIDENCE_BEATS) @ _expected(in_bass=False).T
    evidence += _limited(bass, _MOST_BASS_BEATS) @ _expected(in_bass=True).T
    prior = np.array([QUALITIES[quality].prior if quality != NO_CHORD else _NOISE for _, quality in _STATES])
    if scale:
        chords = [Chord(0.0, 0.0, root, quality).pitch_classes for root, quality in _STATES]
        prior += np.array([_OUT_OF_KEY * len(chord - scale) for chord in chords])
    silent = heard.sum(axis=1) == 0
    evidence = np.where(silent[:, None], 0.0, evidence + prior)
    evidence[silent, -1] = _SILENCE
    return evidence


def _limited(heard: Array, most_beats: float) -> Array:
    total = heard.sum(axis=1, keepdims=True)
    return np.asarray(heard * np.minimum(1.0, most_beats / np.maximum(total, 1e-9)))


def _expected(*, in_bass: bool) -> Array:
    """(states, 12): log of the share of each pitch class in each chord, against no chord's even shares."""
    shares = np.full((len(_STATES), 12), 1.0 / 12)
    for state, (root, quality) in enumerate(_STATES[:-1]):
        inside = {
            step: (_BASS_SHARES if in_bass else _SHARES).get(step, 0.0)
            for step in QUALITIES[quality].intervals
        }
        scale = 1.0 if in_bass else _INSIDE / sum(inside.values())
        shares[state] = (1.0 - scale * sum(inside.values())) / 12
        for step, share in inside.items():
            shares[state, (root + step) % 12] += scale * share
    return np.asarray(np.log(shares * 12))


def _viterbi(evidence: Array, at_bar: Sequence[bool]) -> list[int]:
    """The likeliest state of each unit, where every change costs the same whatever it leads to."""
    best = evidence[0].copy()
    came_from = np.empty(evidence.shape, np.int64)
    for index in range(1, len(evidence)):
        changed = int(np.argmax(best))
        change = best[changed] + (_CHANGE_AT_BAR if at_bar[index] else _CHANGE_INSIDE)
        came_from[index] = np.where(best >= change, np.arange(best.size), changed)
        best = np.maximum(best, change) + evidence[index]
    states = [int(np.argmax(best))]
    for index in range(len(evidence) - 1, 0, -1):
        states.append(int(came_from[index, states[-1]]))
    return states[::-1]
