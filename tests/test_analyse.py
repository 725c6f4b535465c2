"""The stage: order of trust, what stands in the grid, song_a against its truth, and odd input."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from bridge.audio import Samples, read, resample, write_float_wav
from bridge.config import read_table
from bridge.errors import Cancelled, ConfigError
from bridge.grid import read_grid
from bridge.separators.spleeter import separate_vocals
from bridge.stages.analyse import AnalyseSettings, analyse
from bridge.tempo import constant_tempo, tempo_from_changes
from bridge.types import Artifact, Bounce, Context, Grid, Made, Role, TempoMap, TempoSource
from tests.synthetic_song import Song, make_song

SONG_A = Path(__file__).parent / "data" / "song_a"
RATE_HZ = 44_100


def bounce_of(path: Path, rate_hz: int, role: Role = "mix") -> Bounce:
    return Bounce(path, path.name, "0" * 64, role, rate_hz, 1, 0)


def context_in(folder: Path) -> Context:
    folder.mkdir(exist_ok=True)
    return Context(folder, folder, folder, lambda done, total: None)


def stems_of(folder: Path, parts: dict[str, Samples], rate_hz: int) -> Artifact:
    folder.mkdir()
    for name, samples in parts.items():
        write_float_wav(folder / f"{name}.wav", samples, rate_hz)
    return Artifact("stems", "stems", folder, "0" * 64)


def run(
    folder: Path,
    samples: Samples,
    *,
    rate_hz: int = RATE_HZ,
    role: Role = "mix",
    known: tuple[TempoMap, TempoSource] | None = None,
    stems: dict[str, Samples] | None = None,
    settings: AnalyseSettings | None = None,
) -> tuple[Grid, Made]:
    path = folder / "bounce.wav"
    write_float_wav(path, samples, rate_hz)
    bounce = bounce_of(path, rate_hz, role)
    if known:
        bounce = dataclasses.replace(bounce, tempo_map=known[0], tempo_source=known[1])
    artifact = stems_of(folder / "stems", stems, rate_hz) if stems else None
    made = analyse(
        bounce, artifact, settings=settings or AnalyseSettings(), context=context_in(folder / "work")
    )
    json.dumps(made.facts, allow_nan=False)
    return read_grid(made.files["grid"]), made


@pytest.fixture(scope="module")
def song() -> Song:
    return make_song(90, bars=8, offset_s=0.37)


def test_song_a_without_stems_meets_its_truth(tmp_path: Path) -> None:
    truth = json.loads((SONG_A / "truth.json").read_text(encoding="utf-8"))
    made = analyse(
        bounce_of(SONG_A / "mix.flac", RATE_HZ),
        None,
        settings=AnalyseSettings(),
        context=context_in(tmp_path),
    )
    grid = read_grid(made.files["grid"])
    assert grid.tempo.points[0].bpm == pytest.approx(truth["bpm"], abs=0.05)
    assert len(grid.tempo.points) == 1
    assert grid.tempo.first_downbeat_frame <= 0.03 * RATE_HZ
    assert (grid.tempo.beats_per_bar, grid.tempo.beat_unit) == (4, 4)
    assert (grid.key, grid.tempo_source) == ("C major", "estimated")
    assert grid.tempo_confidence > 0.9
    assert -20.0 < grid.loudness_lufs < -10.0
    assert -6.0 < grid.true_peak_dbtp < 0.0


def test_the_singer_of_song_a_is_found_in_its_true_stem(tmp_path: Path) -> None:
    truth = json.loads((SONG_A / "truth.json").read_text(encoding="utf-8"))
    vocals, _ = read(SONG_A / "vocals.flac")
    stems = stems_of(tmp_path / "stems", {"vocals": vocals}, RATE_HZ)
    bounce = bounce_of(SONG_A / "vocals.flac", RATE_HZ, "vocals")
    made = analyse(bounce, stems, settings=AnalyseSettings(), context=context_in(tmp_path / "work"))
    grid = read_grid(made.files["grid"])
    assert grid.sings
    assert len(grid.singing) == len(truth["melody_starts_s"])
    for span, start_s in zip(grid.singing, truth["melody_starts_s"], strict=True):
        assert span.start_s == pytest.approx(start_s, abs=0.4)  # its first syllable begins softly


@pytest.mark.parametrize("role", ["drums", "bass", "other"])
def test_a_single_instrument_never_sings(tmp_path: Path, role: Role) -> None:
    samples, rate = read(SONG_A / f"{role}.flac")
    grid, _ = run(tmp_path, samples, rate_hz=rate, role=role, stems={role: samples})
    assert not grid.sings
    assert grid.singing == ()
    assert grid.key == ("" if role == "drums" else "C major")
    assert grid.tempo.points[0].bpm == 100.0


@pytest.mark.parametrize("index", range(30))
def test_a_second_of_music_from_anywhere_is_analysed(tmp_path: Path, index: int) -> None:
    mix, rate_hz = read(SONG_A / "mix.flac")
    start = index * rate_hz // 2
    grid, _ = run(tmp_path, mix[:, start : start + rate_hz])
    assert grid.tempo_confidence < 0.5
    assert (grid.tempo.beats_per_bar, grid.tempo.beat_unit) == (4, 4)


def test_the_user_knows_better_who_sings(tmp_path: Path) -> None:
    """A held vowel, which on its own passes for an instrument."""
    hum = (0.2 * np.sin(2 * np.pi * 220 * np.arange(4 * RATE_HZ) / RATE_HZ)).astype(np.float32)[None]
    for word, expected in (("", False), ("yes", True), ("no", False)):
        (tmp_path / f"said {word}").mkdir()
        settings = AnalyseSettings(sings=word)
        grid, _ = run(tmp_path / f"said {word}", hum, stems={"vocals": hum}, settings=settings)
        assert grid.sings is expected


def test_stems_give_the_same_tempo_as_the_bounce(tmp_path: Path, song: Song) -> None:
    silence = np.zeros_like(song.mix)
    stems = {"vocals": silence, "drums": song.drums, "bass": silence, "other": song.music}
    grid, made = run(tmp_path, song.mix, stems=stems)
    assert grid.tempo.points[0].bpm == 90.0
    assert grid.tempo.first_downbeat_frame == pytest.approx(0.37 * RATE_HZ, abs=0.005 * RATE_HZ)
    assert not grid.sings
    assert made.detail == "90.00 bpm, 4/4, C major, nobody sings"


def test_a_set_tempo_beats_everything_and_its_phase_is_heard(tmp_path: Path, song: Song) -> None:
    sidecar = constant_tempo(111.0, RATE_HZ)
    grid, _ = run(tmp_path, song.mix, known=(sidecar, "sidecar"), settings=AnalyseSettings(bpm=90.0))
    assert (grid.tempo.points[0].bpm, grid.tempo_source, grid.tempo_confidence) == (90.0, "set", 1.0)
    assert grid.tempo.first_downbeat_frame == pytest.approx(0.37 * RATE_HZ, abs=0.005 * RATE_HZ)


def test_a_sidecar_map_is_taken_whole(tmp_path: Path, song: Song) -> None:
    known = tempo_from_changes(
        ((0, 90.0), (200_000, 95.0)), RATE_HZ, beats_per_bar=3, first_downbeat_frame=1234
    )
    grid, _ = run(tmp_path, song.mix, known=(known, "sidecar"))
    assert (grid.tempo, grid.tempo_source, grid.tempo_confidence) == (known, "sidecar", 1.0)


@pytest.mark.parametrize(("source", "confidence", "beats_per_bar"), [("acid", 0.9, 3), ("name", 0.8, 4)])
def test_a_bare_tempo_is_kept_and_its_bars_are_heard(
    tmp_path: Path, song: Song, source: TempoSource, confidence: float, beats_per_bar: int
) -> None:
    known = constant_tempo(90.0, RATE_HZ, beats_per_bar=3)  # only an acid chunk knows the metre
    grid, _ = run(tmp_path, song.mix, known=(known, source))
    assert (grid.tempo_source, grid.tempo_confidence) == (source, confidence)
    assert grid.tempo.points[0].bpm == 90.0
    assert grid.tempo.beats_per_bar == beats_per_bar
    assert grid.tempo.first_downbeat_frame > 0


@pytest.mark.parametrize(("seconds", "most"), [(1.5, 0.25), (4.0, 0.5)])
def test_a_short_bounce_is_in_four_and_claims_little(tmp_path: Path, seconds: float, most: float) -> None:
    """In two bars anything looks regular."""
    samples, rate = read(SONG_A / "mix.flac")
    for name, gain in (("clean", 1.0), ("clipped", 8.0)):
        (tmp_path / name).mkdir()
        cut = np.clip(samples[:, : round(seconds * rate)] * np.float32(gain), -1.0, 1.0)
        grid, _ = run(tmp_path / name, cut, rate_hz=rate)
        assert (grid.tempo.beats_per_bar, grid.tempo.beat_unit) == (4, 4)
        assert grid.tempo_confidence <= most


def test_the_metre_of_a_short_bounce_is_the_one_that_is_told(tmp_path: Path) -> None:
    samples = make_song(133.5, bars=1).mix
    for beats_per_bar, expected in ((0, 4), (3, 3)):
        (tmp_path / str(beats_per_bar)).mkdir()
        grid, _ = run(
            tmp_path / str(beats_per_bar),
            samples,
            known=(constant_tempo(133.5, RATE_HZ), "name"),
            settings=AnalyseSettings(beats_per_bar=beats_per_bar),
        )
        assert grid.tempo.beats_per_bar == expected
        assert grid.tempo.points[0].bpm == 133.5


def test_channels_in_anti_phase_are_heard(tmp_path: Path, song: Song) -> None:
    (tmp_path / "mono").mkdir()
    grid, _ = run(tmp_path, np.concatenate([song.mix, -song.mix]))
    mono, _ = run(tmp_path / "mono", song.mix)
    assert (grid.tempo, grid.key, grid.tempo_confidence) == (mono.tempo, mono.key, mono.tempo_confidence)
    assert grid.key == "C major"


def test_what_the_user_sets_stands_in_the_grid(tmp_path: Path, song: Song) -> None:
    settings = AnalyseSettings(bpm=180.0, beats_per_bar=6, beat_unit=8, first_downbeat_s=0.5, key="F# minor")
    grid, _ = run(tmp_path, song.mix, settings=settings)
    assert grid.tempo == constant_tempo(
        180.0, RATE_HZ, beats_per_bar=6, beat_unit=8, first_downbeat_frame=22_050
    )
    assert (grid.key, grid.key_confidence) == ("F# minor", 1.0)


@pytest.mark.parametrize("value", ["C", "H major", "c major", "C dorian"])
def test_a_key_that_is_none_is_an_error_that_names_it(tmp_path: Path, song: Song, value: str) -> None:
    with pytest.raises(ConfigError, match=r"analyse\.key"):
        run(tmp_path, song.mix, settings=AnalyseSettings(key=value))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="bpm"):
        read_table(AnalyseSettings, {"bpm": 4000}, "analyse")


def test_a_song_in_six_eight_counts_eighths_where_the_user_says_so(tmp_path: Path) -> None:
    samples = make_song(60, bars=10).mix
    grid, _ = run(tmp_path, samples, settings=AnalyseSettings(bpm=90.0, beats_per_bar=6, beat_unit=8))
    assert grid.tempo.points[0].bpm == 90.0
    assert (grid.tempo.beats_per_bar, grid.tempo.beat_unit) == (6, 8)


def test_silence_falls_back_to_120_without_confidence(tmp_path: Path) -> None:
    grid, made = run(tmp_path, np.zeros((2, RATE_HZ), dtype=np.float32))
    assert grid.tempo == constant_tempo(120.0, RATE_HZ)
    assert (grid.tempo_confidence, grid.key, grid.sings) == (0.0, "", False)
    assert grid.loudness_lufs == -math.inf
    assert made.facts["loudness_lufs"] is None


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 96_000])
@pytest.mark.parametrize("kind", ["half a second", "coarse noise", "constant", "one click", "song"])
def test_odd_input_gives_finite_numbers(tmp_path: Path, kind: str, rate_hz: int) -> None:
    rng = np.random.default_rng(0)
    made: dict[str, Samples] = {
        "half a second": resample(make_song(120, bars=1).mix, RATE_HZ, rate_hz)[:, : rate_hz // 2],
        "coarse noise": (np.round(rng.uniform(-1, 1, (2, 3 * rate_hz)) * 127) / 127).astype(np.float32),
        "constant": np.full((1, 2 * rate_hz), 0.5, dtype=np.float32),
        "one click": np.eye(1, 2 * rate_hz, rate_hz, dtype=np.float32),
        "song": resample(make_song(128, bars=4).mix, RATE_HZ, rate_hz) + np.float32(0.3),
    }
    samples = made[kind]
    grid, _ = run(tmp_path, samples, rate_hz=rate_hz, stems={"vocals": samples, "drums": samples})
    assert all(math.isfinite(p.bpm) and 20 < p.bpm < 400 for p in grid.tempo.points)
    assert not grid.sings
    if kind == "song":
        assert grid.tempo.points[0].bpm == 128.0


def test_the_same_bounce_gives_the_same_bytes(tmp_path: Path, song: Song) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _, made = run(tmp_path / name, song.mix)
        written.append(made.files["grid"].read_bytes())
    assert written[0] == written[1]


def test_cancel_stops_it(tmp_path: Path, song: Song) -> None:
    def cancel(done: float, total: float) -> None:
        raise Cancelled("cancelled")

    path = tmp_path / "bounce.wav"
    write_float_wav(path, song.mix, RATE_HZ)
    context = dataclasses.replace(context_in(tmp_path / "work"), report=cancel)
    with pytest.raises(Cancelled):
        analyse(bounce_of(path, RATE_HZ), None, settings=AnalyseSettings(), context=context)


@pytest.mark.real
@pytest.mark.parametrize("sung", [True, False])
def test_an_instrumental_gets_no_singer_from_the_separator(
    tmp_path: Path, models_dir: Path, sung: bool
) -> None:
    band = sum(read(SONG_A / f"{name}.flac")[0] for name in ("drums", "bass", "other"))
    samples = read(SONG_A / "mix.flac")[0] if sung else np.asarray(band)
    vocals = separate_vocals(samples, models_dir, lambda done, total: None)
    grid, _ = run(tmp_path, samples, stems={"vocals": vocals, "other": samples - vocals})
    assert grid.sings is sung
    assert len(grid.singing) == (4 if sung else 0)
