"""What Live calls, on its main thread: a tick about ten times a second, MIDI that was asked for, the end.

Each tick empties the worker's queue, goes on with a song that is being placed, and tells the daemon once a second
where the set stands. Nothing here waits for a file.
"""

from __future__ import annotations

import queue
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import Live

from .config import NAME, OFF, Config, read_config
from .loader import Steps, is_recording, place
from .problem import Problem
from .song import UPDATE, Song
from .worker import Gone, News, Refused, Returned, Status, Worker

if TYPE_CHECKING:
    from Live.Song import Song as LiveSet

HELLO_EVERY_S = 1.0
YIELD_S = 0.004
"""While the worker reads, each tick lends it the interpreter for so long: Live may hold it between ticks."""

CONTROL_CHANGE = 0xB0
PRESSED = 64  # of 127
PREFIX = "dawbridge: "


class Script:
    """One control surface."""

    def __init__(
        self,
        c_instance: Any,  # Live's side of the bridge: song(), handle(), show_message(), log_message()
        config_path: Path | None = None,
        worker: Callable[[Config], Worker] = Worker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live, self._clock = c_instance, clock
        self._config: Config | None = None
        self._worker: Worker | None = None
        self._status: Status | None = None
        self._known: set[tuple[str, int, str]] | None = None  # what had come back when the script started
        self._waiting: list[Returned] = []  # to be loaded by themselves
        self._reading: Returned | None = None
        self._placing: Steps | None = None
        self._told: dict[str, Any] = {}
        self._next_hello = 0.0
        self._said: set[str] = set()
        try:
            self._config = read_config(config_path or Path(__file__).with_name(NAME))
        except Problem as problem:
            self._say(problem.line)
            return
        self._worker = worker(self._config)
        self._worker.start()

    def update_display(self) -> None:
        """Live's tick. No fault gets out of here: Live would print it ten times a second."""
        if self._worker is None or self._config is None:
            return
        try:
            self._tick(self._worker, self._config)
        except Exception as error:  # noqa: BLE001 -- see above
            self._reading, self._placing = None, None
            if repr(error) not in self._said:
                self._live.log_message(PREFIX + traceback.format_exc())
                self._say_once(
                    repr(error), f"This is a fault in the script ({error!r}); Live's log has the rest."
                )

    def build_midi_map(self, midi_map_handle: int) -> None:
        """Live asks which MIDI the script wants: the one controller that loads."""
        if self._config is not None and self._config.load_cc != OFF:
            channel = self._config.load_channel - 1
            Live.MidiMap.forward_midi_cc(self._live.handle(), midi_map_handle, channel, self._config.load_cc)

    def receive_midi(self, midi_bytes: tuple[int, ...]) -> None:
        """MIDI that was asked for."""
        if self._config is None or len(midi_bytes) != 3:
            return
        wanted = (CONTROL_CHANGE | self._config.load_channel - 1, self._config.load_cc)
        if midi_bytes[:2] == wanted and midi_bytes[2] >= PRESSED:
            self.load_newest()

    def load_newest(self) -> None:
        """Load the newest song of this project; where none is, the newest of all."""
        if self._reading is not None or self._placing is not None:
            self._say("A song is being loaded.")
        elif self._status is None:
            outbox = self._config.outbox if self._config else "The outbox"
            self._say(
                f"{outbox} is not there, or dawbridge has never run: plug it in, or start dawbridge run."
            )
        elif not self._status.returned:
            self._say("Nothing has come back yet.")
        else:
            ours = [entry for entry in self._status.returned if entry.project in ("", self._project())]
            self._read((ours or list(self._status.returned))[0])

    def disconnect(self) -> None:
        """Live ends, or another control surface was chosen."""
        if self._placing is not None:
            self._placing.close()
            self._placing = None
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _tick(self, worker: Worker, config: Config) -> None:
        for news in self._news(worker):
            self._take(news)
        if self._placing is not None:
            self._go_on(self._placing)
        elif self._reading is None and self._waiting:
            self._load_waiting()
        self._hello(worker)

    def _news(self, worker: Worker) -> list[News]:
        found: list[News] = []
        wait = self._reading is not None
        while True:
            try:
                found.append(worker.news.get(timeout=YIELD_S) if wait else worker.news.get_nowait())
            except queue.Empty:
                return found
            wait = False

    def _take(self, news: News) -> None:
        if isinstance(news, Status):
            self._take_status(news)
        elif isinstance(news, Gone):
            self._status = None
            self._say("The outbox is gone: plug it in, or start dawbridge run.")
        elif isinstance(news, Song):
            self._reading = None
            self._begin(news)
        elif isinstance(news, Refused):
            self._reading = None
            self._say(news.line)
        else:
            self._say(news.line)

    def _take_status(self, status: Status) -> None:
        if self._status is None or status.daemon != self._status.daemon:
            self._told = {}  # a daemon that has just started knows nothing of this set
        self._status = status
        version = self._config.version if self._config else ""
        if _is_older(version, status.scripts):
            line = f"These scripts ({version}) are older than dawbridge's ({status.scripts}). {UPDATE}"
            self._say_once(status.scripts, line)
        entries = {(entry.id, entry.revision, entry.folder): entry for entry in reversed(status.returned)}
        if self._known is not None:
            new = [entry for key, entry in entries.items() if key not in self._known]
            self._waiting += [entry for entry in new if self._wants(entry)]
        self._known = (self._known or set()) | set(entries)

    def _wants(self, entry: Returned) -> bool:
        autoload = self._config.autoload if self._config else "off"
        is_ours = entry.project != "" and entry.project == self._project()
        return autoload == "all" or (autoload == "project" and is_ours)

    def _load_waiting(self) -> None:
        entry = self._waiting[0]
        if is_recording(self._set()):
            self._say_once(
                f"wait {entry.folder}", f"{entry.folder} is back; it is loaded when the recording ends."
            )
            return
        self._read(self._waiting.pop(0))

    def _read(self, entry: Returned) -> None:
        if self._worker is not None:
            self._reading = entry
            self._say(f"{entry.folder} is being checked.")
            self._worker.read(entry)

    def _begin(self, song: Song) -> None:
        try:
            self._placing = place(self._set(), song)
        except Problem as problem:
            self._say(problem.line)

    def _go_on(self, placing: Steps) -> None:
        try:
            next(placing)
        except StopIteration as end:
            self._placing = None
            self._say(str(end.value))
        except Problem as problem:
            self._placing = None
            self._say(problem.line)

    def _hello(self, worker: Worker) -> None:
        """Who is here and where the set stands: at most once a second, and only news."""
        now = self._clock()
        if now < self._next_hello:
            return
        transport = self._transport()
        if transport != self._told:
            self._told, self._next_hello = transport, now + HELLO_EVERY_S
            worker.hello(transport)

    def _transport(self) -> dict[str, Any]:
        live_set = self._set()
        return {
            "bpm": round(float(live_set.tempo), 4),
            "beats_per_bar": int(live_set.signature_numerator),
            "beat_unit": int(live_set.signature_denominator),
            "playing": bool(live_set.is_playing),
            "beat": round(float(live_set.current_song_time), 3),
            "track": str(live_set.view.selected_track.name),
            "project": self._project(),
        }

    def _project(self) -> str:
        return str(getattr(self._set(), "name", ""))

    def _set(self) -> LiveSet:
        live_set: LiveSet = self._live.song()
        return live_set

    def _say(self, line: str) -> None:
        """One line, in Live's status bar and its log."""
        self._live.show_message(PREFIX + line)
        self._live.log_message(PREFIX + line)

    def _say_once(self, key: str, line: str) -> None:
        if key not in self._said:
            self._said.add(key)
            self._say(line)

    # What Live asks every control surface and this one has no answer to.

    def connect_script_instances(self, instances: Any) -> None:
        """Other control surfaces; none of them is needed."""

    def can_lock_to_devices(self) -> bool:
        """No device is steered."""
        return False

    def suggest_input_port(self) -> str:
        """Any port; none is needed unless a controller shall load."""
        return ""

    def suggest_output_port(self) -> str:
        """Nothing is sent."""
        return ""

    def suggest_map_mode(self, cc_no: int, channel: int) -> int:
        """Of no parameter."""
        return -1

    def suggest_needs_takeover(self, cc_no: int, channel: int) -> bool:
        """Of no parameter."""
        return False

    def supports_pad_translation(self) -> bool:
        """There are no pads."""
        return False

    def is_extension(self) -> bool:
        """It extends no other control surface."""
        return False

    def refresh_state(self) -> None:
        """There are no lights."""

    def handle_sysex(self, midi_bytes: tuple[int, ...]) -> None:
        """None was asked for."""


def _is_older(version: str, other: str) -> bool:
    return version.isdigit() and other.isdigit() and int(version) < int(other)
