"""Continuations keep every promise, whatever the model wants: here it wants nothing sensible at all."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bridge.errors import InputError
from bridge.transformer.constraints import POLYPHONY, RANGES, Constraints, HarmonySpan
from bridge.transformer.keys import scale_of
from bridge.transformer.parts import PARTS
from bridge.transformer.sample import Metre, Sampling, continue_phrase, draw_value
from bridge.transformer.tokens import STEPS_PER_BEAT
from bridge.types import Note, Phrase
from tests.tiny_model import busy_decoder, tiny_decoder

MODEL = tiny_decoder()
FOUR = Metre(4.0)
PRIMER = Phrase(
    tuple(
        Note(beat / 2, 0.5, pitch, 90, part)
        for beat in range(16)
        for part, pitch in (("lead", 60 + beat % 5), ("bass", 36), ("drums", 42))
    ),
    8.0,
)


def steps(beats: float) -> float:
    return beats * STEPS_PER_BEAT


def check(phrase: Phrase, constraints: Constraints, bars: int, metre: Metre) -> None:
    """Everything that is promised of any continuation."""
    assert phrase.length_beats == bars * metre.bar_beats
    sounding: dict[str, list[Note]] = {}
    in_bar: Counter[tuple[str, int]] = Counter()
    for note in phrase.notes:
        assert note.part in (constraints.parts or {other.part for other in PRIMER.notes})
        assert 0 <= note.start_beats < phrase.length_beats
        assert note.length_beats > 0
        assert note.start_beats + note.length_beats <= phrase.length_beats + 1e-9
        assert steps(note.start_beats) == pytest.approx(round(steps(note.start_beats)))
        assert round(steps(note.start_beats)) % constraints.grid_steps == 0
        low, high = constraints.ranges.get(note.part, (0, 127))
        assert low <= note.pitch <= high
        assert 1 <= note.velocity <= 127
        in_bar[note.part, int(note.start_beats // metre.bar_beats)] += 1
        others = [
            other
            for other in sounding.get(note.part, [])
            if other.start_beats + other.length_beats > note.start_beats + 1e-9
        ]
        assert note.pitch not in [other.pitch for other in others]
        sounding[note.part] = [*others, note]
        assert len(sounding[note.part]) <= constraints.polyphony.get(note.part, 128)
        if note.part == "drums":
            continue
        if constraints.scale is not None:
            assert note.pitch % 12 in constraints.scale
        span = next(
            (
                span
                for span in constraints.harmony
                if span.start_beats <= note.start_beats < span.end_beats
                and (not span.parts or note.part in span.parts)
            ),
            None,
        )
        assert span is None or note.pitch % 12 in span.pitch_classes
    if constraints.most_notes_per_beat is not None:
        most = max(1, int(constraints.most_notes_per_beat * metre.bar_beats))
        assert max(in_bar.values(), default=0) <= most


classes = st.frozensets(st.integers(0, 11), min_size=1)
spans = st.builds(
    lambda start, length, pitch_classes, parts: HarmonySpan(
        start, start + length, pitch_classes, tuple(parts)
    ),
    st.integers(0, 8).map(float),
    st.integers(1, 8).map(float),
    classes,
    st.lists(st.sampled_from(PARTS), max_size=2),
)
ranges = st.fixed_dictionaries(
    {}, optional={part: st.tuples(st.integers(0, 70), st.integers(71, 127)) for part in PARTS}
)
constraint_sets = st.builds(
    Constraints,
    parts=st.lists(st.sampled_from(PARTS), min_size=1, unique=True).map(tuple),
    scale=st.none() | classes,
    ranges=ranges,
    polyphony=st.fixed_dictionaries({}, optional=dict.fromkeys(PARTS, st.integers(1, 4))),
    most_notes_per_beat=st.none() | st.floats(0.25, 4.0),
    harmony=st.lists(spans, max_size=3).map(tuple),
    grid_steps=st.sampled_from([1, 3, 4, 6, 8, 12, 24]),
)


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    constraints=constraint_sets,
    seed=st.integers(0, 2**31),
    bars=st.integers(1, 2),
    metre=st.sampled_from([FOUR, Metre(3.0), Metre(3.5), Metre(1.5), Metre(4.0, 1.25)]),
    temperature=st.floats(1.0, 3.0),
)
def test_any_set_of_constraints_holds_for_any_seed(
    constraints: Constraints, seed: int, bars: int, metre: Metre, temperature: float
) -> None:
    sampling = Sampling(temperature=temperature, top_p=1.0, min_p=0.0, seed=seed)
    try:
        phrase = continue_phrase(MODEL, PRIMER, bars, metre, constraints, sampling)
    except InputError as exc:
        assert "Nothing can be played" in str(exc)  # the set contradicts itself
        return
    check(phrase, constraints, bars, metre)


@pytest.mark.real
def test_ten_thousand_notes_none_out_of_scale_or_range() -> None:
    constraints = Constraints(parts=PARTS, scale=scale_of("F# minor"), grid_steps=6)
    model = busy_decoder()
    count = 0
    for seed in range(20):
        sampling = Sampling(temperature=2.0, top_p=1.0, min_p=0.0, seed=seed)
        phrase = continue_phrase(model, PRIMER, 64, FOUR, constraints, sampling)
        check(phrase, constraints, 64, FOUR)
        count += len(phrase.notes)
        if count >= 10_000:
            return
    pytest.fail(f"only {count} notes were written")


def test_the_same_seed_gives_the_same_notes_and_another_seed_others() -> None:
    first, again, other = (
        continue_phrase(MODEL, PRIMER, 4, FOUR, sampling=Sampling(seed=seed)) for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


def test_without_constraints_the_primers_parts_play_in_their_usual_ranges() -> None:
    phrase = continue_phrase(MODEL, PRIMER, 8, FOUR)
    check(phrase, Constraints(ranges=RANGES, polyphony=POLYPHONY), 8, FOUR)


def test_a_primer_that_ends_within_a_bar_is_continued_at_the_next_bar_line() -> None:
    late = Phrase(PRIMER.notes[:9], 5.5)
    spans = (HarmonySpan(0.0, 2.0, frozenset({1})), HarmonySpan(2.0, 99.0, frozenset({8})))
    phrase = continue_phrase(MODEL, late, 4, FOUR, Constraints(parts=("piano",), harmony=spans))
    assert phrase.notes
    for note in phrase.notes:
        assert note.pitch % 12 == (1 if note.start_beats < 2.0 else 8)


def test_a_silent_primer_needs_the_parts_named() -> None:
    with pytest.raises(InputError, match="holds no notes"):
        continue_phrase(MODEL, Phrase((), 8.0), 2, FOUR)
    phrase = continue_phrase(MODEL, Phrase((), 800.0), 2, FOUR, Constraints(parts=("piano",)))
    assert phrase.length_beats == 8.0


@pytest.mark.parametrize(
    ("bars", "sampling", "named"),
    [
        (0, Sampling(), "bars is 0"),
        (10_000, Sampling(), "bars is 10000"),
        (1, Sampling(temperature=0.0), "temperature is 0"),
        (1, Sampling(top_p=1.5), "top_p is 1.5"),
        (1, Sampling(min_p=-1), "min_p is -1"),
        (1, Sampling(seed=-1), "seed is -1"),
    ],
)
def test_a_setting_out_of_range_is_named(bars: int, sampling: Sampling, named: str) -> None:
    with pytest.raises(InputError, match=named):
        continue_phrase(MODEL, PRIMER, bars, FOUR, sampling=sampling)


@pytest.mark.parametrize(
    ("constraints", "named"),
    [
        (Constraints(parts=("kazoo",)), "kazoo"),
        (Constraints(ranges={"lead": (80, 60)}), "80-60 of lead"),
        (
            Constraints(parts=("lead",), scale=frozenset({0}), ranges={"lead": (61, 63)}),
            "Nothing can be played",
        ),
    ],
)
def test_constraints_that_make_no_sense_are_named(constraints: Constraints, named: str) -> None:
    with pytest.raises(InputError, match=named):
        continue_phrase(MODEL, PRIMER, 2, FOUR, constraints)


def test_an_unlikely_value_is_drawn_if_it_is_the_only_one_allowed() -> None:
    logits = np.zeros(5, np.float32)
    logits[3] = -1e4
    mask = np.array([False, False, False, True, False])
    random = np.random.default_rng(0)
    assert {draw_value(logits, mask, Sampling(top_p=0.1), random) for _ in range(50)} == {3}


def test_draws_follow_the_models_probabilities() -> None:
    p = np.array([0.5, 0.3, 0.15, 0.05])
    random = np.random.default_rng(0)
    all_allowed = np.ones(4, bool)
    free = Sampling(top_p=1.0, min_p=0.0)
    counts = Counter(draw_value(np.log(p), all_allowed, free, random) for _ in range(8_000))
    assert [counts[value] / 8_000 for value in range(4)] == pytest.approx(p, abs=0.02)
    assert {
        draw_value(np.log(p), all_allowed, Sampling(top_p=0.7, min_p=0.0), random) for _ in range(200)
    } == {0, 1}
    assert {
        draw_value(np.log(p), all_allowed, Sampling(top_p=1.0, min_p=0.2), random) for _ in range(200)
    } == {0, 1, 2}


@pytest.mark.parametrize("seed", range(12))
def test_an_opening_begins_with_a_note_in_time_and_then_may_rest(seed: int) -> None:
    constraints = Constraints(parts=("lead", "drums"), opening_steps=24)
    written = continue_phrase(MODEL, PRIMER, 4, FOUR, constraints, Sampling(seed=seed))
    assert min(note.start_beats for note in written.notes) <= 1.0


def test_an_opening_in_which_nobody_may_play_is_no_constraint() -> None:
    nobody = HarmonySpan(0.0, 8.0, frozenset())
    constraints = Constraints(parts=("lead",), opening_steps=24, harmony=(nobody,))
    written = continue_phrase(MODEL, PRIMER, 4, FOUR, constraints, Sampling(seed=1))
    assert all(note.start_beats >= 8.0 for note in written.notes)
