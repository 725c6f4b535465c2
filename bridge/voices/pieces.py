"""Work on the sung spans alone, in pieces short enough to bound memory, crossfaded without a seam.

Outside the pieces the samples stay as they were, to the bit. Vocals are read piece by piece, and what becomes of them is
written to a file, so that a song of any length takes no more memory than a short one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge import audio, sound
from bridge.audio import Samples
from bridge.progress import Report
from bridge.sound import Sound
from bridge.types import Span

FADE_S = 0.05  # from the original into what was made of it, just outside each sung span
LONGEST_PIECE_S = 20.0
QUIET_WINDOW_S = 0.05


@dataclass(frozen=True)
class Piece:
    """Frames [start, end) to work on in one go; `fade` frames at either end are crossfaded."""

    start: int
    end: int
    fade: int

    def of(self, heard: Sound) -> Samples:
        """What of it lies in the piece, (channels, end - start)."""
        return heard.read(self.start, self.end)


def cut_pieces(vocals: Sound, singing: Sequence[Span]) -> tuple[Piece, ...]:
    """The sung spans with their margins, merged where these meet, cut at a quiet moment where too long.

    Pieces cut from one span overlap by exactly `fade` frames, where their weights add up to 1.
    """
    return tuple(_pieces(vocals, singing))


def over_pieces(
    heard: Sound,
    pieces: Sequence[Piece],
    change: Callable[[Piece, Samples], Samples],
    path: Path,
    report: Report,
) -> Sound:
    """`heard` with each piece as `change` makes it of its samples, faded over, in a float WAV at `path`.

    A piece that `change` gives back is left alone; where it gives all back, so is the sound, and no file is made.
    `report` hears frames done and in all.
    """
    changes = _changes(heard, pieces, change, report)
    first = next(changes, None)
    if first is None:
        return heard
    with audio.wav_writer(path, heard.rate_hz, *heard.shape, is_float=True) as file:
        for block in _woven(heard, itertools.chain([first], changes)):
            file.write(block.T)
    return sound.of_file(path)


def _changes(
    heard: Sound, pieces: Sequence[Piece], change: Callable[[Piece, Samples], Samples], report: Report
) -> Iterator[tuple[Piece, Samples]]:
    """What is to be added to each piece that changes."""
    total = max(1, sum(piece.end - piece.start for piece in pieces))
    done = 0
    report(0, total)
    for piece in pieces:
        own = piece.of(heard)
        made = change(piece, own)
        done += piece.end - piece.start
        report(done, total)
        if not np.may_share_memory(made, own):
            yield piece, (made - own) * _weights(piece)


def _woven(heard: Sound, changes: Iterable[tuple[Piece, Samples]]) -> Iterator[Samples]:
    """The whole of `heard` from front to back, changed."""
    at = 0
    fading = np.zeros(
        (heard.channels, 0), dtype=np.float32
    )  # the change of what follows `at` by the piece before
    for piece, added in changes:
        if piece.start > at:
            yield from _up_to(heard, at, piece.start, fading)
        else:
            added[:, : fading.shape[1]] += fading
        at = piece.end - piece.fade
        yield heard.read(piece.start, at) + added[:, : -piece.fade]
        fading = added[:, -piece.fade :]
    yield from _up_to(heard, at, heard.frames, fading)


def _up_to(heard: Sound, start: int, stop: int, fading: Samples) -> Iterator[Samples]:
    faded = min(start + fading.shape[1], stop)
    yield heard.read(start, faded) + fading[:, : faded - start]
    for first in range(faded, stop, audio.BLOCK_FRAMES):
        yield heard.read(first, min(stop, first + audio.BLOCK_FRAMES))


def _pieces(vocals: Sound, singing: Sequence[Span]) -> Iterator[Piece]:
    fade = round(FADE_S * vocals.rate_hz)
    longest = round(LONGEST_PIECE_S * vocals.rate_hz)
    for start, end in _with_margins(singing, vocals.rate_hz, fade, vocals.frames):
        while end - start > longest:
            middle = start + longest // 2
            last = min(start + longest, end - fade)  # a piece that is left must hold both its fades
            cut = middle + _quietest(vocals.read(middle, last), vocals.rate_hz)
            yield Piece(start, cut + fade, fade)
            start = cut
        yield Piece(start, end, fade)


def _with_margins(singing: Sequence[Span], rate: int, fade: int, frames: int) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for span in sorted(singing, key=lambda span: span.start_s):
        start = max(0, round(span.start_s * rate) - fade)
        end = min(frames, round(span.end_s * rate) + fade)
        if end - start < 2 * fade:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _quietest(samples: Samples, rate: int) -> int:
    """The first frame of the quietest window in `samples`."""
    window = round(QUIET_WINDOW_S * rate)
    whole = samples.shape[1] // window
    blocks = samples[:, : whole * window].reshape(samples.shape[0], whole, window)
    power = np.square(blocks).sum(axis=(0, 2))  # (channels, windows, frames) -> (windows,)
    return int(np.argmin(power)) * window


def _weights(piece: Piece) -> npt.NDArray[np.float32]:
    """1.0 inside, straight fades at both ends, (frames,)."""
    ramp = (np.arange(piece.fade, dtype=np.float32) + 0.5) / piece.fade
    weights = np.ones(piece.end - piece.start, dtype=np.float32)
    weights[: piece.fade] = ramp
    weights[-piece.fade :] = ramp[::-1]
    return weights
