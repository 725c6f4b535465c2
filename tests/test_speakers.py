"""One speaker or two, by their embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.voices.speakers import embed, judge, likeness
from tests.flite_speech import FEMALE, MALE, RATE_HZ, SENTENCES, spoken

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_one_speaker_is_one_and_two_are_two() -> None:
    male = embed(spoken(MALE, SENTENCES[:5]), RATE_HZ)
    female = embed(spoken(FEMALE, SENTENCES[:5]), RATE_HZ)
    assert not judge(male).several
    assert not judge(female).several
    both = judge(np.concatenate([male, female]))
    assert both.several
    assert both.smaller_share > 0.4
    assert likeness(male, female) < 0.75 < likeness(male[::2], male[1::2])


def test_a_single_piece_is_one_speaker() -> None:
    assert not judge(embed(spoken(MALE, SENTENCES[:1], 0.1), RATE_HZ, piece_s=20.0)).several
