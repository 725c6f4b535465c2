"""The companion's parent with its real children: what dies comes back, what is asked is done, what is played is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.config import Config, Folders, LiveConfig, folders
from bridge.errors import DawbridgeError, LiveError
from bridge.live import wire
from bridge.live.controls import Controls
from bridge.livehost import session as session_module
from bridge.livehost.remote import ask_companion, companion_state, is_running, offer_song
from bridge.livehost.session import Session
from bridge.midi import read_midi
from tests.returned_song import made_song

WAIT_S = 30.0


class Watched:
    """A session in a thread, and all it tells."""

    def __init__(self, config: Config, where: Folders) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.session = Session(config, where, self.events.append, api="none")

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [event for event in list(self.events) if event["event"] == kind]

    def wait(self, found: Callable[[], Any], what: str) -> Any:
        deadline_s = time.monotonic() + WAIT_S
        while not (value := found()):
            assert time.monotonic() < deadline_s, f"no {what}: {self.events[-3:]}"
            time.sleep(0.02)
        return value

    def wait_for(self, kind: str, count: int = 1) -> Mapping[str, Any]:
        found = self.wait(lambda: self.of(kind)[count - 1 : count], f"{kind} {count}")
        event: Mapping[str, Any] = found[0]
        return event

    def warning(self, text: str) -> str:
        def found() -> list[str]:
            return [event["detail"] for event in self.of("told") if text in event["detail"]]

        line: str = self.wait(found, f"warning {text!r}")[0]
        return line


@contextmanager
def companion(outbox: Path, **controls: Any) -> Iterator[Watched]:
    wanted = Controls(**{"clock": "internal", "tempo": 180.0, "bars": 1, "beats_per_bar": 2, **controls})
    watched = Watched(Config(outbox=outbox, live=LiveConfig(controls=wanted)), folders())
    stop = threading.Event()
    thread = threading.Thread(target=watched.session.run, args=(stop,))
    thread.start()
    try:
        watched.wait_for("generator")
        watched.wait_for("state")
        yield watched
    finally:
        stop.set()
        thread.join(WAIT_S)


def play(watched: Watched, pitch: int = 60) -> None:
    watched.session.play(wire.note_on(0, pitch, 90))
    time.sleep(0.1)
    watched.session.play(wire.note_off(0, pitch))


@pytest.mark.real
@pytest.mark.usefixtures("dawbridge_home")
class TestWithChildren:
    def test_a_phrase_is_answered_and_the_reply_lies_in_the_outbox_with_seed_and_settings(
        self, tmp_path: Path
    ) -> None:
        with companion(tmp_path, key="D dorian", seed=5) as watched:
            play(watched)
            take = watched.wait_for("take")
        path = Path(take["path"])
        assert path.parent == tmp_path / "live" and take["seed"] == 5
        phrase, tempo = read_midi(path)
        assert len(phrase.notes) == take["notes"] > 0
        assert abs(tempo.points[0].bpm - 180.0) < 0.01 and tempo.beats_per_bar == 2
        assert {note.pitch % 12 for note in phrase.notes} <= {0, 2, 4, 5, 7, 9, 11}
        assert b"seed" in path.read_bytes() and b"D dorian" in path.read_bytes()

    def test_a_control_is_set_from_another_process_and_a_wrong_one_is_refused_with_its_range(
        self, tmp_path: Path
    ) -> None:
        with companion(tmp_path) as watched:
            assert ask_companion(folders(), {"name": "bars", "value": 3})["value"] == 3
            watched.wait(
                lambda: [e for e in watched.of("controls") if e["controls"]["bars"] == 3], "controls"
            )
            with pytest.raises(LiveError, match=r"bars = 99 is out of range: it must be from 1 to 32"):
                ask_companion(folders(), {"name": "bars", "value": 99})
            with pytest.raises(LiveError, match='"dance" is no command'):
                ask_companion(folders(), {"name": "dance"})
            watched.wait(
                lambda: companion_state(folders()).get("controls", {}).get("bars") == 3, "state file"
            )
        assert not is_running(folders())

    def test_capture_saves_what_was_heard_and_says_when_nothing_was(self, tmp_path: Path) -> None:
        with companion(tmp_path, mute=True) as watched:
            with pytest.raises(LiveError, match="Nothing was heard"):
                ask_companion(folders(), {"name": "capture"})
            play(watched, 64)
            watched.wait(lambda: watched.session.heard, "note")
            path = Path(str(ask_companion(folders(), {"name": "capture"})["path"]))
        phrase, _ = read_midi(path)
        assert [note.pitch for note in phrase.notes] == [64]

    def test_keep_puts_the_last_reply_aside_and_undo_takes_one_back(self, tmp_path: Path) -> None:
        with companion(tmp_path) as watched:
            play(watched)
            watched.wait_for("take")
            ask_companion(folders(), {"name": "keep"})
            kept = Path(watched.wait_for("keep")["path"])
            play(watched)
            watched.wait_for("take", 2)
            ask_companion(folders(), {"name": "undo"})
            undone = Path(watched.wait_for("undo")["path"])
            ask_companion(folders(), {"name": "undo"})
            assert "no reply to undo" in watched.warning("no reply")
        assert kept.is_file() and kept.parent.name == "kept"
        assert undone.is_file() and undone.parent.name == "undone"
        assert not list((tmp_path / "live").glob("*.mid"))

    def test_a_killed_live_process_is_back_within_a_second_with_its_controls(self, tmp_path: Path) -> None:
        with companion(tmp_path) as watched:
            ask_companion(folders(), {"name": "temperature", "value": 0.5})
            watched.wait(
                lambda: [e for e in watched.of("controls") if e["controls"]["temperature"] == 0.5], "controls"
            )
            os.kill(watched.of("ready")[0]["pid"], signal.SIGKILL)
            assert "started again" in watched.warning("The live process ended")
            again = watched.wait_for("ready", 2)
            assert again["pid"] != watched.of("ready")[0]["pid"]
            assert watched.of("controls")[-1]["controls"]["temperature"] == 0.5
            play(watched)
            watched.wait_for("take")

    def test_a_generator_that_dies_or_hangs_is_told_and_replaced_and_the_music_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session_module, "HUNG_S", 2.0)
        with companion(tmp_path) as watched:
            os.kill(watched.session.generator_pid, signal.SIGKILL)
            assert "started again" in watched.warning("The generator ended")
            watched.wait_for("generator", 2)
            os.kill(watched.session.generator_pid, signal.SIGSTOP)
            play(watched)
            assert "did not answer" in watched.warning("The generator did not answer")
            watched.wait_for("generator", 3)
            play(watched)
            watched.wait_for("take")

    def test_a_second_companion_is_refused(self, tmp_path: Path) -> None:
        with companion(tmp_path):
            other = Session(Config(outbox=tmp_path), folders(), lambda _: None, api="none")
            with pytest.raises(LiveError, match="runs already"):
                other.run(threading.Event())

    def test_an_outbox_that_cannot_be_written_is_told_and_the_music_goes_on(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        with companion(tmp_path / "file") as watched:
            play(watched)
            assert str(tmp_path / "file") in watched.warning("can't")
            play(watched)
            watched.wait(lambda: watched.of("state")[-1]["replies"] >= 2, "second reply")

    def test_an_unknown_model_ends_it_with_one_clear_line(self, tmp_path: Path) -> None:
        config = Config(outbox=tmp_path, live=LiveConfig(model="nobody"))
        with pytest.raises(DawbridgeError, match='no continuation model "nobody"'):
            Session(config, folders(), lambda _: None, api="none").run(threading.Event())


@pytest.mark.usefixtures("dawbridge_home")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("live", "set", "mode", "loop"), "No companion runs. Start it with `dawbridge live`."),
        (("live", "set", "mod", "loop"), 'There is no control "mod"'),
        (("live", "panic"), "No companion runs"),
        (("live", "status"), "No companion runs"),
        (("capture",), "No companion runs"),
        (("live", "--set", "bars"), "has no value"),
        (("live", "--set", "bars=0"), "bars = 0 is out of range"),
        (("live", "--set", "key=H minor"), '"H minor" is no key'),
        (("live", "--set", "part=kazoo"), '"kazoo" is no part'),
        (("live", "--song", "no such folder"), "no such folder is no returned folder"),
        (("demo", "--live", "--out", "/dev/null/x"), "/dev/null/x"),
        (("live", "--midi", "oss"), "must be one of auto, jack, alsa, core, winmm"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(arguments: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (1, 2) and said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.real
class TestBesideTheDaemon:
    def test_the_daemon_runs_a_companion_where_the_configuration_says_so_and_goes_on_without_one(
        self, dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JACK_DEFAULT_SERVER", "there_is_none")
        folders().config.mkdir(parents=True)
        folders().config_file.write_text(
            'outbox = "out"\n[live]\nenabled = true\nmidi = "jack"\n[[watch]]\ninbox = "in"\n'
        )
        daemon = subprocess.Popen(
            [sys.executable, "-m", "bridge", "run", "--json"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert daemon.stdout is not None
            told = [json.loads(daemon.stdout.readline()) for _ in range(2)]
            warnings = [message["detail"] for message in told if message["event"] == "warning"]
            assert {message["event"] for message in told} == {"ready", "warning"}
            assert "The companion does not run: No MIDI system works here" in warnings[0]
            assert daemon.poll() is None
        finally:
            daemon.terminate()
            assert daemon.wait(WAIT_S) == 0
            assert daemon.stdout is not None
            daemon.stdout.close()

    @pytest.mark.usefixtures("dawbridge_home")
    def test_a_song_that_came_back_sets_key_metre_and_tempo(self, tmp_path: Path) -> None:
        song = made_song(tmp_path / "Song", key="E minor", beats_per_bar=3)
        with companion(tmp_path, bars=1) as watched:
            offer_song(folders(), song)
            assert watched.wait_for("song")["key"] == "E minor"
            controls = watched.wait(
                lambda: [e["controls"] for e in watched.of("controls") if e["controls"]["tempo"] == 96.0],
                "tempo",
            )[-1]
        assert (controls["key"], controls["beats_per_bar"], controls["beat_unit"]) == ("E minor", 3, 4)
