"""Work on sung spans: nothing beyond them changes, no seam is heard, pieces stay short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge import sound
from bridge.audio import Samples
from bridge.errors import Cancelled
from bridge.types import Span
from bridge.voices.pieces import Piece, cut_pieces, over_pieces
from tests.song_a import RATE_HZ, Reports


def _ones(seconds: float) -> Samples:
    return np.ones((2, round(seconds * RATE_HZ)), dtype=np.float32)


def _half(folder: Path, samples: Samples, spans: list[Span], reports: Reports) -> tuple[Samples, list[int]]:
    lengths: list[int] = []

    def change(_piece: Piece, own: Samples) -> Samples:
        lengths.append(own.shape[1])
        return own * np.float32(0.5)

    heard = sound.of_array(samples, RATE_HZ)
    return over_pieces(heard, cut_pieces(heard, spans), change, folder / "out.wav", reports).all(), lengths


def test_spans_are_faded_over_within_their_margins(tmp_path: Path) -> None:
    voice, _ = _half(tmp_path, _ones(4.0), [Span(1.0, 2.0)], Reports())
    margin = round(0.05 * RATE_HZ)
    assert np.all(voice[:, : RATE_HZ - margin] == 1.0) and np.all(voice[:, 2 * RATE_HZ + margin :] == 1.0)
    assert np.allclose(voice[:, RATE_HZ : 2 * RATE_HZ], 0.5)
    assert np.abs(np.diff(voice[0])).max() < 1e-3  # no click


def test_long_singing_is_cut_at_its_quietest_moments_without_a_seam(tmp_path: Path) -> None:
    vocals = _ones(50.0)
    quiet = slice(round(14.0 * RATE_HZ), round(14.2 * RATE_HZ))
    vocals[:, quiet] = 0.01
    reports = Reports()
    voice, lengths = _half(tmp_path, vocals, [Span(0.0, 50.0)], reports)
    inside = slice(RATE_HZ, -RATE_HZ)
    assert np.allclose(voice[:, inside], vocals[:, inside] * 0.5, atol=1e-6)
    assert max(lengths) <= 20.1 * RATE_HZ
    assert lengths[0] / RATE_HZ == pytest.approx(14.1, abs=0.2)
    assert len(reports.seen) == len(lengths) + 1
    assert reports.seen[-1][0] == reports.seen[-1][1]


def test_spans_too_short_to_fade_are_left_alone(tmp_path: Path) -> None:
    voice, lengths = _half(tmp_path, _ones(1.0), [Span(0.0, 0.0)], Reports())
    assert lengths == [] and np.array_equal(voice, _ones(1.0))


def test_what_nothing_changes_is_given_back_uncopied(tmp_path: Path) -> None:
    heard = sound.of_array(_ones(3.0), RATE_HZ)
    pieces = cut_pieces(heard, [Span(1.0, 2.0)])
    assert over_pieces(heard, pieces, lambda _, own: own, tmp_path / "out.wav", Reports()) is heard
    assert not list(tmp_path.iterdir())


def test_pieces_that_are_given_back_between_others_stay_as_they_were(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((2, 70 * RATE_HZ)).astype(np.float32)
    heard = sound.of_array(noise, RATE_HZ)
    pieces = cut_pieces(heard, [Span(1.0, 65.0), Span(66.0, 69.0)])
    assert len(pieces) > 4
    left = pieces[2:4]
    made = over_pieces(
        heard, pieces, lambda piece, own: own if piece in left else -own, tmp_path / "out.wav", Reports()
    ).all()
    weights = np.zeros(noise.shape[1])
    for piece in pieces:
        if piece not in left:
            ramp = (np.arange(piece.fade) + 0.5) / piece.fade
            weights[piece.start + piece.fade : piece.end - piece.fade] = 1.0
            weights[piece.start : piece.start + piece.fade] += ramp
            weights[piece.end - piece.fade : piece.end] += ramp[::-1]
    assert np.abs(made - noise * (1 - 2 * weights)).max() < 1e-5
    quiet = weights == 0
    assert np.array_equal(made[:, quiet], noise[:, quiet])


def test_no_piece_is_too_short_for_its_fades(tmp_path: Path) -> None:
    """The quietest moment lies just before the end of a span a little longer than a piece may be."""
    vocals = _ones(20.2)
    vocals[:, round(19.94 * RATE_HZ) : round(20.0 * RATE_HZ)] = 0.0
    heard = sound.of_array(vocals, RATE_HZ)
    for end_s in np.arange(19.95, 20.1, 0.01):
        pieces = cut_pieces(heard, [Span(0.0, float(end_s))])
        assert all(piece.end - piece.start >= 2 * piece.fade for piece in pieces)
    assert len(pieces) == 2


def test_cancel_takes_effect_between_pieces(tmp_path: Path) -> None:
    class Cancel(Reports):
        def __call__(self, done: float, total: float) -> None:
            if done > 0:
                raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        _half(tmp_path, _ones(50.0), [Span(0.0, 50.0)], Cancel())
