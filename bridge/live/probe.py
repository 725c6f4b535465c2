"""Which MIDI systems answer on this machine, and what ports they have, asked where a hang does no harm.

`python -m bridge.live.probe API` asks one system and prints JSON; `probe` starts that in a process of its own with a
time limit, since a JACK server that is stuck lets its clients wait for ever. rtmidi does not fall back from one
system to the next by itself: `choose_api` does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import MidiError

TIMEOUT_S = 5.0
APIS = {"win32": ("winmm",), "darwin": ("core", "jack")}
LINUX_APIS = ("jack", "alsa")  # a JACK server, or PipeWire in its place, is there because somebody wants it
SHOWN = {"winmm": "Windows MIDI", "core": "CoreMIDI", "jack": "JACK", "alsa": "ALSA"}
REMEDIES = {
    "jack": "start a JACK server (or PipeWire)",
    "alsa": "sudo modprobe snd-seq",
    "core": "open Audio MIDI Setup once",
    "winmm": "restart Windows' MIDI service",
}


@dataclass(frozen=True)
class Probe:
    """What one MIDI system said."""

    api: str
    works: bool
    inputs: tuple[str, ...] = ()  # ports that we could hear
    outputs: tuple[str, ...] = ()  # ports that we could send to
    why: str = ""  # it does not work


def platform_apis() -> tuple[str, ...]:
    """The systems of this platform, the one to prefer first."""
    return APIS.get(sys.platform, LINUX_APIS)


def probe(apis: Sequence[str], timeout_s: float = TIMEOUT_S) -> tuple[Probe, ...]:
    """Ask systems, all at once."""
    asked = [
        subprocess.Popen(
            [sys.executable, "-m", "bridge.live.probe", api],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for api in apis
    ]
    return tuple(_answer(api, process, timeout_s) for api, process in zip(apis, asked, strict=True))


def choose_api(wanted: str = "auto", timeout_s: float = TIMEOUT_S) -> Probe:
    """The first MIDI system that works, or the wanted one.

    Raises:
        MidiError: none works; its text says why of each, and what to do.
    """
    found = probe(platform_apis() if wanted == "auto" else (wanted,), timeout_s)
    working = next((one for one in found if one.works), None)
    if working is not None:
        return working
    reasons = "; ".join(f"{SHOWN[one.api]}: {one.why}" for one in found)
    remedy = " or ".join(REMEDIES[one.api] for one in found)
    raise MidiError(f"No MIDI system works here ({reasons}). To get one: {remedy}.", "no_midi")


def main() -> int:
    """Ask the system named on the command line, in this process."""
    import rtmidi

    api = next((a for a in rtmidi.get_compiled_api() if rtmidi.get_api_name(a) == sys.argv[1]), None)
    if api is None:
        told = {"works": False, "why": "this build of python-rtmidi does not know it"}
    else:
        try:
            ports = []
            for kind in (rtmidi.MidiIn, rtmidi.MidiOut):
                client = kind(api, name="dawbridge probe")
                ports.append(client.get_ports())
                client.delete()  # a client that just vanishes can leave a synchronous JACK server stuck
            told = {"works": True, "inputs": ports[0], "outputs": ports[1]}
        except (SystemError, rtmidi.RtMidiError) as exc:
            why = str(exc).rpartition(": ")[2].strip(" .?")
            told = {"works": False, "why": why or type(exc).__name__}
    sys.stdout.write(json.dumps(told))
    sys.stdout.flush()
    return 0


def _answer(api: str, process: subprocess.Popen[bytes], timeout_s: float) -> Probe:
    try:
        out, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Probe(api, False, why=f"it gave no answer within {timeout_s:g} s")
    try:
        told = json.loads(out)
    except ValueError:
        return Probe(api, False, why=f"asking it crashed (exit {process.returncode})")
    return Probe(
        api, told["works"], tuple(told.get("inputs", ())), tuple(told.get("outputs", ())), told.get("why", "")
    )


if __name__ == "__main__":
    raise SystemExit(main())
