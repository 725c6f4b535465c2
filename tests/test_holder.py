"""One daemon per state folder: a second one is refused, and who only looks whether one runs is in nobody's way."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import filelock
import pytest

from bridge import holder
from bridge.config import folders
from bridge.errors import LedgerError
from bridge.holder import daemon_runs, only_one


def the_lock() -> filelock.BaseFileLock:
    folders().state.mkdir(parents=True)
    return filelock.FileLock(folders().state / "daemon.lock", thread_local=False)


def test_a_daemon_starts_though_somebody_looks_just_then_whether_one_runs(dawbridge_home: Path) -> None:
    looking = the_lock()
    looking.acquire()
    threading.Timer(0.1, looking.release).start()
    with only_one(folders()):
        assert json.loads((folders().state / "daemon.json").read_text()) == {"pid": os.getpid()}
        assert daemon_runs(folders())
    assert not daemon_runs(folders())


def test_a_second_daemon_is_refused_and_told_who_runs(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "LOOK_S", 0.05)
    with the_lock():
        (folders().state / "daemon.json").write_text('{"pid": 4711}')
        with (
            pytest.raises(LedgerError, match=r"Another daemon \(process 4711\)") as told,
            only_one(folders()),
        ):
            pass
    assert told.value.code == "locked"
