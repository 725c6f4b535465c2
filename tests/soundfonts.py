"""The smallest General MIDI soundfonts: one cosine on every program asked for, as SF2 or Ogg-packed as SF3."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 44100
PERIOD = 100  # frames of one cycle; it starts at its peak, so that a note's first frame is loud
CYCLES = 50
KEY = 69
VELOCITY_FULL = 127
RELEASE_TIMECENTS = -3986  # 0.1 s
LOOPED, RELEASE, SAMPLE, INSTRUMENT = 54, 38, 53, 41  # generators of the format
MONO, VORBIS = 0x01, 0x10


def write_soundfont(
    path: Path, presets: Iterable[tuple[int, int]] = ((0, 0), (0, 80), (128, 0)), *, packed: bool = False
) -> Path:
    """Write it; `presets` are bank and program, bank 128 being drums. Packed makes an SF3."""
    wave = 0.8 * np.cos(2 * np.pi * np.arange(PERIOD * CYCLES) / PERIOD)
    samples = _vorbis(wave) if packed else (wave * 32767).astype("<i2").tobytes() + bytes(2 * 46)
    end = len(samples) if packed else wave.size
    heads = [(f"preset {bank} {program}", program, bank) for bank, program in sorted(presets)]
    count = len(heads)
    header = (
        b"cosine",
        0,
        end,
        PERIOD * 10,
        PERIOD * 40,
        RATE_HZ,
        KEY,
        0,
        0,
        MONO | (VORBIS if packed else 0),
    )
    pdta = [
        (b"phdr", [_phdr(name, p, b, i) for i, (name, p, b) in enumerate([*heads, ("EOP", 0, 0)])]),
        (b"pbag", [struct.pack("<HH", i, 0) for i in range(count + 1)]),
        (b"pmod", [bytes(10)]),
        (b"pgen", [*[struct.pack("<Hh", INSTRUMENT, 0)] * count, bytes(4)]),
        (b"inst", [struct.pack("<20sH", b"cosine", 0), struct.pack("<20sH", b"EOI", 1)]),
        (b"ibag", [struct.pack("<HH", 0, 0), struct.pack("<HH", 3, 0)]),
        (b"imod", [bytes(10)]),
        (
            b"igen",
            [
                struct.pack("<Hh", *g)
                for g in ((RELEASE, RELEASE_TIMECENTS), (LOOPED, 1), (SAMPLE, 0), (0, 0))
            ],
        ),
        (b"shdr", [struct.pack("<20sIIIIIBbHH", *header), struct.pack("<20s26x", b"EOS")]),
    ]
    info = _chunk(b"ifil", struct.pack("<HH", 3 if packed else 2, 1)) + _chunk(b"INAM", b"cosine\0\0")
    body = _chunk(b"LIST", b"INFO" + info)
    body += _chunk(b"LIST", b"sdta" + _chunk(b"smpl", samples))
    body += _chunk(b"LIST", b"pdta" + b"".join(_chunk(name, b"".join(rows)) for name, rows in pdta))
    path.write_bytes(_chunk(b"RIFF", b"sfbk" + body))
    return path


def _phdr(name: str, program: int, bank: int, bag: int) -> bytes:
    return struct.pack("<20sHHHIII", name.encode(), program, bank, bag, 0, 0, 0)


def _vorbis(wave: np.typing.NDArray[np.float64]) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE_HZ, format="OGG", subtype="VORBIS")
    data = buffer.getvalue()
    return data + bytes(len(data) % 2)


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
