"""Which engine sings in a voice: one table. No engine opens without a Permit that holds."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path

from bridge.errors import StageError
from bridge.voices import sovits
from bridge.voices.character import CHARACTERS
from bridge.voices.consent import Permit, check_permit
from bridge.voices.converter import Converter
from bridge.voices.folder import CARD, read_card

ENGINES: Mapping[str, Callable[[Permit, Path], Converter]] = {sovits.ENGINE: sovits.SovitsVoice}


def open_voice(permit: Permit, models_dir: Path) -> Converter:
    """The trained voice that `permit` names, ready to sing; loaded once per process.

    Raises:
        TypeError: `permit` is no Permit.
        Refused: (`no_consent`) it holds no more.
        StageError: (`engine_missing`) this version does not have the engine.
        VoiceError, ModelError: the voice or its encoder is missing or damaged.
    """
    check_permit(permit, datetime.date.today())
    if permit.folder is None:
        raise StageError(f"{permit.voice!r} is a built-in character; it has no voice folder to open.")
    engine = read_card(permit.folder).engine
    if engine not in ENGINES:
        raise StageError(
            f"{permit.folder / CARD}: engine = {engine!r} is none of: {', '.join(ENGINES)}. Update dawbridge, or use a "
            f"character: {', '.join(CHARACTERS)}.",
            "engine_missing",
        )
    return ENGINES[engine](permit, models_dir)
