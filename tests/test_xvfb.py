from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.real import require_real
from tests.x11_keys import press_keys
from tests.xvfb import virtual_display

OPENINGS = 100  # of a screen that starts anew when its last client leaves, one in ten is refused


@pytest.mark.real
def test_a_screen_takes_its_next_client_after_the_last_one_left(tmp_path: Path) -> None:
    require_real(bool(shutil.which("Xvfb")), "Xvfb: apt-get install xvfb")
    with virtual_display(tmp_path / "xvfb.log") as display:
        for _ in range(OPENINGS):
            assert not press_keys(display, "no such window", ())
