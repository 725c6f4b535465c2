"""`demo --live` plays for real, over JACK where it is, and its last line says how it went."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.midi import read_midi
from tests.jack import HAVE_JACK, jack_server
from tests.real import require_real


def demo(out: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--live", "--json", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.real
@pytest.mark.daw
@pytest.mark.usefixtures("dawbridge_home")
def test_three_phrases_get_three_replies_and_the_take_holds_both_players(tmp_path: Path) -> None:
    require_real(HAVE_JACK, "jackd (Debian package jackd2)")
    with jack_server():
        told = demo(tmp_path)
    assert told["api"] == "jack"
    assert isinstance(told["notes"], int) and told["notes"] > 0
    phrase, tempo = read_midi(Path(str(told["take"])))
    parts = {note.part for note in phrase.notes}
    assert "musician" in parts and len(parts) == 2
    assert sum(note.part == "musician" for note in phrase.notes) == 15
    assert abs(tempo.points[0].bpm - 112.0) < 0.01
    assert len(list((tmp_path / "live").glob("*reply*.mid"))) == 3
