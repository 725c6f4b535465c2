"""The network on torch and on onnxruntime, behind the interface of `decoder`: what numpy is compared with."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
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


class OnnxDecoder(Decoder):
    """onnxruntime in float32; the trunk and each head are a graph."""

    def __init__(self, weights: Path) -> None:
        source = TorchDecoder(weights)
        super().__init__(*read_weights(weights))
        shape = self.shape
        past = torch.zeros(shape.layers, shape.heads, 3, shape.width // shape.heads)
        inputs = torch.zeros(2, source.network.input_starts.numel(), dtype=torch.int64)
        growing = {"inputs": {0: "rows"}, "keys": {2: "past"}, "values": {2: "past"}}
        self.trunk = _session(source.trunk, {"inputs": inputs, "keys": past, "values": past}, growing)
        self.sessions = []
        for head in source.network.heads:
            assert isinstance(head, Head)
            hints = torch.zeros(1, len(HINTS), dtype=torch.int64)
            conditions = torch.zeros(1, head.starts.numel(), dtype=torch.int64)
            given = {
                "x": torch.zeros(1, shape.width),
                "conditions": conditions,
                "hints": hints,
                "trust": hints,
            }
            self.sessions.append(_session(OnnxHead(head), given, {}))

    def logits(self, heard: Floats, field: int, conditions: Sequence[int], hints: Sequence[Hint]) -> Floats:
        given = {
            "x": heard[None],
            "conditions": np.array([conditions], np.int64),
            "hints": np.array([[value for value, _ in hints]], np.int64),
            "trust": np.array([[trust for _, trust in hints]], np.int64),
        }
        values: Floats = self.sessions[field].run(None, given)[0][0]
        return values


class OnnxMemory(Memory):
    """Keys and values as they grow."""

    def __init__(self, decoder: OnnxDecoder) -> None:
        super().__init__(decoder)
        self._trunk, shape = decoder.trunk, decoder.shape
        self._none = np.zeros((shape.layers, shape.heads, 0, shape.width // shape.heads), np.float32)
        self._past = self._none, self._none

    def _extend(self, inputs: list[tuple[int, ...]]) -> Floats:
        if not self._inputs:
            self._past = self._none, self._none
        self._inputs += inputs
        keys, values = self._past
        given = {"inputs": np.array(inputs, np.int64), "keys": keys, "values": values}
        x, *past = self._trunk.run(None, given)
        self._past = past[0], past[1]
        heard: Floats = x
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


class OnnxHead(nn.Module):
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


def _session(
    module: nn.Module, given: dict[str, Tensor], growing: dict[str, dict[int, str]]
) -> onnxruntime.InferenceSession:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter; the newer one needs a package more
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module,
            tuple(given.values()),
            path,
            input_names=list(given),
            dynamic_axes=growing,
            opset_version=18,
            dynamo=False,
        )
        graph = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
