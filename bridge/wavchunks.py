"""The chunks of a WAV or RF64 that say where it stands and what made it: bext, acid, LIST/INFO.

Reading is tolerant: a damaged chunk counts as absent. Writing gives the same bytes each time, since
dates are passed in, and replaces the file whole.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from bridge.atomic import replacing
from bridge.container import RF64_SEE_DS64, Chunk, chunks, layout_of

ORIGINATOR = "dawbridge"
"""Stands in bext and ISFT of every file we return; a watched folder never takes such a file."""

MAX_TEXT_CHUNK_BYTES = 1 << 20
COPY_BYTES = 1 << 20
RIFF_MAX_BYTES = 0xFFFFFFFF

# EBU Tech 3285: description, originator, reference, date, time, TimeReference, version, UMID,
# five loudness values, reserved; a coding history may follow.
BEXT = struct.Struct("<256s32s32s10s8sQH64s10s180s")
BEXT_VERSION = 1
# flags, root note, unknown, unknown, beats, metre denominator, metre numerator, tempo.
ACID = struct.Struct("<IhhfIhhf")
ACID_ONE_SHOT = 1
DS64 = struct.Struct("<QQQI")


@dataclass(frozen=True)
class Bext:
    """The broadcast extension: texts are ASCII and cut to the widths of EBU Tech 3285."""

    description: str = ""  # at most 256 characters
    originator: str = ""  # at most 32
    reference: str = ""  # at most 32
    date: str = ""  # YYYY-MM-DD
    time: str = ""  # HH:MM:SS
    start_frames: int = 0  # TimeReference: frames from the timeline's zero, at the file's own rate


@dataclass(frozen=True)
class Acid:
    """What a loop library or DAW says of a file's tempo."""

    is_one_shot: bool
    beats: int
    beats_per_bar: int
    beat_unit: int
    bpm: float | None  # None for a one-shot, and where the chunk holds no tempo


@dataclass(frozen=True)
class WavFacts:
    """What the chunks of one file say."""

    bext: Bext | None = None
    acid: Acid | None = None
    info: Mapping[str, str] = field(default_factory=dict)  # e.g. {"ISFT": "REAPER"}


def read_facts(path: Path) -> WavFacts:
    """The facts of a WAV or RF64; nothing for other files."""
    bext: Bext | None = None
    acid: Acid | None = None
    info: dict[str, str] = {}
    with path.open("rb") as file:
        for chunk in _wav_chunks(file):
            if chunk.tag == b"bext":
                bext = _parse_bext(_content(file, chunk))
            elif chunk.tag == b"acid":
                acid = _parse_acid(_content(file, chunk))
            elif chunk.tag == b"LIST":
                info.update(_parse_info(_content(file, chunk)))
    return WavFacts(bext, acid, info)


def made_by_us(path: Path) -> bool:
    """Whether the file's bext or ISFT says that dawbridge made it."""
    facts = read_facts(path)
    names = (facts.bext.originator if facts.bext else "", facts.info.get("ISFT", ""))
    return any(name.startswith(ORIGINATOR) for name in names)


def tag_wav(path: Path, bext: Bext, software: str) -> None:
    """Put `bext` and LIST/INFO ISFT right behind the format chunk, in place of earlier ones.

    The samples are copied as they are; a RIFF that would pass 4 GB becomes RF64. Other chunks stay.

    Raises:
        ValueError: the file is no WAV or RF64 with a format and an audio chunk.
    """
    with path.open("rb") as source:
        kept = [c for c in _wav_chunks(source) if not _is_replaced(source, c)]
        if not {b"fmt ", b"data"} <= {chunk.tag for chunk in kept}:
            raise ValueError(f"{path} is no WAV file that can be tagged.")
        ours = [(b"bext", _pack_bext(bext)), (b"LIST", _pack_info({"ISFT": software}))]
        with replacing(path) as target:
            _write_header(source, target, kept, ours)
            for chunk in kept:
                _copy_chunk(source, target, chunk)
                if chunk.tag == b"fmt ":
                    for tag, content in ours:
                        target.write(tag + struct.pack("<I", len(content)) + content)


def _wav_chunks(file: BinaryIO) -> Iterator[Chunk]:
    layout = layout_of(file)
    file.seek(8)
    if layout and file.read(4) == b"WAVE":
        yield from chunks(file, layout)


def _content(file: BinaryIO, chunk: Chunk) -> bytes:
    file.seek(chunk.start)
    return file.read(min(chunk.length, MAX_TEXT_CHUNK_BYTES))


def _parse_bext(content: bytes) -> Bext | None:
    if len(content) < BEXT.size:
        return None
    *texts, start_frames, _version, _umid, _loudness, _reserved = BEXT.unpack_from(content)
    description, originator, reference, date, time = map(_text, texts)
    return Bext(description, originator, reference, date, time, start_frames)


def _parse_acid(content: bytes) -> Acid | None:
    if len(content) < ACID.size:
        return None
    flags, _root, _, _, beats, beat_unit, beats_per_bar, bpm = ACID.unpack_from(content)
    is_one_shot = bool(flags & ACID_ONE_SHOT)
    has_tempo = not is_one_shot and math.isfinite(bpm) and bpm > 0
    return Acid(is_one_shot, beats, beats_per_bar, beat_unit, bpm if has_tempo else None)


def _parse_info(content: bytes) -> dict[str, str]:
    if content[:4] != b"INFO":
        return {}
    info: dict[str, str] = {}
    at = 4
    while at + 8 <= len(content):
        tag, length = struct.unpack_from("<4sI", content, at)
        info[tag.decode("latin-1")] = _text(content[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return info


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip()


def _pack_bext(bext: Bext) -> bytes:
    texts = (bext.description, bext.originator, bext.reference, bext.date, bext.time)
    raw = (text.encode("ascii", "replace") for text in texts)  # struct cuts and pads to the widths
    return BEXT.pack(*raw, bext.start_frames, BEXT_VERSION, b"", b"", b"")


def _pack_info(info: Mapping[str, str]) -> bytes:
    packed = b"INFO"
    for tag, text in info.items():
        raw = text.encode("ascii", "replace") + b"\0"
        packed += tag.encode("ascii") + struct.pack("<I", len(raw)) + raw + b"\0" * (len(raw) % 2)
    return packed


def _is_replaced(file: BinaryIO, chunk: Chunk) -> bool:
    if chunk.tag == b"LIST":
        file.seek(chunk.start)
        return file.read(4) == b"INFO"
    return chunk.tag in (b"bext", b"ds64")


def _write_header(
    source: BinaryIO, target: BinaryIO, kept: list[Chunk], ours: list[tuple[bytes, bytes]]
) -> None:
    sizes = [chunk.length for chunk in kept] + [len(content) for _, content in ours]
    total = 4 + sum(8 + size + size % 2 for size in sizes)
    source.seek(0)
    if source.read(4) == b"RIFF" and total <= RIFF_MAX_BYTES:
        target.write(b"RIFF" + struct.pack("<I", total) + b"WAVE")
        return
    chunk_of = {chunk.tag: chunk for chunk in kept}
    source.seek(chunk_of[b"fmt "].start + 12)
    (block_bytes,) = struct.unpack("<H", source.read(2))
    data_bytes = chunk_of[b"data"].length
    ds64 = DS64.pack(total + 8 + DS64.size, data_bytes, data_bytes // max(1, block_bytes), 0)
    target.write(b"RF64" + struct.pack("<I", RF64_SEE_DS64) + b"WAVE")
    target.write(b"ds64" + struct.pack("<I", len(ds64)) + ds64)


def _copy_chunk(source: BinaryIO, target: BinaryIO, chunk: Chunk) -> None:
    source.seek(chunk.start - 8)
    target.write(source.read(8))
    remaining = chunk.length
    while remaining and (block := source.read(min(remaining, COPY_BYTES))):
        target.write(block)
        remaining -= len(block)
    target.write(b"\0" * (chunk.length % 2))
