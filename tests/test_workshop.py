"""Taking a file up: what the sidecar, the folder and the command line say, and who wins."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.config import folders
from bridge.errors import InputError, PresetError
from bridge.intake import free
from bridge.sidecar import Sidecar, sidecar_path, write_sidecar
from bridge.types import Job
from bridge.workshop import open_workshop, revise, take_up

RATE_HZ = 44_100


@pytest.fixture
def song(dawbridge_home: Path, tmp_path: Path) -> Path:
    path = tmp_path / "Song.wav"
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(RATE_HZ) / RATE_HZ)
    soundfile.write(path, np.stack([tone, tone], axis=1), RATE_HZ)
    return path


def take(song: Path, **arguments: Any) -> Job:
    async def go() -> Job:
        async with open_workshop(folders(), inline=True) as shop:
            return take_up(song, shop, outbox=song.parent / "out", **{"preset": "offline"} | arguments)

    return asyncio.run(go())


def test_the_same_file_the_same_way_is_the_same_job(song: Path) -> None:
    assert take(song).id == take(song).id


@pytest.mark.parametrize(
    "arguments",
    [{"preset": "stems-only"}, {"role": "bass"}, {"overrides": {"mix": {"target_lufs": -9.0}}}],
    ids=["preset", "role", "setting"],
)
def test_anything_that_changes_the_result_makes_another_job(
    song: Path, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert take(song, **arguments).id != take(song).id


def test_a_copy_that_another_take_needs_outlives_the_end_of_the_first(song: Path) -> None:
    """Between the look whether it is there and the row of the other take it belongs to no job."""

    async def go() -> tuple[Job, Job]:
        async with open_workshop(folders(), inline=True) as shop:
            first = take_up(song, shop, outbox=song.parent / "out", preset="offline")
            shop.ledger.add_job(first, song)
            stored = shop.ledger.stored(first.id)
            assert stored is not None
            return first, revise(stored, shop, overrides={"mix": {"target_lufs": -9.0}})

    first, second = asyncio.run(go())
    free(second.bounce.path, first.created_at, keep=[])
    assert second.bounce.path.exists()
    free(second.bounce.path, second.created_at, keep=[])
    assert not second.bounce.path.exists()


def test_the_sidecar_names_preset_voice_and_role(song: Path) -> None:
    write_sidecar(song, Sidecar(role="vocals", preset="offline", voice="giant"))
    job = take(song, preset="midi-only")
    assert (job.preset.name, job.bounce.role) == ("offline", "vocals")
    assert job.preset.settings["convert"].voice == "giant"


def test_the_command_line_wins_over_the_sidecar(song: Path) -> None:
    write_sidecar(song, Sidecar(role="vocals", voice="giant"))
    job = take(song, role="mix", overrides={"convert": {"voice": "deep"}})
    assert (job.bounce.role, job.preset.settings["convert"].voice) == ("mix", "deep")


def test_a_sidecar_that_asks_for_nonsense_is_a_warning_and_the_bounce_is_done(song: Path) -> None:
    write_sidecar(song, Sidecar(preset="nosuch"))
    job = take(song)
    assert job.preset.name == "offline"
    assert any("nosuch" in warning for warning in job.warnings)
    sidecar_path(song).write_text("no JSON at all")
    assert any("JSON" in warning for warning in take(song).warnings)


def test_an_unreachable_model_falls_back_once_and_says_so(
    song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    job = take(song, preset="default")
    assert job.preset.settings["separate"].engine == "spleeter"
    (fallback,) = job.fallbacks
    assert (fallback.stage, fallback.wanted, fallback.used) == ("separate", "htdemucs", "spleeter")
    assert fallback.reason


def test_a_wrong_preset_or_file_is_told_before_anything_is_kept(song: Path) -> None:
    with pytest.raises(PresetError, match="nosuch"):
        take(song, preset="nosuch")
    with pytest.raises(InputError, match="does not exist"):
        take(song.with_name("gone.wav"))
