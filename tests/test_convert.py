"""The stage convert: only sung spans change, never without consent, to the frame."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bridge import audio
from bridge.errors import Refused, StageError
from bridge.stages.convert import ConvertSettings, convert, permit
from bridge.types import Made, Skip, Span
from bridge.voices.consent import Consent, write_consent
from tests.song_a import RATE_HZ, SINGING, Reports, context_in, put_grid, put_stems, true_stem

CONSENT = Consent("Ada", "Ada", "Yes.", "personal", datetime.date(2026, 1, 1))
SECONDS = 12.0


def test_the_vocal_changes_where_somebody_sings_and_nowhere_else(tmp_path: Path) -> None:
    stems, grid = put_stems(tmp_path, SECONDS), put_grid(tmp_path, SINGING[:1])
    reports = Reports()
    made = convert(stems, grid, settings=ConvertSettings("bright"), context=context_in(tmp_path, reports))
    assert isinstance(made, Made)
    assert made.facts["voice"] == {"name": "bright", "consent_sha256": None}
    voice, rate_hz = audio.read_raw(made.files["voice"])
    vocals = true_stem("vocals", SECONDS)
    assert rate_hz == RATE_HZ and voice.shape == vocals.shape
    beyond = round((SINGING[0].end_s + 0.051) * RATE_HZ)
    assert np.array_equal(voice[:, beyond:], vocals[:, beyond:])
    sung = slice(round(SINGING[0].start_s * RATE_HZ), beyond)
    assert audio.rms_db(voice[:, sung] - vocals[:, sung]) > audio.rms_db(vocals[:, sung]) - 6
    assert audio.rms_db(voice[:, sung]) == pytest.approx(audio.rms_db(vocals[:, sung]), abs=0.3)
    assert reports.seen[0][0] == 0.0 and reports.seen[-1][0] == reports.seen[-1][1]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    answers = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        made = convert(
            put_stems(folder, 4.0, ["vocals"]),
            put_grid(folder, [Span(0.2, 3.5)]),
            settings=ConvertSettings("deep"),
            context=context_in(folder),
        )
        assert isinstance(made, Made)
        answers.append(made.files["voice"].read_bytes())
    assert answers[0] == answers[1]


def test_an_instrumental_never_reaches_a_voice(tmp_path: Path) -> None:
    answer = convert(
        put_stems(tmp_path, 1.0),
        put_grid(tmp_path, []),
        settings=ConvertSettings(),
        context=context_in(tmp_path),
    )
    assert isinstance(answer, Skip) and answer.code == "no_singing"
    assert "analyse.sings=yes" in answer.reason


def test_a_part_without_vocals_is_skipped(tmp_path: Path) -> None:
    answer = convert(
        put_stems(tmp_path, 1.0, ["drums"]),
        put_grid(tmp_path),
        settings=ConvertSettings(),
        context=context_in(tmp_path),
    )
    assert isinstance(answer, Skip) and answer.code == "no_vocals"


def test_without_consent_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "voices" / "ada").mkdir(parents=True)
    stems, grid, context = put_stems(tmp_path, 1.0), put_grid(tmp_path), context_in(tmp_path)
    with pytest.raises(Refused) as refused:
        convert(stems, grid, settings=ConvertSettings("ada"), context=context)
    assert refused.value.code == "no_consent"
    assert list(context.workdir.iterdir()) == []
    with pytest.raises(Refused):
        permit(ConvertSettings("ada"), context.voices_dir)


def test_the_permit_carries_the_consent_into_the_cache_key(tmp_path: Path) -> None:
    digest = write_consent("ada", CONSENT, tmp_path)
    assert permit(ConvertSettings("ada"), tmp_path) == {"name": "ada", "consent_sha256": digest}
    assert permit(ConvertSettings("deep"), tmp_path) == {"name": "deep", "consent_sha256": None}


def test_a_voice_whose_engine_is_missing_says_so(tmp_path: Path) -> None:
    write_consent("ada", CONSENT, tmp_path / "voices")
    (tmp_path / "voices" / "ada" / "voice.toml").write_text('engine = "so-vits-svc"\n', encoding="utf-8")
    stems, grid = put_stems(tmp_path, 1.0), put_grid(tmp_path)
    with pytest.raises(
        StageError, match=r"'ada' needs the engine 'so-vits-svc'.*Use a character: deep"
    ) as missing:
        convert(stems, grid, settings=ConvertSettings("ada"), context=context_in(tmp_path))
    assert missing.value.code == "engine_missing"


def test_asking_for_consent_loads_no_engine() -> None:
    code = (
        "import sys, bridge.stages.convert, bridge.stages.effects, bridge.stages.mix; "
        "print({'parselmouth', 'scipy', 'pedalboard', 'soxr', 'pyloudnorm'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "set()"
