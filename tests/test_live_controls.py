"""The controls know the same parts and scales as the model, and refuse what it would refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.errors import UsageError
from bridge.live.controls import FIELDS, KEY_CHOICES, PARTS, SCALES, Controls, check, is_key
from bridge.transformer import keys, parts


def test_parts_and_scales_are_those_of_the_model() -> None:
    assert parts.PARTS == PARTS
    assert tuple(keys.SCALES) == SCALES


def test_every_key_that_a_knob_reaches_is_one_that_the_model_takes() -> None:
    for name in KEY_CHOICES[2:]:
        assert is_key(name) and len(keys.scale_of(name)) == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"part": "kazoo"}, '"kazoo" is no part'),
        ({"part": "piano, kazoo"}, '"kazoo" is no part'),
        ({"key": "H minor"}, '"H minor" is no key'),
        ({"key": "A locrian"}, '"A locrian" is no key'),
        ({"low": 80, "high": 60}, "low = 80 lies above high = 60"),
    ],
)
def test_what_no_single_range_can_tell_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(replace(Controls(), **changes))  # type: ignore[arg-type]


def test_several_parts_have_channels_of_their_own_and_drums_the_tenth() -> None:
    controls = Controls(part="piano, bass, drums, strings", channel=9)
    assert [controls.channel_of(part) for part in ("piano", "bass", "drums", "strings")] == [8, 10, 9, 11]
    assert Controls(channel=3).channel_of("lead") == 2


def test_every_control_says_what_it_is() -> None:
    assert all(field.metadata["help"] for field in FIELDS.values())
