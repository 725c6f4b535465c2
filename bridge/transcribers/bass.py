"""What a bass stem holds beside its bass line.

A split by frequency leaves the low notes of the chords in the bass stem. The line's own partials are learned
from all notes of one pitch: what they have in common is the bass, what comes and goes is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.transcribers.played import PlayedNote

Array = npt.NDArray[np.float32]

RATE_HZ = 22_050
WINDOW = 2048
HOP = 256
PARTIALS = 24
REACH_BINS = 2  # a Hann window's main lobe
LEAD_FRAMES = 2  # a note is heard a little before its onset and after its end
TAIL_FRAMES = 3
MARGIN = WINDOW // HOP // 2
LONGEST_FRAMES = 344  # 4 s: what is learned of a note; it bounds the memory


def without_line(samples: Array, line: Sequence[PlayedNote]) -> Array:
    """The stem with the partials of `line` subtracted; mono (1, frames) at 22 050 Hz in and out."""
    by_pitch: dict[int, list[PlayedNote]] = defaultdict(list)
    for note in line:
        by_pitch[note.pitch].append(note)
    # Beside each note there is room for the windows that fade its subtraction in and out.
    padded = np.pad(samples[0], WINDOW)
    del samples  # of a long song it takes 100 MB
    out = padded.copy()
    for pitch, notes in by_pitch.items():
        bins = _partial_bins(pitch)
        pieces = [_piece(note, len(padded)) for note in notes]
        before = [
            np.abs(_spectrum(padded[piece])[bins, MARGIN:-MARGIN][:, :LONGEST_FRAMES]) for piece in pieces
        ]
        usual = _common_magnitude(before)
        for piece in pieces:
            spectrum = _spectrum(out[piece])  # of what is left, since the notes' edges overlap
            inside = spectrum[bins, MARGIN:-MARGIN][:, :LONGEST_FRAMES]
            share = _share(usual[:, : inside.shape[1]], np.abs(inside))
            bass = np.zeros_like(spectrum)
            bass[bins, MARGIN : MARGIN + inside.shape[1]] = inside * share
            out[piece] -= _samples(bass, piece.stop - piece.start)
    return out[np.newaxis, WINDOW:-WINDOW]


def _piece(note: PlayedNote, frames: int) -> slice:
    """Where the note lies in the padded stem, with MARGIN frames before and after."""
    first = round(note.start_s * RATE_HZ) - LEAD_FRAMES * HOP
    last = round(note.end_s * RATE_HZ) + TAIL_FRAMES * HOP
    return slice(max(0, first + WINDOW - MARGIN * HOP), min(frames, last + WINDOW + MARGIN * HOP))


def _partial_bins(pitch: int) -> npt.NDArray[np.intp]:
    fundamental = 440.0 * 2 ** ((pitch - 69) / 12) * WINDOW / RATE_HZ
    centres = np.rint(fundamental * np.arange(1, PARTIALS + 1)).astype(np.intp)
    bins = np.unique(centres[:, np.newaxis] + np.arange(-REACH_BINS, REACH_BINS + 1))
    return bins[(bins >= 0) & (bins <= WINDOW // 2)]


def _common_magnitude(magnitudes: Sequence[Array]) -> Array:
    """The median over notes, frame by frame from their onsets: (bins, frames of the longest note)."""
    longest = max(m.shape[1] for m in magnitudes)
    stacked = np.full((len(magnitudes), magnitudes[0].shape[0], longest), np.nan, np.float32)
    for row, magnitude in zip(stacked, magnitudes, strict=True):
        row[:, : magnitude.shape[1]] = magnitude
    return np.asarray(np.nanmedian(stacked, axis=0), dtype=np.float32)


def _share(usual: Array, magnitude: Array) -> Array:
    """How much of each bin is bass, 0..1: powers subtract."""
    rest = np.maximum(0.0, 1.0 - (usual / np.maximum(magnitude, 1e-9)) ** 2)
    return np.asarray(1.0 - np.sqrt(rest), dtype=np.float32)


def _spectrum(samples: Array) -> npt.NDArray[Any]:
    from scipy.signal import stft

    return np.asarray(stft(samples, nperseg=WINDOW, noverlap=WINDOW - HOP)[2])  # (bins, frames)


def _samples(spectrum: npt.NDArray[Any], frames: int) -> Array:
    from scipy.signal import istft

    out = istft(spectrum, nperseg=WINDOW, noverlap=WINDOW - HOP)[1][:frames]
    return np.pad(out, (0, frames - len(out))).astype(np.float32)
