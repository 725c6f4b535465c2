"""Whose voice may be used, and until when: reads, writes and revokes `<voices>/<name>/consent.toml`.

No engine starts without a `Permit`, and `require_consent` alone gives one out. Whatever is missing,
damaged or unknown means no. The built-in characters clone nobody and need no consent.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import InitVar, dataclass, replace
from pathlib import Path
from typing import Any

from bridge.atomic import replacing
from bridge.errors import Refused
from bridge.voices.character import CHARACTERS

SCHEMA = 1
SCOPES = ("personal", "release")
FILE_NAME = "consent.toml"
CARD_NAME = "voice.toml"

_GIVEN_OUT_HERE = object()


@dataclass(frozen=True)
class Consent:
    """What the owner of a voice agreed to."""

    owner: str  # whose voice it is
    given_by: str  # who gave the consent: the owner, or who may speak for them
    statement: str  # in their own words
    scope: str  # "personal" or "release"
    date: datetime.date  # when it was given
    expires: datetime.date | None = None  # the last day it holds; None: until it is revoked
    revoked: datetime.date | None = None  # from this day on it holds no more


@dataclass(frozen=True)
class Permit:
    """Leave to use one voice. Only `require_consent` makes one."""

    voice: str
    folder: Path | None  # the voice folder; None for a built-in character
    consent_sha256: str | None  # of the consent file's bytes; None for a built-in character
    voice_sha256: str | None = None  # of voice.toml's bytes, which name the model's digest; None without one
    given_out_by: InitVar[object] = None

    def __post_init__(self, given_out_by: object) -> None:
        if given_out_by is not _GIVEN_OUT_HERE:
            raise TypeError("a Permit comes from require_consent alone")


def require_consent(name: str, voices_dir: Path, today: datetime.date) -> Permit:
    """Leave to use the voice `name` on the day `today`.

    Raises:
        Refused: (`no_consent`) no such voice, or no consent that holds.
    """
    if name in CHARACTERS:
        return Permit(name, None, None, given_out_by=_GIVEN_OUT_HERE)
    folder = voice_folder(name, voices_dir)
    if not folder.is_dir():
        raise _refused(name, f"there is no folder {folder}", "Check the name")
    consent, digest = _read(name, folder / FILE_NAME)
    if consent.revoked is not None:
        raise _refused(name, f"its consent was revoked on {consent.revoked}", "Ask its owner for a new one")
    if consent.expires is not None and today > consent.expires:
        raise _refused(name, f"its consent expired on {consent.expires}", "Ask its owner for a new one")
    if today < consent.date:
        raise _refused(name, f"its consent is dated {consent.date}, a day to come", "Correct the date")
    return Permit(name, folder, digest, _card_sha256(name, folder), given_out_by=_GIVEN_OUT_HERE)


def check_permit(permit: Permit, today: datetime.date) -> None:
    """That `permit` is one, and is what would be given out for its voice on the day `today`.

    Engines ask before each piece of work, so that a consent revoked or edited meanwhile, or another voice put
    in the place of the permitted one, stops them.

    Raises:
        TypeError: it is no Permit.
        Refused: (`no_consent`) the consent or the voice is another one now.
    """
    if not isinstance(permit, Permit):
        raise TypeError(f"a Permit is needed, not {type(permit).__name__}: ask require_consent for one")
    voices_dir = permit.folder.parent if permit.folder is not None else Path()
    if require_consent(permit.voice, voices_dir, today) != permit:
        raise _refused(
            permit.voice, "its consent or its files have changed since it was permitted", "Try again"
        )


def voice_folder(name: str, voices_dir: Path) -> Path:
    """The folder of the voice `name`, always directly inside `voices_dir`; it need not exist.

    Raises:
        Refused: (`no_consent`) the name leads elsewhere, by its spelling or by a symbolic link.
    """
    plain = bool(name.strip(". ")) and name.isprintable() and not set(name) & set('/\\:*?"<>|')
    folder = voices_dir / name
    if not plain or folder.resolve() != voices_dir.resolve() / name:
        raise _refused(name, f"it is not the name of a folder inside {voices_dir}", "Use a plain name")
    return folder


def read_consent(name: str, voices_dir: Path) -> Consent:
    """What was agreed to, whether it holds or not.

    Raises:
        Refused: (`no_consent`) there is no readable consent.
    """
    return _read(name, voice_folder(name, voices_dir) / FILE_NAME)[0]


def write_consent(name: str, consent: Consent, voices_dir: Path) -> str:
    """Write the consent file of a voice, whole or not at all; gives its SHA-256.

    Raises:
        Refused: (`no_consent`) the name leads elsewhere or is a built-in character's, or a field is not
            as `require_consent` wants it.
    """
    if name in CHARACTERS:
        raise _refused(name, "that is a built-in character, which needs no consent", "Choose another name")
    folder = voice_folder(name, voices_dir)
    text = _to_toml(consent)
    _check(name, tomllib.loads(text))
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / FILE_NAME) as file:
        file.write(text.encode())
    return hashlib.sha256(text.encode()).hexdigest()


def revoke_consent(name: str, voices_dir: Path, today: datetime.date) -> str:
    """Mark the consent of a voice as revoked from `today` on; gives the new SHA-256.

    Raises:
        Refused: (`no_consent`) there is no readable consent to revoke.
    """
    consent, _ = _read(name, voice_folder(name, voices_dir) / FILE_NAME)
    return write_consent(name, replace(consent, revoked=today), voices_dir)


def _read(name: str, path: Path) -> tuple[Consent, str]:
    """The consent and the SHA-256 of the very bytes it was read from."""
    if path.is_symlink():
        raise _refused(name, f"{path} is a symbolic link", "Put the file itself there")
    try:
        raw = path.read_bytes()
        table = tomllib.loads(raw.decode())
    except FileNotFoundError:
        raise _refused(name, f"it has no consent: {path} is missing", "Ask its owner for one") from None
    except OSError as exc:
        raise _refused(name, f"{path} can't be read ({exc.strerror})", "Mend that") from exc
    except ValueError as exc:  # not UTF-8, or not TOML
        raise _refused(name, f"{path} is no valid TOML ({exc})", "Mend that line") from exc
    return _check(name, table), hashlib.sha256(raw).hexdigest()


def _card_sha256(name: str, folder: Path) -> str | None:
    path = folder / CARD_NAME
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _refused(name, f"{path} can't be read ({exc.strerror})", "Mend that") from exc


def _check(name: str, table: Mapping[str, Any]) -> Consent:
    schema = table.get("schema")
    if type(schema) is not int or schema != SCHEMA:  # true and 1.0 equal 1
        reason = f"the schema of its consent is {schema!r}; this version reads {SCHEMA}"
        raise _refused(name, reason, "Update dawbridge, or write the file anew")
    for key in ("owner", "given_by", "statement"):
        if not isinstance(table.get(key), str) or not table[key].strip():
            raise _refused(name, f"its consent has {key} = {table.get(key)!r}", "Put a text there")
    if table.get("scope") not in SCOPES:
        reason = f"its consent has scope = {table.get('scope')!r}"
        raise _refused(name, reason, f"Put one of {', '.join(SCOPES)} there")
    given = _date(name, table, "date")
    if given is None:
        raise _refused(name, "its consent has no date", "Put the day it was given there")
    expires, revoked = _date(name, table, "expires"), _date(name, table, "revoked")
    texts = (table["owner"], table["given_by"], table["statement"], table["scope"])
    return Consent(*texts, given, expires, revoked)


def _date(name: str, table: Mapping[str, Any], key: str) -> datetime.date | None:
    value = table.get(key)
    if isinstance(value, str):
        with suppress(ValueError):  # answered below
            value = datetime.date.fromisoformat(value)
    if isinstance(value, datetime.datetime):
        value = value.date()
    if value is not None and not isinstance(value, datetime.date):
        raise _refused(name, f"its consent has {key} = {value!r}", "Write a date such as 2026-11-22")
    return value


def _to_toml(consent: Consent) -> str:
    lines = [f"schema = {SCHEMA}"]
    for key in ("owner", "given_by", "statement", "scope"):
        # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
        quoted = json.dumps(getattr(consent, key), ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f"{key} = {quoted}")
    for key in ("date", "expires", "revoked"):
        day: datetime.date | None = getattr(consent, key)
        if day is not None:
            lines.append(f"{key} = {day.isoformat()}")
    return "\n".join(lines) + "\n"


def _refused(name: str, reason: str, remedy: str) -> Refused:
    characters = ", ".join(CHARACTERS)
    return Refused(
        f"The voice {name!r} may not be used: {reason}. {remedy}, or use a character: {characters}.",
        "no_consent",
    )
