"""What may be asked of the daemon, and of the companion: one set of functions for HTTP, the scripts' files and the command line.

What changes something is a request row in the ledger, which the daemon answers; what only asks is read
from ledger, outbox and state folder. Every call may block for seconds: never on an event loop. Arguments may
come from anywhere: all of them are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge.cleaning import clean
from bridge.config import Folders
from bridge.errors import ControlError, LiveError, UsageError
from bridge.holder import daemon_runs
from bridge.ledger import Ledger
from bridge.ledger_rows import UNDER_WAY, JobRow
from bridge.live.controls import COMMANDS
from bridge.livehost.remote import ask_companion, companion_state
from bridge.names import name_trouble
from bridge.returned import Shelf
from bridge.types import ROLES

ADDRESSEE = "daemon"
ANSWER_S = 5.0
TAKE_S = 60.0  # a long bounce on a slow disk is read twice
JOBS_LISTED = 100
JOBS_SEARCHED = 10_000
RETURNED_LISTED = 50
MAX_NAME = 200
PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Control:
    """The daemon that holds a state folder, as others see it."""

    def __init__(self, folders: Folders, ledger: Ledger, shelf: Shelf) -> None:
        self._folders = folders
        self._ledger = ledger
        self._shelf = shelf

    # jobs

    def jobs(self, limit: int = JOBS_LISTED) -> list[dict[str, Any]]:
        """The newest jobs with their stages, newest first."""
        return [self._with_stages(row) for row in self._ledger.jobs(limit)]

    def job(self, job_id: str) -> dict[str, Any]:
        """One job with its stages.

        Raises:
            ControlError: `unknown_job`.
        """
        row = self._ledger.job(job_id) if PLAIN_ID.fullmatch(job_id) else None
        if row is None:
            raise unknown_job(job_id)
        return self._with_stages(row)

    def cancel(self, job_id: str) -> Mapping[str, Any]:
        """Call off a job that waits or runs; finished stages are kept.

        Raises:
            ControlError: `unknown_job`, `ended`, `elsewhere` (another process runs it), `silent`.
        """
        self.job(job_id)
        return self._ask({"name": "cancel", "job": job_id})

    def retry(self, job_id: str) -> Mapping[str, Any]:
        """Run a failed, cancelled or quarantined job again; the answer's `job` is the id it has then.

        Raises:
            ControlError: `unknown_job`, `under_way`, `ended` (it is done), `gone` (so is its file), `silent`;
                or the reason why its file still can't be taken.
        """
        self.job(job_id)
        return self._ask({"name": "retry", "job": job_id}, TAKE_S)

    def forget(self, word: str) -> Mapping[str, Any]:
        """Take an ended job off the list and let its file count as new; or, by its path, a file that was seen.

        A running daemon then looks at the file as if for the first time. Without a daemon it is done at once.

        Raises:
            ControlError: `unknown_job`, `under_way` (cancel it first), `silent`.
        """
        if Path(word).is_absolute() and self._ledger.forget_file(Path(word)):
            if daemon_runs(self._folders):
                self._ask({"name": "look", "path": word})
            return {"job": word, "state": "forgotten"}
        row = self.find(word)
        if daemon_runs(self._folders):
            return self._ask({"name": "forget", "job": row.id})
        if row.state in UNDER_WAY:
            raise ControlError(f"Job {row.id} is under way. Cancel it first.", "under_way")
        self._ledger.forget_job(row.id)
        return {"job": row.id, "state": "forgotten"}

    def again(self, word: str, overrides: Any = None, preset: Any = "") -> Mapping[str, Any]:
        """Have another take of a song made, by other settings or another preset; else by another seed.

        Raises:
            UsageError: settings or preset are of the wrong kind.
            ControlError: `unknown_job`, `gone` (so is its file), `changed` (it holds other audio), `silent`.
        """
        tables = overrides or {}
        if not isinstance(tables, Mapping) or not all(
            isinstance(table, Mapping) for table in tables.values()
        ):
            raise UsageError('settings must be tables by stage: {"generate": {"seed": 7}}.')
        if not isinstance(preset, str) or len(preset) > MAX_NAME:
            raise UsageError("preset must be a name of `dawbridge presets`.")
        body = {"name": "again", "job": self.find(word).id, "overrides": tables, "preset": preset}
        return self._ask(body, TAKE_S)

    def clean(self, what: Collection[str], *, dry_run: bool = False) -> Mapping[str, Any]:
        """Free disk, see `cleaning.clean`; by the daemon, where one runs.

        Raises:
            UsageError, ControlError: as `cleaning.clean`; `silent`.
        """
        if daemon_runs(self._folders):
            return self._ask({"name": "clean", "what": list(what), "dry_run": dry_run}, TAKE_S)
        outbox = self._shelf.outbox
        return asdict(clean(self._folders, self._ledger, what, outbox=outbox, dry_run=dry_run))

    def find(self, word: str) -> JobRow:
        """The job of this id, else the newest one of a song of this name, file name, or returned folder.

        Raises:
            ControlError: `unknown_job`.
        """
        row = self._ledger.job(word) if PLAIN_ID.fullmatch(word) else None
        if row is not None:
            return row
        for row in self._ledger.jobs(JOBS_SEARCHED):
            folder = Path(row.folder).name if row.folder else ""
            if word in (row.name, Path(row.name).stem, row.source, folder):
                return row
        raise unknown_job(word)

    def take(self, path: Any, preset: Any = "", role: Any = "") -> Mapping[str, Any]:
        """Have a file of a watched folder worked on, by default with that folder's preset and role.

        The file must be written to its end: nothing waits for it to settle.

        Raises:
            UsageError: the path, preset or role is none.
            ControlError: `outside` (it lies in no watched folder), `silent`; or the file's or preset's own fault.
        """
        for name, value in (("path", path), ("preset", preset), ("role", role)):
            if not isinstance(value, str) or "\0" in value:
                raise UsageError(f"{name} must be text.")
        if len(preset) > MAX_NAME or (role and role not in ROLES):
            raise UsageError(f"role must be one of {', '.join(ROLES)}, preset a name of `dawbridge presets`.")
        if not Path(path).is_absolute() or name_trouble(Path(path)):
            raise UsageError("path must be the whole path of an audio file in a watched folder.")
        return self._ask({"name": "take", "path": path, "preset": preset, "role": role}, TAKE_S)

    def _with_stages(self, row: JobRow) -> dict[str, Any]:
        return asdict(row) | {"stages": [asdict(event) for event in self._ledger.stages(row.id)]}

    def _ask(self, body: Mapping[str, Any], timeout_s: float = ANSWER_S) -> Mapping[str, Any]:
        answer = self._ledger.ask(ADDRESSEE, body, timeout_s)
        if answer is None:
            raise ControlError(
                f"The daemon gave no answer for {timeout_s:.0f} s; it may do what was asked later. "
                "See `dawbridge jobs`.",
                "silent",
            )
        if not answer["ok"]:
            raise ControlError(answer["detail"], answer["code"])
        return answer

    # what came back

    def returned(self, limit: int = RETURNED_LISTED) -> list[dict[str, Any]]:
        """The folders that came back with their artifacts, newest first; project and track where known."""
        songs = []
        for song in self._shelf.newest(limit):
            row = self._ledger.job(song.id) if PLAIN_ID.fullmatch(song.id) else None
            origin = {"project": row.project if row else "", "track": row.track if row else ""}
            songs.append(asdict(song) | origin)
        return songs

    def artifact(self, song_id: str, name: str) -> Path:
        """The file of one artifact, inside the outbox.

        Raises:
            ControlError: see `Shelf.file`.
        """
        return self._shelf.file(song_id, name)

    def folder_name(self, folder: str | None) -> str | None:
        """A returned folder relative to the outbox; None where it lies elsewhere."""
        if folder is None or not Path(folder).is_relative_to(self._shelf.outbox):
            return None
        return Path(folder).relative_to(self._shelf.outbox).as_posix()

    # the companion

    def live(self) -> Mapping[str, Any] | None:
        """What the companion does now; None where none runs."""
        if not self._folders.live_state.exists():
            return None
        try:
            return companion_state(self._folders) or None
        except (LiveError, ValueError):
            return None

    def live_set(self, name: Any, value: Any, timeout_s: float = ANSWER_S) -> Mapping[str, Any]:
        """Set a control of the running companion.

        Raises:
            LiveError: none runs (`not_running`), it is `silent`, or the control or value is wrong (`usage`).
        """
        return ask_companion(self._folders, {"name": _short_name(name), "value": value}, timeout_s)

    def live_command(self, name: Any) -> Mapping[str, Any]:
        """Have the running companion do one of `COMMANDS`.

        Raises:
            UsageError: no such command.
            LiveError: see `live_set`; or it can't be done.
        """
        if _short_name(name) not in COMMANDS:
            raise UsageError(f"{name!r} is no command. Commands are {', '.join(COMMANDS)}.")
        return ask_companion(self._folders, {"name": name})


def unknown_job(job_id: str) -> ControlError:
    """No job has this id."""
    return ControlError(f"There is no job {job_id[:80]!r}. `dawbridge jobs` lists them.", "unknown_job")


def _short_name(name: Any) -> str:
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise UsageError("name must be the name of a control or command: `dawbridge live controls`.")
    return name


def require_daemon(folders: Folders) -> None:
    """Make sure that somebody will answer.

    Raises:
        ControlError: no daemon holds this state folder (`not_running`).
    """
    if daemon_runs(folders):
        return
    raise ControlError("No daemon runs. Start it with `dawbridge run`.", "not_running")
