"""The lumps of a WAD file, as Doom and Freedoom keep their music in: https://doomwiki.org/wiki/WAD"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bridge.errors import InputError

HEADER = struct.Struct("<4sii")  # IWAD or PWAD, number of lumps, place of the directory
ENTRY = struct.Struct("<ii8s")  # place, size, name


def midi_lumps(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every lump that is a MIDI file, in the directory's order.

    Raises:
        InputError: `data` is no WAD, or cut off.
    """
    if len(data) < HEADER.size or data[1:4] != b"WAD":
        raise InputError(f"{name} is no WAD file. Reinstall the package that it comes from.")
    _, lumps, directory = HEADER.unpack_from(data)
    if lumps < 0 or directory < 0 or directory + lumps * ENTRY.size > len(data):
        raise InputError(f"{name} is cut off: its directory lies outside. Reinstall its package.")
    for place, size, label in ENTRY.iter_unpack(data[directory : directory + lumps * ENTRY.size]):
        lump = data[place : place + size]
        if lump[:4] == b"MThd":
            yield label.rstrip(b"\0").decode("ascii", "replace"), lump
