"""The ways in which DAWs, browsers and sync clients write an audio file, as real writers on a real disk.

Each takes a path, a source of chance and the settle time, writes with random pauses, and gives the moment at which
its file was whole. A pattern whose header tells that it is unfinished may stall for longer than the settle time;
one whose bytes look whole before they are (preallocated, overwritten in place) pauses for less.
"""

from __future__ import annotations

import io
import os
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import numpy as np
import soundfile

RATE_HZ = 8000
LONGEST_PAUSE = 0.6  # in settle times, where only quiet tells that the file is whole
STALL = 1.5  # in settle times, where the header tells it

Writer = Callable[[Path, Random, float], float]


class HeldUp(Exception):
    """The machine kept the writer waiting for longer than it meant to: this trial says nothing."""


def song(chance: Random, *, container: str = "WAV") -> bytes:
    """Half a second to a second of noise, never twice the same."""
    frames = chance.randint(RATE_HZ // 2 + 100, RATE_HZ)
    noise = np.random.default_rng(chance.getrandbits(32)).uniform(-0.5, 0.5, frames)
    file = io.BytesIO()
    soundfile.write(file, noise, RATE_HZ, "PCM_16", format=container)
    return file.getvalue()


def growing(path: Path, chance: Random, settle_s: float) -> float:
    """(a) A growing file whose header is mended at the close."""
    return _grow(path, song(chance), chance, settle_s, longest=LONGEST_PAUSE)


def stalling(path: Path, chance: Random, settle_s: float) -> float:
    """(d) The same, by a render that stalls for longer than the settle time."""
    return _grow(path, song(chance), chance, settle_s, longest=STALL)


def renamed(path: Path, chance: Random, settle_s: float) -> float:
    """(b) A temporary name, then a rename."""
    beside = path.with_name(chance.choice((".", "~$")) + path.name + chance.choice((".tmp", ".part", "")))
    with beside.open("wb") as file:
        for piece in _pieces(song(chance), chance):
            _pause(chance, settle_s, STALL)
            file.write(piece)
            file.flush()
    beside.rename(path)
    return time.monotonic()


def preallocated(path: Path, chance: Random, settle_s: float) -> float:
    """(c) Full size at once, then filled."""
    content = song(chance)
    with path.open("wb") as file:
        file.write(content[:44] + bytes(len(content) - 44))
        file.seek(44)
        for piece in _pieces(content[44:], chance):
            _pause(chance, settle_s, LONGEST_PAUSE)
            file.write(piece)
            file.flush()
    return time.monotonic()


def overwritten(path: Path, chance: Random, settle_s: float) -> float:
    """(e) A whole file, taken up as such; then another one over it, in place."""
    path.write_bytes(song(chance))
    time.sleep(settle_s * chance.uniform(0.0, 4.0))
    content = song(chance)
    with path.open("r+b") as file:
        for piece in _pieces(content, chance):
            file.write(piece)
            file.flush()
            _pause(chance, settle_s, LONGEST_PAUSE)
        file.truncate()
    return time.monotonic()


def one_by_one(path: Path, chance: Random, settle_s: float) -> float:
    """(f) Stems that arrive one after the other, each copied in one go, minutes apart."""
    time.sleep(settle_s * chance.uniform(0.0, 4.0))
    path.write_bytes(song(chance, container=chance.choice(("WAV", "FLAC", "AIFF"))))
    return time.monotonic()


def becoming_rf64(path: Path, chance: Random, settle_s: float) -> float:
    """(h) A RIFF with room for ds64, which turns out to be large and becomes RF64 at the close."""
    content = song(chance)
    data = content[content.index(b"data") + 8 :]
    fmt = content[12:36]
    size = 12 + 36 + len(fmt) + 8 + len(data) - 8
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, size, len(data), len(data) // 2, 0)
    with path.open("wb") as file:
        file.write(
            b"RIFF" + bytes(4) + b"WAVEJUNK" + struct.pack("<I", 28) + bytes(28) + fmt + b"data" + bytes(4)
        )
        for piece in _pieces(data, chance):
            _pause(chance, settle_s, STALL)
            file.write(piece)
            file.flush()
        _pause(chance, settle_s, LONGEST_PAUSE)
        file.seek(0)
        file.write(b"RF64\xff\xff\xff\xffWAVE" + ds64 + fmt + b"data\xff\xff\xff\xff")
    return time.monotonic()


PATTERNS: Mapping[str, Writer] = {
    "a growing": growing,
    "b renamed": renamed,
    "c preallocated": preallocated,
    "d stalling": stalling,
    "e overwritten": overwritten,
    "f one by one": one_by_one,
    "h becoming RF64": becoming_rf64,
}
"""Pattern (g), copies without events, is each of these in a folder that sends none."""


def _grow(path: Path, content: bytes, chance: Random, settle_s: float, *, longest: float) -> float:
    with path.open("wb") as file:
        file.write(
            content[:4] + bytes(4) + content[8:40] + bytes(4)
        )  # no length yet, neither in all nor of the audio
        for piece in _pieces(content[44:], chance):
            file.flush()
            _pause(chance, settle_s, longest)
            file.write(piece)
        file.seek(4)
        file.write(content[4:8])
        file.seek(40)
        file.write(content[40:44])
        file.flush()
        os.fsync(file.fileno())
    return time.monotonic()


def _pieces(content: bytes, chance: Random) -> list[bytes]:
    cuts = sorted(chance.randrange(1, len(content)) for _ in range(chance.randint(1, 4)))
    return [content[start:end] for start, end in zip((0, *cuts), (*cuts, len(content)), strict=True)]


def _pause(chance: Random, settle_s: float, longest: float) -> None:
    asked_s = settle_s * chance.uniform(0.0, longest)
    began_s = time.monotonic()
    time.sleep(asked_s)
    if longest < 1.0 and time.monotonic() - began_s > settle_s * 0.8:
        raise HeldUp
