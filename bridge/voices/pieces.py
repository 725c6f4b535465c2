"""Work on the sung spans alone, in pieces short enough to bound memory, crossfaded without a seam.

Outside the pieces the samples stay as they were, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples
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

    def of(self, samples: Samples) -> Samples:
        """What of `samples`, (channels, frames), lies in it; a view."""
        return samples[:, self.start : self.end]


def cut_pieces(samples: Samples, rate: int, singing: Sequence[Span]) -> tuple[Piece, ...]:
    """The sung spans with their margins, merged where these meet, cut at a quiet moment where too long.

    Pieces cut from one span overlap by exactly `fade` frames, where their weights add up to 1.
    """
    return tuple(_pieces(samples, rate, singing))


def over_pieces(
    samples: Samples,
    pieces: Sequence[Piece],
    change: Callable[[Piece], Samples],
    report: Callable[[float, float], None],
) -> Samples:
    """`samples` with each piece as `change` makes it, faded over; `report` hears frames done and in all.

    A piece that `change` gives back is left alone; where it gives all back, so are the samples, uncopied.
    """
    total = max(1, sum(piece.end - piece.start for piece in pieces))
    done = 0
    report(0, total)
    changed = samples
    for piece in pieces:
        made = change(piece)
        if not np.may_share_memory(made, samples):
            changed = samples.copy() if changed is samples else changed
            changed[:, piece.start : piece.end] += (made - piece.of(samples)) * _weights(piece)
        done += piece.end - piece.start
        report(done, total)
    return changed


def _pieces(samples: Samples, rate: int, singing: Sequence[Span]) -> Iterator[Piece]:
    fade = round(FADE_S * rate)
    longest = round(LONGEST_PIECE_S * rate)
    for start, end in _with_margins(singing, rate, fade, samples.shape[1]):
        while end - start > longest:
            cut = _quietest(samples[:, start + longest // 2 : start + longest], rate) + start + longest // 2
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
