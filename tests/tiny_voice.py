"""so-vits-svc models as people own them, made small: the package's own networks with random weights, and a HuBERT."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from bridge.voices import sovits
from bridge.voices.consent import Consent, write_consent
from bridge.voices.imported import Imported, import_voice

CONSENT = Consent("Ada", "Ada", "Sing with my voice.", "personal", datetime.date(2026, 1, 1))
KINDS: dict[str, dict[str, Any]] = {
    "ms-istft": {"upsample_rates": [8, 4], "upsample_kernel_sizes": [16, 8]},
    "mb-istft": {"upsample_rates": [8, 4], "upsample_kernel_sizes": [16, 8]},
    "hifi-gan": {"upsample_rates": [8, 8, 8], "upsample_kernel_sizes": [16, 16, 16]},
}
SMALL: dict[str, Any] = {
    "inter_channels": 16,
    "hidden_channels": 16,
    "filter_channels": 32,
    "n_heads": 2,
    "n_layers": 1,
    "kernel_size": 3,
    "p_dropout": 0.1,
    "resblock": "1",
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]],
    "upsample_initial_channel": 32,
    "gin_channels": 8,
    "ssl_dim": 256,
    "n_speakers": 4,
    "n_layers_q": 3,
    "use_spectral_norm": False,
}


def config_table(
    kind: str = "ms-istft", dims: int = 256, speakers: tuple[str, ...] = ("ada",)
) -> dict[str, Any]:
    """A config.json as the package's templates have it."""
    model = SMALL | KINDS[kind] | {"type_": kind, "ssl_dim": dims}
    data = {
        "sampling_rate": 44_100,
        "hop_length": 512,
        "filter_length": 64,
        "contentvec_final_proj": dims == 256,
    }
    train = {"segment_size": 10_240, "learning_rate": 0.0001}
    return {"train": train, "data": data, "model": model, "spk": {name: i for i, name in enumerate(speakers)}}


def put_model(folder: Path, table: dict[str, Any] | None = None, *, step: int = 100, seed: int = 0) -> Path:
    """`G_<step>.pth` and config.json, as the package's trainer leaves them; the path of the checkpoint."""
    import torch

    table = table or config_table()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(table), encoding="utf-8")
    torch.manual_seed(seed)
    network = whole_network(table)
    checkpoint = {
        "model": network.state_dict(),
        "iteration": step,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        "learning_rate": 0.0001,
    }
    path = folder / f"G_{step}.pth"
    torch.save(checkpoint, path)
    return path


def whole_network(table: dict[str, Any]) -> Any:
    """The package's SynthesizerTrn as its own code builds it."""
    sizes = {
        key: value for key, value in table["model"].items() if key not in ("n_layers_q", "use_spectral_norm")
    }
    with sovits._quietly():
        return sovits.package().SynthesizerTrn(table["data"]["filter_length"] // 2 + 1, 20, **sizes).eval()


def put_encoder(folder: Path, *, layers: int = 9, old_names: bool = False) -> Path:
    """A HuBERT as content-vec-best is laid out: nine layers, and a projection to 256 dimensions; the folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import HubertConfig, HubertModel

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": [16] * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    torch.manual_seed(0)
    state = HubertModel(HubertConfig(**sizes)).state_dict()
    projection = torch.nn.Linear(32, 256).state_dict()
    state |= {f"final_proj.{name}": tensor for name, tensor in projection.items()}
    if old_names:
        state = {
            name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): tensor
            for name, tensor in state.items()
        }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    return folder


def put_voice(
    home: Path, voices_dir: Path, name: str = "ada", *, kind: str = "ms-istft", consented: bool = True
) -> Imported:
    """An imported voice ready to sing; model and encoder lie in `home`."""
    encoder = home / "encoder"
    if not encoder.exists():
        put_encoder(encoder)
    model = home / f"model-{kind}"
    if not model.exists():
        put_model(model, config_table(kind))
    made = import_voice(model, name, voices_dir, f0_hz=220.0, encoder=encoder)
    if consented:
        write_consent(name, CONSENT, voices_dir)
    return made
