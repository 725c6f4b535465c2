"""The vocal in another voice, dry: only where somebody sings, and only with consent.

Everywhere else the track stays the original stem, faded over, so that breaths are kept. Long vocals
are worked on in pieces cut at their quietest moments.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.audio import Samples
from bridge.grid import read_grid
from bridge.progress import Report, part_of
from bridge.settings import setting
from bridge.types import Artifact, Context, Grid, Made, Skip
from bridge.voices import psola
from bridge.voices.consent import Permit, require_consent
from bridge.voices.converter import Converter, Transposition
from bridge.voices.engines import open_voice
from bridge.voices.f0 import F0Track, track_f0
from bridge.voices.pieces import Piece, cut_pieces, over_pieces

STAGE_VERSION = "2"


@dataclass(frozen=True)
class ConvertSettings:
    """Which voice, and what is done to the singing before and after it is converted."""

    voice: str = setting("deep", help="a character (deep, bright, giant) or a folder among your voices")
    transpose: str = setting(
        "auto",
        choices=("auto", "0", "12", "-12"),
        help="semitones for the whole song; auto: as suits the voice",
    )
    mend_f0: bool = setting(True, help="two pitch trackers mend each other's octave errors")


@dataclass(frozen=True)
class Passage:
    """One piece of singing, and what is known of it."""

    piece: Piece
    f0: F0Track  # of the piece, its hop 0 at the piece's first frame


def permit(settings: ConvertSettings, voices_dir: Path) -> dict[str, Any]:
    """What is known of the consent, for the cache and the manifest. Light: no engine is loaded.

    Raises:
        Refused: (`no_consent`) no consent that holds today.
    """
    return _facts(_require(settings, voices_dir))


def convert(stems: Artifact, grid: Artifact, *, settings: ConvertSettings, context: Context) -> Made | Skip:
    """Make `voice`: the vocals stem with its sung spans in the other voice, as long as the bounce.

    Raises:
        Refused: (`no_consent`) no consent that holds today.
        StageError: (`engine_missing`) the voice needs an engine that this version does not have.
    """
    permitted = _require(settings, context.voices_dir)
    converter = open_converter(permitted, context.models_dir)
    source = stems.path / "vocals.wav"
    if not source.exists():
        return Skip("this bounce has no vocals stem", "no_vocals")
    song = read_grid(grid.path)
    if not (song.sings and song.singing):
        return Skip("nobody seems to sing; if somebody does, set analyse.sings=yes", "no_singing")
    vocals, rate = audio.read_raw(source)
    voice, moved = convert_vocals(vocals, rate, song, converter, settings, context.report)
    path = context.workdir / "voice.wav"
    audio.write_float_wav(path, voice, rate)
    sung_s = sum(span.end_s - span.start_s for span in song.singing)
    facts = {
        "voice": _facts(permitted),
        "transposition": {"semitones": moved.semitones, "reason": moved.reason},
    }
    return Made({"voice": path}, f"{sung_s:.0f} s of singing as {settings.voice!r}; {moved.reason}", facts)


def open_converter(permitted: Permit, models_dir: Path) -> Converter:
    """The engine that speaks with the permitted voice. No engine opens without a Permit.

    Raises:
        StageError: (`engine_missing`) this version does not have the engine.
        VoiceError, ModelError: the voice or its encoder is missing or damaged.
    """
    if permitted.folder is None:
        return psola.open_character(permitted)
    return open_voice(permitted, models_dir)


def convert_vocals(
    vocals: Samples, rate: int, song: Grid, converter: Converter, settings: ConvertSettings, report: Report
) -> tuple[Samples, Transposition]:
    """`vocals`, (channels, frames), with all singing in the converter's voice, and how far it was moved."""
    pieces = cut_pieces(vocals, rate, song.singing)
    passages = _heard(vocals, rate, pieces, settings)
    moved = choose_transposition(converter, [passage.f0 for passage in passages], settings.transpose)
    sung_in = {passage.piece: passage for passage in passages}

    def sing(piece: Piece) -> Samples:
        return converter.convert(piece.of(vocals), rate, sung_in[piece].f0, moved.semitones)

    return over_pieces(vocals, pieces, sing, part_of(report, 0, 1)), moved


def choose_transposition(converter: Converter, tracks: Sequence[F0Track], transpose: str) -> Transposition:
    """As set, or the engine's own choice from all that is sung."""
    if transpose != "auto":
        return Transposition(int(transpose), f"{int(transpose):+d} semitones: as set")
    if not tracks:
        return converter.transposition(F0Track(np.zeros(0), np.zeros(0)))
    hz, confidence = ([getattr(track, name) for track in tracks] for name in ("hz", "confidence"))
    return converter.transposition(F0Track(np.concatenate(hz), np.concatenate(confidence)))


def _heard(samples: Samples, rate: int, pieces: Sequence[Piece], settings: ConvertSettings) -> list[Passage]:
    tracks = (track_f0(audio.to_mono(piece.of(samples)), rate, mend=settings.mend_f0) for piece in pieces)
    return [Passage(piece, f0) for piece, f0 in zip(pieces, tracks, strict=True)]


def _require(settings: ConvertSettings, voices_dir: Path) -> Permit:
    return require_consent(settings.voice, voices_dir, datetime.date.today())


def _facts(permitted: Permit) -> dict[str, Any]:
    return {
        "name": permitted.voice,
        "consent_sha256": permitted.consent_sha256,
        "voice_sha256": permitted.voice_sha256,
    }
