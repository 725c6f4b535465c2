"""Slices are 4 to 12 s long, begin and end at pauses, and are equally loud."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples, loudness_lufs
from bridge.voices.slices import LOUDNESS_LUFS, cut_slices
from bridge.voices.speech import Stretch

RATE_HZ = 8000


def _tone(seconds: float, level: float = 0.1) -> Samples:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (level * np.sin(2 * np.pi * 220.0 * times)).astype(np.float32)[None]


def _voice(*borders: tuple[float, float]) -> list[Stretch]:
    return [Stretch(start, end, "voice") for start, end in borders]


def _seconds(slices: list[Samples]) -> list[float]:
    return [piece.shape[1] / RATE_HZ for piece in slices]


def test_short_phrases_are_put_together_with_their_pauses() -> None:
    cut = cut_slices(_tone(20), RATE_HZ, _voice((0, 2), (2.3, 4.3), (4.5, 6.5), (7, 10)))
    assert _seconds(cut) == [pytest.approx(4.3, abs=0.01), pytest.approx(5.5, abs=0.01)]


def test_long_pauses_are_shortened_and_the_voice_beside_them_is_whole() -> None:
    cut = cut_slices(_tone(20), RATE_HZ, _voice((0, 3), (9, 12)))
    assert _seconds(cut) == [pytest.approx(6.5, abs=0.01)]


def test_a_long_phrase_is_cut_at_its_quietest_moment() -> None:
    sound = _tone(20)
    sound[:, 7 * RATE_HZ : 7 * RATE_HZ + RATE_HZ // 5] *= 0.001
    cut = cut_slices(sound, RATE_HZ, _voice((0, 18)))
    assert _seconds(cut) == [pytest.approx(7.1, abs=0.15), pytest.approx(10.9, abs=0.15)]


def test_none_is_longer_than_12_s_or_shorter_than_4_unless_there_is_no_more() -> None:
    rng = np.random.default_rng(3)
    at, borders = 0.0, []
    for _ in range(60):
        length = float(rng.uniform(0.3, 15.0))
        borders.append((at, at + length))
        at += length + float(rng.uniform(0.2, 2.0))
    cut = cut_slices(_tone(at), RATE_HZ, _voice(*borders))
    assert all(1.0 <= seconds <= 12.3 for seconds in _seconds(cut))
    assert np.mean([seconds >= 4.0 for seconds in _seconds(cut)]) > 0.7
    assert _seconds(cut_slices(_tone(9), RATE_HZ, _voice((0, 3)))) == [3.0]
    assert cut_slices(_tone(9), RATE_HZ, _voice((0, 0.5))) == []


def test_all_are_equally_loud_and_none_is_clipped() -> None:
    sound = np.concatenate([_tone(6, 0.01), _tone(6, 0.9)], axis=1)
    cut = cut_slices(sound, RATE_HZ, _voice((0, 5), (6.2, 11)))
    assert [loudness_lufs(piece, RATE_HZ) for piece in cut] == [pytest.approx(LOUDNESS_LUFS, abs=0.5)] * 2
    assert max(float(np.abs(piece).max()) for piece in cut) < 0.9


def test_music_and_noise_are_left_out() -> None:
    kinds = [Stretch(0, 5, "music"), Stretch(5, 10, "noise"), Stretch(10, 12, "silence")]
    assert cut_slices(_tone(12), RATE_HZ, kinds) == []
