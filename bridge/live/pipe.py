"""The child's end of the pipe that its parent started it with, and the messages on it: JSON bytes, never pickle.

The end of that pipe (`EOFError` when reading, `OSError` when writing) means that the parent closed it or died.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from bridge.types import Note


def inherited_pipe(argument: str) -> Connection:
    """The pipe that `argument`, put first on this process's command line by `livehost.piped`, stands for.

    To be called once: the connection owns it from then on, and no process started from here inherits it.
    """
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        os.set_handle_inheritable(int(argument), False)
        return PipeConnection(int(argument))
    os.set_inheritable(int(argument), False)
    return Connection(int(argument))


def send_message(pipe: Connection, message: Mapping[str, Any]) -> bool:
    """One message as JSON bytes; False if nobody is there any more."""
    try:
        pipe.send_bytes(json.dumps(message, separators=(",", ":")).encode())
    except OSError:
        return False
    return True


def receive_message(pipe: Connection) -> dict[str, Any]:
    """Wait for the next message.

    Raises:
        EOFError: the other side has gone.
    """
    try:
        message: dict[str, Any] = json.loads(pipe.recv_bytes())
    except OSError as exc:
        raise EOFError from exc
    return message


def note_to_list(note: Note) -> list[Any]:
    """As the live protocol carries a note."""
    return [note.start_beats, note.length_beats, note.pitch, note.velocity, note.part]


def note_from_list(values: Sequence[Any]) -> Note:
    """The note that `note_to_list` wrote."""
    start, length, pitch, velocity, part = values
    return Note(float(start), float(length), int(pitch), int(velocity), str(part))
