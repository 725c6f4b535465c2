"""A full or missing disk holds a job up, visibly, and costs nothing that was finished; it goes on by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from bridge import intake, lanes, retrying
from bridge.config import folders
from bridge.daemon import Daemon
from bridge.errors import LedgerError, StageError
from bridge.filecontrol import FileControl
from bridge.joblog import JobLog
from bridge.ledger import Ledger
from bridge.waiting import Waiting
from bridge.watch import Found
from tests import fakes
from tests.fakes import fake_pipeline
from tests.running_queue import Running, running, use_fake_stages
from tests.small_disk import SmallDisk, small_disk

STAGES = [row.name for row in fake_pipeline()]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, dawbridge_home: Path) -> Iterator[None]:
    use_fake_stages(monkeypatch)
    monkeypatch.setattr(retrying, "REST_S", 0.2)
    monkeypatch.setattr(retrying, "LONGEST_REST_S", 0.2)
    monkeypatch.setattr(intake, "DISK_RESERVE_BYTES", 0)
    fakes.ballast.clear()
    yield
    fakes.ballast.clear()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def all_stages(name: str, **do: str) -> None:
    tables = [f'[{stage}]\ndo = "{do.get(stage, "make")}"\n' for stage in STAGES]
    (folders().presets / f"{name}.toml").write_text("".join(tables))


def move_to(disk: SmallDisk, place: Path) -> None:
    """Let one of dawbridge's folders lie on the small disk."""
    (disk.place / place.name).mkdir()
    place.symlink_to(disk.place / place.name, target_is_directory=True)


def waits(daemon: Running) -> dict[str, Any]:
    event: dict[str, Any] = daemon.wait(
        lambda: next((dict(told) for told in daemon.told if told["event"] == "waiting"), None), "waiting"
    )
    return event


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_up_in_a_stage_makes_the_job_wait_and_then_go_on(
    dawbridge_home: Path, disk: SmallDisk, stage: str
) -> None:
    move_to(disk, folders().cache)
    all_stages("filling", **{stage: "fill"})
    with running(dawbridge_home, "filling") as daemon:
        daemon.drop("Song.wav")
        told = waits(daemon)
        assert (told["name"], told["code"], told["seconds"]) == ("Song.wav", "disk_full", 0.2)
        job_id = daemon.wait_for("Song.wav", "waiting")
        job = daemon.control.job(job_id)
        assert (job["code"], job["finished_at"]) == ("disk_full", None)
        assert "full" in job["detail"] or "No space" in job["detail"]
        assert {e["stage"] for e in job["stages"] if e["state"] == "waiting"} == {stage}
        FileControl(daemon.control, [daemon.inbox], daemon.outbox, daemon.told.append).look()
        status = json.loads((daemon.outbox / ".dawbridge" / "status.json").read_text())
        assert [(j["state"], j["detail"]) for j in status["jobs"]] == [("waiting", job["detail"])]
        fakes.ballast[0].unlink()
        daemon.wait_for("Song.wav", "done")
    before = STAGES[: STAGES.index(stage)]
    finished = [name for name in before if name != "report"]  # it is made anew each time
    assert [fakes.calls.count(name) for name in finished] == [1] * len(finished)


def test_a_full_disk_under_everything_loses_nothing(dawbridge_home: Path, disk: SmallDisk) -> None:
    """Ledger, spool and store alike: it can't even be written down that the job waits."""
    for place in (folders().cache, folders().state):
        move_to(disk, place)
    all_stages("filling", convert="fill")
    with running(dawbridge_home, "filling") as daemon:
        daemon.drop("Song.wav")
        waits(daemon)
        fakes.ballast[0].unlink()
        daemon.wait_for("Song.wav", "done")
        assert fakes.calls.count("separate") == 1


def test_a_bounce_that_does_not_fit_into_the_spool_waits_and_can_be_called_off(
    dawbridge_home: Path, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_stages("plain")
    monkeypatch.setattr(intake, "DISK_RESERVE_BYTES", 1 << 60)
    with running(dawbridge_home, "plain") as daemon:
        daemon.drop("Song.wav")
        daemon.drop("Other.wav", seed=1)
        job_id = daemon.wait_for("Song.wav", "waiting")
        other_id = daemon.wait_for("Other.wav", "waiting")
        assert daemon.control.job(job_id)["code"] == "disk_full"
        assert daemon.control.cancel(other_id)["state"] == "cancelled"
        monkeypatch.setattr(intake, "DISK_RESERVE_BYTES", 0)
        daemon.wait_for("Song.wav", "done")
        assert daemon.states() == {"Song.wav": "done", "Other.wav": "cancelled"}
        assert daemon.control.retry(other_id)["state"] == "queued"
        daemon.wait_for("Other.wav", "done")


def test_other_jobs_go_on_while_one_waits_and_retry_means_now(
    dawbridge_home: Path, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "REST_S", 600.0)
    monkeypatch.setattr(retrying, "LONGEST_REST_S", 600.0)
    move_to(disk, folders().cache)
    all_stages("plain")
    all_stages("filling", effects="fill")
    with running(dawbridge_home, "filling") as daemon:
        daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "waiting")
        fakes.ballast[0].unlink()
        (daemon.inbox / "plain").mkdir()
        other = daemon.drop("Other.wav", seed=1)
        daemon.control.take(str(other), "plain")
        daemon.wait_for("Other.wav", "done")
        assert daemon.states()["Song.wav"] == "waiting"
        assert daemon.control.retry(job_id)["state"] == "queued"
        daemon.wait_for("Song.wav", "done")


def test_a_job_that_waits_can_be_called_off(dawbridge_home: Path, disk: SmallDisk) -> None:
    move_to(disk, folders().cache)
    all_stages("filling", separate="fill")
    with running(dawbridge_home, "filling") as daemon:
        daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "waiting")
        daemon.wait(lambda: daemon.control.cancel(job_id)["state"] in ("cancelled", "cancelling"), "cancel")
        daemon.wait_for("Song.wav", "cancelled")


def test_a_restarted_daemon_takes_up_what_waited(dawbridge_home: Path, disk: SmallDisk) -> None:
    move_to(disk, folders().cache)
    all_stages("filling", convert="fill")
    with running(dawbridge_home, "filling", keep_jobs=True) as daemon:
        daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "waiting")
    fakes.ballast[0].unlink()
    with running(dawbridge_home, "filling") as daemon:
        daemon.wait_for("Song.wav", "done")
    assert fakes.calls.count("separate") == 1


def lock_fails(monkeypatch: pytest.MonkeyPatch, exc: Exception) -> None:
    """Let the lock of a job fail once."""
    left, acquire = [exc], filelock.FileLock.acquire

    def failing(lock: filelock.FileLock, *arguments: Any, **named: Any) -> Any:
        if left and Path(lock.lock_file).parent.name == "locks":
            raise left.pop()
        return acquire(lock, *arguments, **named)

    monkeypatch.setattr(filelock.FileLock, "acquire", failing)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_job_that_can_t_begin_for_what_passes_waits_and_goes_on(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    lock_fails(monkeypatch, OSError(number, os.strerror(number)))
    with running(dawbridge_home) as daemon:
        daemon.drop("Song.wav")
        told = waits(daemon)
        assert (
            told["code"] == retrying.disk_code(OSError(number, "")) and os.strerror(number) in told["detail"]
        )
        daemon.wait_for("Song.wav", "done")
    assert fakes.calls == ["separate", "export"]


@pytest.mark.parametrize("exc", [PermissionError(errno.EACCES, "Permission denied"), RuntimeError("odd")])
def test_a_job_that_can_t_begin_at_all_fails_with_the_reason_and_can_be_retried(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch, exc: Exception
) -> None:
    lock_fails(monkeypatch, exc)
    with running(dawbridge_home) as daemon:
        daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "failed")
        assert exc.args[-1] in daemon.control.job(job_id)["detail"]
        daemon.wait(lambda: [t["state"] for t in daemon.told if t["event"] == "job"] == ["failed"], "told")
        assert daemon.control.retry(job_id)["state"] == "queued"
        daemon.wait_for("Song.wav", "done")


@pytest.mark.parametrize("exc", [LedgerError("busy", "busy"), OSError(errno.EIO, "Input/output error")])
def test_what_fails_after_a_song_is_back_is_no_failure_of_the_song(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch, exc: Exception
) -> None:
    left, tidy = [exc], Daemon._tidy

    def failing(daemon: Daemon, result: Any) -> None:
        if left:
            raise left.pop()
        tidy(daemon, result)

    monkeypatch.setattr(Daemon, "_tidy", failing)
    with running(dawbridge_home) as daemon:
        daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")
        daemon.drop("Next.wav", seed=1)
        daemon.wait(lambda: [t["name"] for t in daemon.told if t["event"] == "job"][1:], "second")
        told = [(t["event"], t["name"]) for t in daemon.told if t["event"] in ("job", "waiting")]
    assert told == [("job", "Song.wav"), ("job", "Next.wav")] and not left


@pytest.mark.parametrize("ledger_is_busy", [False, True])
def test_a_job_that_is_called_off_while_it_is_put_off_never_runs_again(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch, ledger_is_busy: bool
) -> None:
    putting_off, go_on = threading.Event(), threading.Event()
    keep, set_state = JobLog.keep, Ledger.set_state
    rows, busy = {row.name: row for row in fake_pipeline()}, [ledger_is_busy]

    def keep_later(job_log: JobLog, *arguments: Any) -> None:
        putting_off.set()
        assert go_on.wait(10.0)
        keep(job_log, *arguments)

    def no_room(*arguments: Any, **named: Any) -> Any:
        fakes.calls.append("separate")
        raise StageError("no room", "disk_full")

    def set_busy(ledger: Ledger, job_id: str, state: Any, **named: Any) -> None:
        if busy[0] and state == "cancelled":
            busy[0] = False
            raise LedgerError("busy", "busy")
        set_state(ledger, job_id, state, **named)

    monkeypatch.setattr(JobLog, "keep", keep_later)
    monkeypatch.setattr(Ledger, "set_state", set_busy)
    monkeypatch.setattr(
        lanes, "STAGES", rows | {"separate": dataclasses.replace(rows["separate"], run=no_room)}
    )
    with running(dawbridge_home) as daemon:
        daemon.drop("Song.wav")
        assert putting_off.wait(10.0)
        job_id = daemon.control.jobs()[0]["id"]
        assert daemon.control.cancel(job_id)["state"] == "cancelling"
        go_on.set()
        daemon.wait_for("Song.wav", "cancelled")
        daemon.wait(lambda: [t["state"] for t in daemon.told if t["event"] == "job"], "told")
        told = [t["event"] for t in daemon.told if t["event"] in ("job", "waiting")]
    assert told == (["waiting", "job"] if ledger_is_busy else ["job"])
    assert fakes.calls == ["separate"]


def test_a_file_that_was_taken_meanwhile_is_not_put_back_and_one_that_rests_anew_is_put_back_once() -> None:
    async def go() -> list[Found]:
        old, new = (Found(Path("/in/a.wav"), Path("/in"), "", "quick", 1, stamp) for stamp in (1, 2))
        back: list[Found] = []
        waiting = Waiting(lambda _: None)
        waiting.rest("taken", old, 0.01, back.append)
        waiting.over("taken")
        assert "taken" not in waiting
        waiting.rest("exported anew", old, 0.01, back.append)
        waiting.rest("exported anew", new, 0.03, back.append)
        await asyncio.sleep(0.02)
        assert back == []
        await asyncio.sleep(0.05)
        return back

    assert [found.mtime_ns for found in asyncio.run(go())] == [2]


def test_a_file_that_is_exported_anew_while_it_rests_is_taken_once_as_it_is_now(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "DISK_RESERVE_BYTES", 1 << 60)
    with running(dawbridge_home, settle_s=0.6) as daemon:
        daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "waiting")
        path = daemon.drop("Song.wav", seed=1)
        monkeypatch.setattr(
            intake, "DISK_RESERVE_BYTES", 0
        )  # its timer fires before the new file has settled
        daemon.wait_for("Song.wav", "done")
        daemon.wait(lambda: [one for one in daemon.told if one["event"] == "job"], "told")
        (seen,) = daemon.ledger.seen()
        assert seen.mtime_ns == path.stat().st_mtime_ns
        time.sleep(0.8)  # now it has settled
        assert [one["event"] for one in daemon.told].count("job") == 1


def test_a_file_that_waited_and_is_gone_at_the_next_start_leaves_the_list(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "DISK_RESERVE_BYTES", 1 << 60)
    with running(dawbridge_home) as daemon:
        gone = daemon.drop("Gone.wav")
        daemon.drop("There.wav", seed=1)
        daemon.wait_for("Gone.wav", "waiting")
        daemon.wait_for("There.wav", "waiting")
    gone.unlink()
    monkeypatch.setattr(intake, "DISK_RESERVE_BYTES", 0)
    with running(dawbridge_home) as daemon:
        daemon.wait_for("There.wav", "done")
        assert daemon.states() == {"There.wav": "done"}
