"""Runs a VST3 effect in a child process of its own, which alone loads foreign code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from bridge import sound
from bridge.audio import Samples, to_mono, wav_writer
from bridge.child import Guest, run_child, serve
from bridge.effects.chains import Plugin
from bridge.effects.stream import streamed
from bridge.scratch import scratch
from bridge.sound import Sound

READY_FRAMES = 64
"""Of silence, after which a plug-in knows its latency: what pedalboard is given before, it does not take back from."""


def run_plugin(plugin: Plugin, source: Sound, path: Path, on_wait: Callable[[], None]) -> None:
    """Write `source` through the plug-in to `path`, a float WAV of its shape, time-aligned.

    `on_wait` is called ten times a second and may raise, which ends the child.

    Raises:
        StageError: the plug-in hung, crashed, or does not take what it is given.
    """
    remedy = "Update it, raise its timeout_s, or take it out of the chain."
    guest = Guest(f"The plug-in {plugin.path}", "plugin", remedy, plugin.timeout_s)
    with scratch(path.parent) as folder:
        sound.write(source, folder / "in.wav")
        request = {"path": str(plugin.path), "parameters": dict(plugin.parameters)}
        run_child("bridge.effects.plugin", request, folder, guest, on_wait)
        (folder / "out.wav").replace(path)


def _render(request: Mapping[str, Any], folder: Path) -> None:
    """The child's work."""
    import pedalboard

    source = sound.of_file(folder / "in.wav")

    def load() -> Any:
        try:
            plugin = pedalboard.VST3Plugin(request["path"])
        except ImportError as exc:
            raise ValueError(f"it can't be loaded ({exc}). Give the path of a VST3 effect.") from exc
        _set_parameters(plugin, request["parameters"])
        return plugin

    process = _way(load, source)
    with wav_writer(folder / "out.wav", source.rate_hz, *source.shape, is_float=True) as file:
        for block in streamed(process, source):
            file.write(block.T)


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


def _way(load: Callable[[], Any], source: Sound) -> Callable[[Samples], Samples]:
    """Through the plug-in as it is, else each channel alone (a mono plug-in), else doubled (a stereo one)."""
    rate_hz = source.rate_hz

    def ready(channels: int) -> Any:
        plugin = load()
        plugin.process(np.zeros((channels, READY_FRAMES), np.float32), rate_hz)
        plugin.reset()
        return plugin

    try:
        plugin = ready(source.channels)
        return lambda samples: _sent(plugin, samples, rate_hz)
    except ValueError:
        if source.channels == 1:
            stereo = ready(2)
            return lambda samples: to_mono(_sent(stereo, np.repeat(samples, 2, axis=0), rate_hz))
    each = [ready(1) for _ in range(source.channels)]  # which hold a state of their own
    return lambda samples: np.concatenate(
        [_sent(one, channel[np.newaxis], rate_hz) for one, channel in zip(each, samples, strict=True)]
    )


def _sent(plugin: Any, samples: Samples, rate_hz: int) -> Samples:
    return np.asarray(plugin.process(samples, rate_hz, reset=False), dtype=np.float32)


if __name__ == "__main__":
    sys.exit(serve(_render))
