"""Chords and melodies to notes: basic-pitch's network, with a note decoding of our own.

The network (Bittner et al., "A lightweight instrument-agnostic model for polyphonic note transcription and
multipitch estimation", ICASSP 2022) runs as the ONNX file in the package basic-pitch. Its package is never
imported, since that takes six seconds; its own decoding reports harmonics as notes.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ModelError
from bridge.threads import compute_threads
from bridge.transcribers.levels import level_after_db
from bridge.transcribers.pitched_network import quick_network
from bridge.transcribers.played import PlayedNote, in_order
from bridge.types import ModelRef

Array = npt.NDArray[np.float32]
Report = Callable[[float, float], None]

RATE_HZ = 22_050
HOP = 256
WINDOW = 43_844
OVERLAP_FRAMES = 30
LOWEST_PITCH = 21  # row 0 of a posteriorgram
LAG_S = 0.008  # the network's onsets peak this much after the sound begins (median over nine instruments)

LEAST_ONSET = 0.25  # below it a peak of the onset posteriorgram isn't looked at
APART_FRAMES = 4  # two onsets of one pitch are further apart than this
SOUNDING = 0.2  # of the note posteriorgram: a note goes on while it stays above
GAP_FRAMES = 9  # a shorter drop below SOUNDING doesn't end a note
LEAST_LENGTH_S = 0.06
MEAN_FRAMES = 20  # how much of a note its mean posterior is taken from
RELATIVE_EVIDENCE = 0.8  # of the strongest notes' evidence; harmonics and ghosts lie below
EVIDENCE_RANGE = (0.8, 1.1)  # where that threshold must lie, out of 1.5
ALREADY_SOUNDING = 0.35  # of the note posteriorgram just before an onset
SURE_ONSET = 0.7
COMPANY = 0.3  # an onset of another pitch that confirms one
ALONE = 0.2  # less evidence for a note at an instant where nothing else in the song begins
TOGETHER_S = 0.05
CHORD = 0.15  # more evidence for a note with two sure ones at the same instant that don't explain it
CHORD_FRAMES = 3
HARMONICS = (12, 19, 24, 28, 31, 34, 36)  # semitones from a fundamental to its partials 2 to 8
AT_ONCE = 16  # windows for each thread
_HEARS_SILENCE = threading.Lock()


@dataclass(frozen=True)
class Posteriorgrams:
    """What the network heard; (frames, 88), probabilities in 0..1, row 0 = A0."""

    note: Array
    onset: Array
    seconds: npt.NDArray[np.float64]  # (frames,), the middle of each frame


@dataclass(frozen=True)
class _Candidate:
    frame: int
    end_frame: int
    row: int
    onset: float
    evidence: float


def model() -> ModelRef:
    """The network's name, digest and licence."""
    return ModelRef("basic-pitch ICASSP 2022", _digest(), "Apache-2.0")


def posteriorgrams(samples: Array, report: Report) -> Posteriorgrams:
    """Run the network on mono audio, (1, frames) at 22 050 Hz, window by window as basic-pitch does.

    `report(done, total)` is called for each window of about 1.6 s and may raise.
    """
    step = WINDOW - OVERLAP_FRAMES * HOP
    margin = OVERLAP_FRAMES // 2
    frames, count = samples.shape[1], -(-(samples.shape[1] + margin * HOP) // step)
    # A window's frames reach some milliseconds into the next one's, so time is counted per window.
    kept = WINDOW // HOP + 1 - 2 * margin
    at = (np.arange(count)[:, np.newaxis] * step + np.arange(kept) * HOP).ravel() / RATE_HZ
    inside = int(np.count_nonzero(at < frames / RATE_HZ))
    notes, onsets = (np.empty((count * kept, 88), np.float32) for _ in range(2))
    windows = (_window(samples[0], index * step - margin * HOP) for index in range(count))
    for index, (note, onset) in enumerate(_hear_all(windows)):
        report(index, count)
        here = slice(index * kept, (index + 1) * kept)
        notes[here], onsets[here] = note[margin:-margin], onset[margin:-margin]
    report(1, 1)
    return Posteriorgrams(notes[:inside], onsets[:inside], at[:inside])


def _window(samples: Array, start: int) -> Array:
    """(WINDOW,) from `start`, which may lie before the first sample; silence beyond the ends."""
    before = max(0, -start)
    piece = samples[max(0, start) : start + WINDOW]
    return np.pad(piece, (before, WINDOW - before - len(piece)))


def mean_of(first: Posteriorgrams, second: Posteriorgrams) -> Posteriorgrams:
    """What two hearings of the same stretch of music agree on. The first one's arrays are used for it."""
    for mine, theirs in ((first.note, second.note), (first.onset, second.onset)):
        mine += theirs
        mine /= 2
    return first


def transcribe_pitched(
    heard: Posteriorgrams,
    samples: Array,
    lowest: int,
    highest: int,
    instants_s: Sequence[float] = (),
) -> list[PlayedNote]:
    """Notes of a polyphonic stem between two MIDI pitches; `samples` (1, frames) at 22 050 Hz give the levels.

    A note needs evidence, its onset and half its mean posterior, near that of the stem's strongest
    notes: this leaves out the harmonics. Notes that begin together confirm each other unless one may be the
    other's harmonic. `instants_s` are the starts of what other instruments play; where they are known, a
    note that begins between them needs more evidence.
    """
    rows = range(lowest - LOWEST_PITCH, highest - LOWEST_PITCH + 1)
    candidates = [c for row in rows for c in _candidates(heard, row) if _starts(c, heard)]
    if not candidates:
        return []
    evidence = np.array([c.evidence for c in candidates])
    needed = float(np.clip(RELATIVE_EVIDENCE * np.percentile(evidence, 95), *EVIDENCE_RANGE))
    if len(instants_s):
        starts_s = heard.seconds[[c.frame for c in candidates]] - LAG_S
        evidence -= ALONE * (_distance_s(starts_s, instants_s) > TOGETHER_S)
    evidence += _chord_bonus(candidates, evidence >= needed)
    return in_order(
        _played(c, heard, samples) for c, e in zip(candidates, evidence, strict=True) if e >= needed
    )


def peak_frames(curve: Array, least: float) -> list[int]:
    """Frames that are the first largest within APART_FRAMES on both sides, and at least `least`."""
    padded = np.pad(curve, APART_FRAMES)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * APART_FRAMES + 1).max(axis=1)
    frames: list[int] = []
    for frame in np.flatnonzero((curve >= least) & (curve == around)):
        if not frames or frame - frames[-1] > APART_FRAMES:
            frames.append(int(frame))
    return frames


def _candidates(heard: Posteriorgrams, row: int) -> list[_Candidate]:
    onset, note = heard.onset[:, row], heard.note[:, row]
    frames = peak_frames(onset, LEAST_ONSET)
    found = []
    for frame, limit in zip(frames, [*frames[1:], len(note)], strict=False):
        end = _end_frame(note, frame, limit)
        if (end - frame) * HOP / RATE_HZ >= LEAST_LENGTH_S:
            mean = float(note[frame : min(end, frame + MEAN_FRAMES)].mean())
            found.append(_Candidate(frame, end, row, float(onset[frame]), float(onset[frame]) + mean / 2))
    return found


def _end_frame(note: Array, frame: int, limit: int) -> int:
    """Where the posterior stays below SOUNDING, at most `limit`."""
    sounding = [frame + 1, *(np.flatnonzero(note[frame + 2 : limit] >= SOUNDING) + frame + 2).tolist()]
    for now, later in itertools.pairwise(sounding):
        if later - now > GAP_FRAMES:
            return int(now) + 1
    return int(sounding[-1]) + 1


def _starts(candidate: _Candidate, heard: Posteriorgrams) -> bool:
    frame, row = candidate.frame, candidate.row
    before = heard.note[max(0, frame - 6) : max(0, frame - 1), row]
    if before.size == 0 or before.mean() < ALREADY_SOUNDING or candidate.onset >= SURE_ONSET:
        return True
    others = np.delete(heard.onset[max(0, frame - 3) : frame + 4].max(axis=0), row)
    return bool(others[others >= COMPANY].sum() >= 1.0)


def _distance_s(starts_s: npt.NDArray[np.float64], instants_s: Sequence[float]) -> npt.NDArray[np.float64]:
    """From each start to the nearest instant."""
    instants = np.sort(np.asarray(instants_s, dtype=np.float64))
    right = np.searchsorted(instants, starts_s).clip(max=len(instants) - 1)
    left = (right - 1).clip(min=0)
    nearest: npt.NDArray[np.float64] = np.minimum(
        np.abs(instants[right] - starts_s), np.abs(instants[left] - starts_s)
    )
    return nearest


def _chord_bonus(candidates: Sequence[_Candidate], sure: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    frames = np.array([c.frame for c in candidates])
    rows = np.array([c.row for c in candidates])
    sure_frames, sure_rows = frames[sure], rows[sure]
    bonus = np.zeros(len(candidates))
    for index, candidate in enumerate(candidates):
        above = candidate.row - sure_rows[np.abs(sure_frames - candidate.frame) <= CHORD_FRAMES]
        if not np.isin(above, HARMONICS).any():
            company = int(np.count_nonzero((above != 0) & ~np.isin(-above, HARMONICS)))
            bonus[index] = CHORD * min(2, company) / 2
    return bonus


def _played(candidate: _Candidate, heard: Posteriorgrams, samples: Array) -> PlayedNote:
    pitch = candidate.row + LOWEST_PITCH
    start = max(0.0, float(heard.seconds[candidate.frame]) - LAG_S)
    end = float(heard.seconds[min(candidate.end_frame, len(heard.seconds) - 1)])
    return PlayedNote(start, max(end, start + LEAST_LENGTH_S), pitch, level_after_db(samples, pitch, start))


def _hear_all(windows: Iterable[Array]) -> Iterator[tuple[Array, Array]]:
    """Notes and onsets of each window, in order, on as many threads as there are cores."""
    threads, left = compute_threads(), iter(windows)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while some := list(itertools.islice(left, AT_ONCE * threads)):  # not all of a long song's
                yield from pool.map(_hear_or_know, some)
        finally:
            pool.shutdown(cancel_futures=True)


def _hear_or_know(window: Array) -> tuple[Array, Array]:
    """As `_hear`; silence is heard once, and no two threads hear it at once."""
    if window.any():
        return _hear(window)
    with _HEARS_SILENCE:
        return _silence()


def _hear(window: Array) -> tuple[Array, Array]:
    """(frames, 88) each, of WINDOW samples."""
    given = {"serving_default_input_2:0": window[np.newaxis, :, np.newaxis]}  # (1, WINDOW, 1)
    note, onset = _session().run(["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"], given)
    return note[0], onset[0]


@functools.lru_cache(maxsize=1)
def _silence() -> tuple[Array, Array]:
    return _hear(np.zeros(WINDOW, np.float32))


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    """The network, loaded once per process. One thread for each window was fastest: they are small."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    network = quick_network(_model_path())
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


@functools.lru_cache(maxsize=1)
def _digest() -> str:
    return hashlib.sha256(_model_path().read_bytes()).hexdigest()


def _model_path() -> Path:
    spec = importlib.util.find_spec("basic_pitch")
    folders: Sequence[str] = spec.submodule_search_locations or [] if spec else []
    for folder in folders:
        path = Path(folder) / "saved_models" / "icassp_2022" / "nmp.onnx"
        if path.is_file():
            return path
    raise ModelError("The package basic-pitch or its nmp.onnx is missing. Install dawbridge again.")
