"""A file that can't be worked on is refused with its name, what is wrong, and what to do."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.audio import probe, read
from bridge.container import incomplete_reason
from bridge.errors import IncompleteError, InputError

RATE = 48000
FORMATS = {
    "wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "extensible.wav": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_24"),
    "float.aiff": ("AIFF", "FLOAT"),
    "flac": ("FLAC", "PCM_24"),
    "caf": ("CAF", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def noise(seconds: float = 1.0, channels: int = 2, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (int(seconds * rate), channels))


def write(folder: Path, kind: str, data: np.ndarray | None = None, rate: int = RATE) -> Path:
    path = folder / f"song.{kind}"
    container, subtype = FORMATS[kind]
    soundfile.write(path, noise() if data is None else data, rate, format=container, subtype=subtype)
    return path


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        probe(path)
    assert path.name in caught.value.message
    assert caught.value.message.endswith(".")
    return caught.value


@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_file_of_each_format_is_accepted(tmp_path: Path, kind: str) -> None:
    info = probe(write(tmp_path, kind))
    assert (info.sample_rate_hz, info.channels, info.frames) == (RATE, 2, RATE)
    assert info.is_float == (kind.startswith("float") or kind in ("ogg", "mp3"))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.97])
def test_a_file_cut_off_is_incomplete_wherever_it_is_cut(tmp_path: Path, kind: str, part: float) -> None:
    path = write(tmp_path, kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    is_header_gone = kind == "mp3" and part < 0.5  # so little of an MP3 is no audio at all
    assert isinstance(refusal(path), InputError if is_header_gone else IncompleteError)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_still_being_written_is_incomplete(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"song.{kind}"
    container, subtype = FORMATS[kind]
    with soundfile.SoundFile(path, "w", RATE, 2, subtype=subtype, format=container) as file:
        file.write(noise())
        file.flush()
        assert isinstance(refusal(path), IncompleteError)
    assert probe(path).frames == RATE


@pytest.mark.parametrize("kind", ["wav", "rf64", "aiff", "w64"])
def test_one_missing_byte_is_noticed(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:-1])
    assert incomplete_reason(path)


def test_a_header_that_covers_only_a_part_is_stale(tmp_path: Path) -> None:
    path = write(tmp_path, "wav", noise(0.6))
    with path.open("ab") as file:
        file.write(b"\1" * 50_000)
    assert "covers only" in refusal(path).message


def test_a_total_size_never_filled_in_is_stale(tmp_path: Path) -> None:
    path = write(tmp_path, "wav")
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", len(content) + 100_000)
    path.write_bytes(content)
    assert isinstance(refusal(path), IncompleteError)


def test_a_tag_behind_the_audio_does_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, "wav")
    with path.open("ab") as file:
        file.write(b"TAG" + bytes(125))
    assert probe(path).frames == RATE


@pytest.mark.parametrize("size", [3_000, 50_000_000])
def test_a_preallocated_file_is_incomplete_and_costs_no_time(tmp_path: Path, size: int) -> None:
    empty, headed = tmp_path / "empty.wav", tmp_path / "headed.wav"
    empty.touch()
    headed.write_bytes(b"RIFF" + struct.pack("<I", size) + b"WAVE")
    for path in (empty, headed):
        os.truncate(path, size)
        assert isinstance(refusal(path), IncompleteError)


def test_an_empty_file_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.touch()
    assert refusal(path).code == "empty"


@pytest.mark.parametrize("kind", ["wav", "rf64", "aiff", "flac"])
def test_a_header_alone_is_incomplete(tmp_path: Path, kind: str) -> None:
    assert isinstance(refusal(write(tmp_path, kind, noise(0.0))), IncompleteError)


@pytest.mark.parametrize("text", ["no audio", "This is a text, and a longer one than any header.\n" * 100])
def test_a_text_named_wav_is_no_audio(tmp_path: Path, text: str) -> None:
    path = tmp_path / "song.wav"
    path.write_text(text)
    error = refusal(path)
    assert error.code == "unreadable" and "Use one of: wav" in error.message


def test_less_than_half_a_second_is_too_short(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, "wav", noise(0.3)))
    assert error.code == "too_short" and "0.30 s" in error.message


def test_six_channels_are_refused(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, "wav", noise(channels=6)))
    assert error.code == "channels" and "6 channels" in error.message


def test_96_khz_8_bit_mono_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, noise(channels=1, rate=96000), 96000, subtype="PCM_U8")
    info = probe(path)
    assert (info.sample_rate_hz, info.channels, info.frames) == (96000, 1, 96000)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.wav").code == "missing"
    assert refusal(tmp_path).code == "not_a_file"
    assert refusal(tmp_path / ("n" * 300 + ".wav")).code == "unreadable"


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "wav")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def denied(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("bridge.audio.incomplete_reason", denied)
    assert refusal(path).code == "permission"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    data = noise()
    data[1000, 1] = bad
    path = write(tmp_path, "float.wav", data)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == "not_finite" and "1 samples" in caught.value.message


@pytest.mark.parametrize("name", ["🎵 Lied.wav", "a b  c.wav", "..song..wav", "-rf.wav", "ütf.wav"])
def test_odd_names_do_no_harm(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "wav").rename(tmp_path / name)
    assert probe(path).frames == RATE


@pytest.mark.skipif(os.name == "nt", reason="Windows names are always text")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"song\xff.wav")
    try:
        write(tmp_path, "wav").rename(path)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(InputError, match="not valid text") as caught:
        probe(path)
    caught.value.message.encode("utf-8")
