"""The daemon at login: each system gets a file it can read, ours alone is replaced or removed."""

from __future__ import annotations

import dataclasses
import plistlib
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.autostart import Machine, run_command, state_of, switch_off, switch_on
from bridge.errors import AutostartError

SYSTEMS = ("darwin", "linux", "win32")
FIRST = {
    "darwin": "launchctl load -w",
    "linux": "systemctl --user daemon-reload",
    "win32": "schtasks /Create",
}
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


class Runner:
    """Takes commands down; the first one may fail."""

    def __init__(self, status: int = 0) -> None:
        self.commands: list[str] = []
        self.status = status

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(" ".join(command))
        return self.status


def machine(tmp_path: Path, platform: str) -> Machine:
    home = tmp_path / 'My "home" 100% & co'
    return Machine(
        platform,
        home,
        home / ".config",
        home / "state",
        ("/opt/py thon/bin/python", "-m", "bridge", "run", "--json"),
        (("DAWBRIDGE_HOME", str(home)),),
    )


@pytest.mark.parametrize("platform", SYSTEMS)
def test_it_is_switched_on_and_off_again_and_leaves_nothing(tmp_path: Path, platform: str) -> None:
    here, runner = machine(tmp_path, platform), Runner()
    assert state_of(here) == "off"
    would = switch_on(here, runner, dry_run=True)
    assert state_of(here) == "off" and runner.commands == []
    assert switch_on(here, runner) == would
    assert state_of(here) == "on"
    assert runner.commands[0].startswith(FIRST[platform])
    switch_on(here, runner)  # again changes nothing
    moved = dataclasses.replace(here, command=("/new/python", "-m", "bridge", "run"))
    assert state_of(moved) == "changed"
    switch_on(moved, runner)
    assert state_of(moved) == "on"
    assert [step.action for step in switch_off(moved, runner)] == ["run", "remove"]
    assert state_of(here) == "off"
    assert [step.action for step in switch_off(here, runner)] == ["nothing"]
    assert [path for path in here.home.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("platform", SYSTEMS)
def test_a_file_that_is_not_ours_stays(tmp_path: Path, platform: str) -> None:
    here, runner = machine(tmp_path, platform), Runner()
    path = Path(switch_on(here, runner, dry_run=True)[0].what)
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    for switch in (switch_on, switch_off):
        with pytest.raises(AutostartError, match="was not written by dawbridge"):
            switch(here, runner)
    assert path.read_text() == "mine" and runner.commands == []
    assert state_of(here) == "foreign"


def test_a_system_that_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(AutostartError, match="daemon-reload` ended with 1"):
        switch_on(machine(tmp_path, "linux"), Runner(1))
    with pytest.raises(AutostartError, match="no way"):
        switch_on(machine(tmp_path, "aix"), Runner())


def test_the_plist_is_read_as_it_was_meant(tmp_path: Path) -> None:
    here = machine(tmp_path, "darwin")
    table = plistlib.loads(Path(switch_on(here, Runner())[0].what).read_bytes())
    assert table["ProgramArguments"] == list(here.command)
    assert table["EnvironmentVariables"]["DAWBRIDGE_HOME"] == str(here.home)
    assert table["RunAtLoad"] is True


def test_the_task_is_read_as_it_was_meant(tmp_path: Path) -> None:
    here = machine(tmp_path, "win32")
    task = ET.fromstring(Path(switch_on(here, Runner())[0].what).read_bytes())
    action = task.find(f"{TASK}Actions/{TASK}Exec")
    assert action is not None
    assert action.findtext(f"{TASK}Command") == "cmd.exe"
    arguments = action.findtext(f"{TASK}Arguments")
    assert arguments is not None and f'set "DAWBRIDGE_HOME={here.home}"' in arguments
    assert '"/opt/py thon/bin/python" -m bridge run --json' in arguments
    plain = dataclasses.replace(here, environment=())
    task = ET.fromstring(Path(switch_on(plain, Runner())[0].what).read_bytes())
    assert task.findtext(f"{TASK}Actions/{TASK}Exec/{TASK}Command") == "/opt/py thon/bin/python"


def test_systemd_itself_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    here = dataclasses.replace(machine(tmp_path, "linux"), command=("/bin/sh", "-c", "echo 100% $HOME"))
    path = Path(switch_on(here, Runner())[0].what)
    text = path.read_text()
    assert 'ExecStart="/bin/sh" "-c" "echo 100%% $$HOME"' in text
    assert '\\"home\\" 100%% & co"' in text
    if analyze is None:
        pytest.skip("no systemd-analyze here; the text was looked at")
    done = subprocess.run(
        [analyze, "verify", "--user", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    assert path.name not in done.stderr, done.stderr


def test_a_command_that_does_not_exist_fails_and_does_not_raise() -> None:
    assert run_command(["dawbridge-no-such-program"]) == 127
    assert run_command(["false"]) == 1
