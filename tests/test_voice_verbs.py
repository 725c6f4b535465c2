"""`dawbridge voices`: what is shown, asked, taken in and given away, and a song in an imported voice, end to end."""

from __future__ import annotations

import datetime
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bridge import audio, process
from bridge.cli import app
from bridge.config import folders
from bridge.errors import Refused, UsageError, VoiceError
from bridge.manifest import read_manifest, verify
from bridge.types import STEMS
from bridge.voices.consent import read_consent, write_consent
from bridge.workshop import open_workshop
from tests.song_a import RATE_HZ, true_stem
from tests.tiny_voice import CONSENT, config_table, put_encoder, put_model, put_voice

pytestmark = pytest.mark.real

GIVEN = ["--owner", "Ada", "--given-by", "Ada", "--statement", "Yes.", "--scope", "release", "--expires", ""]


def call(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["voices", *arguments], input=typed)


def told(*arguments: str) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


@pytest.fixture
def voices(dawbridge_home: Path, tmp_path: Path) -> Path:
    """The user's voices: "ada", imported, without consent."""
    put_voice(tmp_path, folders().voices, consented=False)
    return folders().voices


def test_list_tells_which_voice_may_be_used_and_why_another_may_not(voices: Path) -> None:
    def may() -> dict[str, str]:
        return {row["name"]: row["may be used"] for row in told("list")}

    assert may() == {"deep": "yes", "bright": "yes", "giant": "yes", "ada": "no: nobody has consented"}
    write_consent("ada", CONSENT, voices)
    assert may()["ada"] == "yes"
    call("revoke", "ada")
    assert may()["ada"] == f"no: revoked on {datetime.date.today()}"
    (voices / "ada" / "consent.toml").write_text("nonsense", encoding="utf-8")
    assert may()["ada"] == "no: its consent can't be read"
    (voices / "ada" / "voice.toml").write_text("engine = 3", encoding="utf-8")
    (voices / "eve").mkdir()
    problems = {row["name"]: row["problem"] for row in told("list")}
    assert "engine = 3 must be text" in problems["ada"] and problems["eve"] == "it holds no voice yet"
    table = call("list").stdout
    assert "ada" in table and "may be used" in table


def test_show_tells_all_of_a_voice(voices: Path) -> None:
    write_consent("ada", CONSENT, voices)
    shown = told("show", "ada")
    assert shown["card"]["f0_median_hz"] == 220.0 and shown["card"]["encoder"] == "content-vec-best"
    assert shown["consent"]["owner"] == "Ada" and shown["folder"] == str(voices / "ada")
    plain = call("show", "ada").stdout
    assert "card: speaker = ada" in plain and "consent: statement = Sing with my voice." in plain
    assert told("show", "deep")["engine"] == "character"
    assert isinstance(call("show", "nobody").exception, VoiceError)


def test_import_takes_a_model_and_says_what_comes_next(dawbridge_home: Path, tmp_path: Path) -> None:
    model = put_model(tmp_path / "model", config_table(speakers=("ada", "eve")))
    result = call("import", str(model), "--name", "eve", "--speaker", "eve")
    assert result.exit_code == 0 and "`dawbridge voices consent eve`" in result.stdout
    assert "f0_median_hz" in result.stdout
    made = told("import", str(model.parent), "--name", "two", "--speaker", "ada", "--f0-hz", "330")
    assert made["card"]["f0_median_hz"] == 330.0 and Path(made["folder"]).is_dir()
    assert isinstance(call("import", str(model), "--name", "three").exception, VoiceError)


def test_consent_is_asked_for_line_by_line(voices: Path) -> None:
    result = call("consent", "ada", typed="Ada Singer\n\nUse it for my song.\n\n2099-01-01\n")
    assert result.exit_code == 0, result.exception
    given = read_consent("ada", voices)
    assert given.owner == given.given_by == "Ada Singer" and given.scope == "personal"
    assert given.statement == "Use it for my song." and given.expires == datetime.date(2099, 1, 1)
    assert given.date == datetime.date.today()
    assert "until 2099-01-01. SHA-256 of this record: " in result.stdout


def test_every_line_of_a_consent_is_an_option_too(voices: Path) -> None:
    assert told("consent", "ada", *GIVEN)["scope"] == "release"
    assert read_consent("ada", voices).expires is None
    revoked = told("revoke", "ada")
    assert revoked["revoked"] == str(datetime.date.today())
    missing = call("consent", "ada", *GIVEN[2:])  # nobody is there to answer
    assert isinstance(missing.exception, UsageError) and "--owner" in missing.exception.message
    bad_day = call("consent", "ada", *GIVEN[:-1], "soon")
    assert isinstance(bad_day.exception, UsageError) and "'soon' is no day" in bad_day.exception.message
    bad_scope = call("consent", "ada", *GIVEN[:7], "world", *GIVEN[8:])
    assert isinstance(bad_scope.exception, Refused) and "scope" in bad_scope.exception.message
    assert isinstance(call("consent", "nobody", *GIVEN).exception, VoiceError)


def test_export_and_import_carry_a_voice_without_its_consent(voices: Path, tmp_path: Path) -> None:
    write_consent("ada", CONSENT, voices)
    archive = tmp_path / "ada.zip"
    assert "its owner must be asked again" in call("export", "ada", "--out", str(archive)).stdout
    again = call("export", "ada", "--out", str(archive))
    assert isinstance(again.exception, UsageError) and "exists already" in again.exception.message
    told("import", str(archive), "--name", "eve")
    assert {row["name"]: row["may be used"] for row in told("list")}["eve"] == "no: nobody has consented"


def test_remove_asks_first(voices: Path) -> None:
    kept = call("remove", "ada", typed="no\n")
    assert isinstance(kept.exception, UsageError) and (voices / "ada").is_dir()
    assert isinstance(call("remove", "ada").exception, UsageError) and (voices / "ada").is_dir()
    assert call("remove", "ada", typed="yes\n").exit_code == 0 and not (voices / "ada").exists()
    assert isinstance(call("remove", "deep", "--yes").exception, UsageError)


def test_a_song_comes_back_in_an_imported_voice(
    dawbridge_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "open_workshop", functools.partial(open_workshop, inline=True))
    model = put_model(tmp_path / "model", config_table("ms-istft"))
    encoder = put_encoder(tmp_path / "encoder")
    told("import", str(model), "--name", "ada", "--f0-hz", "100", "--encoder", str(encoder))
    told("consent", "ada", *GIVEN)
    path, out = tmp_path / "Song.wav", tmp_path / "outbox"
    mix: audio.Samples = np.sum([true_stem(stem, 12.0) for stem in STEMS], axis=0, dtype=np.float32)
    audio.write_float_wav(path, mix, RATE_HZ)
    result = call("test", "ada", str(path), "--out", str(out), "--json")
    assert result.exit_code == 0, (result.stdout, result.exception)
    answer = json.loads(result.stdout)
    folder = Path(answer["folder"])
    manifest = read_manifest(folder)
    assert verify(folder) == ()
    assert manifest.voice is not None and manifest.voice.name == "ada"
    by_name = {artifact.name: artifact for artifact in manifest.artifacts}
    assert by_name["voice"].synthetic and by_name["voice"].frames == mix.shape[1]
    voice, rate_hz = audio.read_raw(folder / by_name["voice"].path)
    vocals, _ = audio.read_raw(folder / by_name["vocals"].path)
    assert rate_hz == RATE_HZ and voice.shape == vocals.shape == mix.shape
    sung = slice(RATE_HZ, 4 * RATE_HZ)
    assert audio.rms_db((voice - vocals)[:, sung]) > -50.0
    convert = next(stage for stage in answer["stages"] if stage["stage"] == "convert")
    assert convert["state"] == "done" and "the voice around 100 Hz" in convert["detail"]
