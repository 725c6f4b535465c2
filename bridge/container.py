"""Whether an audio file is whole by its own container: no size in its header may point past its end.

libsndfile opens a WAV that is cut in half or still growing without an error, hence this check. It
reads headers and decodes nothing, so a file of any size costs a few reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

MAX_CHUNKS = 4096
TOLERANCE_BYTES = 4096
"""Tags and padding around the audio chunk that some programs leave out of the total size."""

RF64_SEE_DS64 = 0xFFFFFFFF
FLAC_MARKER = b"fLaC"
FLAC_TOTAL_SAMPLES_BITS = 36
OGG_MARKER = b"OggS"
OGG_LAST_PAGE = 4  # a bit of the page's header type
OGG_MAX_PAGE_BYTES = 65307


@dataclass(frozen=True)
class Layout:
    """How a container writes its chunks."""

    first_byte: int  # where the first chunk begins
    tag_bytes: int  # of which the first four name the chunk
    size_bytes: int
    order: Literal["little", "big"]
    align: int  # chunks begin at multiples of this many bytes from each other
    audio_tag: bytes
    audio_header_bytes: int = 0  # inside the audio chunk, before the first sample
    total_at: tuple[int, int, int] | None = None  # offset and width of the total size, bytes it leaves out
    size_counts_header: bool = False

    @property
    def header_bytes(self) -> int:
        """Bytes before a chunk's content."""
        return self.tag_bytes + self.size_bytes


LAYOUTS = {
    b"RIFF": Layout(12, 4, 4, "little", 2, b"data", total_at=(4, 4, 8)),
    b"RF64": Layout(12, 4, 4, "little", 2, b"data"),  # its total stands in the ds64 chunk
    b"FORM": Layout(12, 4, 4, "big", 2, b"SSND", audio_header_bytes=8, total_at=(4, 4, 8)),
    b"riff": Layout(40, 16, 8, "little", 8, b"data", total_at=(16, 8, 0), size_counts_header=True),  # W64
    b"caff": Layout(8, 4, 8, "big", 1, b"data", audio_header_bytes=4),
}


@dataclass(frozen=True)
class Chunk:
    """One chunk of a file."""

    tag: bytes  # four bytes
    start: int  # the first byte of its content
    length: int  # bytes of content, as announced


def incomplete_reason(path: Path) -> str | None:
    """Why the container is incomplete by its own header, or None.

    Knows WAV, RF64, AIFF, W64, CAF, FLAC and Ogg. A FLAC that is cut off shows only when its last
    frame is decoded, and an MP3 has no header at all: `audio.probe` looks at the last frame of each.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(26)
        if len(head) < 26 and head[:4] in (*LAYOUTS, FLAC_MARKER, OGG_MARKER):
            return f"{size} bytes are less than any header"
        if not any(head):
            return "its header is not written yet"
        if head.startswith(FLAC_MARKER):
            return _flac_reason(head)
        if head.startswith(OGG_MARKER):
            return _ogg_reason(file, size)
        layout = LAYOUTS.get(head[:4])
        return _chunks_reason(file, head, layout, size) if layout else None


def layout_of(file: BinaryIO) -> Layout | None:
    """The layout of an open file, or None where it is not made of chunks."""
    file.seek(0)
    return LAYOUTS.get(file.read(4))


def chunks(file: BinaryIO, layout: Layout) -> Iterator[Chunk]:
    """The chunks in file order, up to the first that is none (e.g. a part not written yet).

    An RF64's data chunk is given the length that its ds64 chunk states.
    """
    size = file.seek(0, os.SEEK_END)
    position = layout.first_byte
    ds64_data_bytes: int | None = None
    for _ in range(MAX_CHUNKS):
        if position + layout.header_bytes > size:
            return
        file.seek(position)
        tag = file.read(layout.tag_bytes)[:4]
        length = int.from_bytes(file.read(layout.size_bytes), layout.order)
        if not (tag.isascii() and tag.decode("ascii").isprintable()):
            return
        if layout.size_counts_header:
            length = max(0, length - layout.header_bytes)
        if tag == b"ds64":
            ds64_data_bytes = int.from_bytes(file.read(16)[8:], "little")
        if tag == layout.audio_tag and length == RF64_SEE_DS64 and ds64_data_bytes is not None:
            length = ds64_data_bytes
        yield Chunk(tag, position + layout.header_bytes, length)
        position += layout.header_bytes + length
        position += -(position - layout.first_byte) % layout.align


def _chunks_reason(file: BinaryIO, head: bytes, layout: Layout, size: int) -> str | None:
    total: int | None = None
    if layout.total_at:
        offset, width, left_out = layout.total_at
        total = int.from_bytes(head[offset : offset + width], layout.order) + left_out
    for chunk in chunks(file, layout):
        if chunk.tag == b"ds64":
            file.seek(chunk.start)
            total = int.from_bytes(file.read(8), "little") + 8
        if chunk.tag == layout.audio_tag:
            return _audio_reason(chunk, layout, total, size)
    return "no audio chunk was found"


def _audio_reason(audio: Chunk, layout: Layout, total: int | None, size: int) -> str | None:
    there = size - audio.start
    if audio.length <= layout.audio_header_bytes:
        return "its header announces no audio yet"
    if audio.length > there:
        return f"its header announces {audio.length} bytes of audio, {there} are there"
    if total is None:
        return None
    if total > size + TOLERANCE_BYTES:
        return f"its header announces {total} bytes, {size} are there"
    if max(total, audio.start + audio.length) < size - TOLERANCE_BYTES:
        return f"its header covers only {max(total, audio.start + audio.length)} of {size} bytes"
    return None


def _flac_reason(head: bytes) -> str | None:
    # Marker 4, block header 4, block and frame sizes 10; then 20 bits rate, 3 channels, 5 depth, 36 total.
    total_samples = int.from_bytes(head[18:26], "big") & ((1 << FLAC_TOTAL_SAMPLES_BITS) - 1)
    return None if total_samples else "its header announces no audio yet"


def _ogg_reason(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - OGG_MAX_PAGE_BYTES))
    tail = file.read()
    page = tail[tail.rfind(OGG_MARKER) :]  # RFC 3533: type at byte 5, then at 26 the number of segments
    if len(page) > 27 and page[5] & OGG_LAST_PAGE:
        segments = page[27 : 27 + page[26]]
        if len(page) >= 27 + page[26] + sum(segments):
            return None
    return "its last page is missing"
