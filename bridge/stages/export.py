"""What comes back: `<outbox>/<song>/`, built beside, flushed, and renamed whole; the manifest is its last file.

Stems are 24-bit WAV (float where the bounce is float or a stem passes 0 dBFS) at the bounce's own rate,
length and start time. The last stem is the bounce minus the others as they were written, so that they
null. Nothing in the outbox is ever overwritten: a taken name gives a revision beside it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mido
import numpy as np
import numpy.typing as npt
import soundfile

from bridge import __version__, audio, manifest
from bridge.errors import ManifestError, OutboxError
from bridge.grid import read_grid
from bridge.names import song_folder_name
from bridge.outbox_disk import is_away
from bridge.progress import Steps
from bridge.retrying import disk_code
from bridge.settings import setting
from bridge.store import discard, file_sha256, fsync_folder, fsync_tree
from bridge.types import STEMS, Artifact, Bounce, Context, Fallback, Grid, Made, ModelRef, Skip
from bridge.wavchunks import ORIGINATOR, Bext, tag_wav

STAGE_VERSION = "3"
FULL_SCALE_24 = 1 << 23
BLOCK_FRAMES = 1 << 18
HOLDS_THE_VOICE = ("voice", "lead", "mix", "new_piece")
GENERATED = ("new_piece", "arrangement", "arrangement_audio", "continuation", "continuation_audio")
BAD = ("failed", "refused")  # states of a stage after which a retry may bring more
CONTINUES = ("continuation", "continuation_audio")  # stand after the song's last bar


@dataclass(frozen=True)
class ExportSettings:
    """What is delivered."""

    audio: bool = setting(True, help="deliver all that sounds; false for MIDI alone")


@dataclass(frozen=True)
class Delivery:
    """One job's way into its folder."""

    bounce: Bounce
    record: Mapping[str, Any]  # what `jobs` wrote down of the job
    folder: Path  # the hidden folder it is built in
    prefix: str  # what its files' names begin with
    steps: Steps  # the stems, then each other sound
    continuation_frames: int  # how long it sounds; 0 where there is none


def export(
    bounce: Bounce,
    record: Artifact,
    stems: Artifact | None,
    grid: Artifact | None,
    notes: Artifact | None,
    notes_quantised: Artifact | None,
    continuation: Artifact | None,
    continuation_audio: Artifact | None,
    arrangement: Artifact | None,
    arrangement_audio: Artifact | None,
    voice: Artifact | None,
    backing: Artifact | None,
    lead: Artifact | None,
    mix: Artifact | None,
    new_piece: Artifact | None,
    report: Artifact | None,
    *,
    settings: ExportSettings,
    context: Context,
) -> Made | Skip:
    """Publish all that was made. `facts` tell the folder and its revision.

    Raises:
        OutboxError: the outbox is missing, full or read-only; what was made stays in the store.
    """
    told = json.loads(record.path.read_text(encoding="utf-8"))
    outbox = Path(told["outbox"])
    song = song_folder_name(bounce.name)
    sounds = (voice, backing, lead, mix, new_piece, arrangement_audio, continuation_audio)
    scores = (notes, notes_quantised, arrangement, continuation)
    names = _names(settings, stems, *sounds, *scores, report)
    _check_disk(outbox, told.get("outbox_mount"))
    try:
        earlier = _published_before(outbox, song, told, names)
        if earlier is not None:
            return Made({}, str(earlier[0]), {"folder": str(earlier[0]), "revision": earlier[1]})
        outbox.mkdir(parents=True, exist_ok=True)
        building = building_folder(outbox) / f"{told['id']}-{uuid.uuid4().hex[:8]}"
        building.mkdir(parents=True)
        try:
            lasts = soundfile.info(continuation_audio.path).frames if continuation_audio else 0
            steps = Steps(context.report, 1 + len(sounds))
            delivery = Delivery(bounce, told, building, song, steps, lasts)
            returned: list[manifest.ManifestArtifact] = []
            if settings.audio:
                returned += _deliver_stems(delivery, stems) if stems else []
                for artifact in sounds:
                    steps.next()
                    returned += [_deliver_audio(delivery, artifact)] if artifact else []
            for artifact in scores:
                returned += [_deliver_midi(delivery, artifact)] if artifact else []
            found = read_grid(grid.path) if grid else None
            if not returned and (found is None or any(e["state"] == "failed" for e in told["stages"])):
                return Skip("nothing was made, so nothing comes back", "nothing_made")
            returned += [_deliver_report(delivery, report)] if report else []
            _deliver_log(delivery)
            folder, revision = _publish(delivery, outbox, song, returned, found)
        except (
            OSError,
            soundfile.LibsndfileError,
        ) as exc:  # judged while what filled the disk still lies there
            raise _outbox_error(outbox, exc) from exc
        finally:
            with contextlib.suppress(OSError):  # its disk may have gone; what is left is swept later
                discard(building)
    except OSError as exc:
        raise _outbox_error(outbox, exc) from exc
    return Made({}, str(folder), {"folder": str(folder), "revision": revision})


def _names(settings: ExportSettings, stems: Artifact | None, *others: Artifact | None) -> set[str]:
    """What will be delivered, by name."""
    sounds = settings.audio
    names = {a.name for a in others if a and (sounds or a.kind != "audio")}
    return names | {name for name in STEMS if sounds and stems and (stems.path / f"{name}.wav").exists()}


def _published_before(
    outbox: Path, song: str, record: Mapping[str, Any], names: set[str]
) -> tuple[Path, int] | None:
    """Folder and revision where this very job came back whole already: before a kill, or a failed retry.

    In another voice, by another consent, or where other stages failed or were refused, it is not the same.
    """
    voice = _manifest_voice(record)
    bad = {event["stage"] for event in record["stages"] if event["state"] in BAD}
    revision = 1
    while (folder := outbox / _folder_name(song, revision)).exists():
        with contextlib.suppress(ManifestError):
            told = manifest.read_manifest(folder)
            bad_then = {stage.stage for stage in told.stages if stage.state in BAD}
            is_same = (told.id, told.voice, bad_then) == (record["id"], voice, bad)
            if (
                is_same
                and manifest.is_whole(folder, told)
                and {artifact.name for artifact in told.artifacts} == names
            ):
                return folder, revision
        revision += 1
    return None


def _check_disk(outbox: Path, mount: str | None) -> None:
    if mount is not None and is_away(Path(mount)):
        raise OutboxError(
            f"The disk of {outbox}, mounted at {mount}, is away. The song comes back once it is there again.",
            "disk_away",
        )


def _outbox_error(outbox: Path, exc: BaseException) -> OutboxError:
    code = "read_only" if isinstance(exc, PermissionError) else disk_code(exc, outbox)
    if code == "disk_full":
        return OutboxError(f"The disk of {outbox} is full. Make room, then the song comes back.", code)
    why = getattr(exc, "strerror", None) or exc
    return OutboxError(
        f"{outbox} can't take the song ({why}). Mend it, then the song comes back.", code or None
    )


def _folder_name(song: str, revision: int) -> str:
    return song if revision == 1 else f"{song} ({revision})"


def building_folder(outbox: Path) -> Path:
    """Where folders are built before they are renamed to their place; on the outbox's own disk."""
    return outbox / ".dawbridge" / "building"


def _deliver_stems(delivery: Delivery, stems: Artifact) -> list[manifest.ManifestArtifact]:
    names = [name for name in STEMS if (stems.path / f"{name}.wav").exists()]
    sources = [stems.path / f"{name}.wav" for name in names]
    as_float = delivery.bounce.is_float or any(_passes_full_scale(path) for path in sources)
    targets = [delivery.folder / f"{delivery.prefix}_{name}.wav" for name in names]
    _write_nulling(delivery, sources, targets, as_float)
    approximate = delivery.record["facts"].get("separate", {}).get("approximate", [])
    return [
        _tag_and_describe(delivery, name, path, approximate=name in approximate)
        for name, path in zip(names, targets, strict=True)
    ]


def _write_nulling(
    delivery: Delivery, sources: Sequence[Path], targets: Sequence[Path], as_float: bool
) -> None:
    """Write the stems block by block; the last one as the bounce minus the others."""
    bounce = delivery.bounce
    dtype = "float32" if as_float else "int32"
    with ExitStack() as stack:
        mixed = stack.enter_context(soundfile.SoundFile(bounce.path))
        readers = [stack.enter_context(soundfile.SoundFile(path)) for path in sources[:-1]]
        shape = (bounce.sample_rate_hz, bounce.channels, bounce.frames)
        writers = [stack.enter_context(audio.wav_writer(path, *shape, is_float=as_float)) for path in targets]
        for _ in range(0, bounce.frames, BLOCK_FRAMES):
            delivery.steps.tick()
            whole = mixed.read(BLOCK_FRAMES, dtype=dtype, always_2d=True)
            others = [reader.read(BLOCK_FRAMES, dtype="float32", always_2d=True) for reader in readers]
            blocks = _null_float(whole, others) if as_float else _null_24_bit(whole, others)
            for writer, block in zip(writers, blocks, strict=True):
                writer.write(block)


def _null_24_bit(
    whole: npt.NDArray[np.int32], others: Sequence[audio.Samples]
) -> Iterator[npt.NDArray[np.int32]]:
    """Left-justified int32 blocks, (frames, channels), that sum to `whole` exactly at 24 bits."""
    rest = whole >> 8
    for other in others:
        block = np.rint(other * np.float64(FULL_SCALE_24)).astype(np.int32)
        rest = rest - block
        yield block << 8
    yield np.clip(rest, -FULL_SCALE_24, FULL_SCALE_24 - 1) << 8


def _null_float(whole: audio.Samples, others: Sequence[audio.Samples]) -> Iterator[audio.Samples]:
    rest = whole.astype(np.float64)
    for other in others:
        rest -= other
        yield other
    yield rest.astype(np.float32)


def _deliver_audio(delivery: Delivery, artifact: Artifact) -> manifest.ManifestArtifact:
    target = delivery.folder / f"{delivery.prefix}_{artifact.name}.wav"
    as_float = delivery.bounce.is_float or _passes_full_scale(artifact.path)
    with soundfile.SoundFile(artifact.path) as source:
        shape = (source.samplerate, source.channels, source.frames)
        with audio.wav_writer(target, *shape, is_float=as_float) as writer:
            for block in source.blocks(BLOCK_FRAMES, dtype="float32", always_2d=True):
                delivery.steps.tick()
                writer.write(block if as_float else _to_24_bit(block))
    return _tag_and_describe(delivery, artifact.name, target)


def _to_24_bit(block: audio.Samples) -> npt.NDArray[np.int32]:
    steps = np.rint(block * np.float64(FULL_SCALE_24))
    return np.clip(steps, -FULL_SCALE_24, FULL_SCALE_24 - 1).astype(np.int32) << 8


def _passes_full_scale(path: Path) -> bool:
    limit = 1.0 - 8.0 / FULL_SCALE_24  # leaves room for the rounding of the other stems
    with soundfile.SoundFile(path) as file:
        return any(
            float(np.abs(block).max(initial=0.0)) > limit
            for block in file.blocks(BLOCK_FRAMES, dtype="float32")
        )


def _deliver_midi(delivery: Delivery, artifact: Artifact) -> manifest.ManifestArtifact:
    target = delivery.folder / f"{delivery.prefix}_{artifact.name}.mid"
    file = mido.MidiFile(artifact.path)
    provenance = mido.MetaMessage("text", text=_provenance(delivery, artifact.name), time=0)
    file.tracks[0].insert(0, provenance)
    file.save(target)
    return _describe(delivery, artifact.name, target, "midi")


def _deliver_report(delivery: Delivery, artifact: Artifact) -> manifest.ManifestArtifact:
    target = delivery.folder / f"{delivery.prefix}_{artifact.name}.html"
    shutil.copyfile(artifact.path, target)
    return manifest.ManifestArtifact(artifact.name, "report", target.name, file_sha256(target))


def _deliver_log(delivery: Delivery) -> None:
    """What happened so far, to be sent along with a question. No artifact: no DAW shall ever load it."""
    target = delivery.folder / f"{delivery.prefix}_log.txt"
    target.write_text(delivery.record.get("log", ""), encoding="utf-8", errors="backslashreplace")


def _tag_and_describe(
    delivery: Delivery, name: str, path: Path, *, approximate: bool = False
) -> manifest.ManifestArtifact:
    bext = Bext(
        description=_provenance(delivery, name),
        originator=ORIGINATOR,
        reference=delivery.record["id"],
        date=delivery.record["created_at"][:10],
        time=delivery.record["created_at"][11:19],
        start_frames=_start_frames(delivery, name),
    )
    tag_wav(path, bext, f"{ORIGINATOR} {__version__}")
    return _describe(delivery, name, path, "audio", approximate=approximate)


def _describe(
    delivery: Delivery, name: str, path: Path, kind: Any, *, approximate: bool = False
) -> manifest.ManifestArtifact:
    return manifest.ManifestArtifact(
        name,
        kind,
        path.name,
        file_sha256(path),
        _start_frames(delivery, name),
        delivery.continuation_frames if name in CONTINUES else delivery.bounce.frames,
        name in GENERATED or _is_sung(delivery, name),
        approximate,
    )


def _start_frames(delivery: Delivery, name: str) -> int:
    """Where the file's first frame or tick stands on the DAW's timeline."""
    facts = delivery.record["facts"].get("generate", {})
    behind: int = facts["continuation_start_frames"] if name in CONTINUES else 0
    return delivery.bounce.start_frames + behind


def _provenance(delivery: Delivery, name: str) -> str:
    """What every returned file says of itself."""
    is_sung = _is_sung(delivery, name)
    consent = (_voice(delivery) or {}).get("consent_sha256") if is_sung else None
    return (
        f"dawbridge job={delivery.record['id']} artifact={name} "
        f"synthetic_voice={'yes' if is_sung else 'no'} consent={consent or 'none'}"
    )


def _is_sung(delivery: Delivery, name: str) -> bool:
    """Does a synthetic voice sing in it?"""
    is_converted = delivery.record["facts"].get("convert", {}).get("backing") == "convert"
    return (name in HOLDS_THE_VOICE or (name == "backing" and is_converted)) and _voice(delivery) is not None


def _voice(delivery: Delivery) -> Mapping[str, Any] | None:
    voice: Mapping[str, Any] | None = delivery.record["facts"].get("convert", {}).get("voice")
    return voice


def _manifest_voice(record: Mapping[str, Any]) -> manifest.ManifestVoice | None:
    voice = record["facts"].get("convert", {}).get("voice")
    if not voice:
        return None
    return manifest.ManifestVoice(voice["name"], voice["consent_sha256"], voice.get("voice_sha256"))


def _publish(
    delivery: Delivery,
    outbox: Path,
    song: str,
    returned: Sequence[manifest.ManifestArtifact],
    grid: Grid | None,
) -> tuple[Path, int]:
    """Write the manifest and rename the folder to the first free name; the folder and its revision."""
    revision = 1
    while True:
        target = outbox / _folder_name(song, revision)
        if target.exists():
            revision += 1
            continue
        manifest.write_manifest(delivery.folder, _manifest(delivery, revision, tuple(returned), grid))
        fsync_tree(delivery.folder)
        try:
            delivery.folder.rename(target)
        except OSError as exc:
            if exc.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.EACCES) or not target.exists():
                raise
            continue  # somebody else took the name just now
        fsync_folder(outbox)
        return target, revision


def _manifest(
    delivery: Delivery, revision: int, returned: tuple[manifest.ManifestArtifact, ...], grid: Grid | None
) -> manifest.Manifest:
    record, bounce = delivery.record, delivery.bounce
    stages = (
        *(_stage(event) for event in record["stages"]),
        manifest.ManifestStage("export", "done"),
    )
    return manifest.Manifest(
        schema=manifest.SCHEMA,
        id=record["id"],
        revision=revision,
        created_at=record["created_at"],
        bounce=manifest.ManifestBounce(
            bounce.name,
            bounce.sha256,
            bounce.role,
            bounce.sample_rate_hz,
            bounce.channels,
            bounce.frames,
            bounce.start_frames,
        ),
        preset=record["preset"],
        settings=record["settings"],
        tempo=manifest.describe_tempo(grid.tempo, grid.tempo_source, grid.tempo_confidence) if grid else None,
        key=grid.key if grid else None,
        sings=grid.sings if grid else None,
        artifacts=returned,
        stages=stages,
        fallbacks=tuple(Fallback(**fallback) for fallback in record["fallbacks"]),
        voice=_manifest_voice(record),
        software=manifest.Software(__version__, tuple(ModelRef(**ref) for ref in record["models"])),
        draft=record.get("draft", False),
        replaces=record.get("replaces", ""),
    )


def _stage(event: Mapping[str, Any]) -> manifest.ManifestStage:
    return manifest.ManifestStage(
        event["stage"], event["state"], event["code"], round(event["seconds"], 3), event["detail"]
    )
