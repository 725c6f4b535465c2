"""The voices that are here, and whether each may be used: what `dawbridge voices list` and `show` tell. Light."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import DawbridgeError, Refused, VoiceError
from bridge.voices.character import CHARACTERS
from bridge.voices.consent import FILE_NAME, Consent, read_consent, require_consent, voice_folder
from bridge.voices.folder import CARD, VoiceCard, read_card


@dataclass(frozen=True)
class Shelved:
    """One voice."""

    name: str
    folder: Path | None  # None for a built-in character
    card: VoiceCard | None  # None for a character, or where it can't be read
    consent: Consent | None  # None for a character, or where there is no readable one
    may: str  # "yes", or why it may not be used
    problem: str = ""  # what is wrong with its folder


def list_voices(voices_dir: Path, today: datetime.date) -> tuple[Shelved, ...]:
    """The characters, then every voice folder by name."""
    folders = sorted(
        path.name for path in voices_dir.glob("*") if path.is_dir() and not path.name.startswith(".")
    )
    return tuple(look_up(name, voices_dir, today) for name in (*CHARACTERS, *folders))


def look_up(name: str, voices_dir: Path, today: datetime.date) -> Shelved:
    """The voice `name`.

    Raises:
        VoiceError: there is none.
    """
    if name in CHARACTERS:
        return Shelved(name, None, None, None, "yes")
    try:
        place = voice_folder(name, voices_dir)
    except Refused as exc:
        return Shelved(name, None, None, None, "no: its folder lies elsewhere", exc.message)
    if not place.is_dir():
        raise VoiceError(
            f"There is no voice {name!r} in {voices_dir}. `dawbridge voices list` shows what is there."
        )
    card, problem = None, ""
    try:
        card = read_card(place)
    except DawbridgeError as exc:
        problem = exc.message if (place / CARD).exists() else "it holds no voice yet"
    return Shelved(name, place, card, _consent(name, voices_dir), _may(name, voices_dir, today), problem)


def _consent(name: str, voices_dir: Path) -> Consent | None:
    try:
        return read_consent(name, voices_dir)
    except Refused:
        return None


def _may(name: str, voices_dir: Path, today: datetime.date) -> str:
    try:
        require_consent(name, voices_dir, today)
    except Refused:
        consent = _consent(name, voices_dir)
        if consent is None:
            has_file = (voices_dir / name / FILE_NAME).exists()
            return "no: its consent can't be read" if has_file else "no: nobody has consented"
        if consent.revoked is not None:
            return f"no: revoked on {consent.revoked}"
        if consent.expires is not None and today > consent.expires:
            return f"no: expired on {consent.expires}"
        return f"no: its consent is dated {consent.date}"
    return "yes"
