"""A very small Music Transformer with random weights: real code, no training, quick."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bridge.transformer.decoder import Decoder
from bridge.transformer.recall import CONDITIONS, HINTS, INPUTS, TRUST
from bridge.transformer.saved import Shape
from bridge.transformer.tokens import REST, SIZES

TINY = Shape(layers=2, width=32, heads=2, inner=48, head_width=24, context=64)


def tiny_arrays(shape: Shape = TINY, seed: int = 0) -> Mapping[str, npt.NDArray[np.float32]]:
    """Arrays as `network.Network` names them."""
    random = np.random.default_rng(seed)

    def weight(*size: int) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float64] = random.standard_normal(size) / np.sqrt(size[-1])
        return values.astype(np.float32)

    arrays = {"embedding": weight(sum(INPUTS), shape.width), "norm": np.ones(shape.width, np.float32)}
    for layer in range(shape.layers):
        block = {
            "norm_attention": np.ones(shape.width, np.float32),
            "norm_inner": np.ones(shape.width, np.float32),
            "query_key_value": weight(3 * shape.width, shape.width),
            "out": weight(shape.width, shape.width),
            "up": weight(shape.inner, shape.width),
            "down": weight(shape.width, shape.inner),
        }
        arrays |= {f"blocks.{layer}.{name}": values for name, values in block.items()}
    for field, values in enumerate(SIZES):
        head = {
            "embedding": weight(sum(CONDITIONS[field]), shape.head_width),
            "mix": weight(shape.head_width, shape.width),
            "out": weight(values, shape.head_width),
            "bias": weight(1, values)[0],
            "copy": weight(len(HINTS), TRUST),
            "copy_mix": weight(len(HINTS), shape.head_width),
        }
        arrays |= {f"heads.{field}.{name}": values for name, values in head.items()}
    return arrays


def tiny_decoder(seed: int = 0) -> Decoder:
    return Decoder(tiny_arrays(seed=seed), TINY)


def busy_decoder() -> Decoder:
    """One that lets hardly more than a quarter of a beat pass between notes."""
    arrays = dict(tiny_arrays())
    arrays["heads.0.bias"] = np.where(np.arange(SIZES[0]) < REST, 0.0, -20.0).astype(np.float32)
    arrays["heads.1.bias"] = np.where(np.arange(SIZES[1]) < 7, 5.0, -5.0).astype(np.float32)
    return Decoder(arrays, TINY)
