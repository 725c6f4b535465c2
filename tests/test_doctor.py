"""The doctor names what would keep `dawbridge run` from doing what the configuration asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import doctor
from bridge.config import Config, WatchConfig, folders
from bridge.errors import MidiError
from bridge.live.probe import Probe
from bridge.livehost.delays import delay_ms
from tests.jack import HAVE_JACK, jack_server
from tests.real import require_real


@pytest.mark.usefixtures("dawbridge_home")
def test_a_watched_folder_whose_preset_does_not_exist_is_told_with_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_midi", list)  # starts a process
    config = Config(tmp_path, (WatchConfig(tmp_path, "defualt"), WatchConfig(tmp_path / "b", "offline")))
    findings = {finding.what: finding for finding in doctor.examine(config, folders())}
    found = findings["preset defualt"]
    assert (found.verdict, found.remedy) == ("missing", "dawbridge presets")
    assert "'defualt'" in found.detail and "'default'" in found.detail
    assert findings["preset offline"].verdict == "ok"


@pytest.mark.real
@pytest.mark.daw
@pytest.mark.usefixtures("dawbridge_home")
def test_the_loop_test_measures_the_way_out_and_back_and_remembers_half_of_it() -> None:
    require_real(HAVE_JACK, "jackd (Debian package jackd2)")
    with jack_server(period=256):
        findings = {finding.what: finding for finding in doctor.examine_loop(folders(), "", "")}
        with pytest.raises(MidiError, match='no port to send to whose name holds "no such port"'):
            doctor.examine_loop(folders(), "", "no such port")
    assert "0 of 192 ticks lost" in findings["round trip"].detail
    assert 0.0 < delay_ms(folders(), "") < 50.0
    assert delay_ms(folders(), "another port") == 0.0


def test_without_a_midi_system_the_doctor_says_what_is_limited_and_what_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_works() -> Probe:
        raise MidiError("No MIDI system works here.")

    monkeypatch.setattr(doctor, "choose_api", none_works)
    [finding] = doctor._midi()
    assert finding.verdict == "limited" and "Files work, live ports do not" in finding.detail


def test_on_windows_a_missing_loopback_pair_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Probe("winmm", True, ("dawbridge In 1",), ("Microsoft GS Wavetable Synth",))
    monkeypatch.setattr(doctor, "choose_api", lambda: found)
    findings = {finding.what: finding for finding in doctor._midi()}
    assert findings["port dawbridge In"].verdict == "ok"
    assert findings["port dawbridge Out"].remedy == 'make a loopMIDI port called "dawbridge Out"'
