"""Builds the training corpus from packages alone, and reads it back.

`python -m bridge.transformer.corpus build --out DIR` writes DIR/corpus.npz (all notes, as columns on a grid of 24
steps per beat) and DIR/corpus.json (one entry per work). Works are de-duplicated, and split by group, so that
variants of one tune never stand on both sides.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridge.transformer.duplicates import Notes, fingerprint, groups_of_variants, melody
from bridge.transformer.parts import PARTS
from bridge.transformer.readers.score import STEPS_PER_BEAT, Piece
from bridge.transformer.sources import SOURCES
from bridge.types import Phrase

SCHEMA = 1
FEWEST_NOTES = 32
MOST_NOTES = 8_000  # a longer work ends at the bar line before
MOST_NOTES_AT_ONCE = 24  # starting on one step: more is no music but noise
LONGEST_BAR_BEATS = 16.0
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Work:
    """One piece of music of the corpus."""

    name: str  # unique: "oneills/0001-0050/7"
    source: str  # a row of `SOURCES`
    licence: str
    group: str  # works of one group never fall on both sides of a split
    phrase: Phrase  # its parts are PARTS; beat 0 is the bar line at or before the first note
    bar_beats: float  # by the first metre


@dataclass(frozen=True)
class StoredWork:
    """A work as it is read back."""

    name: str
    source: str
    licence: str
    group: str
    split: str  # train, valid or test
    bar_steps: int
    length_steps: int  # whole bars
    notes: Notes


def build(sources: Sequence[str] = ()) -> Iterator[Work]:
    """The works of the named sources (all if none is named), each once: later copies of a melody go.

    Raises:
        InputError: a package that a source comes from is missing, or a file in it is damaged.
    """
    seen: set[str] = set()
    tunes: list[Piece] = []
    for source in SOURCES:
        if sources and source.name not in sources:
            continue
        for piece in source.read(tunes):
            phrase = shorten(piece.phrase, piece.bar_beats)
            if not is_sound(phrase, piece.bar_beats):
                continue
            mark = fingerprint(columns(phrase))
            if mark in seen:
                continue
            seen.add(mark)
            name = f"{source.name}/{piece.name}"
            title = title_group(piece.title) if source.titled else ""
            if source.tunes and title:
                tunes.append(Piece(piece.name, title, phrase, piece.bar_beats))
            group = title or name
            yield Work(name, source.name, source.licence, group, phrase, piece.bar_beats)


def title_group(title: str) -> str:
    """A title without articles, case, kind of dance and punctuation: what two variants of a tune share."""
    text = re.split(r"--|\(", title)[0].lower()
    words = re.findall(r"[a-z0-9']+", text.replace("'", ""))
    kept = [word for word in words if word not in ("the", "a", "an")]
    return " ".join(kept)


def is_sound(phrase: Phrase, bar_beats: float) -> bool:
    """Whether a phrase is worth learning from: long enough, not absurdly dense, in a metre that can be."""
    if len(phrase.notes) < FEWEST_NOTES or not 1.0 <= bar_beats <= LONGEST_BAR_BEATS:
        return False
    starts = np.array([note.start_beats for note in phrase.notes])
    return int(np.unique(starts, return_counts=True)[1].max()) <= MOST_NOTES_AT_ONCE


def shorten(phrase: Phrase, bar_beats: float) -> Phrase:
    """The phrase up to the last bar line before its 8,001st note."""
    if len(phrase.notes) <= MOST_NOTES:
        return phrase
    end = phrase.notes[MOST_NOTES].start_beats // bar_beats * bar_beats
    return Phrase(tuple(note for note in phrase.notes if note.start_beats < end), end)


def columns(phrase: Phrase) -> Notes:
    """A phrase's notes as columns in steps, sorted by onset, part and pitch."""
    rows = sorted(
        (
            round(note.start_beats * STEPS_PER_BEAT),
            PARTS.index(note.part),
            note.pitch,
            max(1, round(note.length_beats * STEPS_PER_BEAT)),
            note.velocity,
        )
        for note in phrase.notes
    )
    table = np.array(rows, np.int32).reshape(-1, 5)
    return Notes(
        table[:, 0],
        table[:, 3],
        table[:, 2].astype(np.uint8),
        table[:, 4].astype(np.uint8),
        table[:, 1].astype(np.uint8),
    )


def split_of(group: str, held_out_percent: int = 5) -> str:
    """That share of all groups is `valid`, as much again `test`, by a hash of the group's name."""
    percent = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") % 100
    if percent < held_out_percent:
        return "valid"
    return "test" if percent < 2 * held_out_percent else "train"


def write_corpus(works: Iterable[Work], folder: Path) -> tuple[StoredWork, ...]:
    """Group variants of one tune, split, and write corpus.npz and corpus.json into `folder`."""
    stored = _split(list(works))
    folder.mkdir(parents=True, exist_ok=True)
    joined = {name: np.concatenate([getattr(work.notes, name) for work in stored]) for name in Notes.NAMES}
    np.savez_compressed(folder / "corpus.npz", allow_pickle=False, **joined)
    (folder / "corpus.json").write_text(json.dumps(_index(stored), indent=0) + "\n", "utf-8")
    return stored


def read_corpus(folder: Path) -> tuple[StoredWork, ...]:
    """The works that `write_corpus` left in `folder`, in their order; their arrays are views of one table."""
    index = json.loads((folder / "corpus.json").read_text("utf-8"))
    with np.load(folder / "corpus.npz") as stored:
        joined = {name: stored[name] for name in Notes.NAMES}
    works = []
    for entry in index["works"]:
        first, last = entry.pop("first_row"), entry.pop("last_row")
        notes = Notes(**{name: values[first:last] for name, values in joined.items()})
        works.append(StoredWork(notes=notes, **entry))
    return tuple(works)


def counts(works: Iterable[StoredWork]) -> str:
    """A Markdown table of works and notes by source, licence and split."""
    rows: dict[tuple[str, str], dict[str, list[int]]] = {}
    for work in works:
        for key in ((work.source, work.licence), ("all", "")):
            cell = rows.setdefault(key, {split: [0, 0] for split in SPLITS})[work.split]
            cell[0] += 1
            cell[1] += len(work.notes)
    rows["all", ""] = rows.pop(("all", ""), {split: [0, 0] for split in SPLITS})
    lines = [
        "| source | licence | works | notes | train | valid | test |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for (source, licence), cells in rows.items():
        total = [sum(cell[at] for cell in cells.values()) for at in (0, 1)]
        shares = [f"{works:,} / {notes:,}" for works, notes in cells.values()]
        lines.append(f"| {source} | {licence} | {total[0]:,} | {total[1]:,} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """`build --out DIR [--sources a b]`, or `table --folder DIR`."""
    parser = argparse.ArgumentParser(prog="python -m bridge.transformer.corpus", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    builds = verbs.add_parser("build", help="write corpus.npz and corpus.json")
    builds.add_argument("--out", type=Path, required=True)
    builds.add_argument("--sources", nargs="*", default=[], choices=[source.name for source in SOURCES])
    tables = verbs.add_parser("table", help="works and notes by source, licence and split")
    tables.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args(arguments)
    if asked.verb == "build":
        works = write_corpus(build(asked.sources), asked.out)
    else:
        works = read_corpus(asked.folder)
    sys.stdout.write(counts(works) + "\n")
    return 0


def _split(works: Sequence[Work]) -> tuple[StoredWork, ...]:
    table = {source.name: source for source in SOURCES}
    notes = [columns(work.phrase) for work in works]
    melodies = [
        [] if table[work.source].arranged else melody(own) for work, own in zip(works, notes, strict=True)
    ]
    groups = groups_of_variants([work.group for work in works], melodies)
    shares: dict[str, int] = {}  # a group has the share of its first work's source, so that it stays together
    for work, group in zip(works, groups, strict=True):
        shares.setdefault(group, table[work.source].held_out_percent)
    return tuple(
        StoredWork(
            work.name,
            work.source,
            work.licence,
            group,
            split_of(group, shares[group]),
            round(work.bar_beats * STEPS_PER_BEAT),
            round(work.phrase.length_beats * STEPS_PER_BEAT),
            own,
        )
        for work, group, own in zip(works, groups, notes, strict=True)
    )


def _index(works: Sequence[StoredWork]) -> dict[str, object]:
    entries = []
    row = 0
    for work in works:
        entry = {name: value for name, value in vars(work).items() if name != "notes"}
        entries.append({**entry, "first_row": row, "last_row": row + len(work.notes)})
        row += len(work.notes)
    return {"schema": SCHEMA, "parts": PARTS, "steps_per_beat": STEPS_PER_BEAT, "works": entries}


if __name__ == "__main__":
    raise SystemExit(main())
