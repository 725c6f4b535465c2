"""What the harmony lets each part play: chords as spans that the model's draw is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bridge.harmony.chords import Chord, harmonic_rhythm_beats
from bridge.transformer.constraints import RANGES, HarmonySpan
from bridge.transformer.tokens import STEPS_PER_BEAT
from bridge.types import Note

CHORD_PLAYERS = ("piano", "guitar", "strings")
INSTANT_BEATS = 1 / STEPS_PER_BEAT


def guides(
    chords: Sequence[Chord], bar_beats: float, scale: frozenset[int] | None
) -> tuple[HarmonySpan, ...]:
    """Spans for `chords`, whose beats count from a bar line.

    The bass has the chord's notes, and the root where the chord begins; whoever plays chords has the chord's
    notes; the lead has them on strong beats and is free between. Where a chord shares nothing with `scale`, only
    the scale holds.
    """
    spans: list[HarmonySpan] = []
    for chord in chords:
        notes = chord.pitch_classes if scale is None else chord.pitch_classes & scale
        if not notes:
            continue
        if chord.root in notes:
            root = frozenset((chord.root,))
            spans.append(HarmonySpan(chord.start_beats, chord.start_beats + INSTANT_BEATS, root, ("bass",)))
        spans.append(HarmonySpan(chord.start_beats, chord.end_beats, notes, ("bass", *CHORD_PLAYERS)))
        step = harmonic_rhythm_beats(bar_beats)
        beat = -(-chord.start_beats // step) * step
        while beat < chord.end_beats:
            spans.append(HarmonySpan(beat, beat + INSTANT_BEATS, notes, ("lead",)))
            beat += step
    return tuple(spans)


def refit(
    notes: Sequence[Note],
    spans: Sequence[HarmonySpan],
    scale: frozenset[int] | None,
    ranges: Mapping[str, tuple[int, int]] = RANGES,
) -> tuple[Note, ...]:
    """The same notes over other chords: what a span or the scale does not allow moves to the nearest that they do.

    Notes that fit stay as they are. Two of a part that would fall on one pitch at once become one.
    """
    fitted: dict[tuple[float, str, int], Note] = {}
    for note in notes:
        moved = note if note.part == "drums" else _fit(note, spans, scale, ranges)
        fitted.setdefault((moved.start_beats, moved.part, moved.pitch), moved)
    return tuple(fitted.values())


def _fit(
    note: Note,
    spans: Sequence[HarmonySpan],
    scale: frozenset[int] | None,
    ranges: Mapping[str, tuple[int, int]],
) -> Note:
    allowed = next(
        (
            span.pitch_classes
            for span in spans
            if note.part in span.parts and span.start_beats - 1e-6 <= note.start_beats < span.end_beats - 1e-6
        ),
        scale,
    )
    if allowed is None or note.pitch % 12 in allowed:
        return note
    low, high = ranges[note.part]
    fitting = [pitch for pitch in range(low, high + 1) if pitch % 12 in allowed]
    return replace(note, pitch=min(fitting, key=lambda pitch: (abs(pitch - note.pitch), pitch)))
