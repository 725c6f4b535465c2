"""Consent: whatever is missing, damaged, over or elsewhere means no, and nothing gets past the question."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import Refused
from bridge.voices.character import CHARACTERS
from bridge.voices.consent import (
    Consent,
    Permit,
    require_consent,
    revoke_consent,
    voice_folder,
    write_consent,
)

TODAY = datetime.date(2026, 11, 22)
GOOD = Consent(
    owner="Ada Singer",
    given_by="Ada Singer",
    statement='Use my voice for "Song".\nNothing else.',
    scope="personal",
    date=datetime.date(2026, 1, 1),
    expires=datetime.date(2027, 1, 1),
)
GOOD_TOML = """\
schema = 1
owner = "Ada Singer"
given_by = "Ada Singer"
statement = "Use my voice."
scope = "release"
date = 2026-01-01
"""


def _put(voices: Path, text: str) -> None:
    (voices / "ada").mkdir(parents=True)
    (voices / "ada" / "consent.toml").write_text(text, encoding="utf-8")


def test_a_good_consent_gives_a_permit_with_the_digest_of_the_file(tmp_path: Path) -> None:
    digest = write_consent("ada", GOOD, tmp_path)
    permit = require_consent("ada", tmp_path, TODAY)
    assert permit.voice == "ada" and permit.folder == tmp_path / "ada"
    assert permit.consent_sha256 == digest
    assert digest == hashlib.sha256((tmp_path / "ada" / "consent.toml").read_bytes()).hexdigest()
    assert [p.name for p in (tmp_path / "ada").iterdir()] == ["consent.toml"]


def test_editing_makes_a_new_record(tmp_path: Path) -> None:
    digest = write_consent("ada", GOOD, tmp_path)
    path = tmp_path / "ada" / "consent.toml"
    path.write_text(path.read_text(encoding="utf-8") + "# a word more\n", encoding="utf-8")
    assert require_consent("ada", tmp_path, TODAY).consent_sha256 != digest


@pytest.mark.parametrize("name", list(CHARACTERS))
def test_a_character_clones_nobody_and_needs_no_consent(tmp_path: Path, name: str) -> None:
    permit = require_consent(name, tmp_path / "missing", TODAY)
    assert permit.consent_sha256 is None and permit.folder is None


def test_the_last_day_counts_and_the_next_does_not(tmp_path: Path) -> None:
    write_consent("ada", GOOD, tmp_path)
    assert require_consent("ada", tmp_path, datetime.date(2027, 1, 1)).voice == "ada"
    with pytest.raises(Refused, match=r"'ada'.*expired on 2027-01-01.*use a character: deep") as refused:
        require_consent("ada", tmp_path, datetime.date(2027, 1, 2))
    assert refused.value.code == "no_consent"


def test_a_revoked_consent_holds_no_more(tmp_path: Path) -> None:
    before = write_consent("ada", GOOD, tmp_path)
    assert revoke_consent("ada", tmp_path, TODAY) != before
    with pytest.raises(Refused, match="revoked on 2026-11-22"):
        require_consent("ada", tmp_path, TODAY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "schema"),
        (GOOD_TOML.replace("schema = 1", "schema = 2"), "schema"),
        (GOOD_TOML.replace("schema = 1", "schema = true"), "schema"),
        (GOOD_TOML.replace('"Use my voice."', '" "'), "statement"),
        (GOOD_TOML.replace('"Use my voice."', "1"), "statement"),
        (GOOD_TOML.replace("owner", "Owner"), "owner"),
        (GOOD_TOML.replace("release", "world"), "scope"),
        (GOOD_TOML.replace("2026-01-01", '"soon"'), "date"),
        (GOOD_TOML.replace("date = 2026-01-01", ""), "date"),
        (GOOD_TOML.replace("2026-01-01", "2027-01-01"), "a day to come"),
        (GOOD_TOML + "expires = 2026-11-21", "expired"),
        (GOOD_TOML + 'expires = "2026-11-21"', "expired"),
        (GOOD_TOML + "expires = false", "expires"),
        (GOOD_TOML + "revoked = true", "revoked"),
        (GOOD_TOML + "revoked = 2027-01-01T10:00:00", "revoked"),
        ("= nonsense", "TOML"),
        ("\0\x01", "TOML"),
    ],
)
def test_nonsense_is_refused_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    _put(tmp_path, text)
    with pytest.raises(Refused, match=reason) as refused:
        require_consent("ada", tmp_path, TODAY)
    assert refused.value.code == "no_consent" and "'ada'" in refused.value.message


def test_no_folder_no_file_and_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no folder"):
        require_consent("ada", tmp_path, TODAY)
    (tmp_path / "ada").mkdir()
    with pytest.raises(Refused, match="has no consent"):
        require_consent("ada", tmp_path, TODAY)
    (tmp_path / "ada" / "consent.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="no valid TOML"):
        require_consent("ada", tmp_path, TODAY)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../ada", "a/b", "a\\b", "/etc", "C:ada", "ada\0", "a\nb", " "]
)
def test_a_name_never_leads_out_of_the_voices_folder(tmp_path: Path, name: str) -> None:
    voices = tmp_path / "voices"
    write_consent("ada", GOOD, tmp_path)  # what `../ada` would reach
    voices.mkdir()
    with pytest.raises(Refused, match="inside"):
        require_consent(name, voices, TODAY)


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_no_text_whatever_names_a_folder_elsewhere(name: str) -> None:
    voices = Path("/nowhere/voices")
    try:
        folder = voice_folder(name, voices)
    except Refused:
        return
    assert folder.resolve().parent == voices


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    write_consent("ada", GOOD, tmp_path / "elsewhere")
    voices = tmp_path / "voices"
    voices.mkdir()
    (voices / "ada").symlink_to(tmp_path / "elsewhere" / "ada")
    with pytest.raises(Refused, match="inside"):
        require_consent("ada", voices, TODAY)
    (voices / "eve").mkdir()
    (voices / "eve" / "consent.toml").symlink_to(tmp_path / "elsewhere" / "ada" / "consent.toml")
    with pytest.raises(Refused, match="symbolic link"):
        require_consent("eve", voices, TODAY)


def test_what_would_not_be_accepted_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="owner"):
        write_consent("ada", Consent("", "Ada", "Yes.", "personal", TODAY), tmp_path)
    with pytest.raises(Refused, match="built-in"):
        write_consent("deep", GOOD, tmp_path)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1).filter(lambda text: text.strip() and text.isascii()))
def test_any_statement_survives_writing(tmp_path_factory: pytest.TempPathFactory, statement: str) -> None:
    folder = tmp_path_factory.mktemp("voices")
    write_consent("ada", Consent("Ada", "Ada", statement, "personal", TODAY), folder)
    assert require_consent("ada", folder, TODAY).voice == "ada"


def test_a_permit_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError, match="require_consent"):
        Permit("ada", None, None)
