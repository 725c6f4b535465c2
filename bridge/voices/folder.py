"""The voice folder's `voice.toml`: what a voice is, so that no model need be opened to know it.

It names the digests of the model and its configuration: whoever knows this file's digest knows the voice.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridge.atomic import replacing
from bridge.config import read_table
from bridge.contracts import known_only
from bridge.errors import VoiceError
from bridge.settings import setting

SCHEMA = 1
CARD = "voice.toml"
MODEL = "model.safetensors"
CONFIG = "config.json"
DESCRIPTION = "card.md"
FILES = (CARD, MODEL, CONFIG, DESCRIPTION)
"""What makes a voice; `consent.toml` beside them belongs to whoever uses it here."""
MAX_CARD_BYTES = 1 << 16
TRANSPOSE = ("auto", "0", "12", "-12")


@dataclass(frozen=True)
class VoiceCard:
    """What `voice.toml` says."""

    engine: str
    encoder: str = ""  # a name that `bridge.voices.encoders` knows
    encoder_folder: str = ""  # where the user keeps that encoder; "" = among dawbridge's models
    sample_rate_hz: int = setting(44_100, lo=8_000, hi=192_000)
    speaker: str = ""  # the one of the model's speakers that sings
    f0_median_hz: float | None = setting(None, lo=30.0, hi=2_000.0)
    f0_low_hz: float | None = setting(None, lo=30.0, hi=2_000.0)  # 95% of what it was trained on lies between
    f0_high_hz: float | None = setting(None, lo=30.0, hi=2_000.0)
    transpose: str = setting("auto", choices=TRANSPOSE)  # semitones for every song, or one per song
    model_sha256: str = ""
    config_sha256: str = ""
    schema: int = field(default=SCHEMA)


def read_card(folder: Path) -> VoiceCard:
    """What `folder`'s voice.toml says; unknown keys are ignored.

    Raises:
        VoiceError: missing, damaged, of a higher schema, or a value that makes no sense.
    """
    path = folder / CARD
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CARD_BYTES + 1)
        table = tomllib.loads(raw.decode())
    except OSError as exc:
        raise VoiceError(f"{path} can't be read ({exc.strerror}). Import or train the voice again.") from exc
    except ValueError as exc:  # not UTF-8, or not TOML
        raise VoiceError(f"{path} is no valid TOML ({exc}). Mend that line.") from exc
    schema = table.get("schema", SCHEMA)
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise VoiceError(f"{path}: schema = {schema!r}; this version reads {SCHEMA}. Update dawbridge.")
    if type(table.get("transpose")) is int:
        table["transpose"] = str(table["transpose"])
    known = known_only(VoiceCard, table, str(path), VoiceError)
    return read_table(VoiceCard, known, str(path), VoiceError)


def write_card(folder: Path, card: VoiceCard) -> None:
    """Write voice.toml, whole or not at all."""
    with replacing(folder / CARD) as file:
        file.write(_to_toml(asdict(card)).encode())


def read_verified(folder: Path, name: str, sha256: str) -> bytes:
    """A file of the voice, found to be what its card names.

    Raises:
        VoiceError: it is missing, or another.
    """
    path = folder / name
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise VoiceError(f"{path} can't be read ({exc.strerror}). Import or train the voice again.") from exc
    got = hashlib.sha256(raw).hexdigest()
    if got != sha256:
        raise VoiceError(
            f"{path} has the digest {got}, {CARD} names {sha256 or 'none'}. Import or train the voice again."
        )
    return raw


def _to_toml(table: Mapping[str, Any]) -> str:
    lines = [f"schema = {table['schema']}"]
    for key, value in table.items():
        if key == "schema" or value is None or value == "":
            continue
        if isinstance(value, str) and not (key == "transpose" and value != "auto"):
            # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
            value = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n"
