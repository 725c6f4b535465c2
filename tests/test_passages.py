"""How a passage is cut and joined: gaps where nobody sings, cuts where it is quiet, joins that keep the level."""

from __future__ import annotations

import numpy as np
import pytest

from bridge import audio
from bridge.voices import passages
from bridge.voices.f0 import F0Track

RATE_HZ = 16_000


def noise(seconds: float, level_db: float, seed: int = 0) -> passages.Mono:
    drawn = np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))
    return (drawn * 10 ** (level_db / 20)).astype(np.float32)


def unvoiced(seconds: float) -> F0Track:
    hops = round(seconds * 100)
    return F0Track(np.zeros(hops), np.ones(hops))


def test_a_gap_is_quiet_long_enough_and_unvoiced() -> None:
    mono = np.concatenate(
        [noise(1.0, -20), noise(0.6, -70), noise(1.0, -20), noise(0.2, -70), noise(1.0, -20)]
    )
    spans = passages.sung_spans(mono, RATE_HZ, unvoiced(3.8))
    assert [(start / RATE_HZ, end / RATE_HZ) for start, end in spans] == [
        (0.0, pytest.approx(1.02)),
        (pytest.approx(1.58), 3.8),
    ]
    f0 = unvoiced(3.8)
    f0.hz[100:160] = 220.0  # a whispered syllable, however quiet
    assert passages.sung_spans(mono, RATE_HZ, f0) == [(0, mono.size)]
    assert passages.sung_spans(noise(1.0, -90), RATE_HZ, unvoiced(1.0)) == []


def test_cuts_are_where_it_is_quietest_and_never_too_far_apart() -> None:
    level = np.ones(1000)
    level[[170, 280, 430]] = 0.0
    assert passages.cuts(level, 200)[:4] == [0, 170, 280, 430]
    found = passages.cuts(np.ones(1000), 200)
    assert found == [0, 199, 398, 597, 796, 995, 1000] and passages.cuts(np.ones(5), 200) == [0, 5]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_join_keeps_the_level_of_what_is_alike_and_of_what_is_not(seed: int) -> None:
    out = noise(1.0, -20, seed=0)
    passages.join(out, noise(0.6, -20, seed=seed)[: round(0.5 * RATE_HZ)], round(0.5 * RATE_HZ), 1600)
    middle = out[None, round(0.5 * RATE_HZ) : round(0.5 * RATE_HZ) + 1600]
    assert audio.rms_db(middle) == pytest.approx(-20.0, abs=0.5)


def test_a_join_of_the_same_changes_nothing() -> None:
    whole = noise(1.0, -20)
    out = whole.copy()
    out[9600:] = 0.0
    passages.join(out, whole[8000:], 8000, 1600)
    assert np.allclose(out, whole, atol=1e-6)


def test_a_weight_fades_just_outside_its_span() -> None:
    found = passages.weight(10, 110, 130)
    assert found.shape == (130,) and found.dtype == np.float32
    assert found[10:110].min() == 1.0 and 0.0 < found[0] < 0.1 and 0.0 < found[-1] < 0.1
    assert np.abs(np.diff(found)).max() <= 0.1 + 1e-6
    assert np.array_equal(passages.weight(0, 50, 50), np.ones(50, dtype=np.float32))


def test_the_centre_is_where_the_voice_is() -> None:
    voice = noise(0.5, -20)
    assert np.allclose(passages.centre(np.stack([voice, voice])), voice)
    assert np.array_equal(passages.centre(np.stack([voice, -voice])), voice)
    assert np.array_equal(passages.centre(voice[None]), voice)


def test_balance_follows_slowly_and_its_mean_is_one() -> None:
    voice = noise(2.0, -20)
    pan = np.linspace(0.2, 0.8, voice.size, dtype=np.float32)
    gains = passages.balance(np.stack([voice * (1 - pan), voice * pan]), RATE_HZ)
    assert np.allclose(gains.mean(axis=0), 1.0, atol=1e-5)
    assert np.abs(gains[1] - 2 * pan).max() < 0.15
    assert np.array_equal(passages.balance(voice[None], RATE_HZ), np.ones((1, voice.size), dtype=np.float32))
    assert np.isfinite(passages.balance(np.zeros((2, 1000), dtype=np.float32), RATE_HZ)).all()


@pytest.mark.real
def test_f0_runs_through_what_is_unvoiced_as_in_training() -> None:
    from bridge.voices.sovits import package

    package()
    from so_vits_svc_fork.f0 import interpolate_f0

    hz = 220.0 + 20 * np.sin(np.arange(300) / 30)
    for first, last in ((0, 20), (50, 80), (150, 151), (280, 300)):
        hz[first:last] = 0.0
    wanted, voiced = interpolate_f0(hz.astype(np.float32).copy())
    found, flags = passages.on_grid(F0Track(hz, np.ones(300)), 300, 0.01)
    assert np.array_equal(flags, voiced) and np.allclose(
        found, wanted, atol=1.0
    )  # its lines arrive a hop early
    nothing, none = passages.on_grid(F0Track(np.zeros(10), np.zeros(10)), 20, 0.005)
    assert not nothing.any() and not none.any()
