"""Where a continuation model lies: the one that ships with dawbridge, or one that the user trained."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from bridge.errors import ModelError
from bridge.store import file_sha256
from bridge.transformer.decoder import Decoder
from bridge.transformer.originality import RunIndex, load_index
from bridge.transformer.saved import read_weights
from bridge.types import ModelRef

SHIPPED = "dawbridge-small"
LICENCE = "GPL-3.0-or-later"
WEIGHTS_FOLDER = Path(__file__).with_name("weights")


def weights_path(name: str, models_dir: Path) -> Path:
    """The file of the model `name`; the user's own lie in `models_dir/continuation/NAME`.

    Raises:
        ModelError: there is no such model.
    """
    if name == SHIPPED:
        return WEIGHTS_FOLDER / f"{SHIPPED}.safetensors"
    own = models_dir / "continuation"
    path = own / name / "weights.safetensors"
    if Path(name).name != name or not path.is_file():
        trained = sorted(folder.parent.name for folder in own.glob("*/weights.safetensors"))
        raise ModelError(
            f'There is no continuation model "{name}". Models here: {", ".join([SHIPPED, *trained])}. '
            "`dawbridge train continuation` makes one from your own MIDI files."
        )
    return path


def load_model(name: str, models_dir: Path) -> Decoder:
    """The model, read once per process and file.

    Raises:
        ModelError: there is none of that name, or its file is damaged.
    """
    path = weights_path(name, models_dir)
    return _load(path, path.stat().st_mtime_ns)


def model_ref(name: str, models_dir: Path) -> ModelRef:
    """The model as manifests name it."""
    path = weights_path(name, models_dir)
    return ModelRef(name, file_sha256(path), LICENCE if name == SHIPPED else "the user's own")


@lru_cache(maxsize=1)
def load_originality() -> RunIndex:
    """The runs of notes that stand in the works the shipped model learned from.

    Raises:
        ModelError: the index is missing or damaged.
    """
    return load_index(WEIGHTS_FOLDER / "originality.npz")


@lru_cache(maxsize=2)
def _load(path: Path, _modified_ns: int) -> Decoder:
    return Decoder(*read_weights(path))
