"""Work on sung spans: nothing beyond them changes, no seam is heard, pieces stay short."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples
from bridge.errors import Cancelled
from bridge.types import Span
from bridge.voices.pieces import Piece, cut_pieces, over_pieces
from tests.song_a import RATE_HZ, Reports


def _ones(seconds: float) -> Samples:
    return np.ones((2, round(seconds * RATE_HZ)), dtype=np.float32)


def _half(samples: Samples, spans: list[Span], reports: Reports) -> tuple[Samples, list[int]]:
    lengths: list[int] = []

    def change(piece: Piece) -> Samples:
        lengths.append(piece.end - piece.start)
        return piece.of(samples) * np.float32(0.5)

    return over_pieces(samples, cut_pieces(samples, RATE_HZ, spans), change, reports), lengths


def test_spans_are_faded_over_within_their_margins() -> None:
    voice, _ = _half(_ones(4.0), [Span(1.0, 2.0)], Reports())
    margin = round(0.05 * RATE_HZ)
    assert np.all(voice[:, : RATE_HZ - margin] == 1.0) and np.all(voice[:, 2 * RATE_HZ + margin :] == 1.0)
    assert np.allclose(voice[:, RATE_HZ : 2 * RATE_HZ], 0.5)
    assert np.abs(np.diff(voice[0])).max() < 1e-3  # no click


def test_long_singing_is_cut_at_its_quietest_moments_without_a_seam() -> None:
    vocals = _ones(50.0)
    quiet = slice(round(14.0 * RATE_HZ), round(14.2 * RATE_HZ))
    vocals[:, quiet] = 0.01
    reports = Reports()
    voice, lengths = _half(vocals, [Span(0.0, 50.0)], reports)
    inside = slice(RATE_HZ, -RATE_HZ)
    assert np.allclose(voice[:, inside], vocals[:, inside] * 0.5, atol=1e-6)
    assert max(lengths) <= 20.1 * RATE_HZ
    assert lengths[0] / RATE_HZ == pytest.approx(14.1, abs=0.2)
    assert len(reports.seen) == len(lengths) + 1
    assert reports.seen[-1][0] == reports.seen[-1][1]


def test_spans_too_short_to_fade_are_left_alone() -> None:
    voice, lengths = _half(_ones(1.0), [Span(0.0, 0.0)], Reports())
    assert lengths == [] and np.array_equal(voice, _ones(1.0))


def test_what_nothing_changes_is_given_back_uncopied() -> None:
    samples = _ones(3.0)
    pieces = cut_pieces(samples, RATE_HZ, [Span(1.0, 2.0)])
    assert over_pieces(samples, pieces, lambda piece: piece.of(samples), Reports()) is samples


def test_cancel_takes_effect_between_pieces() -> None:
    class Cancel(Reports):
        def __call__(self, done: float, total: float) -> None:
            if done > 0:
                raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        _half(_ones(50.0), [Span(0.0, 50.0)], Cancel())
