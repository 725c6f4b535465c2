"""What the voices are measured with answers rightly where the answer is known, and can fail."""

from __future__ import annotations

import numpy as np
import pytest

from bridge import audio
from bridge.audio import Samples
from bridge.types import Span
from tests.benchmarks import voice_material as material
from tests.benchmarks import voice_metrics as metrics
from tests.benchmarks.voice_material import HOP_S, Array, Note

RATE_HZ = 44_100


def vowel(f0_hz: Array | float, seconds: float = 1.0, level: float = 0.1) -> Samples:
    """A pulse train below 5 kHz with the tone of an "a" and a strong fundamental, (1, frames)."""
    frames = round(seconds * RATE_HZ)
    hz = (
        np.broadcast_to(np.asarray(f0_hz, dtype=np.float64), frames)
        if np.ndim(f0_hz) == 0
        else np.asarray(f0_hz)
    )
    phase = 2.0 * np.pi * np.cumsum(hz) / RATE_HZ
    out = np.zeros(frames)
    for number in range(1, 60):
        gain = (
            sum(1.0 / (1.0 + ((number * hz - centre) / 100.0) ** 2) for centre in (800.0, 1200.0))
            + 2.0 / number
        )
        out += np.where(number * hz < 5000.0, gain, 0.0) * np.sin(number * phase)
    ends = np.clip(np.minimum(np.arange(frames), frames - 1 - np.arange(frames)) / 800.0, 0.0, 1.0)
    faded: Samples = (level * np.sin(np.pi / 2 * ends) ** 2 * out / np.abs(out).max()).astype(np.float32)[
        None
    ]
    return faded


def hops(hz: float, seconds: float = 1.0) -> Array:
    return np.full(round(seconds / HOP_S), hz)


def inner(hz: Array) -> Array:
    """Without the first and last 50 ms."""
    return hz[5 : round(1.0 / HOP_S) - 5]


@pytest.mark.parametrize("f0_hz", [110.0, 220.0, 587.33])
def test_pitch_that_is_30_cents_off_reads_30_cents(f0_hz: float) -> None:
    shifted = inner(metrics.track_f0(vowel(f0_hz * 2 ** (30 / 1200)), RATE_HZ))
    errors = metrics.f0_errors(inner(hops(f0_hz)), shifted)
    assert errors.rmse_cents == pytest.approx(30.0, abs=2.0)
    assert errors.voicing < 0.1 and errors.jumps == () and errors.right > 0.9
    true = metrics.f0_errors(inner(hops(f0_hz)), inner(metrics.track_f0(vowel(f0_hz), RATE_HZ)))
    assert true.rmse_cents < 2.0


def test_an_octave_jump_counts_once_and_by_the_minute() -> None:
    truth = hops(220.0, 3.0)
    found = truth.copy()
    found[100:120] *= 2.0
    found[200] *= 0.5  # one hop alone nobody hears
    errors = metrics.f0_errors(truth, found)
    assert errors.jumps == (100,)
    assert errors.jumps_per_min == pytest.approx(20.0)
    assert errors.rmse_cents > 300.0
    assert errors.right == pytest.approx(279 / 300)


def test_an_octave_jump_that_is_sung_is_heard_in_the_sound() -> None:
    hz = np.full(RATE_HZ, 220.0)
    hz[round(0.4 * RATE_HZ) : round(0.6 * RATE_HZ)] = 440.0
    errors = metrics.f0_errors(hops(220.0), metrics.track_f0(vowel(hz), RATE_HZ))
    assert len(errors.jumps) == 1
    assert errors.jumps[0] * HOP_S == pytest.approx(0.4, abs=0.03)


def test_jumps_of_the_source_are_not_held_against_the_copy() -> None:
    truth = hops(220.0, 3.0)
    source, copy = truth.copy(), truth.copy()
    source[100:110] *= 2.0
    copy[104:110] *= 2.0
    copy[200:210] *= 0.5
    assert metrics.new_jumps(metrics.f0_errors(truth, copy), metrics.f0_errors(truth, source)) == 1


def test_a_fifth_too_high_is_an_error_but_no_octave_jump() -> None:
    errors = metrics.f0_errors(hops(220.0), hops(330.0))
    assert errors.jumps == () and errors.rmse_cents == pytest.approx(702.0, abs=0.1)


def test_voicing_errors_are_the_share_of_hops_that_differ() -> None:
    truth = np.concatenate([hops(220.0), hops(0.0)])
    found = np.concatenate([hops(220.0)[:80], hops(0.0)[:20], hops(0.0)[:90], hops(220.0)[:10]])
    assert metrics.f0_errors(truth, found).voicing == pytest.approx(0.15)
    assert metrics.voicing_changes(found, truth) == pytest.approx(0.15)


def test_silence_and_noise_are_not_voiced() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.05, (1, RATE_HZ)).astype(np.float32)
    assert (metrics.track_f0(noise, RATE_HZ) > 0).mean() < 0.05
    sung = np.concatenate([vowel(220.0, 0.5), np.zeros((1, RATE_HZ // 2), np.float32)], axis=1)
    found = metrics.track_f0(sung, RATE_HZ)
    assert np.all(found[55:] == 0.0) and np.all(found[3:47] > 0.0)


@pytest.mark.parametrize("level_db", [-50.0, -59.0])
def test_a_click_in_a_vowel_is_found_with_its_level(level_db: float) -> None:
    samples = vowel(150.0)
    assert metrics.clicks(samples, RATE_HZ) == []
    samples[0, 30_000] += audio.db_to_amplitude(level_db)
    (click,) = metrics.clicks(samples, RATE_HZ)
    assert click.at_s == pytest.approx(30_000 / RATE_HZ, abs=0.002)
    assert click.level_db == pytest.approx(level_db, abs=1.5)


def test_a_quieter_click_than_asked_for_is_none() -> None:
    samples = vowel(150.0)
    samples[0, 30_000] += audio.db_to_amplitude(-65.0)
    assert metrics.clicks(samples, RATE_HZ) == []
    assert len(metrics.clicks(samples, RATE_HZ, quietest_db=-70.0)) == 1


def test_a_hard_cut_between_two_pieces_is_a_click_and_a_crossfade_is_none() -> None:
    one, other = vowel(150.0), vowel(157.0)
    middle, half = one.shape[1] // 2 + 40, 1000
    cut = np.concatenate([one[:, :middle], other[:, middle:]], axis=1)
    assert [click.at_s for click in metrics.clicks(cut, RATE_HZ)] == [
        pytest.approx(middle / RATE_HZ, abs=0.002)
    ]
    weight = np.clip((np.arange(one.shape[1]) - middle + half) / (2 * half), 0.0, 1.0)
    faded = (one * (1.0 - weight) + other * weight).astype(np.float32)
    assert metrics.clicks(faded, RATE_HZ) == []


def test_a_click_that_the_source_has_too_is_not_counted_again() -> None:
    source, copy = vowel(150.0), vowel(140.0)
    source[0, 10_000] += 0.02
    copy[0, 10_030] += 0.02
    copy[0, 30_000] += 0.02
    assert len(metrics.new_clicks(copy, source, RATE_HZ)) == 1


def test_the_worst_gap_tells_its_change() -> None:
    source = np.random.default_rng(0).normal(0.0, 0.001, (2, 4 * RATE_HZ)).astype(np.float32)
    spans = [Span(1.0, 2.0), Span(3.0, 3.5)]
    copy = source.copy()
    copy[:, RATE_HZ : 2 * RATE_HZ] *= 5.0  # sung: does not count
    assert metrics.gap_change_db(copy, source, RATE_HZ, spans) == pytest.approx(0.0, abs=0.01)
    copy[:, round(2.1 * RATE_HZ) : round(2.9 * RATE_HZ)] *= 0.5
    assert metrics.gap_change_db(copy, source, RATE_HZ, spans) == pytest.approx(-6.02, abs=0.05)


def test_a_gap_that_became_digital_silence_is_infinitely_changed() -> None:
    source = np.random.default_rng(0).normal(0.0, 0.001, (1, 2 * RATE_HZ)).astype(np.float32)
    copy = source.copy()
    copy[:, RATE_HZ:] = 0.0
    assert metrics.gap_change_db(copy, source, RATE_HZ, [Span(0.0, 1.0)]) == float("-inf")


def test_what_was_not_changed_differs_by_nothing() -> None:
    source = vowel(200.0)
    assert metrics.changed_db(source, source) == float("-inf")
    assert metrics.changed_db(source * np.float32(1.1), source) == pytest.approx(-20.0, abs=0.01)


def test_word_error_rate_of_a_known_pair() -> None:
    said = ["The birch canoe slid.", "Rice is often served, isn't it?"]
    assert metrics.word_error_rate(said, ["the birch canoe slid", "rice is often served isn’t it"]) == 0.0
    # one wrong, one missing, one too many, of ten words
    assert metrics.word_error_rate(
        said, ["a birch canoe", "rice is very often served isn't it"]
    ) == pytest.approx(0.3)


def test_syllables_of_a_made_pulse_train_are_counted() -> None:
    beats = (np.arange(3 * RATE_HZ) / RATE_HZ * 5.0) % 1.0
    envelope = np.where(beats < 0.7, np.sin(np.pi * beats / 0.7) ** 2, 0.0) + 0.01
    samples = (vowel(140.0, 3.0) * envelope).astype(np.float32)
    f0 = np.full(300, 140.0)
    assert metrics.syllables(samples, RATE_HZ, f0) == 15
    assert metrics.syllables(samples, RATE_HZ, np.where(np.arange(300) < 200, f0, 0.0)) == 10
    assert metrics.syllables(vowel(140.0, 3.0), RATE_HZ, f0) <= 1


def test_a_melody_has_its_notes_slides_and_vibrato() -> None:
    notes = (Note(0.0, 0.3), Note(7.0, 0.6), Note(2.0, 0.4, slides=True))
    semitones = material.melody(notes, 1000)
    assert semitones.size == 1300
    assert semitones[150] == pytest.approx(0.0, abs=0.01)
    assert semitones[600:880].max() == pytest.approx(7.5, abs=0.12)
    assert semitones[600:880].min() == pytest.approx(6.5, abs=0.12)
    assert semitones[1100] == pytest.approx(4.5, abs=0.05)


def test_what_is_sung_repeats_at_exactly_the_wanted_pitch() -> None:
    """Pulses through one spectrum that stands still: the sound is one period over and over."""
    rate = material.SPEECH_HZ
    spoken = vowel(120.0, 0.7)[0, ::2].astype(np.float64)[: round(0.6 * rate)]
    samples, f0_hz = material.resing(spoken, np.full(round(0.6 * rate), 200.0))
    inside = slice(round(0.2 * rate), round(0.4 * rate))
    assert np.all(f0_hz[inside] == 200.0)
    later = slice(inside.start + rate // 200, inside.stop + rate // 200)
    kept = np.corrcoef(samples[inside], samples[later])[0, 1]
    other = np.corrcoef(samples[inside], np.roll(samples, -round(rate / 206.0))[inside])[0, 1]
    assert kept > 0.97 > other
