"""The stage convert: only sung spans change, never without consent, to the frame."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge import audio
from bridge.audio import Samples
from bridge.errors import Refused, StageError
from bridge.stages.convert import ConvertSettings, convert, permit
from bridge.types import Artifact, Made, Skip, Span
from bridge.voices.character import CHARACTERS
from bridge.voices.consent import Consent, write_consent
from bridge.voices.f0 import track_f0
from bridge.voices.psola import change_voice
from tests.song_a import RATE_HZ, SINGING, Reports, context_in, put_grid, put_stems, true_stem
from tests.sung import MELODY, level_db, noise, sing

CONSENT = Consent("Ada", "Ada", "Yes.", "personal", datetime.date(2026, 1, 1))
SECONDS = 12.0


def test_the_vocal_changes_where_somebody_sings_and_nowhere_else(tmp_path: Path) -> None:
    stems, grid = put_stems(tmp_path, SECONDS), put_grid(tmp_path, SINGING[:1])
    reports = Reports()
    made = convert(stems, grid, settings=ConvertSettings("bright"), context=context_in(tmp_path, reports))
    assert isinstance(made, Made)
    assert made.facts["voice"] == {"name": "bright", "consent_sha256": None, "voice_sha256": None}
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


OFF = {
    "split": False,
    "dereverb": 0.0,
    "mend_f0": False,
    "carry_loudness": False,
    "guard": False,
    "deess": 0.0,
}
"""With these the converter is all there is."""


def _made(folder: Path, vocals: Samples, **settings: Any) -> tuple[Made, dict[str, Samples]]:
    """What convert makes of `vocals`, sung throughout."""
    folder.mkdir()
    stems = folder / "stems"
    stems.mkdir()
    audio.write_float_wav(stems / "vocals.wav", vocals, RATE_HZ)
    made = convert(
        Artifact("stems", "stems", stems, ""),
        put_grid(folder, [Span(0.05, vocals.shape[1] / RATE_HZ - 0.05)]),
        settings=ConvertSettings("bright", **settings),
        context=context_in(folder),
    )
    assert isinstance(made, Made)
    return made, {name: audio.read_raw(path)[0] for name, path in made.files.items()}


def test_with_every_step_off_only_the_converter_is_left(tmp_path: Path) -> None:
    vocals = true_stem("vocals", 5.0)
    made, sounds = _made(tmp_path / "a", vocals, **OFF)
    whole = change_voice(vocals, RATE_HZ, CHARACTERS["bright"])
    inside = slice(round(0.06 * RATE_HZ), -round(0.06 * RATE_HZ))
    assert np.abs(sounds["voice"] - whole)[:, inside].max() < 1e-6
    assert made.facts["left_as_sung"] == [] and made.facts["backing"] is None


@pytest.mark.parametrize(("transpose", "semitones"), [("auto", 0), ("0", 0), ("12", 12), ("-12", -12)])
def test_the_transposition_and_its_reason_are_told(tmp_path: Path, transpose: str, semitones: int) -> None:
    vocals = true_stem("vocals", 5.0)
    made, sounds = _made(tmp_path / "a", vocals, transpose=transpose)
    assert made.facts["transposition"]["semitones"] == semitones
    assert made.facts["transposition"]["reason"] in made.detail
    before, after = (track_f0(audio.to_mono(samples), RATE_HZ).hz for samples in (vocals, sounds["voice"]))
    both = (before > 0) & (after > 0)
    assert np.median(12 * np.log2(after[both] / before[both])) == pytest.approx(semitones, abs=0.1)


def test_the_backing_is_kept_muted_or_converted(tmp_path: Path) -> None:
    lead = sing().samples
    thirds = sing(tuple(pitch + 4 for pitch in MELODY), first_vowel=2, consonants=False).samples * 0.5
    vocals = np.stack([lead + 1.4 * thirds, lead]).astype(np.float32)
    made, kept = _made(tmp_path / "keep", vocals)
    assert "backing: keep" in made.detail and made.facts["backing"] == "keep"
    power = [level_db(kept["backing"][channel]) for channel in (0, 1)]
    assert power[0] > power[1] + 10  # it stood on the left
    # Where nothing is converted lead and backing are the vocals.
    _, untouched = _made(tmp_path / "same", vocals, **OFF | {"split": True, "transpose": "0"})
    assert untouched["backing"].tobytes() == kept["backing"].tobytes()
    muted_made, muted = _made(tmp_path / "mute", vocals, backing="mute")
    assert set(muted) == {"voice"} and muted_made.facts["backing"] == "mute"
    assert np.array_equal(muted["voice"], kept["voice"])
    _, both = _made(tmp_path / "convert", vocals, backing="convert")
    assert np.array_equal(both["voice"], kept["voice"])
    assert level_db(both["backing"] - kept["backing"]) > level_db(kept["backing"]) - 10
    assert level_db(both["backing"]) == pytest.approx(level_db(kept["backing"]), abs=1.0)


def test_a_passage_of_noise_stays_as_it_is_and_is_told(tmp_path: Path) -> None:
    vocals = np.tile(sing().samples, (2, 1)).astype(np.float32)
    hiss = slice(round(1.8 * RATE_HZ), round(3.0 * RATE_HZ))
    vocals[:, hiss] = 0.1 * noise(hiss.stop - hiss.start)
    made, sounds = _made(tmp_path / "a", vocals)
    [span] = made.facts["left_as_sung"]
    assert span == {"start_s": pytest.approx(1.8, abs=0.15), "end_s": pytest.approx(3.0, abs=0.15)}
    assert "left as sung" in made.detail
    inside = slice(round(span["start_s"] * RATE_HZ), round(span["end_s"] * RATE_HZ))
    assert np.array_equal(sounds["voice"][:, inside], vocals[:, inside])


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
    assert permit(ConvertSettings("ada"), tmp_path)["consent_sha256"] == digest
    assert permit(ConvertSettings("deep"), tmp_path)["consent_sha256"] is None


def test_a_voice_whose_engine_is_missing_says_so(tmp_path: Path) -> None:
    write_consent("ada", CONSENT, tmp_path / "voices")
    (tmp_path / "voices" / "ada" / "voice.toml").write_text('engine = "diff-svc"\n', encoding="utf-8")
    stems, grid = put_stems(tmp_path, 1.0), put_grid(tmp_path)
    with pytest.raises(
        StageError, match=r"ada/voice.toml: engine = 'diff-svc' is none of.*use a character: deep"
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
