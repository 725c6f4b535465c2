"""Watched export folders -> files that have settled.

File system events (or polling), the scan at the start and a periodic rescan all lead to the same
test: `settle.Settler`. Watchdog's threads only enqueue; one thread of our own looks at the files and
calls back. It sleeps until an event or the next rescan, and ticks only while something settles.
"""

from __future__ import annotations

import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import FileSystemEvent

from bridge.audio import SUFFIXES, probe
from bridge.errors import ConfigError, IncompleteError, InputError
from bridge.events import FolderEvents
from bridge.names import name_trouble, printable
from bridge.settle import Settler, Stamp, Verdict
from bridge.types import ROLES
from bridge.wavchunks import made_by_us

log = logging.getLogger(__name__)

INCOMPLETE_S = 60.0
TICKS_PER_SETTLE = 4
JOIN_S = 10.0
LIST_S = 5.0  # a share may take longer: then its files are found later

# What DAWs (.asd, .reapeaks, .reapindex, .RPP-bak), browsers (.part, .crdownload), sync clients (.tmp)
# and sidecars (.json) write has no audio suffix; what hides behind one begins like these.
IGNORED_PREFIXES = (".", "~$", "~syncthing~")


@dataclass(frozen=True)
class WatchFolder:
    """One export folder: its preset and role hold for files in it, unless a subfolder's name says otherwise."""

    inbox: Path
    preset: str = "default"
    role: str = ""
    polling: bool = False  # for file systems that deliver no events


@dataclass(frozen=True)
class Found:
    """A file that has settled. Size and time of change are what `seen` is asked with next time."""

    path: Path
    inbox: Path
    role: str  # of the subfolder or the watched folder; "" where neither says
    preset: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Refusal:
    """A file that is not taken. It gets a new chance when it changes.

    `code`: `incomplete` (cut off for too long), `name` (not valid text) or `unexpected` (a fault of ours).
    """

    path: Path  # may hold what is no text: `names.printable` shows it
    preset: str
    code: str
    reason: str


@dataclass(frozen=True)
class _Place:
    """A folder that is listed: an inbox, or a subfolder named after a role or a preset."""

    watch: WatchFolder
    role: str
    preset: str


class Watcher:
    """Watches folders from `start` to `stop`. Callbacks come from its own thread.

    Whatever goes wrong with one file, in a callback too, is logged and costs that file only.
    """

    def __init__(
        self,
        folders: Sequence[WatchFolder],
        *,
        settle_s: float,
        rescan_s: float,
        seen: Callable[[Path, int, int], bool],
        on_found: Callable[[Found], object],
        on_refused: Callable[[Refusal], object],
        outbox: Path,
        preset_names: Collection[str],
        incomplete_s: float = INCOMPLETE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seen(path, size, mtime_ns)` says whether a file was dealt with in an earlier run.

        Raises:
            ConfigError: an inbox is the outbox, lies inside it, or is watched twice.
        """
        self._folders = tuple(_absolute(folder) for folder in folders)
        self._outbox = outbox.expanduser().resolve()
        check_folders(self._folders, self._outbox)
        self._tick_s = settle_s / TICKS_PER_SETTLE
        self._rescan_s = rescan_s
        self._seen = seen
        self._on_found = on_found
        self._on_refused = on_refused
        self._presets = {name.casefold(): name for name in preset_names}
        self._clock = clock
        self._settler = Settler(settle_s=settle_s, incomplete_s=incomplete_s, incomplete=_incomplete)
        self._places: dict[Path, _Place] = {}
        self._missing: set[Path] = set()
        self._faulty: set[Path] = set()  # refused as `unexpected`, so that it is said once
        self._next_scan_s = clock()
        self._inputs: queue.SimpleQueue[FileSystemEvent | Path] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._events = FolderEvents(self._put, poll_s=settle_s)
        self._stopping = threading.Event()
        self._listed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dawbridge-watch", daemon=True)

    def start(self) -> None:
        """Make missing inboxes and start to watch. What lies there already is found too."""
        for folder in self._folders:
            try:
                folder.inbox.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                log.warning("watched folder %s can't be made: %s", folder.inbox, exc.strerror)
        self._thread.start()
        self._listed.wait(LIST_S)  # from now on `found` knows the folders

    def stop(self) -> None:
        """Stop; no callback comes after it."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(JOIN_S)

    def found(self, path: Path) -> Found | None:
        """What a file would be found as now, settled or not; None where it lies in no watched folder.

        Callable from any thread.
        """
        place, stamp = self._places.get(path.parent), _stamp(path)
        if place is None or stamp is None or not is_bounce_name(path.name) or self._in_outbox(path):
            return None
        return _found(path, place, stamp)

    def forget(self, path: Path) -> None:
        """Look at a file as if for the first time (`seen` is asked again). Callable from any thread."""
        self._put(path)

    def _put(self, item: FileSystemEvent | Path) -> None:
        self._inputs.put(item)
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._take_turn()
                except Exception:  # the watch must outlive whatever a disk or a share comes up with
                    log.exception("watched folders can't be looked at; the next scan tries again")
                self._listed.set()
                self._sleep()
        finally:
            self._events.close()

    def _take_turn(self) -> None:
        touched, folder_changed = self._take_inputs()
        now_s = self._clock()
        if folder_changed or now_s >= self._next_scan_s:
            self._next_scan_s = now_s + self._rescan_s
            touched |= self._scan()
        for path in sorted(touched | set(self._settler.pending)):
            try:
                self._look(path, now_s)
            except Exception as exc:  # from the container check or a callback: the other files go on
                log.exception("%s can't be looked at", printable(path))
                self._give_up(path, exc)

    def _sleep(self) -> None:
        if self._settler.pending:
            self._stopping.wait(self._tick_s)  # events wait for the tick: a growing file sends thousands
        else:
            self._wake.wait(max(0.0, self._next_scan_s - self._clock()))
        self._wake.clear()

    def _take_inputs(self) -> tuple[set[Path], bool]:
        """The files that events name, and whether a folder came, went or was renamed."""
        touched: set[Path] = set()
        folder_changed = False
        while True:
            try:
                item = self._inputs.get_nowait()
            except queue.Empty:
                return touched, folder_changed
            if isinstance(item, Path):
                self._settler.forget(item)
                self._faulty.discard(item)
                touched.add(item)
                continue
            paths = {Path(os.fsdecode(raw)) for raw in (item.src_path, item.dest_path) if raw}
            if item.is_directory:
                folder_changed = True
                for path in paths:
                    self._events.drop(path)
            else:
                touched |= paths

    def _scan(self) -> set[Path]:
        """List all folders again: the files there, and those that are known but gone."""
        self._places = self._find_places()
        self._events.follow({folder: place.watch.polling for folder, place in self._places.items()})
        present: set[Path] = set()
        for folder in self._places:
            present |= set(_entries(folder))
        known = {path for path in self._settler.known if path.parent in self._places}
        return present | known

    def _find_places(self) -> dict[Path, _Place]:
        places: dict[Path, _Place] = {}
        inboxes = {folder.inbox for folder in self._folders}
        for folder in self._folders:
            is_there = _is_folder(folder.inbox)
            self._note_missing(folder.inbox, is_there)
            if not is_there:
                continue
            places[folder.inbox] = _Place(folder, folder.role, folder.preset)
            for child in _entries(folder.inbox):
                place = self._place_named(child.name, folder)
                if place and child not in inboxes and self._is_listed(child):
                    places[child] = place
        return places

    def _place_named(self, name: str, folder: WatchFolder) -> _Place | None:
        word = name.casefold()
        if word in ROLES:
            return _Place(folder, word, folder.preset)
        if word in self._presets:
            return _Place(folder, folder.role, self._presets[word])
        return None

    def _is_listed(self, child: Path) -> bool:
        is_hidden = child.name.startswith(".")  # `.dawbridge` holds scripts' commands
        return _is_folder(child) and not is_hidden and not child.is_symlink() and not self._in_outbox(child)

    def _in_outbox(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._outbox)

    def _note_missing(self, inbox: Path, is_there: bool) -> None:
        if not is_there and inbox not in self._missing:
            self._missing.add(inbox)
            log.warning("watched folder %s is not there; it is taken up again when it is back", inbox)
        elif is_there and inbox in self._missing:
            self._missing.remove(inbox)
            log.info("watched folder %s is back", inbox)

    def _look(self, path: Path, now_s: float) -> None:
        place = self._places.get(path.parent)
        found = _stamp(path) if place and is_bounce_name(path.name) else None
        if found and not self._settler.knows(path, found) and self._was_seen(path, found):
            self._settler.finish(path, found)
        if found is None:
            self._faulty.discard(path)
        verdict = self._settler.observe(path, found, now_s)
        if place and verdict:
            self._tell(verdict, place)
            self._faulty.discard(path)

    def _give_up(self, path: Path, exc: Exception) -> None:
        """Refuse a file that can't even be looked at: once, though it may go on to change."""
        stamp, place = _stamp(path), self._places.get(path.parent)
        if stamp:
            self._settler.finish(path, stamp)
        if path in self._faulty or place is None:
            return
        self._faulty.add(path)
        reason = printable(
            f"{path} can't be looked at ({type(exc).__name__}: {exc}); the log has the details. "
            "Rename it, or export it again."
        )
        try:
            self._on_refused(Refusal(path, place.preset, "unexpected", reason))
        except Exception:
            log.exception("the refusal could not be passed on: %s", reason)

    def _was_seen(self, path: Path, found: Stamp) -> bool:
        return name_trouble(path) is None and self._seen(path, found.size, found.mtime_ns)

    def _tell(self, verdict: Verdict, place: _Place) -> None:
        path, stamp = verdict.path, verdict.stamp
        if trouble := name_trouble(path):
            self._on_refused(Refusal(path, place.preset, "name", trouble))
        elif verdict.reason:
            self._on_refused(Refusal(path, place.preset, IncompleteError.default_code, verdict.reason))
        elif self._in_outbox(path) or _is_our_own(path):
            log.info("%s is ignored: dawbridge made it", path)
        else:
            self._on_found(_found(path, place, stamp))


def check_folders(folders: Sequence[WatchFolder], outbox: Path) -> None:
    """Check, before any of them is made, that the folders don't get in each other's way.

    Raises:
        ConfigError: an inbox is the outbox, lies inside it, or is watched twice.
    """
    outbox = outbox.expanduser().resolve()
    inboxes: set[Path] = set()
    for folder in folders:
        inbox = folder.inbox.expanduser().resolve()
        if inbox == outbox:
            raise ConfigError(f"{inbox} is inbox and outbox at once. Choose another outbox.")
        if inbox.is_relative_to(outbox):
            raise ConfigError(f"inbox {inbox} lies inside the outbox {outbox}. Choose another outbox.")
        if inbox in inboxes:
            raise ConfigError(f"inbox {inbox} is watched twice. Remove one of its [[watch]] blocks.")
        inboxes.add(inbox)


def is_bounce_name(name: str) -> bool:
    """Whether a file of this name may be a bounce: an audio file, and nobody's temporary or hidden one."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(IGNORED_PREFIXES)


def _absolute(folder: WatchFolder) -> WatchFolder:
    inbox = folder.inbox.expanduser().absolute()
    return WatchFolder(inbox, folder.preset, folder.role, folder.polling)


def _incomplete(path: Path) -> str | None:
    """Why a quiet file is not whole yet. Files that are bad in another way are `intake`'s to refuse."""
    try:
        probe(path)
    except InputError as exc:
        # Windows: a file that the DAW still holds may not be read.
        is_being_written = isinstance(exc, IncompleteError) or exc.code == "permission"
        return exc.message if is_being_written else None
    return None


def _found(path: Path, place: _Place, stamp: Stamp) -> Found:
    return Found(path, place.watch.inbox, place.role, place.preset, stamp.size, stamp.mtime_ns)


def _is_our_own(path: Path) -> bool:
    try:
        return made_by_us(path)
    except OSError:
        return False  # gone in this moment: `intake` will say so


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp.of(found) if stat.S_ISREG(found.st_mode) else None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a folder above it may not be entered, or its share hangs
        return False
