"""Presets: the shipped ones are whole, and a mistake in one's own is told before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import folders, shipped
from bridge.errors import PresetError, UsageError
from bridge.presets import (
    build_preset,
    load_preset,
    parse_overrides,
    preset_description,
    preset_files,
    settings_tables,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAWBRIDGE_HOME", str(tmp_path))
    return tmp_path


def own_preset(text: str) -> None:
    folders().presets.mkdir(parents=True)
    (folders().presets / "mine.toml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        (
            "default",
            [
                "separate",
                "analyse",
                "transcribe",
                "generate",
                "convert",
                "effects",
                "mix",
                "report",
                "export",
            ],
        ),
        (
            "offline",
            [
                "separate",
                "analyse",
                "transcribe",
                "generate",
                "convert",
                "effects",
                "mix",
                "report",
                "export",
            ],
        ),
        ("stems-only", ["separate", "analyse", "export"]),
        ("midi-only", ["separate", "analyse", "transcribe", "export"]),
    ],
)
def test_a_shipped_preset_runs_what_its_name_says(name: str, stages: list[str]) -> None:
    assert list(load_preset(name).settings) == stages


def test_every_line_of_a_shipped_preset_says_what_it_does() -> None:
    for path in shipped("presets").glob("*.toml"):
        assert preset_description(path), path
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not line.strip() or line.startswith("description") or "#" in line, f"{path.name}: {line}"


def test_offline_needs_nothing_to_download() -> None:
    assert load_preset("offline").settings["separate"].engine == "spleeter"


def test_ones_own_preset_wins_over_a_shipped_one_of_the_same_name() -> None:
    folders().presets.mkdir(parents=True)
    (folders().presets / "offline.toml").write_text("[analyse]\n", encoding="utf-8")
    assert preset_files()["offline"].is_relative_to(folders().presets)
    assert list(load_preset("offline").settings) == ["analyse", "export"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[seperate]\n", "unknown stage [seperate]"),
        ("[separate]\nengin = 'spleeter'\n", "unknown key 'engin'. Did you mean 'engine'?"),
        ("[separate]\nengine = 'magic'\n", "engine = 'magic' must be one of"),
        ("[mix]\ntarget_lufs = 3.0\n", "target_lufs = 3.0 is out of range"),
        ("[effects]\nchain = 'nowhere'\n", "There is no effect chain 'nowhere'"),
        ("mix = 3\n", "mix = 3 must be a table"),
        ("[mix\n", "not valid TOML"),
        ("[mix]\n", "[mix] needs stems. Add [separate]"),
        ("[separate]\n[transcribe]\n", "[transcribe] needs grid. Add [analyse]"),
        ("", "it runs no stage"),
        ("[report]\n", "it runs no stage"),
    ],
)
def test_a_mistake_is_told_with_file_key_and_value(text: str, says: str) -> None:
    own_preset(text)
    with pytest.raises(PresetError) as caught:
        load_preset("mine")
    assert says in caught.value.message


def test_an_unknown_preset_is_told_with_the_nearest_name() -> None:
    with pytest.raises(PresetError, match=r"no preset 'ofline'\. Did you mean 'offline'"):
        load_preset("ofline")


def test_a_setting_from_the_command_line_lies_over_the_preset() -> None:
    overrides = parse_overrides(["analyse.bpm=152", "mix.target_lufs=-9", "convert.voice=giant"])
    settings = load_preset("offline", overrides).settings
    assert settings["analyse"].bpm == 152.0
    assert settings["mix"].target_lufs == -9.0
    assert settings["convert"].voice == "giant"


@pytest.mark.parametrize(
    ("pair", "error", "says"),
    [
        ("analyse.bpm", UsageError, "must look like stage.key=value"),
        ("bpm=3", UsageError, "must look like stage.key=value"),
        ("analyse.bpm=fast", PresetError, "--set analyse: bpm = 'fast' must be a number"),
        ("analyse.bpn=3", PresetError, "--set analyse: unknown key 'bpn'. Did you mean 'bpm'?"),
        ("cook.time=3", PresetError, "there is no stage 'cook'"),
    ],
)
def test_a_wrong_setting_on_the_command_line_is_told(pair: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        load_preset("offline", parse_overrides([pair]))
    assert says in str(caught.value)


def test_export_runs_in_every_preset_and_can_be_set() -> None:
    assert load_preset("offline", parse_overrides(["export.audio=false"])).settings["export"].audio is False


def test_a_setting_for_a_stage_that_does_not_run_is_told() -> None:
    with pytest.raises(PresetError, match="does not run mix"):
        load_preset("stems-only", {"mix": {"target_lufs": -9.0}})


def test_a_preset_can_be_made_again_from_its_tables() -> None:
    preset = load_preset("offline")
    assert build_preset("offline", settings_tables(preset), "ledger", {}) == preset
