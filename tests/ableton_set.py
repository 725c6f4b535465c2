"""A simulated Ableton Live: what the Remote Script may call, as strict as Live, and as fond of beats.

Any use of Live off the main thread raises. Audio comes in warped, long sounds with their start moved to a beat that
Live found; a clip's extent follows a switched Warp only in the next tick. What stands in which version is from
ableton-live-stubs and Live's own documentation; how clips behave, from reports of people who measured it.
Written for Python 3.7 too: `python -m tests.ableton_set` loads a song and prints what stands in the set.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
import types
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent.parent / "daw_scripts" / "live"
MISSING: dict[str, dict[str, set[str]]] = {  # version: (class, what it can't)
    "11.3": {
        "Track": {"create_audio_clip", "create_midi_clip"},
        "ClipSlot": {"create_audio_clip"},
    },
    "11.3.43": {"Track": {"create_midi_clip"}, "ClipSlot": set()},  # its create_audio_clip returns nothing
    "12.0.0": {"Track": {"create_audio_clip", "create_midi_clip"}, "ClipSlot": {"create_audio_clip"}},
    "12.3": {"Track": set(), "ClipSlot": set()},
}
LONG_S = 2.0  # from here on Auto-Warp looks for the first beat
FIRST_BEAT_S = 0.25
MAIN_ONLY = "Live was called off the main thread"


class LimitationError(Exception):
    """As Live.Base has it: the edition allows no more tracks."""


class LiveObject:
    """Raises where it is used off the main thread, or where this version of Live lacks what is asked."""

    def __init__(self, app: SimulatedLive) -> None:
        self.__dict__["app"] = app

    def __getattribute__(self, name: str) -> Any:
        held: dict[str, Any] = object.__getattribute__(self, "__dict__")
        app = held.get("app")
        if app is not None and not name.startswith("__"):
            app.check_thread()
            if name in MISSING[app.version].get(type(self).__name__, ()):
                raise AttributeError(f"{type(self).__name__} of Live {app.version} has no {name}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__["app"].check_thread()
        self.__dict__["app"].changed()
        object.__setattr__(self, name, value)


class MidiNoteSpecification:
    """A note to be."""

    def __init__(
        self, pitch: int, start_time: float, duration: float, velocity: float = 100.0, mute: bool = False
    ) -> None:
        assert 0 <= pitch <= 127 and start_time >= 0 and duration > 0 and 1 <= velocity <= 127
        self.pitch, self.start_time, self.duration, self.velocity = pitch, start_time, duration, velocity


class Clip(LiveObject):
    """A clip of notes, or of a file; its extent in the Arrangement is fresh after a tick only."""

    def __init__(self, app: SimulatedLive, is_arrangement: bool, start: float, path: str = "") -> None:
        super().__init__(app)
        seconds = file_seconds(path) if path else 0.0
        first_beat = FIRST_BEAT_S if path and app.auto_warp and seconds >= LONG_S else 0.0
        self.__dict__.update(
            name="",
            color=0,
            looping=not is_arrangement,
            notes=[],
            file_path=path,
            seconds=seconds,
            is_arrangement=is_arrangement,
            start_time=start,
            _warping=app.auto_warp and bool(path),
            _start_s=first_beat,
            _shown=(0.0, 0.0),
        )
        guessed = 4.0 * max(1, round(seconds * app.tempo / 240.0 + 0.3))
        self.__dict__["_shown"] = (0.0, guessed) if self._warping else (0.0, seconds)

    @property
    def warping(self) -> bool:
        return bool(self.__dict__["_warping"])

    @warping.setter
    def warping(self, value: bool) -> None:
        self.__dict__["_warping"] = value

    @property
    def loop_start(self) -> float:
        return float(self.__dict__["_shown"][0])

    @loop_start.setter
    def loop_start(self, value: float) -> None:
        moved = value - self.__dict__["_start_s"]
        self.__dict__["_start_s"] = value
        if self.is_arrangement:  # its left edge goes along
            beats = self.__dict__["start_time"] + moved * self.app.tempo / 60.0
            self.__dict__["start_time"] = max(0.0, beats)

    @property
    def start_marker(self) -> float:
        return self.loop_start

    @start_marker.setter
    def start_marker(self, value: float) -> None:
        if not self.is_arrangement:  # there Live drops it without a word
            self.__dict__["_start_s"] = value

    @property
    def loop_end(self) -> float:
        return float(self.__dict__["_shown"][1])

    @property
    def end_time(self) -> float:
        low, high = self.__dict__["_shown"]
        per_unit = 1.0 if self.warping or not self.file_path else self.app.tempo / 60.0
        return float(self.start_time + (high - low) * per_unit)

    def add_new_notes(self, notes: Any) -> None:
        assert all(isinstance(note, MidiNoteSpecification) for note in notes)
        assert not self.file_path, "an audio clip holds no notes"
        self.app.changed()
        self.notes.extend(notes)

    def settle(self) -> None:
        """The next tick."""
        if self.file_path and not self.__dict__["_warping"]:
            self.__dict__["_shown"] = (self.__dict__["_start_s"], self.__dict__["seconds"])

    def picture(self) -> Any:
        """What a person would see, as plain data."""
        return {
            "name": self.name,
            "color": self.color,
            "start": round(self.start_time, 6),
            "end": round(self.end_time, 6),
            "warping": self.warping,
            "from_s": self.__dict__["_start_s"],
            "file": Path(self.file_path).name,
            "notes": [
                (n.pitch, round(n.start_time, 6), round(n.duration, 6), n.velocity) for n in self.notes
            ],
        }


class ClipSlot(LiveObject):
    """A place in the Session."""

    clip: Clip | None

    def __init__(self, app: SimulatedLive, track: Track) -> None:
        super().__init__(app)
        self.__dict__.update(clip=None, track=track, is_recording=False)

    @property
    def has_clip(self) -> bool:
        return self.clip is not None

    def create_clip(self, length: float) -> Clip:
        self._must_be_empty(False)
        made = Clip(self.app, False, 0.0)
        made.__dict__["_shown"] = (0.0, length)
        self.clip = made
        return made

    def create_audio_clip(self, file_path: str) -> Clip:
        self._must_be_empty(True)
        must_be_file(file_path)
        made = Clip(self.app, False, 0.0, file_path)
        self.clip = made
        return made

    def delete_clip(self) -> None:
        if self.clip is None:
            raise RuntimeError("The slot is empty")
        self.clip = None

    def _must_be_empty(self, is_audio: bool) -> None:
        if self.clip is not None or self.track.is_audio != is_audio or self.track.is_frozen:
            raise RuntimeError("This slot takes no such clip")


class Track(LiveObject):
    """An audio or MIDI track."""

    def __init__(self, app: SimulatedLive, name: str, is_audio: bool) -> None:
        super().__init__(app)
        self.__dict__.update(
            name=name,
            color=0x808080,
            mute=False,
            arm=False,
            can_be_armed=True,
            is_audio=is_audio,
            is_frozen=False,
            data={},
            arrangement_clips=[],
            clip_slots=[ClipSlot(app, self)],
        )

    def get_data(self, key: str, default_value: Any) -> Any:
        return self.data.get(key, default_value)

    def set_data(self, key: str, value: Any) -> None:
        json.dumps(value)
        self.app.changed()
        self.data[key] = value

    def create_audio_clip(self, file_path: str, position: float) -> Any:
        self._must_take(position, True)
        must_be_file(file_path)
        return self._place(Clip(self.app, True, position, file_path))

    def create_midi_clip(self, start_time: float, length: float) -> Any:
        self._must_take(start_time, False)
        clip = Clip(self.app, True, start_time)
        clip.__dict__["_shown"] = (0.0, length)
        return self._place(clip)

    def duplicate_clip_to_arrangement(self, clip: Clip, destination_time: float) -> Any:
        self._must_take(destination_time, bool(clip.file_path))
        made = Clip(self.app, True, destination_time, clip.file_path)
        copied = ("name", "color", "_warping", "_start_s", "_shown")
        made.__dict__.update({key: clip.__dict__[key] for key in copied}, notes=list(clip.notes))
        return self._place(made)

    def delete_clip(self, clip: Clip) -> None:
        self.app.changed()
        self.arrangement_clips.remove(clip)

    def _place(self, clip: Clip) -> Any:
        self.app.changed()
        self.arrangement_clips.append(clip)
        return clip if self.app.version != "11.3.43" else None

    def _must_take(self, position: float, is_audio: bool) -> None:
        if self.is_audio != is_audio or self.is_frozen or not 0.0 <= position <= 1576800.0:
            raise RuntimeError("This track takes no such clip there")

    def picture(self) -> Any:
        """What a person would see, as plain data."""
        return {
            "name": self.name,
            "color": self.color,
            "mute": self.mute,
            "arm": self.arm,
            "audio": self.is_audio,
            "frozen": self.is_frozen,
            "data": dict(self.data),
            "arrangement": [clip.picture() for clip in self.arrangement_clips],
            "session": [slot.clip.picture() for slot in self.clip_slots if slot.clip is not None],
        }


class SimulatedSet(LiveObject):
    """The song that is open."""

    def __init__(self, app: SimulatedLive, name: str) -> None:
        super().__init__(app)
        view = LiveObject(app)
        self.__dict__.update(
            name=name,
            tempo=app.tempo,
            signature_numerator=4,
            signature_denominator=4,
            is_playing=False,
            is_counting_in=False,
            record_mode=False,
            session_record=False,
            current_song_time=0.0,
            tracks=[Track(app, "1-MIDI", False), Track(app, "2-Audio", True)],
            view=view,
        )
        view.__dict__["selected_track"] = self.__dict__["tracks"][1]

    def create_audio_track(self, index: int) -> Track:
        return self._create("Audio", True, index)

    def create_midi_track(self, index: int) -> Track:
        return self._create("MIDI", False, index)

    def delete_track(self, index: int) -> None:
        self.app.changed()
        del self.tracks[index]
        self.view.selected_track = self.tracks[0]

    def begin_undo_step(self) -> None:
        assert not self.app.in_step, "an undo step within another"
        self.app.in_step, self.app.step_counted = True, False

    def end_undo_step(self) -> None:
        assert self.app.in_step, "an undo step ended that never began"
        self.app.in_step = False

    def _create(self, kind: str, is_audio: bool, index: int) -> Track:
        assert index == -1, "only at the end"
        if len(self.tracks) >= self.app.most_tracks:
            raise LimitationError("This edition of Live allows no more tracks")
        self.app.changed()
        track = Track(self.app, f"{len(self.tracks) + 1}-{kind}", is_audio)
        track.__dict__["is_frozen"] = self.app.new_tracks_frozen
        track.__dict__["arm"] = self.app.new_tracks_armed
        self.tracks.append(track)
        self.view.selected_track = track
        return track


class SimulatedLive:
    """The program, and `c_instance`, its side of the bridge to a script."""

    def __init__(self, version: str = "12.3", tempo: float = 120.0, name: str = "My Set") -> None:
        self.version, self.tempo = version, tempo
        self.main_thread = threading.get_ident()
        self.auto_warp = True
        self.most_tracks = 1000
        self.new_tracks_frozen = self.new_tracks_armed = False
        self.in_step, self.step_counted, self.undo_steps = False, False, 0
        self.messages: list[str] = []
        self.log: list[str] = []
        self.forwarded: list[tuple[int, int]] = []
        self.set = SimulatedSet(self, name)

    def check_thread(self) -> None:
        if threading.get_ident() != self.main_thread:
            raise RuntimeError(MAIN_ONLY)

    def changed(self) -> None:
        """One change: an undo step of its own, unless it is part of one."""
        if not (self.in_step and self.step_counted):
            self.undo_steps += 1
        self.step_counted = self.in_step

    def tick(self) -> None:
        """What Live works out between two of its ticks."""
        for track in self.set.tracks:
            slots = [slot.clip for slot in track.clip_slots if slot.clip is not None]
            for clip in [*track.arrangement_clips, *slots]:
                clip.settle()

    def picture(self) -> Any:
        """The set as a person would see it."""
        return {
            "tracks": [track.picture() for track in self.set.tracks],
            "selected": self.set.view.selected_track.name,
            "tempo": self.set.tempo,
        }

    def modules(self) -> dict[str, types.ModuleType]:
        """What `import Live` finds."""
        live = types.ModuleType("Live")
        live.Clip = types.SimpleNamespace(MidiNoteSpecification=MidiNoteSpecification)  # type: ignore[attr-defined]
        live.MidiMap = types.SimpleNamespace(forward_midi_cc=self._forward)  # type: ignore[attr-defined]
        return {"Live": live}

    def song(self) -> SimulatedSet:
        self.check_thread()
        return self.set

    def handle(self) -> int:
        self.check_thread()
        return 7

    def show_message(self, text: str) -> None:
        self.check_thread()
        assert "\n" not in text
        self.messages.append(text)

    def log_message(self, text: str) -> None:
        self.check_thread()
        self.log.append(text)

    def _forward(self, script: int, midi_map: int, channel: int, number: int) -> bool:
        self.check_thread()
        self.forwarded.append((channel, number))
        return True


class Stage:
    """The script inside a simulated Live, with a worker that looks often."""

    def __init__(
        self, live: SimulatedLive, config: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        sys.modules.update(live.modules())
        if str(SCRIPTS) not in sys.path:
            sys.path.insert(0, str(SCRIPTS))
        for name in [name for name in sys.modules if name.split(".")[0] == "dawbridge"]:
            del sys.modules[name]
        keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing compiled in what ships
        try:
            package = importlib.import_module("dawbridge")
            worker = importlib.import_module("dawbridge.worker")
        finally:
            sys.dont_write_bytecode = keep
        self.live = live
        self.script = package.Script(
            live, config_path=config, worker=lambda found: worker.Worker(found, poll_s=0.005), clock=clock
        )

    def tick(self) -> None:
        """One of Live's."""
        self.live.tick()
        self.script.update_display()

    def until(self, happened: Callable[[], bool], limit_s: float = 10.0) -> None:
        """Tick until it is so.

        Raises:
            AssertionError: it never was.
        """
        end = time.monotonic() + limit_s
        while not happened():
            assert time.monotonic() < end, self.live.messages + self.live.log
            self.tick()
            threading.Event().wait(0.001)  # the worker's turn

    def until_said(self, part: str) -> str:
        """Tick until a line with this in it was shown; the line."""
        self.until(lambda: any(part in line for line in self.live.messages))
        return next(line for line in reversed(self.live.messages) if part in line)

    def press(self, number: int = 119, channel: int = 16, value: int = 127) -> None:
        """Turn a controller."""
        self.script.receive_midi((0xB0 | (channel - 1), number, value))


def file_seconds(path: str) -> float:
    """How long a sound file lasts."""
    with wave.open(path, "rb") as file:
        return file.getnframes() / float(file.getframerate())


def must_be_file(path: str) -> None:
    """As Live: a whole path of a file that is there."""
    if not (Path(path).is_absolute() and Path(path).is_file()):
        raise RuntimeError("This path does not point to a valid audio file")


def main() -> None:
    """Load the newest song of a status file; `argv`: version, configuration."""
    stage = Stage(SimulatedLive(sys.argv[1]), Path(sys.argv[2]))
    stage.until(lambda: stage.script._status is not None)
    stage.press()
    stage.until_said("new tracks")
    stage.script.disconnect()
    print(json.dumps(stage.live.picture(), sort_keys=True))


if __name__ == "__main__":
    main()
