"""What comes back: nulls, level, rate, length, place, provenance; nothing overwritten, nothing half."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import mido
import numpy as np
import pytest
import soundfile

from bridge import manifest
from bridge.audio import Samples, rms_db, write_float_wav
from bridge.errors import OutboxError
from bridge.grid import write_grid
from bridge.midi import write_midi
from bridge.stages.export import ExportSettings, export
from bridge.store import file_sha256
from bridge.tempo import constant_tempo
from bridge.types import STEMS, Artifact, Bounce, Context, Grid, Made, Note, Phrase
from bridge.wavchunks import read_facts

RATE_HZ = 48000
FRAMES = 30_011
SCHEMA = json.loads((Path(__file__).parent / "test_manifest.schema.json").read_text())


def noise(channels: int, level: float, seed: int) -> Samples:
    random = np.random.default_rng(seed)
    return random.uniform(-level, level, (channels, FRAMES)).astype(np.float32)


class Desk:
    """A bounce with its stems and all the rest, as the stages before would have left them."""

    def __init__(
        self, folder: Path, *, subtype: str = "PCM_24", channels: int = 2, level: float = 0.2
    ) -> None:
        self.folder = folder
        self.outbox = folder / "outbox"
        self.stems = {name: noise(channels, level, seed) for seed, name in enumerate(STEMS)}
        whole = np.sum(list(self.stems.values()), axis=0)
        path = folder / "spool.wav"
        soundfile.write(path, whole.T, RATE_HZ, subtype=subtype)
        self.bounce = Bounce(
            path,
            "Söng_120bpm.wav",
            file_sha256(path),
            "mix",
            RATE_HZ,
            channels,
            FRAMES,
            96_000,
            is_float=subtype == "FLOAT",
        )
        stems = folder / "stems"
        stems.mkdir()
        for name, samples in self.stems.items():
            write_float_wav(stems / f"{name}.wav", samples, RATE_HZ)
        write_float_wav(folder / "mix.wav", noise(channels, 0.5, 9), RATE_HZ)
        tempo = constant_tempo(120.0, RATE_HZ)
        write_grid(folder / "grid.json", Grid(tempo, "name", 0.8, "C major", 0.9, -14.0, -1.0, True, ()))
        phrase = Phrase((Note(0.0, 1.0, 60, 90, "bass"),), 4.0)
        write_midi(folder / "notes.mid", phrase, tempo, title="x", provenance="x")
        self.artifacts: dict[str, Artifact | None] = {
            "stems": Artifact("stems", "stems", stems, ""),
            "grid": Artifact("grid", "json", folder / "grid.json", ""),
            "notes": Artifact("notes", "midi", folder / "notes.mid", ""),
            "notes_quantised": None,
            "continuation": None,
            "continuation_audio": None,
            "arrangement": None,
            "arrangement_audio": None,
            "voice": None,
            "backing": None,
            "lead": None,
            "mix": Artifact("mix", "audio", folder / "mix.wav", ""),
            "new_piece": None,
            "report": None,
        }
        self.job_id = "0123456789ab"
        self.stage_state = "done"
        self.facts: dict[str, Any] = {"separate": {"approximate": ["bass"]}}

    def generated(self) -> None:
        """New music too: a continuation of 4 s that begins 25,000 frames into the bounce."""
        for name, frames in (("continuation", 4 * RATE_HZ), ("arrangement", FRAMES), ("new_piece", FRAMES)):
            audio = name if name == "new_piece" else f"{name}_audio"
            samples = np.random.default_rng(5).uniform(-0.3, 0.3, (2, frames)).astype(np.float32)
            write_float_wav(self.folder / f"{audio}.wav", samples, RATE_HZ)
            self.artifacts[audio] = Artifact(audio, "audio", self.folder / f"{audio}.wav", "")
        phrase = Phrase((Note(0.0, 1.0, 60, 90, "piano"),), 8.0)
        for name in ("continuation", "arrangement"):
            write_midi(self.folder / f"{name}.mid", phrase, constant_tempo(120.0, RATE_HZ))
            self.artifacts[name] = Artifact(name, "midi", self.folder / f"{name}.mid", "")
        self.facts["generate"] = {"continuation_start_frames": 25_000}

    def export(self, **settings: bool) -> Path:
        record = {
            "id": self.job_id,
            "created_at": "2026-11-22T10:00:00Z",
            "preset": "offline",
            "settings": {"separate": {"engine": "spleeter"}},
            "outbox": str(self.outbox),
            "stages": [
                {"stage": "separate", "state": self.stage_state, "code": "", "seconds": 1.0, "detail": "x"}
            ],
            "fallbacks": [],
            "facts": self.facts,
            "models": [],
        }
        path = self.folder / "record.json"
        path.write_text(json.dumps(record))
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        made = export(
            self.bounce,
            Artifact("record", "json", path, ""),
            **self.artifacts,
            settings=ExportSettings(**settings),
            context=Context(work, self.folder, self.folder, lambda done, total: None),
        )
        assert isinstance(made, Made), made.reason
        return Path(made.facts["folder"])


def read_stems(folder: Path) -> list[Samples]:
    return [
        soundfile.read(folder / f"Song_{name}.wav", dtype="float64", always_2d=True)[0].T for name in STEMS
    ]


@pytest.mark.parametrize(
    ("subtype", "channels", "written"),
    [("PCM_16", 2, "PCM_24"), ("PCM_24", 2, "PCM_24"), ("PCM_24", 1, "PCM_24"), ("FLOAT", 2, "FLOAT")],
)
def test_the_written_stems_null_to_the_bounce(
    tmp_path: Path, subtype: str, channels: int, written: str
) -> None:
    desk = Desk(tmp_path, subtype=subtype, channels=channels)
    folder = desk.export()
    whole, _ = soundfile.read(desk.bounce.path, dtype="float64", always_2d=True)
    residual = whole.T - np.sum(read_stems(folder), axis=0)
    assert rms_db(residual) <= -120.0 if written == "FLOAT" else not residual.any()
    for name in STEMS:
        info = soundfile.info(folder / f"Song_{name}.wav")
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (
            RATE_HZ,
            channels,
            FRAMES,
            written,
        )


def test_no_stem_changes_its_level(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for name, written in zip(STEMS, read_stems(desk.export()), strict=True):
        assert np.abs(written - desk.stems[name]).max() < 4 / (1 << 23)


def test_a_stem_that_passes_full_scale_is_written_as_float_and_still_nulls(tmp_path: Path) -> None:
    desk = Desk(tmp_path, level=0.2)
    hot = desk.stems["drums"] * 6.0
    write_float_wav(tmp_path / "stems" / "drums.wav", hot, RATE_HZ)
    folder = desk.export()
    assert soundfile.info(folder / "Song_drums.wav").subtype == "FLOAT"
    whole, _ = soundfile.read(desk.bounce.path, dtype="float64", always_2d=True)
    stems = read_stems(folder)
    assert np.abs(stems[1]).max() > 1.0
    assert rms_db(whole.T - np.sum(stems, axis=0)) <= -120.0


def test_every_audio_file_says_where_it_starts_and_what_made_it(tmp_path: Path) -> None:
    folder = Desk(tmp_path).export()
    for path in folder.glob("*.wav"):
        facts = read_facts(path)
        assert facts.bext is not None
        assert facts.bext.start_frames == 96_000
        assert facts.bext.originator == "dawbridge"
        assert "job=0123456789ab" in facts.bext.description
        assert "synthetic_voice=no" in facts.bext.description
        assert facts.info["ISFT"].startswith("dawbridge")
        assert facts.acid is None  # a DAW would stretch what already fits


def test_a_mix_with_a_converted_voice_says_so_and_carries_the_consent(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.facts["convert"] = {"voice": {"name": "anna", "consent_sha256": "c" * 64}}
    folder = desk.export()
    facts = read_facts(folder / "Song_mix.wav")
    assert facts.bext is not None
    assert f"synthetic_voice=yes consent={'c' * 64}" in facts.bext.description
    told = manifest.read_manifest(folder)
    assert told.voice == manifest.ManifestVoice("anna", "c" * 64)
    assert {a.name: a.synthetic for a in told.artifacts}["mix"]


@pytest.mark.parametrize(("backing", "synthetic"), [("keep", False), ("convert", True)])
def test_a_backing_comes_back_and_is_synthetic_only_if_it_was_converted(
    tmp_path: Path, backing: str, synthetic: bool
) -> None:
    desk = Desk(tmp_path)
    desk.artifacts["backing"] = Artifact("backing", "audio", tmp_path / "mix.wav", "")
    desk.facts["convert"] = {"voice": {"name": "anna", "consent_sha256": "c" * 64}, "backing": backing}
    folder = desk.export()
    returned = {a.name: a for a in manifest.read_manifest(folder).artifacts}
    assert returned["backing"].synthetic is synthetic
    said = read_facts(folder / "Song_backing.wav").bext
    assert said and f"synthetic_voice={'yes' if synthetic else 'no'}" in said.description


def test_new_music_comes_back_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.generated()
    desk.facts["convert"] = {"voice": {"name": "anna", "consent_sha256": "c" * 64}}
    folder = desk.export()
    returned = {a.name: a for a in manifest.read_manifest(folder).artifacts}
    new = ["new_piece", "arrangement_audio", "continuation_audio", "arrangement", "continuation"]
    assert [name for name in returned if name in new] == new
    assert all(returned[name].synthetic for name in new)
    sung = {name: read_facts(folder / f"Song_{name}.wav").bext for name in ("new_piece", "arrangement_audio")}
    assert sung["new_piece"] and f"voice=yes consent={'c' * 64}" in sung["new_piece"].description
    assert sung["arrangement_audio"] and "voice=no consent=none" in sung["arrangement_audio"].description
    assert manifest.verify(folder) == ()


def test_the_continuation_stands_after_the_songs_last_bar_with_its_own_length(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.generated()
    folder = desk.export()
    places = {a.name: (a.start_frames, a.frames) for a in manifest.read_manifest(folder).artifacts}
    assert places["continuation"] == places["continuation_audio"] == (96_000 + 25_000, 4 * RATE_HZ)
    assert places["arrangement"] == places["new_piece"] == (96_000, FRAMES)
    bext = read_facts(folder / "Song_continuation_audio.wav").bext
    assert bext is not None and bext.start_frames == 96_000 + 25_000
    assert soundfile.info(folder / "Song_continuation_audio.wav").frames == 4 * RATE_HZ


def test_without_audio_the_new_music_comes_as_midi(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.generated()
    folder = desk.export(audio=False)
    assert [a.name for a in manifest.read_manifest(folder).artifacts] == [
        "notes",
        "arrangement",
        "continuation",
    ]


def test_midi_files_say_what_made_them(tmp_path: Path) -> None:
    folder = Desk(tmp_path).export()
    texts = [m.text for m in mido.MidiFile(folder / "Song_notes.mid").tracks[0] if m.type == "text"]
    assert any("job=0123456789ab artifact=notes" in text for text in texts)


def test_the_manifest_holds_to_its_schema_and_its_files(tmp_path: Path) -> None:
    folder = Desk(tmp_path).export()
    jsonschema.validate(json.loads((folder / manifest.NAME).read_text()), SCHEMA)
    assert manifest.verify(folder) == ()
    told = manifest.read_manifest(folder)
    assert [a.name for a in told.artifacts] == [*STEMS, "mix", "notes"]
    assert [a.name for a in told.artifacts if a.approximate] == ["bass"]
    assert told.tempo is not None
    assert (told.tempo.bpm, told.tempo.source, told.key) == (120.0, "name", "C major")


def test_the_report_comes_back_too_but_alone_it_is_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    path = tmp_path / "report.html"
    path.write_text("<!doctype html>")
    desk.artifacts["report"] = Artifact("report", "report", path, "")
    folder = desk.export(audio=False)
    assert (folder / "Song_report.html").read_text() == "<!doctype html>"
    jsonschema.validate(json.loads((folder / manifest.NAME).read_text()), SCHEMA)
    assert manifest.verify(folder) == ()
    told = manifest.read_manifest(folder).artifacts[-1]
    assert (told.name, told.kind, told.start_frames, told.frames) == ("report", "report", 0, None)
    desk.artifacts |= dict.fromkeys(desk.artifacts.keys() - {"report"})
    desk.job_id, desk.stage_state = "another job!", "failed"
    with pytest.raises(AssertionError, match="nothing comes back"):
        desk.export()


def test_a_taken_name_gives_a_revision_and_nothing_is_overwritten(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = desk.export()
    before = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    desk.job_id = "another job!"
    second = desk.export()
    assert (first.name, second.name) == ("Song", "Song (2)")
    assert manifest.read_manifest(second).revision == 2
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == before


def test_the_same_job_published_before_a_kill_is_not_published_twice(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = desk.export()
    assert desk.export() == first
    assert [path.name for path in desk.outbox.iterdir() if path.name != ".dawbridge"] == ["Song"]


def test_a_folder_that_lost_a_file_is_published_again_beside_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    (desk.export() / "Song_drums.wav").unlink()
    second = desk.export()
    assert second.name == "Song (2)"
    assert manifest.verify(second) == ()


def test_a_retry_in_which_a_stage_no_longer_fails_comes_back_beside_the_poorer_folder(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    grid, desk.artifacts["grid"] = desk.artifacts["grid"], None
    desk.stage_state = "failed"
    poorer = desk.export()
    assert desk.export() == poorer  # failed again in the same way: nothing new to bring
    desk.artifacts["grid"], desk.stage_state = grid, "done"
    better = desk.export()
    assert [manifest.read_manifest(folder).tempo is None for folder in (poorer, better)] == [True, False]
    assert better.name == "Song (2)" and desk.export() == better


def test_a_job_that_could_do_nothing_leaves_no_folder(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for name in desk.artifacts.keys() - {"grid"}:
        desk.artifacts[name] = None
    desk.stage_state = "failed"
    with pytest.raises(AssertionError, match="nothing comes back"):
        desk.export()
    assert [path for path in desk.outbox.rglob("*") if path.is_file()] == []


def test_nothing_half_made_is_left_after_a_failure(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.artifacts["mix"] = Artifact("mix", "audio", tmp_path / "gone.wav", "")
    with pytest.raises((OutboxError, soundfile.LibsndfileError)):
        desk.export()
    assert [path for path in desk.outbox.rglob("*") if path.is_file()] == []


def test_an_outbox_that_is_a_file_is_told_with_a_remedy(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.outbox.write_text("not a folder")
    with pytest.raises(OutboxError, match="outbox can't take the song"):
        desk.export()


def test_midi_alone_where_the_preset_wants_no_audio(tmp_path: Path) -> None:
    folder = Desk(tmp_path).export(audio=False)
    assert sorted(path.name for path in folder.iterdir()) == [
        "Song_log.txt",
        "Song_notes.mid",
        "manifest.json",
    ]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = desk.export()
    first = first.rename(tmp_path / "elsewhere")
    second = desk.export()
    for path in first.glob("Song_*"):
        assert path.read_bytes() == (second / path.name).read_bytes()
