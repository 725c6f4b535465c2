"""The mix: loudness and true peak as asked, the lead as dynamic as the singer, the music ducked by the set amount."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bridge import audio
from bridge.audio import Samples
from bridge.config import shipped
from bridge.effects.chains import load_chain
from bridge.effects.limiter import limit, master, peaks_of
from bridge.effects.render import render
from bridge.errors import Cancelled
from bridge.sound import Sound, of_array, of_file
from bridge.stages.mix import MixSettings, balance, duck, follow, mix
from bridge.types import Artifact, Made, Skip
from tests.song_a import RATE_HZ, Reports, context_in, lag_ms, put_audio, put_grid, put_stems, true_stem

SECONDS = 10.0
LEAD_ENDS_S = 4.8


def _sound(samples: Samples) -> Sound:
    return of_array(samples, RATE_HZ)


def _music(seconds: float = SECONDS) -> Samples:
    total: Samples = true_stem("drums", seconds) + true_stem("bass", seconds) + true_stem("other", seconds)
    return total


def _mixed(tmp_path: Path, lead: Samples, settings: MixSettings) -> Samples:
    made = mix(
        put_stems(tmp_path, SECONDS, channels=lead.shape[0]),
        put_grid(tmp_path),
        put_audio(tmp_path, "lead", lead),
        None,
        backing=None,
        settings=settings,
        context=context_in(tmp_path),
    )
    assert isinstance(made, Made)
    mixed, rate_hz = audio.read_raw(made.files["mix"])
    assert rate_hz == RATE_HZ
    assert made.facts["mix"]["loudness_lufs"] == pytest.approx(audio.loudness_lufs(mixed, RATE_HZ), abs=0.01)
    return mixed


def _levels(samples: Samples) -> npt.NDArray[np.float64]:
    """RMS in dB per 200 ms, while somebody sings."""
    hop, count = RATE_HZ // 5, 20
    sung = samples[:, RATE_HZ // 2 : RATE_HZ // 2 + count * hop]
    power = np.square(sung, dtype=np.float64).reshape(samples.shape[0], count, hop).mean(axis=(0, 2))
    levels: npt.NDArray[np.float64] = 10 * np.log10(power + 1e-12)
    return levels


@pytest.mark.parametrize(("target_lufs", "ceiling_dbtp"), [(-14.0, -1.0), (-10.0, -1.0), (-23.0, -3.0)])
def test_loudness_and_true_peak_are_as_asked(tmp_path: Path, target_lufs: float, ceiling_dbtp: float) -> None:
    settings = MixSettings(target_lufs=target_lufs, ceiling_dbtp=ceiling_dbtp)
    mixed = _mixed(tmp_path, true_stem("vocals", SECONDS), settings)
    assert audio.loudness_lufs(mixed, RATE_HZ) == pytest.approx(target_lufs, abs=0.3)
    assert audio.true_peak_dbtp(mixed, RATE_HZ) <= ceiling_dbtp


@pytest.mark.parametrize("channels", [1, 2])
def test_the_singer_as_lead_gives_the_bounce_back_but_for_its_loudness(tmp_path: Path, channels: int) -> None:
    vocals = true_stem("vocals", SECONDS)[:channels]
    mixed = _mixed(tmp_path, vocals, MixSettings(duck_db=0.0, target_lufs=-20.0))
    bounce = vocals + _music()[:channels]
    assert mixed.shape == bounce.shape
    gain = np.float32(np.vdot(bounce, mixed) / np.vdot(bounce, bounce))
    assert audio.rms_db(mixed - gain * bounce) - audio.rms_db(mixed) < -60


def test_the_mix_is_in_time(tmp_path: Path) -> None:
    mixed = _mixed(tmp_path, true_stem("vocals", SECONDS) * np.float32(0.2), MixSettings())
    assert lag_ms(true_stem("vocals", SECONDS) + _music(), mixed) == pytest.approx(0, abs=1)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (
        _mixed(tmp_path / name, true_stem("vocals", SECONDS), MixSettings()) for name in ("a", "b")
    )
    assert first.tobytes() == second.tobytes()


def test_a_lead_that_lost_the_singers_dynamics_gets_them_back() -> None:
    vocals = true_stem("vocals", 5.0)
    swing_db = 6.0 * np.sin(2 * np.pi * np.arange(vocals.shape[1]) / (2.5 * RATE_HZ))
    lead = (vocals * np.power(10.0, (swing_db - 25.0) / 20.0)).astype(np.float32)
    followed = follow(_sound(lead), _sound(vocals), 1.0).all()
    error_db = _levels(followed) - _levels(vocals)
    assert np.std(_levels(lead) - _levels(vocals)) > 4.0
    assert np.std(error_db) < 0.5 and abs(np.mean(error_db)) < 0.5
    likeness_before = np.corrcoef(_levels(vocals), _levels(lead))[0, 1]
    assert np.corrcoef(_levels(vocals), _levels(followed))[0, 1] > 0.98 > 0.9 > likeness_before


@pytest.mark.parametrize("chain", ["lead", "telephone", "warm"])
def test_a_lead_through_effects_comes_closer_to_the_singer(tmp_path: Path, chain: str) -> None:
    vocals = true_stem("vocals", 5.0)
    steps = load_chain(chain, [shipped("presets") / "effects"])
    render(steps, of_array(vocals, RATE_HZ), tmp_path / "wet.wav", lambda _done, _total: None)
    lead = of_file(tmp_path / "wet.wav").all()
    followed = follow(_sound(lead), _sound(vocals), 1.0).all()
    assert np.std(_levels(followed) - _levels(vocals)) < 0.75 * np.std(_levels(lead) - _levels(vocals))


def test_strength_0_only_sets_the_level() -> None:
    vocals = true_stem("vocals", 5.0)
    followed = follow(_sound(vocals * np.float32(0.01)), _sound(vocals), 0.0).all()
    assert audio.rms_db(followed - vocals) - audio.rms_db(vocals) < -60


def test_the_correction_stops_at_12_db_and_nothing_is_pumped_up_in_pauses() -> None:
    vocals = true_stem("vocals", SECONDS)
    hiss = np.random.default_rng(0).standard_normal(vocals.shape).astype(np.float32) * np.float32(1e-4)
    lead = vocals + hiss
    lead[:, RATE_HZ : 2 * RATE_HZ] *= np.float32(1e-3)  # a hole of 60 dB
    followed = follow(_sound(lead), _sound(vocals), 1.0).all()
    pause, hole = slice(6 * RATE_HZ, 9 * RATE_HZ), slice(round(1.3 * RATE_HZ), round(1.7 * RATE_HZ))
    assert audio.rms_db(followed[:, pause]) - audio.rms_db(lead[:, pause]) < 1.5
    whole_db = audio.loudness_lufs(vocals, RATE_HZ) - audio.loudness_lufs(lead, RATE_HZ)
    assert audio.rms_db(followed[:, hole]) - audio.rms_db(lead[:, hole]) == pytest.approx(
        12 + whole_db, abs=0.2
    )


@pytest.mark.parametrize("duck_db", [0.0, 2.0, 6.0])
def test_the_music_goes_down_by_the_set_amount_under_the_lead_only(duck_db: float) -> None:
    lead, music = true_stem("vocals", SECONDS), _music()
    ducked = duck(_sound(lead), duck_db)(_sound(music)).all()
    under, alone = (
        slice(RATE_HZ, 4 * RATE_HZ),
        slice(round((LEAD_ENDS_S + 1.5) * RATE_HZ), round(9.5 * RATE_HZ)),
    )
    assert audio.rms_db(ducked[:, under]) - audio.rms_db(music[:, under]) == pytest.approx(-duck_db, abs=0.25)
    assert audio.rms_db(ducked[:, alone]) - audio.rms_db(music[:, alone]) == pytest.approx(0.0, abs=0.1)


def test_ducking_moves_smoothly() -> None:
    steady = np.ones((1, round(SECONDS * RATE_HZ)), dtype=np.float32)
    gain = duck(_sound(true_stem("vocals", SECONDS)), 6.0)(_sound(steady)).all()[0]
    assert np.abs(np.diff(20 * np.log10(gain))).max() < 0.01  # dB per frame


def test_no_lead_and_no_music_are_skipped(tmp_path: Path) -> None:
    context, stems = context_in(tmp_path), put_stems(tmp_path, 1.0, ["vocals"])
    grid, lead = put_grid(tmp_path), put_audio(tmp_path, "lead", true_stem("vocals", 1.0))
    answer = mix(stems, grid, None, lead, backing=None, settings=MixSettings(), context=context)
    assert isinstance(answer, Skip) and answer.code == "no_lead"
    answer = mix(stems, grid, lead, None, backing=None, settings=MixSettings(), context=context)
    assert isinstance(answer, Skip) and answer.code == "no_music"


def test_a_silent_lead_leaves_the_music(tmp_path: Path) -> None:
    mixed = _mixed(tmp_path, np.zeros_like(true_stem("vocals", SECONDS)), MixSettings())
    assert audio.loudness_lufs(mixed, RATE_HZ) == pytest.approx(-14.0, abs=0.3)


def test_a_loudness_that_the_ceiling_forbids_is_said(tmp_path: Path) -> None:
    made = mix(
        put_stems(tmp_path, 3.0),
        put_grid(tmp_path),
        put_audio(tmp_path, "lead", true_stem("vocals", 3.0)),
        None,
        backing=None,
        settings=MixSettings(target_lufs=-6.0, ceiling_dbtp=-9.0),
        context=context_in(tmp_path),
    )
    assert isinstance(made, Made)
    assert "-6 LUFS can't be had below -9 dBTP" in made.detail
    assert made.facts["mix"]["true_peak_dbtp"] <= -9.0


def test_it_reports_from_start_to_end(tmp_path: Path) -> None:
    reports = Reports()
    mix(
        put_stems(tmp_path, 3.0),
        put_grid(tmp_path),
        put_audio(tmp_path, "lead", true_stem("vocals", 3.0)),
        None,
        backing=None,
        settings=MixSettings(),
        context=context_in(tmp_path, reports),
    )
    shares = [done / total for done, total in reports.seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_a_cancel_is_heard_in_the_midst_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A song of twenty minutes is not read to its end first."""
    monkeypatch.setattr("bridge.sound.BLOCK_S", 0.5)
    seen: list[tuple[float, float]] = []

    def cancel(done: float, total: float) -> None:
        seen.append((done, total))
        if len(seen) == 8:
            raise Cancelled("cancelled")

    context = dataclasses.replace(context_in(tmp_path), report=cancel)
    lead = put_audio(tmp_path, "lead", true_stem("vocals", 5.0))
    with pytest.raises(Cancelled):
        mix(
            put_stems(tmp_path, 5.0),
            put_grid(tmp_path),
            lead,
            None,
            None,
            settings=MixSettings(),
            context=context,
        )
    assert seen == [(0, 2)] * 8


# --- the backing


def _backing() -> Samples:
    """Another voice behind the lead, 6 dB under it: here the song's own singer, an octave up and later."""
    vocals = true_stem("vocals", SECONDS)
    high = np.repeat(vocals[:, ::2], 1, axis=1) * np.float32(0.5)
    later = np.zeros_like(vocals)
    later[:, RATE_HZ // 2 : RATE_HZ // 2 + high.shape[1]] = high
    return later


def test_the_backing_lies_under_the_lead_as_loud_as_it_was(tmp_path: Path) -> None:
    lead, backing = true_stem("vocals", SECONDS), _backing()
    stems = put_stems(tmp_path, SECONDS)
    audio.write_float_wav(stems.path / "vocals.wav", lead + backing, RATE_HZ)
    made = mix(
        stems,
        put_grid(tmp_path),
        put_audio(tmp_path, "lead", lead * np.float32(0.3)),  # as effects may leave it
        None,
        backing=put_audio(tmp_path, "backing", backing),
        settings=MixSettings(duck_db=0.0, target_lufs=-20.0),
        context=context_in(tmp_path),
    )
    assert isinstance(made, Made)
    mixed = audio.read_raw(made.files["mix"])[0]
    lead_gain, backing_gain, music_gain = _shares(mixed, lead, backing, _music())
    assert lead_gain / music_gain == pytest.approx(1.0, abs=0.06)  # 0.5 dB
    assert backing_gain / music_gain == pytest.approx(1.0, abs=0.01)


# --- the new piece


def _new(seconds: float = SECONDS) -> Samples:
    """New music of another loudness: here the song's own, backwards."""
    return _music(seconds)[:, ::-1] * np.float32(0.2)


def _products(tmp_path: Path, stems: Artifact, music: Samples, lead: Samples) -> dict[str, Samples]:
    made = mix(
        stems,
        put_grid(tmp_path),
        put_audio(tmp_path, "lead", lead),
        put_audio(tmp_path, "arrangement_audio", music),
        backing=None,
        settings=MixSettings(duck_db=0.0),
        context=context_in(tmp_path),
    )
    assert isinstance(made, Made) and set(made.facts) == set(made.files)
    return {name: audio.read_raw(path)[0] for name, path in made.files.items()}


def _shares(piece: Samples, *sources: Samples) -> list[float]:
    """The gain of each source in the piece, by least squares."""
    columns = np.stack([source.ravel() for source in sources], axis=1)
    return [float(gain) for gain in np.linalg.lstsq(columns, piece.ravel(), rcond=None)[0]]


def test_both_are_made_where_both_can_be_each_at_the_set_loudness(tmp_path: Path) -> None:
    lead = true_stem("vocals", SECONDS)
    products = _products(tmp_path, put_stems(tmp_path, SECONDS), _new(), lead)
    assert list(products) == ["mix", "new_piece"]
    for piece in products.values():
        assert piece.shape == lead.shape
        assert audio.loudness_lufs(piece, RATE_HZ) == pytest.approx(-14.0, abs=0.3)
        assert audio.true_peak_dbtp(piece, RATE_HZ) <= -1.0


def test_the_new_music_stands_beside_the_lead_as_the_old_music_stood(tmp_path: Path) -> None:
    lead, music = true_stem("vocals", SECONDS), _new()
    piece = _products(tmp_path, put_stems(tmp_path, SECONDS), music, lead)["new_piece"]
    music_gain, lead_gain = _shares(piece, music, lead)
    stood = audio.loudness_lufs(_music(), RATE_HZ) - audio.loudness_lufs(lead, RATE_HZ)
    stands = audio.loudness_lufs(music * music_gain, RATE_HZ) - audio.loudness_lufs(lead * lead_gain, RATE_HZ)
    assert stands == pytest.approx(stood, abs=0.5)  # the limiter presses both a little


@pytest.mark.parametrize(("change_db", "stands_lu"), [(-40.0, -6.0), (40.0, 9.0)])
def test_a_song_out_of_balance_does_not_drown_the_new_music_nor_the_singer(
    change_db: float, stands_lu: float
) -> None:
    vocals = true_stem("vocals", SECONDS)
    original = _music() * np.float32(audio.db_to_amplitude(change_db))
    balanced = balance(_sound(_new()), _sound(vocals), _sound(original)).all()
    above_lu = audio.loudness_lufs(balanced, RATE_HZ) - audio.loudness_lufs(vocals, RATE_HZ)
    assert above_lu == pytest.approx(stands_lu, abs=0.05)


def test_a_vocal_alone_with_an_arrangement_becomes_a_new_piece_and_no_mix(tmp_path: Path) -> None:
    lead, music = true_stem("vocals", SECONDS)[:1], _new()
    products = _products(tmp_path, put_stems(tmp_path, SECONDS, ["vocals"], channels=1), music, lead)
    assert list(products) == ["new_piece"]
    assert products["new_piece"].shape == lead.shape
    music_gain, lead_gain = _shares(products["new_piece"], audio.to_mono(music), lead)
    above_lu = audio.loudness_lufs(audio.to_mono(music) * np.float32(music_gain), RATE_HZ)
    above_lu -= audio.loudness_lufs(lead * np.float32(lead_gain), RATE_HZ)
    assert above_lu == pytest.approx(3.0, abs=0.5)


def test_an_arrangement_of_another_length_is_fitted_to_the_bounce(tmp_path: Path) -> None:
    lead = true_stem("vocals", 3.0)
    products = _products(tmp_path, put_stems(tmp_path, 3.0), _new(2.5), lead)
    assert products["new_piece"].shape == lead.shape


def test_silent_vocals_leave_the_new_music_as_it_is() -> None:
    silence = np.zeros((2, 3 * RATE_HZ), dtype=np.float32)
    assert np.array_equal(balance(_sound(_new(3.0)), _sound(silence), _sound(_music(3.0))).all(), _new(3.0))


# --- the limiter


@pytest.mark.parametrize("rate_hz", [44100, 96000])
def test_no_true_peak_passes_the_ceiling_even_between_samples(rate_hz: int) -> None:
    times = np.arange(2 * rate_hz) / rate_hz
    # A quarter of the rate at 45 degrees: its samples never show its peaks, which are 3 dB higher.
    sine = np.sin(2 * np.pi * rate_hz / 4 * times + np.pi / 4)
    bursts = (sine * (np.sin(2 * np.pi * 1.5 * times) > 0)).astype(np.float32)[np.newaxis]
    loud = master(of_array(bursts, rate_hz), -3.0, -1.0).all()
    assert audio.true_peak_dbtp(loud, rate_hz) <= -1.0


def test_what_lies_below_the_ceiling_is_only_made_louder() -> None:
    music = _music(3.0)
    peaks = peaks_of(_sound(music))
    gain_db = -1.5 - audio.true_peak_dbtp(music, RATE_HZ)
    louder = limit(_sound(music), peaks, gain_db, -1.0).all()
    assert audio.rms_db(louder - music * np.float32(audio.db_to_amplitude(gain_db))) < -100


def test_a_click_keeps_to_the_ceiling_and_silence_stays_silence() -> None:
    click = np.zeros((2, 2 * RATE_HZ), dtype=np.float32)
    assert np.array_equal(master(_sound(click), -14.0, -1.0).all(), click)
    click[:, RATE_HZ] = 0.5
    assert audio.true_peak_dbtp(master(_sound(click), -14.0, -1.0).all(), RATE_HZ) <= -1.0


@pytest.mark.parametrize("seconds", [0.54, 1.34])
def test_what_sounds_only_at_the_very_end_keeps_to_the_ceiling_too(seconds: float) -> None:
    """No window of the loudness reaches there."""
    late = np.zeros((2, round(seconds * RATE_HZ)), dtype=np.float32)
    late[:, -800:] = 4.0 * np.random.default_rng(0).standard_normal((2, 800))
    assert audio.loudness_lufs(late, RATE_HZ) == float("-inf")
    assert audio.true_peak_dbtp(master(_sound(late), -14.0, -1.0).all(), RATE_HZ) <= -1.0


def test_the_limiter_adds_no_delay() -> None:
    music = _music(3.0)
    pressed = limit(_sound(music), peaks_of(_sound(music)), 12.0, -1.0).all()
    size = 2 * music.shape[1]
    likeness = np.fft.irfft(np.fft.rfft(pressed[0], size) * np.conj(np.fft.rfft(music[0], size)), size)
    assert int(np.argmax(likeness)) == 0
