"""The report's figures: correlation with known answers, spectra, loudness against pyloudnorm, and stable pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest

from bridge import audio
from bridge.audio import Samples
from bridge.config import shipped
from bridge.reporting import pictures
from bridge.reporting.controls import controls, tune
from bridge.reporting.correlation import FLOOR_DB, RATE_HZ, Signal, correlate, read_signal
from bridge.reporting.loudness import measure
from bridge.reporting.spectrogram import Spectrogram, likeness, spectrogram
from bridge.tempo import constant_tempo
from bridge.types import Note, Phrase
from tests.song_a import DATA

MIX = DATA / "mix.flac"
BLOCK_S = 6.0  # longer than one block at 44.1 kHz


def never() -> None:
    """A progress report that nobody hears."""


def noise(frames: int, seed: int = 0) -> Signal:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, frames).astype(np.float32)


def put(folder: Path, samples: Samples, rate_hz: int) -> Path:
    path = folder / "x.wav"
    audio.write_float_wav(path, samples, rate_hz)
    return path


def test_a_delayed_quieter_and_inverted_copy_is_found_at_its_lag() -> None:
    signal = noise(10_000)
    found = correlate(signal, np.concatenate([np.zeros(1234, np.float32), -0.25 * signal]))
    assert found is not None
    assert found.highest == pytest.approx(-1.0, abs=1e-5)
    assert found.lag_s == 1234 / RATE_HZ
    assert found.raw == pytest.approx(0.25 * float(np.square(signal, dtype=np.float64).sum()), rel=1e-5)
    earlier = correlate(signal, signal[100:])
    assert earlier is not None
    assert earlier.lag_s == -100 / RATE_HZ


def test_the_correlation_is_that_of_the_definition() -> None:
    first, second = noise(300), noise(200, 1)
    found = correlate(first, second)
    sums = np.correlate(second.astype(np.float64), first.astype(np.float64), "full")
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    assert found is not None
    peak = int(np.argmax(np.abs(sums)))
    assert found.highest == pytest.approx(sums[peak] / norm, abs=1e-6)
    assert found.lag_s == (peak - 299) / RATE_HZ
    assert found.at_zero == pytest.approx(sums[299] / norm, abs=1e-6)
    assert found.lags_s.size == found.power_db.size == 499
    power_db = np.maximum(10 * np.log10(np.square(sums / norm)), FLOOR_DB)
    assert found.power_db == pytest.approx(power_db, abs=1e-2)


def test_silence_has_no_correlation() -> None:
    silence = np.zeros(1000, np.float32)
    assert correlate(silence, noise(1000)) is None
    assert all(control.correlation is None for control in controls(silence, never))


@pytest.mark.parametrize("rate_hz", [4000, 8000, 44_100, 48_000])
def test_a_recording_read_in_blocks_keeps_its_length_and_place(tmp_path: Path, rate_hz: int) -> None:
    samples = audio.resample(noise(round(BLOCK_S * 3000))[np.newaxis], 3000, rate_hz)
    signal = read_signal(put(tmp_path, np.vstack([samples, samples]), rate_hz), never)
    whole = audio.resample(samples, rate_hz, RATE_HZ)[0]
    assert signal.size == whole.size
    assert audio.rms_db((signal - whole)[np.newaxis]) < audio.rms_db(whole[np.newaxis]) - 60.0


def test_channels_in_anti_phase_are_heard(tmp_path: Path) -> None:
    samples = noise(20_000)
    assert np.abs(read_signal(put(tmp_path, np.stack([samples, -samples]), 8000), never)).max() > 0.1


def test_doing_nothing_scores_best_and_the_other_controls_low() -> None:
    signal = tune(RATE_HZ * 20) * np.float32(0.1)
    itself, shifted, other, noisy = (c.correlation for c in controls(signal, never))
    assert itself is not None and shifted is not None and other is not None and noisy is not None
    assert [itself.highest, shifted.highest] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert (itself.lag_s, shifted.lag_s) == (0.0, 1.0)
    assert abs(other.highest) < 0.2
    assert abs(noisy.highest) < 0.05


def test_the_demo_song_is_not_another_song_to_itself() -> None:
    signal = read_signal(shipped("presets") / "demo" / "Demo Song.flac", never)
    other = controls(signal, never)[2]
    assert other.correlation is not None
    assert "Ode to Joy" in other.what
    assert abs(other.correlation.highest) < 0.2
    assert "demo song" in controls(tune(signal.size), never)[2].what


@pytest.mark.parametrize("seconds", [0.5, 1.0, 30.0])
@pytest.mark.parametrize("rate_hz", [8000, 44_100])
def test_a_sine_stands_in_its_band_at_its_level_all_the_time(
    tmp_path: Path, seconds: float, rate_hz: int
) -> None:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    sine = 0.5 * np.sin(2 * np.pi * 1000.0 * time_s)[np.newaxis].astype(np.float32)
    found = spectrogram(put(tmp_path, sine, rate_hz), never)
    whole = found.level_db[:, :-2]  # the last columns reach beyond the end
    assert found.seconds == pytest.approx(seconds)
    assert found.level_db.shape[1] <= 640
    assert np.abs(whole.argmax(axis=0) - found.band_of(1000.0)).max() <= 1.0
    assert np.abs(whole.max(axis=0) + 6.0).max() < 4.0  # a triangle's slope takes up to half


def test_a_moment_is_like_itself_and_a_static_sound_like_nothing(tmp_path: Path) -> None:
    found = spectrogram(MIX, never)
    matrix = likeness(found, found)
    assert np.diagonal(matrix) == pytest.approx(1.0)
    assert np.abs(matrix).max() <= 1.0 + 1e-9
    silent = spectrogram(put(tmp_path, np.zeros((1, 44_100), np.float32), 44_100), never)
    assert not likeness(found, silent).any()


def test_bars_that_repeat_are_alike_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    bars = rng.uniform(-60.0, 0.0, (96, 2, 10))
    song = np.concatenate([bars[:, 0], bars[:, 1], bars[:, 0]], axis=1)
    matrix = likeness(*[Spectrogram(song, 3.0, 16_000.0)] * 2)
    assert np.diagonal(matrix, 20) == pytest.approx(1.0)
    assert np.abs(np.diagonal(matrix, 10)).max() < 0.7


@pytest.mark.parametrize("rate_hz", [8000, 44_100])
def test_loudness_in_blocks_is_that_of_the_whole(tmp_path: Path, rate_hz: int) -> None:
    samples = audio.resample(audio.read_raw(MIX)[0], 44_100, rate_hz)
    found = measure(put(tmp_path, samples, rate_hz), never)
    assert found.integrated_lufs == pytest.approx(audio.loudness_lufs(samples, rate_hz), abs=0.02)
    assert found.true_peak_dbtp == pytest.approx(audio.true_peak_dbtp(samples, rate_hz), abs=0.01)
    rising = samples * np.linspace(0.05, 1.0, samples.shape[1], dtype=np.float32)
    expected = pyloudnorm.Meter(rate_hz).loudness_range(rising.T.astype(np.float64))
    assert measure(put(tmp_path, rising, rate_hz), never).range_lu == pytest.approx(expected, abs=0.5)


def test_the_loudness_of_silence_and_of_a_blink(tmp_path: Path) -> None:
    silent = measure(put(tmp_path, np.zeros((2, 200_000), np.float32), 44_100), never)
    assert (silent.integrated_lufs, silent.true_peak_dbtp, silent.range_lu) == (-np.inf, -np.inf, 0.0)
    short = measure(put(tmp_path, noise(22_050)[np.newaxis], 44_100), never)
    assert np.isfinite(short.integrated_lufs)
    assert short.short_term_lufs.size == 0


def test_a_picture_is_the_same_each_time_and_takes_the_ink_of_the_page() -> None:
    notes = tuple(Note(i / 2, 0.5, 60 + i % 7, 90, ("bass", "drums")[i % 2]) for i in range(64))
    first, second = (pictures.piano_roll(Phrase(notes, 32.0), constant_tempo(100.0, 48_000)) for _ in "ab")
    assert first == second
    assert first.startswith("<svg role=")
    assert "currentColor" in first and pictures.INK not in first


def test_a_piano_roll_of_many_notes_stays_small_and_numbers_a_few_bars() -> None:
    notes = tuple(Note(i / 8, 0.1, 30 + i % 60, 90, "other") for i in range(20_000))
    drawn = pictures.piano_roll(Phrase(notes, 2500.0), constant_tempo(120.0, 48_000))
    assert len(drawn) < 300_000
    assert ">577</text>" in drawn  # every 32nd bar of 625
    assert ">2</text>" not in drawn
