"""What is asked of the daemon is done or refused with the reason, and the outbox is read whatever lies in it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest

from bridge import answering, retrying
from bridge.config import folders
from bridge.control import Control, require_daemon
from bridge.errors import ControlError, LedgerError, UsageError
from bridge.holder import job_lock
from bridge.install import shipped_version
from bridge.ledger import Ledger, utc_now
from bridge.line import Line
from bridge.returned import Shelf
from bridge.store import Store
from bridge.types import Bounce, Job, Preset, Transport
from tests import fakes
from tests.fakes import FakeSettings
from tests.returned_song import made_song
from tests.running_queue import RATE_HZ, WAIT_S, Running, refused, running, use_fake_stages


@pytest.fixture(autouse=True)
def fake_table(monkeypatch: pytest.MonkeyPatch, dawbridge_home: Path) -> None:
    use_fake_stages(monkeypatch)


# cancel


def test_a_running_job_that_is_cancelled_ends_and_the_next_one_runs(dawbridge_home: Path) -> None:
    with running(dawbridge_home, "slow") as daemon:
        daemon.drop("Slow.wav")
        job_id = daemon.wait_for("Slow.wav", "running")
        assert fakes.waiting.wait(WAIT_S)
        (daemon.inbox / "quick").mkdir()
        daemon.drop("Next.wav", 1).rename(daemon.inbox / "quick" / "Next.wav")
        assert daemon.control.cancel(job_id) == {"ok": True, "job": job_id, "state": "cancelling"}
        daemon.wait_for("Slow.wav", "cancelled")
        daemon.wait_for("Next.wav", "done")
        ended = [told for told in daemon.told if told["event"] == "job" and told["id"] == job_id]
        assert [told["state"] for told in ended] == ["cancelled"]
        code, message = refused(lambda: daemon.control.cancel(job_id))
        assert (code, "cancelled already" in message) == ("ended", True)


def test_a_waiting_job_that_is_cancelled_never_runs_and_can_be_retried(dawbridge_home: Path) -> None:
    with running(dawbridge_home, "slow") as daemon:
        daemon.drop("First.wav")
        first = daemon.wait_for("First.wav", "running")
        daemon.drop("Second.wav", 1)
        second = daemon.wait_for("Second.wav", "queued")
        assert daemon.control.cancel(second)["state"] == "cancelled"
        assert daemon.states() == {"First.wav": "running", "Second.wav": "cancelled"}
        assert daemon.control.retry(second) == {"ok": True, "job": second, "state": "queued"}
        assert refused(lambda: daemon.control.retry(second))[0] == "under_way"
        daemon.control.cancel(first)
        daemon.wait_for("Second.wav", "running")


def test_a_job_of_another_process_is_left_to_it(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        bounce = Bounce(Path("x.wav"), "x.wav", "f" * 64, "mix", RATE_HZ, 1, 1000)
        job = Job("f" * 12, bounce, Preset("quick", {}), daemon.outbox, "queued", utc_now())
        daemon.ledger.add_job(job, Path("x.wav"))
        daemon.ledger.begin(job.id)
        for call in (daemon.control.cancel, daemon.control.retry):
            code, message = refused(lambda call=call: call(job.id))  # type: ignore[misc]
            assert (code, "another process" in message) == ("elsewhere", True)
        daemon.ledger.remove_job(job.id)


@contextmanager
def running_beside_a_process(home: Path) -> Iterator[tuple[Running, str, filelock.BaseFileLock]]:
    """A daemon, and a job that a `dawbridge process` began before it came and runs until the lock is released."""
    with running(home) as daemon:
        daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "done")
        daemon.ledger.begin(job_id)
    lock = filelock.FileLock(job_lock(folders(), job_id))
    with lock, running(home) as daemon:
        fakes.calls.clear()
        yield daemon, job_id, lock


def test_other_jobs_pass_one_that_another_process_runs_and_what_is_cancelled_there_is_not_run_here(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "REST_S", 0.5)
    with running_beside_a_process(dawbridge_home) as (daemon, job_id, lock):
        daemon.drop("Other.wav", seed=1)
        daemon.wait_for("Other.wav", "done")
        assert daemon.states()["Song.wav"] == "running"
        daemon.ledger.set_state(job_id, "cancelled")
        lock.release()
        daemon.wait(lambda: any(told.get("state") == "cancelled" for told in daemon.told), "cancelled")
        assert daemon.states()["Song.wav"] == "cancelled"
        assert fakes.calls.count("separate") == 1  # for the other one


def test_what_another_process_cancelled_can_be_retried_at_once(dawbridge_home: Path) -> None:
    with running_beside_a_process(dawbridge_home) as (daemon, job_id, lock):
        daemon.wait(lambda: any(told["event"] == "waiting" for told in daemon.told), "waiting")
        daemon.ledger.set_state(job_id, "cancelled")
        lock.release()
        daemon.control.retry(job_id)
        daemon.wait_for("Song.wav", "done")


def test_to_call_off_here_what_another_process_runs_leaves_what_is_known_of_it(dawbridge_home: Path) -> None:
    with running_beside_a_process(dawbridge_home) as (daemon, job_id, _lock):
        daemon.wait(lambda: any(told["event"] == "waiting" for told in daemon.told), "waiting")
        assert daemon.control.cancel(job_id)["state"] == "cancelled"
        assert daemon.states()["Song.wav"] == "running"
        assert refused(lambda: daemon.control.cancel(job_id))[0] == "elsewhere"
        daemon.ledger.remove_job(job_id)


@pytest.mark.parametrize(
    "job_id", ["nobody", "", "../x", "a" * 1000, "x'; DROP TABLE jobs;--", "\ud800", "\0"]
)
def test_a_job_that_does_not_exist_is_told(dawbridge_home: Path, job_id: str) -> None:
    ledger = Ledger(folders().ledger)
    control = Control(folders(), ledger, Shelf(dawbridge_home))
    for call in (control.job, control.cancel, control.retry):
        assert refused(lambda call=call: call(job_id))[0] == "unknown_job"  # type: ignore[misc]
    ledger.close()


def test_a_daemon_that_does_not_answer_is_told_and_so_is_none(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.control.ANSWER_S", 0.1)
    assert refused(lambda: require_daemon(folders()))[0] == "not_running"
    ledger = Ledger(folders().ledger)
    ledger.add_untaken("x", Path("x.wav"), "quick", dawbridge_home, "incomplete", "cut off")
    control = Control(folders(), ledger, Shelf(dawbridge_home))
    monkeypatch.setattr(control, "_ask", lambda body: Control._ask(control, body, 0.1))
    assert refused(lambda: control.cancel("x"))[0] == "silent"
    ledger.close()


# retry


def test_a_failed_job_runs_again(dawbridge_home: Path) -> None:
    with running(dawbridge_home, "bad") as daemon:
        daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "failed")
        fakes.calls.clear()
        daemon.control.retry(job_id)
        daemon.wait(lambda: "export" in fakes.calls, "second run")
        daemon.wait_for("Song.wav", "failed")


def test_a_done_job_is_not_run_again(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "done")
        code, message = refused(lambda: daemon.control.retry(job_id))
        assert (code, "done already" in message) == ("ended", True)


def test_where_our_copy_is_gone_the_file_itself_is_read_again(dawbridge_home: Path) -> None:
    with running(dawbridge_home, "bad") as daemon:
        source = daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "failed")
        for copy in folders().spool.iterdir():
            copy.unlink()
        fakes.calls.clear()
        assert daemon.control.retry(job_id)["job"] == job_id
        daemon.wait(lambda: "export" in fakes.calls, "second run")
        daemon.wait_for("Song.wav", "failed")
        for copy in folders().spool.iterdir():
            copy.unlink()
        source.rename(daemon.inbox.parent / "Song.wav")
        code, message = refused(lambda: daemon.control.retry(job_id))
        assert (code, "dawbridge process" in message) == ("gone", True)


def test_a_quarantined_file_is_looked_at_again(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        broken = daemon.inbox / "Song.wav"
        broken.write_text("this is no audio")
        job_id = daemon.wait_for("Song.wav", "quarantined")
        code, message = refused(lambda: daemon.control.retry(job_id))
        assert (code, "Song.wav" in message) == ("unreadable", True)
        assert daemon.states() == {"Song.wav": "quarantined"}
        mended = daemon.drop("Other.wav").read_bytes()
        daemon.wait_for("Other.wav", "done")
        (daemon.inbox / "Other.wav").unlink()
        with broken.open(
            "r+b"
        ) as file:  # in place, and with its old time: no watcher takes that for a new export
            file.write(mended)
        answer = daemon.control.retry(job_id)
        assert answer["job"] != job_id
        daemon.wait_for("Song.wav", "done")
        assert refused(lambda: daemon.control.job(job_id))[0] == "unknown_job"


# take


def test_a_file_is_taken_with_the_preset_and_role_that_are_asked_for_and_only_once(
    dawbridge_home: Path,
) -> None:
    with running(dawbridge_home, "bad", settle_s=1.0) as daemon:
        source = daemon.drop("Song.wav")
        job_id = daemon.control.take(str(source), "quick", "drums")["job"]
        daemon.wait_for("Song.wav", "done")
        stored = daemon.ledger.stored(job_id)
        assert stored is not None
        assert (stored.preset, stored.bounce.role) == ("quick", "drums")
        time.sleep(1.6)  # the watcher's own turn has come
        assert [job["id"] for job in daemon.control.jobs()] == [job_id]
        again = daemon.control.take(str(source), "", "")
        assert again["job"] != job_id
        daemon.wait_for("Song.wav", "failed")


def test_only_files_in_a_watched_folder_are_taken(dawbridge_home: Path, tmp_path: Path) -> None:
    with running(dawbridge_home) as daemon:
        inside = daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")
        outside = tmp_path / "outside.wav"
        outside.write_bytes(inside.read_bytes())
        (daemon.inbox / "link.wav").symlink_to(outside)
        (daemon.inbox / "other").mkdir(exist_ok=True)
        (daemon.inbox / "sub").mkdir()
        (daemon.inbox / "sub" / "Deep.wav").write_bytes(inside.read_bytes())
        paths = (
            outside,
            daemon.inbox / ".." / outside.name,
            daemon.inbox / "sub" / ".." / "Song.wav",
            daemon.inbox / "sub" / "Deep.wav",
            daemon.inbox / "nobody.wav",
            daemon.inbox / ".hidden.wav",
            daemon.inbox,
            Path("/etc/passwd"),
            Path("/dev/zero"),
            folders().ledger,
        )
        for path in paths:
            assert refused(lambda path=path: daemon.control.take(str(path)))[0] == "outside", path  # type: ignore[misc]
        assert refused(lambda: daemon.control.take(str(daemon.inbox / "link.wav")))[0] == "outside"
        code, message = refused(lambda: daemon.control.take(str(inside), "quikc"))
        assert (code, "'quick'" in message) == ("preset", True)


@pytest.mark.parametrize(
    "arguments", [(3,), ("x.wav",), ("",), ("/x\0.wav",), ("/\ud800.wav",), ("/x.wav", 3), ("/x.wav", "p" * 999), ("/x.wav", "", "solo")]
)  # fmt: skip
def test_nonsense_is_refused_before_anybody_is_asked(
    dawbridge_home: Path, arguments: tuple[Any, ...]
) -> None:
    ledger = Ledger(folders().ledger)
    with pytest.raises(UsageError):
        Control(folders(), ledger, Shelf(dawbridge_home)).take(*arguments)
    assert ledger.open_requests("daemon") == ()
    ledger.close()


def test_what_a_dead_daemon_left_undone_is_not_done_by_the_next_one(dawbridge_home: Path) -> None:
    ledger = Ledger(folders().ledger)
    ledger.request("daemon", {"name": "cancel", "job": "x"})
    ledger.close()
    with running(dawbridge_home) as daemon:
        assert daemon.ledger.open_requests("daemon") == ()


def test_a_daemon_that_ends_lets_nobody_wait(dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()
    told: list[tuple[str, bool]] = []

    def takes_long(*_: Any, **__: Any) -> Job:
        begun.set()
        may_end.wait(WAIT_S)
        raise ControlError("too late")

    with running(dawbridge_home, settle_s=60.0) as daemon:
        source = daemon.drop("Song.wav")
        monkeypatch.setattr("bridge.daemon.take_up", takes_long)

        def ask() -> None:
            code, _ = refused(lambda: daemon.control.take(str(source)))
            told.append((code, may_end.is_set()))
            may_end.set()

        asking = threading.Thread(target=ask)
        asking.start()
        assert begun.wait(WAIT_S)
        # leaving the block ends the daemon; its thread ends once `takes_long` may
    asking.join(WAIT_S)
    assert told == [("silent", False)]


def test_a_busy_ledger_is_asked_again_and_a_damaged_one_ends_the_daemon(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(folders().ledger)
    trouble = [LedgerError("it is damaged", "damaged"), LedgerError("it is busy", "busy")]

    def open_requests(addressee: str) -> Any:
        raise trouble.pop()

    monkeypatch.setattr(answering, "RETRY_S", 0.01)
    monkeypatch.setattr(ledger, "open_requests", open_requests)
    with pytest.raises(LedgerError, match="damaged"):
        asyncio.run(asyncio.wait_for(answering.Answering(ledger, "daemon", {}).run(), WAIT_S))
    assert trouble == []
    ledger.close()


def test_a_fault_in_one_request_is_its_answer_and_stops_nothing(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        answer = daemon.ledger.ask("daemon", {"name": "dance"}, WAIT_S)
        assert answer is not None and answer["code"] == "unexpected"
        daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")


def test_the_reported_tempo_holds_for_a_bounce_that_tells_none_itself(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        daemon.reported = Transport(97.5, 6, 8)

        def tempo(name: str, seed: int) -> tuple[Any, ...]:
            daemon.drop(name, seed)
            stored = daemon.ledger.stored(daemon.wait_for(name, "done"))
            assert stored is not None
            found = stored.bounce.tempo_map
            if found is None:
                return (stored.bounce.tempo_source,)
            return (found.points[0].bpm, found.beats_per_bar, found.beat_unit, stored.bounce.tempo_source)

        assert tempo("Plain.wav", 1) == (97.5, 6, 8, "transport")
        assert tempo("Named_120bpm.wav", 2) == (120.0, 4, 4, "name")
        sidecar = {"schema": 1, "project": "My Song", "track": "Master"}
        (daemon.inbox / "Said.wav.dawbridge.json").write_text(json.dumps(sidecar))
        assert tempo("Said.wav", 3) == ("estimated",)
        told = next(job for job in daemon.control.jobs() if job["name"] == "Said.wav")
        assert (told["project"], told["track"]) == ("My Song", "Master")
        daemon.reported = None
        assert tempo("Late.wav", 4) == ("estimated",)


# the line


def a_job(job_id: str) -> Job:
    bounce = Bounce(Path("x.wav"), "x.wav", "f" * 64, "mix", RATE_HZ, 1, 1000)
    return Job(job_id, bounce, Preset("p", {"separate": FakeSettings()}), Path("out"), "queued", utc_now())


def test_jobs_run_in_the_order_they_came_and_one_that_waits_keeps_its_place() -> None:
    async def go() -> None:
        line = Line()
        for job_id in ("a", "b", "a", "c"):
            line.add(a_job(job_id))
        assert list(line.waiting) == ["a", "b", "c"]
        first, cancel = await line.next()
        assert first.id == "a" and "a" in line and list(line.waiting) == ["b", "c"]
        line.add(first)
        assert list(line.waiting) == ["b", "c"]  # what runs does not wait too
        assert line.cancel("b")[0] == "gone"
        assert line.cancel("a") == ("told", None) and cancel.is_set()
        assert line.cancel("x") == ("unknown", None)
        line.ended(first)
        assert "a" not in line
        assert (await line.next())[0].id == "c"
        waits = asyncio.create_task(line.next())
        await asyncio.sleep(0)
        line.add(a_job("d"))
        assert (await waits)[0].id == "d"

    asyncio.run(go())


# what came back


def folder_with(outbox: Path, name: str, created_at: str, **changes: Any) -> Path:
    folder = made_song(outbox / name)
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**told, "created_at": created_at, **changes}))
    return folder


def test_what_came_back_is_listed_newest_first_whatever_else_lies_in_the_outbox(tmp_path: Path) -> None:
    folder_with(tmp_path, "Old", "2026-01-01T00:00:00Z", id="old")
    folder_with(tmp_path, "New", "2026-03-01T00:00:00Z", id="new", revision=2)
    folder_with(tmp_path, "Middle", "2026-02-01T00:00:00Z", id="middle", unknown_key={"x": 1})
    folder_with(tmp_path, "Future", "2027-01-01T00:00:00Z", schema=99)
    folder_with(tmp_path, ".building", "2027-01-01T00:00:00Z")
    cut = folder_with(tmp_path, "Cut", "2027-01-01T00:00:00Z")
    (cut / "manifest.json").write_bytes((cut / "manifest.json").read_bytes()[:200])
    for name, content in (("Empty", b""), ("List", b"[]"), ("Binary", bytes(range(256)))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_bytes(content)
    (tmp_path / "Folder" / "manifest.json").mkdir(parents=True)
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "live").mkdir()
    if hasattr(os, "mkfifo"):
        (tmp_path / "Pipe").mkdir()
        os.mkfifo(tmp_path / "Pipe" / "manifest.json")  # reading it would never end
        (tmp_path / os.fsdecode(b"bad\xff")).mkdir()
    songs = Shelf(tmp_path).newest()
    assert [(song.folder, song.id, song.revision) for song in songs] == [
        ("New", "new", 2), ("Middle", "middle", 1), ("Old", "old", 1),
    ]  # fmt: skip
    assert [song.folder for song in Shelf(tmp_path).newest(1)] == ["New"]
    assert Shelf(tmp_path / "nowhere").newest() == ()


def test_a_folder_is_listed_once_it_is_there_and_no_longer_when_it_is_gone(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    shelf = Shelf(outbox)
    assert shelf.newest() == ()
    made_song(tmp_path / "Song").rename(outbox / "Song")
    assert [song.folder for song in shelf.newest()] == ["Song"]
    (outbox / "Song").rename(outbox / "Renamed")
    assert [song.folder for song in shelf.newest()] == ["Renamed"]


def test_an_outbox_in_which_nothing_happens_is_not_listed_again_until_half_a_minute_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [time.time() + 10.0]
    shelf = Shelf(tmp_path, now_s=lambda: now_s[0])
    made_song(tmp_path / "Song")
    listed: list[Path] = []

    def folders_of(outbox: Path) -> list[Path]:
        listed.append(outbox)
        return [outbox / "Song"]

    monkeypatch.setattr("bridge.returned._folders", folders_of)
    for _ in range(5):
        assert len(shelf.newest()) == 1
    assert len(listed) == 1
    now_s[0] += 31.0
    shelf.newest()
    assert len(listed) == 2


def test_a_folder_outside_of_the_outbox_has_no_name_in_it(dawbridge_home: Path) -> None:
    ledger = Ledger(folders().ledger)
    control = Control(folders(), ledger, Shelf(dawbridge_home / "outbox"))
    assert control.folder_name(str(dawbridge_home / "outbox" / "Song (2)")) == "Song (2)"
    assert control.folder_name(str(dawbridge_home / "elsewhere" / "Song")) is None
    assert control.folder_name(None) is None
    ledger.close()


def test_the_scripts_that_ship_have_a_version() -> None:
    assert all(part.isdecimal() for part in shipped_version().split("."))


def test_an_error_of_control_crosses_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(ControlError("no", "gone")))
    assert (error.message, error.code) == ("no", "gone")


# forget, again, clean


def test_a_forgotten_job_s_file_counts_as_new(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        path = daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "done")
        assert [(file.path, file.job_id) for file in daemon.ledger.seen()] == [(str(path), job_id)]
        told = len([one for one in daemon.told if one["event"] == "queued"])
        assert daemon.control.forget("Song") == {"ok": True, "job": job_id, "state": "forgotten"}
        daemon.wait(lambda: len([o for o in daemon.told if o["event"] == "queued"]) == told + 1, "new job")
        daemon.wait_for("Song.wav", "done")
        assert refused(lambda: daemon.control.forget("Nothing"))[0] == "unknown_job"


def test_a_file_that_is_forgotten_by_its_path_is_taken_again_at_once(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        path = daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")
        daemon.wait(daemon.ledger.seen, "seen file")
        told = len([one for one in daemon.told if one["event"] == "job"])
        assert daemon.control.forget(str(path)) == {"job": str(path), "state": "forgotten"}
        daemon.wait(daemon.ledger.seen, "seen file")
        daemon.wait(lambda: len([o for o in daemon.told if o["event"] == "job"]) > told, "second time")


def test_a_job_under_way_is_not_forgotten(dawbridge_home: Path) -> None:
    with running(dawbridge_home, "slow") as daemon:
        daemon.drop("Slow.wav")
        job_id = daemon.wait_for("Slow.wav", "running")
        assert refused(lambda: daemon.control.forget(job_id))[0] == "under_way"


def test_a_quarantined_file_that_is_mended_leaves_the_list(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        (daemon.inbox / "Song.wav").write_text("no audio")
        daemon.wait_for("Song.wav", "quarantined")
        daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")
        assert [job["state"] for job in daemon.control.jobs()] == ["done"]


def test_another_take_runs_only_what_its_settings_touch(dawbridge_home: Path) -> None:
    (folders().presets / "two.toml").write_text("[separate]\n[effects]\nlevel = 0.1\n[analyse]\n[report]\n")
    with running(dawbridge_home, "two") as daemon:
        daemon.drop("Song.wav")
        first = daemon.wait_for("Song.wav", "done")
        fakes.calls.clear()
        answer = daemon.control.again("Song", {"effects": {"level": 0.7}})
        assert answer["job"] != first
        daemon.wait(lambda: daemon.control.job(answer["job"])["state"] == "done", "another take")
        assert fakes.calls == ["effects", "report", "export"]
        assert daemon.control.job(answer["job"])["name"] == "Song.wav"
        assert refused(lambda: daemon.control.again("Song", {"effects": {"depth": 1}}))[0] == "preset"
        assert refused(lambda: daemon.control.again("Song"))[0] == "same"
        assert refused(lambda: daemon.control.again("Song", preset="none"))[0] == "preset"
        assert daemon.control.again("Song", preset="quick")["state"] == "queued"
        (daemon.inbox / "Song.wav").unlink()
        daemon.wait(lambda: not list(folders().spool.glob("*.wav")), "the freed spool")
        assert refused(lambda: daemon.control.again(first, {"effects": {"level": 0.3}}))[0] == "gone"


def test_the_spool_s_copy_is_freed_once_its_song_is_back_and_kept_where_it_failed(
    dawbridge_home: Path,
) -> None:
    (folders().presets / "bad.toml").write_text('[separate]\ndo = "fail"\n')
    with running(dawbridge_home) as daemon:
        daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")
        daemon.wait(lambda: not list(folders().spool.glob("*.wav")), "the freed spool")
        bad = daemon.drop("Bad.wav", seed=1)
        daemon.control.take(str(bad), "bad")
        job_id = daemon.wait_for("Bad.wav", "failed")
        assert len(list(folders().spool.glob("*.wav"))) == 1
        assert daemon.control.retry(job_id)["state"] == "queued"
        daemon.wait_for("Bad.wav", "failed")


def test_cleaning_frees_what_can_be_made_again_and_nothing_else(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        song = daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")
        would = daemon.control.clean(["store", "jobs"], dry_run=True)
        assert would["store_bytes"] > 4000 and would["jobs"] == 1
        assert list(folders().store.glob("objects/*/*")) and len(daemon.ledger.jobs()) == 1
        assert daemon.control.clean(["store", "jobs"]) == would
        assert not list(folders().store.glob("objects/*/*")) and daemon.ledger.jobs() == ()
        assert song.exists() and daemon.ledger.seen() != ()
        assert refused(lambda: daemon.control.clean(["outbox"]))[0] == "usage"
        fakes.calls.clear()
        daemon.control.take(str(song))
        daemon.wait_for("Song.wav", "done")
        assert "separate" in fakes.calls


def test_nothing_is_cleaned_while_a_job_runs(dawbridge_home: Path) -> None:
    with running(dawbridge_home, "slow") as daemon:
        daemon.drop("Slow.wav")
        daemon.wait_for("Slow.wav", "running")
        assert fakes.waiting.wait(WAIT_S)
        assert refused(lambda: daemon.control.clean(["store"]))[0] == "under_way"


def test_no_job_begins_while_the_store_is_cleaned(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimming, go_on, trim = threading.Event(), threading.Event(), Store.trim

    def trim_slowly(store: Store, max_bytes: int) -> int:
        if max_bytes == 0:
            trimming.set()
            assert go_on.wait(WAIT_S)
        return trim(store, max_bytes)

    with running(dawbridge_home, "bad") as daemon:
        daemon.drop("Song.wav")
        job_id = daemon.wait_for("Song.wav", "failed")
        daemon.wait(lambda: [one for one in daemon.told if one["event"] == "job"], "end")
        fakes.calls.clear()
        monkeypatch.setattr(Store, "trim", trim_slowly)
        with ThreadPoolExecutor() as threads:
            cleaned = threads.submit(daemon.control.clean, ["store"])
            assert trimming.wait(WAIT_S)
            assert daemon.control.retry(job_id)["state"] == "queued"
            time.sleep(0.2)
            assert fakes.calls == [] and daemon.states() == {"Song.wav": "queued"}
            go_on.set()
            assert cleaned.result(WAIT_S)["ok"]
        daemon.wait_for("Song.wav", "failed")
        assert "separate" in fakes.calls


def test_without_a_daemon_forgetting_and_cleaning_are_done_at_once(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        path = daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")
    ledger = Ledger(folders().ledger)
    control = Control(folders(), ledger, Shelf(dawbridge_home / "outbox"))
    assert control.clean(["store"])["store_bytes"] > 4000
    assert control.forget(str(path))["state"] == "forgotten"
    assert ledger.seen() == ()
    assert control.forget("Song.wav")["state"] == "forgotten"
    assert ledger.jobs() == ()
    ledger.close()


def test_a_cleaned_list_does_not_take_the_inbox_up_again(dawbridge_home: Path) -> None:
    with running(dawbridge_home) as daemon:
        daemon.drop("Song.wav")
        daemon.wait_for("Song.wav", "done")
        daemon.control.clean(["jobs"])
    with running(dawbridge_home) as daemon:
        daemon.drop("Other.wav", seed=1)
        daemon.wait_for("Other.wav", "done")
        assert daemon.states() == {"Other.wav": "done"}
