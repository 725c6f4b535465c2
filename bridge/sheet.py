"""A MIDI file of any program as notes, tempo and bars.

A note ends with its note-off, held on by the sustain pedal, and with its track at last, so that none hangs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bridge.errors import InputError
from bridge.midievents import (
    CONTROL,
    MARKER,
    NOTE_OFF,
    NOTE_ON,
    PROGRAM,
    SET_TEMPO,
    TIME_SIGNATURE,
    TRACK_NAME,
    Meta,
    RawFile,
    RawTrack,
    read_events,
)
from bridge.tempo import beats_to_frames, tempo_from_changes, ticks_to_beats
from bridge.types import PPQ, Note, Phrase, TempoMap

DRUM_CHANNEL = 9  # channel 10 for musicians
FIRST_DOWNBEAT = "first downbeat"
"""The marker where a file's first bar line stands, if not at tick 0."""


@dataclass(frozen=True)
class Voice:
    """Who plays a note, as a file says it."""

    track: str  # its name, "" where it has none
    channel: int  # 0..15
    program: int | None  # General MIDI program from 0; None where none was set


@dataclass(frozen=True)
class Bars:
    """From `start_beats`, a bar line, bars have this length; until the next ones."""

    start_beats: float
    beats_per_bar: int
    beat_unit: int

    @property
    def bar_beats(self) -> float:
        """Quarter notes in a bar."""
        return self.beats_per_bar * 4.0 / self.beat_unit


@dataclass(frozen=True)
class Sheet:
    """All that we read of a MIDI file."""

    phrase: Phrase
    tempo: TempoMap  # its metre is the first one
    bars: tuple[Bars, ...]  # rising; before the first ones its bar lines go on backwards


def named_after_track(voice: Voice) -> str:
    """`drums` on channel 10, else the track's name, or its channel's number."""
    if voice.channel == DRUM_CHANNEL:
        return "drums"
    return voice.track or f"channel {voice.channel + 1}"


def read_sheet(
    path: Path,
    part_of: Callable[[Voice], str | None] = named_after_track,
    *,
    sample_rate_hz: int = 44_100,
) -> Sheet:
    """Notes, tempo and bars of any type 0 or 1 file; `part_of` names the parts, None leaves a note out.

    `sample_rate_hz` is the rate that the tempo map's frames count in. About 1 s for 100,000 notes.

    Raises:
        InputError: the file is missing, damaged, cut off, too long, of type 2, or timed in SMPTE frames.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InputError(
            f"{path} can't be read ({exc.strerror}). Check that it exists and is yours."
        ) from exc
    return midi_to_sheet(data, str(path), part_of, sample_rate_hz=sample_rate_hz)


def midi_to_sheet(
    data: bytes,
    name: str,
    part_of: Callable[[Voice], str | None] = named_after_track,
    *,
    sample_rate_hz: int = 44_100,
) -> Sheet:
    """As `read_sheet`, from bytes; `name` stands in the errors."""
    file = read_events(data, name)
    programs = _Programs(file)
    part_of = cache(part_of)
    notes = [
        note for index in range(len(file.tracks)) for note in _read_track(file, index, programs, part_of)
    ]
    notes.sort(key=lambda n: (n.start_beats, n.part, n.pitch))
    length_beats = ticks_to_beats(max((track.end_tick for track in file.tracks), default=0), file.ppq)
    metas = sorted((meta for track in file.tracks for meta in track.metas), key=lambda meta: meta[0])
    tempo = _read_tempo(metas, file.ppq, sample_rate_hz)
    bars = _read_bars(metas, file.ppq)
    tempo = replace(
        tempo,
        beats_per_bar=bars[0].beats_per_bar,
        beat_unit=bars[0].beat_unit,
        first_downbeat_frame=round(beats_to_frames(tempo, bars[0].start_beats)),
    )
    return Sheet(Phrase(tuple(notes), length_beats), tempo, bars)


class _Programs:
    """Which General MIDI program a channel of a track has at a tick.

    A track's own changes count; one without any has those that other tracks make on its channel.
    """

    def __init__(self, file: RawFile) -> None:
        own: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        anyone: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for index, track in enumerate(file.tracks):
            for tick, status, program, _ in track.messages:
                if status & 0xF0 == PROGRAM:
                    own[index, status & 0x0F].append((tick, program))
                    anyone[status & 0x0F].append((tick, program))
        self._own = own
        self._anyone = {channel: sorted(changes, key=lambda c: c[0]) for channel, changes in anyone.items()}

    def at(self, track: int, channel: int, tick: int) -> int | None:
        """The program from 0; None before the first change."""
        changes = self._own.get((track, channel)) or self._anyone.get(channel, [])
        index = bisect_right(changes, tick, key=lambda change: change[0])
        return changes[index - 1][1] if index else None


@dataclass
class _Key:
    """One pitch of one channel as it is played: notes held by the finger, and those that the pedal holds on."""

    pressed: deque[tuple[int, int, str | None]]  # tick, velocity and part, the oldest first
    held: list[tuple[int, int, str | None]]


def _read_track(
    file: RawFile, index: int, programs: _Programs, part_of: Callable[[Voice], str | None]
) -> list[Note]:
    track = file.tracks[index]
    title = _title(track)
    keys: dict[int, dict[int, _Key]] = defaultdict(lambda: defaultdict(lambda: _Key(deque(), [])))
    pedals: set[int] = set()
    notes: list[Note] = []

    def end(pitch: int, tick: int, begun: Iterable[tuple[int, int, str | None]]) -> None:
        for start, velocity, part in begun:
            if part is not None:
                length = max(ticks_to_beats(tick - start, file.ppq), 1 / PPQ)
                notes.append(Note(ticks_to_beats(start, file.ppq), length, pitch, velocity, part))

    for tick, status, first, second in track.messages:
        kind, channel = status & 0xF0, status & 0x0F
        if kind == NOTE_ON and second:
            key = keys[channel][first]
            end(first, tick, key.held)  # a string that is struck again
            key.held = []
            part = part_of(Voice(title, channel, programs.at(index, channel, tick)))
            key.pressed.append((tick, second, part))
        elif kind in (NOTE_ON, NOTE_OFF):
            key = keys[channel][first]
            if key.pressed and channel in pedals:
                key.held.append(key.pressed.popleft())
            elif key.pressed:
                end(first, tick, [key.pressed.popleft()])
        elif kind == CONTROL and second >= 64:
            pedals.add(channel)
        elif kind == CONTROL and channel in pedals:
            pedals.discard(channel)
            for pitch, key in keys[channel].items():
                end(pitch, tick, key.held)
                key.held = []
    for played in keys.values():
        for pitch, key in played.items():
            end(pitch, track.end_tick, [*key.held, *key.pressed])
    return notes


def _title(track: RawTrack) -> str:
    return next((_text(content).strip() for _, kind, content in track.metas if kind == TRACK_NAME), "")


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:  # older programs write latin-1
        return content.decode("latin-1")


def _read_tempo(metas: Sequence[Meta], ppq: int, sample_rate_hz: int) -> TempoMap:
    changes = [(0, 120.0)]  # MIDI's tempo until the first change
    seconds, before = 0.0, 0
    for tick, kind, content in metas:
        microseconds = int.from_bytes(content[:3], "big") if kind == SET_TEMPO else 0
        if microseconds:
            seconds += ticks_to_beats(tick - before, ppq) * 60.0 / changes[-1][1]
            before = tick
            changes.append((round(seconds * sample_rate_hz), 60_000_000 / microseconds))
    return tempo_from_changes(changes, sample_rate_hz)


def _read_bars(metas: Sequence[Meta], ppq: int) -> tuple[Bars, ...]:
    bars = {0.0: Bars(0.0, 4, 4)}
    downbeat_beats = 0.0
    for tick, kind, content in metas:
        beats = ticks_to_beats(tick, ppq)
        if kind == MARKER and _text(content) == FIRST_DOWNBEAT:
            downbeat_beats = beats
        elif kind == TIME_SIGNATURE and len(content) >= 2 and content[0] and content[1] <= 6:
            bars[beats] = Bars(beats, content[0], 2 ** content[1])
    first, *others = bars.values()
    if not others or downbeat_beats < others[0].start_beats:
        first = replace(first, start_beats=downbeat_beats)
    return first, *others
