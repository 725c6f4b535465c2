"""A damaged ledger is set aside and told of in one line; what came back is known again and is not made twice."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from bridge.config import folders
from bridge.errors import LedgerError
from bridge.holder import is_held, job_locks, only_one
from bridge.ledger import Ledger
from bridge.ledger_schema import SCHEMA_VERSION
from bridge.rebuilding import open_ledger
from tests.returned_song import made_song


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all, " * 40)


def a_torn_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(range(256)) * 48)


def cut_off(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


def no_tables(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.commit()
    db.close()


@pytest.fixture
def home(dawbridge_home: Path) -> Path:
    """A home with a ledger that knows something, and an outbox with one song."""
    ledger = Ledger(folders().ledger)
    for number in range(200):
        ledger.mark_seen(Path(f"/in/{number}.wav"), 2, 3, "x")
    ledger.close()
    (dawbridge_home / "outbox").mkdir()
    made_song(dawbridge_home / "outbox" / "Song")
    (dawbridge_home / "outbox" / "No song").mkdir()
    return dawbridge_home


@pytest.mark.parametrize("damage", [garbage, a_torn_page, cut_off, no_tables])
def test_a_damaged_ledger_is_kept_under_another_name_and_a_new_one_learns_from_the_outbox(
    home: Path, damage: Callable[[Path], None]
) -> None:
    path = folders().ledger
    damage(path)
    damaged = path.read_bytes()
    ledger, told = open_ledger(folders(), home / "outbox")
    (row,) = ledger.jobs()
    assert (row.id, row.name, row.state, row.preset) == ("x", "Song.wav", "done", "default")
    assert row.folder == str(home / "outbox" / "Song")
    ledger.close()
    (kept,) = path.parent.glob("ledger.sqlite.corrupt-????-??-??T??????")
    assert kept.read_bytes() == damaged
    assert told.startswith("The ledger is damaged") and kept.name in told and "1 songs" in told
    assert "\n" not in told
    again, told = open_ledger(folders(), home / "outbox")
    assert told == "" and len(again.jobs()) == 1
    again.close()


def test_a_lost_write_ahead_log_loses_at_most_what_was_in_it(home: Path) -> None:
    """The database itself stays whole, so nothing need be set aside."""
    ledger, _ = open_ledger(folders(), home / "outbox")
    ledger.mark_seen(Path("/in/late.wav"), 2, 3, "x")
    log = folders().ledger.with_name("ledger.sqlite-wal")
    whole = folders().ledger.read_bytes()
    assert log.exists()
    ledger.close()
    folders().ledger.write_bytes(whole)
    log.unlink(missing_ok=True)
    ledger, told = open_ledger(folders(), home / "outbox")
    assert told == ""
    assert len(ledger.seen()) == 200
    ledger.close()


def test_a_ledger_that_was_emptied_or_deleted_learns_too(home: Path) -> None:
    folders().ledger.write_bytes(b"")
    ledger, told = open_ledger(folders(), home / "outbox")
    assert [row.id for row in ledger.jobs()] == ["x"]
    assert "1 songs" in told
    ledger.close()


def test_nothing_is_set_aside_while_another_process_uses_it(home: Path) -> None:
    garbage(folders().ledger)
    job_locks(folders()).mkdir(parents=True)
    with filelock.FileLock(job_locks(folders()) / "abc.lock"), pytest.raises(LedgerError) as caught:
        open_ledger(folders(), home / "outbox")
    assert caught.value.code == "damaged"
    with only_one(folders()):  # this process holds it: nobody else does
        open_ledger(folders(), home / "outbox")[0].close()


def test_to_look_whether_a_lock_is_held_leaves_its_age(home: Path) -> None:
    """Else a lock that a killed process left would never grow old enough to be swept."""
    lock = job_locks(folders()) / "abc.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (1_000_000, 1_000_000))
    assert not is_held(lock)
    assert lock.stat().st_mtime == 1_000_000
    with filelock.FileLock(lock):
        assert is_held(lock)
