"""No path converts without consent that holds: not the stage, the engine, a job, its cached result, the daemon, HTTP,
the command line or a call of the library; nor a forged permit, nor another voice put in the place of the permitted one."""

from __future__ import annotations

import asyncio
import datetime
import functools
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bridge import audio, process
from bridge.cli import app
from bridge.config import folders
from bridge.control import Control
from bridge.errors import Refused
from bridge.jobs import JobResult, already_returned, run_job
from bridge.manifest import read_manifest
from bridge.stages.convert import ConvertSettings, convert
from bridge.types import Made, Span
from bridge.voices import sovits
from bridge.voices.consent import Permit, require_consent, revoke_consent, write_consent
from bridge.voices.converter import Converter
from bridge.voices.engines import open_voice
from bridge.voices.f0 import F0Track
from bridge.voices.folder import read_card, write_card
from bridge.workshop import open_workshop, take_up
from tests.served import WritesDown, served
from tests.song_a import RATE_HZ, context_in, put_grid, put_stems, true_stem
from tests.test_control import running
from tests.tiny_voice import CONSENT, put_voice

pytestmark = pytest.mark.real

TODAY = datetime.date.today()
YESTERDAY = TODAY - datetime.timedelta(days=1)
SECONDS = 3.0
PRESET = """
[separate]
[analyse]
sings = "yes"
bpm = 100.0
[convert]
voice = "ada"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Voices to copy from: making one takes longer than what is tested here."""
    home = tmp_path_factory.mktemp("made")
    put_voice(home, home / "voices", "ada")
    put_voice(home, home / "voices", "eve", kind="hifi-gan")
    return home


@pytest.fixture
def voices(made: Path, dawbridge_home: Path) -> Path:
    """The user's voices: "ada" with consent."""
    shutil.copytree(made / "voices" / "ada", folders().voices / "ada")
    folders().presets.mkdir(parents=True)
    (folders().presets / "ada.toml").write_text(PRESET, encoding="utf-8")
    return folders().voices


def none(voices: Path) -> None:
    (voices / "ada" / "consent.toml").unlink()


def expired(voices: Path) -> None:
    write_consent("ada", replace(CONSENT, expires=YESTERDAY), voices)


def revoked(voices: Path) -> None:
    revoke_consent("ada", voices, TODAY)


def damaged(voices: Path) -> None:
    (voices / "ada" / "consent.toml").write_text("scope = [", encoding="utf-8")


def of_a_day_to_come(voices: Path) -> None:
    write_consent("ada", replace(CONSENT, date=TODAY + datetime.timedelta(days=1)), voices)


ENDS = [none, expired, revoked, damaged, of_a_day_to_come]


def edited(voices: Path) -> None:
    write_consent("ada", replace(CONSENT, statement="Only in the shower."), voices)


def a_passage() -> tuple[audio.Samples, F0Track]:
    return true_stem("vocals", 1.0), F0Track(np.full(101, 220.0), np.ones(101))


def song(folder: Path) -> Path:
    path = folder / "Song_vox.wav"
    audio.write_float_wav(path, true_stem("vocals", SECONDS), RATE_HZ)
    return path


def run_once(path: Path, outbox: Path) -> tuple[JobResult, Path | None]:
    """The job through the real graph in this process, and what `already_returned` says before it."""

    async def go() -> tuple[JobResult, Path | None]:
        async with open_workshop(folders(), inline=True) as shop:
            job = take_up(path, shop, preset="ada", outbox=outbox)
            before = already_returned(job, shop)
            if before is None:
                shop.ledger.add_job(job, path)
            return await run_job(job, shop, lambda event: None, threading.Event()), before

    return asyncio.run(go())


def state_of(result: JobResult, stage: str) -> tuple[str, str]:
    return next((event.state, event.code) for event in result.stages if event.stage == stage)


@pytest.mark.parametrize("end", ENDS)
def test_the_stage_refuses(voices: Path, tmp_path: Path, end: Callable[[Path], None]) -> None:
    context = replace(context_in(tmp_path), voices_dir=voices)
    stems, grid = put_stems(tmp_path, 1.0, ["vocals"]), put_grid(tmp_path, [Span(0.2, 0.9)])
    end(voices)
    with pytest.raises(Refused) as refused:
        convert(stems, grid, settings=ConvertSettings("ada"), context=context)
    assert refused.value.code == "no_consent" and list(context.workdir.iterdir()) == []


@pytest.mark.parametrize("end", [*ENDS, edited])
@pytest.mark.parametrize("open_it", [open_voice, sovits.SovitsVoice])
def test_a_permit_ends_with_its_consent_and_so_does_a_voice_that_is_open(
    voices: Path, tmp_path: Path, end: Callable[[Path], None], open_it: Callable[[Permit, Path], Converter]
) -> None:
    permit = require_consent("ada", voices, TODAY)
    voice = open_it(permit, tmp_path)
    samples, f0 = a_passage()
    assert not np.array_equal(voice.convert(samples, RATE_HZ, f0, 0), samples)
    end(voices)
    for call in (lambda: voice.convert(samples, RATE_HZ, f0, 0), lambda: open_it(permit, tmp_path)):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.code == "no_consent"


@pytest.mark.parametrize("open_it", [open_voice, sovits.SovitsVoice])
def test_what_is_no_permit_opens_nothing(
    voices: Path, tmp_path: Path, open_it: Callable[..., Converter]
) -> None:
    for nothing in (None, "ada", voices / "ada", {"voice": "ada"}):
        with pytest.raises(TypeError, match="a Permit is needed"):
            open_it(nothing, tmp_path)
    with pytest.raises(TypeError, match="comes from require_consent alone"):
        Permit("ada", voices / "ada", "0" * 64)


def test_nothing_public_of_the_engine_makes_a_sound_but_the_voice_that_wants_a_permit() -> None:
    public = {
        name for name, value in vars(sovits).items() if getattr(value, "__module__", "") == sovits.__name__
    }
    assert {name for name in public if not name.startswith("_")} == {
        *("Network", "SovitsVoice"),  # the network alone holds weights and has no method
        *("build_network", "check_tensors", "check_voice", "package", "mend_torchaudio"),
    }


def test_a_forged_permit_opens_nothing(voices: Path, tmp_path: Path) -> None:
    true = require_consent("ada", voices, TODAY)
    forged = object.__new__(Permit)
    for name in ("voice", "folder", "consent_sha256", "voice_sha256"):
        object.__setattr__(forged, name, getattr(true, name))
    none(voices)
    with pytest.raises(Refused):
        open_voice(forged, tmp_path)
    write_consent("ada", CONSENT, voices)
    object.__setattr__(forged, "consent_sha256", "0" * 64)
    with pytest.raises(Refused, match="changed since it was permitted"):
        open_voice(forged, tmp_path)


def a_link(voices: Path, made: Path) -> None:
    shutil.rmtree(voices / "ada")
    (voices / "ada").symlink_to(made / "voices" / "eve", target_is_directory=True)


def another_folder(voices: Path, made: Path) -> None:
    shutil.rmtree(voices / "ada")
    shutil.copytree(made / "voices" / "eve", voices / "ada")


def another_model(voices: Path, made: Path) -> None:
    for file in ("voice.toml", "model.safetensors", "config.json"):
        shutil.copy(made / "voices" / "eve" / file, voices / "ada" / file)


@pytest.mark.parametrize("swap", [a_link, another_folder, another_model])
def test_another_voice_in_the_place_of_the_permitted_one_does_not_sing(
    voices: Path, made: Path, tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    permit = require_consent("ada", voices, TODAY)
    voice = open_voice(permit, tmp_path)
    swap(voices, made)
    samples, f0 = a_passage()
    for call in (lambda: open_voice(permit, tmp_path), lambda: voice.convert(samples, RATE_HZ, f0, 0)):
        with pytest.raises(Refused):
            call()


def test_a_job_is_refused_with_its_cached_result_and_its_returned_folder_there(
    voices: Path, tmp_path: Path
) -> None:
    path, outbox = song(tmp_path), tmp_path / "outbox"
    outbox.mkdir()
    first, _ = run_once(path, outbox)
    assert first.state == "done" and first.folder is not None
    told = read_manifest(first.folder).voice
    assert told is not None and told.consent_sha256 and told.voice_sha256
    again, returned = run_once(path, outbox)
    assert returned == first.folder and again.folder == first.folder
    for end in ENDS:
        end(voices)
        result, returned = run_once(path, outbox)
        assert returned is None
        assert state_of(result, "convert") == ("refused", "no_consent") and result.state == "failed"
        assert result.folder is not None
        assert "voice" not in {artifact.name for artifact in read_manifest(result.folder).artifacts}
    write_consent("ada", CONSENT, voices)
    result, _ = run_once(path, outbox)
    assert state_of(result, "convert") == ("cached", "")  # the very same record holds again


def test_an_edited_consent_and_another_card_are_not_served_the_old_result(
    voices: Path, tmp_path: Path
) -> None:
    path, outbox = song(tmp_path), tmp_path / "outbox"
    outbox.mkdir()
    first, _ = run_once(path, outbox)
    edited(voices)
    second, returned = run_once(path, outbox)
    assert returned is None and state_of(second, "convert") == ("done", "")
    digests = [read_manifest(result.folder).voice for result in (first, second) if result.folder]
    assert (
        digests[1] is not None
        and digests[1].consent_sha256 == require_consent("ada", voices, TODAY).consent_sha256
    )
    write_card(voices / "ada", replace(read_card(voices / "ada"), transpose="12"))
    third, returned = run_once(path, outbox)
    assert returned is None and state_of(third, "convert") == ("done", "")


def test_the_daemon_refuses_and_so_does_a_retry_over_http(
    voices: Path, dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WritesDown, "_ask", Control._ask)
    revoked(voices)
    with running(dawbridge_home, "ada") as daemon, served(daemon.outbox) as http:
        song(dawbridge_home).rename(daemon.inbox / "Song_vox.wav")
        job_id = daemon.wait_for("Song_vox.wav", "failed")
        status, answer = http.ask("POST", f"/jobs/{job_id}/retry")
        assert status in (200, 202) and answer["state"] == "queued"

        def refused_again() -> bool:
            told = [m for m in daemon.told if m["event"] == "stage" and m["stage"] == "convert"]
            return len([m for m in told if m["state"] == "refused"]) == 2

        daemon.wait(refused_again, "second refusal")
        daemon.wait_for("Song_vox.wav", "failed")
        _, job = http.ask("GET", f"/jobs/{job_id}")
        stage = next(stage for stage in job["stages"] if stage["stage"] == "convert")
        assert (stage["state"], stage["code"]) == ("refused", "no_consent")


@pytest.mark.parametrize("end", [none, expired, revoked])
def test_the_command_line_refuses(
    voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(process, "open_workshop", functools.partial(open_workshop, inline=True))
    end(voices)
    path, out = song(tmp_path), tmp_path / "outbox"
    tested = CliRunner().invoke(app, ["voices", "test", "ada", str(path), "--out", str(out)])
    assert isinstance(tested.exception, Refused) and not out.exists()
    processed = CliRunner().invoke(
        app, ["process", str(path), "--preset", "ada", "--out", str(out), "--json"]
    )
    assert processed.exit_code == 1
    stages: list[dict[str, Any]] = json.loads(processed.stdout)["stages"]
    assert [s["code"] for s in stages if s["stage"] == "convert"] == ["no_consent"]


def test_with_consent_the_stage_sings(voices: Path, tmp_path: Path) -> None:
    """So that what is refused above is refused for its consent alone."""
    context = replace(context_in(tmp_path), voices_dir=voices)
    stems, grid = put_stems(tmp_path, 2.0, ["vocals"]), put_grid(tmp_path, [Span(0.2, 1.9)])
    answer = convert(stems, grid, settings=ConvertSettings("ada"), context=context)
    assert isinstance(answer, Made)
    assert answer.facts["voice"]["consent_sha256"] == require_consent("ada", voices, TODAY).consent_sha256
    sound, _ = audio.read_raw(answer.files["voice"])
    vocals = true_stem("vocals", 2.0)
    assert sound.shape == vocals.shape and audio.rms_db(sound - vocals) > -60.0
