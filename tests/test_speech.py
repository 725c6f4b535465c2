"""What is kept of a recording, and what is dropped as what."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bridge.audio import Samples, to_mono
from bridge.voices.speech import Kind, find_stretches, seconds_of
from tests import song_a
from tests.flite_speech import MALE, SENTENCES, spoken
from tests.flite_speech import RATE_HZ as SPEECH_HZ


def _share(mono: Samples, rate_hz: int, kind: Kind) -> float:
    return float(seconds_of(find_stretches(mono, rate_hz), kind) / (mono.shape[1] / rate_hz))


def test_speech_is_kept_and_the_pauses_between_are_silence() -> None:
    speech = spoken(MALE, SENTENCES[:2], pause_s=2.0)
    stretches = find_stretches(speech, SPEECH_HZ)
    assert [stretch.kind for stretch in stretches].count("voice") == 2
    assert 3.0 < seconds_of(stretches, "silence") < 4.5  # of twice 2 s
    assert stretches[0].start_s == 0.0
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(stretches))
    assert stretches[-1].end_s == pytest.approx(speech.shape[1] / SPEECH_HZ)


def test_what_is_sung_counts_too() -> None:
    vocals = to_mono(song_a.true_stem("vocals", 20.0))
    sung_s = sum(span.end_s - span.start_s for span in song_a.SINGING[:3]) - 4.0  # the third is cut at 20 s
    found = seconds_of(find_stretches(vocals, song_a.RATE_HZ), "voice")
    assert found == pytest.approx(sung_s, abs=1.5)


def test_music_is_dropped_as_music() -> None:
    assert _share(to_mono(song_a.true_stem("other", 10.0)), song_a.RATE_HZ, "music") > 0.9


def test_noise_is_dropped_as_noise_and_drums_too() -> None:
    noise = (np.random.default_rng(1).standard_normal((1, 5 * 16_000)) * 0.05).astype(np.float32)
    assert _share(noise, 16_000, "noise") > 0.95
    drums = find_stretches(to_mono(song_a.true_stem("drums", 10.0)), song_a.RATE_HZ)
    assert seconds_of(drums, "voice") == 0.0


def test_silence_is_silence() -> None:
    assert _share(np.zeros((1, 32_000), np.float32), 16_000, "silence") == 1.0
