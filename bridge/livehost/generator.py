"""The generator process: holds the Music Transformer and writes bars while the live process keeps time.

It takes the messages of its pipe in order: `context`, `forget`, `ask`, `cancel`, `metre`, `song`, `quit`. While it writes
it looks at the pipe before each row, so that a newer ask, or a cancel, ends the older one within some
milliseconds; everything else waits until that is done. A message that makes no sense is answered with an `error`, and it
lives on. It ends when the pipe does. One thread; whoever starts it sets the numerical libraries to one thread too.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bridge.config import read_table
from bridge.errors import DawbridgeError, InputError
from bridge.live.controls import FOLLOW, FREE
from bridge.live.pipe import inherited_pipe, note_to_list, receive_message, send_message
from bridge.livehost.improviser import Ask, Improviser
from bridge.manifest import Manifest, read_manifest
from bridge.transformer.decoder import Decoder
from bridge.transformer.heard import hear_midi
from bridge.transformer.parts import PARTS
from bridge.transformer.shipped import load_model
from bridge.types import Note

SONG_NOTES = "notes_quantised"  # the artifact that a song is heard from
MOST_SONG_NOTES = 1_000


@dataclass(frozen=True)
class Message:
    """What came over the pipe, and when (`time.perf_counter`)."""

    fields: Mapping[str, Any]
    at_s: float

    @property
    def type(self) -> str:
        return str(self.fields.get("type"))


@dataclass(frozen=True)
class Song:
    """A returned song, as context."""

    notes: tuple[Note, ...]  # beat 0 is a bar line
    bar_beats: float
    key: str


class _Superseded(Exception):
    """The ask under way is no longer wanted."""


def generator_main(pipe: Connection, model_name: str, models_dir: Path) -> int:
    """The process, until its pipe ends or `quit` comes; its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    began_s = time.perf_counter()
    try:
        model = load_model(model_name, models_dir)
    except DawbridgeError as exc:
        send(pipe, "error", id=None, detail=exc.message)
        return 1
    with contextlib.suppress(EOFError):  # the parent closed the pipe, or died
        generator = Generator(pipe, model)
        generator.warm_up()
        send(pipe, "ready", model=model_name, load_s=round(time.perf_counter() - began_s, 3))
        generator.serve()
    return 0


class Generator:
    """Serves one pipe."""

    def __init__(self, pipe: Connection, model: Decoder) -> None:
        self._pipe = pipe
        self._model = model
        self._improviser = Improviser(model)
        self._song: Song | None = None
        self._inbox: deque[Message] = deque()

    def serve(self) -> None:
        """Answer until `quit`.

        Raises:
            EOFError: the pipe ended.
        """
        while True:
            if not self._inbox:
                self._receive()
            message = self._inbox.popleft()
            if message.type == "quit":
                return
            try:
                self._handle(message)
            except DawbridgeError as exc:
                send(self._pipe, "error", id=message.fields.get("id"), detail=exc.message)
            except _Superseded:
                pass

    def warm_up(self) -> None:
        """Write a bar of nothing, so that the first real one is as quick as the others."""
        list(Improviser(self._model).write(Ask(id=0, from_beat=0.0, bars=1, parts=("piano",))))

    def _receive(self) -> None:
        """Wait for a message and put it behind the others."""
        try:
            fields = receive_message(self._pipe)
        except ValueError:  # no JSON
            fields = {}
        self._inbox.append(Message(fields if isinstance(fields, dict) else {}, time.perf_counter()))

    def _handle(self, message: Message) -> None:
        fields = message.fields
        match message.type:
            case "context":
                self._improviser.hear([_note(values) for values in _list(fields, "notes")])
            case "forget":
                self._improviser.forget([_note(values) for values in _list(fields, "notes")])
            case "ask":
                self._answer(message)
            case "cancel":
                pass  # it came when that ask was done already
            case "metre":
                self._set_metre(_number(fields, "bar_beats"))
            case "song":
                self._prime(Path(str(fields.get("folder"))))
            case other:
                raise InputError(
                    f'A message of type "{other}" is unknown: context, ask, cancel, metre, song, quit.'
                )

    def _answer(self, message: Message) -> None:
        ask = ask_of(message.fields)
        self._stop_if_superseded(ask.id)
        self._improviser.fix_key("" if ask.key in (FOLLOW, FREE) else ask.key)
        key = self._improviser.key_for(ask.key)
        for bar in self._improviser.write(ask, lambda: self._stop_if_superseded(ask.id)):
            send(
                self._pipe,
                "phrase",
                id=ask.id,
                bar=bar.index,
                notes=[note_to_list(note) for note in bar.notes],
                last=bar.is_last,
                seed=ask.seed,
                key=key,
                took_ms=round((time.perf_counter() - message.at_s) * 1e3, 1),
            )

    def _stop_if_superseded(self, ask_id: int) -> None:
        while self._pipe.poll(0):
            self._receive()
        for message in self._inbox:
            is_cancel = message.type == "cancel" and message.fields.get("id") == ask_id
            if is_cancel or message.type in ("ask", "quit"):
                raise _Superseded

    def _set_metre(self, bar_beats: float) -> None:
        """Begin anew with other bars: what was heard in the old ones no longer fits."""
        if bar_beats == self._improviser.bar_beats:
            return
        self._improviser = Improviser(self._model, bar_beats)
        if self._song is not None:
            self._improviser.prime(self._song.notes, self._song.bar_beats, self._song.key)

    def _prime(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        heard = hear_midi(_song_file(manifest, folder), MOST_SONG_NOTES)
        song = Song(heard.phrase.notes, heard.metre.bar_beats, manifest.key or "")
        self._improviser.prime(song.notes, song.bar_beats, song.key)
        self._song = song
        tempo = manifest.tempo
        present = {note.part for note in song.notes}
        send(
            self._pipe,
            "song",
            key=song.key,
            bpm=round(tempo.bpm if tempo else heard.bpm, 3),
            beats_per_bar=tempo.beats_per_bar if tempo else heard.bars.beats_per_bar,
            beat_unit=tempo.beat_unit if tempo else heard.bars.beat_unit,
            parts=[part for part in PARTS if part in present],
        )


def send(pipe: Connection, kind: str, **fields: Any) -> None:
    """One message of this type; if nobody is there, the next look at the pipe tells."""
    send_message(pipe, {"type": kind, **fields})


def ask_of(fields: Mapping[str, Any]) -> Ask:
    """The ask in a message; whether its values make sense shows when it is written.

    Raises:
        InputError: a field is missing, unknown or of a wrong type.
    """
    settings = fields.get("settings", {})
    if not isinstance(settings, dict):
        raise InputError(f"settings is {settings!r}, but must be an object.")
    told = {name: fields[name] for name in ("id", "from_beat", "bars", "seed") if name in fields}
    ranges = settings.get("ranges", {})
    if not isinstance(ranges, dict) or not all(_is_range(value) for value in ranges.values()):
        raise InputError(f'ranges is {ranges!r}, but must be an object such as {{"bass": [28, 50]}}.')
    if missing := {"id", "from_beat", "bars", "parts"} - set(told) - set(settings):
        raise InputError(f"An ask must have {min(missing)}.")
    planned = tuple(_note(values) for values in _list(fields, "planned")) if "planned" in fields else ()
    whole = {**settings, **told, "planned": (), "ranges": {part: tuple(r) for part, r in ranges.items()}}
    return replace(read_table(Ask, whole, "ask", InputError), planned=planned)


def _song_file(manifest: Manifest, folder: Path) -> Path:
    for artifact in manifest.artifacts:
        if artifact.name == SONG_NOTES:
            return folder / artifact.path
    raise InputError(f"{folder} holds no {SONG_NOTES}, so there is nothing to hear. Choose a song with MIDI.")


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise InputError(f"{name} is {value!r}, but must be a list.")
    return value


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"{name} is {value!r}, but must be a number.")
    return float(value)


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(pitch) is int for pitch in value)


def _note(values: Any) -> Note:
    match values:
        case [
            int() | float() as start,
            int() | float() as length,
            int() as pitch,
            int() as velocity,
            str() as part,
        ]:
            return Note(float(start), float(length), pitch, velocity, part)
    raise InputError(f"{values!r} is no note: start_beats, length_beats, pitch, velocity, part.")


if __name__ == "__main__":
    raise SystemExit(generator_main(inherited_pipe(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
