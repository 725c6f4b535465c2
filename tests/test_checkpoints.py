"""Checkpoints are whole or not there, and what was kept before is never lost to a new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge.errors import ModelError
from bridge.voices.checkpoints import clean, kept, read_voice, read_whole, save_checkpoint

VOICE = {"emb": torch.arange(6, dtype=torch.float32).reshape(2, 3)}
REST = {"d/w": torch.ones(4), "og/0/step": torch.tensor(3.0)}


def _folder(training: Path, epoch: int) -> Path:
    return training / "checkpoints" / f"{epoch:06d}"


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    made = save_checkpoint(tmp_path, 3, 1.25, VOICE, REST)
    assert kept(tmp_path) == [made]
    voice, rest = read_whole(tmp_path, made)
    assert torch.equal(voice["emb"], VOICE["emb"])
    assert torch.equal(rest["og/0/step"], REST["og/0/step"])


@pytest.mark.parametrize("name", ["voice.safetensors", "rest.safetensors"])
@pytest.mark.parametrize("keep", [0, 20, -1])
def test_a_file_that_was_cut_off_is_known_for_what_it_is(tmp_path: Path, name: str, keep: int) -> None:
    made = save_checkpoint(tmp_path, 3, 1.25, VOICE, REST)
    path = _folder(tmp_path, 3) / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="damaged or cut off"):
        read_whole(tmp_path, made)


def test_without_its_record_a_checkpoint_is_not_there(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, 1.25, VOICE, REST)
    save_checkpoint(tmp_path, 4, 1.0, VOICE, REST)
    (_folder(tmp_path, 4) / "checkpoint.json").write_text('{"epoch": 4')
    assert [checkpoint.epoch for checkpoint in kept(tmp_path)] == [3]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_full_disk_takes_nothing_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before = save_checkpoint(tmp_path, 3, 1.25, VOICE, REST)
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, 4, 1.0, VOICE, REST)
    monkeypatch.undo()
    assert kept(tmp_path) == [before]
    assert not _folder(tmp_path, 4).exists()
    read_whole(tmp_path, before)


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    for epoch, distance in enumerate([3.0, 1.0, 2.0, 2.5, 2.6]):
        save_checkpoint(tmp_path, epoch, distance, VOICE, REST)
    clean(tmp_path, best_epoch=1, to_listen_to=())
    assert [checkpoint.epoch for checkpoint in kept(tmp_path)] == [1, 3, 4]
    best: Any = kept(tmp_path)[0]
    assert read_voice(tmp_path, best)  # to sing with, not to train on
    assert not (_folder(tmp_path, 1) / "rest.safetensors").exists()
