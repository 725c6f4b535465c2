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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ModelError
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
EVIDENCE_RANGE = (0.85, 1.1)  # where that threshold must lie, out of 1.5
ALREADY_SOUNDING = 0.35  # of the note posteriorgram just before an onset
SURE_ONSET = 0.7
COMPANY = 0.3  # an onset of another pitch that confirms one


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
    session = _session()
    step = WINDOW - OVERLAP_FRAMES * HOP
    margin = OVERLAP_FRAMES // 2
    padded = np.concatenate([np.zeros(margin * HOP, np.float32), samples[0]])
    starts = range(0, len(padded), step)
    notes, onsets, seconds = [], [], []
    for index, start in enumerate(starts):
        report(index, len(starts))
        window = padded[start : start + WINDOW]
        window = np.pad(window, (0, WINDOW - len(window)))
        note, onset = session.run(
            ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"],
            {"serving_default_input_2:0": window[np.newaxis, :, np.newaxis]},  # (1, WINDOW, 1)
        )
        notes.append(note[0, margin:-margin])
        onsets.append(onset[0, margin:-margin])
        # A window's frames reach some milliseconds into the next one's, so time is counted per window.
        seconds.append((start + np.arange(len(notes[-1])) * HOP) / RATE_HZ)
    report(1, 1)
    at = np.concatenate(seconds)
    inside = at < samples.shape[1] / RATE_HZ
    return Posteriorgrams(np.concatenate(notes)[inside], np.concatenate(onsets)[inside], at[inside])


def transcribe_pitched(heard: Posteriorgrams, samples: Array, lowest: int, highest: int) -> list[PlayedNote]:
    """Notes of a polyphonic stem between two MIDI pitches; `samples` (1, frames) at 22 050 Hz give the levels.

    A note needs evidence, its onset and half its mean posterior, near that of the stem's strongest
    notes: this leaves out the harmonics. A pitch that sounds already starts again only with a sure
    onset or in company, else the beating of strings would count as notes.
    """
    rows = range(lowest - LOWEST_PITCH, highest - LOWEST_PITCH + 1)
    candidates = [candidate for row in rows for candidate in _candidates(heard, row)]
    if not candidates:
        return []
    strong = float(np.percentile([c.evidence for c in candidates], 95))
    needed = float(np.clip(RELATIVE_EVIDENCE * strong, *EVIDENCE_RANGE))
    kept = [c for c in candidates if c.evidence >= needed and _starts(c, heard)]
    levels = OnsetLevels(samples)
    return in_order(_played(c, heard, levels) for c in kept)


class OnsetLevels:
    """How loud the first partials of a pitch are, from a spectrogram of mono audio at 22 050 Hz."""

    N_FFT = 2048
    PARTIALS = (1, 2, 3, 4)
    REACH_FRAMES = 8  # 93 ms

    def __init__(self, samples: Array) -> None:
        from scipy.signal import ShortTimeFFT
        from scipy.signal.windows import hann

        transform = ShortTimeFFT(hann(self.N_FFT // 2, sym=False), HOP, RATE_HZ, mfft=self.N_FFT)
        length = max(samples.shape[1], self.N_FFT)
        audio = np.pad(samples[0], (0, length - samples.shape[1]))
        spectrum = transform.stft(audio, p0=0, p1=length // HOP + 1)
        self._power = np.abs(spectrum.astype(np.complex64)) ** 2  # (bins, frames)

    def after_db(self, pitch: int, second: float) -> float:
        """The highest level within 93 ms after `second`, in dB on a scale of its own."""
        frame = round(second * RATE_HZ / HOP)
        return self._db(self._partials(pitch, frame, frame + self.REACH_FRAMES).max(initial=0.0))

    def rise_db(self, pitch: int, second: float) -> float:
        """How far the level rises from its lowest in the 70 ms before `second` to its highest after."""
        frame = round(second * RATE_HZ / HOP)
        before = self._partials(pitch, frame - 6, frame + 1)
        return self.after_db(pitch, second) - self._db(before.min(initial=np.inf) if before.size else 0.0)

    def _partials(self, pitch: int, first: int, last: int) -> Array:
        frames = self._power[:, max(0, first) : max(0, last)]
        total = np.zeros(frames.shape[1], np.float32)
        for partial in self.PARTIALS:
            bin_ = round(440.0 * 2 ** ((pitch - 69) / 12) * partial * self.N_FFT / RATE_HZ)
            total += frames[max(1, bin_ - 1) : bin_ + 2].sum(axis=0)
        return total

    @staticmethod
    def _db(power: float) -> float:
        return float(10.0 * np.log10(power + 1e-9))


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


def _played(candidate: _Candidate, heard: Posteriorgrams, levels: OnsetLevels) -> PlayedNote:
    pitch = candidate.row + LOWEST_PITCH
    start = max(0.0, float(heard.seconds[candidate.frame]) - LAG_S)
    end = float(heard.seconds[min(candidate.end_frame, len(heard.seconds) - 1)])
    return PlayedNote(start, max(end, start + LEAST_LENGTH_S), pitch, levels.after_db(pitch, start))


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    """The network, loaded once per process. One thread was fastest: the windows are small."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(_model_path(), options, providers=["CPUExecutionProvider"])


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
