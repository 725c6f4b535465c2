"""The outbox on a disk of its own: full, read-only, gone and back. The daemon waits, says so, and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import manifest
from bridge.config import folders
from bridge.ledger import Ledger
from bridge.outbox_disk import is_away, known_mount, mount_point
from tests.small_disk import SmallDisk, small_disk
from tests.test_daemon import QUICK, RunningDaemon, export_from_daw, returned

pytestmark = pytest.mark.real


@pytest.fixture
def disk(dawbridge_home: Path) -> Iterator[SmallDisk]:
    folders().presets.mkdir(parents=True)
    (folders().presets / "quick.toml").write_text(QUICK, encoding="utf-8")
    folders().config_file.write_text("settle_s = 0.3\nrescan_s = 1.0\n", encoding="utf-8")
    with small_disk(dawbridge_home / "share", 24) as disk:
        yield disk


@pytest.fixture
def daemon(dawbridge_home: Path, disk: SmallDisk) -> Iterator[RunningDaemon]:
    (dawbridge_home / "outbox").symlink_to(disk.place / "out", target_is_directory=True)
    (disk.place / "out").mkdir()
    running = RunningDaemon(dawbridge_home)
    running.wait_for("ready")
    yield running
    running.end()


def ways_back(daemon: RunningDaemon, disk: SmallDisk) -> None:
    """The song comes back whole, on the disk where it belongs, in one folder."""
    done = daemon.wait_for("job", 90.0)
    assert (done["state"], done["detail"]) == ("done", "")
    assert returned(disk.place / "out") == ["Song"]
    assert manifest.verify(disk.place / "out" / "Song") == ()
    assert not list((disk.place / "out" / ".dawbridge" / "building").iterdir())
    ledger = Ledger(folders().ledger)
    (row,) = ledger.jobs()
    (separate,) = [e for e in ledger.stages(row.id) if e.stage == "separate"]
    ledger.close()
    assert (row.state, separate.state) == ("done", "cached")  # nothing was made twice


def test_a_full_outbox_is_waited_for(daemon: RunningDaemon, disk: SmallDisk) -> None:
    ballast = disk.place / "ballast"
    ballast.write_bytes(bytes(15 << 20))  # less than NEARLY_FULL_BYTES will be left
    export_from_daw(daemon.inbox, "Song.wav", seconds=20.0)
    told = daemon.wait_for("waiting")
    assert (told["name"], told["code"]) == ("Song.wav", "disk_full")
    assert returned(disk.place / "out") == []
    ballast.unlink()
    ways_back(daemon, disk)


def test_a_read_only_outbox_is_waited_for(daemon: RunningDaemon, disk: SmallDisk) -> None:
    disk.allow_writing(False)
    export_from_daw(daemon.inbox, "Song.wav")
    assert daemon.wait_for("waiting")["code"] == "read_only"
    disk.allow_writing(True)
    ways_back(daemon, disk)


def test_an_outbox_whose_disk_is_gone_is_waited_for_also_over_a_restart(
    daemon: RunningDaemon, disk: SmallDisk, dawbridge_home: Path
) -> None:
    disk.unmount()
    export_from_daw(daemon.inbox, "Song.wav")
    told = daemon.wait_for("waiting")
    assert told["code"] == "disk_away" and str(disk.place) in told["detail"]
    assert list(disk.place.iterdir()) == []  # nothing is put where the disk belongs
    daemon.end()
    second = RunningDaemon(dawbridge_home)
    assert second.wait_for("waiting")["code"] == "disk_away"
    assert list(disk.place.iterdir()) == []
    disk.mount()
    ways_back(second, disk)
    second.end()


def test_the_mount_point_is_found_and_remembered(tmp_path: Path) -> None:
    note = tmp_path / "state" / "outbox.json"
    with small_disk(tmp_path / "share") as disk:
        assert mount_point(disk.place / "not" / "yet") == disk.place
        assert known_mount(disk.place / "out", note) == disk.place
        assert not is_away(disk.place)
    assert is_away(disk.place) and known_mount(disk.place / "out", note) == disk.place
    assert not is_away(known_mount(tmp_path / "elsewhere", note))
    note.write_text("{")
    assert not is_away(known_mount(disk.place / "out", note))
