"""The table of what the corpus is made of: where each source lies, under what licence, and who plays it.

Every source is a package: the folders of scores inside the PyPI package music21, Freedoom's game files and the
arranger MMA from Debian. music21 is found, never imported. Its licence.txt says that the encodings are
distributed with the permission of their encoders and that some may not be used for commercial uses: so every
folder and every file was looked at, and what bars such use, reserves rights or is unclear was left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import InputError
from bridge.transformer.readers.abc import read_abc
from bridge.transformer.readers.musicxml import read_musicxml
from bridge.transformer.readers.score import Piece

PUBLIC_DOMAIN = "LicenseRef-public-domain-music"
"""Music out of copyright; the encoder gave it to music21 for redistribution and states no restriction."""


@dataclass(frozen=True)
class Source:
    """One row of the table."""

    name: str
    licence: str  # SPDX where there is one
    note: str  # whose encoding
    read: Callable[[], Iterator[Piece]]
    titled: bool = False  # works of one title are one tune; else each work stands for itself


def music21_folder(name: str) -> Path:
    """A folder of music21's corpus.

    Raises:
        InputError: the package is not installed.
    """
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise InputError("The package music21 is missing. Install it with: uv sync --group corpus")
    return Path(spec.origin).parent / "corpus" / name


def _abc(folder: str) -> Callable[[], Iterator[Piece]]:
    def read() -> Iterator[Piece]:
        for path in sorted(music21_folder(folder).glob("*.abc")):
            for piece in read_abc(path.read_text("latin-1")):
                yield Piece(f"{path.stem}/{piece.name}", piece.title, piece.phrase, piece.bar_beats)

    return read


def _scores(folder: str, part: str) -> Callable[[], Iterator[Piece]]:
    def read() -> Iterator[Piece]:
        root = music21_folder(folder)
        for path in sorted(root.rglob("*")):
            if path.suffix in (".mxl", ".xml", ".musicxml"):
                piece = read_musicxml(path, part)
                name = path.relative_to(root).with_suffix("").as_posix()
                yield Piece(name, piece.title, piece.phrase, piece.bar_beats)

    return read


SOURCES: tuple[Source, ...] = (
    Source("airds", PUBLIC_DOMAIN, "Aird's Airs, 1778-1801; Jack Campin", _abc("airdsAirs"), titled=True),
    Source(
        "oneills",
        PUBLIC_DOMAIN,
        "O'Neill's Music of Ireland, 1903; many hands",
        _abc("oneills1850"),
        titled=True,
    ),
    Source(
        "ryans",
        PUBLIC_DOMAIN,
        "Ryan's Mammoth Collection, 1883; many hands",
        _abc("ryansMammoth"),
        titled=True,
    ),
    Source("bach", PUBLIC_DOMAIN, "chorales; Margaret Greentree", _scores("bach", "strings")),
)
