"""The table of what the corpus is made of: where each source lies, under what licence, and who plays it.

Every source is a package: the folders of scores inside the PyPI package music21, Freedoom's game files and the
arranger MMA from Debian. music21 is found, never imported. Its license.txt says that the encodings are distributed
with the permission of their encoders, and that some bar commercial use, which their own files then say. So every
file was searched for such words: what bars that use, reserves rights or claims them was left out.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.errors import InputError
from bridge.transformer.readers.abc import read_abc
from bridge.transformer.readers.arranger import SONGS, arrange_song, arrange_tune, find_grooves, in_three
from bridge.transformer.readers.midi_files import read_midi_piece
from bridge.transformer.readers.musicxml import read_musicxml
from bridge.transformer.readers.score import Piece
from bridge.transformer.readers.wad import midi_lumps

NO_RESTRICTION = "LicenseRef-music21-no-restriction"
"""Music out of copyright, its encoding in music21 by the encoder's permission, no restriction stated in the file.

That is weaker than a licence: no file grants one in words.
"""
WADS = Path("/usr/share/games/doom")
ARRANGEMENTS_PER_SONG = 5
ARRANGED_TUNES = 200
ARRANGED_BARS = 17  # with the bar of the upbeat


Tunes = Sequence[Piece]
"""The folk tunes kept so far; their titles are their groups."""


@dataclass(frozen=True)
class Source:
    """One row of the table."""

    name: str
    licence: str  # SPDX where there is one
    note: str  # what it is, and whose encoding
    read: Callable[[Tunes], Iterator[Piece]]
    held_out_percent: int = 5  # of its groups, for valid and again for test; more where there are few works
    titled: bool = False  # works of one title are one tune; else each work stands for itself
    tunes: bool = False  # the arranger may take its melodies from here
    arranged: bool = False  # made by an arranger: not music by people, and its own melody says little


def music21_folder(name: str) -> Path:
    """A folder of music21's corpus.

    Raises:
        InputError: the package is not installed.
    """
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise InputError("The package music21 is missing. Install it with: uv sync --group corpus")
    return Path(spec.origin).parent / "corpus" / name


def _abc(folder: str) -> Callable[[Tunes], Iterator[Piece]]:
    def read(_: Tunes) -> Iterator[Piece]:
        for path in sorted(music21_folder(folder).glob("*.abc")):
            for piece in read_abc(path.read_text("latin-1")):
                yield replace(piece, name=f"{path.stem}/{piece.name}")

    return read


def _scores(base: str, part: str, *folders: str) -> Callable[[Tunes], Iterator[Piece]]:
    """Every score below `base`, or below these folders in it, that claims no rights."""

    def read(_: Tunes) -> Iterator[Piece]:
        root = music21_folder(base)
        for folder in folders or ("",):
            for path in sorted((root / folder).rglob("*")):
                if path.suffix in (".mxl", ".xml", ".musicxml"):
                    name = path.relative_to(root).with_suffix("").as_posix()
                    piece = read_musicxml(path, part)
                    if not piece.rights:
                        yield replace(piece, name=name)

    return read


def _freedoom(_: Tunes) -> Iterator[Piece]:
    for game in ("freedoom1", "freedoom2", "freedm"):
        path = WADS / f"{game}.wad"
        if not path.is_file():
            raise InputError(f"{path} is missing. Install it with: apt-get install freedoom freedm")
        for name, data in midi_lumps(path.read_bytes(), str(path)):
            piece = read_midi_piece(data, f"{game}/{name}")
            if piece:
                yield piece


def _arranger(tunes: Tunes) -> Iterator[Piece]:
    grooves = find_grooves()
    for title in SONGS:
        for number in range(ARRANGEMENTS_PER_SONG):
            chance = random.Random(f"{title} {number}")
            yield arrange_song(title, chance.choice(grooves), chance.randrange(12), chance.randrange(1 << 20))
    chance = random.Random("tunes")
    fitting = [tune for tune in tunes if tune.bar_beats in (3.0, 4.0)]
    for tune in chance.sample(fitting, min(ARRANGED_TUNES, len(fitting))):
        suited = [g for g in grooves if (g.bar_beats, g.mma_beats == 3) == (tune.bar_beats, in_three(tune))]
        semitones = chance.randint(-5, 6)
        yield arrange_tune(tune, chance.choice(suited), semitones, ARRANGED_BARS, chance.randrange(1 << 20))


QUARTETS = ("beethoven", "haydn", "mozart/k155", "mozart/k156", "mozart/k458", "mozart/k80",
            "schumann_robert/opus41no1")  # fmt: skip

SOURCES: tuple[Source, ...] = (
    Source(
        "airds", NO_RESTRICTION, "Aird's Airs, 1778-1801; Jack Campin", _abc("airdsAirs"),
        titled=True, tunes=True,
    ),
    Source(
        "oneills", NO_RESTRICTION, "O'Neill's Music of Ireland, 1903; many hands", _abc("oneills1850"),
        titled=True, tunes=True,
    ),
    Source(
        "ryans", NO_RESTRICTION, "Ryan's Mammoth Collection, 1883; many hands", _abc("ryansMammoth"),
        titled=True, tunes=True,
    ),
    Source(
        "bach", NO_RESTRICTION, 'chorales; most say "PDF (c) 2004 Margaret Greentree, used by permission"',
        _scores("bach", "strings"),
    ),
    Source(
        "quartets", NO_RESTRICTION, "Haydn, Mozart, Beethoven, R. Schumann; hands not named",
        _scores("", "strings", *QUARTETS), held_out_percent=10,
    ),
    Source(
        "trecento", NO_RESTRICTION, "Italian songs of the 14th century; several hands, mostly not named",
        _scores("trecento", "strings"),
    ),
    Source(
        "freedoom", "BSD-3-Clause", "the games' music; contributors to Freedoom", _freedoom,
        held_out_percent=10,
    ),
    Source(
        "arranger", "GPL-2.0-or-later", "made with MMA's standard grooves; Bob van der Poel", _arranger,
        titled=True, arranged=True,
    ),
)  # fmt: skip

LEFT_OUT: tuple[tuple[str, str], ...] = (
    ("essenFolksong", "non-commercial; legal status unclear by its own licence.txt"),
    ("palestrina", "rights to derivative formats reserved; the licence it refers to isn't there"),
    ("bach/*.krn", "rights to derivative formats reserved (CCARH)"),
    (
        "monteverdi",
        "book 5 bears a publisher's copyright of 2003; the other books don't say what they were taken from",
    ),
    ("trecento: 20 of 103 files", 'a bare "Copyright (c)" that names nobody'),
    ("nottingham-dataset", "two tunes, their encoder not named"),
    ("miscFolk", "one file comes from a site that has disappeared; the other is a handful of tunes"),
    ("josquin", "GPL-2.0-or-later, but each voice is written as a tune of its own: eight works"),
    ("chopin, joplin", "one work each"),
    (
        "schumann_clara",
        "four piano pieces are CC BY-SA 4.0, too few to be worth its terms; the trio claims rights",
    ),
    ("beach, ciconia, corelli, luca, weber and others", "single works, some with licences of their own"),
    ("leadSheet, demos, theoryExercises", "all rights reserved, or no music"),
    ("openttd-openmsx (Debian)", 'GPL version 2 only: readme.txt and copyright don\'t say "or later"'),
    ("MMA's casio, kara, yamaha grooves", "converted from keyboards' own styles"),
)
"""What was looked at and not taken, and why."""
