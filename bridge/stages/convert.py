"""The vocal in another voice, dry: only where somebody sings, and only with consent.

Everywhere else the track stays the original stem, faded over, so that breaths are kept. Long vocals
are worked on in pieces cut at their quietest moments.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge import audio
from bridge.audio import Samples
from bridge.config import read_toml
from bridge.errors import StageError
from bridge.grid import read_grid
from bridge.settings import setting
from bridge.types import Artifact, Context, Made, Skip, Span
from bridge.voices import psola
from bridge.voices.character import CHARACTERS
from bridge.voices.consent import Permit, require_consent

STAGE_VERSION = "1"
FADE_S = 0.05  # from the original into the voice, just outside each sung span
LONGEST_PIECE_S = 20.0
QUIET_WINDOW_S = 0.05


@dataclass(frozen=True)
class ConvertSettings:
    """Which voice."""

    voice: str = setting("deep", help="a character (deep, bright, giant) or a folder among your voices")


@dataclass(frozen=True)
class Piece:
    """Frames [start, end) to convert in one go; `fade` frames at either end are crossfaded."""

    start: int
    end: int
    fade: int


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
    converter = open_converter(permitted)
    source = stems.path / "vocals.wav"
    if not source.exists():
        return Skip("this bounce has no vocals stem", "no_vocals")
    song = read_grid(grid.path)
    if not (song.sings and song.singing):
        return Skip("nobody seems to sing; if somebody does, set analyse.sings=yes", "no_singing")
    vocals, rate = audio.read_raw(source)
    voice = convert_spans(vocals, rate, song.singing, converter, context)
    path = context.workdir / "voice.wav"
    audio.write_float_wav(path, voice, rate)
    sung_s = sum(span.end_s - span.start_s for span in song.singing)
    return Made(
        {"voice": path}, f"{sung_s:.0f} s of singing as {settings.voice!r}", {"voice": _facts(permitted)}
    )


def open_converter(permitted: Permit) -> psola.Converter:
    """The engine that speaks with the permitted voice. No engine opens without a Permit.

    Raises:
        StageError: (`engine_missing`) this version does not have the engine.
    """
    if permitted.folder is None:
        return psola.open_character(permitted)
    engine = read_toml(permitted.folder / "voice.toml", StageError).get("engine")
    raise StageError(
        f"The voice {permitted.voice!r} needs the engine {engine!r}, which this version does not run yet. "
        f"Use a character: {', '.join(CHARACTERS)}.",
        "engine_missing",
    )


def convert_spans(
    vocals: Samples, rate: int, singing: Sequence[Span], converter: psola.Converter, context: Context
) -> Samples:
    """`vocals` with every sung span from `converter`, crossfaded; (channels, frames) in and out."""
    pieces = list(_pieces(vocals, rate, singing))
    total = sum(piece.end - piece.start for piece in pieces)
    done = 0
    context.report(0.0, total / rate)
    voice = vocals.copy()
    for piece in pieces:
        original = vocals[:, piece.start : piece.end]
        change = converter(original, rate) - original
        voice[:, piece.start : piece.end] += change * _weights(piece)
        done += piece.end - piece.start
        context.report(done / rate, total / rate)
    return voice


def _require(settings: ConvertSettings, voices_dir: Path) -> Permit:
    return require_consent(settings.voice, voices_dir, datetime.date.today())


def _facts(permitted: Permit) -> dict[str, Any]:
    return {
        "name": permitted.voice,
        "consent_sha256": permitted.consent_sha256,
        "voice_sha256": permitted.voice_sha256,
    }


def _pieces(vocals: Samples, rate: int, singing: Sequence[Span]) -> Iterator[Piece]:
    """The sung spans with their margins, merged where these meet, and cut where they are too long.

    Pieces cut from one span overlap by exactly `fade` frames, where their weights add up to 1.
    """
    fade = round(FADE_S * rate)
    longest = round(LONGEST_PIECE_S * rate)
    for start, end in _with_margins(singing, rate, fade, vocals.shape[1]):
        while end - start > longest:
            cut = _quietest(vocals[:, start + longest // 2 : start + longest], rate) + start + longest // 2
            yield Piece(start, cut + fade, fade)
            start = cut
        yield Piece(start, end, fade)


def _with_margins(singing: Sequence[Span], rate: int, fade: int, frames: int) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for span in sorted(singing, key=lambda span: span.start_s):
        start = max(0, round(span.start_s * rate) - fade)
        end = min(frames, round(span.end_s * rate) + fade)
        if end - start < 2 * fade:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _quietest(samples: Samples, rate: int) -> int:
    """The first frame of the quietest window in `samples`."""
    window = round(QUIET_WINDOW_S * rate)
    whole = samples.shape[1] // window
    blocks = samples[:, : whole * window].reshape(samples.shape[0], whole, window)
    power = np.square(blocks).sum(axis=(0, 2))  # (channels, windows, frames) -> (windows,)
    return int(np.argmin(power)) * window


def _weights(piece: Piece) -> npt.NDArray[np.float32]:
    """1.0 inside, straight fades at both ends, (frames,)."""
    ramp = (np.arange(piece.fade, dtype=np.float32) + 0.5) / piece.fade
    weights = np.ones(piece.end - piece.start, dtype=np.float32)
    weights[: piece.fade] = ramp
    weights[-piece.fade :] = ramp[::-1]
    return weights
