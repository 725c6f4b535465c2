"""Bytes from a port become whole messages, whatever arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.live import wire

NOTE = bytes((0x90, 60, 100))


def feed(*chunks: bytes) -> list[bytes]:
    reader = wire.Reader()
    return [message for chunk in chunks for message in reader.feed(chunk)]


def test_running_status_repeats_the_last_channel_status() -> None:
    assert feed(NOTE + bytes((64, 90)), bytes((67, 80))) == [
        NOTE,
        bytes((0x90, 64, 90)),
        bytes((0x90, 67, 80)),
    ]


def test_running_status_ends_with_a_system_message() -> None:
    assert feed(NOTE, wire.song_position(5), bytes((64, 90))) == [NOTE, wire.song_position(5)]


def test_a_message_in_two_halves_is_one_message() -> None:
    assert feed(NOTE[:2], NOTE[2:]) == [NOTE]


def test_half_a_message_is_dropped_and_counted() -> None:
    reader = wire.Reader()
    assert reader.feed(NOTE[:2] + NOTE) == [NOTE]
    assert reader.broken == 1


def test_clock_ticks_inside_a_message_come_out_and_do_not_break_it() -> None:
    assert feed(bytes((0x90, 0xF8, 60, 0xF8, 100))) == [b"\xf8", b"\xf8", NOTE]


def test_a_megabyte_of_sysex_is_passed_over_without_being_kept() -> None:
    reader = wire.Reader()
    assert reader.feed(b"\xf0" + bytes(1 << 20) + b"\xf7" + NOTE) == [NOTE]
    assert reader.sysex_bytes == 1 << 20


def test_sysex_that_never_ends_is_ended_by_the_next_status() -> None:
    assert feed(b"\xf0\x01\x02", NOTE) == [NOTE]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_give_only_whole_messages(chunks: list[bytes]) -> None:
    for message in feed(*chunks):
        assert message[0] >= 0x80
        assert all(byte < 0x80 for byte in message[1:])
        if message[0] < 0xF8:
            kind = message[0] & 0xF0 if message[0] < 0xF0 else message[0]
            assert len(message) == 1 + wire.DATA_BYTES[kind]


@given(st.lists(st.binary(max_size=12), max_size=20))
def test_how_bytes_are_cut_into_chunks_does_not_matter(chunks: list[bytes]) -> None:
    assert feed(*chunks) == feed(b"".join(chunks))


def test_everything_off_begins_with_no_sound_and_no_notes_on_all_channels() -> None:
    first = wire.everything_off()[:32]
    assert {(message[0] & 0x0F, message[1]) for message in first} == {
        (channel, number) for channel in range(16) for number in (120, 123)
    }


@pytest.mark.parametrize(
    ("sixteenths", "data"), [(0, (0, 0)), (16, (16, 0)), (200, (72, 1)), (99_999, (127, 127))]
)
def test_song_position_is_fourteen_bits_low_first(sixteenths: int, data: tuple[int, int]) -> None:
    assert wire.song_position(sixteenths) == bytes((0xF2, *data))
