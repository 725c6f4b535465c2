"""What was played live, as MIDI files that any DAW takes: replies, captures and whole sessions.

Each lies in `<outbox>/live/` under a name of its own, appears whole or not at all, begins on a bar line, is whole
bars long, and says in a text event how it came to be. Nothing is ever overwritten. One thread at a time.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from bridge import __version__
from bridge.atomic import replacing
from bridge.errors import OutboxError
from bridge.live.controls import FOLLOW, FREE, Controls
from bridge.live.pipe import note_from_list
from bridge.midi import phrase_to_midi
from bridge.store import fsync_folder
from bridge.tempo import constant_tempo
from bridge.types import Note, Phrase

FOLDER = "live"
MUSICIAN = "musician"  # the track of what the musician played; drums lie on `drums`, for their channel
SAMPLE_RATE_HZ = 44_100  # a tempo map must have one; nothing here counts frames
DISK_FULL_BYTES = 8 << 20
HAIR_BEATS = 1e-6


@dataclass(frozen=True)
class Take:
    """Music on the live axis, and what it is."""

    kind: Literal["reply", "capture", "session"]
    notes: tuple[Note, ...]  # the companion's, in beats of the axis
    start_beat: float  # on the axis; the bar line at or before it becomes tick 0
    length_beats: float  # the file goes on to the next bar line
    bpm: float  # quarter notes per minute
    beats_per_bar: int
    beat_unit: int
    key: str = ""  # "C major"; "" for none
    model: str = ""
    seed: int | None = None  # of a reply
    settings: Mapping[str, Any] = field(default_factory=dict)  # JSON values, as they were
    musician: tuple[Note, ...] = ()  # in beats of the axis
    song_beat: float | None = None  # where `start_beat` stands in the song, if anywhere
    is_cut: bool = False  # the musician came in before its end

    @staticmethod
    def of_reply(played: Mapping[str, Any], model: str) -> Take:
        """From the live process's `played` message."""
        controls = played["controls"]
        return Take(
            kind="reply",
            notes=tuple(note_from_list(values) for values in played["notes"]),
            start_beat=played["from_beat"],
            length_beats=played["length_beats"],
            bpm=played["bpm"],
            beats_per_bar=controls["beats_per_bar"],
            beat_unit=controls["beat_unit"],
            key=played["key"],
            model=model,
            seed=played["seed"],
            settings=controls,
            song_beat=played["song_beat"],
            is_cut=played["is_cut"],
        )

    @staticmethod
    def of_capture(heard: Sequence[Sequence[Any]], bpm: float, controls: Controls) -> Take:
        """From heard notes as the history has them: a note's five values, and whether it is ours. One at least."""
        notes = [(note_from_list(values[:5]), bool(values[5])) for values in heard]
        start = min(note.start_beats for note, _ in notes)
        end = max(note.start_beats + note.length_beats for note, _ in notes)
        return Take(
            kind="capture",
            notes=tuple(note for note, is_ours in notes if is_ours),
            start_beat=start,
            length_beats=end - start,
            bpm=bpm,
            beats_per_bar=controls.beats_per_bar,
            beat_unit=controls.beat_unit,
            key="" if controls.key in (FOLLOW, FREE) else controls.key,
            settings=asdict(controls),
            musician=tuple(note for note, is_ours in notes if not is_ours),
        )

    @property
    def bar_beats(self) -> float:
        """Quarter notes in a bar."""
        return self.beats_per_bar * 4.0 / self.beat_unit

    @property
    def bar(self) -> int | None:
        """The bar of the song that it begins in, counted from 1 as DAWs do."""
        if self.song_beat is None:
            return None
        return math.floor((self.song_beat + HAIR_BEATS) / self.bar_beats) + 1


def write_take(outbox: Path, take: Take, now: datetime | None = None) -> Path:
    """Write the take under a free name that begins with `now`, local time: `2026-11-25 20-15-03 reply bar 17.mid`.

    Raises:
        OutboxError: the outbox is full or can't be written.
    """
    now = now or datetime.now()
    name = f"{now:%Y-%m-%d %H-%M-%S} {take.kind}" + (f" bar {take.bar}" if take.bar is not None else "")
    with _clear_errors(outbox):
        folder = outbox / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = _free_path(folder, name)
        with replacing(path) as file:
            file.write(to_midi(take, path.stem))
    return path


def move_take(path: Path, folder: str) -> Path:
    """Put a take aside into a folder beside it, under a free name there; where it lies now.

    Raises:
        OutboxError: it is gone, or can't be moved.
    """
    with _clear_errors(path.parent):
        target = path.parent / folder
        target.mkdir(exist_ok=True)
        moved = path.rename(_free_path(target, path.stem))
        fsync_folder(target)
    return moved


def to_midi(take: Take, title: str) -> bytes:
    """The file's bytes; the same take gives the same ones. What sounds beyond its ends is cut."""
    first = math.floor((take.start_beat + HAIR_BEATS) / take.bar_beats) * take.bar_beats
    bars = math.ceil((take.start_beat + take.length_beats - first - HAIR_BEATS) / take.bar_beats)
    length_beats = max(1, bars) * take.bar_beats
    played = [note if note.part == "drums" else replace(note, part=MUSICIAN) for note in take.musician]
    notes = [_cut(note, first, length_beats) for note in (*take.notes, *played)]
    phrase = Phrase(tuple(note for note in notes if note.length_beats > 0), length_beats)
    tempo = constant_tempo(
        take.bpm, SAMPLE_RATE_HZ, beats_per_bar=take.beats_per_bar, beat_unit=take.beat_unit
    )
    return phrase_to_midi(phrase, tempo, title=title, key=take.key, provenance=_provenance(take, first))


def _provenance(take: Take, first_beat: float) -> str:
    told = {
        "bar": take.bar,
        "beat": round(take.song_beat, 6) if take.song_beat is not None else None,
        "axis_beat": round(first_beat, 6),
        "key": take.key or None,
        "model": take.model or None,
        "seed": take.seed,
        "cut": "yes" if take.is_cut else None,
    }
    shown = "".join(f" {name}={value}" for name, value in told.items() if value is not None)
    settings = json.dumps(dict(take.settings), sort_keys=True)
    return f"dawbridge {__version__} live {take.kind}{shown} settings={settings}"


def _cut(note: Note, first_beat: float, length_beats: float) -> Note:
    """The note counted from `first_beat`, and what of it lies inside; of no length if nothing does."""
    start = note.start_beats - first_beat
    inside = max(0.0, start)
    return replace(
        note, start_beats=inside, length_beats=min(start + note.length_beats, length_beats) - inside
    )


def _free_path(folder: Path, name: str) -> Path:
    path, number = folder / f"{name}.mid", 2
    while path.exists():
        path, number = folder / f"{name} ({number}).mid", number + 1
    return path


@contextmanager
def _clear_errors(outbox: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ENOSPC or (
            outbox.is_dir() and shutil.disk_usage(outbox).free < DISK_FULL_BYTES
        ):
            raise OutboxError(f"The disk of {outbox} is full. Make room, then play on.", "disk_full") from exc
        why = exc.strerror or exc
        raise OutboxError(f"{outbox} can't take what was played ({why}). Mend it, then play on.") from exc
