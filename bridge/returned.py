"""What came back: the folders of the outbox that hold a manifest, and the files that the manifests name.

Folders that are half-written, damaged, foreign or of a newer dawbridge are passed over. A file is given
only where, links followed, it lies inside the outbox. Callable from any thread.
"""

from __future__ import annotations

import logging
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge import manifest
from bridge.errors import ControlError, ManifestError
from bridge.names import printable

RESCAN_S = 30.0
UNSURE_S = 3.0  # a folder's time of change may be so coarse (FAT counts 2 s): a younger one tells nothing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Returned:
    """One folder of the outbox."""

    id: str  # of the job that made it
    folder: str  # its name in the outbox
    name: str  # the bounce's own file name
    created_at: str  # ISO 8601, UTC
    revision: int
    artifacts: tuple[manifest.ManifestArtifact, ...]
    draft: bool = False
    replaces: str = ""  # the id of the draft that it replaces


_Stamp = tuple[int, int, int]


class Shelf:
    """An outbox. It is listed again only when it has changed, and every half minute."""

    def __init__(self, outbox: Path, now_s: Callable[[], float] = time.time) -> None:
        self._outbox = outbox
        self._now_s = now_s  # the clock that files are stamped with
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[_Stamp, Returned | None]] = {}
        self._newest: tuple[Returned, ...] = ()
        self._listed_s, self._listed_mtime_s = float("-inf"), 0.0

    @property
    def outbox(self) -> Path:
        """The folder."""
        return self._outbox

    def newest(self, limit: int = 50) -> tuple[Returned, ...]:
        """What came back, the newest first."""
        with self._lock:
            self._list_again()
            return self._newest[:limit]

    def file(self, song_id: str, artifact: str) -> Path:
        """The file of an artifact, by the song's id and the artifact's name in the manifest.

        Raises:
            ControlError: no such song (`unknown_song`), no such artifact (`unknown_artifact`), or its file
                is gone or lies elsewhere (`gone`).
        """
        song = next((song for song in self.newest(10**9) if song.id == song_id), None)
        if song is None:
            raise ControlError(
                f"Nothing of id {song_id[:80]!r} stands in {self._outbox}. GET /returned lists what does.",
                "unknown_song",
            )
        paths = {known.name: known.path for known in song.artifacts}
        if artifact not in paths:
            raise ControlError(
                f"{song.folder} holds no artifact {artifact[:80]!r}. It holds: {', '.join(paths)}.",
                "unknown_artifact",
            )
        return self._inside(song, paths[artifact])

    def _inside(self, song: Returned, relative: str) -> Path:
        path = (self._outbox / song.folder / relative).resolve()
        if not path.is_relative_to(self._outbox.resolve()) or not path.is_file():
            raise ControlError(
                f"{relative} of {song.folder} is gone, or a link that leads out of the outbox. "
                "Have the song made again.",
                "gone",
            )
        return path

    def _list_again(self) -> None:
        now_s = self._now_s()
        try:
            mtime_s = self._outbox.stat().st_mtime
        except OSError:  # not made yet, or its disk is away
            self._newest, self._listed_s = (), float("-inf")
            return
        is_old = abs(now_s - self._listed_s) > RESCAN_S
        if not is_old and mtime_s == self._listed_mtime_s and self._listed_s - mtime_s > UNSURE_S:
            return
        self._listed_s, self._listed_mtime_s = now_s, mtime_s
        found = {}
        for folder in _folders(self._outbox):
            stamp = _manifest_stamp(folder)
            if stamp is not None:
                known = self._known.get(folder)
                found[folder] = known if known and known[0] == stamp else (stamp, _read(folder))
        self._known = found
        returned = [song for _, song in found.values() if song is not None]
        self._newest = tuple(sorted(returned, key=lambda song: (song.created_at, song.folder), reverse=True))


def _folders(outbox: Path) -> list[Path]:
    try:
        return [path for path in outbox.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _manifest_stamp(folder: Path) -> _Stamp | None:
    """None where there is no manifest. Only a regular file is one: a pipe would never end."""
    try:
        found = (folder / manifest.NAME).lstat()
    except (OSError, ValueError):
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _read(folder: Path) -> Returned | None:
    if printable(folder) != str(folder):
        return None
    try:
        told = manifest.read_manifest(folder)
    except ManifestError as exc:
        log.info("%s is not listed: %s", folder, exc.message)
        return None
    return Returned(
        told.id,
        folder.name,
        told.bounce.name,
        told.created_at,
        told.revision,
        told.artifacts,
        told.draft,
        told.replaces,
    )
