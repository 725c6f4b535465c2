"""The ledger's tables, and how a file of an older dawbridge is brought up to date with all that it holds."""

from __future__ import annotations

import sqlite3

from bridge.errors import LedgerError

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
    """
ALTER TABLE jobs ADD COLUMN draft INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN replaces TEXT NOT NULL DEFAULT '';
""",
    """
CREATE TABLE seen_files (
  path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, job_id TEXT NOT NULL
);
INSERT INTO seen_files SELECT path, size, mtime_ns, job_id FROM seen;
DROP TABLE seen;
ALTER TABLE seen_files RENAME TO seen;
""",
)
"""Each one brings a ledger from the schema before it to the next. What has been released is never edited."""
SCHEMA_VERSION = len(SCHEMAS)
TABLES = {"jobs", "stages", "results", "seen", "requests"}


def bring_up_to_date(db: sqlite3.Connection) -> bool:
    """Create or migrate the tables in one transaction; whether there were none before.

    Raises:
        LedgerError: the file is of a newer dawbridge.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:  # reading needs no lock: `jobs` must answer while others write
        return False
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"The ledger has schema {version}; this dawbridge knows {SCHEMA_VERSION}. Upgrade dawbridge."
            )
        for schema in SCHEMAS[version:]:
            for statement in schema.split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return bool(version == 0)
