"""One transposition for a song: an octave or nothing, with a lean to nothing, and its reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bridge.voices.f0 import F0Track
from bridge.voices.folder import VoiceCard
from bridge.voices.transposition import choose

CARD = VoiceCard("so-vits-svc", f0_median_hz=220.0)


def track(hz: float, semitones: float = 2.0) -> F0Track:
    """Singing around `hz`, with unvoiced hops in between."""
    rng = np.random.default_rng(0)
    sung = hz * 2 ** (rng.uniform(-semitones, semitones, 999) / 12)
    sung[::7] = 0.0
    return F0Track(sung, np.ones(999))


@pytest.mark.parametrize(
    ("song_hz", "semitones"),
    [(220.0, 0), (150.0, 0), (320.0, 0), (130.0, 12), (110.0, 12), (370.0, -12), (440.0, -12), (55.0, 12)],
)
def test_a_song_moves_an_octave_only_where_it_lies_far_from_the_voice(song_hz: float, semitones: int) -> None:
    chosen = choose(track(song_hz), CARD)
    assert chosen.semitones == semitones
    assert "the voice around 220 Hz" in chosen.reason and "\n" not in chosen.reason
    assert chosen.reason.startswith(f"{semitones:+d}" if semitones else "0")


def test_what_lies_half_way_stays() -> None:
    half_way = 220.0 * 2 ** (7.5 / 12)
    assert choose(track(half_way), CARD).semitones == 0


def test_an_octave_that_leaves_the_voices_range_is_not_taken() -> None:
    narrow = replace(CARD, f0_low_hz=120.0, f0_high_hz=240.0)
    assert choose(track(130.0), narrow).semitones == 0
    assert "range" in choose(track(130.0), narrow).reason
    assert choose(track(130.0), replace(CARD, f0_low_hz=120.0, f0_high_hz=400.0)).semitones == 12


def test_without_knowledge_nothing_moves() -> None:
    assert "not known" in choose(track(110.0), replace(CARD, f0_median_hz=None)).reason
    silent = F0Track(np.zeros(10), np.zeros(10))
    assert choose(silent, CARD).semitones == 0 and "no pitch" in choose(silent, CARD).reason


@pytest.mark.parametrize("wish", ["0", "12", "-12"])
def test_the_card_may_say_how_far(wish: str) -> None:
    chosen = choose(track(220.0), replace(CARD, transpose=wish))
    assert chosen.semitones == int(wish) and "card" in chosen.reason
