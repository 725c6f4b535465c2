"""Content encoders: a row every 20 ms, from files that are held to their digest, and a clear word where one is missing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge import weights
from bridge.audio import Samples
from bridge.errors import ModelError
from bridge.voices import encoders
from bridge.voices.encoders import Encoder, open_encoder
from tests.tiny_voice import put_encoder

pytestmark = pytest.mark.real


def sound(seconds: float) -> Samples:
    return (np.random.default_rng(0).standard_normal(round(seconds * 16_000)) * 0.1).astype(np.float32)


def test_a_local_folder_serves_with_a_row_for_each_20_ms(tmp_path: Path) -> None:
    folder = put_encoder(tmp_path / "here")
    projected = open_encoder("content-vec-best", tmp_path, folder=folder, final_proj=True)
    last = open_encoder("content-vec-best", tmp_path, folder=folder, final_proj=False)
    assert projected.dims == 256 and last.dims == 32
    assert projected.sha256 == last.sha256 != ""
    for seconds, rows in ((1.0, 50), (1.005, 51), (0.01, 1)):
        assert projected(sound(seconds)).shape == (rows, 256)
        assert last(sound(seconds)).dtype == np.float32
    assert np.array_equal(last(sound(0.5)), last(sound(0.5)))


def test_it_hears_what_the_package_hears(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import HubertConfig

    from bridge.voices.sovits import package

    package()
    from so_vits_svc_fork import utils

    folder = put_encoder(tmp_path / "here", layers=11)
    sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    build: Any = utils.HubertModelWithFinalProj
    theirs = build(HubertConfig(**sizes, classifier_proj_size=256))
    theirs.eval()
    theirs.load_state_dict(load_file(folder / "model.safetensors"))
    heard = sound(1.0)
    padded = torch.from_numpy(np.pad(heard, (0, 80)))
    for final_proj in (True, False):
        ours = open_encoder("content-vec-best", tmp_path, folder=folder, final_proj=final_proj)(heard)
        with pytest.warns(UserWarning, match="legacy_final_proj") if final_proj else contextlib.nullcontext():
            wanted = utils.get_content(theirs, padded, "cpu", 16_000, final_proj)[0].T.numpy()
        assert wanted.shape == ours.shape
        assert np.abs(ours - wanted).max() < 1e-5


def test_a_file_with_the_names_of_older_versions_is_the_same(tmp_path: Path) -> None:
    new = open_encoder("content-vec-best", tmp_path, folder=put_encoder(tmp_path / "new"), final_proj=True)
    old_folder = put_encoder(tmp_path / "old", old_names=True)
    old = open_encoder("content-vec-best", tmp_path, folder=old_folder, final_proj=True)
    assert np.array_equal(new(sound(0.5)), old(sound(0.5)))


def test_long_sounds_are_heard_in_parts_that_fit_together() -> None:
    seen: list[int] = []

    def count(samples: Samples) -> Samples:
        seen.append(samples.size)
        return samples[::320, None].repeat(2, axis=1)

    heard = np.arange(50 * 16_000 + 7, dtype=np.float32)
    found = Encoder("test", 2, "", count)(heard)
    assert len(seen) == 3 and max(seen) <= 21 * 16_000
    assert np.array_equal(found[:, 0], heard[::320])


def test_a_missing_encoder_names_the_one_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Run `dawbridge models fetch content-vec-best`") as missing:
        open_encoder("content-vec-best", tmp_path)
    assert missing.value.code == "model_missing"
    with pytest.raises(ModelError, match=r"nowhere/model.safetensors is missing. Put the encoder there"):
        open_encoder("content-vec-best", tmp_path, folder=tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"no content encoder 'nonsense'. Use one of: content-vec-best"):
        open_encoder("nonsense", tmp_path)


def test_an_encoder_among_the_models_is_held_to_its_digest(tmp_path: Path) -> None:
    data = (put_encoder(tmp_path / "made") / "model.safetensors").read_bytes()
    path = weights.keep("content-vec-best/model.safetensors", data, tmp_path)
    path.write_bytes(data[:-1] + b"\1")
    with pytest.raises(ModelError, match=r"content-vec-best/model.safetensors has the digest"):
        open_encoder("content-vec-best", tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("hidden_size", 10**9, "hidden_size = 1000000000 is out of range"),
        ("conv_dim", [16], "out of bounds"),
        ("conv_dim", [10**9] * 7, "out of bounds"),
        ("conv_stride", [5, 2, 2, 2, 2, 2, 1], "must come to 320 frames"),
        ("intermediate_size", 64, "is no HuBERT of these sizes"),
        ("num_hidden_layers", 4, "4 layers; the voice needs 9"),
    ],
)
def test_sizes_that_make_no_sense_are_told(tmp_path: Path, key: str, value: object, reason: str) -> None:
    folder = put_encoder(tmp_path / "here")
    sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(sizes | {key: value}), encoding="utf-8")
    with pytest.raises(ModelError) as told:
        open_encoder("content-vec-best", tmp_path, folder=folder, final_proj=True)
    assert reason in told.value.message


def test_whisper_needs_nothing_downloaded(tmp_path: Path) -> None:
    whisper = open_encoder("whisper-tiny-en", tmp_path)
    assert whisper.dims == 384 and whisper.sha256 == weights.refs("whisper-tiny-en", tmp_path)[0].sha256
    found = whisper(sound(2.01))
    assert found.shape == (101, 384) and np.isfinite(found).all() and found.std() > 0.1
    assert np.array_equal(found, whisper(sound(2.01)))


def test_without_its_package_whisper_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    encoders._whisper.cache_clear()
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(
        ModelError, match=r"needs the package ctranslate2. Run `pip install 'dawbridge\[whisper\]'`"
    ):
        open_encoder("whisper-tiny-en", tmp_path)


def test_the_table_tells_dimensions_without_loading_anything() -> None:
    assert encoders.dims_of("content-vec-best", final_proj=True) == 256
    assert encoders.dims_of("content-vec-best", final_proj=False) == 768
    assert encoders.dims_of("whisper-tiny-en", final_proj=False) == 384
