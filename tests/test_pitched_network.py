"""Promises of the transcriber's network: what basic-pitch's own file gives, silence and threads included."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from bridge.transcribers import pitched
from bridge.transcribers.pitched_network import quick_network
from tests.song_a import RATE_HZ, true_stem

pytestmark = pytest.mark.real

OUTPUTS = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]


def mono(seconds: float) -> pitched.Array:
    from bridge.audio import resample, to_mono

    return resample(to_mono(true_stem("other", seconds)), RATE_HZ, pitched.RATE_HZ)


def ignore(done: float, total: float) -> None:
    """A report nobody reads."""


def test_it_gives_what_the_file_gives() -> None:
    path = pitched._model_path()
    networks = [
        onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
        for given in (path, quick_network(path))
    ]
    window = mono(4.0)[:, : pitched.WINDOW, np.newaxis]
    plain, quick = (network.run(OUTPUTS, {"serving_default_input_2:0": window}) for network in networks)
    assert max(plain[0].max(), plain[1].max()) > 0.5  # something is heard
    for wanted, got in zip(plain, quick, strict=True):
        assert np.abs(wanted - got).max() < 1e-5


def test_most_of_its_convolutions_are_wide() -> None:
    import onnx

    model = onnx.load_from_string(quick_network(pitched._model_path()))
    sizes = {value.name: value.dims for value in model.graph.initializer}
    channels = [sizes[node.input[1]][0] for node in model.graph.node if node.op_type == "Conv"]
    assert min(channels) >= 8
    assert len(channels) >= 30


def test_a_silent_window_is_heard_as_the_network_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = mono(9.0)
    samples[:, 2 * pitched.RATE_HZ : 8 * pitched.RATE_HZ] = 0.0
    calls = 0
    hear = pitched._hear

    def counted(window: pitched.Array) -> tuple[pitched.Array, pitched.Array]:
        nonlocal calls
        calls += 1
        return hear(window)

    pitched._silence.cache_clear()
    monkeypatch.setattr(pitched, "_hear", counted)
    heard = pitched.posteriorgrams(samples, ignore)
    assert calls == 4 + 1  # of six windows two lie in the silence, which is heard once
    monkeypatch.setattr(pitched, "_silence", lambda: hear(np.zeros(pitched.WINDOW, np.float32)))
    again = pitched.posteriorgrams(samples, ignore)
    assert np.array_equal(heard.note, again.note)
    assert np.array_equal(heard.onset, again.onset)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    for threads in ("1", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        heard.append(pitched.posteriorgrams(mono(8.0), ignore))
    assert np.array_equal(heard[0].note, heard[1].note)
    assert np.array_equal(heard[0].seconds, heard[1].seconds)
