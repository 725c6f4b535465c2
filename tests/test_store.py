"""The store: named by content, verified, bounded."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from bridge import store as store_module
from bridge.cleaning import sweep_leftovers
from bridge.config import folders
from bridge.ledger import Ledger
from bridge.stages.export import building_folder
from bridge.store import Store, content_sha256, discard, fsync_folder, fsync_tree


def put(store: Store, text: str, name: str = "thing") -> Path:
    with store.workdir("test") as work:
        made = work / "made.txt"
        made.write_text(text)
        return store.keep(name, "json", made).path


def test_equal_content_is_kept_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert put(store, "a") == put(store, "a")
    assert put(store, "a") != put(store, "b")


def test_a_folder_is_kept_whole_and_its_digest_covers_names_and_content(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.workdir("test") as work:
        stems = work / "stems"
        stems.mkdir()
        (stems / "vocals.wav").write_bytes(b"1")
        (stems / "drums.wav").write_bytes(b"2")
        kept = store.keep("stems", "stems", stems)
    assert sorted(p.name for p in kept.path.iterdir()) == ["drums.wav", "vocals.wav"]
    before = content_sha256(kept.path)
    (kept.path / "vocals.wav").rename(kept.path / "bass.wav")
    assert content_sha256(kept.path) != before


def test_damaged_content_is_not_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = put(store, "a")
    digest = path.stem
    assert store.find("thing", "json", digest, ".txt") is not None
    path.write_text("damaged")
    assert store.find("thing", "json", digest, ".txt") is None
    assert put(store, "a").read_text() == "a"


def test_the_working_folder_goes_away_even_after_a_failure(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="stage"), store.workdir("test") as work:
        (work / "half.wav").write_bytes(b"x")
        raise RuntimeError("stage failed")
    assert list((tmp_path / "work").iterdir()) == []


def test_trim_removes_what_was_longest_unused_and_no_more_than_needed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    paths = [put(store, letter * 1000) for letter in "abc"]
    for age_s, path in zip((300, 200, 100), paths, strict=True):
        os.utime(path, (1_000_000 - age_s, 1_000_000 - age_s))
    store.find("thing", "json", paths[0].stem, ".txt")  # used just now
    assert store.trim(2000) == 1000
    assert [path.exists() for path in paths] == [True, False, True]


def test_what_was_made_again_just_now_is_not_what_trim_removes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    again = put(store, "a" * 1000)
    other = put(store, "b" * 1000)
    os.utime(again, (1, 1))
    os.utime(other, (1000, 1000))
    assert put(store, "a" * 1000) == again
    store.trim(1500)
    assert (again.exists(), other.exists()) == (True, False)


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_another_process_trims_while_it_is_verified_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_folder: bool
) -> None:
    store = Store(tmp_path)
    with store.workdir("test") as work:
        made = work / ("stems" if is_folder else "a.wav")
        if is_folder:
            made.mkdir()
        (made / "vocals.wav" if is_folder else made).write_bytes(b"x")
        kept = store.keep("stems", "stems", made)

    def trimmed(path: Path) -> str:
        discard(path)
        return content_sha256(path)

    monkeypatch.setattr(store_module, "content_sha256", trimmed)
    assert store.find("stems", "stems", kept.sha256, kept.path.suffix) is None


def test_trim_survives_what_has_vanished_or_leads_nowhere(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "a" * 1000)
    (tmp_path / "objects" / "zz").mkdir()
    (tmp_path / "objects" / "zz" / "dangling").symlink_to(tmp_path / "gone")
    store.trim(0)
    assert [path for path in (tmp_path / "objects").glob("*/*") if path.exists()] == []


def test_a_sweep_removes_only_what_no_running_job_can_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, young = tmp_path / "work" / "old", tmp_path / "work" / "young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "half.wav").write_bytes(b"x")
    os.utime(old, (1_000_000, 1_000_000))
    store.sweep()
    assert (old.exists(), young.exists()) == (False, True)


def test_flushing_a_tree_leaves_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("x")
    fsync_tree(tmp_path)
    assert (tmp_path / "a" / "x.txt").read_text() == "x"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES])
def test_a_file_system_that_can_t_flush_folders_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    flush = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "x.txt").write_text("x")
    fsync_tree(tmp_path)
    assert (tmp_path / "x.txt").read_text() == "x"


def test_a_disk_that_fails_to_flush_a_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        fsync_folder(tmp_path)


def keep_from_removal(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    discard = store_module.discard

    def denied(path: Path) -> None:
        if path.name.startswith(name):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        discard(path)

    monkeypatch.setattr(store_module, "discard", denied)


def test_what_can_t_be_removed_stays_and_the_rest_is_trimmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    stays, *go = [put(store, letter * 1000) for letter in "abc"]
    os.utime(stays, (1, 1))
    keep_from_removal(monkeypatch, stays.name)
    assert store.trim(1000) == 2000
    assert stays.exists() and not any(path.exists() for path in go)


def test_leftovers_that_can_t_be_removed_stop_no_start(
    dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    building = building_folder(dawbridge_home / "outbox")
    for name in ("a-1", "b-2", "c-3"):
        (building / name).mkdir(parents=True)
        os.utime(building / name, (1, 1))
    keep_from_removal(monkeypatch, "b-2")
    sweep(dawbridge_home)
    assert [path.name for path in building.iterdir()] == ["b-2"]


@pytest.mark.parametrize("link", ["building", ".dawbridge"])
def test_a_sweep_never_goes_behind_a_link(dawbridge_home: Path, tmp_path: Path, link: str) -> None:
    mine = tmp_path / "mine"
    (mine / "building" / "album").mkdir(parents=True)
    (mine / "album").mkdir()
    for folder in (mine / "building" / "album", mine / "album"):
        os.utime(folder, (1, 1))
    building = building_folder(dawbridge_home / "outbox")
    place = building if link == "building" else building.parent
    place.parent.mkdir(parents=True)
    place.symlink_to(mine, target_is_directory=True)
    sweep(dawbridge_home)
    assert (mine / "album").exists() and (mine / "building" / "album").exists()


def sweep(home: Path) -> None:
    ledger = Ledger(folders().ledger)
    sweep_leftovers(folders(), Store(folders().store), ledger, home / "outbox")
    ledger.close()
