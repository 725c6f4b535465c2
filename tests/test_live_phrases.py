"""What the musician plays becomes notes in beats; nothing hangs, and the order of onsets holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.live import wire
from bridge.live.phrases import LONGEST_NOTE_BEATS, PhraseListener
from bridge.types import Note

PEDAL = 64


def on(pitch: int = 60, velocity: int = 100, channel: int = 0) -> bytes:
    return wire.note_on(channel, pitch, velocity)


def off(pitch: int = 60, channel: int = 0) -> bytes:
    return wire.note_off(channel, pitch)


def test_a_key_becomes_a_note_with_its_velocity_and_length() -> None:
    listener = PhraseListener("lead")
    assert listener.hear(on(64, 90), 1.0)
    assert not listener.hear(off(64), 1.75)
    assert listener.take_settled() == [Note(1.0, 0.75, 64, 90, "lead")]


def test_channel_ten_is_the_drums() -> None:
    listener = PhraseListener("lead")
    listener.hear(on(36, channel=9), 0.0)
    listener.hear(off(36, channel=9), 0.1)
    assert listener.take_settled()[0].part == "drums"


def test_a_note_on_of_velocity_zero_ends_a_note() -> None:
    listener = PhraseListener()
    listener.hear(on(), 0.0)
    listener.hear(bytes((0x90, 60, 0)), 1.0)
    assert [note.length_beats for note in listener.take_settled()] == [1.0]


def test_the_pedal_holds_a_note_beyond_its_key() -> None:
    listener = PhraseListener()
    listener.hear(wire.control(0, PEDAL, 127), 0.0)
    listener.hear(on(), 0.0)
    listener.hear(off(), 0.5)
    assert listener.keys_down == 0 and listener.take_settled() == []
    listener.hear(wire.control(0, PEDAL, 0), 3.0)
    assert [note.length_beats for note in listener.take_settled()] == [3.0]


def test_a_rest_counts_from_the_last_key_and_not_from_the_pedal() -> None:
    listener = PhraseListener()
    listener.hear(wire.control(0, PEDAL, 127), 0.0)
    listener.hear(on(), 0.0)
    assert not listener.is_resting(4.0, 0.5)
    listener.hear(off(), 1.0)
    assert listener.is_resting(1.5, 0.5) and not listener.is_resting(1.4, 0.5)


def test_a_note_struck_again_under_the_pedal_is_two_notes() -> None:
    listener = PhraseListener()
    listener.hear(wire.control(0, PEDAL, 127), 0.0)
    for beat in (0.0, 1.0):
        listener.hear(on(), beat)
        listener.hear(off(), beat + 0.25)
    listener.hear(wire.control(0, PEDAL, 0), 2.0)
    assert [(n.start_beats, n.length_beats) for n in listener.take_settled()] == [(0.0, 1.0), (1.0, 1.0)]


def test_a_key_that_hangs_is_let_go_after_the_longest_note() -> None:
    listener = PhraseListener()
    listener.hear(on(), 0.0)
    listener.close_hanging(LONGEST_NOTE_BEATS)
    assert listener.keys_down == 1
    listener.close_hanging(LONGEST_NOTE_BEATS + 0.1)
    assert listener.keys_down == 0
    assert [note.length_beats for note in listener.take_settled()] == [LONGEST_NOTE_BEATS]


def test_a_note_waits_for_an_earlier_one_that_still_sounds() -> None:
    listener = PhraseListener()
    listener.hear(on(48), 0.0)
    listener.hear(on(60), 1.0)
    listener.hear(off(60), 2.0)
    assert listener.take_settled() == []
    listener.hear(off(48), 4.0)
    assert [note.pitch for note in listener.take_settled()] == [48, 60]
    assert listener.take_settled() == []


def test_all_notes_off_from_the_daw_lets_go_of_that_channel() -> None:
    listener = PhraseListener()
    listener.hear(on(60), 0.0)
    listener.hear(on(62, channel=1), 0.0)
    listener.hear(wire.control(0, wire.ALL_NOTES_OFF, 0), 1.0)
    assert listener.keys_down == 1


def test_a_note_off_without_a_note_on_is_nothing() -> None:
    listener = PhraseListener()
    listener.hear(off(), 1.0)
    assert listener.take_settled() == [] and listener.last_end_beats == 0.0


messages = st.one_of(
    st.builds(
        lambda p, v, c: wire.note_on(c, p, v), st.integers(55, 65), st.integers(0, 127), st.integers(0, 2)
    ),
    st.builds(lambda p, c: wire.note_off(c, p), st.integers(55, 65), st.integers(0, 2)),
    st.builds(lambda n, v: wire.control(0, n, v), st.sampled_from([64, 120, 123, 1]), st.integers(0, 127)),
)


@given(st.lists(st.tuples(messages, st.floats(0.0, 5.0)), max_size=80))
def test_every_note_on_becomes_exactly_one_note_in_the_order_of_onsets(
    played: list[tuple[bytes, float]],
) -> None:
    listener = PhraseListener()
    beat, told = 0.0, []
    for message, later in played:
        beat += later
        listener.close_hanging(beat)
        listener.hear(message, beat)
        told += listener.take_settled()
    listener.release(beat + 1.0)
    told += listener.take_settled()
    assert len(told) == sum(wire.is_note_on(message) for message, _ in played)
    onsets = [note.start_beats for note in told]
    assert onsets == sorted(onsets)
    assert all(0 < note.length_beats <= LONGEST_NOTE_BEATS for note in told)
    assert listener.keys_down == 0


def test_single_notes_are_a_lead_and_chords_a_piano_until_told_otherwise() -> None:
    listener = PhraseListener()
    for beat in range(4):
        listener.hear(on(60 + beat), float(beat))
        listener.hear(off(60 + beat), beat + 1.02)  # legato is no chord
    assert listener.own_part == "lead"
    for pitch in (60, 64, 67):
        listener.hear(on(pitch), 5.0 + pitch / 10_000)
    assert listener.own_part == "piano"
    assert PhraseListener("bass").own_part == "bass"


def test_the_density_of_a_phrase_counts_from_its_first_note_to_its_last_key() -> None:
    listener = PhraseListener()
    listener.begin_phrase()
    for beat in (8.0, 8.5, 9.0, 10.0):
        listener.hear(on(), beat)
        listener.hear(off(), beat + 0.5)
    assert listener.notes_per_beat == 4 / 2.5
