"""The live companion's parent: starts the live process and the generator, carries messages between them, writes files.

One thread runs `Session.run`; only the writing of files has a thread of its own, since it must not hold up an
answer. A child that dies is started again with all that it needs to go on; one that hangs is ended first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import filelock

from bridge.atomic import replacing
from bridge.config import Config, Folders, read_table
from bridge.errors import DawbridgeError, LiveError, MidiError, ModelError, UsageError
from bridge.ledger import Ledger
from bridge.live.controls import COMMANDS, Controls, check
from bridge.live.pipe import receive_message
from bridge.live.probe import choose_api
from bridge.livehost.delays import delay_ms
from bridge.livehost.history import History
from bridge.livehost.piped import Child, start_generator, start_piped
from bridge.livehost.remote import ADDRESSEE
from bridge.livehost.takes import Take, move_take, write_take
from bridge.manifest import read_manifest

POLL_S = 0.05  # how often requests are looked for
STATE_S = 0.5
READY_S = 15.0
HUNG_S = 20.0  # without a word from the generator after an ask
AGAIN_S = 1.0  # between tries to start a child again
LONGEST_AGAIN_S = 30.0
SAME_TEMPO_BPM = 0.5
KEPT_IN_MIND = 600  # notes told to a generator that starts anew

Tell = Callable[[Mapping[str, Any]], None]


class Session:
    """One companion, from start to end."""

    def __init__(
        self, config: Config, folders: Folders, tell: Tell, *, api: str = "", song: Path | None = None
    ) -> None:
        self._config, self._live_config, self._folders, self._tell = config, config.live, folders, tell
        self._wanted_api = api  # "none": no MIDI system; "": choose
        self.api = ""  # the one in use
        self._ports: tuple[str, ...] = ()
        self._song = song
        self._controls = config.live.controls
        self._history = History(config.live.capture_minutes * 60.0)
        self._state: dict[str, Any] = {}
        self._live: Child | None = None
        self._generator: Child | None = None
        self._live_again_s = self._generator_again_s = 0.0  # not before this moment
        self._generator_tries = 0  # since it last wrote something
        self._asked_s: float | None = None
        self._is_waiting_for_midi = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="takes")
        self._last_take: tuple[Path, Sequence[Sequence[Any]]] | None = None
        self._stated_s = 0.0
        self._ledger: Ledger | None = None

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set.

        Raises:
            LiveError: another companion runs, or a child can't be started.
            MidiError: there is no MIDI system, or no such port.
        """
        with _only_one(self._folders):
            self._ledger = Ledger(self._folders.ledger)
            try:
                self._ledger.forget_requests(ADDRESSEE)
                self._start_generator()
                self._start_live()
                self._check_generator()
                while not stop.is_set():
                    self._step()
            finally:
                self._close()

    # children

    def _start_generator(self) -> None:
        process, pipe = start_generator(self._live_config.model, self._folders.models)
        self._generator = Child(process, pipe)
        self._asked_s = None
        self._generator.send({"type": "metre", "bar_beats": self._controls.bar_beats})
        if self._song is not None:
            self._generator.send({"type": "song", "folder": str(self._song)})
        notes = self._history.last(KEPT_IN_MIND)
        if notes:
            self._generator.send({"type": "context", "notes": notes})

    def _check_generator(self) -> None:
        """One that can't even load its model will not come right by trying again."""
        assert self._generator is not None
        first = self._generator.first_message(READY_S, ("ready", "error"), "generator")
        if first["type"] == "error":
            raise ModelError(first["detail"])
        self._from_generator(first)

    def _start_live(self) -> None:
        api = self._wanted_api or choose_api(self._live_config.midi).api
        config = self._live_config
        process, pipe = start_piped("bridge.live", (), {})
        self._live = Child(process, pipe)
        early_ms = config.early_ms if config.early_ms is not None else delay_ms(self._folders, config.output)
        self._live.send(
            {
                "type": "start",
                "api": api,
                "inputs": list(config.inputs),
                "output": config.output,
                "link": config.link,
                "song_position": config.song_position,
                "early_ms": early_ms,
                "answer_note": config.answer_note,
                "cc": {cc.number: cc.control for cc in config.cc},
                "controls": dataclasses.asdict(self._controls),
                "from_beat": self._state.get("axis_beat", 0.0),
            }
        )
        first = self._live.first_message(READY_S, ("ready", "failed"), "live process")
        if first.get("type") == "failed":
            self._live.close()
            self._live = None
            raise MidiError(first["detail"], first["code"])
        self._ports, self.api = tuple(first["ports"]), api
        self._from_live({**first, "api": api})
        self._tell({"event": "controls", "controls": dataclasses.asdict(self._controls)})

    def _live_ended(self, why: str) -> None:
        assert self._live is not None
        self._live.close()
        self._live = None
        self._live_again_s = time.monotonic()
        self._warn(why)

    def _start_again(self) -> None:
        now_s = time.monotonic()
        if self._live is None and now_s >= self._live_again_s:
            self._live_again_s = now_s + AGAIN_S
            try:
                self._start_live()
                self._is_waiting_for_midi = False
            except (LiveError, MidiError) as exc:  # it may also die or stick while it opens its ports
                self._live = None
                if not self._is_waiting_for_midi:
                    self._warn(f"{exc.message} The companion waits for it.")
                self._is_waiting_for_midi = True
        if self._generator is None and now_s >= self._generator_again_s:
            self._generator_tries += 1
            self._generator_again_s = now_s + min(AGAIN_S * 2**self._generator_tries, LONGEST_AGAIN_S)
            self._start_generator()

    # the loop

    def _step(self) -> None:
        self._start_again()
        children = {child.pipe: child for child in (self._live, self._generator) if child is not None}
        for pipe in wait(list(children), POLL_S):
            child = children[pipe]  # type: ignore[index]
            try:
                message = receive_message(child.pipe)
            except EOFError:
                self._ended(child)
                continue
            if child is self._live:
                self._from_live(message)
            elif child is self._generator:
                self._from_generator(message)
        self._look_after_generator()
        self._take_requests()
        self._write_state()

    def _ended(self, child: Child) -> None:
        code = child.exit_code()
        if child is self._live:
            self._live_ended(f"The live process ended (exit {code}). It is started again.")
        elif child is self._generator:
            self._generator_ended(f"The generator ended (exit {code}). It is started again.")

    def _generator_ended(self, why: str) -> None:
        assert self._generator is not None
        self._generator.close(now=True)
        self._generator = None
        self._warn(why)

    def _look_after_generator(self) -> None:
        if self._asked_s is not None and time.monotonic() - self._asked_s > HUNG_S:
            self._generator_ended(f"The generator did not answer for {HUNG_S:.0f} s. It is started again.")
            self._asked_s = None

    def _from_live(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "state":
            self._state = message
            self._tell({"event": "state", **_without_type(message)})
        elif kind == "context":
            self._history.add(message["notes"], time.monotonic())
            told = [note[:5] for note in message["notes"] if not (note[5] and self._controls.mode == "loop")]
            if told:
                self._to_generator({"type": "context", "notes": told})
        elif kind in ("ask", "cancel", "metre"):
            self._asked_s = time.monotonic() if kind == "ask" else None
            self._to_generator(message)
        elif kind == "played":
            self._write_take(message)
        elif kind == "controls":
            self._controls = Controls(**message["controls"])
            self._tell({"event": "controls", "controls": message["controls"]})
        elif kind == "command":
            self._writer.submit(self._guarded, self._file_command, message["name"])
        elif kind == "lost":
            self._live_ended(message["detail"])
        else:
            self._tell({"event": kind, **_without_type(message)})

    def _from_generator(self, message: dict[str, Any]) -> None:
        self._asked_s = None
        if message["type"] == "phrase":
            self._generator_tries = 0
            if self._live is not None:
                self._live.send(message)
        elif message["type"] == "error":
            self._warn(message["detail"])
        elif message["type"] == "song":
            self._song_is_known(message)
        else:
            self._tell({"event": "generator", **_without_type(message)})

    def _to_generator(self, message: Mapping[str, Any]) -> None:
        if self._generator is not None:
            self._generator.send(message)

    def _take_song(self, folder: Path) -> bool:
        """Use a song that came back, if it can be of the project that plays: the tempo tells."""
        tempo = read_manifest(folder).tempo
        leads = self._state.get("source", "internal") != "internal"
        if tempo is None or (leads and abs(tempo.bpm - self._state["bpm"]) > SAME_TEMPO_BPM):
            return False
        self._song = folder
        self._to_generator({"type": "song", "folder": str(folder)})
        return True

    def _song_is_known(self, song: Mapping[str, Any]) -> None:
        """A bounce of the same project sets key, metre and tempo; its parts are what the generator goes on from."""
        wanted = dataclasses.asdict(self._controls)
        wanted |= {"beats_per_bar": song["beats_per_bar"], "beat_unit": song["beat_unit"]}
        wanted |= {"tempo": song["bpm"]} if song["bpm"] else {}
        wanted |= {"key": song["key"]} if song["key"] else {}
        for name, value in wanted.items():
            if value != getattr(self._controls, name):
                with contextlib.suppress(UsageError):  # a metre or tempo that nobody can play along with
                    self.set_control(name, value)
        self._tell({"event": "song", **_without_type(song)})

    # what the musician asks for

    def set_control(self, name: str, value: Any) -> None:
        """Set one control.

        Raises:
            UsageError: no such control, or a value out of range.
        """
        table = {**dataclasses.asdict(self._controls), name: value}
        controls = check(read_table(Controls, table, "live", UsageError))
        self._controls = controls
        if self._live is not None:
            self._live.send({"type": "control", "name": name, "value": getattr(controls, name)})

    @property
    def heard(self) -> int:
        """How many notes are in mind."""
        return len(self._history.last(KEPT_IN_MIND))

    @property
    def generator_pid(self) -> int:
        """The generator's process; 0 while there is none."""
        return self._generator.process.pid if self._generator is not None else 0

    def play(self, message: bytes) -> None:
        """Let the companion hear a MIDI message where there is no MIDI system; callable from another thread."""
        if self._live is not None:
            self._live.send({"type": "midi", "data": list(message)})

    def request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do what a request says; the answer.

        Raises:
            DawbridgeError: it can't be done.
        """
        name = body["name"]
        if "value" in body:
            self.set_control(name, body["value"])
            return {"ok": True, "name": name, "value": getattr(self._controls, name)}
        if name == "capture":
            return {"ok": True, "path": str(self._capture())}
        if name == "song":
            return {"ok": True, "used": self._take_song(Path(body["folder"]))}
        if name not in COMMANDS:
            raise UsageError(f'"{name}" is no command. Commands are {", ".join(COMMANDS)}.')
        if self._live is not None:
            self._live.send({"type": "command", "name": name})
        return {"ok": True}

    def _take_requests(self) -> None:
        assert self._ledger is not None
        for request_id, body in self._ledger.open_requests(ADDRESSEE):
            try:
                answer = self.request(body)
            except DawbridgeError as exc:
                answer = {"ok": False, "code": exc.code, "detail": exc.message}
            self._ledger.answer(request_id, answer)

    # files

    def _write_take(self, played: Mapping[str, Any]) -> None:
        take = Take.of_reply(played, self._live_config.model)
        self._writer.submit(self._guarded, self._write_reply, take, played["notes"])

    def _write_reply(self, take: Take, notes: Sequence[Sequence[Any]]) -> None:
        path = write_take(self._config.outbox, take)
        self._last_take = (path, notes)
        self._tell(
            {
                "event": "take",
                "path": str(path),
                "notes": len(notes),
                "seed": take.seed,
                "is_cut": take.is_cut,
            }
        )

    def _file_command(self, name: str) -> None:
        if name == "capture":
            self._tell({"event": "capture", "path": str(self._capture())})
        elif self._last_take is None:
            self._warn(f"There is no reply to {name} yet.")
        else:
            path, notes = self._last_take
            folder = {"keep": "kept", "undo": "undone"}[name]
            self._last_take = None
            moved = move_take(path, folder)
            if name == "undo":
                self._history.forget(notes)
                self._to_generator({"type": "forget", "notes": notes})
            self._tell({"event": name, "path": str(moved)})

    def _capture(self) -> Path:
        heard = self._history.since(time.monotonic() - self._live_config.capture_minutes * 60.0)
        if not heard:
            raise LiveError("Nothing was heard in the last minutes, so there is nothing to save.", "nothing")
        bpm = float(self._state.get("bpm") or self._controls.tempo)
        return write_take(self._config.outbox, Take.of_capture(heard, bpm, self._controls))

    def _guarded(self, work: Callable[..., None], *args: Any) -> None:
        """In the writer's thread: what can't be written is told, and the music goes on."""
        try:
            work(*args)
        except DawbridgeError as exc:
            self._warn(exc.message)

    def _warn(self, detail: str) -> None:
        self._tell({"event": "told", "kind": "warning", "detail": detail})

    def _write_state(self) -> None:
        now_s = time.monotonic()
        if now_s - self._stated_s < STATE_S:
            return
        self._stated_s = now_s
        table = {
            "pid": os.getpid(),
            "api": self.api,
            "ports": self._ports,
            "state": self._state,
            "controls": dataclasses.asdict(self._controls),
        }
        with contextlib.suppress(OSError), replacing(self._folders.live_state) as file:
            file.write(json.dumps(table).encode())

    def _close(self) -> None:
        for child in (self._live, self._generator):
            if child is not None:
                child.close()
        self._writer.shutdown(wait=True)
        self._folders.live_state.unlink(missing_ok=True)
        if self._ledger is not None:
            self._ledger.close()


@contextlib.contextmanager
def _only_one(folders: Folders) -> Iterator[None]:
    folders.state.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folders.state / "live.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise LiveError(
            f"A companion runs already and holds {folders.state}. End it first, or set its controls: "
            "`dawbridge live set NAME VALUE`.",
            "locked",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _without_type(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "type"}
