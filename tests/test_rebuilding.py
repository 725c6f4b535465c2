"""A damaged ledger is set aside and told of in one line; what came back is known again and is not made twice."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest

from bridge import manifest
from bridge.config import folders
from bridge.errors import LedgerError
from bridge.holder import is_held, job_locks, only_one
from bridge.ledger import Ledger, utc_now
from bridge.ledger_schema import SCHEMA_VERSION
from bridge.rebuilding import open_ledger
from bridge.store import file_sha256
from tests import fakes
from tests.returned_song import made_song
from tests.running_queue import Running, running, use_fake_stages


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


@pytest.fixture
def inbox(dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inbox with a bounce that was dropped while a ledger knew it."""
    use_fake_stages(monkeypatch)
    return Running(dawbridge_home, "quick", 0.1, True).drop("Song.wav").parent


def came_back(home: Path, sha256: str, **changes: Any) -> Path:
    """Its song in the outbox, under an id that nobody can work out any more; then the ledger is lost."""
    folder = made_song(home / "outbox" / "Song")
    told = manifest.read_manifest(folder)
    bounce = replace(told.bounce, sha256=sha256)
    manifest.write_manifest(folder, replace(told, bounce=bounce, created_at=utc_now(), **changes))
    for path in folders().state.glob("ledger.sqlite*"):
        path.unlink()
    open_ledger(folders(), home / "outbox")[0].close()
    return folder


def test_what_came_back_before_the_ledger_was_lost_is_not_made_again_whatever_its_id(
    dawbridge_home: Path, inbox: Path
) -> None:
    folder = came_back(dawbridge_home, file_sha256(inbox / "Song.wav"))
    with running(dawbridge_home) as daemon:
        daemon.drop("Zwei.wav", seed=1)
        daemon.wait_for("Zwei.wav", "done")
        row = daemon.ledger.job("x")
        assert row is not None
        assert (row.source, row.state, row.folder) == (str(inbox / "Song.wav"), "done", str(folder))
        assert (row.source, "x") in [(seen.path, seen.job_id) for seen in daemon.ledger.seen()]
        assert "Song.wav" not in {told.get("name") for told in daemon.told}
        assert fakes.calls.count("separate") == 1
        answer = daemon.control.take(str(inbox / "Song.wav"), preset="quick")  # asked for, it is made
        daemon.wait(lambda: daemon.control.job(answer["job"])["state"] == "done", "another one")


@pytest.mark.parametrize("why", ["other audio", "changed since", "a file is gone", "a draft alone"])
def test_a_bounce_whose_song_does_not_stand_there_whole_is_made(
    dawbridge_home: Path, inbox: Path, why: str
) -> None:
    bounce = inbox / "Song.wav"
    sha256 = "0" * 64 if why == "other audio" else file_sha256(bounce)
    folder = came_back(dawbridge_home, sha256, draft=why == "a draft alone")
    if why == "changed since":
        os.utime(bounce)
    if why == "a file is gone":
        next(folder.glob("*.mid")).unlink()
    with running(dawbridge_home) as daemon:
        daemon.wait(lambda: fakes.calls.count("separate") == 1, "the song, made again")


def test_a_manifest_that_holds_no_text_is_passed_over(home: Path) -> None:
    path = home / "outbox" / "Song" / "manifest.json"
    path.write_text(path.read_text().replace('"Song.wav"', '"Song\\ud800.wav"'))
    shutil.rmtree(folders().state)
    ledger, _ = open_ledger(folders(), home / "outbox")
    assert ledger.jobs() == ()
    ledger.close()
