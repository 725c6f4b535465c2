"""Plays a phrase into audio: each note on the frame that the tempo map gives it, at a level fit for mixing.

The synthesizer runs in a child process (`bridge.instruments.player`), since a broken soundfont or plug-in
may crash or hang. With a soundfont the same input gives the same samples; a plug-in may do as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bridge import sound as sounds
from bridge.audio import db_to_amplitude
from bridge.child import Guest, run_child
from bridge.errors import StageError
from bridge.instruments.sound import Sound, plugin_path, soundfont_path
from bridge.midi import in_playing_order, tracks
from bridge.scratch import scratch
from bridge.tempo import beats_to_seconds
from bridge.types import Phrase, TempoMap

TARGET_LUFS, CEILING_DBTP = -18.0, -1.0
FADE_S = 0.05  # at the very end, for what still sounds there
START_LIMIT_S, LIMIT_PER_S = 60.0, 2.0  # a child may take so long, and so long for each second of music


def render(
    phrase: Phrase,
    tempo: TempoMap,
    path: Path,
    *,
    frames: int,
    sample_rate_hz: int,
    sound: Sound,
    report: Callable[[float, float], None],
) -> None:
    """Write a float WAV of (2, frames) from beat 0 on, at -18 LUFS where the true peak can stay below -1 dBTP.

    One plain gain sets the level, so that velocities keep their meaning. What lies after `frames` is left out.
    A plug-in plays all parts but the drums, as one, and is made as loud as the soundfont's drums. `report` is
    called ten times a second and may raise.

    Raises:
        PresetError: the soundfont or the plug-in is missing, or the soundfont is none.
        StageError: the soundfont lacks a program, the plug-in is no instrument or gives no sound; one of them
            hung, crashed, or gave samples that are not numbers.
    """
    soundfont, plugin = soundfont_path(sound), plugin_path(sound)
    report(0, 1)
    with scratch(path.parent) as inside:

        def play(part: Phrase, kind: str, by: Path) -> sounds.Sound:
            events, folder = _events(part, tempo, sample_rate_hz), inside / kind
            if not events:
                return sounds.silence(2, frames, sample_rate_hz)
            folder.mkdir()
            return _play(events, kind, by, frames, sample_rate_hz, folder, lambda: report(0, 1))

        if plugin is None:
            heard = play(phrase, "soundfont", soundfont)
        else:
            drums, pitched = _split(phrase)
            beat = play(drums, "soundfont", soundfont)
            heard = sounds.added([beat, _as_loud_as(beat, play(pitched, "plug-in", plugin))])
        sounds.write(_levelled(sounds.faded_out(heard, FADE_S)), path)
    report(1, 1)


def _play(
    events: list[list[int]],
    kind: str,
    path: Path,
    frames: int,
    sample_rate_hz: int,
    folder: Path,
    on_wait: Callable[[], None],
) -> sounds.Sound:
    """What the child makes of the events, in `folder`."""
    limit_s = START_LIMIT_S + LIMIT_PER_S * frames / sample_rate_hz
    guest = Guest(f"The {kind} {path}", kind.replace("-", ""), "Name another one.", limit_s)
    request = {
        "kind": kind,
        "path": str(path),
        "frames": frames,
        "sample_rate_hz": sample_rate_hz,
        "events": events,
    }
    run_child("bridge.instruments.player", request, folder, guest, on_wait)
    heard = sounds.of_file(folder / "out.wav")
    if not all(np.isfinite(block).all() for _, block in heard.blocks()):
        raise StageError(f"{guest.name} gives samples that are not numbers. {guest.remedy}")
    return heard


def _events(phrase: Phrase, tempo: TempoMap, sample_rate_hz: int) -> list[list[int]]:
    """Frame and MIDI bytes of each event of all parts, in playing order."""

    def frame(beats: float) -> int:
        return round(beats_to_seconds(tempo, beats) * sample_rate_hz)

    events = [event for track in tracks(phrase, frame) for event in track.events]
    return [[at, *message.bytes()] for at, message in in_playing_order(events)]


def _split(phrase: Phrase) -> tuple[Phrase, Phrase]:
    """The drums, and all the rest as one part, which a plug-in gets on one channel."""
    drums = tuple(note for note in phrase.notes if note.part == "drums")
    pitched = tuple(replace(note, part="piano") for note in phrase.notes if note.part != "drums")
    return replace(phrase, notes=drums), replace(phrase, notes=pitched)


def _as_loud_as(model: sounds.Sound, heard: sounds.Sound) -> sounds.Sound:
    change_db = sounds.loudness_lufs(model) - sounds.loudness_lufs(heard)
    return sounds.scaled(heard, db_to_amplitude(change_db)) if math.isfinite(change_db) else heard


def _levelled(heard: sounds.Sound) -> sounds.Sound:
    """To the target loudness, or below it where a peak would pass the ceiling; silence stays silence."""
    loudness, peak = sounds.loudness_lufs(heard), sounds.true_peak_dbtp(heard)
    if not math.isfinite(peak):
        return heard
    wanted_db = TARGET_LUFS - loudness if math.isfinite(loudness) else 0.0
    return sounds.scaled(heard, db_to_amplitude(min(wanted_db, CEILING_DBTP - peak)))
