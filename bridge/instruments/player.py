"""The child process that plays: MIDI events in, a float WAV out, by tinysoundfont or an instrument plug-in.

tinysoundfont renders any number of frames between two events, so that each note begins on its own frame.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bridge.audio import wav_writer
from bridge.child import serve
from bridge.sheet import DRUM_CHANNEL

BLOCK_FRAMES = 1 << 16
VOICES = 512
DRUM_BANK = 128
NOTE_OFF, NOTE_ON, PROGRAM_CHANGE = 0x80, 0x90, 0xC0


def play(request: Mapping[str, Any], folder: Path) -> None:
    """Write out.wav, (2, frames); raises ValueError where soundfont or plug-in won't do."""
    PLAYERS[request["kind"]](request, folder / "out.wav")


def _by_soundfont(request: Mapping[str, Any], out: Path) -> None:
    import tinysoundfont

    rate_hz, frames = request["sample_rate_hz"], request["frames"]
    synth = tinysoundfont.Synth(samplerate=rate_hz)
    try:
        font = synth.sfload(Path(request["path"]).read_bytes(), max_voices=VOICES)
    except RuntimeError as exc:
        raise ValueError(f"it can't be loaded ({exc}). Name an SF2 or SF3 file.") from exc
    with wav_writer(out, rate_hz, 2, frames, is_float=True) as file:
        now = 0
        for at, *message in [*request["events"], [frames]]:
            while now < min(at, frames):
                count = min(BLOCK_FRAMES, min(at, frames) - now)
                file.write(np.frombuffer(synth.generate(count), dtype=np.float32).reshape(count, 2))
                now += count
            if now < frames:
                _send(synth, font, message)


def _send(synth: Any, font: int, message: list[int]) -> None:
    kind, channel = message[0] & 0xF0, message[0] & 0x0F
    if kind == NOTE_ON:
        synth.noteon(channel, message[1], message[2])
    elif kind == NOTE_OFF:
        synth.noteoff(channel, message[1])
    elif kind == PROGRAM_CHANGE:
        is_drums = channel == DRUM_CHANNEL
        if synth.sfpreset_name(font, DRUM_BANK if is_drums else 0, message[1]) is None:
            wanted = "a drum kit" if is_drums else f"the General MIDI program {message[1] + 1}"
            raise ValueError(f"it lacks {wanted}. Name a soundfont of General MIDI.")
        synth.program_change(channel, message[1], is_drums)


def _by_plugin(request: Mapping[str, Any], out: Path) -> None:
    rate_hz, frames = request["sample_rate_hz"], request["frames"]
    plugin = _load(request["path"])
    late = plugin.reported_latency_samples  # which pedalboard takes back from effects alone
    # The sound is the plug-in's own: it hears no program changes.
    notes = [event for event in request["events"] if event[1] & 0xF0 != PROGRAM_CHANGE and event[0] < frames]
    sounds = False
    with wav_writer(out, rate_hz, 2, frames, is_float=True) as file:
        for start in range(0, frames + late, BLOCK_FRAMES):
            count = min(BLOCK_FRAMES, frames + late - start)
            played = [(bytes(m), _s(at - start, rate_hz)) for at, *m in notes if start <= at < start + count]
            block = plugin(played, _s(count, rate_hz), rate_hz, num_channels=2, reset=start == 0)
            heard = block[:, max(0, late - start) :]
            sounds = sounds or bool(heard.any())
            file.write(heard.T)
    if notes and not sounds:
        raise ValueError("it gives no sound. Name an instrument that plays as soon as it is loaded.")


def _load(path: str) -> Any:
    import pedalboard

    # We set no parameter, and pedalboard would ask each of thousands for the text of 1001 values: half a minute.
    pedalboard._pedalboard.PARAMETER_NAME_REGEXES_TO_IGNORE.add(re.compile(""))
    try:
        plugin: Any = pedalboard.load_plugin(path)  # type: ignore[attr-defined]
    except ImportError as exc:
        raise ValueError(f"it can't be loaded ({exc}). Name an instrument plug-in of this computer.") from exc
    if not plugin.is_instrument:
        raise ValueError("it is an effect, not an instrument. Name a plug-in that plays notes.")
    return plugin


def _s(frames: int, rate_hz: int) -> float:
    """Seconds that pedalboard, which reckons with 32 bits and cuts fractions off, turns into `frames` again."""
    return (frames + 0.25) / rate_hz


PLAYERS: Mapping[str, Callable[[Mapping[str, Any], Path], None]] = {
    "soundfont": _by_soundfont,
    "plug-in": _by_plugin,
}


if __name__ == "__main__":
    sys.exit(serve(play))
