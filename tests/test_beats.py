"""Tempo, beats, metre and bar lines of made songs with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.analysis.bars import find_bars, to_tempo_map
from bridge.analysis.beats import find_beats
from bridge.analysis.chroma import find_chroma
from bridge.analysis.key import find_key
from bridge.analysis.onsets import attack_times, find_onsets
from bridge.analysis.spectrum import RATE_HZ, analysis_signal
from bridge.audio import Samples
from bridge.tempo import beats_to_seconds, seconds_to_beats
from bridge.types import TempoMap
from tests.synthetic_song import Signal, Song, hat_hit, kick_hit, make_song, snare_hit, tone


def hear(samples: Samples, rate_hz: int, start_s: float = 0.0) -> TempoMap:
    signal = analysis_signal(samples, rate_hz)
    onsets = find_onsets(signal)
    beats = find_beats(onsets)
    assert beats is not None
    chroma = find_chroma(signal)
    bars = find_bars(beats, onsets, chroma if find_key(chroma).name else None, start_s)
    return to_tempo_map(beats, bars, rate_hz)


def first_downbeat_s(tempo: TempoMap) -> float:
    return tempo.first_downbeat_frame / tempo.sample_rate_hz


def beat_error_s(tempo: TempoMap, song: Song) -> float:
    """How far the worst true beat lies from the nearest beat of the map's own grid."""
    origin = seconds_to_beats(tempo, first_downbeat_s(tempo))
    worst = 0.0
    for truth in song.beats_s:
        beat = round(seconds_to_beats(tempo, truth) - origin) + origin
        worst = max(worst, abs(beats_to_seconds(tempo, beat) - truth))
    return worst


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
@pytest.mark.parametrize("kind", ["click", "kick", "snare", "hat", "tone"])
def test_attacks_are_stamped_where_they_begin(kind: str, rate_hz: int) -> None:
    rng = np.random.default_rng(1)
    hits: dict[str, Signal] = {
        "click": np.eye(1, 50)[0],
        "kick": kick_hit(rate_hz),
        "snare": snare_hit(rng, rate_hz),
        "hat": hat_hit(rng, rate_hz),
        "tone": tone(60, 0.5, rate_hz),
    }
    truth = np.arange(0.2, 9.0, 0.6) + rng.uniform(0, 0.05, 15)
    track = np.zeros(10 * rate_hz)
    for at in truth:
        start = round(at * rate_hz)
        track[start : start + hits[kind].size] += hits[kind]
    times, _ = attack_times(find_onsets(analysis_signal(track[None].astype(np.float32), rate_hz)).accents)
    errors = np.array([times[np.argmin(np.abs(times - at))] - at for at in truth])
    assert abs(errors.mean()) < 0.004
    assert errors.std() < 0.001
    assert times.size == truth.size


@pytest.mark.parametrize("beats_per_bar", [4, 3])
@pytest.mark.parametrize("bpm", [72.0, 90.0, 97.3, 128.0, 140.0, 174.0])
def test_constant_tempo_metre_and_first_downbeat(bpm: float, beats_per_bar: int) -> None:
    song = make_song(bpm, beats_per_bar=beats_per_bar, offset_s=0.37)
    tempo = hear(song.mix, 44_100, 0.37)
    assert len(tempo.points) == 1
    assert tempo.points[0].bpm == pytest.approx(bpm, abs=0.01)
    assert tempo.beats_per_bar == beats_per_bar
    assert first_downbeat_s(tempo) == pytest.approx(song.downbeats_s[0], abs=0.005)
    assert beat_error_s(tempo, song) < 0.005


@pytest.mark.parametrize("pickup_beats", [1, 2, 3])
def test_a_pickup_comes_before_the_first_downbeat(pickup_beats: int) -> None:
    song = make_song(105, offset_s=0.2, pickup_beats=pickup_beats, rate_hz=48_000)
    tempo = hear(song.mix, 48_000, 0.2)
    assert first_downbeat_s(tempo) == pytest.approx(song.downbeats_s[0], abs=0.005)


def test_drums_alone_give_tempo_and_bar_lines() -> None:
    song = make_song(128, bars=8)
    tempo = hear(song.drums, 44_100)
    assert tempo.points[0].bpm == 128.0
    assert first_downbeat_s(tempo) == 0.0


def test_a_bounce_that_starts_on_the_bar_line_has_it_on_its_first_frame() -> None:
    assert hear(make_song(120, bars=8).mix, 44_100).first_downbeat_frame == 0


@pytest.mark.parametrize("tempi", [(100.0,) * 8 + (120.0,) * 8, (90.0,) * 8 + (126.0,) * 8])
def test_a_tempo_step_is_one_change_at_its_bar_line(tempi: tuple[float, ...]) -> None:
    song = make_song(tempi, bars=16)
    tempo = hear(song.mix, 44_100)
    assert [point.bpm for point in tempo.points] == pytest.approx([tempi[0], tempi[-1]], abs=0.2)
    assert tempo.points[1].frame / 44_100 == pytest.approx(song.downbeats_s[8], abs=0.02)
    assert beat_error_s(tempo, song) < 0.015


def test_a_drifting_tempo_is_followed() -> None:
    song = make_song([95.0 + 0.75 * bar for bar in range(20)], bars=20)
    tempo = hear(song.mix, 44_100)
    assert 3 <= len(tempo.points) <= 20
    assert beat_error_s(tempo, song) < 0.02


def test_a_known_tempo_is_kept_exactly_and_its_phase_found() -> None:
    song = make_song(152, offset_s=0.21)
    signal = analysis_signal(song.mix, 44_100)
    beats = find_beats(find_onsets(signal), 152.0)
    assert beats is not None
    assert beats.bpm == 152.0
    errors = [np.abs(beats.times_s - at).min() for at in song.beats_s]
    assert max(errors) < 0.005


def test_confidence_is_high_on_a_beat_and_low_on_noise() -> None:
    on_beat = find_beats(find_onsets(analysis_signal(make_song(100, bars=6).mix, 44_100)))
    assert on_beat is not None
    assert on_beat.confidence > 0.9
    for seed in range(6):
        on_noise = find_beats(find_onsets(np.random.default_rng(seed).standard_normal(10 * RATE_HZ)))
        assert on_noise is None or on_noise.confidence < 0.35


def test_silence_has_no_beats() -> None:
    assert find_beats(find_onsets(np.zeros(RATE_HZ))) is None
