"""The room is heard at the ends of words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import fftconvolve

from bridge.audio import Samples
from bridge.voices.decay import decay_s
from tests.flite_speech import MALE, RATE_HZ, SENTENCES, spoken


def _in_a_room(dry: Samples, t60_s: float) -> Samples:
    times = np.arange(int(RATE_HZ * t60_s)) / RATE_HZ
    noise = np.random.default_rng(1).standard_normal(times.size)
    response = 0.05 * noise * 10.0 ** (-3.0 * times / t60_s)
    response[0] = 1.0
    heard: Samples = fftconvolve(dry[0], response)[None].astype(np.float32)
    return heard


def test_a_dry_recording_decays_as_fast_as_words_end() -> None:
    found = decay_s(spoken(MALE, SENTENCES[:5]), RATE_HZ)
    assert found is not None
    assert found < 0.35


@pytest.mark.parametrize("t60_s", [0.5, 0.8, 1.2])
def test_a_reverberant_one_tells_its_reverberation_time(t60_s: float) -> None:
    found = decay_s(_in_a_room(spoken(MALE, SENTENCES[:5]), t60_s), RATE_HZ)
    assert found == pytest.approx(t60_s, rel=0.25)


def test_where_nothing_falls_there_is_no_figure() -> None:
    noise = (np.random.default_rng(1).standard_normal((1, RATE_HZ * 4)) * 0.1).astype(np.float32)
    assert decay_s(noise, RATE_HZ) is None
