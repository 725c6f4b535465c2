"""Phrase <-> MIDI bytes and files.

Written files are type 1 at 480 ticks per quarter note: track 0 holds the tempo map, then one track for each
part, named after it. Every note-on has its note-off, and tick 0 is the bounce's first frame. Reading is `sheet`'s.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import mido

from bridge.sheet import DRUM_CHANNEL, FIRST_DOWNBEAT, midi_to_sheet, read_sheet
from bridge.tempo import beats_to_ticks, first_downbeat_beats
from bridge.types import PPQ, Note, Phrase, TempoMap

INSTRUMENTS = {  # part: (channel, General MIDI program counted from 0)
    "vocals": (0, 53),  # voice oohs
    "bass": (1, 33),  # fingered bass
    "other": (2, 0),  # grand piano
    "lead": (3, 80),  # square lead
    "piano": (4, 0),
    "guitar": (5, 25),  # steel guitar
    "strings": (6, 48),  # string ensemble
    "drums": (DRUM_CHANNEL, 0),
}
KEY_NAMES = frozenset(
    [
        "Cb",
        "Gb",
        "Db",
        "Ab",
        "Eb",
        "Bb",
        "F",
        "C",
        "G",
        "D",
        "A",
        "E",
        "B",
        "F#",
        "C#",
        "Abm",
        "Ebm",
        "Bbm",
        "Fm",
        "Cm",
        "Gm",
        "Dm",
        "Am",
        "Em",
        "Bm",
        "F#m",
        "C#m",
        "G#m",
        "D#m",
        "A#m",
    ]
)
SLOWEST_US, FASTEST_US = 0xFFFFFF, 1
"""Microseconds per quarter note that a file can hold: tempi outside 3.6 to 60,000,000 bpm become the nearest."""
SPARE_CHANNELS = (7, 8, 10, 11, 12, 13, 14, 15)
RESPELLED = {"D#": "Eb", "G#": "Ab", "A#": "Bb", "Dbm": "C#m", "Gbm": "F#m"}
"""Keys that a MIDI key signature can't name, and the same key in another spelling."""

Event = tuple[int, mido.Message]
"""When, in the unit that `place` counts in, and what."""


@dataclass(frozen=True)
class Track:
    """One part of a phrase as MIDI plays it."""

    part: str
    events: tuple[Event, ...]  # its program, then note-ons and note-offs


def tracks(phrase: Phrase, place: Callable[[float], int]) -> list[Track]:
    """The phrase part by part; `place` turns beats into ticks, frames or another unit.

    Notes of one part on one pitch that overlap are cut, so that each note-off belongs to one note-on; of those
    that begin at one place the loudest stays. What reaches out of the phrase is cut to it, and a note that
    begins outside begins at its first or last place instead; only a phrase without length holds none.
    """
    by_part: dict[str, list[Note]] = defaultdict(list)
    for note in phrase.notes:
        by_part[note.part].append(note)
    spare = iter(SPARE_CHANNELS)
    made = []
    for part in sorted(by_part, key=lambda name: (INSTRUMENTS.get(name, (16, 0)), name)):
        channel, program = INSTRUMENTS.get(part) or (next(spare, SPARE_CHANNELS[-1]), 0)
        change = mido.Message("program_change", channel=channel, program=program)
        notes = _note_events(by_part[part], channel, place, place(phrase.length_beats))
        made.append(Track(part, ((0, change), *notes)))
    return made


def in_playing_order(events: Iterable[Event]) -> list[Event]:
    """At one place: first what describes the track, then note-offs, then note-ons from low to high."""
    rank = {"note_off": 1, "note_on": 2}
    return sorted(events, key=lambda e: (e[0], rank.get(e[1].type, 0), getattr(e[1], "note", 0)))


def phrase_to_midi(
    phrase: Phrase, tempo: TempoMap, *, title: str = "", key: str = "", provenance: str = ""
) -> bytes:
    """The bytes of a MIDI file whose end-of-track lies exactly at `phrase.length_beats`; notes as in `tracks`.

    `key` reads "C major"; `provenance` becomes a text event.
    """
    end = beats_to_ticks(phrase.length_beats)
    file = mido.MidiFile(type=1, ticks_per_beat=PPQ, charset="utf-8")
    file.tracks.append(_track(_conductor_events(tempo, title, key, provenance), end))
    for track in tracks(phrase, beats_to_ticks):
        file.tracks.append(_track([(0, mido.MetaMessage("track_name", name=track.part)), *track.events], end))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def write_midi(
    path: Path, phrase: Phrase, tempo: TempoMap, *, title: str = "", key: str = "", provenance: str = ""
) -> None:
    """`phrase_to_midi` into a file."""
    path.write_bytes(phrase_to_midi(phrase, tempo, title=title, key=key, provenance=provenance))


def read_midi(path: Path, sample_rate_hz: int = 44_100) -> tuple[Phrase, TempoMap]:
    """Notes and tempo of any type 0 or 1 file; parts and errors as in `sheet.read_sheet`."""
    sheet = read_sheet(path, sample_rate_hz=sample_rate_hz)
    return sheet.phrase, sheet.tempo


def midi_to_phrase(
    data: bytes, sample_rate_hz: int = 44_100, name: str = "the MIDI data"
) -> tuple[Phrase, TempoMap]:
    """As `read_midi`, from bytes; `name` stands in the errors."""
    sheet = midi_to_sheet(data, name, sample_rate_hz=sample_rate_hz)
    return sheet.phrase, sheet.tempo


def _conductor_events(
    tempo: TempoMap, title: str, key: str, provenance: str
) -> list[tuple[int, mido.MetaMessage]]:
    events = [(0, mido.MetaMessage("track_name", name=title))] if title else []
    if provenance:
        events.append((0, mido.MetaMessage("text", text=provenance)))
    events.append(
        (
            0,
            mido.MetaMessage("time_signature", numerator=tempo.beats_per_bar, denominator=tempo.beat_unit),
        )
    )
    signature = _key_signature(key)
    if signature:
        events.append((0, mido.MetaMessage("key_signature", key=signature)))
    for point in tempo.points:
        microseconds = max(FASTEST_US, min(round(60_000_000 / point.bpm), SLOWEST_US))
        events.append((beats_to_ticks(point.beat), mido.MetaMessage("set_tempo", tempo=microseconds)))
    downbeat = beats_to_ticks(first_downbeat_beats(tempo))
    if downbeat > 0:
        events.append((downbeat, mido.MetaMessage("marker", text=FIRST_DOWNBEAT)))
    return events


def _key_signature(key: str) -> str:
    """mido's name of a key such as "A minor"; empty where there is none."""
    tonic, _, mode = key.partition(" ")
    name = tonic + {"major": "", "minor": "m"}.get(mode, "?")
    name = RESPELLED.get(name, name)
    return name if name in KEY_NAMES else ""


def _note_events(notes: Iterable[Note], channel: int, place: Callable[[float], int], end: int) -> list[Event]:
    by_pitch: dict[int, dict[int, Note]] = defaultdict(dict)
    for note in notes:
        start = max(0, min(place(note.start_beats), end - 1))
        twin = by_pitch[note.pitch].get(start)
        if twin is None or note.velocity > twin.velocity:
            by_pitch[note.pitch][start] = note
    events = []
    for pitch, placed in by_pitch.items() if end > 0 else ():
        starts = sorted(placed)
        for start, following in zip(starts, [*starts[1:], end], strict=False):
            note = placed[start]
            stop = max(start + 1, place(note.start_beats + note.length_beats))
            for kind, at, velocity in (
                ("note_on", start, note.velocity),
                ("note_off", min(stop, following), 0),
            ):
                message = mido.Message(kind, channel=channel, note=pitch, velocity=velocity)
                events.append((at, message))
    return events


def _track(events: list[Event], end: int) -> mido.MidiTrack:
    inside = (event for event in events if event[0] <= end)  # the tempo map may go on after the last note
    track = mido.MidiTrack()
    now = 0
    for tick, message in in_playing_order(inside):
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=end - now))
    return track
