"""Promises of the stage transcribe: the right notes, on the song's grid, a track per part that sounds."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bridge import audio
from bridge.errors import Cancelled
from bridge.grid import write_grid
from bridge.midi import read_midi
from bridge.stages.transcribe import TranscribeSettings, models, transcribe
from bridge.tempo import constant_tempo
from bridge.transcribers import pitched
from bridge.transcribers.pitched import posteriorgrams
from bridge.types import Artifact, Context, Grid, Made, Phrase, Skip, Stem
from tests.scoring import drum_f1, note_f1
from tests.song_a import DATA, RATE_HZ, Reports, context_in, put_grid, put_stems, true_stem
from tests.test_drums import PATTERNS, pattern, play

SIXTEENTHS = TranscribeSettings()
BASIC_PITCH = """
import sys
import numpy
from basic_pitch import FilenameSuffix, build_icassp_2022_model_path
from basic_pitch.inference import run_inference
numpy.savez(sys.argv[2], **run_inference(sys.argv[1], build_icassp_2022_model_path(FilenameSuffix.onnx)))
"""


def put_beat(folder: Path, hits: list[tuple[float, int, float]], seconds: float) -> Artifact:
    """A stems folder with nothing but drums."""
    path = folder / "stems"
    path.mkdir()
    audio.write_float_wav(path / "drums.wav", play(hits, seconds), RATE_HZ)
    return Artifact("stems", "stems", path, "")


def put_own_grid(folder: Path, bpm: float, first_downbeat_s: float, sings: bool = True) -> Artifact:
    tempo = constant_tempo(bpm, RATE_HZ, first_downbeat_frame=round(first_downbeat_s * RATE_HZ))
    grid = Grid(tempo, "set", 1.0, "", 0.0, -15.0, -1.0, sings, ())
    write_grid(folder / "grid.json", grid)
    return Artifact("grid", "json", folder / "grid.json", "")


def made(result: Made | Skip) -> Made:
    assert isinstance(result, Made)
    return result


def notes_of(result: Made | Skip, name: str = "notes") -> Phrase:
    return read_midi(made(result).files[name], RATE_HZ)[0]


def test_silence_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "stems").mkdir()
    for name in ("vocals", "drums", "bass", "other"):
        audio.write_float_wav(tmp_path / "stems" / f"{name}.wav", np.zeros((2, RATE_HZ), np.float32), RATE_HZ)
    stems = Artifact("stems", "stems", tmp_path / "stems", "")
    result = transcribe(stems, put_grid(tmp_path), settings=SIXTEENTHS, context=context_in(tmp_path))
    assert isinstance(result, Skip)


def test_one_part_gives_its_track_alone_and_ends_with_the_bounce(tmp_path: Path) -> None:
    hits = pattern(120.0, 3, PATTERNS["rock"])
    result = transcribe(
        put_beat(tmp_path, hits, 6.3),
        put_own_grid(tmp_path, 120.0, 0.1),
        settings=SIXTEENTHS,
        context=context_in(tmp_path),
    )
    phrase = notes_of(result)
    assert {note.part for note in phrase.notes} == {"drums"}
    assert phrase.length_beats == pytest.approx(12.6, abs=1 / 480)
    assert made(result).facts == {"notes": {"drums": len(phrase.notes)}}


@pytest.mark.parametrize(("strength", "apart_beats"), [(1.0, 1 / 480), (0.5, 0.04), (0.0, 0.08)])
def test_quantised_notes_sit_on_the_songs_grid_by_the_strength(
    tmp_path: Path, strength: float, apart_beats: float
) -> None:
    step_s = 15.0 / 120.0
    late = [(0.35 + i * step_s * 4 + (0.03 if i % 2 else 0.0), 38, 1.0) for i in range(10)]
    result = transcribe(
        put_beat(tmp_path, late, 6.0),
        put_own_grid(tmp_path, 120.0, 0.35),
        settings=TranscribeSettings(quantise_strength=strength),
        context=context_in(tmp_path),
    )
    starts = np.array([note.start_beats for note in notes_of(result, "notes_quantised").notes])
    off = np.abs((starts - 0.7) * 4 - np.round((starts - 0.7) * 4)) / 4
    assert len(starts) >= 10
    assert off.max() <= apart_beats
    played = np.array([note.start_beats for note in notes_of(result).notes])
    assert np.abs((played - 0.7) - np.round(played - 0.7)).max() > 0.03


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_hit_at_the_very_end_stays_and_goes_back_to_the_last_grid_line(
    tmp_path: Path, strength: float
) -> None:
    hits = [(0.0, 38, 1.0), (1.0, 38, 1.0), (1.96, 38, 1.0)]  # the end is nearer to it than the line before
    result = transcribe(
        put_beat(tmp_path, hits, 2.0),
        put_own_grid(tmp_path, 120.0, 0.0),
        settings=TranscribeSettings(quantise_strength=strength),
        context=context_in(tmp_path),
    )
    played, quantised = (notes_of(result, name).notes for name in ("notes", "notes_quantised"))
    assert len(played) == len(quantised) >= 3
    assert max(note.start_beats for note in quantised) < 4.0
    if strength == 1.0:
        assert max(note.start_beats for note in quantised) == 3.75


def test_the_counts_told_are_those_of_the_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((1, 3 * RATE_HZ)).astype(np.float32)
    (tmp_path / "stems").mkdir()
    audio.write_float_wav(tmp_path / "stems" / "drums.wav", noise * np.float32(0.1), RATE_HZ)
    result = transcribe(
        Artifact("stems", "stems", tmp_path / "stems", ""),
        put_own_grid(tmp_path, 60.0, 0.0),
        settings=SIXTEENTHS,
        context=context_in(tmp_path),
    )
    count = len(notes_of(result).notes)
    assert made(result).facts == {"notes": {"drums": count}}
    assert made(result).detail == f"drums {count} notes"


def test_channels_in_anti_phase_are_heard(tmp_path: Path) -> None:
    hits = pattern(120.0, 2, PATTERNS["rock"])
    found = []
    for name, right in (("in phase", 1.0), ("anti-phase", -1.0)):
        folder = tmp_path / name
        folder.mkdir()
        stems = put_beat(folder, hits, 4.5)
        left = play(hits, 4.5)
        audio.write_float_wav(
            stems.path / "drums.wav", np.concatenate([left, np.float32(right) * left]), RATE_HZ
        )
        grid = put_own_grid(folder, 120.0, 0.1)
        found.append(notes_of(transcribe(stems, grid, settings=SIXTEENTHS, context=context_in(folder))).notes)
    assert found[0]
    assert found[0] == found[1]


def test_the_same_stems_give_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        stems = put_beat(folder, pattern(100.0, 2, PATTERNS["broken"]), 5.0)
        grid = put_own_grid(folder, 100.0, 0.1)
        result = transcribe(stems, grid, settings=SIXTEENTHS, context=context_in(folder))
        found.append([path.read_bytes() for path in made(result).files.values()])
    assert found[0] == found[1]


def test_progress_rises_and_cancel_stops(tmp_path: Path) -> None:
    stems = put_beat(tmp_path, pattern(100.0, 2, PATTERNS["rock"]), 5.0)
    grid = put_own_grid(tmp_path, 100.0, 0.1)
    reports = Reports()
    context = context_in(tmp_path, reports)
    transcribe(stems, grid, settings=SIXTEENTHS, context=context)
    shares = [done / total for done, total in reports.seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def cancel(done: float, total: float) -> None:
        raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        transcribe(
            stems,
            grid,
            settings=SIXTEENTHS,
            context=Context(context.workdir, context.models_dir, context.voices_dir, cancel),
        )


def test_the_network_is_named_with_its_digest(tmp_path: Path) -> None:
    [reference] = models(SIXTEENTHS, tmp_path)
    assert reference.licence == "Apache-2.0"
    assert len(reference.sha256) == 64


@pytest.mark.real
def test_vocals_where_nobody_sings_get_no_track(tmp_path: Path) -> None:
    stems = put_stems(tmp_path, 4.0, ("vocals", "drums"))
    grid = put_own_grid(tmp_path, 100.0, 0.0, sings=False)
    result = transcribe(stems, grid, settings=SIXTEENTHS, context=context_in(tmp_path))
    assert set(made(result).facts["notes"]) == {"drums"}


@pytest.mark.real
def test_the_posteriorgrams_are_basic_pitchs_own(tmp_path: Path) -> None:
    samples = audio.resample(audio.to_mono(true_stem("other", 6.0)), RATE_HZ, pitched.RATE_HZ)
    audio.write_float_wav(tmp_path / "a.wav", samples, pitched.RATE_HZ)
    # In a process of its own: its import takes seconds and warns.
    paths = [str(tmp_path / "a.wav"), str(tmp_path / "a.npz")]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BASIC_PITCH, *paths], check=True, capture_output=True
    )
    theirs = np.load(tmp_path / "a.npz")
    note, onset = theirs["note"], theirs["onset"]
    heard = posteriorgrams(samples, lambda done, total: None)
    frames = min(len(note), len(heard.note))
    assert abs(len(note) - len(heard.note)) <= 4
    assert np.abs(note[:frames] - heard.note[:frames]).max() < 1e-5
    assert np.abs(onset[:frames] - heard.onset[:frames]).max() < 1e-5
    assert np.diff(heard.seconds).min() > 0


@pytest.mark.real
def test_song_a_from_its_true_stems(tmp_path: Path) -> None:
    result = transcribe(
        put_stems(tmp_path), put_grid(tmp_path), settings=SIXTEENTHS, context=context_in(tmp_path)
    )
    path = made(result).files["notes"]
    assert note_f1(DATA / "bass.mid", path, ["bass"]).f1 >= 0.98
    assert note_f1(DATA / "other.mid", path, ["other"]).f1 >= 0.82
    assert note_f1([DATA / "bass.mid", DATA / "other.mid"], path, ["bass", "other"]).f1 >= 0.87
    for name, least in (("kick", 0.98), ("snare", 0.98), ("hat", 0.93)):
        assert drum_f1(DATA / "drums.mid", path)[name].f1 >= least
    sung = [note for note in read_midi(path)[0].notes if note.part == "vocals"]
    for note, following in itertools.pairwise(sorted(sung, key=lambda n: n.start_beats)):
        assert note.start_beats + note.length_beats <= following.start_beats + 0.05
    assert {note.part for note in read_midi(path)[0].notes} == {"vocals", "drums", "bass", "other"}


@pytest.mark.real
@pytest.mark.parametrize(("part", "least"), [("bass", 0.98), ("other", 0.8)])
def test_song_a_part_by_part(tmp_path: Path, part: Stem, least: float) -> None:
    stems = put_stems(tmp_path, stems=[part])
    result = transcribe(stems, put_grid(tmp_path), settings=SIXTEENTHS, context=context_in(tmp_path))
    assert note_f1(DATA / f"{part}.mid", made(result).files["notes"], [part]).f1 >= least
