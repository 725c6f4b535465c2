"""Promises of the bass transcription: one note at a time, in the right octave, with every repeat."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from bridge import audio
from bridge.transcribers.bass import without_line
from bridge.transcribers.monophonic import transcribe_monophonic
from bridge.transcribers.pitched import RATE_HZ, posteriorgrams
from bridge.transcribers.played import PlayedNote, velocities
from tests.song_a import RATE_HZ as SONG_RATE_HZ
from tests.song_a import true_stem

Audio = npt.NDArray[np.float32]


def tone(pitch: int, seconds: float, partials: int = 6) -> npt.NDArray[np.float64]:
    """A plucked string: partials that fall off, quick attack, slow decay."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    f0_hz = 440.0 * 2 ** ((pitch - 69) / 12)
    wave = sum(np.sin(2 * np.pi * f0_hz * h * t) / h for h in range(1, partials + 1))
    fade = np.minimum(1.0, np.minimum(t / 0.004, (seconds - t) / 0.01))
    return np.asarray(wave * np.exp(-t / 0.5) * fade)


def line(notes: list[tuple[float, float, int, float]], seconds: float) -> Audio:
    """(start, length, pitch, gain) -> (1, frames)."""
    out = np.zeros(round(seconds * RATE_HZ))
    for start_s, length_s, pitch, gain in notes:
        wave = gain * tone(pitch, length_s)
        first = round(start_s * RATE_HZ)
        out[first : first + len(wave)] += wave
    return (0.2 * out[np.newaxis]).astype(np.float32)


def heard(samples: Audio) -> list[PlayedNote]:
    return transcribe_monophonic(posteriorgrams(samples, lambda done, total: None), samples, 23, 67)


@pytest.mark.real
def test_repeats_octaves_and_rests_of_a_line_are_kept() -> None:
    pitches = [33, 33, 45, 33, 36, 36, 48, 43, 28, 28, 40, 31]
    notes = [(0.2 + 0.3 * i, 0.28, pitch, 1.0) for i, pitch in enumerate(pitches) if i != 7]
    found = heard(line(notes, 4.2))
    assert [note.pitch for note in found] == [pitch for _, _, pitch, _ in notes]
    for note, (start_s, _, _, _) in zip(found, notes, strict=True):
        assert note.start_s == pytest.approx(start_s, abs=0.06)


@pytest.mark.real
def test_notes_never_overlap() -> None:
    found = heard(audio.resample(audio.to_mono(true_stem("bass", 10.0)), SONG_RATE_HZ, RATE_HZ))
    assert len(found) == 34
    for note, following in itertools.pairwise(found):
        assert note.start_s < note.end_s <= following.start_s + 0.02


@pytest.mark.real
def test_a_note_twice_as_loud_is_six_decibels_louder() -> None:
    notes = [(0.2 + 0.5 * i, 0.4, 40, 1.0 if i % 2 else 0.5) for i in range(8)]
    levels_db = [note.level_db for note in heard(line(notes, 4.5))]
    assert len(levels_db) == 8
    assert np.mean(levels_db[1::2]) - np.mean(levels_db[::2]) == pytest.approx(6.0, abs=1.0)


@pytest.mark.real
def test_silence_and_a_moment_of_sound_have_no_notes() -> None:
    assert heard(np.zeros((1, RATE_HZ), np.float32)) == []
    assert heard(np.zeros((1, 100), np.float32)) == []


def test_without_its_line_a_bass_stem_keeps_the_chord() -> None:
    repeats = [(0.2 + 0.5 * i, 0.45, 36, 1.0) for i in range(12)]
    chord = [(0.2 + 0.5 * i, 0.45, 60, 0.5) for i in (3, 9)]  # C4 is the fourth partial of C2
    bass, upper = line(repeats, 7.0), line(chord, 7.0)
    played = [PlayedNote(start, start + length, pitch, 0.0) for start, length, pitch, _ in repeats]

    left = without_line(bass + upper, played)

    assert left.shape == bass.shape
    assert audio.rms_db(left - upper) < audio.rms_db(bass) - 15.0
    sounding = slice(round(1.75 * RATE_HZ), round(2.1 * RATE_HZ))
    assert audio.rms_db(left[:, sounding]) == pytest.approx(
        audio.rms_db(upper[:, sounding]), abs=3.0
    )  # partials in phase


def test_without_a_line_nothing_changes() -> None:
    stem = line([(0.1, 0.5, 40, 1.0)], 1.0)
    assert np.array_equal(without_line(stem, []), stem)


def test_velocities_follow_levels_and_stay_in_range() -> None:
    found = velocities([-60.0, -12.0, -6.0, 0.0, 0.0, 0.0, 20.0])
    assert found == sorted(found)
    assert found[0] >= 1
    assert found[-1] <= 127
    assert found[3] == 110
    assert found[3] / found[1] == pytest.approx(10 ** (12 / 40), rel=0.02)
    assert velocities([]) == []
