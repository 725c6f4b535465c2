"""The guard: where no single voice is heard for sure the original stays, exactly there and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples
from bridge.types import Span
from bridge.voices.f0 import track_f0
from bridge.voices.guard import FADE_S, fall_back, find_doubtful
from tests.song_a import true_stem
from tests.sung import MELODY, RATE_HZ, Signal, noise, sing

FROM_S, TO_S = 1.8, 3.0


def doubtful(samples: Samples | Signal) -> tuple[Span, ...]:
    stereo = np.atleast_2d(samples).astype(np.float32)
    return find_doubtful(stereo, RATE_HZ, track_f0(stereo.mean(axis=0), RATE_HZ))


def choir() -> Signal:
    voices = [
        sing(tuple(p + step for p in MELODY), first_vowel=k, seed=k, vibrato_semitones=0.3 + 0.05 * k)
        for k, step in enumerate((0, 4, 7, -5, 12, 3))
    ]
    return np.asarray(sum(voice.samples for voice in voices) / 2)


@pytest.mark.parametrize("what", ["noise", "choir", "instruments"])
def test_it_falls_back_exactly_where_something_else_sounds(what: str) -> None:
    vocal = sing().samples
    other = noise(vocal.size) * 0.1
    if what != "noise":
        other = choir() if what == "choir" else true_stem("other", 6.0)[0].astype(np.float64)
    span = slice(round(FROM_S * RATE_HZ), round(TO_S * RATE_HZ))
    vocal[span] = other[span]
    found = doubtful(vocal)
    assert len(found) == 1
    assert found[0].start_s == pytest.approx(FROM_S, abs=0.15)
    assert found[0].end_s == pytest.approx(TO_S, abs=0.15)


@pytest.mark.parametrize("noise_db", [-40, -10, -5, 0])
def test_a_voice_in_noise_is_still_trusted(noise_db: float) -> None:
    vocal = sing().samples
    assert doubtful(vocal + noise(vocal.size) * vocal.std() * 10 ** (noise_db / 20)) == ()


def test_a_sung_recording_and_silence_are_left_to_the_converter() -> None:
    assert doubtful(true_stem("vocals")) == ()
    assert doubtful(np.zeros((2, RATE_HZ))) == ()


def test_the_original_comes_back_faded_over_just_outside_its_passage() -> None:
    original, converted = np.ones((2, 2 * RATE_HZ), np.float32), np.zeros((2, 2 * RATE_HZ), np.float32)
    back = fall_back(converted, original, (Span(0.5, 1.0), Span(1.7, 2.0)), RATE_HZ)
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    inside = ((t >= 0.5) & (t <= 1.0)) | (t >= 1.7)
    beyond = (t < 0.5 - FADE_S) | ((t > 1.0 + FADE_S) & (t < 1.7 - FADE_S))
    assert np.all(back[:, inside] == 1.0) and np.all(back[:, beyond] == 0.0)
    assert np.abs(np.diff(back[0])).max() < 1e-3  # no click
    assert fall_back(converted, original, (), RATE_HZ) is converted
