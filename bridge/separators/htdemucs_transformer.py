"""The transformer between HTDemucs' encoders and decoders, which takes two thirds of the network's work.

As demucs/transformer.py, with attention through `scaled_dot_product_attention`, each layer's scale folded into the
weights before it, positions computed once, and, where torch has oneDNN, products whose weights are packed
beforehand and which apply bias and GELU while the result is in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Attention:
    heads: int
    query: Linear
    key_value: Linear
    out: Linear


@dataclass(frozen=True)
class _Block:
    """x + out(attention(norm(x), norm_other(other))), then x + down(gelu(up(norm_inner(x)))), then a norm of all."""

    norm: Any
    norm_other: Any | None  # None: the layer attends to its own input
    attention: _Attention
    norm_inner: Any
    up: Linear
    down: Linear
    norm_out: Any


class Transformer:
    """demucs' CrossTransformerEncoder for inference."""

    def __init__(self, model: Any) -> None:
        """Raises ValueError where the model has options that no published HTDemucs uses."""
        first = model.layers[0]
        if model.emb != "sin" or model.sin_random_shift or not (first.norm_first and first.norm_out):
            raise ValueError("its transformer is unlike that of any published HTDemucs")
        self._norm_in, self._norm_in_t = model.norm_in, model.norm_in_t
        self._max_period, self._weight = model.max_period, model.weight_pos_embed
        self._blocks = [_block(layer) for layer in model.layers]
        self._blocks_t = [_block(layer) for layer in model.layers_t]
        self._positions: dict[tuple[torch.Size, torch.Size], tuple[Tensor, Tensor]] = {}

    def __call__(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """(channels, rows, steps) of the spectrum and (channels, frames) in time, of the same shapes again."""
        shape = x.shape
        where, where_t = self._where(shape, xt.shape)
        x = self._norm_in(x.permute(2, 1, 0).reshape(-1, shape[0])) + where
        xt = self._norm_in_t(xt.t().contiguous()) + where_t
        for block, block_t in zip(self._blocks, self._blocks_t, strict=True):
            x, xt = _run(block, x, xt), _run(block_t, xt, x)
        return x.view(shape[2], shape[1], shape[0]).permute(2, 1, 0), xt.t()

    def _where(self, shape: torch.Size, shape_t: torch.Size) -> tuple[Tensor, Tensor]:
        """What tells each point its place."""
        from demucs import transformer

        if (shape, shape_t) not in self._positions:
            positions: Any = transformer  # untyped
            flat = positions.create_2d_sin_embedding(*shape, "cpu", self._max_period)[
                0
            ]  # (channels, rows, steps)
            line = positions.create_sin_embedding(shape_t[1], shape_t[0], 0, "cpu", self._max_period)[:, 0]
            self._positions[shape, shape_t] = (
                self._weight * flat.permute(2, 1, 0).reshape(-1, shape[0]),
                self._weight * line,
            )
        return self._positions[shape, shape_t]


def _run(block: _Block, x: Tensor, other: Tensor) -> Tensor:
    """(tokens, channels); `other` is the other branch."""
    own = block.norm(x)
    seen = own if block.norm_other is None else block.norm_other(other)
    x = x + _attend(block.attention, own, seen)
    x += block.down(block.up(block.norm_inner(x)))
    norm = block.norm_out
    variance, mean = torch.var_mean(x, correction=0)
    gain = norm.weight * (variance + norm.eps).rsqrt()
    return torch.addcmul(norm.bias - mean * gain, x, gain)


def _attend(attention: _Attention, x: Tensor, seen: Tensor) -> Tensor:
    def in_heads(tokens: Tensor) -> Tensor:
        return tokens.view(len(tokens), attention.heads, -1).transpose(0, 1)[None]  # (1, heads, tokens, d)

    key, value = attention.key_value(seen).chunk(2, 1)
    mixed = functional.scaled_dot_product_attention(
        in_heads(attention.query(x)), in_heads(key), in_heads(value)
    )
    return attention.out(mixed[0].transpose(0, 1).reshape(x.shape))


def _block(layer: Any) -> _Block:
    """Either kind of layer; the cross layer has three norms, the other one two."""
    is_cross = hasattr(layer, "cross_attn")
    given = layer.cross_attn if is_cross else layer.self_attn
    width = given.embed_dim
    weight, bias = given.in_proj_weight, given.in_proj_bias
    scale_1, scale_2 = _scale(layer.gamma_1), _scale(layer.gamma_2)
    attention = _Attention(
        heads=given.num_heads,
        query=_linear(weight[:width], bias[:width]),
        key_value=_linear(weight[width:], bias[width:]),
        out=_linear(*_scaled(given.out_proj, scale_1)),
    )
    return _Block(
        norm=layer.norm1,
        norm_other=layer.norm2 if is_cross else None,
        attention=attention,
        norm_inner=layer.norm3 if is_cross else layer.norm2,
        up=_linear(layer.linear1.weight, layer.linear1.bias, gelu=True),
        down=_linear(*_scaled(layer.linear2, scale_2)),
        norm_out=layer.norm_out,
    )


def _scale(module: Any) -> Tensor | None:
    scale: Tensor | None = getattr(module, "scale", None)
    return scale


def _scaled(linear: Any, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    if scale is None:
        return linear.weight, linear.bias
    return linear.weight * scale[:, None], linear.bias * scale


def _linear(weight: Tensor, bias: Tensor, *, gelu: bool = False) -> Linear:
    """The product, with a packed copy of the weights where that is to be had."""
    weight, bias = weight.detach().contiguous(), bias.detach().contiguous()
    backend: Any = torch.backends.mkldnn  # untyped
    if backend.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        after = "gelu" if gelu else "none"
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, after, [], "none")
    if gelu:
        return lambda x: functional.gelu(functional.linear(x, weight, bias))
    return lambda x: functional.linear(x, weight, bias)
