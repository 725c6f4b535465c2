"""basic-pitch's network as onnxruntime runs it fastest: the same sums in the same order, in fuller vectors.

onnxruntime computes a convolution's output channels 8 or 16 at a time. Most of this network's convolutions give
one channel or eight, so that most of each vector is thrown away. Here such a convolution gives several neighbouring
frequencies (or samples) as channels of one wider convolution, which are then put back in their places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

VECTOR = 16  # channels that are computed together, at most
STEP_COST = 0.3  # of a step along the axis, in vectors: what it costs whatever the number of channels
LEAST_GAIN = 0.1
MOST_NEIGHBOURS = 32


def quick_network(path: Path) -> bytes:
    """The ONNX model of the file with its narrow convolutions widened; inputs and outputs are the same."""
    import onnx

    model: Any = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1  # one window at a time: all shapes are known
    shaped: Any = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*shaped.graph.value_info, *shaped.graph.input)
    }
    weights = {value.name: value for value in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Conv" and node.input[1] in weights:
            arrays = [onnx.numpy_helper.to_array(weights[name]) for name in node.input[1:]]
            _widen(model.graph, node, arrays, shapes[node.input[0]], shapes[node.output[0]])
    used = {name for node in model.graph.node for name in node.input}
    for value in list(model.graph.initializer):
        if value.name not in used:  # onnxruntime warns of each
            model.graph.initializer.remove(value)
    return cast(bytes, model.SerializeToString())


def _widen(graph: Any, node: Any, arrays: list[Any], shape: list[int], out_shape: list[int]) -> None:
    """Replace a convolution along its last axis, unless that gains too little."""
    given = {attribute.name: attribute for attribute in node.attribute}
    strides = list(given["strides"].ints) if "strides" in given else [1, 1]
    pads = list(given["pads"].ints) if "pads" in given else [0, 0, 0, 0]
    weight, *bias = arrays
    out, _, _, columns = weight.shape
    width = out_shape[3]
    costs = {count: _cost(count, out, width, columns, strides[1]) for count in range(1, MOST_NEIGHBOURS + 1)}
    count = min(costs, key=lambda count: costs[count])
    if weight.shape[1] != shape[1] or costs[count] > (1 - LEAST_GAIN) * costs[1]:
        return
    steps = -(-width // count)
    wide = np.zeros((count, *weight.shape[:3], columns + (count - 1) * strides[1]), np.float32)
    for place in range(count):
        wide[place, ..., place * strides[1] : place * strides[1] + columns] = weight
    seen = (steps - 1) * count * strides[1] + wide.shape[-1]
    pads[3] = max(0, seen - shape[3] - pads[1])
    constants = {"weight": wide.reshape(-1, *wide.shape[2:])}
    if bias:
        constants["bias"] = np.tile(bias[0], count)
    constants |= {
        "apart": np.array([1, count, -1]),
        "together": np.array([1, out, -1, steps * count]),
        "start": np.array([0]),
        "end": np.array([width]),
        "axis": np.array([3]),
    }
    _replace(graph, node, constants, [strides[0], count * strides[1]], pads, bool(bias))


def _cost(count: int, out: int, width: int, columns: int, stride: int) -> float:
    vectors = -(-count * out // VECTOR)
    return (vectors + STEP_COST) * -(-width // count) * (columns + (count - 1) * stride)


def _replace(
    graph: Any, node: Any, constants: dict[str, Any], strides: list[int], pads: list[int], has_bias: bool
) -> None:
    """One convolution, and neighbours from (count, rest) back to (rest, count), without those past the end."""
    from onnx import helper, numpy_helper

    key = node.output[0]
    names = {name: f"{key}/{name}" for name in constants}
    graph.initializer.extend(numpy_helper.from_array(value, names[name]) for name, value in constants.items())
    conv = [node.input[0], names["weight"], *([names["bias"]] if has_bias else [])]
    between = [f"{key}/{i}" for i in range(4)]
    new = [
        helper.make_node("Conv", conv, [between[0]], strides=strides, pads=pads),
        helper.make_node("Reshape", [between[0], names["apart"]], [between[1]]),
        helper.make_node("Transpose", [between[1]], [between[2]], perm=[0, 2, 1]),
        helper.make_node("Reshape", [between[2], names["together"]], [between[3]]),
        helper.make_node("Slice", [between[3], names["start"], names["end"], names["axis"]], [key]),
    ]
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, part in enumerate(new):
        graph.node.insert(place + offset, part)
