"""For scripts without sockets: `<outbox>/.dawbridge/status.json` tells what goes on, `<inbox>/.dawbridge/*.json` are commands.

A thread of its own looks twice a second: it takes each command, deletes its file and answers in the status, which
is written whole, only when something changed, and every few seconds as a sign of life. Nothing that lies in
the folder can hold it up: only small regular files are read, in folders that are no links.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.atomic import replacing
from bridge.config import read_table
from bridge.contracts import known_only, parse_object
from bridge.control import PLAIN_ID, Control
from bridge.errors import ControlError, DawbridgeError, UsageError
from bridge.install import shipped_version
from bridge.names import printable
from bridge.settings import setting
from bridge.sidecar import MAX_BPM, MIN_BPM
from bridge.telling import Tell, unfailing
from bridge.types import Transport

SCHEMA = 1
FOLDER = ".dawbridge"
STATUS = "status.json"
LOOK_S = 0.5
ALIVE_S = 5.0
MAX_BYTES = 64_000
MAX_COMMANDS = 50  # taken in one look
MAX_ENTRIES = 20_000  # of a folder, looked at in one look: 10 ms
TAKING_S = (
    1.0  # when so much of a look is over, further commands wait: the status is the daemon's sign of life
)
MAX_TEXT = 500
JOBS_TOLD = 20
ANSWERS_TOLD = 20
SCRIPTS_KNOWN = 50
METRE = ("beats_per_bar", "beat_unit")
METRE_S = 1.0  # how long the companion may take to hear the metre

log = logging.getLogger(__name__)

_Mark = tuple[Path, int]


@dataclass(frozen=True)
class ReportedTransport:
    """`transport` of a `hello`, as it is checked."""

    bpm: float = field(metadata={"lo": MIN_BPM, "hi": MAX_BPM})
    beats_per_bar: int = setting(4, lo=1, hi=64)
    beat_unit: int = setting(4, choices=(1, 2, 4, 8, 16, 32))
    playing: bool = False
    beat: float = setting(0.0, lo=-1e9, hi=1e9)
    track: str = ""
    project: str = ""


class FileControl:
    """The thread between scripts and daemon. `transport` may be called from any thread."""

    def __init__(
        self,
        control: Control,
        inboxes: Sequence[Path],
        outbox: Path,
        tell: Tell,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control = control
        self._inboxes = tuple(inboxes)
        self._outbox = outbox
        self._tell = unfailing(tell)
        self._clock = clock
        self._answers: dict[str, Mapping[str, Any]] = {}
        self._stuck: set[_Mark] = set()  # command files that can't be deleted: taken once
        self._greeted: set[tuple[str, str]] = set()
        self._reported: tuple[float, Transport] | None = None
        self._metre: tuple[object, int, int] | None = None  # the companion's process, and what it was told
        self._written, self._written_s = "", float("-inf")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Look for commands and write the status while the block runs."""
        stopping = threading.Event()

        def run() -> None:
            while not stopping.wait(LOOK_S):
                try:
                    self.look()
                except Exception:  # the next look tries again; the scripts must not lose their daemon
                    log.exception("scripts' files can't be looked at")

        thread = threading.Thread(target=run, name="dawbridge-files", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(ALIVE_S)

    def transport(self, max_age_s: float) -> Transport | None:
        """What a DAW reported within so many seconds; None where none did."""
        reported = self._reported
        if reported is None or self._clock() - reported[0] > max_age_s:
            return None
        return reported[1]

    def look(self) -> None:
        """Take the commands that lie there, then write the status if it is time."""
        until_s = self._clock() + TAKING_S
        for inbox in self._inboxes:
            for path in _command_files(inbox / FOLDER, self._stuck):
                if self._clock() < until_s:
                    self._take(path)
        self._write_status()

    # commands

    def _take(self, path: Path) -> None:
        mark = _mark(path)
        if mark is None:
            return
        raw: bytes | ControlError
        try:
            raw = _read_small(path)
        except ControlError as exc:
            raw = exc
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            self._stuck.add(mark)
            self._warn(f"{path} can't be deleted ({exc.strerror}); it is taken once. Delete it.")
        self._answer(path.stem, raw)

    def _answer(self, stem: str, raw: bytes | ControlError) -> None:
        try:
            if isinstance(raw, ControlError):
                raise raw
            answer: Mapping[str, Any] = {"ok": True, **self._do(_checked(raw, stem))}
        except DawbridgeError as exc:
            answer = {"ok": False, "code": exc.code, "detail": exc.message[:MAX_TEXT]}
        except Exception as exc:  # a fault in one command must not stop those behind it
            log.exception("command %s failed", stem)
            told = f"This is a fault in dawbridge ({type(exc).__name__}); the log has the details."
            answer = {"ok": False, "code": "unexpected", "detail": told}
        if not PLAIN_ID.fullmatch(stem):
            self._warn(
                f"A command file {printable(stem)[:80]!r} has no plain name, so nobody can be answered."
            )
            return
        self._answers.pop(stem, None)
        self._answers[stem] = answer
        for oldest in list(self._answers)[:-ANSWERS_TOLD]:
            del self._answers[oldest]

    def _do(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        command = body.get("command")
        if command == "cancel":
            return self._control.cancel(_text(body, "job"))
        if command == "retry":
            return self._control.retry(_text(body, "job"))
        if command == "forget":
            return self._control.forget(_text(body, "job"))
        if command == "again":
            return self._control.again(_text(body, "job"), body.get("settings"), body.get("preset", ""))
        if command == "live_set":
            return self._control.live_set(_text(body, "name"), body.get("value"))
        if command == "live":
            return self._control.live_command(_text(body, "name"))
        if command == "hello":
            return self._hello(body)
        raise UsageError(
            f"command = {str(command)[:80]!r} is unknown. Commands are cancel, retry, forget, again, "
            "live_set, live, hello."
        )

    def _hello(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        script, version = printable(_text(body, "script")), printable(_text(body, "script_version"))
        reported = body.get("transport")
        if reported is not None:
            if not isinstance(reported, Mapping):
                raise UsageError("transport must be a table.")
            table = known_only(ReportedTransport, _whole(reported), "transport", UsageError)
            told = read_table(ReportedTransport, table, "transport", UsageError)
            transport = Transport(
                **asdict(told) | {"track": told.track[:MAX_TEXT], "project": told.project[:MAX_TEXT]}
            )
            self._reported = (self._clock(), transport)
            self._tell_metre(transport)
        shipped = shipped_version()
        if _is_older(version, shipped):
            warning = (
                f"The {script} script is version {version}, this dawbridge ships {shipped}. "
                "Run `dawbridge install-scripts`, then start the DAW anew."
            )
            if (script, version) not in self._greeted and len(self._greeted) < SCRIPTS_KNOWN:
                self._greeted.add((script, version))
                self._warn(warning)
            return {"detail": warning}
        return {}

    def _tell_metre(self, transport: Transport) -> None:
        """MIDI clock tells no metre, so the companion learns it from here: once, that it can still be set by hand."""
        live = self._control.live()
        if live is None:
            self._metre = None
            return
        metre = (live.get("pid"), transport.beats_per_bar, transport.beat_unit)
        if metre == self._metre:
            return
        self._metre = metre
        controls = live.get("controls", {})
        for name in METRE:
            value = getattr(transport, name)
            if controls.get(name) != value:
                try:
                    self._control.live_set(name, value, METRE_S)
                except DawbridgeError as exc:  # it ends just now, or can't play in such a metre
                    log.info("the companion's %s stays: %s", name, exc.message)

    def _warn(self, detail: str) -> None:
        self._tell({"event": "warning", "name": "scripts", "detail": detail})

    # status

    def _write_status(self) -> None:
        now_s = self._clock()
        table = self._status()
        text = json.dumps(table)
        if text == self._written and now_s - self._written_s < ALIVE_S:
            return
        table["updated_at"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        path = self._outbox / FOLDER / STATUS
        # A reader may hold the old one open (Windows), or the disk be away: the next look tries again.
        with contextlib.suppress(OSError):
            for folder in (self._outbox, *self._inboxes):
                if folder.is_dir():  # an inbox that is away must not be made anew by us
                    (folder / FOLDER).mkdir(exist_ok=True)
            with replacing(path, durable=False) as file:
                file.write(json.dumps(table, indent=1).encode("ascii") + b"\n")
            self._written, self._written_s = text, now_s

    def _status(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": __version__,
            "updated_at": "",
            "pid": os.getpid(),
            "scripts": shipped_version(),
            "jobs": [self._job(job) for job in self._control.jobs(JOBS_TOLD)],
            "returned": [_song(song) for song in self._control.returned()],
            "live": self._live(),
            "answers": dict(self._answers),
        }

    def _job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        runs = next((stage for stage in job["stages"] if stage["state"] == "running"), None)
        runs = runs if job["state"] == "running" else None
        share = runs["done"] / runs["total"] if runs and runs["total"] > 0 else 0.0
        return {
            **{key: job[key] for key in ("id", "name", "preset", "state", "draft")},
            "stage": runs["stage"] if runs else "",
            "progress": 1.0 if job["state"] == "done" else round(min(1.0, max(0.0, share)), 3),
            "detail": job["detail"],
            "folder": self._control.folder_name(job["folder"]),
        }

    def _live(self) -> Mapping[str, Any] | None:
        live = self._control.live()
        return {key: live.get(key) for key in ("state", "controls", "ports")} if live else None


def _song(song: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("id", "folder", "name", "created_at", "revision", "project", "track", "draft", "replaces")
    return {key: song[key] for key in keys}


def _command_files(folder: Path, but: Set[_Mark]) -> list[Path]:
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):  # a link: what lies behind it is not ours to delete
            return []
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MAX_ENTRIES) if _is_command(entry))
    except OSError:  # not made yet, or its disk is away
        return []
    return list(islice((folder / name for name in names if _mark(folder / name) not in but), MAX_COMMANDS))


def _mark(path: Path) -> _Mark | None:
    """What tells one command file from the next of its name; None where it is gone."""
    try:
        return path, path.lstat().st_mtime_ns
    except OSError:
        return None


def _is_command(entry: os.DirEntry[str]) -> bool:
    return (
        entry.name.endswith(".json")
        and not entry.name.startswith(".")
        and not entry.is_dir(follow_symlinks=False)
    )


def _read_small(path: Path) -> bytes:
    """The bytes of a small regular file.

    Raises:
        ControlError: it is something else, larger, or can't be read.
    """
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        handle = os.open(path, flags)
        with open(handle, "rb") as file:  # noqa: PTH123 -- an open descriptor, not a path
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ControlError("A command must be a regular file.", "usage")
            raw = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ControlError(f"The command can't be read ({exc.strerror}).", "unreadable") from exc
    if len(raw) > MAX_BYTES:
        raise ControlError(f"The command is larger than {MAX_BYTES} bytes.", "too_large")
    return raw


def _checked(raw: bytes, stem: str) -> dict[str, Any]:
    body = parse_object(raw, "The command", UsageError, "Write it under another name, then rename it.")
    schema = body.get("schema", SCHEMA)
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise UsageError(
            f"schema = {str(schema)[:20]} is not {SCHEMA}, the one known here. Update dawbridge."
        )
    if body.get("id", stem) != stem:
        raise UsageError("id must be the file's name without .json.")
    return body


def _whole(table: Mapping[str, Any]) -> dict[str, Any]:
    """Lua has one kind of number for many programs: 4.0 counts as 4 where a whole number is meant."""
    return {
        key: int(value) if key in METRE and isinstance(value, float) and value.is_integer() else value
        for key, value in table.items()
    }


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise UsageError(f"{key} must be text of 1 to {MAX_TEXT} characters.")
    return value


def _is_older(version: str, than: str) -> bool:
    """By numbers, so that 1.10 follows 1.9; what is no version is older than all."""
    return _numbers(version) < _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(p.isdecimal() and len(p) < 6 for p in parts) else ()
