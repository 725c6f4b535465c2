"""TempoMap arithmetic: beats <-> seconds <-> frames <-> ticks. Pure; the only place that converts.

Beats are quarter notes counted from the bounce's first frame, whatever the metre's beat unit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from bridge.types import PPQ, BeatLine, TempoMap, TempoPoint


def constant_tempo(
    bpm: float,
    sample_rate_hz: int,
    *,
    beats_per_bar: int = 4,
    beat_unit: int = 4,
    first_downbeat_frame: int = 0,
) -> TempoMap:
    """A map with one tempo in quarter notes per minute."""
    return TempoMap(
        (TempoPoint(0, 0.0, bpm),), sample_rate_hz, beats_per_bar, beat_unit, first_downbeat_frame
    )


def tempo_from_changes(
    changes: Iterable[tuple[int, float]],
    sample_rate_hz: int,
    *,
    beats_per_bar: int = 4,
    beat_unit: int = 4,
    first_downbeat_frame: int = 0,
) -> TempoMap:
    """A map from (frame, bpm) pairs in rising order; the first one is moved to frame 0."""
    points: list[TempoPoint] = []
    for frame, bpm in changes:
        if not points:
            points.append(TempoPoint(0, 0.0, bpm))
            continue
        last = points[-1]
        if frame <= last.frame:
            points[-1] = TempoPoint(last.frame, last.beat, bpm)
            continue
        beats = (frame - last.frame) / sample_rate_hz * last.bpm / 60.0
        points.append(TempoPoint(frame, last.beat + beats, bpm))
    return TempoMap(tuple(points), sample_rate_hz, beats_per_bar, beat_unit, first_downbeat_frame)


def frames_to_beats(tempo: TempoMap, frame: float) -> float:
    """Beats from frame 0 to `frame`; before frame 0 the first tempo holds."""
    index = max(0, bisect_right([p.frame for p in tempo.points], frame) - 1)
    point = tempo.points[index]
    return point.beat + (frame - point.frame) / tempo.sample_rate_hz * point.bpm / 60.0


def beats_to_frames(tempo: TempoMap, beat: float) -> float:
    """The (fractional) frame at which `beat` falls."""
    index = max(0, bisect_right([p.beat for p in tempo.points], beat) - 1)
    point = tempo.points[index]
    return point.frame + (beat - point.beat) * 60.0 / point.bpm * tempo.sample_rate_hz


def seconds_to_beats(tempo: TempoMap, seconds: float) -> float:
    """Beats from frame 0 to a time in seconds."""
    return frames_to_beats(tempo, seconds * tempo.sample_rate_hz)


def beats_to_seconds(tempo: TempoMap, beat: float) -> float:
    """Seconds from frame 0 to `beat`."""
    return beats_to_frames(tempo, beat) / tempo.sample_rate_hz


def beats_to_ticks(beat: float) -> int:
    """MIDI ticks at 480 per quarter note."""
    return round(beat * PPQ)


def ticks_to_beats(ticks: int, ppq: int = PPQ) -> float:
    """Quarter notes."""
    return ticks / ppq


def bar_length_beats(tempo: TempoMap) -> float:
    """Length of a bar in quarter notes: 4/4 gives 4.0, 6/8 gives 3.0."""
    return tempo.beats_per_bar * 4.0 / tempo.beat_unit


def first_downbeat_beats(tempo: TempoMap) -> float:
    """Where the first downbeat falls, in beats from frame 0."""
    return frames_to_beats(tempo, tempo.first_downbeat_frame)


def next_bar_line_frames(tempo: TempoMap, start_frames: int) -> int:
    """Frames from a bounce's first frame to the next bar line of the project it was exported from.

    For a constant tempo, where the timeline's zero is a bar line and the bounce starts
    `start_frames` behind it.
    """
    bar_frames = bar_length_beats(tempo) * 60.0 / tempo.points[0].bpm * tempo.sample_rate_hz
    ahead = round(-start_frames % bar_frames)
    return 0 if ahead >= round(bar_frames) else ahead


def ns_to_beat(line: BeatLine, at_ns: int) -> float:
    """The beat that a live clock shows at a moment of the monotonic clock."""
    return line.beat + (at_ns - line.at_ns) / line.beat_ns


def beat_to_ns(line: BeatLine, beat: float) -> int:
    """When a live clock reaches `beat`, in nanoseconds of the monotonic clock."""
    return line.at_ns + round((beat - line.beat) * line.beat_ns)


def bpm_to_beat_ns(bpm: float) -> float:
    """Nanoseconds per quarter note."""
    return 60e9 / bpm


def beat_ns_to_bpm(beat_ns: float) -> float:
    """Quarter notes per minute."""
    return 60e9 / beat_ns


def quantise_beats(tempo: TempoMap, beat: float, steps_per_beat: int, strength: float = 1.0) -> float:
    """`beat` moved towards the song's own grid (which starts at its first downbeat).

    `strength` 0 leaves it, 1 puts it on the grid.
    """
    origin = first_downbeat_beats(tempo)
    on_grid = round((beat - origin) * steps_per_beat) / steps_per_beat + origin
    return beat + (on_grid - beat) * strength
