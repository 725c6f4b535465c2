"""The network on onnxruntime in float32, behind the interface of `decoder`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from bridge.transformer.decoder import Decoder, Floats, Memory
from bridge.transformer.recall import Hint
from bridge.transformer.saved import read_weights
from bridge.transformer.tokens import FIELDS


class OnnxDecoder(Decoder):
    """The graphs that `torch_engine.export` wrote into `folder`."""

    def __init__(self, weights: Path, folder: Path) -> None:
        super().__init__(*read_weights(weights))
        self.trunk = _session(folder / "trunk.onnx")
        self.sessions = [_session(folder / f"head{field}.onnx") for field in range(len(FIELDS))]

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


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
