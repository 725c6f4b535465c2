"""The singer's dynamics on the converted voice: within 1 dB, and the consonants are the singer's own."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples
from bridge.voices.character import CHARACTERS
from bridge.voices.f0 import track_f0
from bridge.voices.loudness import carry_loudness
from bridge.voices.psola import change_voice
from tests.song_a import true_stem
from tests.sung import RATE_HZ, level_db, sing


def levels_db(samples: Samples, window_s: float = 0.1) -> np.ndarray:
    window = round(window_s * RATE_HZ)
    whole = samples.shape[1] // window
    power = np.square(samples[:, : whole * window], dtype=np.float64).reshape(len(samples), whole, window)
    return np.asarray(10 * np.log10(power.mean(axis=(0, 2)) + 1e-12))


def carried(converted: Samples, original: Samples) -> Samples:
    return carry_loudness(converted, original, RATE_HZ, track_f0(original.mean(axis=0), RATE_HZ))


def test_a_voice_that_lost_its_dynamics_gets_them_back_within_1_db() -> None:
    original = sing().mono
    swing_db = 8.0 * np.sin(2 * np.pi * 1.3 * np.arange(original.shape[1]) / RATE_HZ)
    flat = (original * 10 ** (swing_db / 20)).astype(np.float32)
    error_db = levels_db(carried(flat, original)) - levels_db(original)
    assert np.abs(levels_db(flat) - levels_db(original)).max() > 7
    assert np.abs(error_db).max() < 1.0
    assert np.sqrt(np.mean(np.square(error_db))) < 0.3


@pytest.mark.parametrize("name", list(CHARACTERS))
def test_a_character_follows_the_singer_closer(name: str) -> None:
    original = true_stem("vocals", 9.0)
    converted = change_voice(original, RATE_HZ, CHARACTERS[name])
    sung = levels_db(original) > levels_db(original).max() - 25
    before, after = (
        np.abs(levels_db(samples) - levels_db(original))[sung].mean()
        for samples in (converted, carried(converted, original))
    )
    assert after < 0.15 and after < 0.6 * before


def test_silence_and_pauses_are_never_raised() -> None:
    original = np.zeros((1, 2 * RATE_HZ), dtype=np.float32)
    original[:, :RATE_HZ] = sing().mono[:, :RATE_HZ]
    original[:, RATE_HZ:] = np.random.default_rng(0).standard_normal(RATE_HZ) * 3e-4
    converted = original * np.float32(0.25)
    pause = slice(round(1.1 * RATE_HZ), None)
    assert level_db(carried(converted, original)[:, pause]) <= level_db(converted[:, pause]) + 0.1


def test_consonants_that_a_converter_smeared_are_the_singers_again() -> None:
    vowels = sing(gap_s=0.15, consonants=False).samples
    original = sing(gap_s=0.15).mono
    t = np.arange(vowels.size) / RATE_HZ
    metal = 0.1 * np.abs(original[0] - vowels).max() * np.sin(2 * np.pi * 6000 * t)
    smeared = (vowels + metal)[np.newaxis].astype(np.float32)  # a tone in place of each s
    is_s = (t % 0.6 > 0.49) & (t % 0.6 < 0.56)
    error = [
        level_db((x - original)[:, is_s]) - level_db(original[:, is_s])
        for x in (smeared, carried(smeared, original))
    ]
    assert error[0] > -2
    assert error[1] < -15


def test_what_is_equal_stays_equal_and_scraps_pass() -> None:
    original = true_stem("vocals", 5.0)
    assert level_db(carried(original.copy(), original) - original) < level_db(original) - 120
    scrap = np.ones((2, 100), dtype=np.float32)
    assert carried(scrap, scrap) is scrap
