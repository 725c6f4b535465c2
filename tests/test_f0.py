"""f0 of a voice: near the truth in noise, without octave jumps, unvoiced where nothing is voiced."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.voices.f0 import HOP_S, track_f0, voiced_runs
from tests.song_a import true_stem
from tests.sung import MELODY, RATE_HZ, cents, noise, octave_jumps, sing

LOW = tuple(pitch - 12 for pitch in MELODY)
HIGH = tuple(pitch + 17 for pitch in MELODY)


@pytest.mark.parametrize("melody", [MELODY, LOW, HIGH], ids=["middle", "low", "high"])
@pytest.mark.parametrize("noise_db", [-60, -10, -5])
def test_f0_is_within_25_cents_of_the_truth_and_never_jumps(
    melody: tuple[float, ...], noise_db: float
) -> None:
    sung = sing(melody)
    bed = noise(sung.samples.size) * sung.samples.std() * 10 ** (noise_db / 20)
    found = track_f0((sung.samples + bed).astype(np.float32), RATE_HZ)
    error = cents(found.hz, sung.hz)
    assert np.sqrt(np.mean(np.square(error))) < 12  # promised: 25
    assert np.mean(found.hz[sung.hz > 0] > 0) > 0.99
    assert octave_jumps(found.hz) == 0


def test_octave_errors_of_one_tracker_are_mended() -> None:
    sung = sing((57, 57, 57), vibrato_semitones=0.0)
    loud_noise = noise(sung.samples.size) * sung.samples.std()
    samples = (sung.samples + loud_noise).astype(np.float32)
    alone, mended = (track_f0(samples, RATE_HZ, mend=mend) for mend in (False, True))
    assert np.mean(np.abs(cents(alone.hz, sung.hz)) > 1000) > 0.02
    assert np.abs(cents(mended.hz, sung.hz)).max() < 25


def test_unvoiced_sound_stays_unvoiced() -> None:
    sung = sing(gap_s=0.2)
    found = track_f0(sung.mono, RATE_HZ)
    t = np.arange(found.hz.size) * HOP_S % 0.6
    consonants = (t > 0.45) & (t < 0.57)  # 50 ms into the s, and before the next vowel
    assert np.mean(found.hz[consonants] > 0) < 0.02
    hiss = noise(4 * RATE_HZ).astype(np.float32) * np.float32(0.1)
    assert np.mean(track_f0(hiss, RATE_HZ).hz > 0) < 0.02


def test_nobody_is_surer_than_a_clean_voice() -> None:
    sung = sing()
    clean = track_f0(sung.mono, RATE_HZ)
    bed = noise(sung.samples.size) * sung.samples.std() * 1.4
    noisy = track_f0((sung.samples + bed).astype(np.float32), RATE_HZ)
    voiced = sung.hz > 0
    assert clean.confidence[voiced].mean() > 0.95 > 0.8 > noisy.confidence[voiced].mean()
    assert clean.confidence.min() >= 0.0 and clean.confidence.max() <= 1.0


@pytest.mark.parametrize("rate_hz", [8000, 22050, 48000, 96000])
def test_any_rate_has_a_hop_every_10_ms_in_time_with_the_samples(rate_hz: int) -> None:
    import soxr

    sung = sing(MELODY[:3])
    samples = soxr.resample(sung.samples, RATE_HZ, rate_hz).astype(np.float32)
    found = track_f0(samples, rate_hz)
    assert found.hz.size == found.confidence.size == int(samples.size / rate_hz / HOP_S) + 1
    common = slice(0, min(found.hz.size, sung.hz.size))
    assert np.sqrt(np.mean(np.square(cents(found.hz[common], sung.hz[common])))) < 15


@pytest.mark.parametrize("frames", [1, 441, 5000])
def test_silence_and_scraps_have_no_pitch(frames: int) -> None:
    for samples in (np.zeros(frames, np.float32), np.full(frames, 1e-7, np.float32)):
        assert not track_f0(samples, RATE_HZ).hz.any()


def test_a_sung_recording_has_no_octave_jump() -> None:
    vocals = true_stem("vocals", 12.0)
    found = track_f0(vocals.mean(axis=0), RATE_HZ)
    assert octave_jumps(found.hz) == 0
    assert len(voiced_runs(found.hz)) > 5
    again = track_f0(vocals.mean(axis=0), RATE_HZ)
    assert again.hz.tobytes() == found.hz.tobytes()
