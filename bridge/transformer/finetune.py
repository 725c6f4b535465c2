"""Fine-tunes a continuation model on the user's own MIDI files: the call behind `dawbridge train continuation`.

Every tenth piece is held out, and variants of one piece stay on one side. `<models>/continuation/<name>/` gets the
weights that foretell the held-out pieces best, the curve (curve.json, curve.svg), a card, and a checkpoint from
which the same call goes on.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.errors import InputError
from bridge.transformer import curve
from bridge.transformer.corpus import StoredWork, columns, is_sound, shorten
from bridge.transformer.dataset import Piece, pieces_of
from bridge.transformer.decoder import Decoder
from bridge.transformer.duplicates import fingerprint, groups_of_variants, melody
from bridge.transformer.heard import hear_midi
from bridge.transformer.saved import Arrays, Shape, read_weights
from bridge.transformer.scoring import row_bits
from bridge.transformer.shipped import SHIPPED
from bridge.transformer.tokens import LENGTH, STEPS_PER_BEAT
from bridge.types import Phrase

Report = Callable[[float, float, str], None]
"""`report(done, total, what)`; it may raise to stop, and then what was judged last stays."""

SUFFIXES = (".mid", ".midi")
FEWEST_FILES = 3
HELD_OUT_SHARE = 0.1  # of the pieces
JUDGED_ROWS = 6000  # held-out rows that the card's figures come from
NAME = re.compile(r"\w[\w .-]{0,63}")
SOURCE = "own"


@dataclass(frozen=True)
class OwnMusic:
    """What a folder of MIDI files holds."""

    works: tuple[StoredWork, ...]  # a long file is several
    files: int  # that are learned from
    skipped: Mapping[Path, str]  # the others, and why


@dataclass(frozen=True)
class Tuned:
    """A model that was made."""

    name: str
    folder: Path
    base: str  # the model that it began as
    files: int
    notes: int  # in all files
    steps: int
    seconds: float  # of training, over all runs
    bits_before: float  # per held-out note, as the base foretells it
    bits_after: float
    skipped: Mapping[Path, str]


class _TimeIsUp(Exception):
    """The minutes that were given are over."""


def fine_tune(
    midi_folder: Path,
    name: str,
    models_dir: Path,
    base: Path,
    *,
    steps: int = 400,
    minutes: float | None = None,
    report: Report = lambda done, total, what: None,
) -> Tuned:
    """Go on training the weights `base` on all MIDI files in and below `midi_folder`.

    It ends after `steps`, after `minutes`, or when held-out notes are no longer foretold better. A later call
    with the same name goes on where this one ended, also with more steps.

    Raises:
        InputError: the name is none, the folder holds too little to learn from, or the minutes are too few.
        ModelError: `base` can't be read.
    """
    if not NAME.fullmatch(name) or name == SHIPPED:
        raise InputError(
            f'"{name}" can\'t be a model\'s name. Take letters, digits, spaces, dots, "_" and "-", up to 64; '
            f"{SHIPPED} is the one that ships with dawbridge."
        )
    arrays, shape = read_weights(base)
    music = read_folder(midi_folder, report)
    pieces = []
    for index, piece in enumerate(pieces_of(music.works)):
        report(index, len(music.works), f"preparing {piece.name}")
        pieces.append(piece)
    folder = models_dir / "continuation" / name
    points = _train(pieces, folder, arrays, shape, steps, minutes, report)
    curve.draw(points, folder / "curve.svg")
    tuned = Tuned(
        name=name,
        folder=folder,
        base=base.stem,
        files=music.files,
        notes=sum(len(work.notes) for work in music.works),
        steps=points[-1]["step"],
        seconds=points[-1]["seconds"],
        bits_before=held_out_bits(Decoder(arrays, shape), pieces),
        bits_after=held_out_bits(Decoder(*read_weights(folder / "weights.safetensors")), pieces),
        skipped=music.skipped,
    )
    (folder / "card.md").write_text(_card(tuned), "utf-8")
    return tuned


def read_folder(folder: Path, report: Report = lambda done, total, what: None) -> OwnMusic:
    """All MIDI files in and below `folder`, each piece of music once, split for training.

    Raises:
        InputError: there is no such folder, or fewer than 3 of its files can be learned from.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        what = "holds no MIDI files (.mid, .midi)" if folder.is_dir() else "is no folder"
        raise InputError(f"{folder} {what}. Name a folder with {FEWEST_FILES} or more of your own.")
    works: list[StoredWork] = []
    skipped: dict[Path, str] = {}
    seen: dict[str, Path] = {}
    for index, path in enumerate(paths):
        report(index, len(paths), f"reading {path.name}")
        try:
            own = tuple(_works(path, path.relative_to(folder).as_posix()))
        except InputError as exc:
            skipped[path] = exc.message
            continue
        mark = "".join(fingerprint(work.notes) for work in own)
        if not own:
            skipped[path] = "it holds too few notes, too many at once, or bars longer than 16 beats"
        elif mark in seen:
            skipped[path] = f"it is the same music as {seen[mark].name}"
        else:
            seen[mark] = path
            works += own
    if len(seen) < FEWEST_FILES:
        why = "; ".join(f"{path.name}: {reason}" for path, reason in list(skipped.items())[:3])
        raise InputError(
            f"{folder} holds {len(seen)} MIDI files to learn from; {FEWEST_FILES} is the least. Add more. {why}".rstrip()
        )
    return OwnMusic(_split(works), len(seen), skipped)


def held_out_bits(model: Decoder, pieces: Sequence[Piece]) -> float:
    """Bits per note of the held-out pieces' first rows."""
    bits, notes, rows = 0.0, 0, 0
    for piece in pieces:
        if piece.split == "valid" and rows < JUDGED_ROWS:
            lines = piece.columns[: JUDGED_ROWS - rows]
            bits += float(row_bits(model, lines).sum())
            notes += int((lines.targets[:, LENGTH] >= 0).sum())
            rows += len(lines.targets)
    return bits / max(1, notes)


def _works(path: Path, name: str) -> Iterator[StoredWork]:
    """A file in parts that are not too long to learn from."""
    heard = hear_midi(path)
    bar_beats, rest, part = heard.metre.bar_beats, heard.phrase, 1
    while rest.notes:
        phrase = shorten(rest, bar_beats)
        if is_sound(phrase, bar_beats):
            yield StoredWork(
                name=f"{name}#{part}",
                source=SOURCE,
                licence="",
                group=name,
                split="train",
                bar_steps=round(bar_beats * STEPS_PER_BEAT),
                length_steps=round(phrase.length_beats * STEPS_PER_BEAT),
                notes=columns(phrase),
            )
        later = [note for note in rest.notes if note.start_beats >= phrase.length_beats]
        moved = (replace(note, start_beats=note.start_beats - phrase.length_beats) for note in later)
        rest, part = Phrase(tuple(moved), rest.length_beats - phrase.length_beats), part + 1


def _split(works: Sequence[StoredWork]) -> tuple[StoredWork, ...]:
    """A tenth of the works, in whole groups of variants, becomes `valid`; one group always stays `train`.

    Raises:
        InputError: all works are variants of one.
    """
    groups = groups_of_variants([work.group for work in works], [melody(work.notes) for work in works])
    order = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(order) < 2:
        raise InputError(
            "All these MIDI files are variants of one piece, so nothing can be held out. Add others."
        )
    held_out: set[str] = set()
    for group in order[:-1]:
        if sum(other in held_out for other in groups) < HELD_OUT_SHARE * len(works):
            held_out.add(group)
    return tuple(
        replace(work, group=group, split="valid" if group in held_out else "train")
        for work, group in zip(works, groups, strict=True)
    )


def _train(
    pieces: Sequence[Piece],
    folder: Path,
    arrays: Arrays,
    shape: Shape,
    steps: int,
    minutes: float | None,
    report: Report,
) -> list[dict[str, Any]]:
    """The curve of all runs."""
    import torch

    from bridge.transformer.train import CURVE, Recipe, train

    recipe = Recipe(
        steps=steps,
        learning_rate=3e-4,
        warmup_steps=max(1, min(50, steps // 10)),
        judge_every_steps=25,
        patience=6,
        judged_rows=JUDGED_ROWS,
    )
    began = time.monotonic()

    def within_time(done: float, total: float, what: str) -> None:
        report(done, total, what)
        if minutes is not None and time.monotonic() - began > minutes * 60.0:
            raise _TimeIsUp

    start = {name: torch.from_numpy(values) for name, values in arrays.items()}
    try:
        train(pieces, folder, recipe, shape, start=start, report=within_time)
    except _TimeIsUp:
        if not (folder / CURVE).exists():
            first = min(recipe.judge_every_steps, steps)
            raise InputError(
                f"{minutes:g} minutes are too few for the first {first} steps. Give it more."
            ) from None
    points: list[dict[str, Any]] = json.loads((folder / CURVE).read_text("utf-8"))
    return points


def _card(tuned: Tuned) -> str:
    gain = tuned.bits_before - tuned.bits_after
    verdict = f"{gain:.3f} bits better" if gain > 0 else "no better: more pieces, or another base, may help"
    return f"""# {tuned.name}

A continuation model of dawbridge {__version__}, fine-tuned from {tuned.base}.

| | |
|---|---|
| data | the user's own MIDI files: {tuned.files} files, {tuned.notes:,} notes, {len(tuned.skipped)} files skipped |
| training | {tuned.steps} steps, {tuned.seconds:.0f} s |
| held-out bits per note before | {tuned.bits_before:.3f} |
| held-out bits per note after | {tuned.bits_after:.3f} ({verdict}) |

The curve is in curve.svg and curve.json. What it writes may resemble the files it learned from.
"""
