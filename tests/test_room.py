"""The room is taken out and given back; a dry vocal is left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import Samples
from bridge.voices.room import Room, dereverb, give_room, measure_room
from tests.song_a import true_stem
from tests.sung import MELODY, RATE_HZ, Signal, level_db, room_response, sing

DRY = np.tile(sing(MELODY + MELODY[:4]).samples, (2, 1))


def in_room(dry: Signal, t60_s: float, wet_db: float) -> Samples:
    response = room_response(t60_s, wet_db, channels=len(dry))
    pairs = zip(dry, response, strict=True)
    return np.stack([np.convolve(*pair)[: dry.shape[1]] for pair in pairs]).astype(np.float32)


def direct_to_room_db(samples: Samples, dry: Signal) -> float:
    """The level of the true dry vocal against all that is not it."""
    return level_db(dry) - level_db(samples - dry)


@pytest.mark.parametrize(("t60_s", "wet_db"), [(0.4, -6.0), (0.8, -3.0)])
def test_the_direct_sound_stands_further_out_of_the_room(t60_s: float, wet_db: float) -> None:
    wet = in_room(DRY, t60_s, wet_db)
    drier = dereverb(wet, RATE_HZ, 1.0)
    assert drier.shape == wet.shape and drier.dtype == np.float32
    assert direct_to_room_db(drier, DRY) > direct_to_room_db(wet, DRY) + 2.0
    half = dereverb(wet, RATE_HZ, 0.5)
    assert level_db(half - wet) == pytest.approx(level_db(drier - wet) - 6.02, abs=0.05)


def test_a_dry_vocal_is_given_back_to_the_bit() -> None:
    for dry in (DRY.astype(np.float32), DRY[:1].astype(np.float32), true_stem("vocals", 5.0)):
        assert dereverb(dry, RATE_HZ, 1.0) is dry


def test_strength_0_silence_and_scraps_are_given_back_to_the_bit() -> None:
    wet = in_room(DRY[:, :RATE_HZ], 0.5, -3.0)
    assert dereverb(wet, RATE_HZ, 0.0) is wet
    for samples in (np.zeros((2, RATE_HZ), np.float32), wet[:, :1000]):
        assert dereverb(samples, RATE_HZ, 1.0) is samples


@pytest.mark.parametrize(("t60_s", "wet_db"), [(0.5, -3.0), (1.0, -3.0)])
def test_the_room_is_known_again_by_its_decay(t60_s: float, wet_db: float) -> None:
    wet = in_room(DRY, t60_s, wet_db)
    room = measure_room([(wet, dereverb(wet, RATE_HZ, 1.0))], RATE_HZ)
    assert room is not None
    assert np.median(room.t60_s) == pytest.approx(t60_s, rel=0.45)


def test_what_was_taken_out_is_given_back_as_loud() -> None:
    wet = in_room(DRY, 0.6, -3.0)
    dry = dereverb(wet, RATE_HZ, 1.0)
    room = measure_room([(wet, dry)], RATE_HZ)
    assert room is not None
    back = give_room(dry, room, RATE_HZ, 1.0)
    assert level_db(back - dry) == pytest.approx(level_db(wet - dry), abs=1.5)
    assert level_db(give_room(dry, room, RATE_HZ, 0.5) - dry) == pytest.approx(
        level_db(back - dry) - 6.02, abs=0.05
    )
    # Another noise for each ear: the room is wide.
    ambience = back - dry
    assert abs(np.corrcoef(ambience)[0, 1]) < 0.5
    assert give_room(dry, room, RATE_HZ, 0.0) is dry


def test_the_room_given_is_the_same_each_time_and_comes_after_the_sound() -> None:
    room = Room((0.5,) * 6, (0.1,) * 6, -10.0)
    click = np.zeros((2, RATE_HZ), dtype=np.float32)
    click[:, 1000] = 0.5
    back = give_room(click, room, RATE_HZ, 1.0)
    assert back.tobytes() == give_room(click, room, RATE_HZ, 1.0).tobytes()
    assert np.abs(back[:, :1000]).max() < 1e-6
    assert level_db(back - click) == pytest.approx(level_db(click) - 10.0, abs=0.5)


def test_no_room_where_nothing_was_taken_out() -> None:
    dry = DRY.astype(np.float32)
    assert measure_room([(dry, dry), (dry, dry.copy())], RATE_HZ) is None
