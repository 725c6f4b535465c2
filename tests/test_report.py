"""The report of a job: one page that needs nothing beside it, whatever was made of whatever bounce."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.audio import Samples, write_float_wav
from bridge.errors import Cancelled
from bridge.grid import write_grid
from bridge.midi import write_midi
from bridge.pipeline import STAGES
from bridge.stages.report import ReportSettings, report
from bridge.store import file_sha256
from bridge.tempo import constant_tempo
from bridge.types import Artifact, Bounce, Context, Grid, Made, Note, Phrase
from tests.song_a import Reports, true_stem

EVIL = '<script>alert("1")</script> & Söng $x_1$'
RATE_HZ = 44_100
MOST_BYTES = 2_000_000
WANTED = STAGES["report"].wants


class Parts(HTMLParser):
    """What a browser would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")
        ]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class Desk:
    """A bounce and what the stages made of it."""

    def __init__(
        self, folder: Path, samples: Samples, rate_hz: int = RATE_HZ, subtype: str = "PCM_24"
    ) -> None:
        self.folder = folder
        self.rate_hz = rate_hz
        self.samples = samples
        path = folder / "spool.wav"
        soundfile.write(path, samples.T, rate_hz, subtype=subtype)
        channels, frames = samples.shape
        self.bounce = Bounce(path, EVIL, file_sha256(path), "mix", rate_hz, channels, frames, 96_000)
        self.artifacts: dict[str, Artifact | None] = dict.fromkeys(WANTED)
        self.record: dict[str, Any] = {
            "id": "0123456789ab",
            "created_at": "2026-11-22T10:00:00Z",
            "preset": "offline",
            "settings": {"separate": {"engine": EVIL}},
            "outbox": "out",
            "stages": [self.event("separate", "done", EVIL)],
            "fallbacks": [],
            "warnings": [],
            "facts": {},
            "models": [],
        }

    def event(self, stage: str, state: str, detail: str = "") -> dict[str, Any]:
        return {"stage": stage, "state": state, "code": "", "seconds": 1.25, "detail": detail}

    def put_all(self) -> Desk:
        """Everything that a whole job makes; the mix is the bounce, a little quieter."""
        self.put_audio("lead", self.samples * np.float32(0.5))
        self.put_audio("mix", self.samples * np.float32(0.8))
        self.put_audio("new_piece", noise(*self.samples.shape))
        tempo = constant_tempo(100.0, self.rate_hz)
        write_grid(self.folder / "grid.json", Grid(tempo, "name", 0.9, "C major", 0.8, -14.0, -1.0, True, ()))
        self.artifacts["grid"] = Artifact("grid", "json", self.folder / "grid.json", "")
        for name in ("notes", "continuation", "arrangement"):
            self.put_notes(name, Note(0.0, 1.0, 60, 90, "bass"), Note(1.0, 0.5, 36, 90, "drums"))
        return self

    def put_audio(self, name: str, samples: Samples) -> None:
        write_float_wav(self.folder / f"{name}.wav", samples, self.rate_hz)
        self.artifacts[name] = Artifact(name, "audio", self.folder / f"{name}.wav", "")

    def put_notes(self, name: str, *notes: Note) -> None:
        path = self.folder / f"{name}.mid"
        write_midi(path, Phrase(notes, 8.0), constant_tempo(100.0, self.rate_hz))
        self.artifacts[name] = Artifact(name, "midi", path, "")

    def report(self, reports: Any = None) -> tuple[str, Made]:
        path = self.folder / "record.json"
        path.write_text(json.dumps(self.record))
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        made = report(
            self.bounce,
            Artifact("record", "json", path, ""),
            **self.artifacts,
            settings=ReportSettings(),
            context=Context(work, self.folder, self.folder, reports or Reports()),
        )
        assert isinstance(made, Made)
        return made.files["report"].read_text(encoding="utf-8"), made


@pytest.fixture(scope="module")
def song() -> Samples:
    return true_stem("other", 12.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, song: Samples) -> tuple[str, Made]:
    """The report of a job that made everything, and the stage's answer."""
    return Desk(tmp_path_factory.mktemp("whole"), song).put_all().report()


def noise(channels: int, frames: int) -> Samples:
    return np.random.default_rng(3).uniform(-0.3, 0.3, (channels, frames)).astype(np.float32)


def test_the_page_needs_nothing_beside_it_and_runs_nothing(whole: tuple[str, Made]) -> None:
    page, _ = whole
    parts = Parts(page)
    assert {"script", "link", "iframe", "object", "embed"}.isdisjoint(parts.tags)
    assert all(address.startswith(("#", "data:")) for address in parts.fetched)
    assert "@import" not in page
    assert parts.tags.count("figure") == parts.tags.count("svg") == 7
    assert "default-src 'none'" in page
    assert len(page.encode()) < MOST_BYTES


def test_names_and_messages_are_text_never_markup(tmp_path: Path) -> None:
    desk = Desk(tmp_path, noise(1, 8000), 8000).put_all()
    desk.record |= {
        "warnings": [EVIL],
        "fallbacks": [{"stage": "separate", "wanted": EVIL, "used": EVIL, "reason": EVIL}],
        "facts": {"convert": {"voice": {"name": EVIL, "consent_sha256": "c" * 64}}},
        "models": [{"name": EVIL, "sha256": "d" * 64, "licence": EVIL}],
    }
    parts = Parts(desk.report()[0])
    assert "script" not in parts.tags
    assert parts.text.count(EVIL) == 12
    assert "c" * 64 in parts.text and "d" * 64 in parts.text and desk.bounce.sha256 in parts.text


def test_what_became_of_the_voice_stands_on_the_page(tmp_path: Path) -> None:
    desk = Desk(tmp_path, noise(1, 8000), 8000).put_all()
    desk.record["facts"] = {
        "convert": {
            "voice": {"name": "anna", "consent_sha256": "c" * 64},
            "transposition": {"semitones": -12, "reason": "the voice is low"},
            "backing": "keep",
            "left_as_sung": [{"start_s": 61.24, "end_s": 63.0}, {"start_s": 3.0, "end_s": 4.5}],
        }
    }
    text = Parts(desk.report()[0]).text
    assert "-12 semitones: the voice is low" in text
    assert "a voice behind the lead was heard: kept as it was" in text
    assert "1:01.2 to 1:03.0, 0:03.0 to 0:04.5: no single voice was heard there" in text


def test_the_figures_stand_beside_controls_made_in_the_same_way(whole: tuple[str, Made]) -> None:
    page, made = whole
    found = made.facts["correlation"]
    assert list(found) == ["new_piece", "mix", "the bounce itself", "shifted copy", "another song", "noise"]
    assert found["mix"] == {
        "highest": pytest.approx(1.0, abs=1e-4),
        "lag_s": 0.0,
        "raw": pytest.approx(0.8 * found["the bounce itself"]["raw"], rel=1e-3),
    }
    assert found["shifted copy"]["lag_s"] == 1.0
    assert abs(found["another song"]["highest"]) < 0.2
    assert abs(found["noise"]["highest"]) < 0.05
    assert "Doing nothing scores best on this measure" in page
    assert made.detail.endswith(", mix 1.00 at 0.000 s")


def test_a_mix_that_came_back_late_is_seen(tmp_path: Path, song: Samples) -> None:
    desk = Desk(tmp_path, song).put_all()
    desk.put_audio("mix", np.roll(song, round(0.25 * RATE_HZ), axis=1))
    assert desk.report()[1].facts["correlation"]["mix"]["lag_s"] == pytest.approx(0.25, abs=0.001)


def test_tempo_key_and_their_source_are_told(whole: tuple[str, Made]) -> None:
    text = Parts(whole[0]).text
    assert "100.00 bpm, 4/4, from the file's name, confidence 0.90" in text
    assert "C major" in text
    assert "12.000 s, 529200 frames at 44100 Hz, stereo" in text


def test_what_is_not_there_is_left_out_with_the_reason(tmp_path: Path, song: Samples) -> None:
    desk = Desk(tmp_path, song)
    desk.record["stages"] += [desk.event("transcribe", "failed", "no ears"), desk.event("mix", "skipped")]
    page, made = desk.report()
    text = Parts(page).text
    assert "No notes: transcribe failed: no ears." in text
    assert "No mix: mix skipped." in text
    assert "No continuation: the preset offline does not run generate." in text
    assert "No grid: the preset offline does not run analyse." in text
    assert (made.detail, made.facts) == ("", {"correlation": {}})
    assert Parts(page).tags.count("svg") == 1  # the bounce's own loudness


def test_the_lead_is_held_against_a_bounce_that_is_a_vocal_alone(tmp_path: Path, song: Samples) -> None:
    desk = Desk(tmp_path, song)
    desk.put_audio("lead", song * np.float32(0.5))
    assert next(iter(desk.report()[1].facts["correlation"])) == "lead"


@pytest.mark.parametrize(
    ("samples", "rate_hz", "subtype"),
    [
        (np.zeros((2, 44_100), np.float32), 44_100, "PCM_16"),
        (noise(1, 8000), 8000, "PCM_16"),
        (noise(2, 22_050), 44_100, "FLOAT"),
        (noise(2, 96_000) * np.float32(8.0), 96_000, "FLOAT"),
    ],
    ids=["silence", "8 kHz mono, 1 s", "half a second", "over full scale"],
)
def test_odd_bounces_get_a_page_too(tmp_path: Path, samples: Samples, rate_hz: int, subtype: str) -> None:
    page, _ = Desk(tmp_path, samples, rate_hz, subtype).put_all().report()
    assert "nan" not in Parts(page).text
    assert page.rstrip().endswith("</html>")


def test_notes_that_are_none_are_said_so(tmp_path: Path) -> None:
    desk = Desk(tmp_path, noise(1, 8000), 8000).put_all()
    desk.put_notes("notes")
    assert "It holds no note." in Parts(desk.report()[0]).text


def test_the_same_job_gives_the_same_bytes(tmp_path: Path) -> None:
    desk = Desk(tmp_path, noise(2, 44_100)).put_all()
    assert desk.report()[0] == desk.report()[0]


def test_progress_is_told_and_a_cancel_heard(tmp_path: Path) -> None:
    desk = Desk(tmp_path, noise(1, 8000), 8000).put_all()
    reports = Reports()
    desk.report(reports)
    shares = [done / total for done, total in reports.seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def cancel(done: float, total: float) -> None:
        raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        desk.report(cancel)
