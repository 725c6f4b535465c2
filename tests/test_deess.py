"""The de-esser takes an exaggerated s down and leaves all else alone."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples
from bridge.voices.deess import deess
from tests.song_a import true_stem
from tests.sung import RATE_HZ, level_db, sing

NOTE_S, GAP_S = 0.6, 0.12


def exaggerated(gain_db: float) -> tuple[Samples, np.ndarray, np.ndarray]:
    """A vocal whose s sounds are turned up, and which frames are an s and which a vowel."""
    vowels = sing(note_s=NOTE_S, gap_s=GAP_S, consonants=False).samples
    hiss = sing(note_s=NOTE_S, gap_s=GAP_S).samples - vowels
    within = np.arange(vowels.size) / RATE_HZ % NOTE_S
    is_s = (within > NOTE_S - GAP_S + 0.03) & (within < NOTE_S - 0.03)
    samples = (vowels + hiss * 10 ** (gain_db / 20))[np.newaxis].astype(np.float32)
    return samples, is_s, (within > 0.03) & (within < NOTE_S - GAP_S - 0.06)


def test_an_exaggerated_s_comes_down_and_the_vowels_stay_within_half_a_db() -> None:
    loud, is_s, is_vowel = exaggerated(24.0)
    tamed = deess(loud, RATE_HZ, 1.0)
    assert tamed.shape == loud.shape and tamed.dtype == np.float32
    assert level_db(tamed[:, is_s]) < level_db(loud[:, is_s]) - 5
    assert level_db(tamed[:, is_vowel]) == pytest.approx(level_db(loud[:, is_vowel]), abs=0.1)
    assert level_db((tamed - loud)[:, is_vowel]) < level_db(loud[:, is_vowel]) - 30


def test_the_louder_the_s_the_more_and_half_the_strength_is_half_the_cut() -> None:
    cuts = []
    for gain_db, strength in ((18.0, 1.0), (24.0, 0.5), (24.0, 1.0)):
        loud, is_s, _ = exaggerated(gain_db)
        cuts.append(level_db(loud[:, is_s]) - level_db(deess(loud, RATE_HZ, strength)[:, is_s]))
    assert cuts[0] < cuts[1] < cuts[2]
    assert cuts[1] == pytest.approx(cuts[2] / 2, rel=0.25)


def test_an_s_as_singers_sing_it_is_left_alone() -> None:
    usual, _, _ = exaggerated(0.0)
    assert level_db(deess(usual, RATE_HZ, 1.0) - usual) < level_db(usual) - 40
    vocals = true_stem("vocals", 10.0)
    assert level_db(deess(vocals, RATE_HZ, 0.5) - vocals) < level_db(vocals) - 40


def test_the_stereo_image_stands_still_and_strength_0_changes_no_bit() -> None:
    loud, _, _ = exaggerated(24.0)
    panned = loud * np.array([[0.8], [0.2]], dtype=np.float32)
    left, right = deess(panned, RATE_HZ, 1.0)
    assert level_db(left - 4 * right) < level_db(left) - 80
    assert deess(loud, RATE_HZ, 0.0) is loud


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_a_rate_without_the_band_is_left_alone(rate_hz: int) -> None:
    samples = np.random.default_rng(0).standard_normal((1, rate_hz)).astype(np.float32)
    assert deess(samples, rate_hz, 1.0) is samples


def test_short_and_silent_pieces_pass() -> None:
    for frames in (1, 50, 4410):
        silent = np.zeros((2, frames), dtype=np.float32)
        assert np.array_equal(deess(silent, RATE_HZ, 1.0), silent)
