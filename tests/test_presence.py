"""Who sings where: a voice is told from instruments by its vowels; nothing without one passes."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples
from bridge.types import Span
from bridge.voices.presence import NOBODY, find_singing
from tests.synthetic_song import Signal, make_song

RATE_HZ = 44_100
VOWELS_HZ = {"a": (800, 1200), "e": (450, 2000), "i": (300, 2400), "o": (450, 850), "u": (320, 750)}
MELODY = (57, 57, 60, 60, 57, 62, 60, 57)


def sing(vowels: str, *, note_s: float = 0.5, vibrato_semitones: float = 0.3, level: float = 0.2) -> Signal:
    """A pulse train through two formants: a vowel to each note, with 100 ms from one to the next."""
    rate = RATE_HZ
    count = int(len(MELODY) * note_s * rate)
    t = np.arange(count) / rate
    note = np.minimum((t / note_s).astype(int), len(MELODY) - 1)
    pitch = np.array(MELODY)[note] + vibrato_semitones * np.sin(2 * np.pi * 5.5 * t)
    phase = np.cumsum(440.0 * 2 ** ((pitch - 69) / 12) / rate)
    edges = np.arange(len(MELODY)) * note_s
    points = np.stack([edges + 0.05, edges + note_s - 0.05], axis=1).ravel()
    formants = np.array([VOWELS_HZ[vowels[i % len(vowels)]] for i in range(len(MELODY))], dtype=np.float64)
    tracks = [np.interp(t, points, np.repeat(formants[:, k], 2)) for k in (0, 1)]
    out = np.zeros(count)
    for harmonic in range(1, 40):
        hz = harmonic * 440.0 * 2 ** ((pitch - 69) / 12)
        gain = sum(1.0 / (1.0 + ((hz - track) / 90.0) ** 2) for track in tracks)
        out += np.where(hz < 5000, gain / harmonic**0.5, 0.0) * np.sin(2 * np.pi * harmonic * phase)
    return np.asarray(level * out / np.abs(out).max())


def placed(signal: Signal, start_s: float, seconds: float) -> Samples:
    out = np.zeros((1, int(seconds * RATE_HZ)), dtype=np.float32)
    start = round(start_s * RATE_HZ)
    out[0, start : start + signal.size] = signal
    return out


def music(seconds: float) -> Samples:
    mix = make_song(120, bars=int(seconds / 2) + 1).mix
    return mix[:, : int(seconds * RATE_HZ)]


def test_a_singer_is_found_where_he_sings() -> None:
    voice = placed(sing("aiueo"), 2.0, 10.0)
    found = find_singing(voice, voice + music(10.0), RATE_HZ)
    assert found.sings
    assert len(found.spans) == 1
    assert found.spans[0].start_s == pytest.approx(2.0, abs=0.1)
    assert found.spans[0].end_s == pytest.approx(6.0, abs=0.1)


def test_short_gaps_are_merged_and_long_ones_kept() -> None:
    voice = sing("aiueo")
    near = placed(voice, 0.5, 16.0) + placed(voice, 4.8, 16.0) + placed(voice, 10.5, 16.0)
    found = find_singing(near, near, RATE_HZ)
    assert len(found.spans) == 2
    assert isinstance(found.spans[0], Span)
    assert found.spans[0].end_s == pytest.approx(8.8, abs=0.1)


def test_every_note_on_its_exact_semitone_is_still_a_singer() -> None:
    voice = placed(sing("aiueo", vibrato_semitones=0.0), 1.0, 8.0)
    assert find_singing(voice, voice + music(8.0), RATE_HZ).sings


@pytest.mark.parametrize("vowel", ["a", "o", "e"])
def test_an_instrument_with_one_body_does_not_sing(vowel: str) -> None:
    lead = placed(sing(vowel), 1.0, 8.0)  # vibrato and formants, but always the same ones
    found = find_singing(lead, lead + music(8.0), RATE_HZ)
    assert not found.sings
    assert found.spans == ()
    assert found.voiced_s > 2.0


def test_chords_drums_and_bass_left_in_a_vocals_stem_do_not_sing() -> None:
    song = make_song(120, bars=6)
    for bleed in (song.music, song.drums, song.mix, 0.1 * song.mix):
        assert not find_singing(bleed, song.mix, RATE_HZ).sings


def test_a_voice_far_under_the_bounce_is_bleed() -> None:
    voice = placed(sing("aiueo", level=0.003), 1.0, 8.0)
    assert not find_singing(voice, voice + 4 * music(8.0), RATE_HZ).sings


@pytest.mark.parametrize("labelled", [False, True])
def test_silence_and_noise_do_not_sing(labelled: bool) -> None:
    silence = np.zeros((2, RATE_HZ), dtype=np.float32)
    noise = (0.1 * np.random.default_rng(0).standard_normal((1, 4 * RATE_HZ))).astype(np.float32)
    assert find_singing(silence, silence, RATE_HZ, labelled=labelled) == NOBODY
    assert not find_singing(noise, noise, RATE_HZ, labelled=labelled).sings


def test_a_bounce_labelled_as_vocals_may_hold_one_long_vowel() -> None:
    voice = placed(sing("a"), 1.0, 8.0)
    assert find_singing(voice, voice, RATE_HZ, labelled=True).sings


@pytest.mark.parametrize("rate_hz", [8_000, 96_000])
@pytest.mark.parametrize("seconds", [0.02, 0.5])
def test_any_rate_and_length_gives_finite_evidence(rate_hz: int, seconds: float) -> None:
    rng = np.random.default_rng(0)
    samples = (0.5 + 0.1 * rng.standard_normal((1, int(seconds * rate_hz)))).astype(np.float32)
    found = find_singing(samples, samples, rate_hz)
    assert np.isfinite([found.voiced_s, found.level_db, found.vowels_octaves, found.glides_octaves]).all()
