"""Names of bounces are read right, and names of returned folders are safe everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.names import bpm_in_name, name_trouble, printable, role_in_name, song_folder_name


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Song_vox.wav", "vocals"),
        ("Song_VOCALS.flac", "vocals"),
        ("Song - Drums.wav", "drums"),
        ("Bass.wav", "bass"),
        ("Song_bass_120bpm.wav", "bass"),
        ("Song_other.aif", "other"),
        ("Song-mix.wav", "mix"),
        ("Song.wav", None),
        ("All About That Bass.wav", None),  # a title, not a part
        ("Drumsong.wav", None),
        ("vocals_take2.wav", None),
    ],
)
def test_role_in_name(name: str, role: str | None) -> None:
    assert role_in_name(name) == role


@pytest.mark.parametrize(
    ("name", "bpm"),
    [
        ("Song_120bpm.wav", 120.0),
        ("Song 97.5 BPM.wav", 97.5),
        ("Song-128BPM-v2.wav", 128.0),
        ("Song (140 bpm).wav", 140.0),
        ("97,5bpm.wav", 97.5),
        ("Song120bpm.wav", None),  # "Song1" at 20 or "Song" at 120?
        ("Song.wav", None),
        ("Song_120.wav", None),
        ("Song_1200bpm.wav", None),
        ("120bpmless.wav", None),
    ],
)
def test_bpm_in_name(name: str, bpm: float | None) -> None:
    assert bpm_in_name(name) == bpm


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Song.wav", "Song"),
        ("My Song (final) v1.2.flac", "My Song (final) v1.2"),
        ("Song_120bpm.wav", "Song"),
        ("Song_120bpm_vox.wav", "Song_vox"),
        ("Song (140 BPM) v2.wav", "Song v2"),
        ("Song120bpm.wav", "Song120"),
        ("Lied für Ände.wav", "Lied fur Ande"),
        ("Song 🎵.wav", "Song"),
        ("Take #3.wav", "Take _3"),
        ("..", "song"),
        ("..song...wav", "song"),
        ("../../etc/passwd.wav", "passwd"),
        (".wav", "wav"),
        ("CON.wav", "song_CON"),
        ("nul.x.wav", "song_nul.x"),
        ("🎵.wav", "song"),
        ("120bpm.wav", "song"),
    ],
)
def test_song_folder_name(name: str, folder: str) -> None:
    assert song_folder_name(name) == folder


@pytest.mark.parametrize("raw", ["bad\udcff.wav", "half \ud83c.wav"])
def test_what_is_no_text_in_a_name_is_shown_and_named_as_trouble(raw: str) -> None:
    assert printable(raw).isascii() and printable(raw).endswith(".wav")
    trouble = name_trouble(Path(raw))
    assert trouble is not None and trouble.startswith(printable(raw)) and "Rename it" in trouble


@pytest.mark.parametrize("name", ["Song.wav", "🎵 Lied ü.wav", "a\\xff.wav"])
def test_a_name_that_is_text_is_shown_as_it_is(name: str) -> None:
    assert printable(name) == name and name_trouble(Path(name)) is None


def test_songs_named_in_another_script_stay_apart() -> None:
    assert song_folder_name("夜.wav") != song_folder_name("朝.wav")
    assert re.fullmatch(r"song-[0-9a-f]{6}", song_folder_name("夜.wav"))


@given(st.text(max_size=300))
def test_any_name_gives_a_safe_folder_name(name: str) -> None:
    folder = song_folder_name(name)
    assert re.fullmatch(r"[A-Za-z0-9()+][A-Za-z0-9 ._()+-]{0,84}", folder)
    assert ".." not in folder and not folder.endswith((" ", "."))
    assert bpm_in_name(folder) is None
    assert song_folder_name(name) == folder
