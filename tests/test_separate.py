"""Promises of the stage separate: stems null, keep rate, channels and length, and are the same each time."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge import audio, weights
from bridge.audio import Samples
from bridge.errors import Cancelled, StageError
from bridge.progress import Report
from bridge.separators import htdemucs, spleeter
from bridge.stages import separate as stage
from bridge.stages.separate import SeparateSettings, models, resolve, separate, separate_samples
from bridge.stretches import Stretches
from bridge.types import STEMS, Bounce, Context, Fallback, Made, Stem
from tests.song_a import DATA, RATE_HZ, Reports, context_in, true_stem

SPLEETER = SeparateSettings(engine="spleeter")


def bounce_of(path: Path) -> Bounce:
    info = audio.probe(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Bounce(path, path.name, digest, "mix", info.sample_rate_hz, info.channels, info.frames)


def put_bounce(folder: Path, samples: Samples, rate_hz: int = RATE_HZ) -> Bounce:
    path = folder / "Song.wav"
    audio.write_float_wav(path, samples, rate_hz)
    return bounce_of(path)


def mix(seconds: float) -> Samples:
    total: Samples = np.sum([true_stem(stem, seconds) for stem in STEMS], axis=0, dtype=np.float32)
    return total


def read_stems(folder: Path) -> dict[Stem, Samples]:
    return {stem: audio.read_raw(folder / f"{stem}.wav")[0] for stem in STEMS}


def residual_db(stems: dict[Stem, Samples], bounce: Samples) -> float:
    total = np.sum([stems[stem] for stem in STEMS], axis=0, dtype=np.float32)
    return audio.rms_db(total - bounce) - audio.rms_db(bounce)


def sdr_db(true: Samples, found: Samples) -> float:
    """Plain signal-to-distortion ratio."""
    return audio.rms_db(true) - audio.rms_db(true - found)


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that gives half of the bounce to the vocals and a quarter to the drums."""

    def engine(
        stereo: Samples, name: str, models_dir: Path, report: Report, level: htdemucs.Level | None
    ) -> dict[Stem, Samples]:
        assert stereo.shape[0] == 2
        report(1, 1)
        half = stereo * np.float32(0.5)
        return {"vocals": half, "drums": half * np.float32(0.5), "bass": np.zeros_like(stereo)}

    monkeypatch.setattr(htdemucs, "separate", engine)


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_stems_null_at_the_bounces_own_rate_channels_and_length(
    halves: None, tmp_path: Path, rate_hz: int, channels: int
) -> None:
    noise = np.random.default_rng(0).standard_normal((channels, rate_hz + 17)).astype(np.float32)
    bounce = put_bounce(tmp_path, noise * np.float32(0.3), rate_hz)
    made = separate(bounce, settings=SeparateSettings(), context=context_in(tmp_path))
    samples, _ = audio.read(bounce.path)
    for stem in STEMS:
        info = audio.probe(made.files["stems"] / f"{stem}.wav")
        assert (info.sample_rate_hz, info.channels, info.frames) == (rate_hz, channels, samples.shape[1])
        assert info.is_float
    assert residual_db(read_stems(made.files["stems"]), samples) <= -130.0
    assert made.facts == {"engine": "htdemucs", "approximate": []}


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_levels_and_alignment_are_kept(halves: None, tmp_path: Path, rate_hz: int) -> None:
    seconds = np.arange(rate_hz) / rate_hz
    loud = np.stack([1.5 * np.sin(2 * np.pi * 440 * seconds)] * 2).astype(np.float32)  # over full scale
    stems = separate_samples(loud, rate_hz, "htdemucs", tmp_path, lambda done, total: None)
    middle = slice(rate_hz // 10, -rate_hz // 10)
    assert audio.rms_db(stems["vocals"][:, middle] - loud[:, middle] * np.float32(0.5)) < -80.0


def test_silence_stays_silence(tmp_path: Path) -> None:
    bounce = put_bounce(tmp_path, np.zeros((2, RATE_HZ), dtype=np.float32))
    made = separate(bounce, settings=SPLEETER, context=context_in(tmp_path))
    for samples in read_stems(made.files["stems"]).values():
        assert samples.shape == (2, RATE_HZ) and not samples.any()


def test_an_engine_that_gives_nonsense_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(htdemucs, "separate", lambda stereo, *rest: {"vocals": stereo * np.float32("nan")})
    with pytest.raises(StageError, match=r'engine htdemucs gave values that are not numbers.*"spleeter"'):
        separate_samples(mix(1.0), RATE_HZ, "htdemucs", tmp_path, lambda done, total: None)


def test_an_engine_out_of_reach_falls_back_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    bounce = put_bounce(tmp_path, mix(1.0))
    settings, fallback = resolve(SeparateSettings("htdemucs_ft"), bounce, tmp_path)
    assert settings == SPLEETER
    reason = "htdemucs_ft is not installed and HF_HUB_OFFLINE is set"
    assert fallback == Fallback("separate", "htdemucs_ft", "spleeter", reason)
    assert resolve(SPLEETER, bounce, tmp_path) == (SPLEETER, None)


def test_an_engine_that_is_there_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights.keep("htdemucs/955717e8.safetensors", b"weights", tmp_path)
    bounce = put_bounce(tmp_path, mix(1.0))
    assert resolve(SeparateSettings(), bounce, tmp_path) == (SeparateSettings(), None)
    assert [ref.name for ref in models(SeparateSettings(), tmp_path)] == ["htdemucs/955717e8"]


def test_a_part_needs_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    part = dataclasses.replace(put_bounce(tmp_path, mix(1.0)), role="vocals")
    assert resolve(SeparateSettings(), part, tmp_path) == (SeparateSettings(), None)
    made = separate(part, settings=SeparateSettings(), context=context_in(tmp_path))
    (only,) = made.files["stems"].iterdir()
    assert only.name == "vocals.wav"
    assert np.array_equal(audio.read_raw(only)[0], audio.read(part.path)[0])


def test_all_rates_agree() -> None:
    assert {stage.RATE_HZ, htdemucs.RATE_HZ, spleeter.RATE_HZ} == {44_100}


def test_a_long_song_is_separated_in_stretches_without_a_seam(
    halves: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = mix(9.3)
    bounce = put_bounce(tmp_path, samples)
    (tmp_path / "whole").mkdir()
    whole = separate(bounce, settings=SeparateSettings(), context=context_in(tmp_path / "whole"))
    monkeypatch.setattr(stage, "STRETCHES", Stretches(length_s=2.0, around_s=1.0, seam_s=0.25))
    (tmp_path / "pieces").mkdir()
    reports = Reports()
    pieces = separate(bounce, settings=SeparateSettings(), context=context_in(tmp_path / "pieces", reports))
    assert isinstance(whole, Made) and isinstance(pieces, Made)
    stems = read_stems(pieces.files["stems"])
    for stem, heard in read_stems(whole.files["stems"]).items():
        assert stems[stem].shape == samples.shape
        assert np.abs(stems[stem] - heard).max() < 1e-6
    assert residual_db(stems, samples) < -120
    shares = [done / total for done, total in reports.seen]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_every_stretch_is_brought_to_the_level_of_the_whole_song(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """demucs takes mean and deviation from the whole song: a quiet verse must stay quiet beside a chorus."""
    seen: list[htdemucs.Level] = []

    def engine(stereo: Samples, *rest: Any) -> dict[Stem, Samples]:
        seen.append(rest[-1])
        return {"vocals": stereo, "drums": np.zeros_like(stereo), "bass": np.zeros_like(stereo)}

    monkeypatch.setattr(htdemucs, "separate", engine)
    monkeypatch.setattr(stage, "STRETCHES", Stretches(length_s=3.0, around_s=1.0, seam_s=0.25))
    samples = mix(9.0) * np.linspace(0.05, 1.0, 9 * RATE_HZ, dtype=np.float32) + np.float32(0.01)
    separate(put_bounce(tmp_path, samples), settings=SeparateSettings(), context=context_in(tmp_path))
    mono = samples.mean(axis=0)
    assert len(seen) == 3
    for level in seen:
        assert level.mean == pytest.approx(mono.mean(), abs=1e-5)
        assert level.deviation == pytest.approx(mono.std(ddof=1), rel=1e-4)


def test_where_memory_ran_out_before_less_is_separated_at_a_time(
    halves: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths_s: list[float] = []
    one_go = stage.separate_samples

    def noted(samples: Samples, rate_hz: int, *rest: Any) -> Any:
        lengths_s.append(samples.shape[1] / rate_hz)
        return one_go(samples, rate_hz, *rest)

    monkeypatch.setattr(stage, "separate_samples", noted)
    bounce = put_bounce(tmp_path, mix(38.0))
    (tmp_path / "thrifty").mkdir()
    thrifty = dataclasses.replace(context_in(tmp_path / "thrifty"), thrifty=True)
    separate(bounce, settings=SeparateSettings(), context=thrifty)
    assert len(lengths_s) == 2
    cut = stage.THRIFTY_STRETCHES
    assert max(lengths_s) <= cut.length_s + cut.around_s


@pytest.mark.real
def test_spleeter_in_stretches_differs_little_from_the_whole(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own blocks lie elsewhere then, so it can't be the same; it must be as good and have no seam."""
    bounce = put_bounce(tmp_path, mix(30.0))
    found = []
    for name, stretch_s in (("whole", 1000.0), ("pieces", 10.0)):
        monkeypatch.setattr(stage, "STRETCHES", dataclasses.replace(stage.STRETCHES, length_s=stretch_s))
        folder = tmp_path / name
        folder.mkdir()
        context = dataclasses.replace(context_in(folder), models_dir=models_dir)
        made = separate(bounce, settings=SPLEETER, context=context)
        assert isinstance(made, Made)
        found.append(read_stems(made.files["stems"]))
    whole, pieces = found
    true = true_stem("vocals", 30.0)
    assert abs(sdr_db(true, pieces["vocals"]) - sdr_db(true, whole["vocals"])) < 0.3
    assert sdr_db(whole["vocals"], pieces["vocals"]) > 20
    assert residual_db(pieces, mix(30.0)) < -120


@pytest.mark.real
def test_song_a_comes_apart_and_nulls(tmp_path: Path) -> None:
    reports = Reports()
    made = separate(bounce_of(DATA / "mix.flac"), settings=SPLEETER, context=context_in(tmp_path, reports))
    stems = read_stems(made.files["stems"])
    bounce, _ = audio.read(DATA / "mix.flac")
    assert residual_db(stems, bounce) <= -90.0
    assert sdr_db(true_stem("vocals"), stems["vocals"]) >= 11.5
    assert sdr_db(bounce - true_stem("vocals"), bounce - stems["vocals"]) >= 13.5
    assert sdr_db(true_stem("drums"), stems["drums"]) >= 3.0
    assert sdr_db(true_stem("bass"), stems["bass"]) >= 5.5
    assert sdr_db(true_stem("other"), stems["other"]) >= 3.5
    assert made.facts == {"engine": "spleeter", "approximate": ["drums", "bass", "other"]}
    assert [done for done, _ in reports.seen] == sorted(done for done, _ in reports.seen)
    assert len(reports.seen) >= 8 and reports.seen[-1][0] == reports.seen[-1][1]


@pytest.mark.real
@pytest.mark.parametrize(("rate_hz", "channels"), [(48_000, 2), (44_100, 1)])
def test_spleeter_keeps_other_formats(tmp_path: Path, rate_hz: int, channels: int) -> None:
    bounce = audio.resample(mix(6.0)[:channels], RATE_HZ, rate_hz)
    stems = separate_samples(bounce, rate_hz, "spleeter", tmp_path, lambda done, total: None)
    again = separate_samples(bounce, rate_hz, "spleeter", tmp_path, lambda done, total: None)
    assert residual_db(stems, bounce) <= -90.0
    vocals = audio.resample(true_stem("vocals", 6.0)[:channels], RATE_HZ, rate_hz)
    assert sdr_db(vocals, stems["vocals"]) >= 9.0
    assert all(np.array_equal(stems[stem], again[stem]) for stem in STEMS)


@pytest.mark.real
def test_spleeter_can_be_cancelled_between_blocks(tmp_path: Path) -> None:
    def cancel(done: float, total: float) -> None:
        if done:
            raise Cancelled("stop")

    bounce = put_bounce(tmp_path, mix(13.0))
    workdir = tmp_path / "cancelled"
    workdir.mkdir()
    context = Context(workdir, tmp_path / "models", tmp_path / "voices", cancel)
    with pytest.raises(Cancelled):
        separate(bounce, settings=SPLEETER, context=context)
    assert all(audio.read_raw(path)[0].size == 0 for path in workdir.rglob("*.wav"))  # nothing half done
