"""What several tests share: one folder of unpacked weights, so that each need not unpack its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long it takes to make up an example tells of the machine, and of who else is busy on it, not of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# The tests start many processes: let the first one keep the bytecode it compiles, for all others.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that the first test to need it fills."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def dawbridge_home(tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of dawbridge, with the shared weights."""
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "data" / "models").symlink_to(models_dir, target_is_directory=True)
    monkeypatch.setenv("DAWBRIDGE_HOME", str(home))
    return home
