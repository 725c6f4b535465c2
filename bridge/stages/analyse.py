"""Tempo map, first downbeat, metre, key, loudness, and who sings where: the `grid` that later stages read.

What the user or the project says is taken as it is; only the rest is estimated.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge import audio, sound
from bridge.analysis.bars import find_bars, to_tempo_map
from bridge.analysis.beats import Beats, find_beats
from bridge.analysis.chroma import Chroma, find_chroma
from bridge.analysis.key import Key, find_key
from bridge.analysis.onsets import Onsets, find_onsets
from bridge.analysis.spectrum import RATE_HZ, Signal, analysis_signal, largest
from bridge.errors import ConfigError
from bridge.grid import write_grid
from bridge.progress import Steps
from bridge.settings import setting
from bridge.sound import Sound
from bridge.tempo import constant_tempo
from bridge.types import Artifact, Bounce, Context, Grid, Made, Stem, TempoMap, TempoSource
from bridge.voices.presence import NOBODY, Presence, find_singing

STAGE_VERSION = "2"

_FALLBACK_BPM = 120.0
_TRUST: dict[TempoSource, float] = {"set": 1.0, "sidecar": 1.0, "acid": 0.9, "name": 0.8, "transport": 0.8}
_KEY = re.compile(r"[A-G][#b]? (major|minor)")
_BEGINS_DB = -40.0  # against the loudest sample: where the music begins
_PLAYS_DB = -60.0  # RMS in dBFS: a stem under this holds nothing


@dataclass(frozen=True)
class AnalyseSettings:
    """What the user knows better; what stands at its default is taken from the project, else found out."""

    bpm: float = setting(0.0, lo=0.0, hi=400.0, help="quarter notes per minute, 0 = find out")
    beats_per_bar: int = setting(0, lo=0, hi=32, help="0 = find out")
    beat_unit: int = setting(0, choices=(0, 2, 4, 8, 16), help="0 = find out")
    first_downbeat_s: float = setting(-1.0, lo=-1.0, hi=86_400.0, help="from the first frame, -1 = find out")
    key: str = setting("", help='such as "C major" or "F# minor"; empty = find out')
    sings: str = setting("", choices=("", "yes", "no"), help="whether anybody does; empty = find out")


def analyse(bounce: Bounce, stems: Artifact | None, *, settings: AnalyseSettings, context: Context) -> Made:
    """Write `grid`. Stems, where there are any, keep the voice out of the tempo and the drums out of the key.

    Raises:
        ConfigError: the key that is set is none.
        InputError: the bounce can't be read.
    """
    if settings.key and not _KEY.fullmatch(settings.key):
        raise ConfigError(f'analyse.key = {settings.key!r} must be like "C major" or "F# minor".')
    steps = Steps(context.report, 5)
    steps.tick()
    audio.probe(bounce.path)
    whole = sound.told(sound.of_file(bounce.path), steps.tick)
    rate = whole.rate_hz
    parts = {name: sound.told(part, steps.tick) for name, part in _parts(stems).items()}
    band = analysis_signal(_sounding(parts, ("drums", "bass", "other"), whole), rate)
    onsets, begin_s = find_onsets(band), _begin_s(band)
    del band  # of a long song it takes 100 MB
    steps.next()
    chroma = find_chroma(analysis_signal(_sounding(parts, ("bass", "other"), whole), rate))
    steps.next()
    key = find_key(chroma)
    tempo, source, confidence = _tempo(bounce, settings, onsets, chroma if key.name else None, begin_s)
    known_key = settings.key or bounce.key
    key = Key(known_key, 1.0) if known_key else key
    steps.next()
    presence = NOBODY
    if "vocals" in parts and settings.sings != "no":
        labelled = bounce.role == "vocals" or settings.sings == "yes"
        presence = find_singing(parts["vocals"], whole, rate, labelled=labelled)
    steps.next()
    grid = Grid(
        tempo=tempo,
        tempo_source=source,
        tempo_confidence=confidence,
        key=key.name,
        key_confidence=key.confidence,
        loudness_lufs=sound.loudness_lufs(whole),
        true_peak_dbtp=sound.true_peak_dbtp(whole),
        sings=presence.sings,
        singing=presence.spans,
    )
    path = context.workdir / "grid.json"
    write_grid(path, grid)
    steps.next()
    return Made({"grid": path}, _detail(grid), _facts(grid, presence))


def _parts(stems: Artifact | None) -> dict[Stem, Sound]:
    names: tuple[Stem, ...] = ("vocals", "drums", "bass", "other")
    if stems is None:
        return {}
    files = {name: stems.path / f"{name}.wav" for name in names}
    return {name: sound.of_file(file) for name, file in files.items() if file.exists()}


def _sounding(parts: dict[Stem, Sound], wanted: Sequence[Stem], bounce: Sound) -> Sound:
    """The wanted stems together, or the bounce where they hold nothing."""
    found = [parts[name] for name in wanted if name in parts]
    if not found:
        return bounce
    together = sound.added(found)
    return together if sound.rms_db(together) > _PLAYS_DB else bounce


def _begin_s(signal: Signal) -> float:
    limit = largest(signal) * audio.db_to_amplitude(_BEGINS_DB)
    return float(np.argmax((signal > limit) | (signal < -limit)) / RATE_HZ)


def _tempo(
    bounce: Bounce, settings: AnalyseSettings, onsets: Onsets, chroma: Chroma | None, begin_s: float
) -> tuple[TempoMap, TempoSource, float]:
    """In order of trust: the setting, the project, the audio."""
    known = bounce.tempo_map
    source: TempoSource = "set" if settings.bpm else bounce.tempo_source if known else "estimated"
    if known and source == "sidecar":
        return _overridden(known, settings), source, _TRUST[source]
    bpm = settings.bpm or (known.points[0].bpm if known else 0.0)
    # They know the metre, a file name doesn't; where the bar lines are, none of them knows.
    metre = known if known and bounce.tempo_source in ("acid", "transport") else None
    beat_unit = settings.beat_unit or (metre.beat_unit if metre else 4)
    beats_per_bar = settings.beats_per_bar or (metre.beats_per_bar if metre else 0)
    beats = find_beats(onsets, bpm * beat_unit / 4)
    if beats is None:
        tempo = constant_tempo(
            bpm or _FALLBACK_BPM, bounce.sample_rate_hz, beats_per_bar=beats_per_bar or 4, beat_unit=beat_unit
        )
        return _overridden(tempo, settings), source, _TRUST.get(source, 0.0)
    if not bpm and beat_unit == 8 and beats_per_bar % 3 == 0:
        beats = _in_thirds(beats)
    tempo = to_tempo_map(
        beats, find_bars(beats, onsets, chroma, begin_s, beats_per_bar), bounce.sample_rate_hz, beat_unit
    )
    return _overridden(tempo, settings), source, _TRUST.get(source, beats.confidence)


def _in_thirds(beats: Beats) -> Beats:
    """Eighths from the dotted quarters that one taps to in 6/8."""
    number = np.arange(3 * beats.times_s.size - 2) / 3
    times = np.interp(number, np.arange(beats.times_s.size), beats.times_s)
    return Beats(times, beats.bpm and 3 * beats.bpm, beats.confidence)


def _overridden(tempo: TempoMap, settings: AnalyseSettings) -> TempoMap:
    if settings.beats_per_bar:
        tempo = dataclasses.replace(tempo, beats_per_bar=settings.beats_per_bar)
    if settings.beat_unit:
        tempo = dataclasses.replace(tempo, beat_unit=settings.beat_unit)
    if settings.first_downbeat_s >= 0:
        frame = round(settings.first_downbeat_s * tempo.sample_rate_hz)
        tempo = dataclasses.replace(tempo, first_downbeat_frame=frame)
    return tempo


def _detail(grid: Grid) -> str:
    bpms = [point.bpm for point in grid.tempo.points]
    tempo = f"{bpms[0]:.2f} bpm" if len(bpms) == 1 else f"{min(bpms):.1f} to {max(bpms):.1f} bpm"
    metre = f"{grid.tempo.beats_per_bar}/{grid.tempo.beat_unit}"
    sung_s = sum(span.end_s - span.start_s for span in grid.singing)
    return ", ".join(
        (tempo, metre, grid.key or "no key", f"sung for {sung_s:.0f} s" if grid.sings else "nobody sings")
    )


def _facts(grid: Grid, presence: Presence) -> dict[str, Any]:
    tempo = grid.tempo
    return {
        "bpm": tempo.points[0].bpm,
        "tempo_changes": len(tempo.points) - 1,
        "tempo_source": grid.tempo_source,
        "tempo_confidence": grid.tempo_confidence,
        "beats_per_bar": tempo.beats_per_bar,
        "beat_unit": tempo.beat_unit,
        "first_downbeat_s": tempo.first_downbeat_frame / tempo.sample_rate_hz,
        "key": grid.key,
        "key_confidence": grid.key_confidence,
        "loudness_lufs": grid.loudness_lufs if math.isfinite(grid.loudness_lufs) else None,
        "true_peak_dbtp": grid.true_peak_dbtp if math.isfinite(grid.true_peak_dbtp) else None,
        "sings": grid.sings,
        "sung_s": sum(span.end_s - span.start_s for span in grid.singing),
        "voice_evidence": {
            "voiced_s": presence.voiced_s,
            "level_db": presence.level_db,
            "vowels_octaves": presence.vowels_octaves,
            "glides_octaves": presence.glides_octaves,
        },
    }
