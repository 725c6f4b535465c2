"""Which MIDI system is used: the first that works, asked where a hang does no harm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bridge.errors import MidiError
from bridge.live import probe as probe_module
from bridge.live.ports import find_port, what_port_is
from bridge.live.probe import Probe, choose_api, probe


def interpreter(folder: Path, script: str) -> str:
    """A stand-in for the Python that asks."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the interpreter")
@pytest.mark.parametrize(
    ("script", "why"),
    [("exec sleep 30", "it gave no answer within 0.5 s"), ("exit 139", "asking it crashed (exit 139)")],
)
def test_a_system_that_hangs_or_crashes_is_named_and_the_others_are_still_asked(
    script: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, script))
    found = probe(("jack", "alsa"), timeout_s=0.5)
    assert [(one.api, one.works, one.why) for one in found] == [("jack", False, why), ("alsa", False, why)]


def test_an_api_that_this_build_does_not_know_is_told() -> None:
    [found] = probe(("winmm" if sys.platform != "win32" else "alsa",))
    assert not found.works and "does not know it" in found.why


def test_the_first_system_that_works_is_chosen_and_a_wanted_one_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {"jack": Probe("jack", False, why="no server"), "alsa": Probe("alsa", True, ("Midi Through",))}
    monkeypatch.setattr(probe_module, "platform_apis", lambda: ("jack", "alsa"))
    monkeypatch.setattr(probe_module, "probe", lambda apis, _: tuple(answers[api] for api in apis))
    assert choose_api().api == "alsa"
    with pytest.raises(MidiError, match=r"JACK: no server\)\. To get one: start a JACK server"):
        choose_api("jack")


def test_a_port_is_found_by_its_name_or_a_part_of_it_whatever_the_case() -> None:
    names = ["Midi Through:0", "Keystation 49:Port 1", "Keystation"]
    assert find_port("Keystation", names) == 2
    assert find_port("keystation 49", names) == 1
    assert find_port("Launchpad", names) is None


def test_our_own_ports_say_what_to_do_with_them() -> None:
    assert "send the DAW's MIDI and clock here" in what_port_is("dawbridge-01:dawbridge In")
    assert "receive this on a MIDI track" in what_port_is("dawbridge:dawbridge Out")
    assert what_port_is("ardour:MIDI Clock out") == "a MIDI clock"
