"""Promises of the htdemucs engine, with random weights: demucs' own output, per segment, from safe files alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge import audio, weights
from bridge.audio import Samples
from bridge.errors import Cancelled, ModelError
from bridge.separators import htdemucs
from bridge.stages.separate import separate_samples
from bridge.types import STEMS
from tests.song_a import RATE_HZ, Reports, true_stem

pytestmark = pytest.mark.real

FOUR = ["drums", "bass", "other", "vocals"]
SIX = [*FOUR, "guitar", "piano"]
SEGMENT = Fraction(39, 5)
TRUE_SIZE = {"dconv_mode": 3, "bottom_channels": 512, "segment": SEGMENT}  # as demucs/grids/mmi.py
SMALL = {"channels": 8, "bottom_channels": 32, "t_layers": 1, "t_heads": 2, "segment": 1}
"""The same class with segments of 1 s: a quick way through everything around the network."""


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    """No model from another test, and one thread: several wait for each other on a busy machine."""
    import torch

    htdemucs._load.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def put_weights(
    key: str,
    models_dir: Path,
    seed: int,
    *,
    sources: list[str] = FOUR,
    size: dict[str, Any] = SMALL,
    klass: str = "demucs.htdemucs.HTDemucs",
) -> None:
    """A file as the hub has it: half precision, class and arguments as JSON in the metadata."""
    import torch
    from demucs.htdemucs import HTDemucs
    from safetensors.torch import save

    torch.manual_seed(seed)
    kwargs = {"sources": sources, **size}
    model = HTDemucs(**kwargs)
    _as_if_trained(model)
    if size is TRUE_SIZE:
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 41.98
    as_json = json.dumps(kwargs, default=lambda f: {"_type": "fraction", "numerator": 39, "denominator": 5})
    metadata = {"klass": klass, "args": "[]", "kwargs": as_json}
    state = {name: value.half() for name, value in model.state_dict().items()}
    weights.keep(key, save(state, metadata), models_dir)


def _as_if_trained(model: Any) -> None:
    """Fresh networks scale their residual branches by 1e-4: no fault in one would be heard."""
    import torch

    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("scale"):
                value.uniform_(0.1, 0.5)
            elif "norm" in key or (".dconv." in key and value.dim() == 1):
                value.add_(torch.rand_like(value) - 0.5)


def put_model(name: str, models_dir: Path, size: dict[str, Any] = SMALL) -> None:
    for seed, file in enumerate(weights.find(name).files):
        put_weights(
            f"{name}/{file}", models_dir, seed, sources=SIX if name.endswith("6s") else FOUR, size=size
        )


def mix(seconds: float) -> Samples:
    total: Samples = np.sum([true_stem(stem, seconds) for stem in STEMS], axis=0, dtype=np.float32)
    return total


def ignore(done: float, total: float) -> None:
    """A report nobody reads."""


def demucs_own(
    name: str, models_dir: Path, bounce: Samples, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Samples]:
    """What demucs.api.Separator makes of the same files, whole bags as demucs builds them."""
    import demucs.api
    import torch
    from demucs.apply import BagOfModels
    from demucs.hf import load_safetensors_model

    loaded = [load_safetensors_model(models_dir / name / file) for file in weights.find(name).files]
    if name == "htdemucs_ft":
        loaded.insert(2, loaded[0])  # the specialist for `other`, whose output nobody looks at here
    table = [[float(i == k) for k in range(4)] for i in range(4)] if name == "htdemucs_ft" else None
    monkeypatch.setattr(demucs.api, "get_model", lambda name, repo: BagOfModels(loaded, table))
    _, stems = demucs.api.Separator(shifts=0).separate_tensor(torch.from_numpy(bounce))
    return {stem: sound.numpy() for stem, sound in stems.items()}


@pytest.mark.parametrize(
    ("name", "size", "seconds"),
    [
        ("htdemucs", TRUE_SIZE, 4.0),
        ("htdemucs", SMALL, 2.5),
        ("htdemucs_ft", SMALL, 1.5),
        ("htdemucs_6s", SMALL, 1.5),
    ],
)
def test_stems_are_demucs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: dict[str, Any], seconds: float
) -> None:
    put_model(name, tmp_path, size)
    bounce = mix(seconds)
    wanted = demucs_own(name, tmp_path, bounce, monkeypatch)
    stems = separate_samples(bounce, RATE_HZ, name, tmp_path, ignore)
    for stem in ("vocals", "drums", "bass"):
        assert audio.rms_db(wanted[stem] - stems[stem]) - audio.rms_db(wanted[stem]) <= -60.0
    total = np.sum([stems[stem] for stem in STEMS], axis=0, dtype=np.float32)
    assert audio.rms_db(total - bounce) - audio.rms_db(bounce) <= -90.0


@pytest.mark.parametrize(("rate_hz", "channels"), [(48_000, 2), (44_100, 1)])
def test_other_formats_are_kept_and_the_same_each_time(tmp_path: Path, rate_hz: int, channels: int) -> None:
    put_model("htdemucs", tmp_path)
    bounce = audio.resample(mix(1.5)[:channels], RATE_HZ, rate_hz)
    stems = separate_samples(bounce, rate_hz, "htdemucs", tmp_path, ignore)
    again = separate_samples(bounce, rate_hz, "htdemucs", tmp_path, ignore)
    total = np.sum([stems[stem] for stem in STEMS], axis=0, dtype=np.float32)
    assert total.shape == bounce.shape
    assert audio.rms_db(total - bounce) - audio.rms_db(bounce) <= -90.0
    assert all(np.array_equal(stems[stem], again[stem]) for stem in STEMS)


def test_every_segment_is_reported(tmp_path: Path) -> None:
    put_model("htdemucs_ft", tmp_path)
    reports = Reports()
    htdemucs.separate(mix(2.5), "htdemucs_ft", tmp_path, reports)
    segments = 3 * math.ceil(2.5 / 0.75)
    assert sorted(set(reports.seen)) == [(done, segments) for done in range(segments + 1)]
    assert [done for done, _ in reports.seen] == sorted(done for done, _ in reports.seen)


def test_it_can_be_cancelled_between_segments(tmp_path: Path) -> None:
    put_model("htdemucs", tmp_path)
    seen: list[float] = []

    def cancel(done: float, total: float) -> None:
        seen.append(done)
        if done == 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        htdemucs.separate(mix(2.5), "htdemucs", tmp_path, cancel)
    assert seen == [0, 1]


def test_a_file_that_names_another_class_is_refused(tmp_path: Path) -> None:
    key = "htdemucs/955717e8.safetensors"
    put_weights(key, tmp_path, 0, klass="subprocess.Popen")
    with pytest.raises(ModelError, match=r"955717e8.safetensors holds subprocess.Popen .*not an HTDemucs"):
        htdemucs.separate(mix(1.0), "htdemucs", tmp_path, ignore)


@pytest.mark.parametrize("damage", [lambda data: b"nonsense", lambda data: data[:-100]])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    put_model("htdemucs", tmp_path / "whole")
    key = "htdemucs/955717e8.safetensors"
    weights.keep(key, damage((tmp_path / "whole" / key).read_bytes()), tmp_path)
    with pytest.raises(ModelError, match=r"955717e8.safetensors is no HTDemucs that can be loaded"):
        htdemucs.separate(mix(1.0), "htdemucs", tmp_path, ignore)


def test_a_pickle_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "htdemucs"
    folder.mkdir()
    (folder / "955717e8-8726e21a.th").write_bytes(b"\x80\x02.")
    with pytest.raises(ModelError, match="htdemucs is not installed"):
        htdemucs.separate(mix(1.0), "htdemucs", tmp_path, ignore)


@pytest.mark.parametrize(
    "unlike", [{"t_norm_first": False}, {"norm_starts": 2}, {"dconv_mode": 3, "t_emb": "cape"}]
)
def test_a_network_of_another_make_is_computed_by_demucs_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unlike: dict[str, Any],
) -> None:
    put_model("htdemucs", tmp_path, SMALL | unlike)
    bounce = mix(1.5)
    wanted = demucs_own("htdemucs", tmp_path, bounce, monkeypatch)
    stems = separate_samples(bounce, RATE_HZ, "htdemucs", tmp_path, ignore)
    assert "computed by demucs itself" in caplog.text
    for stem in ("vocals", "drums", "bass"):
        assert audio.rms_db(wanted[stem] - stems[stem]) - audio.rms_db(wanted[stem]) <= -60.0


def test_two_segments_at_once_give_what_one_after_the_other_gives(tmp_path: Path) -> None:
    import torch

    put_model("htdemucs", tmp_path)
    bounce = mix(4.0)
    alone = htdemucs.separate(bounce, "htdemucs", tmp_path, ignore)
    torch.set_num_threads(2)
    together = htdemucs.separate(bounce, "htdemucs", tmp_path, ignore)
    assert torch.get_num_threads() == 2
    assert all(np.array_equal(alone[stem], together[stem]) for stem in alone)


def test_silence_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bridge.separators.htdemucs_network import Network

    put_model("htdemucs", tmp_path)
    bounce = mix(12.0)
    bounce[:, 3 * RATE_HZ : 10 * RATE_HZ] = 0.0
    wanted = demucs_own("htdemucs", tmp_path, bounce, monkeypatch)
    computed: list[int] = []
    own = Network.__call__

    def counted(self: Network, segment: Any) -> Any:
        computed.append(1)
        return own(self, segment)

    monkeypatch.setattr(Network, "__call__", counted)
    stems = htdemucs.separate(bounce, "htdemucs", tmp_path, ignore)
    assert len(computed) == 16 - 8  # nine whole segments of 1 s, one every 0.75 s, lie in those seven seconds
    for stem, sound in stems.items():
        assert audio.rms_db(wanted[stem] - sound) - audio.rms_db(wanted[stem]) <= -60.0
