"""Every log has one writer and is bounded; a worker's records reach its parent; a job has a log of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import joblog, logs
from bridge.joblog import JobLog
from bridge.logs import log_as_daemon, log_as_program, log_to_parent, pass_on

log = logging.getLogger("bridge.test")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in before:
            with contextlib.suppress(OSError):  # its disk is full
                handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def test_the_daemon_s_log_is_rotated_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LARGE_BYTES", 2000)
    log_as_daemon(tmp_path / "logs" / "dawbridge.log")
    for number in range(400):
        log.info("line %d", number)
    files = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == ["dawbridge.log", *(f"dawbridge.log.{n}" for n in range(1, 6))]
    assert all(path.stat().st_size <= 2000 for path in files)
    assert files[0].read_text().endswith("line 399\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full: Linux has it")
@pytest.mark.parametrize("log_to", [log_as_daemon, log_as_program])
def test_a_log_whose_disk_is_full_says_nothing_on_the_terminal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log_to: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    path = tmp_path / "dawbridge.log"
    path.symlink_to("/dev/full")
    log_to(path)
    log.warning("the disk is full")
    assert capsys.readouterr() == ("", "")


def test_other_programs_append_and_a_large_file_is_moved_aside_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "programs.log"
    monkeypatch.setattr(logs, "LARGE_BYTES", 300)
    log_as_program(path)
    for number in range(10):
        log.info("first %d", number)
    log_as_program(path)
    log.info("second")
    assert "first 9" in (tmp_path / "programs.log.1").read_text()
    assert path.read_text().count("\n") == 1 and path.read_text().endswith("second\n")


def test_a_worker_s_record_crosses_its_pipe_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = multiprocessing.Pipe()
    log_to_parent(theirs.send)
    try:
        raise ZeroDivisionError("in the stage")
    except ZeroDivisionError:
        log.exception("stage %s failed", {"can't": threading.Lock()})
    kind, record = ours.recv()
    assert kind == "log"
    logging.getLogger().handlers[:] = [caplog.handler]
    pass_on(record)
    assert "stage" in caplog.text and "ZeroDivisionError: in the stage" in caplog.text


def test_a_job_s_log_holds_its_steps_and_what_was_logged_meanwhile() -> None:
    job = JobLog("dawbridge 0")
    log.warning("before")
    with job.listening():
        job.note("separate begins")
        log.warning("the disk is slow")
        log.info("not this")
    log.warning("after")
    first, *lines = job.text.splitlines()
    assert first == "dawbridge 0"
    assert [line[20:] for line in lines] == ["separate begins", "WARNING bridge.test: the disk is slow"]


def test_a_job_s_log_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblog, "MOST_LINES", 10)
    job = JobLog("dawbridge 0")
    for _ in range(100):
        job.note("again")
    assert len(job.text.splitlines()) == 10
