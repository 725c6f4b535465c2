"""Whichever way a file is written: never taken before it is whole, never twice, and soon after."""

from __future__ import annotations

import hashlib
import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from bridge.events import FolderEvents
from bridge.watch import Found, Refusal, Watcher, WatchFolder
from tests.write_patterns import PATTERNS, HeldUp, song

SETTLE_S = 0.8
AT_ONCE = 60
WAIT_S = 20.0

TRIALS = pytest.mark.parametrize("trials", [3, pytest.param(100, marks=pytest.mark.faults)])


@dataclass
class Taken:
    """What the watcher took up, read the moment it told."""

    moments: dict[str, list[tuple[float, str]]] = field(default_factory=dict)  # name -> (when, digest)
    refused: list[Refusal] = field(default_factory=list)

    def found(self, found: Found) -> None:
        digest = hashlib.sha256(found.path.read_bytes()).hexdigest()
        self.moments.setdefault(found.path.name, []).append((time.monotonic(), digest))


@contextmanager
def watching(inbox: Path, outbox: Path, *, polling: bool = False, clock: object = None) -> Iterator[Taken]:
    taken = Taken()
    watcher = Watcher(
        [WatchFolder(inbox, polling=polling)],
        settle_s=SETTLE_S,
        rescan_s=SETTLE_S / 2,
        seen=lambda *_: False,
        on_found=taken.found,
        on_refused=taken.refused.append,
        outbox=outbox,
        preset_names=(),
        **({"clock": clock} if clock else {}),  # type: ignore[arg-type]
    )
    watcher.start()
    try:
        yield taken
    finally:
        watcher.stop()


def write_all(inbox: Path, trials: int) -> dict[str, tuple[float, str]]:
    """Every pattern so many times, many at once; name -> when it was whole, and its digest."""

    def write(job: tuple[int, str]) -> tuple[str, tuple[float, str]] | None:
        number, pattern = job
        path = inbox / f"{pattern} {number}.wav"
        try:
            whole_s = PATTERNS[pattern](path, Random(number), SETTLE_S)
        except HeldUp:
            path.unlink(missing_ok=True)
            return None
        return path.name, (whole_s, hashlib.sha256(path.read_bytes()).hexdigest())

    jobs = list(enumerate(pattern for _ in range(trials) for pattern in PATTERNS))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(done for done in pool.map(write, jobs) if done is not None)


def wait_for(taken: Taken, written: dict[str, tuple[float, str]]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        if all(taken.moments.get(name, [(0, "")])[-1][1] == digest for name, (_, digest) in written.items()):
            break
        time.sleep(0.05)
    time.sleep(2 * SETTLE_S)  # for whatever would come twice


def check(taken: Taken, written: dict[str, tuple[float, str]], trials: int) -> list[float]:
    """Each written file is taken up exactly once as it is in the end; the waits, in settle times."""
    assert len(written) >= 0.9 * trials * len(PATTERNS)  # the machine let them write as they meant to
    assert taken.refused == []
    waits = []
    for name, (whole_s, digest) in written.items():
        took = taken.moments.get(name, [])
        assert [found for _, found in took].count(digest) == 1, (name, took)
        assert len(took) == 1 or name.startswith("e overwritten"), (name, took)
        assert len(took) <= 2
        waits.append((took[-1][0] - whole_s) / SETTLE_S)
    # The writer notes the moment after its last byte: nothing may come before quiet has lasted for a settle time.
    assert min(waits) > 0.7
    return sorted(waits)


@TRIALS
@pytest.mark.parametrize("way", ["events", "polling", "neither"])
@pytest.mark.timeout(600)
def test_every_way_of_writing_gives_one_job_and_never_an_early_one(
    tmp_path: Path,
    trials: int,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`neither`: (g), a share that tells nothing, where the rescan alone finds what came."""
    if way == "neither":
        monkeypatch.setattr(FolderEvents, "follow", lambda *_: None)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with watching(inbox, tmp_path / "outbox", polling=way == "polling") as taken:
        written = write_all(inbox, trials)
        wait_for(taken, written)
    waits = check(taken, written, trials)
    if trials > 10:
        with capsys.disabled():
            print(
                f"\n{way}: {len(waits)} files, taken {statistics.median(waits):.2f} settle times after their end"
                f" (p99 {waits[int(0.99 * len(waits))]:.2f}, worst {waits[-1]:.2f})"
            )


@pytest.mark.timeout(300)
def test_a_thousand_files_at_once_give_a_thousand_jobs(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    ready = tmp_path / "ready"
    ready.mkdir()
    names = [f"{number:04}.wav" for number in range(1000)]
    for number, name in enumerate(names):
        (ready / name).write_bytes(song(Random(number)))
    with watching(inbox, tmp_path / "outbox") as taken:
        for name in names:
            (ready / name).rename(inbox / name)
        deadline_s = time.monotonic() + 60
        while len(taken.moments) < 1000 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        time.sleep(2 * SETTLE_S)
    assert sorted(taken.moments) == names
    assert all(len(took) == 1 for took in taken.moments.values())


def test_a_clock_that_jumps_as_after_sleep_takes_nothing_early(tmp_path: Path) -> None:
    """A laptop that sleeps in the middle of a render wakes an hour later, and the render goes on."""
    jump = itertools.accumulate(itertools.cycle((0.0, 0.0, 3600.0, 0.0, -1800.0)))
    lock = threading.Lock()

    def jumping() -> float:
        with lock:
            return time.monotonic() + next(jump)

    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with watching(inbox, tmp_path / "outbox", clock=jumping) as taken:
        written = write_all(inbox, 1)
        wait_for(taken, written)
    for name, (_, digest) in written.items():
        assert [found for _, found in taken.moments[name]].count(digest) == 1
        assert len(taken.moments[name]) == 1 or name.startswith("e overwritten")
