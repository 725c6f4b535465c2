"""The network on eager torch, behind the interface of `decoder`, and as graphs for `onnx_engine`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bridge.transformer.decoder import Decoder, Floats, Memory
from bridge.transformer.network import Block, Head, Network, rms_norm, rotate, rotation
from bridge.transformer.recall import HINTS, Hint
from bridge.transformer.saved import read_weights


class TorchDecoder(Decoder):
    """Eager torch."""

    def __init__(self, weights: Path) -> None:
        torch.set_num_threads(1)
        arrays, shape = read_weights(weights)
        super().__init__(arrays, shape)
        self.network = Network(shape)
        self.network.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
        self.network.eval()
        self.trunk = Trunk(self.network)

    def logits(self, heard: Floats, field: int, conditions: Sequence[int], hints: Sequence[Hint]) -> Floats:
        with torch.inference_mode():
            told = self.network.heads[field](
                torch.from_numpy(heard)[None],
                torch.tensor([list(conditions)]),
                torch.tensor([[value for value, _ in hints]]),
                torch.tensor([[trust for _, trust in hints]]),
            )
        values: Floats = told[0].numpy()
        return values


class TorchMemory(Memory):
    """Keys and values as they grow."""

    def __init__(self, decoder: TorchDecoder) -> None:
        super().__init__(decoder)
        self._trunk, shape = decoder.trunk, decoder.shape
        self._none = torch.zeros(shape.layers, shape.heads, 0, shape.width // shape.heads)
        self._past = self._none, self._none

    def _extend(self, inputs: list[tuple[int, ...]]) -> Floats:
        if not self._inputs:
            self._past = self._none, self._none
        self._inputs += inputs
        with torch.inference_mode():
            x, keys, values = self._trunk(torch.tensor(inputs), *self._past)
        self._past = keys, values
        heard: Floats = x.numpy()
        return heard


class Trunk(nn.Module):
    """New rows after those whose keys and values are known."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        network = self.network
        rows, before = inputs.shape[0], keys.shape[2]
        x = functional.embedding(inputs + network.input_starts, network.embedding).sum(1)
        turns = rotation(before + rows, network.shape.width // network.shape.heads)
        now = turns[0][before:], turns[1][before:]
        hidden = torch.arange(before + rows)[None] > before + torch.arange(rows)[:, None]
        all_keys, all_values = [], []
        for index, block in enumerate(network.blocks):
            assert isinstance(block, Block)
            joined = functional.linear(rms_norm(x, block.norm_attention), block.query_key_value)
            # (rows, 3 * width) -> (rows, 3, heads, d) -> 3 x (heads, rows, d)
            query, key, value = joined.reshape(rows, 3, block.heads, -1).permute(1, 2, 0, 3)
            key = torch.cat((keys[index], rotate(key, now)), 1)
            value = torch.cat((values[index], value), 1)
            scores = rotate(query, now) @ key.transpose(1, 2) / query.shape[-1] ** 0.5
            weights = scores.masked_fill(hidden, -1e9).softmax(-1)
            # (heads, rows, d) -> (rows, heads, d) -> (rows, width)
            x = x + functional.linear((weights @ value).transpose(0, 1).flatten(1), block.out)
            inner = functional.linear(rms_norm(x, block.norm_inner), block.up)
            x = x + functional.linear(functional.gelu(inner, approximate="tanh"), block.down)
            all_keys.append(key)
            all_values.append(value)
        return rms_norm(x, network.norm), torch.stack(all_keys), torch.stack(all_values)


class PlainHead(nn.Module):
    """`network.Head` without the embedding bag, which the exporter does not know."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, conditions: Tensor, hints: Tensor, trust: Tensor) -> Tensor:
        head = self.head
        told = functional.embedding(conditions + head.starts, head.embedding).sum(1)
        mixed = functional.gelu(functional.linear(x, head.mix) + told, approximate="tanh")
        logits = functional.linear(mixed, head.out, head.bias)
        amount = head.copy[torch.arange(len(HINTS)), trust] + functional.linear(mixed, head.copy_mix)
        return logits.scatter_add(1, hints.clamp_min(0), amount * (hints >= 0))


def export(weights: Path, folder: Path) -> None:
    """Write the trunk and each head as ONNX."""
    model = TorchDecoder(weights)
    shape = model.shape
    past = torch.zeros(shape.layers, shape.heads, 3, shape.width // shape.heads)
    inputs = torch.zeros(2, model.network.input_starts.numel(), dtype=torch.int64)
    growing = {"inputs": {0: "rows"}, "keys": {2: "past"}, "values": {2: "past"}}
    _write(folder / "trunk.onnx", model.trunk, {"inputs": inputs, "keys": past, "values": past}, growing)
    for field, head in enumerate(model.network.heads):
        assert isinstance(head, Head)
        hints = torch.zeros(1, len(HINTS), dtype=torch.int64)
        conditions = torch.zeros(1, head.starts.numel(), dtype=torch.int64)
        given = {"x": torch.zeros(1, shape.width), "conditions": conditions, "hints": hints, "trust": hints}
        _write(folder / f"head{field}.onnx", PlainHead(head), given, {})


def _write(
    path: Path, module: nn.Module, given: dict[str, Tensor], growing: dict[str, dict[int, str]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter; the newer one needs a package more
        torch.onnx.export(
            module,
            tuple(given.values()),
            path,
            input_names=list(given),
            dynamic_axes=growing,
            opset_version=18,
            dynamo=False,
        )
