"""The key of made progressions in all 24 keys."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.analysis.chroma import find_chroma
from bridge.analysis.key import NAMES, find_key
from bridge.analysis.spectrum import RATE_HZ, Array
from tests.synthetic_song import make_song, tone

CHORD_S = 0.8
MAJOR, MINOR = (0, 4, 7), (0, 3, 7)
Chords = tuple[tuple[int, tuple[int, int, int]], ...]

PROGRESSIONS: dict[str, tuple[str, Chords]] = {
    "I V vi IV": ("major", ((0, MAJOR), (7, MAJOR), (9, MINOR), (5, MAJOR)) * 2),
    "I IV V I": ("major", ((0, MAJOR), (5, MAJOR), (7, MAJOR), (0, MAJOR)) * 2),
    "vi IV I V I": ("major", ((9, MINOR), (5, MAJOR), (0, MAJOR), (7, MAJOR)) * 2 + ((0, MAJOR),)),
    "i iv V i": ("minor", ((0, MINOR), (5, MINOR), (7, MAJOR), (0, MINOR)) * 2),
    "i iv v i": ("minor", ((0, MINOR), (5, MINOR), (7, MINOR), (0, MINOR)) * 2),
    "i VI III VII i": ("minor", ((0, MINOR), (8, MAJOR), (3, MAJOR), (10, MAJOR)) * 2 + ((0, MINOR),)),
}


def play(chords: Chords, tonic: int, detune_semitones: float = 0.0) -> Array:
    out = np.zeros(int(RATE_HZ * CHORD_S * (len(chords) + 0.5)))
    for index, (degree, triad) in enumerate(chords):
        root = 48 + (tonic + degree) % 12
        for pitch in (root - 12, *(root + step for step in triad)):
            note = tone(pitch + detune_semitones, CHORD_S, RATE_HZ)
            start = int(index * CHORD_S * RATE_HZ)
            out[start : start + note.size] += note
    return out


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize("name", PROGRESSIONS)
def test_every_key_is_named(name: str, tonic: int) -> None:
    mode, chords = PROGRESSIONS[name]
    key = find_key(find_chroma(play(chords, tonic)))
    assert key.name == f"{NAMES[tonic]} {mode}"
    assert key.confidence > 0.3


@pytest.mark.parametrize("detune_semitones", [-0.4, -0.2, 0.2, 0.4])
def test_a_song_off_concert_pitch_keeps_its_key(detune_semitones: float) -> None:
    chroma = find_chroma(play(PROGRESSIONS["I V vi IV"][1], 2, detune_semitones))
    assert chroma.tuning_semitones == pytest.approx(detune_semitones, abs=0.05)
    assert find_key(chroma).name == "D major"


def test_drums_noise_and_silence_have_no_key() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE_HZ)
    drums = make_song(100, bars=8, rate_hz=RATE_HZ).drums[0].astype(np.float64)
    for signal in (drums, noise, np.zeros(RATE_HZ)):
        key = find_key(find_chroma(signal))
        assert (key.name, key.confidence) == ("", 0.0)
