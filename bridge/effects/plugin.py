"""Runs a VST3 plug-in in a child process with a time limit, since a plug-in may hang or crash.

The parent writes a request and the input beside each other, starts `python -m bridge.effects.plugin`,
and reads what the child wrote. The child alone loads foreign code.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bridge.audio import Samples, read_raw, to_mono, write_float_wav
from bridge.effects.chains import Plugin
from bridge.errors import StageError

POLL_S = 0.1
REFUSED_EXIT = 3  # the child has said why in reason.txt


def run_plugin(
    plugin: Plugin, samples: Samples, sample_rate_hz: int, workdir: Path, on_wait: Callable[[], None]
) -> Samples:
    """`samples` through the plug-in, (channels, frames) in and out, time-aligned.

    `on_wait` is called ten times a second and may raise, which ends the child.

    Raises:
        StageError: the plug-in hung, crashed, or does not take what it is given.
    """
    with TemporaryDirectory(dir=workdir) as name:
        folder = Path(name)
        write_float_wav(folder / "in.wav", samples, sample_rate_hz)
        request = {"path": str(plugin.path), "parameters": dict(plugin.parameters)}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        code = _wait_for_child(plugin, folder, on_wait)
        if code == REFUSED_EXIT:
            raise StageError(
                f"The plug-in {plugin.path}: {(folder / 'reason.txt').read_text(encoding='utf-8')}"
            )
        if code != 0:
            raise StageError(
                f"The plug-in {plugin.path} crashed (exit {code}). Update it, or take it out of the chain.",
                "plugin_crashed",
            )
        return read_raw(folder / "out.wav")[0]


def _wait_for_child(plugin: Plugin, folder: Path, on_wait: Callable[[], None]) -> int:
    command = [sys.executable, "-m", "bridge.effects.plugin", str(folder)]
    deadline_s = time.monotonic() + plugin.timeout_s
    with (folder / "child.log").open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while time.monotonic() < deadline_s:
                try:
                    return child.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    on_wait()
        finally:
            child.kill()
            child.wait()
    raise StageError(
        f"The plug-in {plugin.path} gave no answer within timeout_s = {plugin.timeout_s:g}. "
        "Take it out of the chain, or raise timeout_s.",
        "plugin_timeout",
    )


def _render(folder: Path) -> None:
    """The child's work. Raises ValueError where the plug-in can't be used as asked."""
    import pedalboard

    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    samples, sample_rate_hz = read_raw(folder / "in.wav")
    try:
        plugin = pedalboard.VST3Plugin(request["path"])
    except ImportError as exc:
        raise ValueError(f"it can't be loaded ({exc}). Give the path of a VST3 effect.") from exc
    _set_parameters(plugin, request["parameters"])
    write_float_wav(folder / "out.wav", _process(plugin, samples, sample_rate_hz), sample_rate_hz)


def _set_parameters(plugin: Any, parameters: Mapping[str, Any]) -> None:
    for key, value in parameters.items():
        if key not in plugin.parameters:
            near = get_close_matches(key, plugin.parameters, n=1)
            known = ", ".join(plugin.parameters)
            raise ValueError(
                f"unknown parameter {key!r}. "
                + (f"Did you mean {near[0]!r}?" if near else f"It has: {known}.")
            )
        setattr(plugin, key, value)  # pedalboard names the range where the value lies outside


def _process(plugin: Any, samples: Samples, sample_rate_hz: int) -> Samples:
    """Through the plug-in as it is, else each channel alone (a mono plug-in), else doubled (a stereo one)."""
    try:
        return np.asarray(plugin.process(samples, sample_rate_hz), dtype=np.float32)
    except ValueError:
        if samples.shape[0] == 1:
            return to_mono(plugin.process(np.repeat(samples, 2, axis=0), sample_rate_hz))
        channels = [plugin.process(channel[np.newaxis], sample_rate_hz)[0] for channel in samples]
        return np.asarray(channels, dtype=np.float32)


def main(folder: Path) -> int:
    """The child's entry: 0, or `REFUSED_EXIT` with the reason in reason.txt."""
    try:
        _render(folder)
    except ValueError as exc:
        (folder / "reason.txt").write_text(str(exc), encoding="utf-8")
        return REFUSED_EXIT
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
