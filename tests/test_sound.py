"""Sound in blocks is the same sound: equal to the whole arrays, whatever the size of the blocks."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bridge import audio, sound
from bridge.audio import Samples
from tests.song_a import RATE_HZ, true_stem


@pytest.fixture(params=[0.37, 10.0], ids=["small blocks", "one block"])
def block_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(sound, "BLOCK_S", request.param)
    return float(request.param)


@pytest.fixture
def music() -> Samples:
    return true_stem("other", 6.3) + true_stem("drums", 6.3)


@pytest.mark.usefixtures("block_s")
def test_loudness_and_true_peak_are_those_of_the_whole(music: Samples) -> None:
    heard = sound.of_array(music, RATE_HZ)
    assert sound.loudness_lufs(heard) == pytest.approx(audio.loudness_lufs(music, RATE_HZ), abs=1e-6)
    assert sound.true_peak_dbtp(heard) == pytest.approx(audio.true_peak_dbtp(music, RATE_HZ), abs=1e-5)
    assert sound.rms_db(heard) == pytest.approx(audio.rms_db(music), abs=1e-6)
    silence = sound.of_array(np.zeros_like(music), RATE_HZ)
    assert sound.loudness_lufs(silence) == sound.true_peak_dbtp(silence) == float("-inf")
    assert sound.loudness_lufs(sound.of_array(music[:, :9000], RATE_HZ)) == float("-inf")


@pytest.mark.parametrize("seconds", [0.41, 1.0, 3.333, 6.3])
@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000])
def test_loudness_is_pyloudnorm_s_at_any_length_and_rate(
    music: Samples, seconds: float, rate_hz: int
) -> None:
    cut = music[:, : round(seconds * rate_hz)]
    mine = sound.loudness_lufs(sound.of_array(cut, rate_hz))
    assert mine == pytest.approx(audio.loudness_lufs(cut, rate_hz), abs=0.001)


@pytest.mark.usefixtures("block_s")
def test_what_is_written_is_what_was_put_together(music: Samples, tmp_path: Path) -> None:
    audio.write_float_wav(tmp_path / "a.wav", music, RATE_HZ)
    from_file = sound.of_file(tmp_path / "a.wav")
    gain_db = np.linspace(-6.0, 0.0, 64)
    hop = round(0.1 * RATE_HZ)
    gain = 10 ** (np.interp(np.arange(music.shape[1]), (np.arange(64) + 0.5) * hop, gain_db) / 20)
    both = sound.added([sound.shaped(from_file, gain_db, 0.1), sound.scaled(from_file, 0.5)])
    sound.write(both, tmp_path / "b.wav")
    found, rate_hz = audio.read_raw(tmp_path / "b.wav")
    assert rate_hz == RATE_HZ
    assert np.abs(found - (music * gain + 0.5 * music)).max() < 1e-6


def test_a_sound_is_fitted_to_length_and_channels(music: Samples) -> None:
    heard = sound.of_array(music, RATE_HZ)
    longer = sound.fitted(heard, 1, music.shape[1] + 1000)
    assert longer.shape == (1, music.shape[1] + 1000)
    assert np.array_equal(longer.all()[:, :-1000], audio.to_mono(music)) and not longer.all()[:, -1000:].any()
    assert np.array_equal(sound.fitted(heard, 2, 500).all(), music[:, :500])


@pytest.mark.usefixtures("block_s")
@pytest.mark.parametrize("to_hz", [22_050, 44_100, 48_000])
def test_a_stream_is_resampled_as_the_whole_is(music: Samples, to_hz: int) -> None:
    found = sound.resampled_mono(sound.of_array(music, RATE_HZ), audio.to_mono, to_hz)
    wanted = audio.resample(audio.to_mono(music), RATE_HZ, to_hz)[0]
    assert found.shape == wanted.shape
    assert audio.rms_db((found - wanted)[None]) - audio.rms_db(wanted[None]) < -100


def test_ten_minutes_are_measured_in_the_memory_of_one(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 8000 * 60)).astype(np.float32)
    with audio.wav_writer(path, 8000, 1, 10 * noise.shape[1], is_float=True) as file:
        for _ in range(10):
            file.write(noise.T)
    sound.loudness_lufs(sound.of_array(noise, 8000))  # what is imported does not count
    tracemalloc.start()
    try:
        sound.loudness_lufs(sound.of_file(path))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8_000_000  # the whole is 19 MB
