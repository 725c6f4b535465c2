"""Runs a VST3 effect in a child process of its own, which alone loads foreign code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bridge.audio import Samples, read_raw, to_mono, write_float_wav
from bridge.child import Guest, run_child, serve
from bridge.effects.chains import Plugin


def run_plugin(
    plugin: Plugin, samples: Samples, sample_rate_hz: int, workdir: Path, on_wait: Callable[[], None]
) -> Samples:
    """`samples` through the plug-in, (channels, frames) in and out, time-aligned.

    `on_wait` is called ten times a second and may raise, which ends the child.

    Raises:
        StageError: the plug-in hung, crashed, or does not take what it is given.
    """
    remedy = "Update it, raise its timeout_s, or take it out of the chain."
    guest = Guest(f"The plug-in {plugin.path}", "plugin", remedy, plugin.timeout_s)
    with TemporaryDirectory(dir=workdir) as name:
        folder = Path(name)
        write_float_wav(folder / "in.wav", samples, sample_rate_hz)
        request = {"path": str(plugin.path), "parameters": dict(plugin.parameters)}
        run_child("bridge.effects.plugin", request, folder, guest, on_wait)
        return read_raw(folder / "out.wav")[0]


def _render(request: Mapping[str, Any], folder: Path) -> None:
    """The child's work."""
    import pedalboard

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


if __name__ == "__main__":
    sys.exit(serve(_render))
