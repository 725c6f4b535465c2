"""The three characters: in tune, in time, as loud and as wide as the singer, and the same each time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bridge import audio
from bridge.audio import Samples
from bridge.voices.character import CHARACTERS
from bridge.voices.f0 import F0Track, track_f0
from bridge.voices.psola import CharacterVoice, change_voice
from tests.song_a import RATE_HZ, lag_ms, true_stem

SECONDS = 6.0
NAMES = tuple(CHARACTERS)


@pytest.fixture(scope="module")
def sung() -> Samples:
    return true_stem("vocals", SECONDS)


@pytest.fixture(scope="module")
def changed(sung: Samples) -> dict[str, Samples]:
    return {name: change_voice(sung, RATE_HZ, character) for name, character in CHARACTERS.items()}


def _pitch_hz(samples: Samples) -> np.ndarray[Any, np.dtype[np.float64]]:
    import parselmouth

    sound = parselmouth.Sound(samples.mean(axis=0).astype(np.float64), RATE_HZ)
    hz: np.ndarray[Any, np.dtype[np.float64]] = sound.to_pitch_ac(
        time_step=0.01, pitch_floor=40.0, pitch_ceiling=1200.0
    ).selected_array["frequency"]
    return hz


def _centroid_hz(samples: Samples) -> float:
    power = np.square(np.abs(np.fft.rfft(samples.mean(axis=0))))
    return float((power * np.fft.rfftfreq(samples.shape[1], 1 / RATE_HZ)).sum() / power.sum())


@pytest.mark.parametrize("name", NAMES)
def test_the_melody_stays_in_tune(sung: Samples, changed: dict[str, Samples], name: str) -> None:
    before, after = _pitch_hz(sung), _pitch_hz(changed[name])
    both = (before > 0) & (after > 0)
    assert both.sum() > 0.95 * (before > 0).sum()
    cents = 1200 * np.log2(after[both] / before[both]) - 100 * CHARACTERS[name].pitch_semitones
    assert abs(np.median(cents)) < 3
    assert np.mean(np.abs(cents) < 50) > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_length_to_the_frame_level_and_onsets_are_kept(
    sung: Samples, changed: dict[str, Samples], name: str
) -> None:
    after = changed[name]
    assert after.shape == sung.shape and after.dtype == np.float32
    assert audio.rms_db(after) == pytest.approx(audio.rms_db(sung), abs=0.2)
    assert abs(lag_ms(sung, after)) <= 3


def test_deep_is_darker_and_bright_is_brighter(sung: Samples, changed: dict[str, Samples]) -> None:
    assert _centroid_hz(changed["deep"]) < 0.95 * _centroid_hz(sung)
    assert _centroid_hz(changed["bright"]) > 1.05 * _centroid_hz(sung)


def test_the_melody_moves_by_whole_octaves_only() -> None:
    assert all(c.pitch_semitones % 12 == 0 for c in CHARACTERS.values())


def test_stereo_stands_still(sung: Samples) -> None:
    panned = sung * np.array([[0.8], [0.2]], dtype=np.float32)
    left, right = change_voice(panned, RATE_HZ, CHARACTERS["bright"])
    # The same pulses for both channels: they differ in level alone.
    residual = audio.rms_db((left - 4 * right)[np.newaxis]) - audio.rms_db(left[np.newaxis])
    assert residual < -60


def test_unvoiced_sound_and_silence_pass_untouched(sung: Samples) -> None:
    noise = np.random.default_rng(1).standard_normal((1, RATE_HZ)).astype(np.float32) * np.float32(0.05)
    assert np.array_equal(change_voice(noise, RATE_HZ, CHARACTERS["giant"]), noise)
    silent = np.zeros((2, RATE_HZ), dtype=np.float32)
    assert np.array_equal(change_voice(silent, RATE_HZ, CHARACTERS["deep"]), silent)
    tail = slice(round(5.2 * RATE_HZ), None)  # the first phrase has ended
    after = change_voice(sung, RATE_HZ, CHARACTERS["bright"])
    assert np.array_equal(after[:, tail], sung[:, tail])


def test_the_same_input_gives_the_same_bytes(sung: Samples, changed: dict[str, Samples]) -> None:
    again = change_voice(sung, RATE_HZ, CHARACTERS["giant"])
    assert again.tobytes() == changed["giant"].tobytes()


@pytest.mark.parametrize("rate_hz", [22050, 48000, 96000])
def test_other_rates_and_mono(rate_hz: int, sung: Samples) -> None:
    mono = audio.resample(sung[:1, : 2 * RATE_HZ], RATE_HZ, rate_hz)
    after = change_voice(mono, rate_hz, CHARACTERS["deep"])
    assert after.shape == mono.shape
    assert audio.rms_db(after) == pytest.approx(audio.rms_db(mono), abs=0.2)


@pytest.mark.parametrize("mend", [True, False])
def test_an_f0_that_is_what_is_sung_changes_not_one_bit(sung: Samples, mend: bool) -> None:
    voice = CharacterVoice("bright", CHARACTERS["bright"])
    heard = track_f0(audio.to_mono(sung), RATE_HZ, mend=mend)
    moved = voice.transposition(heard)
    assert moved.semitones == 0 and "'bright'" in moved.reason
    converted = voice.convert(sung, RATE_HZ, heard, moved.semitones)
    assert np.array_equal(converted, change_voice(sung, RATE_HZ, CHARACTERS["bright"]))


@pytest.mark.parametrize("semitones", [0, -12])
def test_what_shall_be_sung_is_sung(sung: Samples, semitones: int) -> None:
    heard = track_f0(audio.to_mono(sung), RATE_HZ)
    sharper = F0Track(heard.hz * 2 ** (40 / 1200), heard.confidence)
    voice = CharacterVoice("deep", CHARACTERS["deep"]).convert(sung, RATE_HZ, sharper, semitones)
    before, after = _pitch_hz(sung), _pitch_hz(voice)
    both = (before > 0) & (after > 0)
    cents = 1200 * np.log2(after[both] / before[both]) - 100 * semitones
    assert np.median(cents) == pytest.approx(40, abs=4)
