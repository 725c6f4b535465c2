"""The job runner: what depends on what, what is kept, what is said; with fake stages, inline."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from bridge import jobs, lanes, retrying
from bridge.config import Folders
from bridge.errors import Cancelled, LedgerError, Waits, WorkerDied
from bridge.holder import job_lock
from bridge.jobs import JobResult, already_returned, run_job
from bridge.ledger import Ledger, utc_now
from bridge.manifest import Manifest, ManifestBounce, ManifestVoice, Software, write_manifest
from bridge.retrying import TRIES
from bridge.types import Bounce, Job, Made, Preset, Skip, StageEvent
from bridge.workshop import open_workshop
from tests import fakes
from tests.fakes import FakeSettings, calls, fake_pipeline


@pytest.fixture(autouse=True)
def fake_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    rows = fake_pipeline()
    monkeypatch.setattr(jobs, "PIPELINE", rows)
    monkeypatch.setattr(jobs, "maker_of", lambda name: next((r.name for r in rows if name in r.gives), None))
    monkeypatch.setattr(lanes, "STAGES", {row.name: row for row in rows})
    calls.clear()
    fakes.waiting.clear()
    fakes.consent["given"] = True
    yield


@pytest.fixture
def homes(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache")


def make_job(tmp_path: Path, sha256: str = "a" * 64, **do: str) -> Job:
    settings = {row.name: FakeSettings(do.get(row.name, "make")) for row in fake_pipeline()}
    settings = {name: value for name, value in settings.items() if value.do != "absent"}
    bounce = Bounce(tmp_path / "x.wav", "x.wav", sha256, "mix", 1000, 1, 1000)
    return Job(sha256[:12], bounce, Preset("fake", settings), tmp_path / "out", "queued", utc_now())


def run(homes: Folders, job: Job, events: list[StageEvent] | None = None) -> JobResult:
    async def go() -> JobResult:
        async with open_workshop(homes, inline=True) as shop:
            shop.ledger.add_job(job, job.bounce.path)
            told = events if events is not None else []
            return await run_job(job, shop, told.append, threading.Event())

    return asyncio.run(go())


def states(result: JobResult) -> dict[str, str]:
    return {event.stage: event.state for event in result.stages}


def test_every_stage_runs_and_the_folder_is_told(homes: Folders, tmp_path: Path) -> None:
    result = run(homes, make_job(tmp_path))
    assert set(states(result).values()) == {"done"}
    assert result.exit_code() == 0
    assert result.folder is not None
    assert (result.folder / "record.json").exists()


def test_progress_is_told_before_the_end_of_each_stage(homes: Folders, tmp_path: Path) -> None:
    events: list[StageEvent] = []
    run(homes, make_job(tmp_path), events)
    of_separate = [(e.state, e.done, e.total) for e in events if e.stage == "separate"]
    assert of_separate == [("running", 0.0, 0.0), ("running", 1, 2), ("done", 1.0, 1.0)]


def test_the_same_job_again_takes_everything_from_the_cache_but_publishes(
    homes: Folders, tmp_path: Path
) -> None:
    run(homes, make_job(tmp_path))
    calls.clear()
    result = run(homes, make_job(tmp_path))
    assert calls == ["report", "export"]
    assert states(result) == {
        "separate": "cached",
        "analyse": "cached",
        "convert": "cached",
        "effects": "cached",
        "report": "done",
        "export": "done",
    }


def test_report_and_export_are_told_how_every_stage_before_them_went(homes: Folders, tmp_path: Path) -> None:
    job = dataclasses.replace(make_job(tmp_path, effects="fail"), warnings=("an odd sidecar",))
    folder = run(homes, job).folder
    assert folder is not None
    told = {name: json.loads((folder / name).read_text()) for name in ("report.html", "record.json")}
    before = {"separate": "done", "analyse": "done", "convert": "done", "effects": "failed"}
    went = {name: {e["stage"]: e["state"] for e in record["stages"]} for name, record in told.items()}
    assert went == {"report.html": before, "record.json": {**before, "report": "done"}}
    assert told["report.html"]["warnings"] == ["an odd sidecar"]


def test_a_report_is_never_an_earlier_runs(homes: Folders, tmp_path: Path) -> None:
    """It tells states and seconds of its own run, though every other result may be an old one."""
    run(homes, make_job(tmp_path))
    folder = run(homes, make_job(tmp_path)).folder
    assert folder is not None
    told = json.loads((folder / "report.html").read_text())["stages"]
    assert {event["state"] for event in told} == {"cached"}


def test_a_damaged_artifact_is_made_again(homes: Folders, tmp_path: Path) -> None:
    run(homes, make_job(tmp_path))
    for path in homes.store.glob("objects/*/*"):
        path.write_bytes(b"damaged")
    calls.clear()
    assert run(homes, make_job(tmp_path)).exit_code() == 0
    assert calls == ["separate", "analyse", "convert", "effects", "report", "export"]


def test_another_setting_of_one_stage_runs_that_stage_and_what_depends_on_it(
    homes: Folders, tmp_path: Path
) -> None:
    run(homes, make_job(tmp_path))
    calls.clear()
    job = make_job(tmp_path)
    job = Job(
        "b" * 12,
        job.bounce,
        Preset("fake", {**job.preset.settings, "convert": FakeSettings(level=0.2)}),
        job.outbox,
        "queued",
        utc_now(),
    )
    run(homes, job)
    assert calls == ["convert", "effects", "report", "export"]


def test_a_failed_stage_takes_only_what_needs_it(homes: Folders, tmp_path: Path) -> None:
    result = run(homes, make_job(tmp_path, separate="fail"))
    assert states(result) == {
        "separate": "failed",
        "analyse": "done",  # it only wants the stems
        "convert": "skipped",
        "effects": "skipped",
        "report": "done",
        "export": "done",
    }
    assert result.exit_code() == 1
    assert "separate failed as told" in result.detail
    skipped = next(event for event in result.stages if event.stage == "convert")
    assert skipped.detail == "needs stems: separate failed"


@pytest.mark.parametrize("outcome", ["fail", "refuse", "skip"])
def test_no_lead_is_made_when_the_conversion_that_was_asked_for_gave_nothing(
    homes: Folders, tmp_path: Path, outcome: str
) -> None:
    result = run(homes, make_job(tmp_path, convert=outcome))
    assert states(result)["effects"] == "skipped"
    assert "effects" not in calls


def test_without_conversion_in_the_preset_effects_run_on_the_original(homes: Folders, tmp_path: Path) -> None:
    result = run(homes, make_job(tmp_path, convert="absent"))
    assert states(result)["effects"] == "done"


def test_a_skip_is_no_failure(homes: Folders, tmp_path: Path) -> None:
    result = run(homes, make_job(tmp_path, effects="skip"))
    assert states(result)["effects"] == "skipped"
    assert result.exit_code() == 0


def test_a_refusal_is_told_as_such(homes: Folders, tmp_path: Path) -> None:
    result = run(homes, make_job(tmp_path, convert="refuse"))
    refused = next(event for event in result.stages if event.stage == "convert")
    assert (refused.state, refused.code) == ("refused", "no_consent")
    assert result.exit_code() == 1


def test_consent_is_asked_before_the_cache_is_read(homes: Folders, tmp_path: Path) -> None:
    run(homes, make_job(tmp_path))
    fakes.consent["given"] = False
    result = run(homes, make_job(tmp_path))
    assert states(result)["convert"] == "refused"
    assert states(result)["effects"] == "skipped"


def test_a_fault_in_a_stage_becomes_one_line_without_a_traceback(homes: Folders, tmp_path: Path) -> None:
    result = run(homes, make_job(tmp_path, analyse="crash"))
    failed = next(event for event in result.stages if event.stage == "analyse")
    assert (failed.state, failed.code) == ("failed", "unexpected")
    assert "ZeroDivisionError" in failed.detail
    assert "\n" not in failed.detail


def test_cancel_is_heard_and_finished_stages_are_kept(homes: Folders, tmp_path: Path) -> None:
    cancel = threading.Event()

    async def go() -> JobResult:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path, convert="wait")
            shop.ledger.add_job(job, job.bounce.path)
            running = asyncio.create_task(run_job(job, shop, lambda event: None, cancel))
            await asyncio.to_thread(fakes.waiting.wait, 5.0)
            cancel.set()
            result = await running
            row = shop.ledger.job(job.id)
            assert row is not None
            assert row.state == "cancelled"
            return result

    assert asyncio.run(go()).state == "cancelled"
    calls.clear()
    run(homes, make_job(tmp_path))
    assert "separate" not in calls


def test_a_second_process_waits_for_the_first_and_shows_its_progress(homes: Folders, tmp_path: Path) -> None:
    """The lock is the system's: here another holder in this process stands for another process."""

    async def go() -> JobResult:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path)
            shop.ledger.add_job(job, job.bounce.path)
            shop.ledger.record(StageEvent(job.id, "separate", "running", 1.0, 4.0))
            lock = filelock.FileLock(homes.state / "locks" / f"{job.id}.lock")
            (homes.state / "locks").mkdir()
            lock.acquire()
            told: list[StageEvent] = []
            waiting = asyncio.create_task(run_job(job, shop, told.append, threading.Event()))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            assert [(event.stage, event.done, event.total) for event in told] == [("separate", 1.0, 4.0)]
            assert calls == []
            lock.release()
            return await waiting

    assert asyncio.run(go()).state == "done"


def test_a_patient_run_does_not_queue_behind_another_process_and_leaves_its_row(
    homes: Folders, tmp_path: Path
) -> None:
    async def go() -> None:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path)
            shop.ledger.add_job(job, job.bounce.path)
            shop.ledger.begin(job.id)
            job_lock(homes, job.id).parent.mkdir()
            with filelock.FileLock(job_lock(homes, job.id)), pytest.raises(Waits) as told:
                work = run_job(job, shop, lambda event: None, threading.Event(), patient=True)
                await asyncio.wait_for(work, 5.0)
            row = shop.ledger.job(job.id)
            assert row is not None
            assert (told.value.code, row.state, calls) == ("busy", "running", [])

    asyncio.run(go())


@pytest.mark.parametrize("patient", [True, False])
def test_what_was_cancelled_in_the_process_that_ran_it_is_not_begun_again_by_the_next(
    homes: Folders, tmp_path: Path, patient: bool
) -> None:
    async def go() -> JobResult:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path)
            shop.ledger.add_job(job, job.bounce.path)
            shop.ledger.set_state(job.id, "cancelled")
            return await run_job(job, shop, lambda event: None, threading.Event(), patient=patient)

    result = asyncio.run(go())
    assert (result.state, calls) == ("cancelled", [])


def test_a_cancel_is_heard_while_another_process_runs_the_job(homes: Folders, tmp_path: Path) -> None:
    async def go() -> None:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path)
            (homes.state / "locks").mkdir()
            with filelock.FileLock(homes.state / "locks" / f"{job.id}.lock"):
                cancel = threading.Event()
                cancel.set()
                with pytest.raises(Cancelled):
                    await run_job(job, shop, lambda event: None, cancel)

    asyncio.run(go())


def test_a_second_ctrl_c_leaves_the_job_cancelled(homes: Folders, tmp_path: Path) -> None:
    async def go() -> str:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path, convert="wait")
            shop.ledger.add_job(job, job.bounce.path)
            cancel = threading.Event()
            running = asyncio.create_task(run_job(job, shop, lambda event: None, cancel))
            await asyncio.to_thread(fakes.waiting.wait, 5.0)
            cancel.set()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            row = shop.ledger.job(job.id)
            assert row is not None
            return row.state

    assert asyncio.run(go()) == "cancelled"


def test_progress_that_the_ledger_cannot_take_does_not_fail_the_job(
    homes: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Ledger.record

    def busy(self: Ledger, event: StageEvent) -> None:
        if event.total == 2:
            raise LedgerError("the ledger is busy")
        record(self, event)

    monkeypatch.setattr(Ledger, "record", busy)
    assert run(homes, make_job(tmp_path)).state == "done"


def test_a_folder_with_a_voice_is_not_returned_once_its_consent_is_gone(
    homes: Folders, tmp_path: Path
) -> None:
    job = make_job(tmp_path)
    folder = tmp_path / "Song"
    folder.mkdir()
    write_manifest(folder, a_manifest(id=job.id, voice=ManifestVoice("anna", None)))

    async def go() -> tuple[Path | None, Path | None]:
        async with open_workshop(homes, inline=True) as shop:
            shop.ledger.add_job(job, job.bounce.path)
            shop.ledger.set_state(job.id, "done", folder=folder)
            before = already_returned(job, shop)
            fakes.consent["given"] = False
            return before, already_returned(job, shop)

    assert asyncio.run(go()) == (folder, None)


def a_manifest(**changes: Any) -> Manifest:
    bounce = ManifestBounce("x.wav", "a" * 64, "mix", 1000, 1, 1000, 0)
    plain = Manifest(
        1, "", 1, utc_now(), bounce, "fake", {}, None, None, None, (), (), (), None, Software("0")
    )
    return dataclasses.replace(plain, **changes)


def test_a_listener_that_fails_ends_the_job_as_failed_not_as_running(homes: Folders, tmp_path: Path) -> None:
    def fail(_event: StageEvent) -> None:
        raise ValueError("the terminal went away")

    async def go() -> str:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path)
            shop.ledger.add_job(job, job.bounce.path)
            result = await run_job(job, shop, fail, threading.Event())
            assert result.state == "failed"
            row = shop.ledger.job(job.id)
            assert row is not None
            return row.state

    assert asyncio.run(go()) == "failed"


def test_a_stopped_daemon_leaves_its_job_queued(homes: Folders, tmp_path: Path) -> None:
    async def go() -> None:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path, convert="wait")
            shop.ledger.add_job(job, job.bounce.path)
            cancel = threading.Event()
            running = asyncio.create_task(run_job(job, shop, lambda event: None, cancel))
            await asyncio.to_thread(fakes.waiting.wait, 5.0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            row = shop.ledger.job(job.id)
            assert row is not None
            assert row.state == "queued"
            cancel.set()  # an inline stage has no worker that the lane could end

    asyncio.run(go())


def test_the_record_names_what_ran(homes: Folders, tmp_path: Path) -> None:
    result = run(homes, make_job(tmp_path))
    assert result.folder is not None
    record = json.loads((result.folder / "record.json").read_text())
    ran = [stage["stage"] for stage in record["stages"]]
    assert ran == ["separate", "analyse", "convert", "effects", "report"]
    assert record["facts"]["convert"] == {"said": "convert"}


def test_nothing_is_left_in_the_working_folders(homes: Folders, tmp_path: Path) -> None:
    run(homes, make_job(tmp_path, convert="fail"))
    assert list((homes.store / "work").iterdir()) == []


class DyingLane(lanes.InlineLane):
    """A lane whose worker dies the first few times a stage runs."""

    def __init__(self, stage: str, times: int) -> None:
        self.stage = stage
        self.left = times
        self.thrifty: list[bool] = []

    async def run(self, task: lanes.Task, on_progress: Any, cancel: threading.Event) -> Made | Skip:
        if task.stage == self.stage:
            self.thrifty.append(task.thrifty)
            if self.left > 0:
                self.left -= 1
                (task.workdir / "half a file").write_bytes(b"x")
                raise WorkerDied(f"The worker for {task.stage!r} ended without an answer.")
            assert list(task.workdir.iterdir()) == []
        return await super().run(task, on_progress, cancel)


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = {code: tuple(dataclasses.replace(a, rest_s=0.0) for a in again) for code, again in TRIES.items()}
    monkeypatch.setattr(retrying, "TRIES", tries)


@pytest.mark.usefixtures("no_rest")
@pytest.mark.parametrize("stage", ["separate", "export"])
@pytest.mark.parametrize(
    ("deaths", "state", "thrifty"),
    [(1, "done", [False, False]), (2, "done", [False, False, True]), (3, "failed", [False, False, True])],
)
def test_a_stage_whose_worker_died_is_tried_again_a_few_times(
    homes: Folders, tmp_path: Path, stage: str, deaths: int, state: str, thrifty: list[bool]
) -> None:
    lane = DyingLane(stage, deaths)

    async def go() -> JobResult:
        async with open_workshop(homes, inline=True) as shop:
            shop = dataclasses.replace(shop, lanes={"heavy": lane, "light": lane})
            job = make_job(tmp_path)
            shop.ledger.add_job(job, job.bounce.path)
            result = await run_job(job, shop, lambda event: None, threading.Event())
            stored = shop.ledger.stored(job.id)
            assert stored is not None and stored.fallbacks == result.job.fallbacks
            return result

    result = asyncio.run(go())
    assert (states(result)[stage], lane.thrifty) == (state, thrifty)
    assert [f.used for f in result.job.fallbacks] == ["less memory, one thread"] * (deaths > 1)
    assert calls.count("separate") == (0 if (stage, state) == ("separate", "failed") else 1)


@pytest.mark.usefixtures("no_rest")
def test_a_stage_that_ran_out_of_memory_is_tried_with_less_and_says_so(
    homes: Folders, tmp_path: Path
) -> None:
    result = run(homes, make_job(tmp_path, convert="memory"))
    assert (result.state, calls.count("convert")) == ("done", 2)
    (told,) = result.job.fallbacks
    assert (told.stage, told.used) == ("convert", "less memory, one thread")
    assert "out of memory" in told.reason
    assert result.folder is not None
    record = json.loads((result.folder / "record.json").read_text())
    assert [fallback["stage"] for fallback in record["fallbacks"]] == ["convert"]


def test_work_that_the_ledger_cannot_take_is_not_done_again(
    homes: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_result = Ledger.keep_result

    def busy(*_: Any) -> None:
        raise LedgerError("the ledger is busy", "busy")

    async def go() -> JobResult:
        async with open_workshop(homes, inline=True) as shop:
            job = make_job(tmp_path)
            shop.ledger.add_job(job, job.bounce.path)
            monkeypatch.setattr(Ledger, "keep_result", busy)
            with pytest.raises(LedgerError):
                await run_job(job, shop, lambda event: None, threading.Event())
            monkeypatch.setattr(Ledger, "keep_result", keep_result)
            result = await run_job(job, shop, lambda event: None, threading.Event())
            assert shop.unsaved == {}
            return result

    assert asyncio.run(go()).state == "done"
    assert calls.count("separate") == 1


def test_a_job_has_a_log_of_its_own_that_comes_back_with_the_song(homes: Folders, tmp_path: Path) -> None:
    result = run(homes, make_job(tmp_path, effects="fail"))
    kept = homes.job_log(result.job.id).read_text()
    for line in (
        "x.wav: mix, 1000 frames",
        "separate begins",
        "effects failed after",
        "effects failed as told",
    ):
        assert line in kept
    assert "job failed. " in kept.splitlines()[-1]
    assert result.folder is not None
    told = json.loads((result.folder / "record.json").read_text())["log"]
    assert kept.startswith(told) and "export begins" in told
