"""A MIDI file goes in, what comes next comes out as another: the call behind `dawbridge continue`.

What is written is type 1 at the tempo, metre and key of the given file's end. Tick 0 is the bar line where that
one ends, end-of-track lies exactly `bars` bars later, every note is ended, on the coarsest
grid that nearly all given notes lie on, and in the key asked for. The same file, model and wish give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bridge import __version__
from bridge.atomic import replacing
from bridge.errors import InputError, OutboxError
from bridge.midi import phrase_to_midi
from bridge.transformer.constraints import RANGES, Constraints, grid_steps
from bridge.transformer.decoder import Decoder
from bridge.transformer.heard import Heard, bars_in_one, hear_midi
from bridge.transformer.keys import SCALES, key_name, key_of, scale_of
from bridge.transformer.parts import PARTS
from bridge.transformer.sample import MOST_PRIMER_ROWS, Sampling, continue_phrase
from bridge.transformer.tokens import DRUMS, LENGTH, LENGTHS_STEPS, PART, PITCH, Rows, encode
from bridge.types import Note, Phrase

AUTO, FREE = "auto", "free"
MODES: Mapping[str, tuple[str, ...]] = {
    "major": ("major", "mixolydian"),
    "minor": ("minor", "harmonic minor", "dorian"),
}
"""What a piece that sounds major or minor may be in: the plain scale, unless another holds clearly more of it."""
CLEARLY = 0.01  # of the time that its notes sound


@dataclass(frozen=True)
class Wish:
    """What the musician asks for."""

    bars: int = 8  # 1..256, of the given file's own metre at its end
    parts: tuple[str, ...] = ()  # of PARTS; () = who plays in the given file
    key: str = (
        AUTO  # the only notes allowed: "A minor", "D dorian"; AUTO = the piece's own key; FREE = all twelve
    )
    ranges: Mapping[str, tuple[int, int]] = field(
        default_factory=dict
    )  # lowest and highest MIDI pitch per part
    most_notes_per_beat: float | None = None  # of each part, on the mean of a bar
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Written:
    """What was written."""

    path: Path
    phrase: Phrase  # beat 0 is the bar line where the given file ends
    bars: int
    beats_per_bar: int
    beat_unit: int
    bpm: float  # quarter notes per minute
    key: str  # "" where all notes were allowed
    seed: int
    model: str

    @property
    def notes(self) -> dict[str, int]:
        """How many notes each part has."""
        counted = Counter(note.part for note in self.phrase.notes)
        return {part: counted[part] for part in PARTS if counted[part]}


def continue_midi(
    source: Path,
    out: Path,
    model: Decoder,
    wish: Wish,
    *,
    model_name: str,
    report: Callable[[float, float], None] | None = None,
) -> Written:
    """Write what comes after `source` into `out`, which must not exist yet.

    Of a long file its last 4,096 notes are heard. `report(steps done, steps in all)` may raise to stop; then
    nothing is written.

    Raises:
        InputError: `source` can't be read or holds no notes, `out` exists, or the wish is out of range.
        OutboxError: `out` can't be written.
    """
    if out.exists():
        raise InputError(f"{out} exists already. Name another file, or move it away first.")
    heard = hear_midi(source, MOST_PRIMER_ROWS)
    phrase, key = continue_heard(heard, model, wish, report)
    provenance = (
        f"dawbridge {__version__} continuation model={model_name} bars={wish.bars} key={wish.key} "
        f"parts={','.join(wish.parts) or AUTO} temperature={wish.sampling.temperature:g} "
        f"top_p={wish.sampling.top_p:g} min_p={wish.sampling.min_p:g} seed={wish.sampling.seed}"
    )
    data = phrase_to_midi(phrase, heard.tempo, title=out.stem, key=key, provenance=provenance)
    try:
        with replacing(out) as file:
            file.write(data)
    except OSError as exc:
        raise OutboxError(f"{out} can't be written ({exc.strerror}). Name another place for it.") from exc
    return Written(
        path=out,
        phrase=phrase,
        bars=wish.bars,
        beats_per_bar=heard.bars.beats_per_bar,
        beat_unit=heard.bars.beat_unit,
        bpm=heard.bpm,
        key=key,
        seed=wish.sampling.seed,
        model=model_name,
    )


def continue_heard(
    heard: Heard, model: Decoder, wish: Wish, report: Callable[[float, float], None] | None = None
) -> tuple[Phrase, str]:
    """What comes next, exactly `wish.bars` bars long, and the key that it keeps to ("" for none).

    Raises:
        InputError: nothing to go on from, or the wish is out of range.
    """
    key = {FREE: "", AUTO: own_key(encode(heard.phrase))}.get(wish.key, wish.key)
    downbeat = heard.metre.first_downbeat_beats
    from_bar_line = [replace(note, start_beats=note.start_beats - downbeat) for note in heard.phrase.notes]
    constraints = Constraints(
        parts=wish.parts,
        scale=scale_of(key) if key else None,
        ranges={**RANGES, **wish.ranges},
        most_notes_per_beat=wish.most_notes_per_beat,
        grid_steps=grid_steps(from_bar_line),
    )
    whole = -(-wish.bars // bars_in_one(heard.bars))
    written = continue_phrase(model, heard.phrase, whole, heard.metre, constraints, wish.sampling, report)
    return _cut(written, wish.bars * heard.bars.bar_beats), key


def own_key(rows: Rows) -> str:
    """The key of rows, such as "Eb major" or "D dorian"; "" where no part but the drums plays."""
    pitched = rows[rows[:, PART] < DRUMS]
    if not len(pitched):
        return ""
    tonic, mode = key_of(rows)
    lengths_steps = np.array(LENGTHS_STEPS)[pitched[:, LENGTH]]

    def held(scale: str) -> float:
        inside = np.isin((pitched[:, PITCH] - tonic) % 12, SCALES[scale])
        share = float(lengths_steps[inside].sum() / lengths_steps.sum())
        return share + CLEARLY if scale == mode else share

    return key_name(tonic, max(MODES[mode], key=held))


def free_name(source: Path) -> Path:
    """Beside `source`: `Song_continuation.mid`, or with the first free number, `Song_continuation (2).mid`."""
    path = source.with_name(f"{source.stem}_continuation.mid")
    number = 2
    while path.exists():
        path = source.with_name(f"{source.stem}_continuation ({number}).mid")
        number += 1
    return path


def parse_parts(text: str) -> tuple[str, ...]:
    """`"lead, bass"` -> `("lead", "bass")`; whether there are such parts shows when they play."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_ranges(texts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """`["bass=28-50"]` -> `{"bass": (28, 50)}`, in MIDI pitches.

    Raises:
        InputError: not of that form, or no such part.
    """
    ranges = {}
    for text in texts:
        part, _, pitches = text.partition("=")
        low, _, high = pitches.partition("-")
        if part not in PARTS or not (low.isdecimal() and high.isdecimal()):
            raise InputError(
                f'The range "{text}" is none. Write part=lowest-highest in MIDI pitches, e.g. bass=28-50; '
                f"parts are {', '.join(PARTS)}."
            )
        ranges[part] = int(low), int(high)
    return ranges


def _cut(phrase: Phrase, length_beats: float) -> Phrase:
    """The phrase up to `length_beats`; shorter only where several bars counted as one."""
    kept = []
    for note in phrase.notes:
        room = length_beats - note.start_beats
        if room > 0:
            kept.append(
                Note(note.start_beats, min(note.length_beats, room), note.pitch, note.velocity, note.part)
            )
    return Phrase(tuple(kept), length_beats)
