"""Runs a script of ours in Lua 5.4 against a strict `reaper` and `gfx`, over a simulated project.

A name that isn't in `reaper_api`, a wrong number or type of arguments, or a handle of another kind is a fault: it
raises inside the script and is also kept in `faults`, so that no pcall can hide it. Scripts use the real disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lupa.lua54 import LuaRuntime

from tests.reaper_api import ACTIONS, GFX, GFX_FIELDS, REAPER, RENDER_NUMBERS, RENDER_TEXTS, Function
from tests.reaper_project import PPQ, Item, Project, Source, Take, Track, UndoStep

OK, CANCEL = 1, 2
HANDLES = {
    "MediaTrack": Track,
    "MediaItem": Item,
    "MediaItem_Take": Take,
    "PCM_source": Source,
    "ReaProject": Project,
}
PLAIN: dict[str, tuple[type, ...]] = {"string": (str,), "boolean": (bool,), "number": (int, float)}
MAKE_STRICT = """
function(call, names, fields)
  local function strict(what, functions, own)
    local table_ = {}
    for name in functions:gmatch("%S+") do
      table_[name] = function(...) return call(what, name, select("#", ...), ...) end
    end
    for name in own:gmatch("%S+") do table_[name] = 0 end
    return setmetatable(table_, {
      __index = function(_, key) call("fault", what .. " has no " .. tostring(key), 0) end,
      __newindex = function(_, key) call("fault", what .. "." .. tostring(key) .. " can't be set", 0) end,
    })
  end
  reaper, gfx = strict("reaper", names.reaper, ""), strict("gfx", names.gfx, fields)
  local open = io.open
  opened = 0
  io.open = function(...)
    opened = opened + 1
    return open(...)
  end
end
"""


class Fault(Exception):
    """A script used REAPER in a way that REAPER doesn't offer."""


class Reaper:
    """One running REAPER with at most one project in front."""

    def __init__(self, project: Project | None) -> None:
        self.project = project
        self.version = "7.27/x64"
        self.ext_state: dict[tuple[str, str], str] = {}
        self.said: list[str] = []  # lines that stop nobody
        self.boxes: list[str] = []  # message boxes
        self.answer = OK
        self.clock_s = 100.0
        self.faults: list[str] = []
        self.calls: list[str] = []
        self.actions: list[int] = []
        self.options = 0
        self.sources: list[Source] = []
        self.drawn: list[tuple[str, float, float]] = []
        self.menus: list[str] = []
        self.choice = 0
        self.is_window_open = False
        self.fails_at = ""  # functions that raise when they are called
        self._deferred: list[Any] = []
        self._at_exit: list[Any] = []
        self._refresh = 0
        self._block: list[Track] | None = None
        self._guids = 0
        self._listed: dict[str, list[str]] = {}
        self._objects: list[Any] = []
        self._handles: dict[int, Any] = {}
        self._lua = LuaRuntime(unpack_returned_tuples=True)
        names = self._lua.table(reaper=" ".join(REAPER), gfx=" ".join(GFX))
        self._lua.eval(MAKE_STRICT)(self._call, names, " ".join(GFX_FIELDS))
        self._globals = set(self._lua.globals())

    # For tests

    def run(self, script: Path) -> None:
        """Run an action's script to its end, or to its first deferred turn.

        Raises:
            AssertionError: it used REAPER wrongly, or left something open.
        """
        self._lua.globals().dofile(str(script))
        self.check()

    def turn(self, turns: int = 1, step_s: float = 1 / 30) -> None:
        """Let the deferred functions run so often, with the clock going on by `step_s` between."""
        for _ in range(turns):
            self.clock_s += step_s
            due, self._deferred = self._deferred, []
            for function in due:
                function()
        self.check()

    def check(self) -> None:
        """Nothing was used wrongly, and nothing is left open."""
        assert not self.faults, self.faults
        assert self._refresh == 0, "PreventUIRefresh was not taken back"
        assert self._block is None, "an undo block is left open"
        assert set(self._lua.globals()) == self._globals, "a script made a global"

    def close(self) -> None:
        """End the script as REAPER does: its atexit functions run."""
        self._deferred = []
        for function in self._at_exit:
            function()
        self.check()

    @property
    def is_deferring(self) -> bool:
        """Whether a script goes on running."""
        return bool(self._deferred)

    @property
    def files_opened(self) -> int:
        """How many files scripts have opened with io.open."""
        count: int = self._lua.globals().opened
        return count

    def record_renames(self) -> list[str]:
        """The targets of every os.rename from now on, in a list that grows."""
        renames: list[str] = []
        wrap = "function(told) local rename = os.rename; os.rename = function(from, to) told(to) return rename(from, to) end end"
        self._lua.eval(wrap)(renames.append)
        return renames

    def gfx(self, **fields: float) -> None:
        """Set fields of gfx, such as the mouse's."""
        for name, value in fields.items():
            self._lua.globals().gfx[name] = value

    def click(self, label: str) -> None:
        """Press and let go of the left button on what is drawn with this label; some turns go by."""
        x, y = next((x, y) for text, x, y in reversed(self.drawn) if text == label)
        self.gfx(mouse_x=x + 2, mouse_y=y + 2)
        self.turn()
        self.gfx(mouse_cap=1)
        self.turn()
        self.gfx(mouse_cap=0, mouse_x=0, mouse_y=0)
        self.turn()

    # The border

    def _call(self, table: str, name: str, count: int, *arguments: Any) -> Any:
        if table == "fault":
            raise self._fault(name)
        function = (REAPER if table == "reaper" else GFX)[name]
        values = self._checked(function, arguments[:count])
        self.calls.append(name)
        if name in self.fails_at.split():
            raise RuntimeError(f"{name} failed")
        method: Callable[..., Any] = getattr(self, f"_{table}_{name}")
        return self._wrapped(method(*values))

    def _fault(self, what: str) -> Fault:
        self.faults.append(what)
        return Fault(what)

    def _checked(self, function: Function, arguments: Sequence[Any]) -> list[Any]:
        most = len(function.parameters)
        if not function.least <= len(arguments) <= most:
            raise self._fault(
                f"{function.name} takes {function.least} to {most} arguments, not {len(arguments)}"
            )
        values = []
        for parameter, value in zip(function.parameters, arguments, strict=False):
            unwrapped = self._unwrapped(value)
            if not _fits(parameter.type, unwrapped):
                raise self._fault(
                    f"{function.name}: {parameter.name} must be {parameter.type}, not {value!r}"
                )
            values.append(unwrapped)
        return values

    def _unwrapped(self, value: Any) -> Any:
        if type(value).__name__ == "_LuaTable":
            return self._objects[value["handle"]]
        return value

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._wrapped(one) for one in value)
        if not isinstance(value, tuple(HANDLES.values())):
            return value
        if id(value) not in self._handles:
            self._objects.append(value)
            self._handles[id(value)] = self._lua.table(handle=len(self._objects) - 1)
        return self._handles[id(value)]

    @property
    def _open(self) -> Project:
        if self.project is None:
            raise self._fault("a project was used though none is open")
        return self.project

    def _changing(self) -> Project:
        """The project, for what must stand inside an undo block."""
        if self._block is None:
            raise self._fault("the project was changed outside an undo block")
        return self._open

    # reaper: the program

    def _reaper_GetAppVersion(self) -> str:
        return self.version

    def _reaper_genGuid(self, _: str) -> str:
        self._guids += 1
        return f"{{{self._guids:08X}-0000-4000-8000-{id(self) & 0xFFFFFFFFFFFF:012X}}}"

    def _reaper_time_precise(self) -> float:
        return self.clock_s

    def _reaper_defer(self, function: Any) -> bool:
        self._deferred.append(function)
        return True

    def _reaper_atexit(self, function: Any) -> bool:
        self._at_exit.append(function)
        return True

    def _reaper_set_action_options(self, flag: int) -> None:
        self.options = flag

    def _reaper_GetExtState(self, section: str, key: str) -> str:
        return self.ext_state.get((section, key), "")

    def _reaper_SetExtState(self, section: str, key: str, value: str, _persist: bool) -> None:
        self.ext_state[section, key] = value

    def _reaper_MB(self, message: str, _title: str, _kind: int) -> int:
        self.boxes.append(message)
        return self.answer

    def _reaper_Help_Set(self, text: str, _is_temporary: bool) -> None:
        self.said.append(text.removeprefix("dawbridge: "))

    def _reaper_ShowConsoleMsg(self, text: str) -> None:
        assert text.startswith("!SHOW:"), "the console would open"

    def _reaper_GetMousePosition(self) -> tuple[int, int]:
        return 300, 200

    def _reaper_file_exists(self, path: str) -> bool:
        return Path(path).is_file()

    def _reaper_RecursiveCreateDirectory(self, path: str, _: int) -> int:
        Path(path).mkdir(parents=True, exist_ok=True)
        return 1

    def _reaper_EnumerateSubdirectories(self, path: str, index: int) -> str | None:
        if index < 0 or path not in self._listed:  # REAPER lists a folder once, until it is asked with -1
            folder = Path(path)
            self._listed[path] = (
                sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
            )
        names = self._listed[path]
        return names[index] if 0 <= index < len(names) else None

    def _reaper_Main_OnCommand(self, command: int, _flag: int) -> None:
        assert command in ACTIONS
        self.actions.append(command)
        if command == 42230:
            self._open.render()

    def _reaper_PreventUIRefresh(self, count: int) -> None:
        self._refresh += count

    def _reaper_UpdateArrange(self) -> None:
        pass

    def _reaper_TrackList_AdjustWindows(self, _is_minor: bool) -> None:
        pass

    # reaper: the project

    def _reaper_EnumProjects(self, index: int) -> Project | None:
        assert index == -1
        return self.project

    def _reaper_GetProjectName(self, _: Any) -> str:
        return self._open.name

    def _reaper_GetProjectLength(self, _: Any) -> float:
        return self._open.length_s

    def _reaper_GetPlayStateEx(self, _: Any) -> int:
        return self._open.play_state

    def _reaper_GetCursorPositionEx(self, _: Any) -> float:
        return self._open.cursor_s

    def _reaper_SetEditCurPos2(self, _: Any, seconds: float, _move_view: bool, _seek: bool) -> None:
        self._open.cursor_s = seconds

    def _reaper_GetSet_LoopTimeRange2(
        self, _: Any, is_set: bool, is_loop: bool, start: float, stop: float, _seek: bool
    ) -> tuple[float, float]:
        name = "loop" if is_loop else "time_selection"
        if is_set:
            setattr(self._open, name, (start, stop))
        found: tuple[float, float] = getattr(self._open, name)
        return found

    def _reaper_GetSet_ArrangeView2(
        self, _: Any, is_set: bool, left: int, right: int, start: float, stop: float
    ) -> tuple[float, float]:
        assert left == right == 0
        if is_set:
            self._open.view = (start, stop)
        return self._open.view

    def _reaper_GetSetProjectInfo(self, _: Any, key: str, value: float, is_set: bool) -> float:
        project = self._open
        if key == "PROJECT_SRATE_USE":
            return float(project.uses_sample_rate)
        if key == "PROJECT_SRATE":
            return float(project.sample_rate_hz)
        if key not in RENDER_NUMBERS:
            raise self._fault(f"GetSetProjectInfo knows no {key}")
        if is_set:
            project.numbers[key] = float(value)
        return project.numbers[key]

    def _reaper_GetSetProjectInfo_String(self, _: Any, key: str, text: str, is_set: bool) -> tuple[bool, str]:
        if key == "RENDER_TARGETS":
            assert not is_set
            return True, ";".join(str(path) for path in self._open.render_targets())
        if key not in RENDER_TEXTS:
            raise self._fault(f"GetSetProjectInfo_String knows no {key}")
        if is_set:
            self._open.texts[key] = text
        return True, self._open.texts[key]

    def _reaper_Undo_BeginBlock2(self, _: Any) -> None:
        assert self._block is None
        self._block = self._open.snapshot()

    def _reaper_Undo_EndBlock2(self, _: Any, name: str, flags: int) -> None:
        assert self._block is not None
        self._open.undo.append(UndoStep(name, flags, self._block))
        self._block = None

    # reaper: time

    def _reaper_CountTempoTimeSigMarkers(self, _: Any) -> int:
        return len(self._open.tempo)

    def _reaper_GetTempoTimeSigMarker(self, _: Any, index: int) -> tuple[Any, ...]:
        if not 0 <= index < len(self._open.tempo):
            return False, 0.0, 0, 0.0, 0.0, 0, 0, False
        marker = self._open.tempo[index]
        beat, bar, _beats = self._open.beat_at(marker.at_s)
        return True, marker.at_s, bar, beat, marker.bpm, marker.num, marker.denom, marker.is_gradual

    def _reaper_TimeMap_GetTimeSigAtTime(self, _: Any, seconds: float) -> tuple[int, int, float]:
        return *self._open.metre_at(seconds), self._open.tempo_at(seconds)

    def _reaper_TimeMap2_timeToQN(self, _: Any, seconds: float) -> float:
        return self._open.quarters_at(seconds)

    def _reaper_TimeMap2_QNToTime(self, _: Any, quarters: float) -> float:
        return self._open.seconds_at(quarters)

    def _reaper_TimeMap2_timeToBeats(self, _: Any, seconds: float) -> tuple[float, int, int]:
        return self._open.beat_at(seconds)

    def _reaper_TimeMap2_beatsToTime(self, _: Any, beats: float, bar: int) -> float:
        assert beats == 0
        return self._open.bar_start_s(bar)

    # reaper: tracks

    def _reaper_CountTracks(self, _: Any) -> int:
        return len(self._open.tracks)

    def _reaper_GetTrack(self, _: Any, index: int) -> Track | None:
        tracks = self._open.tracks
        return tracks[index] if 0 <= index < len(tracks) else None

    def _reaper_InsertTrackAtIndex(self, index: int, wants_defaults: bool) -> None:
        assert not wants_defaults, "the musician's default effects would come with it"
        track = Track({"I_FOLDERDEPTH": 0, "B_MUTE": 0, "I_SELECTED": 0})
        self._changing().tracks.insert(index, track)

    def _reaper_DeleteTrack(self, track: Track) -> None:
        self._changing().tracks.remove(track)

    def _reaper_IsTrackSelected(self, track: Track) -> bool:
        return bool(track.info["I_SELECTED"])

    def _reaper_SetTrackSelected(self, track: Track, is_selected: bool) -> None:
        track.info["I_SELECTED"] = int(is_selected)

    def _reaper_SetOnlyTrackSelected(self, track: Track) -> None:
        for one in self._open.tracks:
            one.info["I_SELECTED"] = int(one is track)

    def _reaper_GetMediaTrackInfo_Value(self, track: Track, key: str) -> float:
        return float(track.info[key])

    def _reaper_SetMediaTrackInfo_Value(self, track: Track, key: str, value: float) -> bool:
        assert self._changing()
        track.info[key] = value
        return True

    def _reaper_GetSetMediaTrackInfo_String(
        self, track: Track, key: str, text: str, is_set: bool
    ) -> tuple[bool, str]:
        assert key == "P_NAME" or key.startswith("P_EXT:")
        if is_set:
            assert self._changing()
            track.texts[key] = text
        return key in track.texts, track.texts.get(key, "")

    def _reaper_ColorToNative(self, red: int, green: int, blue: int) -> int:
        return red | green << 8 | blue << 16

    # reaper: items, takes, sources

    def _reaper_CountMediaItems(self, _: Any) -> int:
        return len(self._open.items)

    def _reaper_GetMediaItem(self, _: Any, index: int) -> Item:
        return self._open.items[index]

    def _reaper_GetMediaItem_Track(self, item: Item) -> Track:
        return item.track

    def _reaper_IsMediaItemSelected(self, item: Item) -> bool:
        return bool(item.info.get("B_UISEL"))

    def _reaper_SetMediaItemSelected(self, item: Item, is_selected: bool) -> None:
        item.info["B_UISEL"] = float(is_selected)

    def _reaper_GetMediaItemInfo_Value(self, item: Item, key: str) -> float:
        return item.info[key]

    def _reaper_SetMediaItemInfo_Value(self, item: Item, key: str, value: float) -> bool:
        assert self._changing()
        item.info[key] = value
        return True

    def _reaper_AddMediaItemToTrack(self, track: Track) -> Item:
        item = Item(track, {"D_POSITION": 0.0, "D_LENGTH": 0.0, "B_LOOPSRC": 1.0, "B_UISEL": 1.0})
        assert self._changing()
        track.items.append(item)
        return item

    def _reaper_AddTakeToMediaItem(self, item: Item) -> Take:
        item.takes.append(Take(item))
        return item.takes[-1]

    def _reaper_GetActiveTake(self, item: Item) -> Take:
        return item.takes[0]

    def _reaper_SetMediaItemTake_Source(self, take: Take, source: Source) -> bool:
        assert not source.is_destroyed
        take.source = source
        return True

    def _reaper_GetSetMediaItemTakeInfo_String(
        self, take: Take, key: str, text: str, is_set: bool
    ) -> tuple[bool, str]:
        assert key == "P_NAME" and is_set
        take.name = text
        return True, text

    def _reaper_PCM_Source_CreateFromFile(self, path: str) -> Source | None:
        if not Path(path).is_file():
            return None
        self.sources.append(Source(os.path.normpath(path)))
        return self.sources[-1]

    def _reaper_PCM_Source_Destroy(self, source: Source) -> None:
        assert not source.is_destroyed
        source.is_destroyed = True

    def _reaper_CreateNewMIDIItemInProj(
        self, track: Track, start: float, stop: float, in_quarters: bool = False
    ) -> Item:
        assert not in_quarters and self._changing()
        item = Item(track, {"D_POSITION": start, "D_LENGTH": stop - start, "B_UISEL": 1.0})
        item.takes.append(Take(item))
        track.items.append(item)
        return item

    def _reaper_MIDI_GetPPQPosFromProjTime(self, take: Take, seconds: float) -> float:
        project = self._open
        quarters = project.quarters_at(seconds) - project.quarters_at(take.item.info["D_POSITION"])
        return quarters * PPQ

    def _reaper_MIDI_InsertNote(
        self, take: Take, selected: bool, muted: bool, start: int, stop: int, channel: int, pitch: int,
        velocity: int, no_sort: bool = False,
    ) -> bool:  # fmt: skip
        assert not selected and not muted and stop > start >= 0
        take.notes.append((start, stop, channel, pitch, velocity))
        take.is_sorted = take.is_sorted and not no_sort
        return True

    def _reaper_MIDI_InsertCC(
        self,
        take: Take,
        _selected: bool,
        _muted: bool,
        at: int,
        kind: int,
        channel: int,
        two: int,
        three: int,
    ) -> bool:
        take.controllers.append((at, kind, channel, two, three))
        return True

    def _reaper_MIDI_Sort(self, take: Take) -> None:
        take.notes.sort()
        take.is_sorted = True

    # gfx

    def _gfx_init(self, _name: str, width: float = 400, height: float = 300, *_: Any) -> None:
        self.is_window_open = True
        self.gfx(w=width, h=height)

    def _gfx_quit(self) -> None:
        self.is_window_open = False

    def _gfx_getchar(self, _char: int = 0) -> int:
        return 0 if self.is_window_open else -1

    def _gfx_update(self) -> None:
        pass

    def _gfx_set(self, *_: Any) -> None:
        pass

    def _gfx_rect(self, x: float, y: float, *_: Any) -> None:
        if x == y == 0:
            self.drawn = []  # the panel fills its ground first

    def _gfx_setfont(self, *_: Any) -> None:
        pass

    def _gfx_drawstr(self, text: str, *_: Any) -> None:
        gfx = self._lua.globals().gfx
        self.drawn.append((text, gfx.x, gfx.y))

    def _gfx_showmenu(self, text: str) -> int:
        assert self.is_window_open, "a menu needs a window"
        self.menus.append(text)
        return self.choice


def _fits(kind: str, value: Any) -> bool:
    if kind == "ReaProject":
        return value == 0 or isinstance(value, Project)
    if kind in HANDLES:
        return isinstance(value, HANDLES[kind])
    if kind == "function":
        return callable(value)
    if kind == "integer":
        return type(value) is int or (type(value) is float and value.is_integer())
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, PLAIN[kind])
