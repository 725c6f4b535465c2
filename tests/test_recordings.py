"""Recordings are taken up with consent, once, whole, and the user's files stay as they are."""

from __future__ import annotations

import datetime
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge import audio
from bridge.audio import Samples, resample, to_mono
from bridge.errors import InputError, Refused
from bridge.voices.consent import Consent, revoke_consent, write_consent
from bridge.voices.recordings import add_recordings, read_slices, read_sources
from bridge.voices.survey import Survey, survey
from bridge.voices.survey_page import write_survey
from tests import song_a
from tests.flite_speech import FEMALE, MALE, SENTENCES, spoken
from tests.flite_speech import RATE_HZ as SPEECH_HZ

TODAY = datetime.date(2026, 11, 25)
GIVEN = Consent("flite", "flite", "A synthesizer may be imitated.", "release", TODAY)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    folder = tmp_path / "voices"
    write_consent("ann", GIVEN, folder)
    return folder


def _write(path: Path, samples: Samples, rate_hz: int = SPEECH_HZ) -> Path:
    audio.write_float_wav(path, samples, rate_hz)
    return path


def _surveyed(voices: Path) -> Survey:
    return survey(read_sources(voices / "ann"))


def test_speech_becomes_slices_and_the_file_stays_as_it_was(voices: Path, tmp_path: Path) -> None:
    path = _write(tmp_path / "talk.wav", spoken(MALE, SENTENCES[:4]))
    before = hashlib.sha256(path.read_bytes()).digest()
    (source,) = add_recordings("ann", [path], voices, TODAY).sources
    assert hashlib.sha256(path.read_bytes()).digest() == before
    slices = read_slices(voices / "ann")
    assert len(slices) == source.slices > 2
    assert sum(piece.samples.size for piece in slices) / 44_100 == pytest.approx(source.kept_s, abs=0.1)
    assert 0.75 < source.kept_s / source.seconds < 1.0
    # A man's voice: most of it lies between 80 and 160 Hz.
    assert 80.0 < (_surveyed(voices).median_hz or 0.0) < 160.0


def test_the_same_recording_counts_once_also_under_another_name_and_format(
    voices: Path, tmp_path: Path
) -> None:
    samples = np.round(spoken(MALE, SENTENCES[:2]) * 32767.0) / np.float32(32768.0)
    first = _write(tmp_path / "a.wav", samples.astype(np.float32))
    soundfile.write(tmp_path / "b.flac", samples.T, SPEECH_HZ, subtype="PCM_16")
    add_recordings("ann", [first], voices, TODAY)
    again = add_recordings("ann", [first, tmp_path / "b.flac"], voices, TODAY)
    assert again.sources == ()
    assert set(again.skipped.values()) == {"it is there already"}
    assert len(read_sources(voices / "ann")) == 1


def test_adding_again_adds_and_folders_are_searched(voices: Path, tmp_path: Path) -> None:
    inside = tmp_path / "more" / "inside"
    inside.mkdir(parents=True)
    add_recordings("ann", [_write(tmp_path / "a.wav", spoken(MALE, SENTENCES[:2]))], voices, TODAY)
    _write(inside / "b.wav", spoken(MALE, SENTENCES[2:4]))
    (inside / "notes.txt").write_text("no audio")
    added = add_recordings("ann", [tmp_path / "more"], voices, TODAY)
    assert [source.name for source in added.sources] == ["b.wav"]
    assert len(read_sources(voices / "ann")) == 2


@pytest.mark.parametrize("case", ["none", "expired", "revoked"])
def test_nothing_is_taken_up_without_consent(case: str, tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    day = TODAY
    if case != "none":
        write_consent("ann", Consent("a", "a", "yes", "personal", TODAY, TODAY), voices)
    if case == "expired":
        day += datetime.timedelta(days=1)
    if case == "revoked":
        revoke_consent("ann", voices, TODAY)
    path = _write(tmp_path / "a.wav", spoken(MALE, SENTENCES[:2]))
    with pytest.raises(Refused) as refused:
        add_recordings("ann", [path], voices, day)
    assert refused.value.code == "no_consent"
    assert not (voices / "ann" / "recordings").exists()


def test_three_seconds_are_taken_up_and_what_is_missing_is_told(voices: Path, tmp_path: Path) -> None:
    path = _write(tmp_path / "short.wav", spoken(MALE, SENTENCES[:1])[:, : 3 * SPEECH_HZ])
    add_recordings("ann", [path], voices, TODAY)
    found = _surveyed(voices)
    assert found.minutes_kept < 0.06
    assert any("under 5, the least to be of use" in line for line in found.advice)


def test_music_instead_of_a_voice_is_refused_as_music(voices: Path, tmp_path: Path) -> None:
    music = _write(tmp_path / "band.wav", to_mono(song_a.true_stem("other", 8.0)), song_a.RATE_HZ)
    with pytest.raises(InputError, match="mostly music") as refused:
        add_recordings("ann", [music], voices, TODAY)
    assert refused.value.code == "no_voice"
    assert list((voices / "ann" / "recordings").iterdir()) == []


def test_two_speakers_are_told(voices: Path, tmp_path: Path) -> None:
    both = np.concatenate([spoken(MALE, SENTENCES[:4]), spoken(FEMALE, SENTENCES[4:8])], axis=1)
    add_recordings("ann", [_write(tmp_path / "both.wav", both)], voices, TODAY)
    found = _surveyed(voices)
    assert found.several_speakers
    assert any("Two voices are heard" in line for line in found.advice)


def test_a_telephone_is_told_by_its_spectrum_whatever_the_file_says(voices: Path, tmp_path: Path) -> None:
    narrow = resample(resample(spoken(MALE, SENTENCES[:3]), SPEECH_HZ, 8_000), 8_000, 44_100)
    add_recordings("ann", [_write(tmp_path / "call.wav", narrow, 44_100)], voices, TODAY)
    found = _surveyed(voices)
    assert found.bandwidth_hz == pytest.approx(4_000.0, rel=0.05)
    assert any("like a telephone" in line for line in found.advice)


def test_noise_clipping_and_a_narrow_range_are_told(voices: Path, tmp_path: Path) -> None:
    speech = spoken(MALE, SENTENCES[:4], pause_s=1.0)
    noise = np.random.default_rng(2).standard_normal(speech.shape) * 10 ** ((audio.rms_db(speech) - 15) / 20)
    bad = np.clip((speech + noise) * 8.0, -1.0, 1.0).astype(np.float32)
    add_recordings("ann", [_write(tmp_path / "bad.wav", bad)], voices, TODAY)
    found = _surveyed(voices)
    assert found.snr_db < 25.0
    assert found.clipped_per_minute > 100.0
    told = " ".join(found.advice)
    assert "clipped peaks" in told
    assert "quieter place" in told
    assert "Nothing above" in told


def test_a_full_disk_leaves_no_half_recording(
    voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.wav", spoken(MALE, SENTENCES[:2]))

    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        add_recordings("ann", [path], voices, TODAY)
    assert list((voices / "ann" / "recordings").iterdir()) == []
    monkeypatch.undo()
    assert len(add_recordings("ann", [path], voices, TODAY).sources) == 1


def test_the_page_shows_all_figures_and_escapes_names(voices: Path, tmp_path: Path) -> None:
    path = _write(tmp_path / "a <b>.wav", spoken(MALE, SENTENCES[:2]))
    add_recordings("ann", [path], voices, TODAY)
    page = write_survey(voices / "ann", "ann", _surveyed(voices)).read_text("utf-8")
    assert "a &lt;b&gt;.wav" in page
    assert "<svg" in page
    assert "under 5, the least" in page
    assert (voices / "ann" / "recordings" / "report.json").exists()
