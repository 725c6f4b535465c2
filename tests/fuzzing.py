"""Hostile bytes for everything that reads what others wrote: `python -m tests.fuzzing [--inputs N] [--only NAME]`.

Each reader runs in a process of its own under atheris (libFuzzer: inputs grow toward code not yet reached), from
real examples on. A reader may refuse with a deliberate error and nothing else. A crash, a hang or too much memory
ends that process; its input is kept and named. JSON at the end; exit 1 where anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bridge.errors import DawbridgeError

ROOT = Path(__file__).parent.parent
INPUTS = 1_000_000
HANG_S = 10
MOST_MB = 4096  # of address space
SLOW_S = 3600

Feed = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """One reader under fire."""

    prepare: Callable[[Path], Feed]  # gets a folder of its own; imports what is instrumented
    examples: Callable[[], list[bytes]]
    share: int  # of all inputs; slow readers get less
    most_bytes: int = 4096


def main() -> int:
    """Run all targets, or be one of them."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=INPUTS, help="of all targets together")
    options.add_argument("--only", choices=TARGETS, action="append")
    options.add_argument("--child", choices=TARGETS, help=argparse.SUPPRESS)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    if asked.child:
        _fuzz(asked.child, asked.inputs, asked.seed)
    found = run(asked.inputs, asked.only or list(TARGETS), asked.seed)
    print(json.dumps(found, indent=1))
    return 1 if any(row["found"] for row in found.values()) else 0


def run(inputs: int, names: list[str], seed: int) -> dict[str, Mapping[str, object]]:
    """For each target: how many inputs it met, in what time, and what was found ("" for nothing)."""
    shares = sum(TARGETS[name].share for name in names)
    return {name: _run_one(name, -(-inputs * TARGETS[name].share // shares), seed) for name in names}


def child(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A fuzzing process to its end."""
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SLOW_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def _run_one(name: str, inputs: int, seed: int) -> Mapping[str, object]:
    command = [sys.executable, "-m", "tests.fuzzing", "--child", name]
    started_s = time.monotonic()
    done = child([*command, "--inputs", str(inputs), "--seed", str(seed)])
    met = re.search(r"Done (\d+)", done.stderr)
    whole = done.returncode == 0 and met is not None and int(met.group(1)) >= inputs
    return {
        "inputs": int(met.group(1)) if met else 0,
        "seconds": round(time.monotonic() - started_s, 1),
        "found": "" if whole else f"exit {done.returncode}: {(done.stdout + done.stderr)[-3000:]}",
    }


def _fuzz(name: str, inputs: int, seed: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    target = TARGETS[name]
    # Not libFuzzer's own limit: the peak that it reads is inherited from whoever started this process.
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MB << 20, MOST_MB << 20))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as text:
        folder = Path(text)
        with atheris.instrument_imports(include=["bridge"]):
            feed = target.prepare(folder)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, example in enumerate(target.examples()):
            (corpus / f"{number:03}").write_bytes(example)
        found = Path(tempfile.gettempdir()) / f"dawbridge-fuzz-{name}-"
        arguments = (
            *(f"-runs={inputs}", f"-seed={seed}", f"-timeout={HANG_S}", "-rss_limit_mb=0"),
            *(f"-max_len={target.most_bytes}", f"-artifact_prefix={found}", "-print_final_stats=0"),
            str(corpus),
        )
        atheris.Setup([sys.argv[0], *arguments], partial(_deliberate_only, feed))
        atheris.Fuzz()


def _deliberate_only(feed: Feed, data: bytes) -> None:
    with contextlib.suppress(DawbridgeError):
        feed(data)


# what is read


def _audio(folder: Path) -> Feed:
    from bridge.audio import probe
    from bridge.wavchunks import made_by_us, read_facts

    path = folder / "Song.wav"

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        read_facts(path)
        made_by_us(path)
        probe(path)

    return feed


def _sidecar(folder: Path) -> Feed:
    from bridge.sidecar import read_sidecar

    return _by_file(folder / "Song.wav.dawbridge.json", read_sidecar)


def _manifest(folder: Path) -> Feed:
    from bridge.manifest import read_manifest

    return _by_file(folder / "manifest.json", lambda path: read_manifest(path.parent))


def _preset(folder: Path) -> Feed:
    from bridge.config import read_toml
    from bridge.errors import PresetError
    from bridge.presets import build_preset

    def feed(path: Path) -> None:
        table = read_toml(path, PresetError)
        table.pop("description", None)
        build_preset("mine", table, str(path), {})

    return _by_file(folder / "mine.toml", feed)


def _chain(folder: Path) -> Feed:
    from bridge.effects.chains import read_chain

    return _by_file(folder / "mine.toml", read_chain)


def _consent(folder: Path) -> Feed:
    import datetime

    from bridge.voices.consent import require_consent

    (folder / "voice").mkdir()
    today = datetime.date(2026, 11, 25)
    path = folder / "voice" / "consent.toml"
    return _by_file(path, lambda _: require_consent("voice", folder, today))


def _command(folder: Path) -> Feed:
    from bridge.filecontrol import _checked

    return lambda data: _ignore(_checked(data, "id"))


def _midi_file(folder: Path) -> Feed:
    from bridge.sheet import midi_to_sheet

    return lambda data: _ignore(midi_to_sheet(data, "Song.mid"))


def _midi_input(folder: Path) -> Feed:
    """Bytes as a port delivers them, cut anywhere, with time passing between the pieces."""
    from tests.live_stage import Stage

    def feed(data: bytes) -> None:
        stage = Stage()
        for start in range(0, len(data), 16):
            stage.midi(data[start : start + 15])
            pause = data[start + 15 : start + 16]
            stage.run_until(stage.now_ns + (pause[0] if pause else 1) * 1_000_000)
        stage.generator_hangs = True  # no more answers; those that are on their way play to their end
        for _ in range(160):  # 16 beats, in longer steps than the real thread's
            stage.now_ns += 50_000_000
            stage.conductor.tick(stage.now_ns)
            stage.player.advance(stage.now_ns)
        if stage.player.sounding:
            raise AssertionError(f"{stage.player.sounding} notes hang")

    return feed


def _by_file(path: Path, read: Callable[[Path], object]) -> Feed:
    def feed(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return feed


def _ignore(_: object) -> None:
    pass


# examples to start from


def _shipped(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(ROOT.glob(pattern))]


def _audio_examples() -> list[bytes]:
    import io

    import numpy as np
    import soundfile

    made = []
    kinds = (("WAV", "PCM_24"), ("WAV", "FLOAT"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"))
    for container, subtype in (*kinds, ("RF64", "PCM_16"), ("W64", "PCM_16"), ("CAF", "PCM_16")):
        rate_hz = 8000 if subtype == "VORBIS" else 1000  # half a second, as short as a bounce may be
        file = io.BytesIO()
        soundfile.write(file, np.sin(np.arange(rate_hz * 0.6) / 20.0), rate_hz, subtype, format=container)
        made.append(file.getvalue())
    return [*made, _with_chunks(made[0])]


def _with_chunks(wav: bytes) -> bytes:
    bext = b"bext" + struct.pack("<I", 602) + b"\0" * 338 + struct.pack("<Q", 96_000) + b"\0" * 256
    acid = b"acid" + struct.pack("<IIHHfIHHf", 24, 1, 60, 0, 0.0, 8, 4, 4, 120.0)
    info = b"LIST" + struct.pack("<I", 24) + b"INFOISFT" + struct.pack("<I", 10) + b"dawbridge\0\0\0"
    content = wav[8:] + bext + acid + info
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _json_examples(*tables: Mapping[str, object]) -> list[bytes]:
    return [json.dumps(table).encode() for table in tables]


def _sidecars() -> list[bytes]:
    tempo = {"bpm": 120, "beats_per_bar": 4, "beat_unit": 4, "changes": [{"frames": 96000, "bpm": 90.5}]}
    whole = {"schema": 1, "tempo": tempo, "start_frames": 96000, "key": "C major", "role": "mix"}
    return _json_examples(
        whole, {**whole, "project": "x", "track": "y", "preset": "offline", "voice": "deep"}, {}
    )


def _manifests() -> list[bytes]:
    from bridge.manifest import to_json
    from tests.test_manifest import MANIFEST, change

    bare = change(tempo=None, key=None, sings=None, artifacts=(), stages=(), fallbacks=(), voice=None)
    return [to_json(MANIFEST).encode(), to_json(bare).encode()]


def _consents() -> list[bytes]:
    text = (
        'schema = 1\nowner = "A"\ngiven_by = "A"\nstatement = "Yes."\nscope = "personal"\ndate = 2026-11-01\n'
    )
    return [text.encode(), (text + "expires = 2027-01-01\n").encode()]


def _commands() -> list[bytes]:
    return _json_examples(
        {"schema": 1, "id": "id", "command": "cancel", "job": "0123456789ab"},
        {"schema": 1, "id": "id", "command": "live_set", "name": "temperature", "value": 1.0},
        {"schema": 1, "command": "hello", "script": "reaper", "transport": {"bpm": 120.0, "playing": True}},
    )


def _midi_files() -> list[bytes]:
    from tests.midi_bytes import metre, note, smf, tempo, track

    return [smf(track(tempo(500_000) + metre(3, 2) + note(60))), *_shipped("tests/data/**/*.mid")]


def _midi_inputs() -> list[bytes]:
    song = bytes((0xF2, 0, 0, 0xFA)) + bytes((0xF8,)) * 24
    return [
        song + bytes((0x90, 60, 90, 62, 0, 0xB0, 64, 127, 0xFC)),
        bytes((0xF0, 1, 2, 3, 0xF7, 0x80, 60, 0)),
    ]


TARGETS: Mapping[str, Target] = {
    "audio": Target(_audio, _audio_examples, 150, 3000),
    "sidecar": Target(_sidecar, _sidecars, 200),
    "manifest": Target(_manifest, _manifests, 150),
    "preset": Target(_preset, lambda: _shipped("presets/*.toml"), 100),
    "chain": Target(_chain, lambda: _shipped("presets/effects/*.toml"), 60),
    "consent": Target(_consent, _consents, 60),
    "command": Target(_command, _commands, 80),
    "midi_file": Target(_midi_file, _midi_files, 150, 2048),
    "midi_input": Target(_midi_input, _midi_inputs, 50, 256),
}


if __name__ == "__main__":
    sys.exit(main())
