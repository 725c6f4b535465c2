"""The doctor names what would keep `dawbridge run` from doing what the configuration asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import doctor
from bridge.config import Config, WatchConfig, folders


@pytest.mark.usefixtures("dawbridge_home")
def test_a_watched_folder_whose_preset_does_not_exist_is_told_with_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_midi", lambda: doctor.Finding("MIDI", "ok", ""))  # starts a process
    config = Config(tmp_path, (WatchConfig(tmp_path, "defualt"), WatchConfig(tmp_path / "b", "offline")))
    findings = {finding.what: finding for finding in doctor.examine(config, folders())}
    found = findings["preset defualt"]
    assert (found.verdict, found.remedy) == ("missing", "dawbridge presets")
    assert "'defualt'" in found.detail and "'default'" in found.detail
    assert findings["preset offline"].verdict == "ok"
