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
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.errors import LedgerError
from bridge.ledger_rows import (
    UNDER_WAY,
    JobRow,
    KeptFile,
    Result,
    SeenFile,
    StoredJob,
    bounce_to_table,
    job_row,
    stage_event,
    stored_job,
)
from bridge.ledger_schema import TABLES, bring_up_to_date
from bridge.names import printable
from bridge.types import Fallback, Job, JobState, StageEvent

KEPT_REQUESTS = 200
BUSY_S = 5.0  # how long another process may hold the file
ANSWER_POLL_S = 0.03
NO_SOURCE = str(Path())  # of a job whose file nobody has found yet
ENDED = "state NOT IN ('queued', 'running', 'waiting')"


class Ledger:
    """The one database of a state folder."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        Raises:
            LedgerError: busy or no room (`busy`), no database or a damaged one (`damaged`), of a newer dawbridge.
        """
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
        except OSError as exc:
            raise LedgerError(
                f"{path.parent} can't be made ({exc.strerror}). Set DAWBRIDGE_HOME to a folder of yours."
            ) from exc
        except sqlite3.OperationalError as exc:
            raise _busy_or_full(exc) from exc
        try:
            self._db.row_factory = sqlite3.Row
            self._query("PRAGMA journal_mode=WAL")
            self._query("PRAGMA synchronous=NORMAL")
            self.is_new = self._prepared()
        except BaseException:
            self._db.close()
            raise

    def check(self) -> None:
        """Read every page.

        Raises:
            LedgerError: `damaged`.
        """
        found = self._query("PRAGMA quick_check(1)")[0][0]
        if found != "ok":
            raise _damaged(" ".join(found.split()))
        tables = {row["name"] for row in self._query("SELECT name FROM sqlite_master")}
        if lacking := TABLES - tables:
            raise _damaged(f"it has no {', '.join(sorted(lacking))}")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    # jobs

    def add_job(
        self, job: Job, source: Path, settings: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Enter a job, or put an ended one of the same id back into the queue; one on its way stays as it is.

        `settings`: its preset's as plain tables, where nobody has made values of them.
        """
        tables = settings or {name: asdict(value) for name, value in job.preset.settings.items()}
        self._execute(
            "INSERT INTO jobs VALUES (?,?,?,?,?,?,?,NULL,?,?,?,?,?,NULL,'','',?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
            "source=excluded.source, state=excluded.state, created_at=excluded.created_at, finished_at=NULL, "
            "bounce=excluded.bounce, warnings=excluded.warnings, folder=NULL, code='', detail='', "
            "project=excluded.project, track=excluded.track, replaces=excluded.replaces "
            "WHERE jobs.state NOT IN ('queued', 'running', 'waiting')",
            job.id,
            job.bounce.name,
            printable(source),
            job.preset.name,
            str(job.outbox),
            job.state,
            job.created_at,
            json.dumps(bounce_to_table(job.bounce)),
            json.dumps(tables, default=str),
            json.dumps(job.overrides, default=str),
            json.dumps([asdict(fallback) for fallback in job.fallbacks]),
            json.dumps(job.warnings),
            job.project,
            job.track,
            job.draft,
            job.replaces,
        )

    def begin(self, job_id: str) -> None:
        """A job starts from its first stage; what earlier runs told is forgotten, what they made is not."""
        self._execute("DELETE FROM stages WHERE job_id = ?", job_id)
        self.set_state(job_id, "running")

    def add_untaken(
        self,
        job_id: str,
        source: Path,
        preset: str,
        outbox: Path,
        code: str,
        why: str,
        state: JobState = "quarantined",
    ) -> None:
        """Enter a file that can't be worked on, or (`waiting`) not yet; the file itself stays where it is."""
        self._execute(
            "INSERT OR REPLACE INTO jobs VALUES (?,?,?,?,?,?,?,?,NULL,NULL,'{}','[]','[]',NULL,?,?,'','',0,'')",
            job_id,
            printable(source.name),
            printable(source),
            preset,
            str(outbox),
            state,
            utc_now(),
            None if state in UNDER_WAY else utc_now(),
            code,
            why,
        )

    def set_fallbacks(self, job_id: str, fallbacks: Sequence[Fallback]) -> None:
        """What was used instead of what was wanted, as it came up on the way."""
        told = json.dumps([asdict(fallback) for fallback in fallbacks])
        self._execute("UPDATE jobs SET fallbacks=? WHERE id=?", told, job_id)

    def set_state(
        self, job_id: str, state: JobState, *, folder: Path | None = None, code: str = "", detail: str = ""
    ) -> None:
        """Move a job on; an end state gets the time."""
        ended = utc_now() if state not in UNDER_WAY else None
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
        return job_row(rows[0]) if rows else None

    def stored(self, job_id: str) -> StoredJob | None:
        """What is needed to run a job again; None where there is no such job, or its file never was one."""
        rows = self._query("SELECT * FROM jobs WHERE id = ? AND bounce IS NOT NULL", job_id)
        return stored_job(rows[0]) if rows else None

    def remove_job(self, job_id: str) -> None:
        """Take a job and its stages off the list; what it made stays, and so does that its file was seen."""
        self._execute("DELETE FROM stages WHERE job_id = ?", job_id)
        self._execute("DELETE FROM jobs WHERE id = ?", job_id)

    def forget_job(self, job_id: str) -> tuple[Path, ...]:
        """Take a job off the list, and let the files that it was made from count as new; these files."""
        job = self.job(job_id)
        seen = self._query("DELETE FROM seen WHERE job_id = ? RETURNING path", job_id)
        self.remove_job(job_id)
        sources = {job.source} if job is not None and job.source else set()
        return tuple(Path(path) for path in sorted(sources | {row["path"] for row in seen}))

    def forget_ended(self) -> None:
        """Take all jobs off the list that have ended."""
        self._execute(f"DELETE FROM stages WHERE job_id IN (SELECT id FROM jobs WHERE {ENDED})")
        self._execute(f"DELETE FROM jobs WHERE {ENDED}")

    def count_ended(self) -> int:
        """How many jobs on the list have ended."""
        return int(self._query(f"SELECT COUNT(*) FROM jobs WHERE {ENDED}")[0][0])

    def learned(self, name: str, sha256: str) -> tuple[JobRow, ...]:
        """The jobs of this bounce that are known from the outbox alone, see `rebuilding`: no file was found since."""
        rows = self._query(
            "SELECT * FROM jobs WHERE source=? AND name=? AND bounce IS NOT NULL", NO_SOURCE, name
        )
        return tuple(job_row(row) for row in rows if stored_job(row).bounce.sha256 == sha256)

    def set_source(self, job_id: str, source: Path) -> None:
        """The job's bounce was found here just now."""
        self._execute("UPDATE jobs SET source=? WHERE id=?", printable(source), job_id)

    def jobs(self, limit: int = 100) -> tuple[JobRow, ...]:
        """The newest jobs, newest first."""
        rows = self._query("SELECT * FROM jobs ORDER BY created_at DESC, rowid DESC LIMIT ?", limit)
        return tuple(job_row(row) for row in rows)

    def unfinished(self) -> tuple[StoredJob, ...]:
        """Jobs that were queued or interrupted, oldest first: a restarted daemon goes on with them."""
        rows = self._query(
            "SELECT * FROM jobs WHERE state IN ('queued','running','waiting') AND bounce IS NOT NULL "
            "ORDER BY created_at, rowid"
        )
        return tuple(stored_job(row) for row in rows)

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
        return tuple(stage_event(row) for row in rows)

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

    def forget_results(self) -> None:
        """Nothing is cached any more."""
        self._execute("DELETE FROM results")

    # seen files

    def seen(self) -> tuple[SeenFile, ...]:
        """The files that were taken up, by path."""
        rows = self._query("SELECT path, job_id, size, mtime_ns FROM seen ORDER BY path")
        return tuple(SeenFile(**dict(row)) for row in rows)

    def forget_file(self, path: Path) -> bool:
        """Let a file count as new; whether it was seen."""
        return bool(self._query("DELETE FROM seen WHERE path = ? RETURNING path", printable(path)))

    def mark_seen(self, path: Path, size: int, mtime_ns: int, job_id: str) -> None:
        """Remember that this very file was taken up, so that a restart does not take it again.

        Not by its inode: FAT, exFAT and some shares number their files anew each time they are mounted.
        """
        self._execute("INSERT OR REPLACE INTO seen VALUES (?,?,?,?)", printable(path), size, mtime_ns, job_id)

    def is_seen(self, path: Path, size: int, mtime_ns: int) -> bool:
        """Whether this very file was taken up before."""
        return bool(
            self._query(
                "SELECT 1 FROM seen WHERE path=? AND size=? AND mtime_ns=?",
                printable(path),
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

    def forget_waiting_files(self) -> None:
        """Take the files off the list that waited to be taken."""
        self._execute("DELETE FROM jobs WHERE state = 'waiting' AND bounce IS NULL")

    def _prepared(self) -> bool:
        try:
            return bring_up_to_date(self._db)
        except sqlite3.OperationalError as exc:
            raise _busy_or_full(exc) from exc
        except sqlite3.DatabaseError as exc:
            raise _damaged(exc) from exc

    def _execute(self, sql: str, *values: Any) -> None:
        self._query(sql, *values)

    def _query(self, sql: str, *values: Any) -> Sequence[sqlite3.Row]:
        try:
            with self._lock:
                return self._db.execute(sql, values).fetchall()
        except sqlite3.OperationalError as exc:
            raise _busy_or_full(exc) from exc
        except sqlite3.DatabaseError as exc:
            raise _damaged(exc) from exc


def utc_now() -> str:
    """ISO 8601 with microseconds, UTC; sorts by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _busy_or_full(exc: sqlite3.OperationalError) -> LedgerError:
    return LedgerError(
        f"The ledger can't be written ({exc}). Free some room on its disk, or end what holds it.", "busy"
    )


def _damaged(why: object) -> LedgerError:
    return LedgerError(
        f"The ledger is damaged ({why}). `dawbridge run` sets it aside and learns from the outbox what came back.",
        "damaged",
    )
