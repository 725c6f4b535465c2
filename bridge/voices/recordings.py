"""A voice's recordings, in `<voice>/recordings/`: what is kept of each is a folder of its own, whole or not there.

The user's files are only read. The same recording twice, under whatever name, counts once. Nothing is taken up
without the owner's consent.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge import audio
from bridge.audio import Samples
from bridge.contracts import read_contract
from bridge.errors import InputError, Refused, VoiceError
from bridge.store import fsync_folder
from bridge.voices.consent import require_consent
from bridge.voices.slices import cut_slices
from bridge.voices.speech import find_stretches
from bridge.voices.survey import Source, examine

FOLDER, RECORD = "recordings", "source.json"
RATE_HZ = 44_100
MAX_RECORD_BYTES = 1 << 22
REMEDY = "Remove that folder and add the recording again."
NAME_DIGITS = 16

Report = Callable[[float, float, str], None]
"""`report(done, total, what)`."""


@dataclass(frozen=True)
class Slice:
    """What training learns from."""

    name: str  # begins with the digest of the recording it is from
    samples: npt.NDArray[np.float32]  # (frames,) at RATE_HZ


@dataclass(frozen=True)
class Added:
    """What came of some files."""

    sources: tuple[Source, ...]  # taken up
    skipped: Mapping[Path, str]  # the others, and why


def add_recordings(
    name: str,
    paths: Sequence[Path],
    voices_dir: Path,
    today: datetime.date,
    report: Report = lambda done, total, what: None,
) -> Added:
    """Take up what is spoken or sung in the files, and in all audio files in and below the folders.

    Raises:
        Refused: (`no_consent`) there is no consent that holds.
        InputError: a named file is missing, a folder holds no audio, or nothing of a voice is in any of them.
    """
    permit = require_consent(name, voices_dir, today)
    if permit.folder is None:
        raise Refused(f"{name} is a built-in character; it takes no recordings. Choose another name.")
    home = permit.folder / FOLDER
    home.mkdir(exist_ok=True)
    files = _files(paths)
    sources: list[Source] = []
    skipped: dict[Path, str] = {}
    for index, path in enumerate(files):
        report(index, len(files), path.name)
        try:
            taken = _take_up(path, home)
        except InputError as exc:
            skipped[path] = exc.message
            continue
        if isinstance(taken, str):
            skipped[path] = taken
        else:
            sources.append(taken)
    if not sources and not _sources_in(home):
        why = " ".join(f"{path.name}: {reason}" for path, reason in list(skipped.items())[:3])
        raise InputError(f"Nothing of a voice could be taken up. {why}", "no_voice")
    return Added(tuple(sources), skipped)


def read_sources(folder: Path) -> list[Source]:
    """What is known of each recording of the voice in `folder`.

    Raises:
        VoiceError: a record is damaged.
    """
    return [
        read_contract(Source, path, schema=1, max_bytes=MAX_RECORD_BYTES, error=VoiceError, remedy=REMEDY)
        for path in _sources_in(folder / FOLDER)
    ]


def read_slices(folder: Path) -> list[Slice]:
    """All slices of all recordings.

    Raises:
        VoiceError: one is missing or damaged.
    """
    found = []
    for record in _sources_in(folder / FOLDER):
        for path in sorted(record.parent.glob("*.flac")):
            try:
                samples, _ = audio.read(path)
            except InputError as exc:
                raise VoiceError(f"{exc.message} {REMEDY}") from exc
            found.append(Slice(f"{record.parent.name}/{path.stem}", samples[0]))
    return found


def _sources_in(home: Path) -> list[Path]:
    return sorted(path for path in home.glob(f"*/{RECORD}") if not path.parent.name.startswith("."))


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                each
                for each in path.rglob("*")
                if each.suffix.lower() in audio.SUFFIXES and each.is_file() and not each.name.startswith(".")
            )
            if not inside:
                kinds = " ".join(suffix.lstrip(".") for suffix in audio.SUFFIXES)
                raise InputError(
                    f"{path} holds no audio files. Name a folder with some of: {kinds}.", "empty"
                )
            found += inside
        else:
            audio.probe(path)  # a named file that can't be read is an error, not a note
            found.append(path)
    return list(dict.fromkeys(found))


def _take_up(path: Path, home: Path) -> Source | str:
    """The recording's source, or why it isn't taken up."""
    samples, rate = audio.read(path)
    digest = hashlib.sha256(np.ascontiguousarray(samples).tobytes() + str(rate).encode()).hexdigest()
    target = home / digest[:NAME_DIGITS]
    if (target / RECORD).exists():
        return "it is there already"
    mono = audio.resample(audio.to_mono(samples), rate, RATE_HZ)
    stretches = find_stretches(mono, RATE_HZ)
    slices = cut_slices(mono, RATE_HZ, stretches)
    if not slices:
        heard = (
            max(stretches, key=lambda stretch: stretch.end_s - stretch.start_s).kind
            if stretches
            else "silence"
        )
        return f"there is no speech or singing of a second or more in it, mostly {heard}"
    source = examine(path.name, digest, samples, rate, mono, RATE_HZ, stretches, slices)
    _write_whole(target, source, slices)
    return source


def _write_whole(target: Path, source: Source, slices: Sequence[Samples]) -> None:
    """All of it beside, then renamed."""
    import soundfile

    temporary = target.with_name(f".{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        for index, samples in enumerate(slices):
            with (temporary / f"{index:04d}.flac").open("wb") as file:
                soundfile.write(file, _to_16_bit(samples[0]), RATE_HZ, format="FLAC", subtype="PCM_16")
                file.flush()
                os.fsync(file.fileno())
        (temporary / RECORD).write_text(json.dumps(asdict(source)) + "\n", "utf-8")
        fsync_folder(temporary)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    fsync_folder(target.parent)


def _to_16_bit(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return cast("npt.NDArray[np.int16]", np.clip(np.round(samples * 32767.0), -32768, 32767).astype(np.int16))
