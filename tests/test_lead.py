"""Lead and backing: a second voice is found by its pitch and its place, taken out of the lead, and never lost."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples
from bridge.voices.lead import find_lead
from tests.song_a import true_stem
from tests.sung import MELODY, RATE_HZ, Signal, room_response, sing

THIRDS = tuple(p + d for p, d in zip(MELODY, (4, 3, 3, 3, 3, 4, 4, 4), strict=True))
FIFTHS = tuple(p + d for p, d in zip(MELODY, (7, 7, 7, 8, 8, 7, 7, 7), strict=True))
LEAD = sing().samples


def backing(melody: tuple[float, ...], level_db: float, vowel: int = 2) -> Signal:
    """A second voice, so far from the lead's level."""
    made = sing(melody, first_vowel=vowel, seed=9, vibrato_semitones=0.2, consonants=False).samples
    return np.asarray(made * LEAD.std() / made.std() * 10 ** (level_db / 20))


def sdr_db(found: Signal | Samples, truth: Signal) -> float:
    return float(10 * np.log10(np.sum(np.square(truth)) / np.sum(np.square(found - truth))))


def stereo(left: Signal, right: Signal) -> Signal:
    return np.stack([left, right])


@pytest.mark.parametrize(
    ("lead", "other", "gain_db"),
    [
        (LEAD[np.newaxis], backing(THIRDS, -6)[np.newaxis], 3.0),
        (LEAD[np.newaxis], backing(FIFTHS, -6)[np.newaxis], 3.5),
        (LEAD[np.newaxis], backing(THIRDS, -12)[np.newaxis], 5.0),
        (stereo(LEAD, LEAD), stereo(np.sqrt(2) * backing(THIRDS, -6), 0 * LEAD), 15.0),
        (stereo(LEAD, LEAD), stereo(backing(THIRDS, -6), backing(FIFTHS, -6, 3)), 8.0),
    ],
    ids=["mono third", "mono fifth", "quieter third", "panned third", "one left, one right"],
)
def test_a_backing_voice_is_taken_out_of_the_lead(lead: Signal, other: Signal, gain_db: float) -> None:
    vocals = (lead + other).astype(np.float32)
    found = find_lead(vocals, RATE_HZ)
    assert found.shape == vocals.shape and found.dtype == np.float32
    assert sdr_db(found, lead) > sdr_db(vocals, lead) + gain_db
    assert sdr_db(vocals - found, other) > gain_db


def test_nothing_is_lost_or_added() -> None:
    vocals = (LEAD + backing(THIRDS, -6))[np.newaxis].astype(np.float32)
    found = find_lead(vocals, RATE_HZ)
    assert not np.array_equal(found, vocals)
    assert np.abs(found + (vocals - found) - vocals).max() < 1e-7


def test_one_voice_is_given_back_to_the_bit() -> None:
    alone = LEAD[np.newaxis].astype(np.float32)
    assert find_lead(alone, RATE_HZ) is alone
    vocals = true_stem("vocals", 8.0)
    assert find_lead(vocals, RATE_HZ) is vocals


def test_a_room_and_bleed_are_no_backing() -> None:
    room = room_response(0.6, -8.0, channels=2)
    wet = stereo(*(np.convolve(LEAD, channel)[: LEAD.size] for channel in room)).astype(np.float32)
    assert find_lead(wet, RATE_HZ) is wet
    vocals = true_stem("vocals", 8.0)
    music = true_stem("other", 8.0) + true_stem("bass", 8.0) + true_stem("drums", 8.0)
    bled = vocals + music * np.float32(vocals.std() / music.std() * 10 ** (-10 / 20))
    assert find_lead(bled, RATE_HZ) is bled


def test_silence_noise_and_scraps_pass() -> None:
    hiss = np.random.default_rng(0).standard_normal((2, 2 * RATE_HZ)).astype(np.float32)
    for samples in (hiss, np.zeros_like(hiss), hiss[:, :1000]):
        assert find_lead(samples, RATE_HZ) is samples
