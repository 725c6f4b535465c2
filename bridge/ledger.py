"""SQLite: jobs, stage events, cached results, which files were seen, and requests. The memory of the bridge.

Several processes may hold it open (the daemon, `process`, `jobs`): it runs in WAL mode and every
change is one short transaction. A method may be called from any thread.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.errors import LedgerError
from bridge.names import printable
from bridge.types import Bounce, Fallback, Job, JobState, StageEvent, StageState, TempoMap, TempoPoint

KEPT_REQUESTS = 200
BUSY_S = 5.0  # how long another process may hold the file
ANSWER_POLL_S = 0.03
SCHEMAS = (
    """
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, source TEXT NOT NULL, preset TEXT NOT NULL, outbox TEXT NOT NULL,
  state TEXT NOT NULL, created_at TEXT NOT NULL, finished_at TEXT, bounce TEXT, settings TEXT,
  overrides TEXT NOT NULL, fallbacks TEXT NOT NULL, warnings TEXT NOT NULL, folder TEXT, code TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE TABLE stages (
  job_id TEXT NOT NULL, stage TEXT NOT NULL, state TEXT NOT NULL, done REAL NOT NULL, total REAL NOT NULL,
  made TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (job_id, stage)
);
CREATE TABLE results (
  cache_key TEXT PRIMARY KEY, stage TEXT NOT NULL, files TEXT NOT NULL, detail TEXT NOT NULL, facts TEXT NOT NULL
);
CREATE TABLE seen (
  path TEXT PRIMARY KEY, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  job_id TEXT NOT NULL
);
""",
    """
CREATE TABLE requests (
  id INTEGER PRIMARY KEY AUTOINCREMENT, addressee TEXT NOT NULL, body TEXT NOT NULL, created_at TEXT NOT NULL,
  answer TEXT
);
""",
    """
ALTER TABLE jobs ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN track TEXT NOT NULL DEFAULT '';
""",
)
"""Each one brings a ledger from the schema before it to the next."""
SCHEMA_VERSION = len(SCHEMAS)


@dataclass(frozen=True)
class JobRow:
    """A job as `jobs` shows it."""

    id: str
    name: str
    source: str
    preset: str
    outbox: str
    state: JobState
    created_at: str
    finished_at: str | None
    folder: str | None  # where it came back
    code: str
    detail: str
    warnings: tuple[str, ...]
    project: str = ""  # the DAW's project and track, where a sidecar told them
    track: str = ""


@dataclass(frozen=True)
class KeptFile:
    """One artifact of a cached result."""

    name: str
    sha256: str
    suffix: str


@dataclass(frozen=True)
class Result:
    """What a stage once made from the same inputs."""

    files: tuple[KeptFile, ...]
    detail: str
    facts: Mapping[str, Any]


class Ledger:
    """The one database of a state folder."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._create()
        except OSError as exc:
            raise LedgerError(
                f"{path.parent} can't be made ({exc.strerror}). Set DAWBRIDGE_HOME to a folder of yours."
            ) from exc
        except sqlite3.OperationalError as exc:
            raise _busy_or_full(exc) from exc
        except sqlite3.DatabaseError as exc:
            raise LedgerError(f"{path} can't be used ({exc}). Move it away; finished work stays.") from exc

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    # jobs

    def add_job(self, job: Job, source: Path) -> None:
        """Enter a job, or put an ended one of the same id back into the queue; one on its way stays as it is."""
        self._execute(
            "INSERT INTO jobs VALUES (?,?,?,?,?,?,?,NULL,?,?,?,?,?,NULL,'','',?,?) ON CONFLICT (id) DO UPDATE SET "
            "source=excluded.source, state=excluded.state, created_at=excluded.created_at, finished_at=NULL, "
            "bounce=excluded.bounce, warnings=excluded.warnings, folder=NULL, code='', detail='', "
            "project=excluded.project, track=excluded.track "
            "WHERE jobs.state NOT IN ('queued', 'running')",
            job.id,
            job.bounce.name,
            printable(source),
            job.preset.name,
            str(job.outbox),
            job.state,
            job.created_at,
            json.dumps(_bounce_to_table(job.bounce)),
            json.dumps({k: asdict(v) for k, v in job.preset.settings.items()}, default=str),
            json.dumps(job.overrides, default=str),
            json.dumps([asdict(fallback) for fallback in job.fallbacks]),
            json.dumps(job.warnings),
            job.project,
            job.track,
        )

    def begin(self, job_id: str) -> None:
        """A job starts from its first stage; what earlier runs told is forgotten, what they made is not."""
        self._execute("DELETE FROM stages WHERE job_id = ?", job_id)
        self.set_state(job_id, "running")

    def add_quarantined(
        self, job_id: str, source: Path, preset: str, outbox: Path, code: str, why: str
    ) -> None:
        """Enter a file that can't be worked on, with the reason; the file itself stays where it is."""
        self._execute(
            "INSERT OR REPLACE INTO jobs VALUES (?,?,?,?,?,'quarantined',?,?,NULL,NULL,'{}','[]','[]',NULL,?,?,'','')",
            job_id,
            printable(source.name),
            printable(source),
            preset,
            str(outbox),
            utc_now(),
            utc_now(),
            code,
            why,
        )

    def set_state(
        self, job_id: str, state: JobState, *, folder: Path | None = None, code: str = "", detail: str = ""
    ) -> None:
        """Move a job on; an end state gets the time."""
        ended = utc_now() if state not in ("queued", "running") else None
        self._execute(
            "UPDATE jobs SET state=?, finished_at=?, folder=COALESCE(?, folder), code=?, detail=? WHERE id=?",
            state,
            ended,
            str(folder) if folder else None,
            code,
            detail,
            job_id,
        )

    def job(self, job_id: str) -> JobRow | None:
        """One job, or None."""
        rows = self._query("SELECT * FROM jobs WHERE id = ?", job_id)
        return _job_row(rows[0]) if rows else None

    def stored(self, job_id: str) -> StoredJob | None:
        """What is needed to run a job again; None where there is no such job, or its file never was one."""
        rows = self._query("SELECT * FROM jobs WHERE id = ? AND bounce IS NOT NULL", job_id)
        return _stored_job(rows[0]) if rows else None

    def remove_job(self, job_id: str) -> None:
        """Forget a job and its stages; what it made stays."""
        self._execute("DELETE FROM stages WHERE job_id = ?", job_id)
        self._execute("DELETE FROM jobs WHERE id = ?", job_id)

    def jobs(self, limit: int = 100) -> tuple[JobRow, ...]:
        """The newest jobs, newest first."""
        rows = self._query("SELECT * FROM jobs ORDER BY created_at DESC, rowid DESC LIMIT ?", limit)
        return tuple(_job_row(row) for row in rows)

    def unfinished(self) -> tuple[StoredJob, ...]:
        """Jobs that were queued or interrupted, oldest first: a restarted daemon goes on with them."""
        rows = self._query(
            "SELECT * FROM jobs WHERE state IN ('queued','running') ORDER BY created_at, rowid"
        )
        return tuple(_stored_job(row) for row in rows)

    # stages

    def record(self, event: StageEvent) -> None:
        """Keep the latest of a stage."""
        self._execute(
            "INSERT INTO stages VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (job_id, stage) DO UPDATE SET "
            "state=excluded.state, done=excluded.done, total=excluded.total, made=excluded.made, "
            "code=excluded.code, detail=excluded.detail, seconds=excluded.seconds",
            event.job_id,
            event.stage,
            event.state,
            event.done,
            event.total,
            json.dumps(event.made),
            event.code,
            event.detail,
            event.seconds,
        )

    def stages(self, job_id: str) -> tuple[StageEvent, ...]:
        """The latest of each stage of a job, in the order they began."""
        rows = self._query("SELECT * FROM stages WHERE job_id = ? ORDER BY rowid", job_id)
        return tuple(_stage_event(row) for row in rows)

    # cached results

    def keep_result(self, cache_key: str, stage: str, result: Result) -> None:
        """Remember what a stage made from these inputs."""
        files = json.dumps([asdict(file) for file in result.files])
        facts = json.dumps(dict(result.facts))
        self._execute(
            "INSERT OR REPLACE INTO results VALUES (?,?,?,?,?)", cache_key, stage, files, result.detail, facts
        )

    def find_result(self, cache_key: str) -> Result | None:
        """What a stage made from these inputs before, or None."""
        rows = self._query("SELECT * FROM results WHERE cache_key = ?", cache_key)
        if not rows:
            return None
        row = rows[0]
        files = tuple(KeptFile(**table) for table in json.loads(row["files"]))
        return Result(files, row["detail"], json.loads(row["facts"]))

    # seen files

    def mark_seen(self, path: Path, inode: int, size: int, mtime_ns: int, job_id: str) -> None:
        """Remember that this very file was taken up, so that a restart does not take it again."""
        self._execute(
            "INSERT OR REPLACE INTO seen VALUES (?,?,?,?,?)", printable(path), inode, size, mtime_ns, job_id
        )

    def is_seen(self, path: Path, inode: int, size: int, mtime_ns: int) -> bool:
        """Whether this very file was taken up before."""
        return bool(
            self._query(
                "SELECT 1 FROM seen WHERE path=? AND inode=? AND size=? AND mtime_ns=?",
                printable(path),
                inode,
                size,
                mtime_ns,
            )
        )

    # requests: what another process wants of a running one

    def request(self, addressee: str, body: Mapping[str, Any]) -> int:
        """Ask a running process for something; the request's id, for `answer_of`."""
        rows = self._query(
            "INSERT INTO requests (addressee, body, created_at) VALUES (?,?,?) RETURNING id",
            addressee,
            json.dumps(body),
            utc_now(),
        )
        return int(rows[0]["id"])

    def ask(self, addressee: str, body: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any] | None:
        """Make a request and wait for its answer; None where none came in time."""
        request_id = self.request(addressee, body)
        deadline_s = time.monotonic() + timeout_s
        while (answer := self.answer_of(request_id)) is None and time.monotonic() < deadline_s:
            time.sleep(ANSWER_POLL_S)
        return answer

    def open_requests(self, addressee: str) -> tuple[tuple[int, Mapping[str, Any]], ...]:
        """(id, body) of what has no answer yet, the oldest first."""
        rows = self._query(
            "SELECT id, body FROM requests WHERE addressee=? AND answer IS NULL ORDER BY id", addressee
        )
        return tuple((int(row["id"]), json.loads(row["body"])) for row in rows)

    def answer(self, request_id: int, answer: Mapping[str, Any]) -> None:
        """Answer a request; older answered ones are forgotten."""
        self._execute("UPDATE requests SET answer=? WHERE id=?", json.dumps(answer), request_id)
        self._execute("DELETE FROM requests WHERE answer IS NOT NULL AND id < ?", request_id - KEPT_REQUESTS)

    def answer_of(self, request_id: int) -> Mapping[str, Any] | None:
        """The answer, once there is one."""
        rows = self._query("SELECT answer FROM requests WHERE id=?", request_id)
        answer: Mapping[str, Any] | None = (
            json.loads(rows[0]["answer"]) if rows and rows[0]["answer"] else None
        )
        return answer

    def forget_requests(self, addressee: str) -> None:
        """A process that starts does not do what its predecessor left undone."""
        self._execute("DELETE FROM requests WHERE addressee=?", addressee)

    def _create(self) -> None:
        with self._lock:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == SCHEMA_VERSION:  # reading needs no lock: `jobs` must answer while others write
                return
            self._db.execute("BEGIN IMMEDIATE")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                self._db.execute("ROLLBACK")
                raise LedgerError(
                    f"The ledger has schema {version}; this dawbridge knows {SCHEMA_VERSION}. Upgrade dawbridge."
                )
            for schema in SCHEMAS[version:]:
                for statement in schema.split(";"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute("COMMIT")

    def _execute(self, sql: str, *values: Any) -> None:
        self._query(sql, *values)

    def _query(self, sql: str, *values: Any) -> Sequence[sqlite3.Row]:
        try:
            with self._lock:
                return self._db.execute(sql, values).fetchall()
        except sqlite3.OperationalError as exc:
            raise _busy_or_full(exc) from exc


@dataclass(frozen=True)
class StoredJob:
    """What is needed to take a job up again after a restart."""

    id: str
    source: Path
    bounce: Bounce
    preset: str
    settings: Mapping[str, Mapping[str, Any]]
    overrides: Mapping[str, Mapping[str, Any]]
    outbox: Path
    created_at: str
    fallbacks: tuple[Fallback, ...]
    warnings: tuple[str, ...]
    project: str
    track: str


def utc_now() -> str:
    """ISO 8601 with microseconds, UTC; sorts by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _busy_or_full(exc: sqlite3.OperationalError) -> LedgerError:
    return LedgerError(
        f"The ledger can't be written ({exc}). Free some room on its disk, or end what holds it.", "busy"
    )


def _job_row(row: sqlite3.Row) -> JobRow:
    return JobRow(
        id=row["id"],
        name=row["name"],
        source=row["source"],
        preset=row["preset"],
        outbox=row["outbox"],
        state=row["state"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        folder=row["folder"],
        code=row["code"],
        detail=row["detail"],
        warnings=tuple(json.loads(row["warnings"])),
        project=row["project"],
        track=row["track"],
    )


def _stored_job(row: sqlite3.Row) -> StoredJob:
    return StoredJob(
        id=row["id"],
        source=Path(row["source"]),
        bounce=_bounce_from_table(json.loads(row["bounce"])),
        preset=row["preset"],
        settings=json.loads(row["settings"]),
        overrides=json.loads(row["overrides"]),
        outbox=Path(row["outbox"]),
        created_at=row["created_at"],
        fallbacks=tuple(Fallback(**table) for table in json.loads(row["fallbacks"])),
        warnings=tuple(json.loads(row["warnings"])),
        project=row["project"],
        track=row["track"],
    )


def _stage_event(row: sqlite3.Row) -> StageEvent:
    state: StageState = row["state"]
    return StageEvent(
        row["job_id"],
        row["stage"],
        state,
        row["done"],
        row["total"],
        tuple(json.loads(row["made"])),
        row["code"],
        row["detail"],
        row["seconds"],
    )


def _bounce_to_table(bounce: Bounce) -> dict[str, Any]:
    return {**asdict(bounce), "path": str(bounce.path)}


def _bounce_from_table(table: dict[str, Any]) -> Bounce:
    tempo = table.pop("tempo_map")
    tempo_map = None
    if tempo is not None:
        points = tuple(TempoPoint(**point) for point in tempo.pop("points"))
        tempo_map = TempoMap(points, **tempo)
    return Bounce(**{**table, "path": Path(table["path"]), "tempo_map": tempo_map})
