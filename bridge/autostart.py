"""The daemon at login: a launchd agent on macOS, a systemd user unit on Linux, a task on Windows.

Only a file that says that dawbridge wrote it is ever replaced or removed. Switching off also ends the daemon that
was started this way. Nothing needs administrator rights.
"""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from bridge.atomic import replacing
from bridge.config import Folders
from bridge.errors import AutostartError

State = Literal["on", "off", "changed", "foreign"]

SIGN = "written by dawbridge autostart"
LABEL = "dawbridge"
COMMAND_S = 30.0

Run = Callable[[Sequence[str]], int]
"""Runs a command and gives its exit status."""


@dataclass(frozen=True)
class Machine:
    """Where we are, and how the daemon is started here."""

    platform: str  # as sys.platform
    home: Path
    config_home: Path  # $XDG_CONFIG_HOME
    state: Path  # dawbridge's own
    command: tuple[str, ...]  # what runs the daemon
    environment: tuple[tuple[str, str], ...]  # what it must know, DAWBRIDGE_HOME above all


@dataclass(frozen=True)
class Way:
    """How one system starts a program at login."""

    path: Callable[[Machine], Path]
    text: Callable[[Machine], str]
    on: Callable[[Path], tuple[tuple[str, ...], ...]]  # commands after the file is written
    off: Callable[[Path], tuple[tuple[str, ...], ...]]  # commands before it is removed
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Step:
    """One thing that was done, or would be."""

    action: Literal["write", "remove", "run", "nothing"]
    what: str


def this_machine(folders: Folders) -> Machine:
    """The one we run on."""
    home = os.environ.get("DAWBRIDGE_HOME")
    return Machine(
        sys.platform,
        Path.home(),
        Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"),
        folders.state,
        (sys.executable, "-m", "bridge", "run", "--json"),
        (("DAWBRIDGE_HOME", str(Path(home).expanduser().absolute())),) if home else (),
    )


def state_of(machine: Machine) -> State:
    """Whether it is switched on: `changed` if by another version or place, `foreign` if the file isn't ours."""
    way = _way(machine)
    path = way.path(machine)
    if not path.exists():
        return "off"
    found = _read(path, way)
    if SIGN not in found:
        return "foreign"
    return "on" if found == way.text(machine) else "changed"


def switch_on(machine: Machine, run: Run, *, dry_run: bool = False) -> tuple[Step, ...]:
    """Write the file, and have the system start the daemon now and at each login.

    Raises:
        AutostartError: this system has no such way, the file isn't ours, or the system refuses.
    """
    way = _way(machine)
    path = way.path(machine)
    _check_ours(machine, path)
    steps = (Step("write", str(path)), *(Step("run", " ".join(command)) for command in way.on(path)))
    if not dry_run:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(way.text(machine).encode(way.encoding))
        for command in way.on(path):
            _must(run, command)
    return steps


def switch_off(machine: Machine, run: Run, *, dry_run: bool = False) -> tuple[Step, ...]:
    """Have the system end it and forget it, and remove the file.

    Raises:
        AutostartError: as `switch_on`.
    """
    way = _way(machine)
    path = way.path(machine)
    if not path.exists():
        return (Step("nothing", f"{path} is not there"),)
    _check_ours(machine, path)
    if not dry_run:
        for command in way.off(path):
            run(command)  # it may not be loaded: then there is nothing to end
        path.unlink()
    return (*(Step("run", " ".join(command)) for command in way.off(path)), Step("remove", str(path)))


def run_command(command: Sequence[str]) -> int:
    """Run it; its exit status, 127 where there is no such program."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127
    return done.returncode


def _check_ours(machine: Machine, path: Path) -> None:
    if state_of(machine) == "foreign":
        raise AutostartError(f"{path} was not written by dawbridge. Move it away, then try again.", "foreign")


def _must(run: Run, command: Sequence[str]) -> None:
    status = run(command)
    if status != 0:
        raise AutostartError(
            f"`{' '.join(command)}` ended with {status}. Run it yourself to see why; `dawbridge run` works without."
        )


def _way(machine: Machine) -> Way:
    way = next((WAYS[name] for name in WAYS if machine.platform.startswith(name)), None)
    if way is None:
        raise AutostartError(f"There is no way to start it at login on {machine.platform}: `dawbridge run`.")
    return way


def _read(path: Path, way: Way) -> str:
    try:
        return path.read_bytes().decode(way.encoding)
    except (OSError, UnicodeDecodeError):
        return ""


def _launchd_text(machine: Machine) -> str:
    table = {
        "Label": LABEL,
        "ProgramArguments": list(machine.command),
        "EnvironmentVariables": {"PYTHONUNBUFFERED": "1", **dict(machine.environment)},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ProcessType": "Background",
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": str(machine.state / "logs" / "autostart.txt"),
    }
    text = plistlib.dumps(table).decode("utf-8")
    return text.replace("<plist", f"<!-- {SIGN} -->\n<plist", 1)


def _systemd_text(machine: Machine) -> str:
    environment = "".join(f"Environment={_quoted(f'{key}={value}')}\n" for key, value in machine.environment)
    return f"""# {SIGN}
[Unit]
Description=dawbridge: bounces come back as stems, MIDI, a treated vocal and a mix
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
ExecStart={" ".join(map(_quoted, machine.command))}
{environment}StandardOutput=null
Restart=on-failure
RestartSec=10
Nice=5

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    """One word for systemd: percent and dollar stand for themselves."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"'


def _task_text(machine: Machine) -> str:
    program, *arguments = machine.command
    if machine.environment:  # a task has no variables of its own
        sets = " && ".join(f'set "{key}={value}"' for key, value in machine.environment)
        arguments = ["/c", f'"{sets} && "{program}" {" ".join(arguments)}"']
        program = "cmd.exe"
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>{SIGN}</Description></RegistrationInfo>
  <Triggers><LogonTrigger><Enabled>true</Enabled></LogonTrigger></Triggers>
  <Principals><Principal id="Author"><LogonType>InteractiveToken</LogonType><RunLevel>LeastPrivilege</RunLevel></Principal></Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Hidden>true</Hidden>
    <RestartOnFailure><Interval>PT1M</Interval><Count>3</Count></RestartOnFailure>
  </Settings>
  <Actions Context="Author"><Exec><Command>{escape(program)}</Command><Arguments>{escape(" ".join(arguments))}</Arguments></Exec></Actions>
</Task>
"""


WAYS: dict[str, Way] = {
    "darwin": Way(
        path=lambda machine: machine.home / "Library" / "LaunchAgents" / f"{LABEL}.plist",
        text=_launchd_text,
        on=lambda path: (("launchctl", "load", "-w", str(path)),),
        off=lambda path: (("launchctl", "unload", "-w", str(path)),),
    ),
    "linux": Way(
        path=lambda machine: machine.config_home / "systemd" / "user" / f"{LABEL}.service",
        text=_systemd_text,
        on=lambda path: (
            ("systemctl", "--user", "daemon-reload"),
            ("systemctl", "--user", "enable", "--now", path.name),
        ),
        off=lambda path: (("systemctl", "--user", "disable", "--now", path.name),),
    ),
    "win32": Way(
        path=lambda machine: machine.state / "autostart.xml",
        text=_task_text,
        on=lambda path: (("schtasks", "/Create", "/F", "/TN", LABEL, "/XML", str(path)),),
        off=lambda path: (("schtasks", "/Delete", "/F", "/TN", LABEL),),
        encoding="utf-16",
    ),
}
"""By the begin of sys.platform."""
