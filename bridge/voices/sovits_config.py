"""A so-vits-svc model's `config.json`, read as data: every size bounded before a network is built from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridge.config import read_table
from bridge.contracts import known_only, parse_object
from bridge.errors import VoiceError
from bridge.settings import setting

MAX_BYTES = 1 << 22  # a configuration lists its speakers, and nothing else that is long
MAX_LIST = 8
MAX_SPEAKERS = 10_000
MAX_KERNEL = 255
REMEDY = "Give the config.json that the model was trained with."


@dataclass(frozen=True)
class ModelSizes:
    """The network's own arguments, named as the package names them."""

    inter_channels: int = setting(192, lo=2, hi=1024)
    hidden_channels: int = setting(192, lo=2, hi=1024)
    filter_channels: int = setting(768, lo=1, hi=8192)
    n_heads: int = setting(2, lo=1, hi=64)
    n_layers: int = setting(6, lo=1, hi=32)
    kernel_size: int = setting(3, lo=1, hi=31)
    p_dropout: float = setting(0.1, lo=0.0, hi=1.0)
    resblock: str = setting("1", choices=("1", "2"))
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2, 2)
    upsample_initial_channel: int = setting(512, lo=2, hi=4096)
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 4, 4, 4)
    gin_channels: int = setting(256, lo=1, hi=2048)
    ssl_dim: int = setting(256, lo=1, hi=4096)  # of the content features
    n_speakers: int = setting(200, lo=1, hi=MAX_SPEAKERS)
    sampling_rate: int = setting(44_100, lo=8_000, hi=192_000)
    type_: str = setting("hifi-gan", choices=("hifi-gan", "istft", "ms-istft", "mb-istft"))
    gen_istft_n_fft: int = setting(16, lo=4, hi=256)
    gen_istft_hop_size: int = setting(4, lo=1, hi=64)
    subbands: int = setting(4, lo=1, hi=32)


@dataclass(frozen=True)
class DataSizes:
    """How sound was cut into frames for training."""

    sampling_rate: int = setting(44_100, lo=8_000, hi=192_000)
    hop_length: int = setting(512, lo=16, hi=8192)
    filter_length: int = setting(2048, lo=16, hi=65_536)
    contentvec_final_proj: bool = True  # the features of so-vits-svc 4.0: 256 dimensions


@dataclass(frozen=True)
class SovitsConfig:
    """What inference needs of the file."""

    model: ModelSizes = field(default_factory=ModelSizes)
    data: DataSizes = field(default_factory=DataSizes)
    speakers: Mapping[str, int] = field(default_factory=dict)  # name -> row of the speaker table


def read_config(raw: bytes, where: str) -> SovitsConfig:
    """The configuration in `raw`, which stands in the file `where`.

    Raises:
        VoiceError: no JSON, a size out of bounds, sizes that contradict each other, or a kind of model that
            this engine does not run.
    """
    if len(raw) > MAX_BYTES:
        raise VoiceError(f"{where} is larger than {MAX_BYTES} bytes. {REMEDY}")
    table = parse_object(raw, where, VoiceError, REMEDY)
    for key in ("model", "data", "spk"):
        if not isinstance(table.get(key), dict):
            raise VoiceError(f"{where}: {key} = {table.get(key)!r} must be a table. {REMEDY}")
    _refuse_other_kinds(table["model"], where)
    sizes = known_only(ModelSizes, table["model"], f"{where}: model", VoiceError)
    data = known_only(DataSizes, table["data"], f"{where}: data", VoiceError)
    config = SovitsConfig(
        read_table(ModelSizes, sizes, f"{where}: model", VoiceError),
        read_table(DataSizes, data, f"{where}: data", VoiceError),
        _speakers(table["spk"], where),
    )
    _check_lists(config.model, where)
    _check_together(config, where)
    return config


def read_config_file(path: Path) -> SovitsConfig:
    """The same, from a file."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise VoiceError(f"{path} can't be read ({exc.strerror}). {REMEDY}") from exc
    return read_config(raw, str(path))


def config_bytes(config: SovitsConfig) -> bytes:
    """The configuration as `read_config` reads it, the same bytes each time."""
    table = {"model": asdict(config.model), "data": asdict(config.data), "spk": dict(config.speakers)}
    return (json.dumps(table, indent=1, sort_keys=True) + "\n").encode()


def _refuse_other_kinds(model: Mapping[str, Any], where: str) -> None:
    """so-vits-svc 4.1 added networks of other shapes under the same file names."""
    encoder = model.get("speech_encoder", "vec768l12")
    if encoder not in ("vec256l9", "vec768l12"):
        raise VoiceError(
            f"{where}: model: speech_encoder = {encoder!r} is not known here, only vec256l9 and vec768l12. "
            "Use a model trained with one of these."
        )
    if model.get("vol_embedding"):
        raise VoiceError(
            f"{where}: model: vol_embedding = true is a network of so-vits-svc 4.1 that so-vits-svc-fork does not "
            "run. Use a model trained without it."
        )


def _speakers(table: Mapping[str, Any], where: str) -> dict[str, int]:
    rows = {name: row for name, row in table.items() if type(row) is int and 0 <= row < MAX_SPEAKERS}
    if len(rows) != len(table) or not rows or len(set(rows.values())) != len(rows):
        raise VoiceError(
            f"{where}: spk = {str(table)[:200]} must give each speaker a number of its own. {REMEDY}"
        )
    return rows


def _check_lists(model: ModelSizes, where: str) -> None:
    kernels, dilations = model.resblock_kernel_sizes, model.resblock_dilation_sizes
    groups = {
        "resblock_kernel_sizes": (kernels,),
        "resblock_dilation_sizes": dilations,
        "upsample_rates": (model.upsample_rates,),
        "upsample_kernel_sizes": (model.upsample_kernel_sizes,),
    }
    for key, lists in groups.items():
        for numbers in lists:
            if not 1 <= len(numbers) <= MAX_LIST or not all(1 <= number <= MAX_KERNEL for number in numbers):
                raise VoiceError(f"{where}: model: {key} holds {numbers!r}, which is out of bounds. {REMEDY}")
    if not len(kernels) == len(dilations) <= MAX_LIST:
        raise VoiceError(
            f"{where}: model: resblock_kernel_sizes and _dilation_sizes differ in length. {REMEDY}"
        )
    if len(model.upsample_rates) != len(model.upsample_kernel_sizes):
        raise VoiceError(f"{where}: model: upsample_rates and _kernel_sizes differ in length. {REMEDY}")


def _check_together(config: SovitsConfig, where: str) -> None:
    model = config.model
    frames = math.prod(model.upsample_rates)
    if model.type_ != "hifi-gan":
        frames *= model.gen_istft_hop_size
    if model.type_ in ("ms-istft", "mb-istft"):
        frames *= model.subbands
    if frames != config.data.hop_length:
        raise VoiceError(
            f"{where}: the network makes {frames} samples per frame, data: hop_length = {config.data.hop_length}. "
            f"{REMEDY}"
        )
    if model.hidden_channels % model.n_heads or model.inter_channels % 2 or model.hidden_channels % 2:
        raise VoiceError(f"{where}: model: channels can't be shared among {model.n_heads} heads. {REMEDY}")
    if max(config.speakers.values()) >= model.n_speakers:
        raise VoiceError(
            f"{where}: spk names a speaker beyond model: n_speakers = {model.n_speakers}. {REMEDY}"
        )
