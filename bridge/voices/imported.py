"""Voices that come from elsewhere: a so-vits-svc model (`G_*.pth` with its `config.json`), or a voice that was exported.

Nothing that is imported is ever run: checkpoints are read as tensors alone, configurations and archives as data, and
all is checked against the network before a voice folder appears, whole or not at all. Consent never comes along.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from bridge.errors import VoiceError
from bridge.store import discard, fsync_tree
from bridge.voices import encoders, folder, sovits
from bridge.voices.character import CHARACTERS
from bridge.voices.consent import voice_folder
from bridge.voices.folder import CARD, CONFIG, DESCRIPTION, FILES, MODEL, VoiceCard, read_card, write_card
from bridge.voices.sovits_config import SovitsConfig, config_bytes, read_config_file

MAX_MODEL_BYTES = 4 << 30
UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError),
    *(KeyError, IndexError, AttributeError, TypeError, OSError),
)
"""All that torch.load raises for files that are damaged or hold more than tensors."""


@dataclass(frozen=True)
class Imported:
    """What became of an import."""

    folder: Path
    card: VoiceCard
    notes: tuple[str, ...]  # what was left behind, and why


def import_voice(
    source: Path,
    name: str,
    voices_dir: Path,
    *,
    speaker: str = "",
    f0_hz: float | None = None,
    encoder: Path | None = None,
) -> Imported:
    """Make the voice `name` of a model's folder, one `G_*.pth`, or an exported `.zip`.

    Of a folder the newest `G_*.pth` is taken. `speaker` is needed where the model has several; `f0_hz` is the median
    pitch of the voice, which no model tells. `encoder` is a folder of the user's with the content encoder.

    Raises:
        VoiceError: there is no such model, it is damaged or unsafe, or a voice of that name stands there already.
        Refused: (`no_consent`) the name leads elsewhere.
    """
    target = _free_place(name, voices_dir)
    if source.suffix.lower() == ".zip":
        return _unpack(source, target, f0_hz, encoder)
    model = _model_file(source)
    config = read_config_file(_config_file(model))
    singer = _speaker(config, speaker, model)
    tensors = _read_tensors(model)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    sovits.check_tensors(config, shapes, str(model))
    card = VoiceCard(
        engine=sovits.ENGINE,
        encoder=_encoder(config, model),
        encoder_folder=_path_of(encoder),
        sample_rate_hz=config.data.sampling_rate,
        speaker=singer,
        f0_median_hz=f0_hz,
    )
    with _appearing(target) as place:
        card = _write(
            place, card, config, tensors, f"# {name}\n\nImported from {model.name}, speaker {singer}.\n"
        )
    return Imported(target, card, _left_behind(model))


def export_voice(name: str, voices_dir: Path, out: Path) -> Path:
    """Write the voice to the archive `out`, without its consent: that was given to whoever uses it here.

    Raises:
        VoiceError: there is no such voice, or its files are not what its card names.
        Refused: (`no_consent`) the name leads elsewhere.
    """
    place = voice_folder(name, voices_dir)
    card = read_card(place)
    for file, digest in ((MODEL, card.model_sha256), (CONFIG, card.config_sha256)):
        folder.read_verified(place, file, digest)
    beside = out.with_name(f".{out.name}.part")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
            for file in FILES:
                if (place / file).is_file():
                    archive.write(place / file, file)
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return out


def remove_voice(name: str, voices_dir: Path) -> None:
    """Delete the voice and its consent.

    Raises:
        VoiceError: there is no such voice.
        Refused: (`no_consent`) the name leads elsewhere.
    """
    place = voice_folder(name, voices_dir)
    if not place.is_dir():
        raise VoiceError(
            f"There is no voice {name!r} in {voices_dir}. `dawbridge voices list` shows what is there."
        )
    discard(place)


def _free_place(name: str, voices_dir: Path) -> Path:
    if name in CHARACTERS:
        raise VoiceError(f"{name!r} is a built-in character. Choose another name.")
    target = voice_folder(name, voices_dir)
    # A folder that holds nothing but a consent waits for its voice.
    if any((target / file).exists() for file in FILES):
        raise VoiceError(
            f"The voice {name!r} stands in {target} already. Choose another name, or remove it first."
        )
    return target


def _model_file(source: Path) -> Path:
    if source.is_dir():
        found = sorted(source.glob("G_*.pth"), key=_step)
        if not found:
            raise VoiceError(
                f"{source} holds no G_*.pth. Give the folder of a so-vits-svc model, or its file."
            )
        return found[-1]
    if not source.is_file():
        raise VoiceError(f"{source} does not exist. Give the folder of a so-vits-svc model, or its file.")
    if source.suffix == ".pt":
        raise VoiceError(f"{source} is not a voice: {_WHY_NO_CLUSTERS} Give the G_*.pth.")
    if source.name.startswith("D_"):
        raise VoiceError(
            f"{source} is a discriminator, which only training needs. Give the G_*.pth beside it."
        )
    return source


_WHY_NO_CLUSTERS = "cluster files are pickles of scikit-learn's, which can run anything when they are opened."


def _step(path: Path) -> tuple[int, float]:
    """Training steps or epochs by the file's name, then its age."""
    digits = re.search(r"(\d+)\.pth$", path.name)
    return int(digits.group(1)) if digits else -1, path.stat().st_mtime


def _config_file(model: Path) -> Path:
    for place in (
        model.with_name(CONFIG),
        model.with_suffix(".json"),
        model.parent.parent / "configs" / CONFIG,
    ):
        if place.is_file():
            return place
    raise VoiceError(
        f"{model.with_name(CONFIG)} is missing. Put the config.json there that the model was trained with."
    )


def _left_behind(model: Path) -> tuple[str, ...]:
    clusters = sorted(path.name for path in model.parent.glob("*.pt"))
    return tuple(f"{file} was left behind: {_WHY_NO_CLUSTERS}" for file in clusters)


def _speaker(config: SovitsConfig, wish: str, model: Path) -> str:
    names = list(config.speakers)
    if wish in names or (not wish and len(names) == 1):
        return wish or names[0]
    told = f"has no speaker {wish!r}" if wish else "has several speakers"
    raise VoiceError(f"{model} {told}. Choose one by --speaker: {', '.join(names)[:400]}.")


def _encoder(config: SovitsConfig, model: Path) -> str:
    """The encoder whose features the model was trained on, as far as their number tells."""
    dims, final_proj = config.model.ssl_dim, config.data.contentvec_final_proj
    for name in encoders.ENCODERS:
        if encoders.dims_of(name, final_proj=final_proj) == dims:
            return name
    raise VoiceError(
        f"{model}: it was trained on {dims} features with contentvec_final_proj = {str(final_proj).lower()}; no encoder "
        f"known here gives these ({', '.join(encoders.ENCODERS)})."
    )


def _read_tensors(model: Path) -> dict[str, Any]:
    """The tensors that singing needs, as float32; whatever else the file holds is not built."""
    import torch

    if model.stat().st_size > MAX_MODEL_BYTES:
        raise VoiceError(f"{model} is larger than {MAX_MODEL_BYTES >> 30} GB. Give a G_*.pth.")
    try:
        with warnings.catch_warnings(action="ignore"):  # of storages as older versions of torch wrote them
            checkpoint = torch.load(model, map_location="cpu", weights_only=True)
        table = checkpoint["model"] if "model" in checkpoint else checkpoint["weight"]
        tensors = {
            key: tensor for key, tensor in table.items() if not key.startswith(sovits.ONLY_FOR_TRAINING)
        }
        if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
            raise ValueError("its table `model` does not hold tensors alone")
        return tensors
    except UNREADABLE as exc:
        told = str(exc).partition("\n")[0][:160] or type(exc).__name__
        raise VoiceError(
            f"{model} is no so-vits-svc checkpoint that can be read safely ({told}). It is cut off, or holds more than "
            "tensors, which could run anything. Get it again, from somebody you trust.",
            "pickle",
        ) from exc


def _write(
    place: Path, card: VoiceCard, config: SovitsConfig, tensors: Mapping[str, Any], description: str
) -> VoiceCard:
    from safetensors.torch import save

    model = save({key: tensor.float().contiguous().clone() for key, tensor in tensors.items()})
    sizes = config_bytes(config)
    card = replace(
        card, model_sha256=hashlib.sha256(model).hexdigest(), config_sha256=hashlib.sha256(sizes).hexdigest()
    )
    (place / MODEL).write_bytes(model)
    (place / CONFIG).write_bytes(sizes)
    (place / DESCRIPTION).write_text(description, encoding="utf-8")
    write_card(place, card)
    return card


def _path_of(encoder: Path | None) -> str:
    return str(encoder.absolute()) if encoder else ""


def _unpack(source: Path, target: Path, f0_hz: float | None, encoder: Path | None) -> Imported:
    """An exported voice: only the four files that make one are ever written, under names of ours."""
    try:
        with zipfile.ZipFile(source) as archive, _appearing(target) as place:
            others = [name for name in archive.namelist() if name not in FILES]
            outside = [name for name in others if _leads_out(name)]
            if outside:
                raise VoiceError(
                    f"{source} holds {outside[0]!r}, which leads out of its folder. Nothing was taken."
                )
            for file in FILES:
                if file in archive.namelist():
                    _extract(archive, file, place / file, source)
            card = read_card(place)  # where its encoder lay elsewhere says nothing here
            card = replace(card, f0_median_hz=f0_hz or card.f0_median_hz, encoder_folder=_path_of(encoder))
            write_card(place, card)
            _check_whole(place, card)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as exc:
        raise VoiceError(f"{source} is no archive that can be read ({exc}). Export the voice again.") from exc
    except OSError as exc:
        raise VoiceError(f"{source} can't be read ({exc.strerror}). Check its name and the disk.") from exc
    return Imported(target, card, tuple(f"{name} was left behind: no part of a voice." for name in others))


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in name


def _extract(archive: zipfile.ZipFile, file: str, path: Path, source: Path) -> None:
    limit = MAX_MODEL_BYTES if file == MODEL else 1 << 22
    if archive.getinfo(file).file_size > limit:
        raise VoiceError(f"{source} holds {file} of more than {limit} bytes. Nothing was taken.")
    with archive.open(file) as packed, path.open("xb") as out:
        shutil.copyfileobj(packed, out)


def _check_whole(place: Path, card: VoiceCard) -> None:
    if card.engine != sovits.ENGINE:
        raise VoiceError(
            f"{CARD}: engine = {card.engine!r} is not known here, only {sovits.ENGINE}. Update dawbridge."
        )
    sovits.check_voice(place, card)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target` when the block ends well, and vanishes when it doesn't."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")
    if beside.exists():
        discard(beside)
    beside.mkdir()
    try:
        yield beside
        if target.is_dir():  # a consent that was written before its voice came
            shutil.copytree(target, beside, dirs_exist_ok=True)
        fsync_tree(beside)
        if target.is_dir():
            discard(target)
        beside.replace(target)
    finally:
        if beside.exists():
            discard(beside)
