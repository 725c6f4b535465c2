"""A thread for all file work: it watches the daemon's status, reads returned folders, writes `hello`.

It never touches Live, whose objects may be used on Live's main thread only: what it finds goes into a queue that
the main thread empties in its tick.
"""

from __future__ import annotations

import json
import queue
import threading
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Callable, Union

from .config import Config
from .problem import Problem
from .song import UPDATE, Song, read_song

SCHEMA = 1
POLL_S = 0.5
MAX_STATUS_BYTES = 4 << 20
HELLO = "live-hello"
"""One name for all of them: without a daemon that takes it, the newest lies there, not thousands."""


@dataclass(frozen=True)
class Returned:
    """A song that came back."""

    id: str
    folder: str  # relative to the outbox
    name: str  # of the bounce
    revision: int
    project: str  # "" where nobody said


@dataclass(frozen=True)
class Status:
    """What the daemon says."""

    returned: tuple[Returned, ...]  # newest first
    scripts: str  # the version of the scripts that ship with the daemon
    daemon: str  # another one: the daemon was started again


@dataclass(frozen=True)
class Gone:
    """The daemon's status was there, and is no more: the outbox was unplugged."""


@dataclass(frozen=True)
class Refused:
    """A song that was to be read can't be loaded, and why."""

    line: str


News = Union[Status, Gone, Song, Refused, Problem]


class Worker:
    """Owns the thread. `news` is read by the main thread; the methods may be called there."""

    def __init__(self, config: Config, poll_s: float = POLL_S) -> None:
        self.news: queue.Queue[News] = queue.Queue()
        self._config, self._poll_s = config, poll_s
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue()
        self._stopping = threading.Event()
        self._seen: tuple[int, int] | None = None
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name="dawbridge", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for no file."""
        self._stopping.set()
        self._jobs.put(lambda: None)

    def read(self, entry: Returned) -> None:
        """Read and check a returned folder; a `Song` or a `Problem` comes of it."""
        self._jobs.put(lambda: self._read(entry))

    def hello(self, transport: dict[str, Any]) -> None:
        """Tell the daemon who is here and where the song stands."""
        self._jobs.put(lambda: self._hello(transport))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
                self._jobs.get(timeout=self._poll_s)()
            except queue.Empty:
                continue
            except Exception as error:  # noqa: BLE001 -- a dead thread would fall silent for the whole session
                self._tell_fault(error)
                self._stopping.wait(self._poll_s)

    def _tell_fault(self, error: Exception) -> None:
        if repr(error) != self._fault:
            self._fault = repr(error)
            self.news.put(Problem(f"This is a fault in the script ({error!r})."))

    def _look(self) -> None:
        """Read the daemon's status where it has changed."""
        path = self._config.outbox / ".dawbridge" / "status.json"
        try:
            found = path.stat()
            seen = (found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            with path.open("rb") as file:
                raw = file.read(MAX_STATUS_BYTES)
        except OSError:
            if self._seen is not None:
                self.news.put(Gone())
            self._seen = None
            return
        self._seen = seen
        try:
            self.news.put(parse_status(raw))
        except Problem as problem:
            self.news.put(problem)

    def _read(self, entry: Returned) -> None:
        try:
            self.news.put(read_song(self._config.outbox.joinpath(*PurePosixPath(entry.folder).parts)))
        except Problem as problem:
            self.news.put(Refused(problem.line))
        except Exception as error:  # noqa: BLE001 -- else the script would wait for it forever
            self.news.put(Refused(f"{entry.folder} can't be read: a fault in the script ({error!r})."))

    def _hello(self, transport: dict[str, Any]) -> None:
        command = {
            "schema": SCHEMA,
            "id": HELLO,
            "command": "hello",
            "script": "live",
            "script_version": self._config.version,
            "transport": transport,
        }
        folder = self._config.inbox / ".dawbridge"
        temporary = folder / (HELLO + ".tmp")
        try:
            if not self._config.inbox.is_dir():
                return
            folder.mkdir(exist_ok=True)
            temporary.write_bytes(json.dumps(command).encode("utf-8"))
            temporary.replace(folder / (HELLO + ".json"))
        except OSError:
            return  # no daemon, no folder, or it is being read just now: the next one will do


def parse_status(raw: bytes) -> Status:
    """The daemon's status; entries that make no sense are left out.

    Raises:
        Problem: it is of a later schema, or no such file at all.
    """
    try:
        table = json.loads(raw.decode("utf-8"))
        if table["schema"] > SCHEMA:
            line = "dawbridge's status is of schema {}; this script knows {}. {}"
            raise Problem(line.format(table["schema"], SCHEMA, UPDATE))
        returned = tuple(entry for entry in map(_returned, table.get("returned", ())) if entry is not None)
        return Status(returned, str(table.get("scripts", "")), str(table.get("pid", "")))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise Problem(f"dawbridge's status.json is damaged ({error!r}).") from error


def _returned(item: Any) -> Returned | None:
    if not isinstance(item, dict) or not isinstance(item.get("folder"), str):
        return None
    folder = PurePosixPath(item["folder"])
    if not folder.parts or folder.is_absolute() or ".." in folder.parts or set(item["folder"]) & set("\\:\0"):
        return None
    revision = item.get("revision", 1)
    return Returned(
        id=str(item.get("id", "")),
        folder=item["folder"],
        name=str(item.get("name", "")),
        revision=revision if type(revision) is int else 1,
        project=str(item.get("project") or ""),
    )
