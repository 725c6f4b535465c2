"""Effect chains: checked at load with the allowed range in the error, in time, never blown up; plug-ins contained."""

from __future__ import annotations

import inspect
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge import audio, sound
from bridge.audio import Samples
from bridge.config import shipped
from bridge.effects import render as rendering
from bridge.effects.chains import Effect, Mix, Plugin, chain_folders, load_chain, read_chain
from bridge.effects.render import UNEVEN, build
from bridge.effects.stream import BLOCK_FRAMES
from bridge.effects.table import EFFECTS, NOT_OFFERED, Choice, Range
from bridge.errors import Cancelled, PresetError, StageError
from bridge.sound import Sound
from bridge.stages.effects import EffectsSettings, digests, effects
from bridge.stretches import Stretches
from bridge.types import Made, Skip
from tests.real import require_real
from tests.song_a import RATE_HZ, Reports, context_in, lag_ms, put_audio, put_grid, put_stems, true_stem

SECONDS = 6.0
SHIPPED = shipped("presets") / "effects"
NAMES = ("ambient", "doubled", "lead", "telephone", "warm")
VST3 = Path("/usr/lib/vst3")


def _quiet(_done: float, _total: float) -> None:
    pass


def _read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return read_chain(path)


def render(chain: Any, samples: Samples, rate_hz: int, folder: Path, report: Any) -> Samples:
    """From array to array."""
    path = folder / "wet.wav"
    rendering.render(chain, sound.of_array(samples, rate_hz), path, report)
    wet, rate = audio.read_raw(path)
    assert rate == rate_hz
    path.unlink()
    return wet


def _lag_frames(first: Samples, second: Samples) -> int:
    """By how many frames `second` comes later, from the waveforms."""
    size = 2 * first.shape[1]
    likeness = np.fft.irfft(np.fft.rfft(second[0], size) * np.conj(np.fft.rfft(first[0], size)), size)
    lag = int(np.argmax(likeness))
    return lag if lag < size // 2 else lag - size


def _pedalboard_effects() -> dict[str, Any]:
    import pedalboard

    inner = vars(__import__("pedalboard_native"))
    found = {name: value for name, value in vars(pedalboard).items() if value is inner.get(name)}
    plugin = pedalboard.Plugin
    holders = (pedalboard.PluginContainer, pedalboard.ExternalPlugin)
    return {
        name: value
        for name, value in found.items()
        if inspect.isclass(value)
        and issubclass(value, plugin)
        and value is not plugin
        and not issubclass(value, holders)
    }


# --- the table against pedalboard


def test_the_table_holds_every_effect_of_pedalboard() -> None:
    assert set(EFFECTS) | NOT_OFFERED == set(_pedalboard_effects())


@pytest.mark.parametrize("kind", sorted(EFFECTS))
def test_every_parameter_and_both_ends_of_its_range_work_in_pedalboard(tmp_path: Path, kind: str) -> None:
    hall = {"impulse_response_filename": str(tmp_path / "hall.wav")} if kind == "Convolution" else {}
    audio.write_float_wav(tmp_path / "hall.wav", np.eye(1, 100, dtype=np.float32), 48000)
    noise = np.random.default_rng(0).standard_normal((2, 4000)).astype(np.float32) * np.float32(0.1)
    for key, allowed in EFFECTS[kind].items():
        values: tuple[float | str, ...] = ()
        if isinstance(allowed, Range):
            values = (allowed.lo, allowed.hi)
        if isinstance(allowed, Choice):
            values = allowed.words
        for value in values:
            effect = build(Effect(kind, {**hall, key: value}), 48000)
            shown = getattr(effect, key)
            assert shown == pytest.approx(value) if isinstance(value, float) else shown.name == value
            assert np.isfinite(effect.process(noise, 48000)).all()


# --- what is wrong is said at load


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"holds no effect"),
        ("effect = []", r"holds no effect"),
        ("[[efect]]", r"unknown key 'efect'"),
        ("[[effect]]", r"effect 1: unknown type = None"),
        ('[[effect]]\ntype = "Reverbb"', r"unknown type = 'Reverbb'. Did you mean 'Reverb'\?"),
        ('[[effect]]\ntype = "xyz"', r"Types: Bitcrush, .*Reverb, Mix, VST3"),
        (
            '[[effect]]\ntype = "Reverb"\nroomsize = 1',
            r"\(Reverb\): unknown key 'roomsize'. Did you mean 'room_size'",
        ),
        ('[[effect]]\ntype = "Invert"\nzzz = 1', r"Known keys: type"),
        (
            '[[effect]]\ntype = "Reverb"\nroom_size = 2',
            r"room_size = 2 is out of range: it must be from 0 to 1",
        ),
        ('[[effect]]\ntype = "Reverb"\nroom_size = nan', r"out of range"),
        ('[[effect]]\ntype = "Reverb"\nroom_size = true', r"is no number: it must be from 0 to 1"),
        ('[[effect]]\ntype = "LadderFilter"\nmode = "XY"', r"mode = 'XY' must be one of LPF12"),
        ('[[effect]]\ntype = "Convolution"', r"needs impulse_response_filename"),
        ('[[effect]]\ntype = "Convolution"\nimpulse_response_filename = "no.wav"', r"there is no .*no\.wav"),
        ('[[effect]]\ntype = "Mix"', r"branches must be"),
        ('[[effect]]\ntype = "Mix"\nbranches = [[]]', r"branches must be"),
        (
            '[[effect]]\ntype = "Mix"\nbranches = [[{type = "Gain", gain_db = 99.0}]]',
            r"branch 1, effect 1 \(Gain\): gain_db = 99.0 is out of range",
        ),
        (
            '[[effect]]\ntype = "Mix"\nbranches = [[{type = "VST3", path = "."}]]',
            r"VST3 can't stand inside a Mix",
        ),
        ('[[effect]]\ntype = "VST3"', r"path = None must be a path"),
        ('[[effect]]\ntype = "VST3"\npath = "no.vst3"', r"there is no .*no\.vst3. Install it"),
        (
            '[[effect]]\ntype = "VST3"\npath = "."\ntimeout_s = 0',
            r"timeout_s = 0 is out of range: .*from 1 to 3600",
        ),
        ('[[effect]]\ntype = "VST3"\npath = "."\nparameters = {a = [1]}', r"parameters\.a = \[1\]"),
        ("[[effect]", r"not valid TOML"),
    ],
)
def test_a_wrong_chain_names_file_effect_key_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(PresetError, match=message) as error:
        _read(tmp_path, text)
    assert "mine.toml" in error.value.message


def test_the_users_own_chain_comes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "warm.toml").write_text('[[effect]]\ntype = "Invert"\n', encoding="utf-8")
    assert load_chain("warm", [tmp_path, SHIPPED]).steps == (Effect("Invert", {}),)
    assert len(load_chain("lead", [tmp_path, SHIPPED]).steps) > 1


@pytest.mark.parametrize("name", ["worm", "../effects/warm", "", "/etc/passwd"])
def test_an_unknown_chain_is_named(name: str) -> None:
    with pytest.raises(PresetError, match="There is no effect chain"):
        load_chain(name, [SHIPPED])


def test_the_digest_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAWBRIDGE_HOME", str(tmp_path))
    shipped_digest = digests(EffectsSettings("warm"))
    own = chain_folders()[0]
    own.mkdir(parents=True)
    (own / "warm.toml").write_text('[[effect]]\ntype = "Invert"\n', encoding="utf-8")
    assert digests(EffectsSettings("warm")) != shipped_digest
    audio.write_float_wav(own / "hall.wav", np.eye(1, 100, dtype=np.float32), RATE_HZ)
    text = '[[effect]]\ntype = "Convolution"\nimpulse_response_filename = "hall.wav"\n'
    (own / "warm.toml").write_text(text, encoding="utf-8")
    before = digests(EffectsSettings("warm"))
    audio.write_float_wav(own / "hall.wav", np.eye(1, 200, dtype=np.float32), RATE_HZ)
    assert digests(EffectsSettings("warm")) != before


# --- the shipped chains


def test_the_shipped_chains_are_these() -> None:
    assert tuple(sorted(path.stem for path in SHIPPED.glob("*.toml"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_line_of_a_shipped_chain_says_what_it_does(name: str) -> None:
    lines = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    for before, line in pairwise(lines):
        if "=" in line and not line.startswith("type = ") and not line.lstrip().startswith("#"):
            assert "#" in line or before.lstrip().startswith("# "), line


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_chain_keeps_length_level_and_time(tmp_path: Path, name: str) -> None:
    vocals = true_stem("vocals", SECONDS)
    lead = render(load_chain(name, [SHIPPED]), vocals, RATE_HZ, tmp_path, _quiet)
    assert lead.shape == vocals.shape and lead.dtype == np.float32
    level_db = audio.loudness_lufs(lead, RATE_HZ) - audio.loudness_lufs(vocals, RATE_HZ)
    assert abs(level_db) < 1.5
    assert np.abs(lead).max() < 1.0
    if name != "ambient":  # whose echoes shall come late
        assert abs(lag_ms(vocals, lead)) <= 4


def test_latency_is_taken_back_and_branches_stay_together(tmp_path: Path) -> None:
    text = """
[[effect]]
type = "Mix"
branches = [[{type = "Gain", gain_db = 0.0}], [{type = "PitchShift", semitones = 0.0}, {type = "Gain", gain_db = 0.0}]]
[[effect]]
type = "BrickwallLimiter"
ceiling_db = 0.0
"""
    vocals = true_stem("vocals", SECONDS)
    doubled = render(_read(tmp_path, text), vocals * np.float32(0.25), RATE_HZ, tmp_path, _quiet)
    assert audio.rms_db(doubled - vocals * np.float32(0.5)) < -80


def test_mono_and_other_rates_pass(tmp_path: Path) -> None:
    mono = audio.resample(true_stem("vocals", 2.0)[:1], RATE_HZ, 96000)
    lead = render(load_chain("lead", [SHIPPED]), mono, 96000, tmp_path, _quiet)
    assert lead.shape == mono.shape


def test_peaks_above_full_scale_are_not_clipped(tmp_path: Path) -> None:
    chain = _read(tmp_path, '[[effect]]\ntype = "Gain"\ngain_db = 20.0\n')
    vocals = true_stem("vocals", 2.0)
    loud = render(chain, vocals, RATE_HZ, tmp_path, _quiet)
    assert np.abs(loud).max() == pytest.approx(10 * np.abs(vocals).max(), rel=1e-4)


@pytest.mark.parametrize("rate_hz", [8000, 22050])
def test_a_filter_above_a_low_sample_rate_does_not_blow_up(tmp_path: Path, rate_hz: int) -> None:
    noise = np.random.default_rng(0).standard_normal((2, rate_hz)).astype(np.float32) * np.float32(0.1)
    for kind in ("LowpassFilter", "HighpassFilter"):
        chain = _read(tmp_path, f'[[effect]]\ntype = "{kind}"\ncutoff_frequency_hz = 20000\n')
        assert np.abs(render(chain, noise, rate_hz, tmp_path, _quiet)).max() < 1.0


def test_samples_that_are_no_numbers_name_the_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = _read(tmp_path, '[[effect]]\ntype = "VST3"\npath = "."\n')

    def broken(_plugin: Plugin, source: Sound, path: Path, _on_wait: Any) -> None:
        sound.write(sound.scaled(source, np.nan), path)

    monkeypatch.setattr("bridge.effects.render.run_plugin", broken)
    with pytest.raises(
        StageError, match=r"effect 1 \(Plugin\) of the chain 'mine' gives samples that are not"
    ):
        render(chain, true_stem("vocals", 1.0), RATE_HZ, tmp_path, _quiet)


# --- a block at a time


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.effects.stream.BLOCK_FRAMES", 1 << 15)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", sorted(set(EFFECTS) - UNEVEN))
def test_every_effect_gives_in_blocks_what_it_gives_in_one_go(tmp_path: Path, kind: str) -> None:
    hall = np.random.default_rng(0).standard_normal((1, 3000)) * np.exp(-np.arange(3000) / 500)
    audio.write_float_wav(tmp_path / "hall.wav", hall.astype(np.float32), RATE_HZ)
    text = f'[[effect]]\ntype = "{kind}"\n'
    text += 'impulse_response_filename = "hall.wav"\n' if kind == "Convolution" else ""
    chain, vocals = _read(tmp_path, text), true_stem("vocals", 4.0)
    (step,) = chain.steps
    whole = build(step, RATE_HZ).process(vocals, RATE_HZ)
    assert np.array_equal(render(chain, vocals, RATE_HZ, tmp_path, _quiet), whole)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "kind", ["BrickwallLimiter", "MP3Compressor", "Resample", "GSMFullRateCompressor", "PitchShift"]
)
def test_a_late_branch_of_a_mix_stays_together_with_the_others_to_the_end(tmp_path: Path, kind: str) -> None:
    """pedalboard's own Mix loses count of it from the second block on, or plays what lay in memory."""
    text = (
        f'[[effect]]\ntype = "Mix"\nbranches = [[{{type = "Gain", gain_db = 0.0}}], [{{type = "{kind}"}}]]\n'
    )
    vocals = true_stem("vocals", 4.0)
    assert vocals.shape[1] > 3 * (1 << 15)
    wet = render(_read(tmp_path, text), vocals, RATE_HZ, tmp_path, _quiet)
    alone = build(Effect(kind, {}), RATE_HZ).process(vocals, RATE_HZ)
    assert np.array_equal(wet, vocals + alone)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize("kind", sorted(UNEVEN))
def test_what_cannot_go_on_from_block_to_block_is_worked_in_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Why it can't is a fault of pedalboard's that this test would tell the end of."""
    chain, vocals = _read(tmp_path, f'[[effect]]\ntype = "{kind}"\n'), true_stem("vocals", 9.0)
    (step,) = chain.steps
    whole = build(step, RATE_HZ).process(vocals, RATE_HZ)
    assert np.array_equal(render(chain, vocals, RATE_HZ, tmp_path, _quiet), whole)
    monkeypatch.setattr(rendering, "WHOLE", Stretches(length_s=2.0, around_s=1.0, seam_s=0.05))
    in_stretches = render(chain, vocals, RATE_HZ, tmp_path, _quiet)
    effect = build(step, RATE_HZ)
    calls = [
        effect.process(vocals[:, at : at + 40_000], RATE_HZ, reset=False) for at in range(0, 396_000, 40_000)
    ]
    in_calls = audio.fit_length(np.concatenate(calls, axis=1), vocals.shape[1])

    def unlike_db(wet: Samples) -> float:
        return audio.rms_db(wet - vocals) - audio.rms_db(vocals)

    assert in_stretches.shape == vocals.shape
    assert unlike_db(in_stretches) < unlike_db(whole) + 1.0
    assert unlike_db(in_calls) > unlike_db(whole) + 3.0


@pytest.mark.usefixtures("small_blocks")
def test_a_long_song_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    chain, taken = load_chain("lead", [SHIPPED]), []
    noise = np.random.default_rng(0).standard_normal((2, RATE_HZ * 60)).astype(np.float32) * np.float32(0.1)
    for seconds in (10, 60):
        audio.write_float_wav(tmp_path / "in.wav", noise[:, : seconds * RATE_HZ], RATE_HZ)
        tracemalloc.start()
        rendering.render(chain, sound.of_file(tmp_path / "in.wav"), tmp_path / "out.wav", _quiet)
        taken.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert taken[1] < taken[0] + 2e6  # a minute of samples is 21 MB


# --- the stage


def test_the_lead_is_made_of_the_voice_where_there_is_one(tmp_path: Path) -> None:
    stems, grid = put_stems(tmp_path, 3.0), put_grid(tmp_path)
    voice = put_audio(tmp_path, "voice", true_stem("other", 3.0))
    reports = Reports()
    made = effects(
        stems, grid, voice, settings=EffectsSettings("telephone"), context=context_in(tmp_path, reports)
    )
    assert isinstance(made, Made)
    lead, rate_hz = audio.read_raw(made.files["lead"])
    expected = render(load_chain("telephone", [SHIPPED]), true_stem("other", 3.0), RATE_HZ, tmp_path, _quiet)
    assert rate_hz == RATE_HZ and np.array_equal(lead, expected)
    assert reports.seen[0][0] == 0 and reports.seen[-1][0] == reports.seen[-1][1]


def test_without_a_voice_it_is_made_of_the_vocals(tmp_path: Path) -> None:
    stems, grid, context = put_stems(tmp_path, 3.0), put_grid(tmp_path), context_in(tmp_path)
    made = effects(stems, grid, None, settings=EffectsSettings(), context=context)
    assert isinstance(made, Made)
    lead, _ = audio.read_raw(made.files["lead"])
    assert np.array_equal(
        lead, render(load_chain("lead", [SHIPPED]), true_stem("vocals", 3.0), RATE_HZ, tmp_path, _quiet)
    )


def test_no_lead_without_singing_or_without_vocals(tmp_path: Path) -> None:
    context, stems = context_in(tmp_path), put_stems(tmp_path, 1.0, ["drums"])
    answer = effects(stems, put_grid(tmp_path), None, settings=EffectsSettings(), context=context)
    assert isinstance(answer, Skip) and answer.code == "no_vocals"
    answer = effects(stems, put_grid(tmp_path, []), None, settings=EffectsSettings(), context=context)
    assert isinstance(answer, Skip) and answer.code == "no_singing"


# --- VST3 plug-ins


def _zam(name: str) -> Path:
    path = VST3 / f"{name}.vst3"
    require_real(path.exists(), f"{path} (Debian: apt install zam-plugins)")
    return path


def _plugin_chain(tmp_path: Path, plugin: Path, extra: str = "") -> Any:
    return _read(tmp_path, f'[[effect]]\ntype = "VST3"\npath = "{plugin}"\n{extra}')


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "channels"), [("ZamComp", 2), ("ZamComp", 1), ("ZamCompX2", 2), ("ZamCompX2", 1)]
)
def test_a_plugin_works_with_mono_and_stereo(tmp_path: Path, name: str, channels: int) -> None:
    extra = "parameters = {threshold_db = -30.0, ratio = 10.0, makeup_db = 0.0}\n"
    vocals = true_stem("vocals", 3.0)[:channels]
    pressed = render(_plugin_chain(tmp_path, _zam(name), extra), vocals, RATE_HZ, tmp_path, _quiet)
    assert pressed.shape == vocals.shape
    assert audio.rms_db(pressed) < audio.rms_db(vocals) - 3
    assert _lag_frames(vocals, pressed) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]  # nothing is left behind


@pytest.mark.real
def test_a_plugins_latency_is_taken_back_from_block_to_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZaMaximX2 is 480 frames late, and a plug-in says so only once it has run."""
    import pedalboard

    plugin, vocals = _zam("ZaMaximX2"), true_stem("vocals", 8.0)
    assert vocals.shape[1] > BLOCK_FRAMES
    wet = render(_plugin_chain(tmp_path, plugin), vocals, RATE_HZ, tmp_path, _quiet)
    alone = pedalboard.VST3Plugin(str(plugin))
    alone.process(vocals[:, :64], RATE_HZ)
    whole = alone.process(vocals, RATE_HZ)
    assert alone.reported_latency_samples == 480
    assert np.array_equal(wet, whole) and _lag_frames(vocals, wet) == 0


@pytest.mark.real
def test_a_plugin_that_hangs_is_killed_at_its_time_limit(tmp_path: Path) -> None:
    chain = _plugin_chain(tmp_path, _zam("ZamVerb"), "timeout_s = 3.0\n")
    with pytest.raises(StageError, match=r"ZamVerb\.vst3 gave no answer within 3 s\. .*take it out") as error:
        render(chain, true_stem("vocals", 1.0), RATE_HZ, tmp_path, _quiet)
    assert error.value.code == "plugin_timeout"


@pytest.mark.real
def test_a_plugins_unknown_parameter_and_bad_range_are_named(tmp_path: Path) -> None:
    plugin, vocals = _zam("ZamComp"), true_stem("vocals", 1.0)
    with pytest.raises(StageError, match=r"unknown parameter 'treshold_db'. Did you mean 'threshold_db'"):
        render(
            _plugin_chain(tmp_path, plugin, "parameters = {treshold_db = 0}"),
            vocals,
            RATE_HZ,
            tmp_path,
            _quiet,
        )
    with pytest.raises(StageError, match=r"out of range \[-80\.0dB, 0\.0dB\]"):
        render(
            _plugin_chain(tmp_path, plugin, "parameters = {threshold_db = 9}"),
            vocals,
            RATE_HZ,
            tmp_path,
            _quiet,
        )


def test_what_is_no_plugin_says_so(tmp_path: Path) -> None:
    (tmp_path / "fake.vst3").write_bytes(b"nothing")
    with pytest.raises(StageError, match=r"fake\.vst3: it can't be loaded"):
        render(
            _plugin_chain(tmp_path, tmp_path / "fake.vst3"),
            true_stem("vocals", 1.0),
            RATE_HZ,
            tmp_path,
            _quiet,
        )


def test_a_plugin_that_takes_its_process_down_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake.vst3").write_bytes(b"nothing")
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    child = tmp_path / "child"
    child.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
    child.chmod(0o755)
    monkeypatch.setattr("bridge.child.sys.executable", str(child))
    with pytest.raises(StageError, match=r"fake\.vst3 crashed \(exit -9\)") as error:
        render(
            _plugin_chain(tmp_path, tmp_path / "fake.vst3"),
            true_stem("vocals", 1.0),
            RATE_HZ,
            tmp_path,
            _quiet,
        )
    assert error.value.code == "plugin_crashed"


def test_cancel_ends_the_child(tmp_path: Path) -> None:
    class Cancel:
        calls = 0

        def __call__(self, _done: float, _total: float) -> None:
            self.calls += 1
            if self.calls > 1:
                raise Cancelled("cancelled")

    (tmp_path / "fake.vst3").write_bytes(b"nothing")
    with pytest.raises(Cancelled):
        render(
            _plugin_chain(tmp_path, tmp_path / "fake.vst3"),
            true_stem("vocals", 1.0),
            RATE_HZ,
            tmp_path,
            Cancel(),
        )


def test_a_chain_of_all_kinds_is_read_as_written(tmp_path: Path) -> None:
    text = """
[[effect]]
type = "Gain"
gain_db = -3
[[effect]]
type = "Mix"
branches = [[{type = "Invert"}], [{type = "Gain"}]]
[[effect]]
type = "VST3"
path = "."
parameters = {on = true}
"""
    chain = _read(tmp_path, text)
    assert chain.name == "mine"
    assert chain.steps == (
        Effect("Gain", {"gain_db": -3.0}),
        Mix(((Effect("Invert", {}),), (Effect("Gain", {}),))),
        Plugin(tmp_path, {"on": True}, 60.0),
    )
