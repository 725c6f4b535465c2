"""One note at a time: bass lines and sung melodies.

basic-pitch's posteriorgrams, with each pitch's harmonics folded onto it, go through a Viterbi search for the one
path of pitches and rests; on it a repeated note needs an onset and a rise in level.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from bridge.transcribers.levels import level_after_db, rise_db
from bridge.transcribers.pitched import (
    HOP,
    LAG_S,
    LEAST_LENGTH_S,
    LOWEST_PITCH,
    RATE_HZ,
    Array,
    Posteriorgrams,
    peak_frames,
)
from bridge.transcribers.played import PlayedNote

HARMONICS = ((0, 1.0), (12, 0.3), (19, 0.2))
"""Semitones above the fundamental, and the weight of what is heard there."""
REST = 0.25  # a pitch must pass this salience to sound
CHANGE = 0.6  # what going to another pitch costs, in frames of full salience
REPEAT_ONSET = 0.38
REPEAT_RISE_DB = 1.5
SEARCH_FRAMES = (6, 8)  # before and after a change of pitch, where its onset may lie
LEAST_ONSET = 0.2


def transcribe_monophonic(
    heard: Posteriorgrams, samples: Array, lowest: int, highest: int
) -> list[PlayedNote]:
    """Notes of a monophonic stem between two MIDI pitches; `samples` (1, frames) at 22 050 Hz."""
    rows = slice(lowest - LOWEST_PITCH, highest - LOWEST_PITCH + 1)
    salience = _folded(heard.note)[:, rows]
    onsets = _folded(heard.onset)[:, rows]
    if len(salience) == 0:
        return []
    notes = []
    for first, end, state in _runs(_best_path(salience)):
        pitch = lowest + state - 1
        starts = _starts(onsets[:, state - 1], first, end, heard, pitch, samples)
        for frame, stop in zip(starts, [*starts[1:], end], strict=True):
            if (stop - frame) * HOP / RATE_HZ >= LEAST_LENGTH_S:
                start_s = max(0.0, float(heard.seconds[frame]) - LAG_S)
                end_s = float(heard.seconds[min(stop, len(salience) - 1)])
                notes.append(PlayedNote(start_s, end_s, pitch, level_after_db(samples, pitch, start_s)))
    return notes


def _folded(posterior: Array) -> Array:
    out = np.zeros_like(posterior)
    for semitones, weight in HARMONICS:
        out[:, : posterior.shape[1] - semitones] += weight * posterior[:, semitones:]
    return out / sum(weight for _, weight in HARMONICS)


def _best_path(salience: Array) -> npt.NDArray[np.intp]:
    """The state of each frame, 0 = rest, else 1 + row: (frames,). Every change of state costs the same."""
    frames, rows = salience.shape
    gains = np.concatenate([np.full((frames, 1), REST, np.float32), salience], axis=1)  # (frames, 1 + rows)
    stays = np.arange(rows + 1)
    came_from = np.zeros((frames, rows + 1), dtype=np.intp)
    score = np.zeros(rows + 1)
    for frame in range(frames):
        best = int(score.argmax())
        staying = score >= score[best] - CHANGE
        came_from[frame] = np.where(staying, stays, best)
        score = np.where(staying, score, score[best] - CHANGE) + gains[frame]
    path = np.zeros(frames, dtype=np.intp)
    path[-1] = score.argmax()
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path


def _runs(path: npt.NDArray[np.intp]) -> list[tuple[int, int, int]]:
    """(first frame, frame after the last, state) of each stretch that is no rest."""
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    return [(a, b, int(path[a])) for a, b in itertools.pairwise(edges) if path[a] != 0]


def _starts(
    onset: Array, first: int, end: int, heard: Posteriorgrams, pitch: int, samples: Array
) -> list[int]:
    """The frame at which a run's first note starts, and those at which it is struck again."""
    before, after = SEARCH_FRAMES
    low = max(0, first - before)
    near = onset[low : first + after]
    starts = [low + int(near.argmax()) if near.max() > LEAST_ONSET else first]
    for frame in peak_frames(onset[:end], REPEAT_ONSET):
        again = starts[0] + 3 < frame < end - 2
        if again and rise_db(samples, pitch, float(heard.seconds[frame])) >= REPEAT_RISE_DB:
            starts.append(frame)
    return starts
