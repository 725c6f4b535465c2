"""A real Ardour in a fresh home, on a display of its own, steered by OSC; what it recorded is read back from disk.

Ardour and its display die with the process that started them, and every step has a time limit. Debian packages:
`ardour`, `xvfb`, and those of `tests/jack.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree

import mido

from tests.ardour_lua import ui_scripts
from tests.jack import HAVE_JACK, JackServer, end, start, wait_until
from tests.xvfb import virtual_display

HAVE_ARDOUR = HAVE_JACK and all(shutil.which(tool) for tool in ("ardour", "Xvfb"))
CLOCK_OUT = "ardour:MIDI Clock out"

FILES = Path(__file__).parent / "ardour_files"
SCRIPT_NAME = "dawbridge test"  # as new_session.lua calls itself
SESSION_NAME = "session"
START_LIMIT_S = 40.0
STEP_LIMIT_S = 8.0
ANSWER_LIMIT_S = 3.0
ROLL_LIMIT_S = 1.0
START_ATTEMPTS = 2
PLAY_ATTEMPTS = 4
TICKS_PER_BEAT = 1920  # Temporal::ticks_per_beat, in the session file
ONE_TICK = 1 / TICKS_PER_BEAT
SUPERCLOCKS_PER_S = 282_240_000
NO_AVX512 = {"ARDOUR_FPU_FLAGS": str(0x5F)}
"""Flush to zero, denormals are zero, SSE, SSE2, AVX, FMA: Ardour 7.3's AVX-512 routines damage the heap in exports."""

OscValue = int | float | str


class TakenNote(NamedTuple):
    """A note of a take, in beats on Ardour's timeline.

    `length_beats` is None where no note-off came: the note still sounded when the take or the file ended.
    """

    start_beats: float
    length_beats: float | None
    pitch: int
    velocity: int


class SessionFault(RuntimeError):
    """The script that fills the session failed: rarely, an import throws."""


class EngineLost(RuntimeError):
    """JACK has thrown Ardour out while it made tracks: on a busy machine, in about one load of four.

    JACK's log shows two requests of Ardour's garbled into one ("CheckSize error"), as when two threads write at once.
    """


@dataclass
class Ardour:
    """A running Ardour. Its tracks: `take`, and `musician` where a file was given."""

    session: Path
    jack: JackServer
    process: subprocess.Popen[bytes]
    log: Path
    bpm: float
    osc: socket.socket
    display: str
    osc_port: int = 0

    def input_of(self, track: str) -> str:
        """The JACK port that the track records."""
        return f"ardour:{track}/midi_in 1"

    def output_of(self, track: str) -> str:
        """The JACK port that the track plays to."""
        return f"ardour:{track}/midi_out 1"

    def play(self) -> None:
        """Roll from where the playhead stands; returns when it rolls, some 10-30 ms later."""
        for _ in range(PLAY_ATTEMPTS):  # a play that comes while Ardour still locates is lost
            self._send("/transport_play")
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: self.speed() == 1.0, "Ardour rolls", ROLL_LIMIT_S)
                return
        raise TimeoutError(f"Ardour does not roll after {PLAY_ATTEMPTS} attempts")

    def stop(self) -> None:
        """Stop; returns when the transport stands."""
        self._send("/transport_stop")
        wait_until(lambda: self.speed() == 0.0, "Ardour stands", STEP_LIMIT_S)

    def locate(self, frames: int) -> None:
        """Move the playhead; a rolling transport rolls on from there."""
        rolls = self.speed() != 0.0
        self._send("/locate", frames, int(rolls))
        if not rolls:
            wait_until(lambda: self.position_frames() == frames, f"Ardour stands at {frames}", STEP_LIMIT_S)

    def loop(self, start_frames: int, end_frames: int) -> None:
        """Roll round and round between two positions."""
        self._send("/loop_location", start_frames, end_frames)
        self._send("/loop_toggle")
        wait_until(lambda: self.speed() == 1.0, "Ardour loops", STEP_LIMIT_S)

    def arm(self, track: str) -> None:
        """Make the track one that records."""
        number, _ = self._strips()[track]
        self._send("/strip/recenable", number, 1)
        wait_until(lambda: self._strips()[track][1], f"{track} armed", STEP_LIMIT_S)

    def record_enable(self) -> None:
        """Let armed tracks record from the next `play`; Ardour takes this back at `stop`."""
        if not self._recording():
            self._send("/rec_enable_toggle")
        wait_until(self._recording, "Ardour record-enabled", STEP_LIMIT_S)

    def save(self) -> None:
        """Write the session file; returns when the new one stands there."""
        before = self._session_file.stat().st_ino
        self._send("/save_state")
        wait_until(lambda: self._session_file.stat().st_ino != before, "the session saved", STEP_LIMIT_S)

    def access_action(self, name: str) -> None:
        """Run one of Ardour's own actions, e.g. "Editor/undo"; nothing is awaited."""
        self._send("/access_action", name)

    def check_alive(self) -> None:
        """Raise RuntimeError where Ardour has ended by itself, EngineLost where it has lost JACK."""
        self._check_process()
        if "JACK HALTED" in self.log.read_text(errors="replace"):
            raise EngineLost("JACK has thrown Ardour out")

    def close(self) -> None:
        """End Ardour without saving."""
        end(self.process, STEP_LIMIT_S)

    def speed(self) -> float:
        """1 while the transport rolls, 0 while it stands."""
        (value,) = self._ask("/transport_speed")
        return float(value)

    def position_frames(self) -> int:
        """Where the playhead is."""
        (value,) = self._ask("/transport_frame")
        return int(value)

    def read_take(self, track: str = "take") -> list[TakenNote]:
        """The notes on a track in the saved session, by start: what its regions show of their MIDI files."""
        return read_take(self._session_file, track, self.bpm)

    @property
    def _session_file(self) -> Path:
        return self.session / f"{SESSION_NAME}.ardour"

    def _check_process(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"Ardour has ended ({self.process.returncode}): {_tail(self.log)}")

    def _recording(self) -> bool:
        return self._ask("/record_enabled") == [1]

    def _strips(self) -> dict[str, tuple[int, bool]]:
        """Number and armed or not, by name."""
        found: dict[str, tuple[int, bool]] = {}
        self._send("/strip/list")
        while (values := self._receive("#reply"))[0] != "end_route_list":
            found[str(values[1])] = (int(values[6]), bool(values[7]))
        return found

    def _ask(self, path: str) -> list[OscValue]:
        self._send(path)
        return self._receive(path)

    def _send(self, path: str, *values: OscValue) -> None:
        self._check_process()
        self.osc.sendto(encode_osc(path, *values), ("127.0.0.1", self.osc_port))

    def _receive(self, path: str) -> list[OscValue]:
        limit = time.monotonic() + STEP_LIMIT_S
        while time.monotonic() < limit:
            got, values = decode_osc(self.osc.recv(65536))
            if got == path:
                return values
        raise TimeoutError(f"Ardour answers no {path}")


@contextlib.contextmanager
def ardour_session(
    folder: Path, jack: JackServer, bpm: float = 120.0, musician: Path | None = None
) -> Iterator[Ardour]:
    """Ardour with a new 4/4 session in `folder` on the server `jack`, ready to be played.

    The MIDI file `musician` becomes a track of that name from beat 0; its own tempo is ignored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with virtual_display(folder / "xvfb.log") as display, socket.socket(type=socket.SOCK_DGRAM) as osc:
        osc.bind(("127.0.0.1", 0))
        osc.settimeout(ANSWER_LIMIT_S)
        asked = {"DAWBRIDGE_BPM": str(bpm), "DAWBRIDGE_MUSICIAN": str(musician or "")}
        for attempt in range(1, START_ATTEMPTS + 1):
            ardour = _started(folder / str(attempt), jack, bpm, osc, asked | {"DISPLAY": display})
            try:
                try:
                    _wait_until_ready(ardour)
                except (SessionFault, EngineLost):
                    if attempt == START_ATTEMPTS:
                        raise
                    continue
                yield ardour
                return
            finally:
                ardour.close()


@contextlib.contextmanager
def ardour_script(
    home: Path, jack: JackServer, script: Path, asked: Mapping[str, str], bpm: float = 120.0
) -> Iterator[Ardour]:
    """Ardour with a new session in `home` that a SessionInit script named SCRIPT_NAME works on; nothing is awaited.

    `asked` goes into its environment. What lies in `scripts_folder(home)` already is there for the script.
    """
    with virtual_display(home / "xvfb.log") as display, socket.socket(type=socket.SOCK_DGRAM) as osc:
        ardour = _started(home, jack, bpm, osc, {**asked, "DISPLAY": display}, script)
        try:
            yield ardour
        finally:
            ardour.close()


def scripts_folder(home: Path) -> Path:
    """Where an Ardour started in `home` looks for scripts."""
    return home / "home" / ".config" / "ardour7" / "scripts"


def read_take(session_file: Path, track: str, bpm: float) -> list[TakenNote]:
    """The notes that a track's regions show in a saved session of one tempo, by start."""
    root = ElementTree.parse(session_file).getroot()
    files = {source.get("id"): source.get("name", "") for source in root.iterfind("Sources/Source")}
    route = next(route for route in root.iterfind("Routes/Route") if route.get("name") == track)
    playlist = root.find(f"Playlists/Playlist[@id='{route.get('midi-playlist')}']")
    if playlist is None:
        raise LookupError(f"{session_file}: no playlist for track {track}")
    notes: list[TakenNote] = []
    for region in playlist.iterfind("Region"):
        name = files[region.get("source-0")]
        (file,) = session_file.parent.glob(f"interchange/*/midifiles/{name}")
        length, position = region.get("length", "").split("@")
        start_beats, length_beats, position_beats = (
            _beats(text, bpm) for text in (region.get("start", ""), length, position)
        )
        for note in read_notes(file):
            if not start_beats <= note.start_beats < (end_beats := start_beats + length_beats):
                continue
            # Ardour writes the missing note-offs itself, at the end of the take.
            if note.length_beats is not None and note.start_beats + note.length_beats > end_beats - ONE_TICK:
                note = note._replace(length_beats=None)
            notes.append(note._replace(start_beats=note.start_beats - start_beats + position_beats))
    return sorted(notes, key=lambda note: (note.start_beats, note.pitch))


def read_notes(file: Path) -> list[TakenNote]:
    """The notes of a MIDI file in beats from its start, those without a note-off too."""
    midi = mido.MidiFile(file)
    notes: list[TakenNote] = []
    for messages in midi.tracks:
        sounding: dict[tuple[int, int], list[int]] = {}
        beats = 0.0
        for message in messages:
            beats += message.time / midi.ticks_per_beat
            if message.type not in ("note_on", "note_off"):
                continue
            key = (message.channel, message.note)
            if message.type == "note_on" and message.velocity:
                sounding.setdefault(key, []).append(len(notes))
                notes.append(TakenNote(beats, None, message.note, message.velocity))
            elif sounding.get(key):
                at = sounding[key].pop(0)
                notes[at] = notes[at]._replace(length_beats=beats - notes[at].start_beats)
    return notes


def encode_osc(path: str, *values: OscValue) -> bytes:
    """One OSC message: integers and floats of 32 bits, and strings."""
    kinds = {int: "i", float: "f", str: "s"}
    packed = [_padded(path), _padded("," + "".join(kinds[type(value)] for value in values))]
    for value in values:
        packed.append(
            _padded(value) if isinstance(value, str) else struct.pack(f">{kinds[type(value)]}", value)
        )
    return b"".join(packed)


def decode_osc(data: bytes) -> tuple[str, list[OscValue]]:
    """Path and values of one OSC message."""
    path, at = _text(data, 0)
    kinds, at = _text(data, at)
    values: list[OscValue] = []
    for kind in kinds[1:]:
        if kind == "s":
            text, at = _text(data, at)
            values.append(text)
        elif kind in "TF":
            values.append(int(kind == "T"))
        else:
            form = {"i": ">i", "h": ">q", "f": ">f", "d": ">d"}[kind]
            values.append(struct.unpack_from(form, data, at)[0])
            at += struct.calcsize(form)
    return path, values


def _padded(text: str) -> bytes:
    raw = text.encode()
    return raw + bytes(4 - len(raw) % 4)


def _text(data: bytes, at: int) -> tuple[str, int]:
    stop = data.index(0, at)
    return data[at:stop].decode(), at + (stop - at) // 4 * 4 + 4


def _beats(text: str, bpm: float) -> float:
    """Ardour's way to write a time: `b` and ticks, or `a` and superclocks."""
    if text.startswith("b"):
        return int(text[1:]) / TICKS_PER_BEAT
    return int(text[1:]) / SUPERCLOCKS_PER_S * bpm / 60.0


def _started(
    folder: Path,
    jack: JackServer,
    bpm: float,
    osc: socket.socket,
    asked: dict[str, str],
    script: Path = FILES / "new_session.lua",
) -> Ardour:
    scripts = scripts_folder(folder)
    config = scripts.parent
    scripts.mkdir(parents=True, exist_ok=True)
    for name in ("config", "instant.xml"):
        shutil.copy(FILES / name, config / name)
    shutil.copy(script, scripts)
    (config / "ui_scripts").write_text(ui_scripts())
    (config / ".a7").touch()  # Ardour's sign that it has run before: no dialog
    (config / "osc_url").touch()  # Ardour writes its address here if the file is there
    env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    env |= NO_AVX512 | asked | {"HOME": str(folder / "home"), "DAWBRIDGE_READY": str(folder / "ready")}
    session, log = folder / SESSION_NAME, folder / "ardour.log"
    command = ("ardour", "--no-splash", "--no-announcements", "-N", str(session), "-T", SCRIPT_NAME)
    return Ardour(session, jack, start(command, log, env=env), log, bpm, osc, asked["DISPLAY"])


def _wait_until_ready(ardour: Ardour) -> None:
    folder = ardour.session.parent
    ready = folder / "ready"

    def script_done() -> bool:
        ardour.check_alive()
        return ready.exists() and ready.stat().st_size > 0

    wait_until(script_done, "Ardour's new session", START_LIMIT_S, step_s=0.05)
    if ready.read_text() != "ready":
        raise SessionFault(f"new_session.lua: {ready.read_text()}")
    address = folder / "home" / ".config" / "ardour7" / "osc_url"
    ardour.osc_port = urlsplit(address.read_text().strip()).port or 0
    wait_until(_answers(ardour), "Ardour answers", STEP_LIMIT_S)
    try:
        ardour.jack.wait_for_port(CLOCK_OUT)
    except TimeoutError:
        ardour.check_alive()
        raise


def _answers(ardour: Ardour) -> Callable[[], bool]:
    def answers() -> bool:
        with contextlib.suppress(TimeoutError):
            return ardour.speed() == 0.0
        return False

    return answers


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
