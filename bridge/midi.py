"""Phrase <-> MIDI bytes and files.

Written files are type 1 at 480 ticks per quarter note: track 0 holds the tempo map, then one track for each
part, named after it. Every note-on has its note-off, and tick 0 is the bounce's first frame.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import mido
from mido.midifiles.meta import KeySignatureError

from bridge.errors import InputError
from bridge.tempo import beats_to_ticks, first_downbeat_beats, tempo_from_changes, ticks_to_beats
from bridge.types import PPQ, Note, Phrase, TempoMap

DRUM_CHANNEL = 9  # channel 10 for musicians
FIRST_DOWNBEAT = "first downbeat"
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
SPARE_CHANNELS = (7, 8, 10, 11, 12, 13, 14, 15)
RESPELLED = {"D#": "Eb", "G#": "Ab", "A#": "Bb", "Dbm": "C#m", "Gbm": "F#m"}
"""Keys that a MIDI key signature can't name, and the same key in another spelling."""


def phrase_to_midi(
    phrase: Phrase, tempo: TempoMap, *, title: str = "", key: str = "", provenance: str = ""
) -> bytes:
    """The bytes of a MIDI file whose end-of-track lies exactly at `phrase.length_beats`.

    Notes of one part on one pitch that overlap are cut, so that each note-off belongs to one note-on; of those
    that begin on one tick the loudest stays. What reaches out of the phrase is cut to it, and a note that begins
    outside begins on its first or last tick instead; only a phrase without length holds none. `key` reads
    "C major"; `provenance` becomes a text event.
    """
    end = beats_to_ticks(phrase.length_beats)
    file = mido.MidiFile(type=1, ticks_per_beat=PPQ, charset="utf-8")
    file.tracks.append(_track(_conductor_events(tempo, title, key, provenance), end))
    by_part: dict[str, list[Note]] = defaultdict(list)
    for note in phrase.notes:
        by_part[note.part].append(note)
    spare = iter(SPARE_CHANNELS)
    for part in sorted(by_part, key=lambda name: (INSTRUMENTS.get(name, (16, 0)), name)):
        channel, program = INSTRUMENTS.get(part) or (next(spare, SPARE_CHANNELS[-1]), 0)
        events = [
            (0, mido.MetaMessage("track_name", name=part)),
            (0, mido.Message("program_change", channel=channel, program=program)),
            *_note_events(by_part[part], channel, end),
        ]
        file.tracks.append(_track(events, end))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def write_midi(
    path: Path, phrase: Phrase, tempo: TempoMap, *, title: str = "", key: str = "", provenance: str = ""
) -> None:
    """`phrase_to_midi` into a file."""
    path.write_bytes(phrase_to_midi(phrase, tempo, title=title, key=key, provenance=provenance))


def read_midi(path: Path, sample_rate_hz: int = 44_100) -> tuple[Phrase, TempoMap]:
    """Notes and tempo of any type 0 or 1 file; parts are named after tracks, channel 10 is `drums`.

    `sample_rate_hz` is the rate that the tempo map's frames count in.

    Raises:
        InputError: the file is missing, damaged, of type 2, or timed in SMPTE frames.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InputError(
            f"{path} can't be read ({exc.strerror}). Check that it exists and is yours."
        ) from exc
    return midi_to_phrase(data, sample_rate_hz, name=str(path))


def midi_to_phrase(
    data: bytes, sample_rate_hz: int = 44_100, name: str = "the MIDI data"
) -> tuple[Phrase, TempoMap]:
    """As `read_midi`, from bytes; `name` stands in the errors."""
    file = _parse(data, name)
    if file.type == 2 or file.ticks_per_beat <= 0:
        kind = "of type 2" if file.type == 2 else "timed in SMPTE frames"
        raise InputError(f"{name} is a MIDI file {kind}. Export it as type 1 with ticks per quarter note.")
    notes = [note for track in file.tracks for note in _read_track(track, file.ticks_per_beat)]
    notes.sort(key=lambda n: (n.start_beats, n.part, n.pitch))
    ticks = max((sum(message.time for message in track) for track in file.tracks), default=0)
    return Phrase(tuple(notes), ticks_to_beats(ticks, file.ticks_per_beat)), _read_tempo(file, sample_rate_hz)


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
        microseconds = round(60_000_000 / point.bpm)
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


def _note_events(notes: Iterable[Note], channel: int, end: int) -> list[tuple[int, mido.Message]]:
    by_pitch: dict[int, dict[int, Note]] = defaultdict(dict)
    for note in notes:
        start = max(0, min(beats_to_ticks(note.start_beats), end - 1))
        twin = by_pitch[note.pitch].get(start)
        if twin is None or note.velocity > twin.velocity:
            by_pitch[note.pitch][start] = note
    events = []
    for pitch, at_tick in by_pitch.items() if end > 0 else ():
        starts = sorted(at_tick)
        for start, following in zip(starts, [*starts[1:], end], strict=False):
            note = at_tick[start]
            stop = max(start + 1, beats_to_ticks(note.start_beats + note.length_beats))
            for kind, tick, velocity in (
                ("note_on", start, note.velocity),
                ("note_off", min(stop, following), 0),
            ):
                message = mido.Message(kind, channel=channel, note=pitch, velocity=velocity)
                events.append((tick, message))
    return events


def _track(events: list[tuple[int, mido.Message]], end: int) -> mido.MidiTrack:
    # At one tick: first what describes the track, then note-offs, then note-ons from low to high.
    rank = {"note_off": 1, "note_on": 2}
    inside = (event for event in events if event[0] <= end)  # the tempo map may go on after the last note
    ordered = sorted(inside, key=lambda e: (e[0], rank.get(e[1].type, 0), getattr(e[1], "note", 0)))
    track = mido.MidiTrack()
    now = 0
    for tick, message in ordered:
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=end - now))
    return track


def _parse(data: bytes, name: str) -> mido.MidiFile:
    reason = ""
    for charset in ("utf-8", "latin-1"):  # older programs write latin-1
        try:
            return mido.MidiFile(file=io.BytesIO(data), charset=charset, clip=True)
        except UnicodeDecodeError:
            continue
        except (OSError, EOFError, ValueError, LookupError, TypeError, KeySignatureError) as exc:
            reason = str(exc) or type(exc).__name__
            break
    raise InputError(f"{name} is no MIDI file that can be read ({reason}). Export it again as type 1.")


def _read_track(track: mido.MidiTrack, ppq: int) -> list[Note]:
    title = next((m.name.strip() for m in track if m.type == "track_name"), "")
    sounding: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    notes = []

    def end_note(channel: int, pitch: int, tick: int) -> None:
        start, velocity = sounding[channel, pitch].pop(0)
        part = "drums" if channel == DRUM_CHANNEL else title or f"channel {channel + 1}"
        length = ticks_to_beats(max(tick - start, 1), ppq)
        notes.append(Note(ticks_to_beats(start, ppq), length, pitch, velocity, part))

    now = 0
    for message in track:
        now += message.time
        if message.type == "note_on" and message.velocity > 0:
            sounding[message.channel, message.note].append((now, message.velocity))
        elif message.type in ("note_on", "note_off") and sounding[message.channel, message.note]:
            end_note(message.channel, message.note, now)
    for (channel, pitch), waiting in sounding.items():
        for _ in list(waiting):
            end_note(channel, pitch, now)
    return notes


def _read_tempo(file: mido.MidiFile, sample_rate_hz: int) -> TempoMap:
    changes: list[tuple[int, float]] = []
    metre: tuple[int, int] = (4, 4)
    metre_seen = False
    downbeat_frame = 0
    seconds, bpm = 0.0, 120.0  # MIDI's tempo until the first set_tempo
    for message in mido.merge_tracks(file.tracks):
        seconds += ticks_to_beats(message.time, file.ticks_per_beat) * 60.0 / bpm
        frame = round(seconds * sample_rate_hz)
        if message.type == "set_tempo" and message.tempo > 0:
            if not changes and frame > 0:
                changes.append((0, bpm))
            bpm = 60_000_000 / message.tempo
            changes.append((frame, bpm))
        elif message.type == "time_signature" and not metre_seen:
            metre, metre_seen = (message.numerator, message.denominator), True
        elif message.type == "marker" and message.text == FIRST_DOWNBEAT:
            downbeat_frame = frame
    return tempo_from_changes(
        changes or [(0, bpm)],
        sample_rate_hz,
        beats_per_bar=metre[0],
        beat_unit=metre[1],
        first_downbeat_frame=downbeat_frame,
    )
