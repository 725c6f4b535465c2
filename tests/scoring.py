"""How right an estimate is: scores that tests and the benchmark share. Higher is better."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import numpy.typing as npt

ONSET_TOLERANCE_S = 0.05
DRUMS = {"kick": (35, 36), "snare": (38, 40), "hat": (42, 44, 46)}


@dataclass(frozen=True)
class Score:
    """Precision, recall and their harmonic mean, all 0..1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class TimedNote:
    """A note of a MIDI file, in seconds from tick 0."""

    part: str
    start_s: float
    end_s: float
    pitch: int
    velocity: int


def timed_notes(path: Path) -> list[TimedNote]:
    """All notes of a file, each under its track's name. Reads with mido alone, apart from our own reader."""
    file = mido.MidiFile(path)
    notes = []
    for track in file.tracks:
        name = next((message.name for message in track if message.type == "track_name"), "")
        alone = track if track is file.tracks[0] else mido.merge_tracks([file.tracks[0], track])
        notes += _track_notes(name, alone, file.ticks_per_beat)
    return sorted(notes, key=lambda n: (n.start_s, n.pitch))


def note_f1(
    reference_mid: Path | Sequence[Path], estimate_mid: Path, parts: Iterable[str] | None = None
) -> Score:
    """Onsets and pitches by mir_eval (50 ms, offsets ignored); `parts` picks tracks of the estimate."""
    import mir_eval

    references = [reference_mid] if isinstance(reference_mid, Path) else reference_mid
    wanted = None if parts is None else set(parts)
    reference = [n for path in references for n in timed_notes(path)]
    estimate = [n for n in timed_notes(estimate_mid) if wanted is None or n.part in wanted]
    if not reference or not estimate:
        return Score(0.0, 0.0, 0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mir_eval")
        precision, recall, f1, _ = mir_eval.transcription.precision_recall_f1_overlap(
            *_intervals(reference),
            *_intervals(estimate),
            onset_tolerance=ONSET_TOLERANCE_S,
            offset_ratio=None,
        )
    return Score(float(precision), float(recall), float(f1))


def drum_f1(reference_mid: Path, estimate_mid: Path, part: str = "drums") -> dict[str, Score]:
    """Onset scores (50 ms) of kick, snare and hat; `part` picks the estimate's track."""
    reference = timed_notes(reference_mid)
    estimate = [n for n in timed_notes(estimate_mid) if n.part == part]
    return {name: onset_f1(_starts(reference, keys), _starts(estimate, keys)) for name, keys in DRUMS.items()}


def onset_f1(reference_s: Sequence[float], estimate_s: Sequence[float]) -> Score:
    """Onsets alone by mir_eval, within 50 ms."""
    import mir_eval

    if not len(reference_s) or not len(estimate_s):
        return Score(0.0, 0.0, 0.0)
    f1, precision, recall = mir_eval.onset.f_measure(
        np.unique(reference_s), np.unique(estimate_s), window=ONSET_TOLERANCE_S
    )
    return Score(float(precision), float(recall), float(f1))


def sdr_db(reference: npt.NDArray[np.float32], estimate: npt.NDArray[np.float32]) -> float:
    """Plain signal-to-distortion ratio over all samples and channels; inf for equal arrays."""
    wanted = reference.astype(np.float64)
    error = float(np.sum((wanted - estimate) ** 2))
    return float("inf") if error == 0.0 else float(10.0 * np.log10(np.sum(wanted**2) / error))


def _track_notes(name: str, track: mido.MidiTrack, ppq: int) -> list[TimedNote]:
    notes: list[TimedNote] = []
    sounding: dict[tuple[int, int], list[tuple[float, int]]] = {}
    seconds, tempo = 0.0, 500_000
    for message in track:
        seconds += message.time * tempo / 1e6 / ppq
        if message.type == "set_tempo":
            tempo = message.tempo
        elif message.type == "note_on" and message.velocity > 0:
            sounding.setdefault((message.channel, message.note), []).append((seconds, message.velocity))
        elif message.type in ("note_on", "note_off"):
            waiting = sounding.get((message.channel, message.note))
            if waiting:
                start, velocity = waiting.pop(0)
                notes.append(TimedNote(name, start, seconds, message.note, velocity))
    return notes


def _intervals(notes: Sequence[TimedNote]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Start and end in seconds, (notes, 2), and pitch in Hz, (notes,), as mir_eval takes them."""
    spans = np.array([(n.start_s, max(n.end_s, n.start_s + 0.01)) for n in notes])
    pitches = np.array([440.0 * 2 ** ((n.pitch - 69) / 12) for n in notes])
    return spans, pitches


def _starts(notes: Iterable[TimedNote], keys: Sequence[int]) -> list[float]:
    return sorted(n.start_s for n in notes if n.pitch in keys)
