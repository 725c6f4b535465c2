"""Artifacts on disk, named by content: written beside, renamed whole, verified when read again.

A stage works in a private folder of the store and its results are moved, not copied. Several
processes may use one store at a time: equal content has one name, and a rename is atomic.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.types import Artifact, ArtifactKind

CHUNK_BYTES = 1 << 20
LEFTOVER_S = 24 * 3600.0
NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""What file systems say that can't flush a folder: some of the network, and some where it may be written but not read."""

log = logging.getLogger(__name__)


class Store:
    """The folder of artifacts."""

    def __init__(self, folder: Path) -> None:
        self._objects = folder / "objects"
        self._work = folder / "work"
        self._objects.mkdir(parents=True, exist_ok=True)
        self._work.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def workdir(self, label: str) -> Iterator[Path]:
        """An empty private folder that is gone afterwards, whatever happened."""
        folder = Path(tempfile.mkdtemp(prefix=f"{label}-", dir=self._work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, name: str, kind: ArtifactKind, made: Path) -> Artifact:
        """Move a finished file or folder into the store."""
        digest = content_sha256(made)
        target = self.path_of(digest, made.suffix if made.is_file() else "")
        target.parent.mkdir(exist_ok=True)
        if not _is_there(target, digest):
            made.replace(target)
        return Artifact(name, kind, target, digest)

    def find(self, name: str, kind: ArtifactKind, sha256: str, suffix: str) -> Artifact | None:
        """The artifact, if it is there and its content still has this digest; else None."""
        path = self.path_of(sha256, suffix)
        return Artifact(name, kind, path, sha256) if _is_there(path, sha256) else None

    def path_of(self, sha256: str, suffix: str) -> Path:
        """Where content of this digest lies or would lie."""
        return self._objects / sha256[:2] / f"{sha256}{suffix}"

    def trim(self, max_bytes: int) -> int:
        """Remove what was longest unused until the store holds at most `max_bytes`; bytes removed.

        What can't be removed stays and does not count. Another process may trim at the same time: what has vanished meanwhile counts as removed.
        """
        entries = self._entries()
        excess = sum(size for _, size, _ in entries) - max_bytes
        removed = 0
        for _, size, path in sorted(entries):
            if removed >= excess:
                break
            removed += size if _is_discarded(path) else 0
        return removed

    def size_bytes(self) -> int:
        """Bytes of all artifacts."""
        return sum(size for _, size, _ in self._entries())

    def sweep(self, older_than_s: float = LEFTOVER_S) -> None:
        """Remove working folders that a killed process left behind."""
        sweep_old(self._work, older_than_s)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """When it was last used, its bytes, and the artifact."""
        entries: list[tuple[float, int, Path]] = []
        for path in self._objects.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                entries.append((path.lstat().st_mtime, size_bytes(path), path))
        return entries


def _is_there(path: Path, sha256: str) -> bool:
    """Whether an artifact is whole, and then used just now; one that is damaged is removed.

    Another process may trim at any time: what vanishes meanwhile was never there.
    """
    try:
        os.utime(path)  # trim() removes what was longest unused
        if content_sha256(path) == sha256:
            return True
        discard(path)
    except FileNotFoundError:
        pass
    return False


def sweep_old(folder: Path, older_than_s: float = LEFTOVER_S) -> None:
    """Remove what nobody has touched in `folder` for so long that no running job can own it; what can't be, stays."""
    try:
        leftovers = [path for path in folder.glob("*") if _age_s(path) > older_than_s]
    except OSError as exc:
        log.warning("%s can't be swept: %s", folder, exc)
        return
    for path in leftovers:
        _is_discarded(path)


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's names and contents (hex)."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for child in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{child.relative_to(path).as_posix()}\0{file_sha256(child)}\n".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file (hex)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def discard(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def fsync_tree(folder: Path) -> None:
    """Flush a folder and its files to the disk, so that a rename publishes whole files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    fsync_folder(folder)


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries, where the system can: Windows has no such call and needs none."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as exc:
        if exc.errno not in NO_FSYNC:
            raise


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:  # another process has removed it
        return float("-inf")


def _is_discarded(path: Path) -> bool:
    """Remove a file or a folder, if that can be done; whether it is gone."""
    try:
        discard(path)
    except FileNotFoundError:  # another process was faster
        pass
    except OSError as exc:
        log.warning("%s can't be removed: %s", path, exc)
        return False
    return True
