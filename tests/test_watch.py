"""Files settle whichever way they are written, are found once, and nothing half-written is ever taken."""

from __future__ import annotations

import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from bridge import watch
from bridge.errors import ConfigError
from bridge.ledger import Ledger
from bridge.settle import Settler, Stamp, Verdict
from bridge.watch import Found, Refusal, Watcher, WatchFolder, check_folders, is_bounce_name
from bridge.wavchunks import Bext, tag_wav

SETTLE_S = 2.0
INCOMPLETE_S = 60.0
TICK_S = 0.5
SONG = Path("Song.wav")


@dataclass
class Disk:
    """What one file looks like to `stat` and to the container check, as its writer leaves it."""

    stamp: Stamp | None = None
    whole: bool = False
    looks: int = 0

    def write(self, size: int, now_s: float, *, whole: bool = False, inode: int = 1) -> None:
        self.stamp = Stamp(size, int(now_s * 1e9), inode)
        self.whole = whole

    def incomplete(self, path: Path) -> str | None:
        self.looks += 1
        return None if self.whole else "cut off"


Step = tuple[float, Callable[[Disk, float], None]]


def play(
    steps: list[Step], *, until_s: float, settle_s: float = SETTLE_S
) -> list[tuple[float, Verdict, bool]]:
    """Let the writer act at its times and observe every tick; (when, verdict, whether the file was whole)."""
    disk = Disk()
    settler = Settler(settle_s=settle_s, incomplete_s=INCOMPLETE_S, incomplete=disk.incomplete)
    waiting = sorted(steps, key=lambda step: step[0])
    verdicts: list[tuple[float, Verdict, bool]] = []
    now_s = 0.0
    while now_s <= until_s:
        while waiting and waiting[0][0] <= now_s:
            at_s, act = waiting.pop(0)
            act(disk, at_s)
        verdict = settler.observe(SONG, disk.stamp, now_s)
        if verdict:
            verdicts.append((now_s, verdict, disk.whole))
        now_s += TICK_S
    return verdicts


def growing(gaps: list[float], *, start_s: float = 0.0, inode: int = 1) -> tuple[list[Step], float]:
    """Writes with these gaps; the header is mended at the end."""
    now_s, size, steps = start_s, 0, list[Step]()
    for gap in gaps:
        now_s += gap
        size += 1000
        steps.append((now_s, lambda disk, at_s, size=size: disk.write(size, at_s, inode=inode)))  # type: ignore[misc]
    now_s += 0.1
    steps.append((now_s, lambda disk, at_s: disk.write(size, at_s, whole=True, inode=inode)))
    return steps, now_s


gap_lists = st.lists(st.floats(0.01, 30.0), min_size=1, max_size=12)


@given(gap_lists)
def test_a_growing_file_with_stalls_settles_once_and_only_when_whole(gaps: list[float]) -> None:
    steps, end_s = growing(gaps)
    verdicts = play(steps, until_s=end_s + 3 * SETTLE_S)
    assert [(v.reason, whole) for _, v, whole in verdicts] == [("", True)]
    settled_s = verdicts[0][0]
    assert end_s + SETTLE_S - TICK_S <= settled_s <= end_s + SETTLE_S + 2 * TICK_S


@given(st.lists(st.floats(0.01, 0.9 * SETTLE_S), min_size=1, max_size=20))
def test_a_preallocated_file_is_held_while_it_is_filled(gaps: list[float]) -> None:
    """Full size and a whole header from the start: only the time of change tells."""
    now_s, steps = 0.0, list[Step]()
    for gap in gaps:
        now_s += gap
        steps.append((now_s, lambda disk, at_s: disk.write(5000, at_s, whole=True)))
    verdicts = play(steps, until_s=now_s + 3 * SETTLE_S)
    assert len(verdicts) == 1
    assert verdicts[0][0] >= now_s + SETTLE_S - TICK_S


def test_a_temporary_name_renamed_settles_after_the_rename() -> None:
    steps: list[Step] = [(7.0, lambda disk, at_s: disk.write(9000, 3.0, whole=True))]  # mtime from before
    ((settled_s, verdict, whole),) = play(steps, until_s=20.0)
    assert whole and verdict.reason == ""
    assert 7.0 + SETTLE_S <= settled_s <= 7.0 + SETTLE_S + 2 * TICK_S


@given(gap_lists, gap_lists, st.booleans())
def test_an_overwrite_under_the_same_name_is_found_again(
    first: list[float], second: list[float], in_place: bool
) -> None:
    steps, end_s = growing(first)
    again, end_again_s = growing(second, start_s=end_s + 10.0, inode=1 if in_place else 2)
    verdicts = play(steps + again, until_s=end_again_s + 3 * SETTLE_S)
    assert [(v.reason, whole) for _, v, whole in verdicts] == [("", True), ("", True)]


@given(st.lists(st.tuples(st.floats(0.0, 200.0), gap_lists), min_size=1, max_size=5))
def test_stems_arriving_one_by_one_settle_each_for_itself(stems: list[tuple[float, list[float]]]) -> None:
    for start_s, gaps in stems:
        steps, end_s = growing(gaps, start_s=start_s)
        assert len(play(steps, until_s=end_s + 3 * SETTLE_S)) == 1


def test_a_wav_that_becomes_rf64_on_the_way_settles_at_its_end() -> None:
    steps, end_s = growing([1.0] * 20)
    steps.append((10.0, lambda disk, at_s: disk.write(10_001, at_s)))  # the header is rewritten
    ((settled_s, _, whole),) = play(steps, until_s=end_s + 3 * SETTLE_S)
    assert whole and settled_s >= end_s


def test_a_copy_without_events_settles_by_observation_alone() -> None:
    disk = Disk()
    disk.write(100, 0.0, whole=True)
    settler = Settler(settle_s=SETTLE_S, incomplete_s=INCOMPLETE_S, incomplete=disk.incomplete)
    verdicts = [settler.observe(SONG, disk.stamp, now_s) for now_s in (0.0, 30.0, 60.0, 90.0)]
    assert [bool(verdict) for verdict in verdicts] == [False, False, True, False]


def test_a_stale_header_is_held_then_refused_once_and_gets_a_new_chance() -> None:
    steps: list[Step] = [
        (1.0, lambda disk, at_s: disk.write(100, at_s)),
        (200.0, lambda disk, at_s: disk.write(200, at_s, whole=True)),
    ]
    held, found = play(steps, until_s=300.0)
    assert held[1].reason == "cut off"
    assert 1.0 + INCOMPLETE_S <= held[0] <= 1.0 + INCOMPLETE_S + SETTLE_S + 2 * TICK_S
    assert found[1].reason == "" and found[2]


def test_a_quiet_but_incomplete_file_is_read_once_in_each_settle_time() -> None:
    disk = Disk()
    disk.write(100, 0.0)
    settler = Settler(settle_s=SETTLE_S, incomplete_s=INCOMPLETE_S, incomplete=disk.incomplete)
    for tick in range(100):
        settler.observe(SONG, disk.stamp, tick * TICK_S)
    assert disk.looks <= 100 * TICK_S / SETTLE_S


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=200))
def test_a_jumping_clock_neither_settles_early_nor_raises(clock: list[float]) -> None:
    disk = Disk()
    disk.write(100, 0.0, whole=True)
    settler = Settler(settle_s=SETTLE_S, incomplete_s=INCOMPLETE_S, incomplete=disk.incomplete)
    verdicts = [settler.observe(SONG, disk.stamp, now_s) for now_s in clock]
    assert verdicts[:2] == [None, None]
    settler_again = [settler.observe(SONG, disk.stamp, tick * TICK_S + clock[-1]) for tick in range(10)]
    assert sum(bool(verdict) for verdict in verdicts + settler_again) == 1


def test_a_file_that_goes_away_is_forgotten() -> None:
    disk = Disk()
    disk.write(100, 0.0, whole=True)
    settler = Settler(settle_s=SETTLE_S, incomplete_s=INCOMPLETE_S, incomplete=disk.incomplete)
    settler.observe(SONG, disk.stamp, 0.0)
    settler.observe(SONG, None, 0.5)
    assert settler.known == ()


@pytest.mark.parametrize(
    "name",
    [
        "Song.wav.asd", "Song.wav.reapeaks", "Song.reapindex", "Song.RPP-bak", "._Song.wav", ".DS_Store",
        "Song.wav.part", "Song.wav.tmp", "Song.wav.crdownload", "~$Song.wav", ".Song.wav", ".wav",
        ".syncthing.Song.wav.tmp", "~syncthing~Song.wav", "Song.wav.dawbridge.json", "Song.mid", "notes.txt",
    ],
)  # fmt: skip
def test_what_is_no_bounce_is_ignored(name: str) -> None:
    assert not is_bounce_name(name)


@pytest.mark.parametrize(
    "name", ["Song.wav", "SONG.WAV", "Song.v2.flac", "a..b.aif", "🎵 Lied.wav", "~song.wav"]
)
def test_what_may_be_a_bounce_is_not_ignored(name: str) -> None:
    assert is_bounce_name(name)


# From here on: real folders and real events, with a short settle time.

FAST_SETTLE_S = 0.12
WAIT_S = 5.0


@dataclass
class Heard:
    """What a watcher told; appended from its thread."""

    found: list[Found] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def wait(self, found: int = 0, refused: int = 0) -> None:
        deadline = time.monotonic() + WAIT_S
        while (len(self.found) < found or len(self.refused) < refused) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.found) == found and len(self.refused) == refused

    @property
    def names(self) -> list[str]:
        return sorted(found.path.name for found in self.found)


@contextmanager
def watching(
    *folders: WatchFolder,
    outbox: Path,
    seen: Callable[[Path, int, int], bool] = lambda *_: False,
    rescan_s: float = 60.0,
    incomplete_s: float = 60.0,
    on_found: Callable[[Found], object] = lambda _: None,
    on_refused: Callable[[Refusal], object] = lambda _: None,
) -> Iterator[tuple[Heard, Watcher]]:
    heard = Heard()

    def hear_found(found: Found) -> None:
        heard.found.append(found)
        on_found(found)

    def hear_refused(refusal: Refusal) -> None:
        heard.refused.append(refusal)
        on_refused(refusal)

    watcher = Watcher(
        folders,
        settle_s=FAST_SETTLE_S,
        rescan_s=rescan_s,
        seen=seen,
        on_found=hear_found,
        on_refused=hear_refused,
        outbox=outbox,
        preset_names=("default", "stems-only"),
        incomplete_s=incomplete_s,
    )
    watcher.start()
    try:
        yield heard, watcher
    finally:
        watcher.stop()


def write_wav(path: Path, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, 24000)
    soundfile.write(path, noise, 48000, format="WAV")
    return path


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_old_new_renamed_and_overwritten_files_are_each_found_once(tmp_path: Path, inbox: Path) -> None:
    write_wav(inbox / "old.wav")
    with watching(WatchFolder(inbox), outbox=tmp_path / "out") as (heard, _):
        heard.wait(found=1)
        write_wav(inbox / "new.wav")
        write_wav(inbox / "export.tmp").rename(inbox / "renamed.wav")
        heard.wait(found=3)
        write_wav(inbox / "new.wav", seed=1)
        heard.wait(found=4)
    assert heard.names == ["new.wav", "new.wav", "old.wav", "renamed.wav"]
    assert heard.refused == []


def test_a_slow_writer_is_waited_for_and_a_cut_off_file_is_refused_once(tmp_path: Path, inbox: Path) -> None:
    whole = write_wav(tmp_path / "whole.wav").read_bytes()
    (inbox / "cut.wav").write_bytes(whole[:20000])
    rng = random.Random(1)
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", incomplete_s=0.8) as (heard, _):
        with (inbox / "slow.wav").open("wb") as file:
            for at in range(0, len(whole), 8000):
                assert heard.names == []
                time.sleep(rng.uniform(0.0, 0.2))
                file.write(whole[at : at + 8000])
                file.flush()
        heard.wait(found=1, refused=1)
        assert heard.refused[0].path == inbox / "cut.wav"
        assert "announces" in heard.refused[0].reason and heard.refused[0].code == "incomplete"
        (inbox / "cut.wav").write_bytes(whole)
        heard.wait(found=2, refused=1)


def test_subfolders_named_after_a_role_or_a_preset_count_and_others_do_not(
    tmp_path: Path, inbox: Path
) -> None:
    for name in ("Vocals", "other projects", "stems-only/deeper"):
        (inbox / name).mkdir(parents=True)
    write_wav(inbox / "Vocals" / "a.wav")
    write_wav(inbox / "other projects" / "no.wav")
    write_wav(inbox / "stems-only" / "deeper" / "no.wav")
    with watching(WatchFolder(inbox, "default", "mix"), outbox=tmp_path / "out") as (heard, _):
        write_wav(inbox / "stems-only" / "b.wav")
        heard.wait(found=2)
        (inbox / "drums").mkdir()
        write_wav(inbox / "drums" / "c.wav")
        heard.wait(found=3)
    told = {found.path.name: (found.role, found.preset, found.inbox) for found in heard.found}
    assert told == {
        "a.wav": ("vocals", "default", inbox),
        "b.wav": ("mix", "stems-only", inbox),
        "c.wav": ("drums", "default", inbox),
    }


def test_the_folder_of_commands_is_not_watched_whatever_lies_in_it(tmp_path: Path, inbox: Path) -> None:
    (inbox / ".dawbridge").mkdir()
    write_wav(inbox / ".dawbridge" / "no.wav")
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", rescan_s=0.2) as (heard, watcher):
        write_wav(inbox / "yes.wav")
        heard.wait(found=1)
        for number in range(20):
            (inbox / ".dawbridge" / f"{number}.json").write_text("{}")
        time.sleep(3 * FAST_SETTLE_S)
        assert watcher.found(inbox / "yes.wav") == heard.found[0]
        assert watcher.found(inbox / ".dawbridge" / "no.wav") is None
    assert heard.names == ["yes.wav"]


def test_our_own_files_are_never_taken(tmp_path: Path, inbox: Path) -> None:
    outbox = inbox / "drums"  # an outbox inside the inbox, under a name that would otherwise be listed
    outbox.mkdir()
    write_wav(outbox / "returned.wav")
    (inbox / "link.wav").symlink_to(outbox / "returned.wav")
    stem = write_wav(tmp_path / "stem.wav")
    tag_wav(stem, Bext(originator="dawbridge"), "dawbridge 0.1.0")
    shutil.copy(stem, inbox / "stem.wav")
    with watching(WatchFolder(inbox), outbox=outbox) as (heard, _):
        write_wav(inbox / "song.wav")
        heard.wait(found=1)
        time.sleep(2 * FAST_SETTLE_S)
    assert heard.names == ["song.wav"] and heard.refused == []


@pytest.mark.parametrize("inbox_name", ["out", "out/in"])
def test_an_inbox_in_the_outbox_is_refused(tmp_path: Path, inbox_name: str) -> None:
    with (
        pytest.raises(ConfigError, match="outbox"),
        watching(WatchFolder(tmp_path / inbox_name), outbox=tmp_path / "out"),
    ):
        pass


def test_a_folder_watched_twice_is_refused(tmp_path: Path, inbox: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(inbox)
    with (
        pytest.raises(ConfigError, match="twice"),
        watching(WatchFolder(inbox), WatchFolder(link), outbox=tmp_path / "out"),
    ):
        pass


def test_folders_can_be_checked_before_any_is_made(tmp_path: Path) -> None:
    outbox = tmp_path / "out"
    check_folders([WatchFolder(tmp_path / "in")], outbox)
    with pytest.raises(ConfigError, match="lies inside the outbox"):
        check_folders([WatchFolder(tmp_path / "in"), WatchFolder(outbox / "in")], outbox)
    assert list(tmp_path.iterdir()) == []


def fail(*_: object) -> bool:
    raise ValueError("a fault")


def test_a_name_that_is_no_text_is_refused_once_and_the_others_go_on(
    tmp_path: Path, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        bad = write_wav(inbox / "export.tmp").rename(inbox / os.fsdecode(b"bad\xff.wav"))
    except (OSError, UnicodeError):
        pytest.skip("this file system takes text only")

    def seen(path: Path, *_: int) -> bool:
        str(path).encode()  # as SQLite does
        return False

    with watching(WatchFolder(inbox), outbox=tmp_path / "out", seen=seen, rescan_s=0.1) as (heard, _):
        heard.wait(refused=1)
        write_wav(inbox / "good.wav")
        heard.wait(found=1, refused=1)
        time.sleep(0.3)
        heard.wait(found=1, refused=1)
    (refusal,) = heard.refused
    assert (refusal.path, refusal.code) == (bad, "name")
    assert refusal.reason.isascii() and "bad" in refusal.reason and "Rename it" in refusal.reason
    assert caplog.records == []


def test_a_fault_at_one_file_refuses_it_once_and_the_others_go_on(
    tmp_path: Path, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It grows on, and each look at it fails."""

    def seen(path: Path, *_: int) -> bool:
        return path.name == "bad.wav" and fail()

    write_wav(inbox / "bad.wav")
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", seen=seen, rescan_s=0.1) as (heard, _):
        heard.wait(refused=1)
        for _growth in range(3):
            with (inbox / "bad.wav").open("ab") as file:
                file.write(b"\0")
            time.sleep(0.12)
        write_wav(inbox / "good.wav")
        heard.wait(found=1, refused=1)
    (refusal,) = heard.refused
    assert (refusal.path, refusal.code) == (inbox / "bad.wav", "unexpected")
    assert "ValueError: a fault" in refusal.reason and "Rename it" in refusal.reason
    assert "bad.wav" in caplog.text and "Traceback" in caplog.text


def test_a_callback_that_raises_ends_nothing(
    tmp_path: Path, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_wav(inbox / "a.wav")
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", on_found=fail, on_refused=fail) as (heard, _):
        heard.wait(found=1, refused=1)
        write_wav(inbox / "b.wav")
        heard.wait(found=2, refused=2)
    assert [refusal.code for refusal in heard.refused] == ["unexpected", "unexpected"]
    assert "a.wav" in caplog.text and "b.wav" in caplog.text


def test_a_refused_fault_gets_a_new_chance_when_the_file_changes(tmp_path: Path, inbox: Path) -> None:
    faults = iter([True])

    def fail_once(_: Found) -> None:
        if next(faults, False):
            fail()

    write_wav(inbox / "a.wav")
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", on_found=fail_once) as (heard, _):
        heard.wait(found=1, refused=1)
        write_wav(inbox / "a.wav", seed=1)
        heard.wait(found=2, refused=1)


def test_a_scan_that_fails_is_tried_again(
    tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([True])
    list_entries = watch._entries

    def fail_once(folder: Path) -> list[Path]:
        return [inbox / str(fail())] if next(faults, False) else list_entries(folder)

    monkeypatch.setattr(watch, "_entries", fail_once)
    write_wav(inbox / "a.wav")
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", rescan_s=0.1) as (heard, _):
        heard.wait(found=1)
    assert caplog.text.count("the next scan tries again") == 1


def test_a_restart_does_not_take_again_what_the_ledger_knows(tmp_path: Path, inbox: Path) -> None:
    known = write_wav(inbox / "known.wav").stat()
    ledger = {(inbox / "known.wav", known.st_size, known.st_mtime_ns)}
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", seen=lambda *row: row in ledger) as (
        heard,
        watcher,
    ):
        write_wav(inbox / "new.wav")
        heard.wait(found=1)
        ledger.clear()
        watcher.forget(inbox / "known.wav")
        heard.wait(found=2)
    assert heard.names == ["known.wav", "new.wav"]


@pytest.mark.parametrize("more", [1, 1 << 63])
def test_a_restart_knows_the_files_of_a_disk_that_numbers_them_anew(
    tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    """FAT, exFAT and some shares do so at each mount, and some tell more than SQLite's 63 bits."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", seen=ledger.is_seen) as (heard, _):
        write_wav(inbox / "known.wav")
        heard.wait(found=1)
        ledger.mark_seen(inbox / "known.wav", heard.found[0].size, heard.found[0].mtime_ns, "x")
    of = Stamp.of
    monkeypatch.setattr(Stamp, "of", lambda found: replace(of(found), inode=found.st_ino + more))
    with watching(WatchFolder(inbox), outbox=tmp_path / "out", seen=ledger.is_seen) as (heard, _):
        write_wav(inbox / "new.wav")
        heard.wait(found=1)
    assert heard.names == ["new.wav"]
    ledger.close()


def test_what_was_dealt_with_is_known_under_another_number_but_one_renamed_over_while_pending_begins_anew() -> (
    None
):
    settler = Settler(settle_s=1.0, incomplete_s=60.0, incomplete=lambda _: None)
    verdicts = [
        settler.observe(SONG, Stamp(5, 7, inode), now_s / 2) for now_s, inode in enumerate([1, 1, 2, 2, 2])
    ]
    assert [verdict is not None for verdict in verdicts] == [False, False, False, False, True]
    assert settler.knows(SONG, Stamp(5, 7, 3))
    assert [settler.observe(SONG, Stamp(5, 7, 3), now_s) for now_s in (3.0, 3.5, 4.0, 4.5)] == [None] * 4
    assert not settler.knows(SONG, Stamp(5, 8, 3))


@pytest.mark.parametrize("polling", [False, True])
def test_a_folder_that_vanishes_is_taken_up_again(
    tmp_path: Path, inbox: Path, polling: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with watching(WatchFolder(inbox, polling=polling), outbox=tmp_path / "out", rescan_s=0.1) as (heard, _):
        write_wav(inbox / "a.wav")
        heard.wait(found=1)
        inbox.rename(tmp_path / "unplugged")
        deadline = time.monotonic() + WAIT_S
        while "is not there" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
        inbox.mkdir()
        write_wav(inbox / "b.wav")
        heard.wait(found=2)
    assert caplog.text.count("is not there") == 1
    assert heard.names == ["a.wav", "b.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="only inotify has a limit")
def test_without_events_left_folders_are_polled(
    tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more_watches(*_: object, **__: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(
        "watchdog.observers.inotify.InotifyEmitter.on_thread_start", no_more_watches, raising=False
    )
    with watching(WatchFolder(inbox), outbox=tmp_path / "out") as (heard, _):
        time.sleep(0.1)
        write_wav(inbox / "a.wav")
        heard.wait(found=1)


def test_it_sleeps_when_nothing_happens(tmp_path: Path, inbox: Path) -> None:
    with watching(WatchFolder(inbox), outbox=tmp_path / "out") as (heard, _):
        write_wav(inbox / "a.wav")
        heard.wait(found=1)
        time.sleep(2 * FAST_SETTLE_S)
        before_s = time.process_time()
        time.sleep(0.4)
        assert time.process_time() - before_s < 0.02  # 5% of one core, with all of watchdog's threads


def test_it_leaves_no_thread_behind(tmp_path: Path, inbox: Path) -> None:
    before = set(threading.enumerate())
    with watching(WatchFolder(inbox), outbox=tmp_path / "out"):
        time.sleep(0.05)
    assert set(threading.enumerate()) - before == set()
