"""Opens the ledger; one that is damaged is set aside, and a new one learns from the outbox what came back.

So the same bounce dropped again is known again, as the id of a job names its audio, its settings and the versions.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from pathlib import Path

from bridge import manifest
from bridge.config import Folders
from bridge.errors import LedgerError, ManifestError
from bridge.holder import another_daemon_runs, jobs_run
from bridge.ledger import Ledger
from bridge.ledger_rows import JobRow
from bridge.types import Bounce, Job, Preset, StageEvent

log = logging.getLogger(__name__)


def open_ledger(folders: Folders, outbox: Path | None) -> tuple[Ledger, str]:
    """The ledger, and one line on what was mended ("" where nothing was).

    Raises:
        LedgerError: it is busy, of a newer dawbridge, or damaged while another process uses it.
    """
    try:
        ledger, told = _checked(folders.ledger), ""
    except LedgerError as exc:
        if exc.code != "damaged" or jobs_run(folders) or another_daemon_runs(folders):
            raise
        kept = _set_aside(folders.ledger)
        ledger, told = Ledger(folders.ledger), f"{exc.message.split('. ')[0]}. It is kept as {kept.name}."
    if ledger.is_new and outbox is not None:
        count = learn(ledger, outbox, folders.spool)
        told += f" {count} songs in {outbox} are known again." if told or count else ""
    if told:
        log.warning("%s", told.strip())
    return ledger, told.strip()


def learn(ledger: Ledger, outbox: Path, spool: Path) -> int:
    """Enter a job for each song in the outbox that has a manifest; how many. A damaged manifest is passed over."""
    count = 0
    for folder in _folders(outbox):
        try:
            told = manifest.read_manifest(folder)
            _enter(ledger, told, folder, spool)
        except (ManifestError, UnicodeError) as exc:  # the ledger takes text alone
            log.info("nothing is learned from %s: %s", folder, exc)
            continue
        count += 1
    return count


def known_again(job: Job, changed_ns: int, ledger: Ledger) -> tuple[JobRow, ...]:
    """What stands whole in the outbox of the bounce that was just found, where a new ledger has learned it from there.

    Its id may have been another one: the tempo may have been the DAW's, preset or role asked for, a stage older. A
    file that was changed since the song was made is no old one, and a draft alone still waits for its best.
    """
    whole = [row for row in ledger.learned(job.bounce.name, job.bounce.sha256) if _stands(row, changed_ns)]
    same = [row for row in whole if row.preset == job.preset.name] or whole
    return tuple(same) if any(not row.draft for row in same) else ()


def _stands(row: JobRow, changed_ns: int) -> bool:
    folder = Path(str(row.folder))
    try:
        made_ns = datetime.fromisoformat(row.created_at).timestamp() * 1e9
        return made_ns >= changed_ns and manifest.is_whole(folder, manifest.read_manifest(folder))
    except (ManifestError, ValueError):
        return False


def _enter(ledger: Ledger, told: manifest.Manifest, folder: Path, spool: Path) -> None:
    source = told.bounce
    bounce = Bounce(
        path=spool / f"{source.sha256}{Path(source.name).suffix.lower()}",
        name=source.name,
        sha256=source.sha256,
        role=source.role,
        sample_rate_hz=source.sample_rate_hz,
        channels=source.channels,
        frames=source.frames,
        start_frames=source.start_frames,
    )
    job = Job(
        told.id,
        bounce,
        Preset(told.preset, {}),
        folder.parent,
        "queued",
        told.created_at,
        fallbacks=told.fallbacks,
        draft=told.draft,
        replaces=told.replaces,
    )
    ledger.add_job(job, Path(), settings=told.settings)
    for stage in told.stages:
        ledger.record(
            StageEvent(
                told.id, stage.stage, stage.state, 1.0, 1.0, (), stage.code, stage.detail, stage.seconds
            )
        )
    bad = any(stage.state in ("failed", "refused") for stage in told.stages)
    ledger.set_state(told.id, "failed" if bad else "done", folder=folder)


def _checked(path: Path) -> Ledger:
    ledger = Ledger(path)
    try:
        ledger.check()
    except LedgerError:
        ledger.close()
        raise
    return ledger


def _set_aside(path: Path) -> Path:
    """Rename the database with all that belongs to it; its new name."""
    day = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S")
    kept = path.with_name(f"{path.name}.corrupt-{day}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(kept.with_name(kept.name + suffix))
    return kept


def _folders(outbox: Path) -> list[Path]:
    try:
        return sorted(path for path in outbox.iterdir() if not path.name.startswith("."))
    except OSError:  # its disk is away
        return []
