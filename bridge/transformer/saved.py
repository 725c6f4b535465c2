"""A network's file: safetensors in half precision, with its sizes in the header. Reading needs numpy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bridge.atomic import replacing
from bridge.errors import ModelError
from bridge.transformer.recall import CONDITIONS, INPUTS
from bridge.transformer.tokens import SIZES

Arrays = Mapping[str, npt.NDArray[np.float32]]
ENCODING = json.dumps({"fields": SIZES, "inputs": INPUTS, "conditions": CONDITIONS})
"""What a network's columns mean; weights made for others don't fit."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network."""

    layers: int = 4
    width: int = 256
    heads: int = 4
    inner: int = 768  # of the feed-forward half
    head_width: int = 192  # of the five output heads
    context: int = 512  # rows it was trained to look back


def save_weights(path: Path, arrays: Mapping[str, npt.NDArray[Any]], shape: Shape) -> None:
    """Write all arrays as float16."""
    header = {"shape": json.dumps(asdict(shape)), "encoding": ENCODING}
    halves = {name: np.ascontiguousarray(values, dtype=np.float16) for name, values in arrays.items()}
    with replacing(path) as file:
        file.write(save(halves, metadata=header))


def read_weights(path: Path) -> tuple[Arrays, Shape]:
    """All arrays as float32, and the sizes.

    Raises:
        ModelError: the file is missing, damaged, or made for other columns than ours.
    """
    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as exc:
        raise ModelError(f"The model {path} can't be read ({exc}). Train it again or name another.") from exc
    if header.get("encoding") != ENCODING:
        raise ModelError(f"The model {path} was made by another version of dawbridge. Train it again.")
    return arrays, Shape(**json.loads(header["shape"]))
