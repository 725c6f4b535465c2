"""Tuning: notes move to the key, vibrato and glides stay."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples
from bridge.voices.character import CHARACTERS
from bridge.voices.f0 import F0Track, track_f0
from bridge.voices.psola import CharacterVoice
from bridge.voices.tuning import tune
from tests.sung import MELODY, RATE_HZ, Signal, sing

OFF = tuple(p + d for p, d in zip(MELODY, (0.3, -0.3, 0.2, 0.4, -0.35, 0.25, -0.2, 0.3), strict=True))


def track(melody: tuple[float, ...], vibrato_semitones: float = 0.3) -> F0Track:
    """The true f0 of a made vocal."""
    hz = sing(melody, vibrato_semitones=vibrato_semitones, consonants=False).hz
    return F0Track(hz, np.ones_like(hz))


def semitones(hz: Signal) -> Signal:
    return np.asarray(69 + 12 * np.log2(np.maximum(hz, 1.0) / 440))


def middles(hz: Signal) -> Signal:
    """The median pitch of each note, without its glide."""
    pitch, t = semitones(hz), np.arange(hz.size) * 0.01
    return np.array(
        [np.median(pitch[(t > k * 0.6 + 0.15) & (t < k * 0.6 + 0.5) & (hz > 0)]) for k in range(len(MELODY))]
    )


def test_notes_that_are_off_move_to_the_scale() -> None:
    tuned = tune(track(OFF), "C major", 1.0)
    assert np.abs(middles(track(OFF).hz) - MELODY).max() > 0.35
    assert np.abs(middles(tuned.hz) - MELODY).max() < 0.06


def test_half_the_strength_goes_half_the_way() -> None:
    sung, tuned = track(OFF), tune(track(OFF), "C major", 0.5)
    assert middles(tuned.hz) == pytest.approx((middles(sung.hz) + np.array(MELODY)) / 2, abs=0.05)


@pytest.mark.parametrize("vibrato_semitones", [0.3, 0.9])
def test_vibrato_keeps_its_depth(vibrato_semitones: float) -> None:
    sung = track((57.3, 60.2, 63.8), vibrato_semitones)
    tuned = tune(sung, "A minor", 1.0)
    t = np.arange(sung.hz.size) * 0.01
    for first_s in (0.25, 0.85, 1.45):
        note = (t > first_s) & (t < first_s + 0.2)
        depths = [np.ptp(semitones(hz)[note]) for hz in (sung.hz, tuned.hz)]
        assert depths[1] == pytest.approx(depths[0], abs=0.1)


def test_glides_stay_smooth() -> None:
    sung, tuned = track(OFF), tune(track(OFF), "C major", 1.0)
    both = (sung.hz[1:] > 0) & (sung.hz[:-1] > 0)
    step = np.diff(semitones(tuned.hz) - semitones(sung.hz))[both]
    assert np.abs(step).max() < 0.15  # semitones per 10 ms


def test_an_accidental_sung_on_purpose_stays_one() -> None:
    assert middles(tune(track((61.1,) * 8), "C major", 1.0).hz) == pytest.approx([61.0] * 8, abs=0.07)


@pytest.mark.parametrize(("key", "strength"), [("C major", 0.0), ("", 1.0), ("H dur", 1.0)])
def test_without_strength_or_key_nothing_changes(key: str, strength: float) -> None:
    sung = track(OFF)
    assert tune(sung, key, strength) is sung


def test_unvoiced_stays_unvoiced_and_a_scrap_passes() -> None:
    sung = track(OFF)
    assert np.array_equal(tune(sung, "C major", 1.0).hz > 0, sung.hz > 0)
    scrap = F0Track(np.array([0.0, 225.0, 0.0]), np.ones(3))
    assert tune(scrap, "C major", 1.0).hz == pytest.approx(scrap.hz)


def test_a_character_sings_in_tune_what_was_sung_off() -> None:
    samples: Samples = sing(OFF).mono
    voice = CharacterVoice("bright", CHARACTERS["bright"])
    heard = track_f0(samples, RATE_HZ)
    converted = voice.convert(samples, RATE_HZ, tune(heard, "C major", 1.0), 0)
    sung = track_f0(converted, RATE_HZ)
    assert np.abs(middles(sung.hz) - MELODY).max() < 0.1
