"""The ledger: what a restarted daemon must still know."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from bridge.errors import LedgerError
from bridge.ledger import Ledger, utc_now
from bridge.ledger_rows import KeptFile, Result
from bridge.tempo import tempo_from_changes
from bridge.types import Bounce, Fallback, Job, Preset, StageEvent, StageState
from tests.fakes import FakeSettings


def a_job(job_id: str = "abc") -> Job:
    tempo = tempo_from_changes([(0, 100.0), (48000, 140.0)], 48000, first_downbeat_frame=120)
    bounce = Bounce(
        Path("spool/x.wav"),
        "Sóng.wav",
        "f" * 64,
        "mix",
        48000,
        2,
        96000,
        480,
        tempo,
        "sidecar",
        "A minor",
        True,
    )
    fallbacks = (Fallback("separate", "htdemucs", "spleeter", "no network"),)
    preset = Preset("offline", {"separate": FakeSettings("make", 0.5)})
    overrides = {"separate": {"level": 0.5}}
    return Job(
        job_id, bounce, preset, Path("out"), "queued", utc_now(), overrides, fallbacks, ("odd sidecar",)
    )


def test_an_unfinished_job_comes_back_whole_after_a_restart(tmp_path: Path) -> None:
    job = a_job()
    first = Ledger(tmp_path / "ledger.sqlite")
    first.add_job(job, Path("inbox/Sóng.wav"))
    first.set_state(job.id, "running")
    first.close()
    second = Ledger(tmp_path / "ledger.sqlite")
    (stored,) = second.unfinished()
    second.close()
    assert stored.bounce == job.bounce
    assert stored.settings == {"separate": {"do": "make", "level": 0.5}}
    assert (stored.fallbacks, stored.warnings, stored.outbox) == (job.fallbacks, job.warnings, job.outbox)
    assert stored.overrides == job.overrides


def test_ended_jobs_are_not_taken_up_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for state in ("done", "failed", "cancelled"):
        ledger.add_job(a_job(state), Path("x.wav"))
        ledger.set_state(state, state, folder=tmp_path)
    ledger.add_untaken("bad", Path("bad.wav"), "offline", Path("out"), "incomplete", "cut off")
    assert ledger.unfinished() == ()
    states = {row.id: (row.state, row.detail) for row in ledger.jobs()}
    assert states["bad"] == ("quarantined", "cut off")
    assert states["done"] == ("done", "")
    ledger.close()


def test_the_latest_of_each_stage_is_kept_in_the_order_they_began(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    told: tuple[tuple[str, StageState], ...] = (
        ("separate", "running"),
        ("analyse", "running"),
        ("separate", "done"),
    )
    for stage, state in told:
        ledger.record(StageEvent("j", stage, state, 1.0, 2.0, ("x",), "", "…", 0.5))
    assert [(e.stage, e.state) for e in ledger.stages("j")] == [("separate", "done"), ("analyse", "running")]
    ledger.close()


def test_a_cached_result_comes_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    result = Result((KeptFile("stems", "a" * 64, ""),), "four stems", {"approximate": ["bass"]})
    ledger.keep_result("key", "separate", result)
    assert ledger.find_result("key") == result
    assert ledger.find_result("another") is None
    ledger.close()


def test_a_file_is_seen_only_while_it_is_the_very_same(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.mark_seen(Path("a.wav"), 2, 3, "j")
    assert ledger.is_seen(Path("a.wav"), 2, 3)
    assert not ledger.is_seen(Path("a.wav"), 2, 4)
    ledger.close()


def test_a_name_that_is_no_text_is_kept_all_the_same(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"bad\xff.wav"))
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add_untaken("bad", path, "offline", tmp_path, "name", "rename it")
    ledger.mark_seen(path, 2, 3, "bad")
    assert ledger.is_seen(path, 2, 3)
    assert not ledger.is_seen(Path("bad.wav"), 2, 3)
    (row,) = ledger.jobs()
    assert row.name == r"bad\udcff.wav"
    ledger.close()


def test_a_job_on_its_way_is_not_set_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add_job(a_job(), Path("x.wav"))
    ledger.begin("abc")
    ledger.add_job(a_job(), Path("x.wav"))
    row = ledger.job("abc")
    assert row is not None
    assert row.state == "running"
    ledger.set_state("abc", "done", folder=tmp_path)
    ledger.add_job(a_job(), Path("x.wav"))
    row = ledger.job("abc")
    assert row is not None
    assert (row.state, row.folder) == ("queued", None)
    ledger.close()


def test_reading_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first = Ledger(path)
    first.add_job(a_job(), Path("x.wav"))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    second = Ledger(path)
    assert [row.id for row in second.jobs()] == ["abc"]
    holder.execute("ROLLBACK")
    for open_one in (holder, first, second):
        open_one.close()


def test_a_folder_that_cannot_be_made_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LedgerError, match="DAWBRIDGE_HOME"):
        Ledger(tmp_path / "file" / "ledger.sqlite")


def test_a_ledger_from_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    with pytest.raises(LedgerError, match=r"schema 99.*Upgrade"):
        Ledger(path)


def test_a_file_that_is_no_database_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database at all, " * 40)
    with pytest.raises(LedgerError, match="sets it aside"):
        Ledger(path)
