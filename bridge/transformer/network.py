"""The Music Transformer as torch sees it: for training and for judging whole pieces. Playing runs on numpy
(decoder.py), from the same weights.

A decoder over one vector per row, rotary positions (Su et al., RoFormer, 2021), RMSNorm before each half, and five
heads that foretell part, shift, pitch, length and velocity one after the other. Each head sees the trunk's vector
and its conditions (recall.py), and adds a learned amount to the value of each hint: a way to copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from bridge.transformer.columns import CONDITION_STARTS
from bridge.transformer.recall import CONDITIONS, HINTS, INPUTS, TRUST
from bridge.transformer.saved import Shape
from bridge.transformer.tokens import FIELDS, SIZES

ROPE_BASE = 10_000.0


@dataclass(frozen=True)
class Batch:
    """Columns of several windows as tensors, int64, (batch, rows, ...)."""

    inputs: Tensor
    conditions: Tensor
    hints: Tensor
    trust: Tensor
    targets: Tensor


class Network(nn.Module):
    """See the module's text. Weights are float32."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(sum(INPUTS), shape.width) * 0.02)
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        self.heads = nn.ModuleList(Head(shape, field) for field in range(len(FIELDS)))
        self.input_starts: Tensor
        self.register_buffer("input_starts", _starts(INPUTS), persistent=False)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Log-probabilities per field, each (batch, rows, values)."""
        size, rows, _ = batch.inputs.shape
        columns = (batch.inputs + self.input_starts).flatten(0, 1)  # (batch, rows, c) -> (batch * rows, c)
        x = functional.embedding_bag(columns, self.embedding, mode="sum")
        x = x.reshape(size, rows, -1)  # (batch * rows, width) -> (batch, rows, width)
        turns = rotation(rows, self.shape.width // self.shape.heads)
        for block in self.blocks:
            x = block(x, turns)
        x = rms_norm(x, self.norm).flatten(0, 1)  # (batch, rows, width) -> (batch * rows, width)
        told = []
        for field, head in enumerate(self.heads):
            conditions = batch.conditions[..., CONDITION_STARTS[field] : CONDITION_STARTS[field + 1]]
            logits = head(
                x,
                conditions.flatten(0, 1),  # (batch, rows, c) -> (batch * rows, c)
                batch.hints[:, :, field].flatten(0, 1),  # (batch, rows, hints) -> (batch * rows, hints)
                batch.trust[:, :, field].flatten(0, 1),
            )
            told.append(functional.log_softmax(logits, -1).reshape(size, rows, -1))
        return told


class Block(nn.Module):
    """Attention and feed-forward, each on the normed input and added to it."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.norm_attention = nn.Parameter(torch.ones(width))
        self.norm_inner = nn.Parameter(torch.ones(width))
        self.query_key_value = _weight(3 * width, width)
        self.out = _weight(width, width, 1.0 / (2 * shape.layers) ** 0.5)
        self.up = _weight(shape.inner, width)
        self.down = _weight(width, shape.inner, 1.0 / (2 * shape.layers) ** 0.5)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.dropout(self._attend(rms_norm(x, self.norm_attention), turns))
        inner = functional.gelu(functional.linear(rms_norm(x, self.norm_inner), self.up), approximate="tanh")
        changed: Tensor = self.dropout(functional.linear(inner, self.down))
        return x + changed

    def _attend(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        joined = functional.linear(x, self.query_key_value)
        # (batch, rows, 3 * width) -> (batch, rows, 3, heads, d) -> 3 x (batch, heads, rows, d)
        query, key, value = joined.reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(
            rotate(query, turns), rotate(key, turns), value, is_causal=True
        )
        # (batch, heads, rows, d) -> (batch, rows, heads, d) -> (batch, rows, width)
        return functional.linear(heard.transpose(1, 2).flatten(2), self.out)


class Head(nn.Module):
    """One field's logits from the trunk's vector, the field's conditions and its hints."""

    def __init__(self, shape: Shape, field: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(sum(CONDITIONS[field]), shape.head_width) * 0.02)
        self.mix = _weight(shape.head_width, shape.width)
        self.out = _weight(SIZES[field], shape.head_width)
        self.bias = nn.Parameter(torch.zeros(SIZES[field]))
        self.copy = nn.Parameter(0.4 * (torch.arange(TRUST) - 1.0).clamp_min(0).repeat(len(HINTS), 1))
        self.copy_mix = nn.Parameter(torch.zeros(len(HINTS), shape.head_width))
        self.starts: Tensor
        self.register_buffer("starts", _starts(CONDITIONS[field]), persistent=False)

    def forward(self, x: Tensor, conditions: Tensor, hints: Tensor, trust: Tensor) -> Tensor:
        told = functional.embedding_bag(conditions + self.starts, self.embedding, mode="sum")
        mixed = functional.gelu(functional.linear(x, self.mix) + told, approximate="tanh")
        logits = functional.linear(mixed, self.out, self.bias)
        kinds = torch.arange(len(HINTS), device=x.device)
        amount = self.copy[kinds, trust] + functional.linear(mixed, self.copy_mix)  # (lines, hints)
        return logits.scatter_add(1, hints.clamp_min(0), amount * (hints >= 0))


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """Zhang and Sennrich (2019)."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * gain


def rotation(rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every row's angles, each (rows, width / 2)."""
    speeds = ROPE_BASE ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(rows)[:, None] * speeds
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """The two halves of the last axis as plane vectors, turned by each row's angles."""
    first, second = x.chunk(2, -1)
    cos, sin = turns
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)


def bits(told: list[Tensor], targets: Tensor) -> Tensor:
    """Bits of each field of each row, (batch, rows, fields); 0 where a rest has no such field."""
    each = []
    for field, log_p in enumerate(told):
        target = targets[..., field]
        taken = log_p.gather(-1, target.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        each.append(-taken * (target >= 0))
    return torch.stack(each, -1) / 0.6931471805599453


def _weight(rows: int, columns: int, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * scale / columns**0.5)


def _starts(sizes: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *accumulate(sizes)][:-1])
