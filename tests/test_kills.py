"""kill -9 at any moment, of the daemon or of a worker: each bounce comes back once, whole, and no work is done twice.

Real processes. With tiny stages (`tests.tiny_daemon`) in CI a few times and at length by `-m faults`; with the real
stages ten times by `-m faults`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from bridge import manifest
from bridge.config import folders
from bridge.ledger import Ledger
from tests import tiny_daemon
from tests.test_daemon import export_from_daw

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")

SETTLE_S = 0.2
BOUNCES_AHEAD = 2
DURING_WORK = 0.85  # so many of the kills; the others strike a daemon that starts
PATIENCE_S = 180.0


class Fleet:
    """A daemon that is killed and started anew, and what it may not do."""

    def __init__(self, home: Path, module: str, preset: str) -> None:
        self.inbox, self.outbox = home / "inbox", home / "outbox"
        self.log = home / "stages.log"
        self.log.touch()
        self.dropped: list[str] = []
        self.verified: dict[
            tuple[str, str], int
        ] = {}  # (stage, bounce) -> lines of the log when it was known
        self.seen_partial: list[str] = []
        self._command = [sys.executable, "-m", module, "run", "--json", "--preset", preset]
        self._command += ["--inbox", str(self.inbox), "--outbox", str(self.outbox)]
        self._env = {**os.environ, "TINY_LOG": str(self.log)}
        self._process: subprocess.Popen[bytes] | None = None
        self._told = home / "told.txt"

    def start(self) -> None:
        with self._told.open("wb") as told:
            self._process = subprocess.Popen(self._command, stdout=told, stderr=told, env=self._env)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """The daemon; its workers end by themselves. Then note what it had finished."""
        assert self._process is not None
        workers = self.workers()
        self._process.kill()
        self._process.wait()
        wait_until(lambda: not any(_is_alive(worker) for worker in workers), 10.0)
        self._note_verified()

    def is_ready(self) -> bool:
        """Whether it watches and works."""
        return b'"ready"' in self._told.read_bytes()

    def stop(self) -> None:
        assert self._process is not None
        wait_until(self.is_ready, 30.0)  # before, nothing hears the signal
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60.0) == 0, self._told.read_text()[-3000:]

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        threads = Path(f"/proc/{self.pid}/task")
        found: list[int] = []
        for listed in [children, *threads.glob("*/children")]:
            try:
                found += [int(pid) for pid in listed.read_text().split()]
            except OSError:
                continue
        return [pid for pid in set(found) if b"spawn_main" in _command_line(pid)]

    def returned(self) -> list[str]:
        if not self.outbox.exists():
            return []
        return sorted(path.name for path in self.outbox.iterdir() if not path.name.startswith("."))

    def starts(self) -> list[tuple[str, str]]:
        return [(line.split()[0], line.split()[1]) for line in self.log.read_text().splitlines()]

    def _note_verified(self) -> None:
        lines = len(self.starts())
        ledger = Ledger(folders().ledger)
        try:
            for stored in ledger.unfinished():
                for event in ledger.stages(stored.id):
                    if event.state in ("done", "cached"):
                        self.verified.setdefault((event.stage, stored.bounce.sha256), lines)
        finally:
            ledger.close()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody looks into the outbox all the time: no folder may be seen that is not whole."""
        over = threading.Event()

        def look() -> None:
            known: set[str] = set()
            while not over.wait(0.002):
                for name in set(self.returned()) - known:
                    if not (self.outbox / name / manifest.NAME).exists():
                        self.seen_partial.append(name)
                    known.add(name)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def wait_until(found: Callable[[], object], seconds: float) -> bool:
    until_s = time.monotonic() + seconds
    while not found():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.02)
    return True


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill_at_random(
    fleet: Fleet, kills: int, chance: Random, longest_s: float, bounce_s: float
) -> Counter[str]:
    """Drop bounces, and kill somebody after a while, again and again."""
    struck: Counter[str] = Counter()
    fleet.start()
    while sum(struck.values()) < kills:
        while len(fleet.dropped) - len(fleet.returned()) < BOUNCES_AHEAD:
            name = f"Song {len(fleet.dropped):03}"
            export_from_daw(fleet.inbox, f"{name}.wav", seconds=bounce_s, seed=len(fleet.dropped))
            fleet.dropped.append(name)
        if chance.random() < DURING_WORK:
            wait_until(fleet.is_ready, 30.0)
        time.sleep(chance.uniform(0.0, longest_s))
        workers = fleet.workers()
        if workers and chance.random() < 0.4:
            os.kill(chance.choice(workers), signal.SIGKILL)
            struck["worker"] += 1
        else:
            fleet.kill()
            struck["daemon"] += 1
            fleet.start()
    return struck


def check(fleet: Fleet) -> None:
    done = wait_until(lambda: fleet.returned() == fleet.dropped, PATIENCE_S)
    assert done, (set(fleet.dropped) ^ set(fleet.returned()), fleet._told.read_text()[-3000:])
    time.sleep(3 * SETTLE_S)  # for whatever would come twice
    fleet.stop()
    assert fleet.returned() == fleet.dropped
    for name in fleet.returned():
        assert manifest.verify(fleet.outbox / name) == ()
        states = {stage.state for stage in manifest.read_manifest(fleet.outbox / name).stages}
        assert states <= {"done", "cached", "skipped"}
    assert fleet.seen_partial == []
    starts = fleet.starts()
    again = [work for work, lines in fleet.verified.items() if work in starts[lines:]]
    assert again == []
    _nothing_is_left(fleet)


def _nothing_is_left(fleet: Fleet) -> None:
    """What a killed process leaves may lie for a while, since it could be another's; then it is swept."""
    ledger = Ledger(folders().ledger)
    assert ledger.unfinished() == ()
    ledger.close()
    building = fleet.outbox / ".dawbridge" / "building"
    places = [folders().store / "work", folders().spool, building, folders().state / "locks"]
    long_ago_s = time.time() - 10 * 24 * 3600
    for place in places:
        for path in place.rglob("*"):
            os.utime(path, (long_ago_s, long_ago_s))
    fleet.start()
    swept = wait_until(lambda: not [p for place in places for p in place.glob("*")], 20.0)
    fleet.stop()
    assert swept, [p for place in places for p in place.glob("*")]


@pytest.fixture
def home(dawbridge_home: Path) -> Path:
    folders().presets.mkdir(parents=True)
    (folders().presets / "tiny.toml").write_text(tiny_daemon.PRESET, encoding="utf-8")
    settings = f"settle_s = {SETTLE_S}\nrescan_s = 1.0\n[http]\nenabled = false\n"
    folders().config_file.write_text(settings, encoding="utf-8")
    (dawbridge_home / "inbox").mkdir()
    return dawbridge_home


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.faults)])
@pytest.mark.timeout(3600)
def test_whoever_is_killed_each_bounce_comes_back_once_and_whole(
    home: Path, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(home, "tests.tiny_daemon", "tiny")
    with fleet.watched():
        struck = kill_at_random(fleet, kills, Random(kills), longest_s=4.0, bounce_s=3.0)
        check(fleet)
    with capsys.disabled():
        print(f"\nkilled: {dict(struck)}; bounces {len(fleet.dropped)}, stages begun {len(fleet.starts())}")


@pytest.mark.faults
@pytest.mark.real
@pytest.mark.timeout(3600)
def test_the_real_stages_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet(home, "bridge", "offline")
    with fleet.watched():
        struck = kill_at_random(fleet, 10, Random(10), longest_s=25.0, bounce_s=3.0)
        check(fleet)
    with capsys.disabled():
        print(f"\nkilled: {dict(struck)}; bounces {len(fleet.dropped)}")
