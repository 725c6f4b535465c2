"""One audio file -> a `Bounce`: checked, copied into the private spool, with all that is known of it.

The daemon and `dawbridge process` both come through here. The user's file is only ever read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from bridge.audio import AudioInfo, amplitude_to_db, probe
from bridge.errors import IncompleteError, InputError, SidecarError, StageError, UsageError
from bridge.names import bpm_in_name, name_trouble, role_in_name
from bridge.retrying import disk_code
from bridge.settle import Stamp
from bridge.sidecar import MAX_BPM, MIN_BPM, Sidecar, SidecarTempo, read_sidecar, sidecar_path
from bridge.store import fsync_folder
from bridge.tempo import constant_tempo, next_bar_line_frames, tempo_from_changes
from bridge.types import ROLES, Bounce, Role, TempoMap, TempoSource, Transport
from bridge.wavchunks import Acid, WavFacts, read_facts

COPY_BYTES = 1 << 20
CHECK_FRAMES = 1 << 16
DISK_RESERVE_BYTES = 64 << 20
SILENCE_DB = -90.0
"""Peak of one step of 16-bit dither: nothing above it means that nothing plays."""

DAY_S = 24 * 3600
LEFTOVER_S = 3600.0
FICLONE = 0x40049409
"""ioctl_ficlone(2) of Linux: the copy shares its blocks with the source until one of them is written."""


@dataclass(frozen=True)
class Intake:
    """A bounce and what came with it."""

    bounce: Bounce
    warnings: tuple[str, ...]
    sidecar: Sidecar | None  # None where there is none, or where it is nonsense (then a warning says so)


def take(
    path: Path,
    *,
    spool: Path,
    role: str = "",
    folder_role: str = "",
    inbox: Path | None = None,
    transport: Transport | None = None,
) -> Intake:
    """Check the file, copy it into `spool` under its content's name, and gather what is known of it.

    Role: `role`, else the sidecar's, else the name's, else `folder_role`, else mix. Tempo: the
    sidecar's, else the acid chunk's, else the name's, else, where there is no sidecar at all, that of
    `transport`: what the DAW reported a short while ago. Start: the sidecar's, else bext's, else 0.
    With `inbox`, a link that leads out of that folder is refused. Reads the whole file.

    Raises:
        IncompleteError: cut off, or changed while it was copied.
        InputError: can't be read, or holds nothing to work on (`name`, `not_finite`, `silent`, ...).
        StageError: a disk or share is full or away just now; `code` as in `retrying.WAITED_FOR`.
    """
    if trouble := name_trouble(path):
        raise InputError(trouble, "name")
    if inbox is not None:
        _check_inside(path, inbox)
    with _disk_errors(path, spool):
        before = _stamp(path)
        info = probe(path)
    warnings: list[str] = []
    sidecar = _sidecar_beside(path, warnings)
    copy, sha256 = _snapshot(path, spool, before, info)
    facts = read_facts(copy)
    start_frames = _start_frames(path, sidecar, facts, info, warnings)
    tempo_map, tempo_source = _tempo(path, sidecar, facts, info, transport)
    bounce = Bounce(
        path=copy,
        name=path.name,
        sha256=sha256,
        role=_role(path, role, sidecar, folder_role),
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        frames=info.frames,
        start_frames=start_frames,
        tempo_map=tempo_map,
        tempo_source=tempo_source,
        key=(sidecar.key or None) if sidecar else None,
        is_float=info.is_float,
    )
    return Intake(bounce, tuple(warnings), sidecar)


def sweep(spool: Path, keep: Collection[Path]) -> int:
    """Remove the copies that are not in `keep`, and what a killed `take` left; bytes freed.

    Each `take` writes its copy anew. So a file that was last written an hour ago is not one that
    another process has just taken and not yet entered as a job.
    """
    kept = {path.name for path in keep}
    young_from_s = time.time() - LEFTOVER_S
    freed_bytes = 0
    for path in spool.glob("*"):
        with suppress(OSError):  # another process has removed it, or (Windows) holds it open
            found = path.stat()
            if path.name not in kept and found.st_mtime < young_from_s:
                path.unlink()
                freed_bytes += found.st_size
    return freed_bytes


def free(copy: Path, taken_at: str, *, keep: Collection[Path]) -> None:
    """Remove the copy of a bounce that came back, unless another job needs it or it was taken anew since."""
    with suppress(OSError):
        if copy not in keep and copy.stat().st_mtime <= datetime.fromisoformat(taken_at).timestamp():
            copy.unlink()


def _check_inside(path: Path, inbox: Path) -> None:
    if not path.resolve().is_relative_to(inbox.resolve()):
        raise InputError(
            f"{path} is a link that leads out of the watched folder {inbox}. Put the file itself there.",
            "outside",
        )


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path.stat())
    except OSError as exc:
        if disk_code(exc):
            raise
        return None  # `probe` says what is wrong with it


def _sidecar_beside(path: Path, warnings: list[str]) -> Sidecar | None:
    beside = sidecar_path(path)
    with suppress(OSError):  # the name may be so long that none can stand beside it
        if beside.exists():
            return _read_or_warn(beside, warnings)
    return None


def _read_or_warn(beside: Path, warnings: list[str]) -> Sidecar | None:
    try:
        return read_sidecar(beside)
    except SidecarError as exc:
        warnings.append(exc.message)
        return None


def _role(path: Path, role: str, sidecar: Sidecar | None, folder_role: str) -> Role:
    said = role or (sidecar.role if sidecar else None) or role_in_name(path.name) or folder_role or "mix"
    if said not in ROLES:
        raise UsageError(f"role {said!r} is unknown. Use one of: {', '.join(ROLES)}.")
    return said


def _start_frames(
    path: Path, sidecar: Sidecar | None, facts: WavFacts, info: AudioInfo, warnings: list[str]
) -> int:
    if sidecar and sidecar.start_frames is not None:
        return sidecar.start_frames
    start_frames = facts.bext.start_frames if facts.bext else 0
    if start_frames >= DAY_S * info.sample_rate_hz:  # bext counts from midnight
        warnings.append(f"{path}: bext start {start_frames} lies beyond a day and is ignored; 0 is used.")
        return 0
    return start_frames


def _tempo(
    path: Path, sidecar: Sidecar | None, facts: WavFacts, info: AudioInfo, transport: Transport | None
) -> tuple[TempoMap | None, TempoSource]:
    rate = info.sample_rate_hz
    if sidecar and sidecar.tempo and (sidecar.tempo.bpm or sidecar.tempo.changes):
        return _sidecar_tempo(sidecar.tempo, sidecar.start_frames, rate), "sidecar"
    if facts.acid and facts.acid.bpm and MIN_BPM <= facts.acid.bpm <= MAX_BPM:
        return _acid_tempo(facts.acid, facts.acid.bpm, rate), "acid"
    bpm = bpm_in_name(path.name)
    if bpm and MIN_BPM <= bpm <= MAX_BPM:
        return constant_tempo(bpm, rate), "name"
    if transport is not None and sidecar is None:  # a sidecar that tells no tempo had its reasons
        metre = {"beats_per_bar": transport.beats_per_bar, "beat_unit": transport.beat_unit}
        return constant_tempo(transport.bpm, rate, **metre), "transport"
    return None, "estimated"


def _sidecar_tempo(tempo: SidecarTempo, start_frames: int | None, rate: int) -> TempoMap:
    """The DAW's own grid. Its bar lines are known where it tells them, or the tempo is constant from its zero on."""
    changes = [(change.frames, change.bpm) for change in tempo.changes]
    if tempo.bpm is not None:
        changes.insert(0, (0, tempo.bpm))
    found = tempo_from_changes(
        changes,
        rate,
        beats_per_bar=tempo.beats_per_bar,
        beat_unit=tempo.beat_unit,
        first_downbeat_frame=tempo.first_downbeat_frames or 0,
    )
    if tempo.first_downbeat_frames is not None or start_frames is None or len(found.points) > 1:
        return found
    return constant_tempo(
        found.points[0].bpm,
        rate,
        beats_per_bar=tempo.beats_per_bar,
        beat_unit=tempo.beat_unit,
        first_downbeat_frame=next_bar_line_frames(found, start_frames),
    )


def _acid_tempo(acid: Acid, bpm: float, rate: int) -> TempoMap:
    is_metre = 1 <= acid.beats_per_bar <= 64 and acid.beat_unit in (1, 2, 4, 8, 16, 32)
    beats_per_bar, beat_unit = (acid.beats_per_bar, acid.beat_unit) if is_metre else (4, 4)
    return constant_tempo(bpm, rate, beats_per_bar=beats_per_bar, beat_unit=beat_unit)


def _snapshot(path: Path, spool: Path, before: Stamp | None, info: AudioInfo) -> tuple[Path, str]:
    """A private copy named by its content, and its SHA-256. The same content is stored once."""
    incoming = spool / f".{uuid.uuid4().hex}.incoming"
    with _disk_errors(path, spool):
        spool.mkdir(parents=True, exist_ok=True)
        _check_room(path, spool)
        try:
            with path.open("rb") as source, incoming.open("wb+") as target:
                sha256 = _copy_hashed(source, target)
                target.flush()
                os.fsync(target.fileno())
            if _stamp(path) != before:
                raise IncompleteError(f"{path} changed while it was copied. Let the export end.", "changed")
            _check_samples(path, incoming, info)
            kept = incoming.replace(spool / f"{sha256}{path.suffix.lower()}")
        finally:
            incoming.unlink(missing_ok=True)
        fsync_folder(spool)
    return kept, sha256


@contextmanager
def _disk_errors(path: Path, spool: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        _raise_if_it_passes(path, spool, exc)
        raise InputError(f"{path} can't be copied to {spool} ({exc.strerror}). Check both disks.") from exc
    except InputError as exc:
        if isinstance(exc.__cause__, OSError):
            _raise_if_it_passes(path, spool, exc.__cause__)
        raise


def _raise_if_it_passes(path: Path, spool: Path, exc: OSError) -> None:
    code = disk_code(exc)
    if code == "disk_full":
        raise _disk_full(path, spool) from exc
    if code:
        raise StageError(
            f"{path} can't be copied to {spool} now ({exc.strerror}). Check both disks.", code
        ) from exc


def _check_room(path: Path, spool: Path) -> None:
    if shutil.disk_usage(spool).free < path.stat().st_size + DISK_RESERVE_BYTES:
        raise _disk_full(path, spool)


def _disk_full(path: Path, spool: Path) -> StageError:
    return StageError(
        f"{path} does not fit on the disk of {spool}. Free some room and try again.", "disk_full"
    )


def _copy_hashed(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    is_clone = _reflinked(source, target)
    while block := (target if is_clone else source).read(COPY_BYTES):
        digest.update(block)
        if not is_clone:
            target.write(block)
    return digest.hexdigest()


def _reflinked(source: BinaryIO, target: BinaryIO) -> bool:
    """Whether the file system could share the blocks (btrfs, XFS): a copy that takes no time and no room."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _check_samples(path: Path, copy: Path, info: AudioInfo) -> None:
    """Decode the copy in blocks: every frame is there, every sample a number, and something plays."""
    frames = bad = 0
    peak = 0.0
    try:
        for block in soundfile.blocks(copy, blocksize=CHECK_FRAMES, dtype="float32", always_2d=True):
            frames += len(block)
            bad += int(np.count_nonzero(~np.isfinite(block)))
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
    except soundfile.LibsndfileError as exc:
        raise InputError(f"{path} is damaged ({exc.error_string.strip()}). Export it again.") from exc
    if frames != info.frames:
        raise IncompleteError(f"{path} ends after {frames} of {info.frames} frames. Export it again.")
    if bad:
        raise InputError(
            f"{path} holds {bad} samples that are not numbers (NaN or infinite). "
            "A plug-in in the project has failed: find it and export again.",
            "not_finite",
        )
    if amplitude_to_db(peak) <= SILENCE_DB:
        raise InputError(
            f"{path} is silent (peak {amplitude_to_db(peak):.0f} dBFS). "
            "Check that the exported tracks are not muted, and export again.",
            "silent",
        )
