"""Chunks say where a file stands; putting them in changes no sample and nothing else."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from bridge import wavchunks
from bridge.container import Chunk, chunks, incomplete_reason, layout_of
from bridge.wavchunks import Bext, made_by_us, read_facts, tag_wav

RATE = 48000
BEXT = Bext(
    description="dawbridge job 1a2b, vocals, synthetic voice: no",
    originator="dawbridge",
    reference="1a2b",
    date="2026-11-22",
    time="10:00:00",
    start_frames=3 * 2**32 + 7,
)


def noise(channels: int = 2, frames: int = RATE) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (frames, channels))


def write(
    path: Path, *, container: str = "WAV", subtype: str = "PCM_24", channels: int = 2, frames: int = RATE
) -> Path:
    soundfile.write(path, noise(channels, frames), RATE, format=container, subtype=subtype)
    return path


def chunks_of(path: Path) -> dict[bytes, Chunk]:
    with path.open("rb") as file:
        layout = layout_of(file)
        assert layout
        return {chunk.tag: chunk for chunk in chunks(file, layout)}


def with_chunk(path: Path, tag: bytes, content: bytes) -> Path:
    """Put a chunk at the end, as many programs do."""
    raw = bytearray(path.read_bytes())
    raw += tag + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    raw[4:8] = struct.pack("<I", len(raw) - 8)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("container", "subtype", "channels", "frames"),
    [
        ("WAV", "PCM_24", 2, RATE),
        ("WAV", "PCM_24", 1, RATE - 1),  # an odd number of bytes, so the data chunk is padded
        ("WAV", "FLOAT", 2, RATE),
        ("WAVEX", "PCM_16", 2, RATE),
        ("RF64", "FLOAT", 2, RATE),
        ("RF64", "PCM_24", 1, RATE - 1),
    ],
)
def test_tagging_keeps_every_sample_and_the_container_whole(
    tmp_path: Path, container: str, subtype: str, channels: int, frames: int
) -> None:
    path = write(tmp_path / "a.wav", container=container, subtype=subtype, channels=channels, frames=frames)
    before, _ = soundfile.read(path)
    tag_wav(path, BEXT, "dawbridge 0.1.0")
    after, rate = soundfile.read(path)
    assert rate == RATE and np.array_equal(before, after)
    assert incomplete_reason(path) is None
    assert soundfile.info(path).subtype == subtype
    assert read_facts(path) == wavchunks.WavFacts(BEXT, None, {"ISFT": "dawbridge 0.1.0"})
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"]


def test_bext_follows_the_format_and_stands_before_the_audio(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    tag_wav(path, BEXT, "dawbridge 0.1.0")
    tags = list(chunks_of(path))
    assert tags[:3] == [b"fmt ", b"bext", b"LIST"] and tags.index(b"bext") < tags.index(b"data")
    assert chunks_of(path)[b"bext"].length == 602
    assert struct.unpack("<I", path.read_bytes()[4:8])[0] == path.stat().st_size - 8


def test_libsndfile_reads_the_software_that_we_wrote(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    tag_wav(path, BEXT, "dawbridge 0.1.0")
    with soundfile.SoundFile(path) as file:
        assert file.software == "dawbridge 0.1.0"


def test_tagging_twice_replaces_and_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    tag_wav(path, BEXT, "dawbridge 0.1.0")
    once = path.read_bytes()
    tag_wav(path, Bext(originator="someone else"), "other 2")
    tag_wav(path, BEXT, "dawbridge 0.1.0")
    assert path.read_bytes() == once


def test_other_chunks_stay(tmp_path: Path) -> None:
    path = with_chunk(write(tmp_path / "a.wav"), b"iXML", b"<x/>!")
    path = with_chunk(path, b"LIST", b"adtlfoo ")
    tag_wav(path, BEXT, "dawbridge 0.1.0")
    assert incomplete_reason(path) is None
    ixml = chunks_of(path)[b"iXML"]
    assert path.read_bytes()[ixml.start : ixml.start + ixml.length] == b"<x/>!"
    assert path.read_bytes().count(b"adtlfoo ") == 1


def test_a_wav_that_would_pass_the_limit_becomes_rf64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.wav")
    before, _ = soundfile.read(path)
    monkeypatch.setattr(wavchunks, "RIFF_MAX_BYTES", 1000)
    tag_wav(path, BEXT, "dawbridge 0.1.0")
    assert path.read_bytes()[:4] == b"RF64"
    assert incomplete_reason(path) is None
    assert soundfile.info(path).frames == RATE
    after, _ = soundfile.read(path)
    assert np.array_equal(before, after)


def test_texts_are_cut_to_their_width_and_made_ascii(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    tag_wav(path, Bext(description="ü" + "x" * 300, originator="o" * 40), "dawbrüdge")
    facts = read_facts(path)
    assert facts.bext and facts.bext.description == "?" + "x" * 255 and facts.bext.originator == "o" * 32
    assert facts.info == {"ISFT": "dawbr?dge"}


def test_what_cannot_be_tagged_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", container="FLAC")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no WAV file"):
        tag_wav(path, BEXT, "dawbridge 0.1.0")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.flac"]


def acid(flags: int, bpm: float) -> bytes:
    return struct.pack("<IhhfIhhf", flags, 60, -32768, 0.0, 16, 4, 3, bpm)


def test_acid_tells_tempo_and_metre(tmp_path: Path) -> None:
    found = read_facts(with_chunk(write(tmp_path / "a.wav"), b"acid", acid(2, 93.5))).acid
    assert found == wavchunks.Acid(False, beats=16, beats_per_bar=3, beat_unit=4, bpm=93.5)


@pytest.mark.parametrize(
    ("flags", "bpm"), [(1, 120.0), (0, 0.0), (0, float("nan")), (0, float("inf")), (0, -1.0)]
)
def test_a_one_shot_or_a_senseless_tempo_is_no_tempo(tmp_path: Path, flags: int, bpm: float) -> None:
    found = read_facts(with_chunk(write(tmp_path / "a.wav"), b"acid", acid(flags, bpm))).acid
    assert found and found.bpm is None


@pytest.mark.parametrize("container", ["FLAC", "AIFF", "W64", "OGG"])
def test_other_containers_tell_nothing(tmp_path: Path, container: str) -> None:
    subtype = "VORBIS" if container == "OGG" else "PCM_16"
    path = write(tmp_path / "a.bin", container=container, subtype=subtype)
    assert read_facts(path) == wavchunks.WavFacts()


def test_provenance_is_recognised_in_either_chunk(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    assert not made_by_us(path)
    tag_wav(path, Bext(originator="REAPER"), "REAPER 7")
    assert not made_by_us(path)
    tag_wav(path, Bext(originator="REAPER"), "dawbridge 0.1.0")
    assert made_by_us(path)
    tag_wav(path, Bext(originator="dawbridge"), "REAPER 7")
    assert made_by_us(path)


@given(content=st.binary(max_size=400), tag=st.sampled_from([b"bext", b"acid", b"LIST"]))
def test_damaged_chunks_count_as_absent(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, tag: bytes
) -> None:
    path = tmp_path_factory.mktemp("chunks") / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + tag + struct.pack("<I", 500) + content)
    facts = read_facts(path)
    assert facts.bext is None
