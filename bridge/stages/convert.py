"""The vocal in another voice, dry: only where somebody sings, and only with consent.

Everywhere else the track stays the original stem, faded over, so that breaths are kept. Long vocals
are worked on in pieces cut at their quietest moments.

The steps, each one function that a setting switches off, and why in this order: lead from backing (all that follows hears
one voice), the room out (late sound blurs pitch), f0 and guard (of what the converter will get), tuning, the converter,
the loudness of the dry singer, de-essing, the room back (so that it rings of what is now sung, s sounds included), and
last the guard's fallback to the lead as it was recorded, in its own room.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio, sound
from bridge.audio import Samples
from bridge.grid import read_grid
from bridge.progress import Report, part_of
from bridge.scratch import scratch
from bridge.settings import setting
from bridge.sound import Sound
from bridge.types import Artifact, Context, Grid, Made, Skip, Span
from bridge.voices import psola
from bridge.voices.consent import Permit, require_consent
from bridge.voices.converter import Converter, Transposition
from bridge.voices.deess import deess
from bridge.voices.engines import open_voice
from bridge.voices.f0 import F0Track, track_f0
from bridge.voices.guard import fall_back, find_doubtful
from bridge.voices.lead import find_lead
from bridge.voices.loudness import carry_loudness
from bridge.voices.pieces import Piece, cut_pieces, over_pieces
from bridge.voices.room import dereverb, give_room, measure_room
from bridge.voices.tuning import tune

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
    split: bool = setting(True, help="tell the lead from its backing, and convert the lead alone")
    backing: str = setting(
        "keep", choices=("keep", "mute", "convert"), help="what becomes of the voices behind the lead"
    )
    dereverb: float = setting(1.0, lo=0.0, hi=1.0, help="how much of the room is taken out before")
    room: float = setting(1.0, lo=0.0, hi=1.0, help="how much of that room the new voice gets back")
    mend_f0: bool = setting(True, help="two pitch trackers mend each other's octave errors")
    tune: float = setting(0.0, lo=0.0, hi=1.0, help="how far each note moves toward the song's key")
    carry_loudness: bool = setting(True, help="the singer's loudness and consonants on the new voice")
    guard: bool = setting(True, help="noise, bleed and choirs stay as they are instead of being sung aloud")
    deess: float = setting(0.5, lo=0.0, hi=1.0, help="how far sharp s sounds are turned down")


@dataclass(frozen=True)
class Converted:
    """What became of the vocals, and what a musician should know of it."""

    voice: Sound  # of the vocals' shape
    backing: Sound | None  # the same; None where nobody sings behind the lead, or is not to
    has_backing: bool  # somebody sings behind the lead, heard or muted
    transposition: Transposition
    left_as_sung: tuple[Span, ...]  # what the guard kept from the converter, in s from the bounce's start


@dataclass(frozen=True)
class Passage:
    """One piece of singing, and what is known of it; times and hops count from the piece's first frame."""

    piece: Piece
    f0: F0Track
    doubtful: tuple[Span, ...]


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
    files = {}
    with scratch(context.workdir) as folder:
        vocals = sound.of_file(source)
        made = convert_vocals(vocals, song, converter, settings, folder, context.report)
        for name, heard in (("voice", made.voice), ("backing", made.backing)):
            if heard is not None:
                files[name] = context.workdir / f"{name}.wav"
                sound.write(heard, files[name])
    return Made(files, _detail(made, song, settings), {"voice": _facts(permitted), **_told(made, settings)})


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
    vocals: Sound, song: Grid, converter: Converter, settings: ConvertSettings, folder: Path, report: Report
) -> Converted:
    """`vocals` with their lead in the converter's voice, and what becomes of the backing; both may lie in `folder`."""
    pieces = cut_pieces(vocals, song.singing)
    lead, backing = _apart(vocals, pieces, settings, folder, part_of(report, 0, 6))
    dry = over_pieces(
        lead,
        pieces,
        lambda _, own: dereverb(own, vocals.rate_hz, settings.dereverb),
        folder / "dry.wav",
        part_of(report, 1, 6),
    )
    passages = _heard(dry, pieces, settings, part_of(report, 2, 6))
    moved = choose_transposition(converter, [passage.f0 for passage in passages], settings.transpose)
    sung = partial(_sing, converter=converter, key=song.key, semitones=moved.semitones, settings=settings)
    voice = sung(dry, lead, passages, path=folder / "voice.wav", report=part_of(report, 3, 6))
    found = backing is not None
    if backing is not None and settings.backing == "convert":
        others = _heard(backing, pieces, settings, part_of(report, 4, 6))
        path = folder / "backing.wav"
        backing = sung(backing, backing, others, path=path, report=part_of(report, 5, 6))
    report(6, 6)
    return Converted(
        voice,
        None if settings.backing == "mute" else backing,
        found,
        moved,
        _absolute(passages, vocals.rate_hz),
    )


def choose_transposition(converter: Converter, tracks: Sequence[F0Track], transpose: str) -> Transposition:
    """As set, or the engine's own choice from all that is sung."""
    if transpose != "auto":
        return Transposition(int(transpose), f"{int(transpose):+d} semitones: as set")
    if not tracks:
        return converter.transposition(F0Track(np.zeros(0), np.zeros(0)))
    hz, confidence = ([getattr(track, name) for track in tracks] for name in ("hz", "confidence"))
    return converter.transposition(F0Track(np.concatenate(hz), np.concatenate(confidence)))


def _apart(
    vocals: Sound, pieces: Sequence[Piece], settings: ConvertSettings, folder: Path, report: Report
) -> tuple[Sound, Sound | None]:
    """The lead, and the rest where a backing was found: both add up to the vocals."""
    if not settings.split:
        return vocals, None
    lead = over_pieces(
        vocals, pieces, lambda _, own: find_lead(own, vocals.rate_hz), folder / "lead.wav", report
    )
    return lead, None if lead is vocals else sound.added([vocals, sound.scaled(lead, -1.0)])


def _heard(
    vocals: Sound, pieces: Sequence[Piece], settings: ConvertSettings, report: Report
) -> list[Passage]:
    """Each piece with its pitch, and with what is too doubtful to be sung."""
    passages = []
    for done, piece in enumerate(pieces):
        report(done, len(pieces))
        own = piece.of(vocals)
        f0 = track_f0(audio.to_mono(own), vocals.rate_hz, mend=settings.mend_f0)
        doubtful = find_doubtful(own, vocals.rate_hz, f0) if settings.guard else ()
        passages.append(Passage(piece, f0, doubtful))
    return passages


def _sing(
    dry: Sound,
    original: Sound,
    passages: Sequence[Passage],
    *,
    converter: Converter,
    key: str,
    semitones: int,
    settings: ConvertSettings,
    path: Path,
    report: Report,
) -> Sound:
    """`original` with each passage of `dry` in the other voice in its place."""
    rate = original.rate_hz
    known = {passage.piece: passage for passage in passages}
    room = measure_room(((piece.of(original), piece.of(dry)) for piece in known), rate)

    def change(piece: Piece, recorded: Samples) -> Samples:
        own, f0 = piece.of(dry), known[piece].f0
        sung = converter.convert(own, rate, tune(f0, key, settings.tune), semitones)
        if settings.carry_loudness:
            sung = carry_loudness(sung, own, rate, f0)
        sung = deess(sung, rate, settings.deess)
        if room is not None:
            sung = give_room(sung, room, rate, settings.room)
        return fall_back(sung, recorded, known[piece].doubtful, rate)

    return over_pieces(original, list(known), change, path, report)


def _absolute(passages: Sequence[Passage], rate: int) -> tuple[Span, ...]:
    """What is doubtful, in s from the bounce's start; where pieces meet, one span."""
    spans: list[Span] = []
    for passage in passages:
        start_s = passage.piece.start / rate
        for span in passage.doubtful:
            found = Span(round(start_s + span.start_s, 2), round(start_s + span.end_s, 2))
            if spans and found.start_s <= spans[-1].end_s:
                found = Span(spans.pop().start_s, found.end_s)
            spans.append(found)
    return tuple(spans)


def _detail(made: Converted, song: Grid, settings: ConvertSettings) -> str:
    sung_s = sum(span.end_s - span.start_s for span in song.singing)
    told = f"{sung_s:.0f} s of singing as {settings.voice!r}; {made.transposition.reason}"
    if made.has_backing:
        told += f"; backing: {settings.backing}"
    if made.left_as_sung:
        left_s = sum(span.end_s - span.start_s for span in made.left_as_sung)
        told += f"; {left_s:.1f} s left as sung, where no single voice was heard for sure"
    return told


def _told(made: Converted, settings: ConvertSettings) -> dict[str, Any]:
    """For the report and for scripts."""
    return {
        "backing": settings.backing if made.has_backing else None,
        "transposition": asdict(made.transposition),
        "left_as_sung": [asdict(span) for span in made.left_as_sung],
    }


def _require(settings: ConvertSettings, voices_dir: Path) -> Permit:
    return require_consent(settings.voice, voices_dir, datetime.date.today())


def _facts(permitted: Permit) -> dict[str, Any]:
    return {
        "name": permitted.voice,
        "consent_sha256": permitted.consent_sha256,
        "voice_sha256": permitted.voice_sha256,
    }
