"""The network in numpy, one row at a time with a cache of keys and values: what plays, in the light processes.

Measured against torch and onnxruntime on one CPU thread it is the smallest and nearly the fastest
(the model card has the table). It agrees with `network.py` to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from bridge.transformer.columns import CONDITION_STARTS, Columns
from bridge.transformer.recall import CONDITIONS, HINTS, INPUTS, Hint
from bridge.transformer.saved import Arrays, Shape
from bridge.transformer.tokens import FIELDS

Floats = npt.NDArray[np.float32]
ROPE_BASE = 10_000.0
_INPUT_STARTS = np.array([0, *accumulate(INPUTS)][:-1])
_CONDITION_STARTS = [np.array([0, *accumulate(sizes)][:-1]) for sizes in CONDITIONS]


class Decoder:
    """The weights, ready to play; shared by any number of `Memory`s."""

    def __init__(self, arrays: Arrays, shape: Shape) -> None:
        self.shape = shape
        self.embedding = arrays["embedding"]
        self.norm = arrays["norm"]
        self.blocks = [
            {name: arrays[f"blocks.{index}.{name}"] for name in _BLOCK} for index in range(shape.layers)
        ]
        self.heads = [
            {name: arrays[f"heads.{index}.{name}"] for name in _HEAD} for index in range(len(FIELDS))
        ]

    def logits(self, heard: Floats, field: int, conditions: Sequence[int], hints: Sequence[Hint]) -> Floats:
        """(values,) of one field, from a memory's last vector and what the listener says."""
        head = self.heads[field]
        told = head["embedding"][_CONDITION_STARTS[field] + conditions].sum(0)
        mixed = _gelu(head["mix"] @ heard + told)
        logits: Floats = head["out"] @ mixed + head["bias"]
        amounts = head["copy_mix"] @ mixed
        for kind, (value, trust) in enumerate(hints):
            if value >= 0:
                logits[value] += head["copy"][kind, trust] + amounts[kind]
        return logits

    def log_probabilities(self, columns: Columns, field: int, heard: Floats) -> Floats:
        """(rows, values) of one field for a whole piece, from `Memory.hear_all`'s (rows, width)."""
        head = self.heads[field]
        conditions = columns.conditions[:, CONDITION_STARTS[field] : CONDITION_STARTS[field + 1]]
        told = head["embedding"][conditions + _CONDITION_STARTS[field]].sum(1)  # (rows, c, w) -> (rows, w)
        mixed = _gelu(heard @ head["mix"].T + told)
        logits: Floats = mixed @ head["out"].T + head["bias"]
        hints, trust = columns.hints[:, field], columns.trust[:, field]
        amounts = head["copy"][np.arange(len(HINTS)), trust] + mixed @ head["copy_mix"].T
        np.add.at(logits, (np.arange(len(hints))[:, None], np.maximum(hints, 0)), amounts * (hints >= 0))
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        return logits


class Memory:
    """One piece's keys and values, growing row by row up to `context` rows; then the older half is dropped."""

    def __init__(self, decoder: Decoder) -> None:
        shape = decoder.shape
        self._decoder = decoder
        width = shape.width // shape.heads
        size = (shape.layers, shape.heads, shape.context, width)
        self._keys = np.zeros(size, np.float32)
        self._values = np.zeros(size, np.float32)
        self._inputs: list[tuple[int, ...]] = []  # of the rows in the cache
        speeds = ROPE_BASE ** (-np.arange(0, width, 2) / width)
        angles = np.arange(shape.context)[:, None] * speeds
        self._cos, self._sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def hear(self, inputs: tuple[int, ...]) -> Floats:
        """Take one row in; the trunk's vector (width,) for what comes next."""
        heard: Floats = self.hear_all([inputs])[-1]
        return heard

    def hear_all(self, inputs: Sequence[tuple[int, ...]]) -> Floats:
        """Take several rows in at once; the trunk's vectors, (rows, width).

        When the cache is full, its younger half is heard anew: positions count from the window's first row,
        as they did in training.
        """
        heard: list[Floats] = []
        waiting = list(inputs)
        while waiting:
            context = self._decoder.shape.context
            if len(self._inputs) == context:
                self._forget_older_half()
            room = context - len(self._inputs)
            heard.append(self._extend(waiting[:room]))
            waiting = waiting[room:]
        return np.concatenate(heard) if heard else np.zeros((0, self._decoder.shape.width), np.float32)

    def fork(self) -> Memory:
        """Another piece that began as this one; the two go on apart. A copy of what is held, 1 to 2 ms."""
        other = copy.copy(self)
        held = len(self._inputs)
        other._inputs = list(self._inputs)
        other._keys, other._values = np.empty_like(self._keys), np.empty_like(self._values)
        other._keys[:, :, :held] = self._keys[:, :, :held]
        other._values[:, :, :held] = self._values[:, :, :held]
        return other

    def make_room(self, rows: int) -> None:
        """Drop the older half now, if fewer than `rows` fit in yet, rather than when they come."""
        if self._decoder.shape.context - len(self._inputs) < rows:
            self._forget_older_half()

    def _forget_older_half(self) -> None:
        kept = self._inputs[self._decoder.shape.context // 2 :]
        self._inputs = []
        self._extend(kept)

    def _extend(self, inputs: list[tuple[int, ...]]) -> Floats:
        first, last = len(self._inputs), len(self._inputs) + len(inputs)
        self._inputs += inputs
        x: Floats = self._decoder.embedding[np.array(inputs) + _INPUT_STARTS].sum(
            1
        )  # (rows, c, w) -> (rows, w)
        for layer, block in enumerate(self._decoder.blocks):
            x = (
                x
                + self._attend(_rms_norm(x, block["norm_attention"]), block, layer, first, last)
                @ block["out"].T
            )
            inner = _gelu(_rms_norm(x, block["norm_inner"]) @ block["up"].T)
            x = x + inner @ block["down"].T
        return _rms_norm(x, self._decoder.norm)

    def _attend(self, x: Floats, block: Arrays, layer: int, first: int, last: int) -> Floats:
        heads = self._decoder.shape.heads
        joined = x @ block["query_key_value"].T
        # (rows, 3 * width) -> (rows, 3, heads, d) -> 3 x (heads, rows, d)
        query, key, value = joined.reshape(len(x), 3, heads, -1).transpose(1, 2, 0, 3)
        cos, sin = self._cos[first:last], self._sin[first:last]
        self._keys[layer, :, first:last] = _rotate(key, cos, sin)
        self._values[layer, :, first:last] = value
        keys, values = self._keys[layer, :, :last], self._values[layer, :, :last]
        scores = _rotate(query, cos, sin) @ keys.transpose(0, 2, 1) / np.float32(np.sqrt(query.shape[-1]))
        if last - first > 1:
            scores += np.triu(np.full((last - first, last), -np.inf, np.float32), first + 1)
        scores -= scores.max(-1, keepdims=True)
        weights = np.exp(scores)
        weights /= weights.sum(-1, keepdims=True)
        # (heads, rows, d) -> (rows, heads, d) -> (rows, width)
        heard: Floats = (weights @ values).transpose(1, 0, 2).reshape(len(x), -1)
        return heard


_BLOCK = ("norm_attention", "norm_inner", "query_key_value", "out", "up", "down")
_HEAD = ("embedding", "mix", "out", "bias", "copy", "copy_mix")


def _rms_norm(x: Floats, gain: Floats) -> Floats:
    normed: Floats = x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + np.float32(1e-6)) * gain
    return normed


def _gelu(x: Floats) -> Floats:
    """The tanh form (Hendrycks and Gimpel, 2016)."""
    bent: Floats = np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x))
    return np.float32(0.5) * x * (1 + bent)


def _rotate(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Rows of (heads, rows, d) turned by their angles; the halves of the last axis are plane vectors."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate((first * cos - second * sin, first * sin + second * cos), -1)
