"""A full or missing disk holds a job up, visibly, and costs nothing that was finished; it goes on by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import intake, retrying
from bridge.config import folders
from bridge.filecontrol import FileControl
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
