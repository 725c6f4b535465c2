"""A real Ardour bounces a song into the inbox, the daemon works on it, and the scripts load what comes back.

One command: `pytest -m daw -n 0 tests/test_ardour_scripts.py`. It needs the Debian packages of `tests/ardour.py`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from bridge import install, manifest
from bridge.config import Config, WatchConfig, shipped
from tests.ardour import (
    HAVE_ARDOUR,
    NO_AVX512,
    ONE_TICK,
    Ardour,
    ardour_script,
    read_notes,
    read_take,
    scripts_folder,
)
from tests.jack import jack_server, wait_until
from tests.real import require_real
from tests.test_daemon import RunningDaemon

pytestmark = [pytest.mark.real, pytest.mark.daw, pytest.mark.timeout(400)]

RATE_HZ = 48_000
BPM = 100.0
START_BEATS = 4  # the song starts at bar 2
START_FRAMES = int(START_BEATS * 60 / BPM * RATE_HZ)
SONG_S = 10
ARDOUR_LIMIT_S = 120.0
JOB_LIMIT_S = 180.0
STEMS = ("vocals", "drums", "bass", "other")
NULL_DB = -80.0
MOST_FRAMES_OFF = 2

Audio = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Proof:
    """What one Ardour did and what came back."""

    folder: Path
    session: Path
    returned: Path
    bounce: Path
    lines: dict[str, str]

    def saved(self, name: str) -> ElementTree.Element:
        return ElementTree.parse(self.session / f"{name}.ardour").getroot()

    def exported(self, name: str) -> Audio:
        """What Ardour's own export makes of a saved session's range, `(frames, channels)`."""
        path = self.folder / f"{name}.wav"
        command = ("ardour7-export", "-b", "float", "-o", str(path), str(self.session), name)
        env = os.environ | NO_AVX512
        subprocess.run(command, check=True, capture_output=True, timeout=ARDOUR_LIMIT_S, env=env)
        return read_audio(path)

    def artifacts(self, kind: str) -> list[manifest.ManifestArtifact]:
        return [a for a in manifest.read_manifest(self.returned).artifacts if a.kind == kind]

    def track_of(self, artifact: str) -> list[str]:
        """The tracks of an artifact, by the mark in their comments."""
        return [
            str(route.get("name"))
            for route in self.saved("loaded").iterfind("Routes/Route")
            if (route.findtext("Comment") or "").endswith(f" {artifact}")
        ]


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Proof]:
    """The whole way, once."""
    require_real(HAVE_ARDOUR, "Ardour, Xvfb and JACK: apt-get install ardour xvfb jackd2")
    base = tmp_path_factory.mktemp("ardour")
    home, dawbridge, folder = base / "ardour", base / "dawbridge", base / "proof"
    for path in (home, dawbridge / "data", folder):
        path.mkdir(parents=True)
    (dawbridge / "data" / "models").symlink_to(models_dir, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAWBRIDGE_HOME", str(dawbridge))
        daemon = RunningDaemon(dawbridge, "--preset", "offline")
        try:
            daemon.wait_for("ready")
            yield played(home, folder, daemon)
        finally:
            daemon.end()


def played(home: Path, folder: Path, daemon: RunningDaemon) -> Proof:
    """Start Ardour, let it send, let the daemon work, let Ardour load."""
    config = Config(outbox=daemon.outbox, watch=(WatchConfig(inbox=daemon.inbox),))
    install.install(install.Place(install.DAWS["ardour"], scripts_folder(home), True), config)
    asked = {
        "DAWBRIDGE_BPM": str(BPM),
        "DAWBRIDGE_SONG": str(made_song(folder)),
        "DAWBRIDGE_START": str(START_FRAMES),
        "DAWBRIDGE_PROOF": str(folder),
    }
    script = Path(__file__).parent / "ardour_files" / "proof.lua"
    # Ardour renders by JACK's freewheel, at whose end a synchronous server may wait for ever.
    with (
        jack_server(1024, synchronous=False) as jack,
        ardour_script(home, jack, script, asked, BPM) as ardour,
    ):
        await_file(folder, "sent", ardour)
        assert list(daemon.inbox.glob("*.wav")), (folder / "lines").read_text()
        done = daemon.wait_for("job", JOB_LIMIT_S)
        assert done["state"] == "done", done
        returned = Path(done["folder"])
        wait_until(lambda: is_told(daemon.outbox, returned.name), "the daemon tells of it", 10.0)
        (folder / "go").write_text(str(next(returned.glob("*vocals.wav"))))
        await_file(folder, "done", ardour)
        session = ardour.session
    assert (folder / "done").read_text() == "done", (folder / "lines").read_text()
    lines = dict(line.split(": ", 1) for line in (folder / "lines").read_text().splitlines())
    return Proof(folder, session, returned, daemon.inbox / f"{ardour.session.name}.wav", lines)


def await_file(folder: Path, name: str, ardour: Ardour) -> None:
    def is_there() -> bool:
        ended = folder / "done"
        ardour.check_alive()
        if name != "done" and ended.exists():
            raise RuntimeError(f"proof.lua: {ended.read_text()}")
        return (folder / name).exists()

    wait_until(is_there, f"Ardour's {name}", ARDOUR_LIMIT_S, 0.1)


def is_told(outbox: Path, name: str) -> bool:
    path = outbox / ".dawbridge" / "status.json"
    return path.exists() and any(
        entry["folder"] == name for entry in json.loads(path.read_text())["returned"]
    )


def made_song(folder: Path) -> Path:
    """Ten seconds of the demo song at the session's rate."""
    audio, rate_hz = soundfile.read(shipped("presets") / "demo" / "Demo Song.flac", always_2d=True)
    excerpt = soxr.resample(audio[: SONG_S * rate_hz], rate_hz, RATE_HZ)
    path = folder / "Demo.wav"
    soundfile.write(path, excerpt * 0.5, RATE_HZ, subtype="FLOAT")
    return path


def offset_frames(reference: Audio, found: Audio) -> int:
    """By how much `found` comes later, from the peak of the cross-correlation."""
    one, two = reference.mean(axis=1), found.mean(axis=1)
    size = 1 << (one.size + two.size - 1).bit_length()
    product = np.conj(np.fft.rfft(one, size)) * np.fft.rfft(two, size)
    at = int(np.argmax(np.fft.irfft(product, size)))
    return at if at < size // 2 else at - size


def read_audio(path: Path) -> Audio:
    audio, rate_hz = soundfile.read(path, always_2d=True)
    assert rate_hz == RATE_HZ
    return np.asarray(audio)


def level_db(audio: Audio) -> float:
    return float(20 * np.log10(max(float(np.sqrt(np.mean(audio**2))), 1e-10)))


def content(root: ElementTree.Element) -> dict[str, list[str]]:
    """What a saved session holds, without the order of its elements and Ardour's running numbers."""
    return {
        part: sorted(text_of(child) for child in root.find(part) or ())
        for part in ("Sources", "Locations", "Routes", "Playlists", "RouteGroups", "TempoMap")
    }


def text_of(element: ElementTree.Element) -> str:
    if element.get("name") == "Master":  # new tracks are connected to it
        for port in element.iterfind(".//Port"):
            for connection in port.findall("Connection"):
                port.remove(connection)
    text = ElementTree.tostring(element, encoding="unicode").strip()
    return re.sub(r"-\d+\.mid\b", ".mid", text)  # each saved session gets MIDI files of its own


def test_what_ardour_sends_is_the_session_with_its_place_and_tempo(proof: Proof) -> None:
    assert proof.lines["send"] == f"dawbridge: Sent the session as {proof.bounce.name}."
    bounce, song = read_audio(proof.bounce), read_audio(proof.folder / "Demo.wav")
    assert bounce.shape == song.shape
    assert offset_frames(song, bounce) == 0
    inner = slice(RATE_HZ // 100, -RATE_HZ // 100)  # Ardour fades every imported region in and out
    assert level_db(bounce[inner] - song[inner]) - level_db(song[inner]) < NULL_DB
    told = manifest.read_manifest(proof.returned)
    assert told.tempo is not None
    assert (told.tempo.source, told.tempo.bpm, told.tempo.beats_per_bar) == ("sidecar", BPM, 4)
    assert told.bounce.start_frames == START_FRAMES


def test_each_stem_comes_out_of_ardour_sample_for_sample(proof: Proof) -> None:
    files = {artifact.name: artifact.path for artifact in proof.artifacts("audio")}
    for name in STEMS:
        made, exported = read_audio(proof.returned / files[name]), proof.exported(f"only_{name}")
        assert made.shape == exported.shape
        assert abs(offset_frames(made, exported)) <= MOST_FRAMES_OFF
        assert np.abs(made - exported).max() < 2**-22


def test_the_stems_add_up_to_the_bounce(proof: Proof) -> None:
    bounce, total = read_audio(proof.bounce), proof.exported("only_stems")
    left = level_db(total - bounce) - level_db(bounce)
    assert left <= NULL_DB


def test_every_note_stands_on_its_beat(proof: Proof) -> None:
    scores = proof.artifacts("midi")
    assert {"notes", "notes_quantised"} <= {score.name for score in scores}
    for score in scores:
        first_beat = score.start_frames / RATE_HZ * BPM / 60
        made = [
            (note.start_beats + first_beat, note.pitch, note.velocity)
            for note in read_notes(proof.returned / score.path)
        ]
        loaded = [
            (note.start_beats, note.pitch, note.velocity)
            for track in proof.track_of(score.name)
            for note in read_take(proof.session / "loaded.ardour", track, BPM)
        ]
        assert made
        assert len(loaded) == len(made)
        off = max(abs(a[0] - b[0]) for a, b in zip(sorted(made), sorted(loaded), strict=True))
        assert off <= ONE_TICK
        assert sorted(note[1:] for note in loaded) == sorted(note[1:] for note in made)


def test_nothing_that_stood_there_is_touched_and_all_that_comes_is_muted(proof: Proof) -> None:
    before, loaded = content(proof.saved("before")), content(proof.saved("loaded"))
    for part in before:
        assert set(before[part]) <= set(loaded[part]), part
    assert before["Locations"] == loaded["Locations"]
    assert before["TempoMap"] == loaded["TempoMap"]
    names = {route.get("name") for route in proof.saved("before").iterfind("Routes/Route")}
    for route in proof.saved("loaded").iterfind("Routes/Route"):
        mute = route.find("Controllable[@name='mute']")
        assert mute is not None
        assert float(mute.get("value", "")) == (0.0 if route.get("name") in names else 1.0)


def test_a_second_load_changes_nothing(proof: Proof) -> None:
    assert "is loaded already" in proof.lines["load again"]
    assert content(proof.saved("again")) == content(proof.saved("loaded"))


def test_one_undo_takes_all_away_but_the_empty_tracks_and_redo_brings_it_back(proof: Proof) -> None:
    before, undone = content(proof.saved("before")), content(proof.saved("undone"))
    for part in ("Locations", "TempoMap"):
        assert undone[part] == before[part]
    assert set(before["Routes"]) <= set(undone["Routes"])
    assert set(before["Playlists"]) <= set(undone["Playlists"])
    regions = [region.get("name") for region in proof.saved("undone").iterfind("Playlists/Playlist/Region")]
    assert regions == [
        region.get("name") for region in proof.saved("before").iterfind("Playlists/Playlist/Region")
    ]
    assert content(proof.saved("redone"))["Playlists"] == content(proof.saved("loaded"))["Playlists"]


def test_where_nothing_has_come_back_one_line_says_so(proof: Proof) -> None:
    assert proof.lines["too early"].startswith("box: No song lies in the outbox")


def test_what_cannot_be_loaded_is_one_line_in_a_box_and_the_session_is_as_it_was(proof: Proof) -> None:
    for label, line in (
        ("future", "schema = 2 is newer than these scripts know. Run `dawbridge install-scripts`."),
        ("half", "manifest.json is damaged (no JSON at character"),
        ("changed", "has changed since it was made"),
        ("other rate", f"has changed since it was made ({SONG_S * RATE_HZ} frames at {RATE_HZ} Hz)"),
        ("recording", "Ardour records. Stop the recording, then try again."),
        ("no session", "No session is open. Open one, then try again."),
        ("no track", "Ardour makes no track for vocals. Does its audio engine run?"),
    ):
        assert proof.lines[label].startswith("box: "), label
        assert line in proof.lines[label], label
    assert content(proof.saved("spoilt")) == content(proof.saved("before"))


def test_a_load_after_an_undo_fills_the_same_tracks(proof: Proof) -> None:
    loaded, reloaded = (proof.saved(name) for name in ("loaded", "reloaded"))
    marks = [
        [
            (route.get("id"), route.get("name"), route.findtext("Comment"))
            for route in root.iterfind("Routes/Route")
        ]
        for root in (loaded, reloaded)
    ]
    assert marks[0] == marks[1]
    assert content(reloaded)["RouteGroups"] == content(loaded)["RouteGroups"]
    filled = [
        sorted(
            (playlist.get("id"), len(playlist.findall("Region")))
            for playlist in root.iterfind("Playlists/Playlist")
        )
        for root in (loaded, reloaded)
    ]
    assert filled[0] == filled[1]
    assert {count for _, count in filled[0]} == {1}


def test_an_undone_song_can_be_loaded_again_and_a_missing_stem_is_named(proof: Proof) -> None:
    assert re.fullmatch(
        r"box: .*vocals\.wav is missing\. Have the song made again\.", proof.lines["load without a stem"]
    )
    assert proof.lines["load after undo"] == proof.lines["load"]


def test_choosing_a_song_loads_like_the_newest(proof: Proof) -> None:
    assert proof.lines["choose"] == proof.lines["load again"]


TEMPO_STEPS = """
create_session("{folder}", "tempo", 48000)
local map = Temporal.TempoMap.write_copy()
map:set_tempo(Temporal.Tempo(120, 120, 4), Temporal.timepos_t(0))
map:set_tempo(Temporal.Tempo(90, 90, 4), Temporal.timepos_t(96000))
Temporal.TempoMap.update(map)
local tempo = dofile("{scripts}/ardour/dawbridge/tempo.lua")()
local told = tempo.of_range(24000, 192000, 48000)
print(("told %.6f %d/%d"):format(told.bpm, told.beats_per_bar, told.beat_unit))
for _, change in ipairs(told.changes) do print(("told %d %.6f"):format(change.frames, change.bpm)) end
quit()
"""


def test_a_tempo_step_is_told_within_a_frame(tmp_path: Path) -> None:
    require_real(HAVE_ARDOUR, "Ardour: apt-get install ardour")
    script = tmp_path / "tempo.lua"
    script.write_text(TEMPO_STEPS.format(folder=tmp_path / "session", scripts=shipped("daw_scripts")))
    done = subprocess.run(
        ("ardour7-lua", str(script)),
        capture_output=True,
        text=True,
        timeout=ARDOUR_LIMIT_S,
        env=os.environ | NO_AVX512 | {"HOME": str(tmp_path)},
    )
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("told")]
    assert len(told) == 2, done.stdout + done.stderr
    (_, bpm, metre), (_, frames, later_bpm) = told
    assert (float(bpm), metre, float(later_bpm)) == (120.0, "4/4", 90.0)
    assert abs(int(frames) - 72_000) <= 1
