"""Whoever listens may fail: the daemon goes on, and what it says later is heard again."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.telling import unfailing
from bridge.terminal import PipeSafeConsole, narrator
from tests.real import require_real
from tests.running_queue import Running, running, use_fake_stages
from tests.small_disk import small_disk


def test_a_listener_that_fails_is_told_on_and_logged_once_in_a_row(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []

    def listen(message: Mapping[str, Any]) -> None:
        if message["n"] in (2, 3, 5):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        heard.append(message["n"])

    tell = unfailing(listen)
    with caplog.at_level(logging.WARNING):
        for number in range(1, 7):
            tell({"n": number})
    assert heard == [1, 4, 6]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "No space left" in caplog.text


def test_a_daemon_whose_every_word_fails_still_returns_what_is_dropped(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_stages(monkeypatch)

    class Deaf(list[Mapping[str, Any]]):
        def append(self, message: Mapping[str, Any]) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = Running.__init__

    def deaf(daemon: Running, *arguments: Any) -> None:
        real(daemon, *arguments)
        daemon.told = Deaf()

    monkeypatch.setattr(Running, "__init__", deaf)
    with running(dawbridge_home) as daemon:
        daemon.drop("Song.wav")
        (daemon.inbox / "Broken.wav").write_bytes(b"no audio")
        daemon.wait_for("Song.wav", "done")
        daemon.wait_for("Broken.wav", "quarantined")
        daemon.drop("Next.wav", seed=1)
        daemon.wait_for("Next.wav", "done")


SAYS = """\
import sys
from bridge.terminal import PipeSafeConsole, narrator
tell = narrator(PipeSafeConsole(), sys.argv[1] == "json")
message = {"event": "warning", "name": "a", "detail": "hello"}
tell(message)
sys.stdin.readline()
for _ in range(3):
    tell(message)
sys.stderr.write("goes on")
"""


@pytest.mark.parametrize("how", ["json", "person"])
def test_a_terminal_that_is_closed_ends_nothing(how: str) -> None:
    require_real(sys.platform != "win32", "a pseudo-terminal")
    ours, theirs = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", SAYS, how],
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    assert os.read(ours, 5)
    os.close(ours)  # from now on each write fails with EIO
    said = child.communicate("\n", timeout=20.0)[1]
    assert said.endswith("goes on") and "Input/output error" in said and "Traceback" not in said
    assert child.returncode == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_once_a_full_disk_has_room_again_it_takes_what_is_said(
    tmp_path: Path, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        with (disk.place / "log").open("w", encoding="utf-8") as file:
            monkeypatch.setattr(sys, "stdout", file)
            tell = narrator(PipeSafeConsole(file=file, width=80), as_json)
            ballast = disk.place / "ballast"
            with ballast.open("wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
                while full.write(bytes(1 << 12)):
                    pass
            for number in range(20):
                tell({"event": "warning", "name": "a", "detail": f"meanwhile {number}"})
            ballast.unlink()
            tell({"event": "warning", "name": "a", "detail": "there is room"})
            monkeypatch.undo()
        lines = (disk.place / "log").read_text().splitlines()
    last = json.loads(lines[-1])["detail"] if as_json else lines[-1]
    assert "there is room" in last
    assert len(lines) <= 21  # nothing twice
