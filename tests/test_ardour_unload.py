"""What comes back is loaded into a real Ardour, undone and taken away, each action run from Ardour's own loop.

It needs the Debian packages of `tests/ardour.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bridge import install
from bridge.config import Config, WatchConfig
from tests.ardour import HAVE_ARDOUR, NO_AVX512, Ardour, EngineLost, ardour_session, scripts_folder
from tests.ardour_lua import run_lua
from tests.jack import jack_server, wait_until
from tests.real import require_real
from tests.reaper_songs import return_song
from tests.test_ardour_scripts import ARDOUR_LIMIT_S, Audio, content, made_song, read_audio
from tests.x11_keys import ESCAPE, RIGHT, SPACE, press_keys

pytestmark = [pytest.mark.real, pytest.mark.daw, pytest.mark.timeout(400)]

ATTEMPTS = 5
SHOWN_S = 1.0  # a box that has just come does not take every key yet
YES, NO = (RIGHT, SPACE), (ESCAPE,)

IMPORT = """
local files = C.StringVector ()
files:push_back ("{song}")
Editor:do_import (files,
    Editing.ImportDistinctFiles, Editing.ImportAsTrack, ARDOUR.SrcQuality.SrcBest,
    ARDOUR.MidiTrackNameSource.SMFTrackName, ARDOUR.MidiTempoMapDisposition.SMFTempoIgnore,
    Temporal.timepos_t (0), ARDOUR.PluginInfo (), ARDOUR.Track (), false)
"""
SET_FADER = """
local list = Session:get_tracks ()
for route in list:iter () do
    if route:comment ():match (" lead$") then
        route:gain_control ():set_value ({value}, PBD.GroupControlDisposition.NoGroup)
    end
end
"""
FADERS = """
local list, values = Session:get_tracks (), ""
for route in list:iter () do
    if route:comment ():match (" lead$") then values = values .. route:gain_control ():get_value () .. " " end
end
say (values)
"""


@dataclass
class Session:
    """An Ardour that works, and what its actions said."""

    ardour: Ardour
    lines: dict[str, str] = field(default_factory=dict)

    def act(self, label: str, action: str) -> None:
        self.lines[label] = run_lua(self.ardour, f'act ("{action}")')

    def undo(self) -> None:
        self.ardour.access_action("Editor/undo")

    def save(self, name: str) -> None:
        run_lua(self.ardour, f'Session:save_state ("{name}")')

    def set_fader(self, value: float) -> None:
        """Move the fader of the lead, in the audio engine's next cycle."""
        run_lua(self.ardour, SET_FADER.format(value=value))
        wait_until(
            lambda: {float(told) for told in run_lua(self.ardour, FADERS).split()} == {value},
            "the fader moves",
            ARDOUR_LIMIT_S,
        )

    def unload(self, label: str, keys: tuple[int, ...]) -> None:
        """Unload, and answer Ardour's question with these keys."""
        self.act(label, "dawbridge_unload")
        wait_until(lambda: self._press(()), "Ardour asks", ARDOUR_LIMIT_S, 0.1)
        time.sleep(SHOWN_S)
        self._press(keys)
        wait_until(lambda: not self._press(()), "Ardour's box closes", ARDOUR_LIMIT_S, 0.1)

    def saved(self, name: str) -> ElementTree.Element:
        return ElementTree.parse(self.ardour.session / f"{name}.ardour").getroot()

    def names(self, name: str) -> list[str]:
        """The tracks of a saved session."""
        return [str(route.get("name")) for route in self.saved(name).iterfind("Routes/Route")]

    def exported(self, name: str) -> Audio:
        """What Ardour's own export makes of a saved session's range, `(frames, channels)`."""
        path = self.ardour.session.parent / f"{name}.wav"
        command = ("ardour7-export", "-b", "float", "-o", str(path), str(self.ardour.session), name)
        env = os.environ | NO_AVX512
        subprocess.run(command, check=True, capture_output=True, timeout=ARDOUR_LIMIT_S, env=env)
        return read_audio(path)

    def _press(self, keys: tuple[int, ...]) -> bool:
        self.ardour.check_alive()
        return press_keys(self.ardour.display, "Remove track", keys)


@pytest.fixture(scope="module")
def unloaded(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A song is loaded, undone, loaded again and unloaded; Ardour's question is answered no, yes, yes."""
    require_real(HAVE_ARDOUR, "Ardour, Xvfb and JACK: apt-get install ardour xvfb jackd2")
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(EngineLost):
            return played(tmp_path_factory.mktemp("unload"))
    return played(tmp_path_factory.mktemp("unload"))


def played(base: Path) -> Session:
    outbox = base / "outbox"
    (outbox / ".dawbridge").mkdir(parents=True)
    for name, gain in (("Song", 0.5), ("Other", 0.25)):
        return_song(outbox, name, job=name, gain=gain)
    offer(outbox, "Song")
    config = Config(outbox=outbox, watch=(WatchConfig(inbox=base / "inbox"),))
    with jack_server(1024, synchronous=False) as jack, ardour_session(base / "ardour", jack) as ardour:
        place = install.Place(install.DAWS["ardour"], scripts_folder(ardour.session.parent), True)
        install.install(place, config)
        session = Session(ardour)
        play(session, made_song(base))
        play_two_songs(session, outbox)
    return session


def offer(outbox: Path, name: str) -> None:
    """Make this song the only one that the daemon tells of."""
    status = {"schema": 1, "returned": [{"folder": name, "created_at": ""}]}
    (outbox / ".dawbridge" / "status.json").write_text(json.dumps(status))


def play(session: Session, song: Path) -> None:
    run_lua(session.ardour, IMPORT.format(song=song))
    session.save("before")
    session.act("nothing to unload", "dawbridge_unload")
    session.act("load", "dawbridge_load")
    session.save("loaded")
    session.undo()
    session.act("load after undo", "dawbridge_load")
    session.save("reloaded")
    session.set_fader(0.5)
    session.unload("refused", NO)
    session.save("refused")
    session.unload("unload", YES)
    session.save("one_left")
    session.set_fader(1.0)
    session.unload("unload the last", YES)
    session.save("unloaded")
    session.act("unload again", "dawbridge_unload")
    session.undo()
    session.act("load at last", "dawbridge_load")
    session.save("at_last")


def play_two_songs(session: Session, outbox: Path) -> None:
    session.undo()
    offer(outbox, "Other")
    session.act("load another", "dawbridge_load")
    session.save("another")
    offer(outbox, "Song")
    session.act("load the first again", "dawbridge_load")
    session.unload("unload the first", YES)
    session.save("other_left")


def test_unload_leaves_the_session_as_it_was_before_the_load(unloaded: Session) -> None:
    before, after = content(unloaded.saved("before")), content(unloaded.saved("unloaded"))
    for part in ("Routes", "RouteGroups", "Locations", "TempoMap"):
        assert after[part] == before[part], part
    for part in ("Sources", "Playlists"):  # of removed tracks Ardour keeps both, until it is told to clean up
        assert set(before[part]) <= set(after[part])
    played, exported = unloaded.exported("before"), unloaded.exported("unloaded")
    assert played.any()
    assert np.array_equal(played, exported)
    assert len(unloaded.names("loaded")) > len(before["Routes"])
    assert "holds nothing that dawbridge loaded" in unloaded.lines["unload again"]
    assert "holds nothing that dawbridge loaded" in unloaded.lines["nothing to unload"]


def test_after_an_undo_and_after_an_unload_the_song_loads_as_at_first(unloaded: Session) -> None:
    assert "is loaded: " in unloaded.lines["load"]
    for label, name in (("load after undo", "reloaded"), ("load at last", "at_last")):
        assert unloaded.lines[label] == unloaded.lines["load"]
        assert sorted(unloaded.names(name)) == sorted(unloaded.names("loaded"))
        regions = unloaded.saved(name).findall("Playlists/Playlist/Region")
        assert len(regions) == len(unloaded.saved("loaded").findall("Playlists/Playlist/Region"))


def test_a_track_that_was_changed_stays_and_is_named(unloaded: Session) -> None:
    (stays,) = set(unloaded.names("one_left")) - set(unloaded.names("before"))
    assert stays.startswith("lead")
    assert unloaded.lines["unload"].endswith(f"Changed since and left alone: {stays}.")


def test_who_answers_no_keeps_every_track(unloaded: Session) -> None:
    assert unloaded.names("refused") == unloaded.names("reloaded")


def test_unload_takes_the_song_that_was_loaded_last_also_onto_older_tracks(unloaded: Session) -> None:
    assert "Other is loaded: " in unloaded.lines["load another"]
    assert "Song is loaded: " in unloaded.lines["load the first again"]
    ours = set(unloaded.names("another")) - set(unloaded.names("at_last"))
    assert set(unloaded.names("other_left")) == set(unloaded.names("before")) | ours
