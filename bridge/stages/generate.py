"""New music for the song: what comes after its last bar, and another instrumental over its own bars.

`continuation`: tick 0 is its own bar 1, and it is exactly as many bars long as asked; `continuation_start_frames` in
the facts places it. `arrangement`: tick 0 is the bounce's first frame, and it is as long as the bounce. Both lie on
the song's grid and in its key, follow its chords, and come rendered too.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.composing.arrangement import arrange_song, shared_with
from bridge.composing.continuation import continue_song
from bridge.composing.song import Song, read_song
from bridge.composing.taste import DENSITIES, Taste
from bridge.errors import Cancelled, PresetError
from bridge.grid import read_grid
from bridge.instruments import sound
from bridge.instruments.render import render
from bridge.instruments.sound import Sound
from bridge.midi import read_midi, write_midi
from bridge.progress import Report, part_of
from bridge.settings import setting
from bridge.sound import of_file as sound_of_file
from bridge.tempo import beats_to_frames, constant_tempo, frames_to_beats
from bridge.transformer import shipped
from bridge.transformer.decoder import Decoder
from bridge.transformer.originality import copied_runs
from bridge.transformer.parts import PARTS
from bridge.transformer.sample import Sampling
from bridge.types import Artifact, Bounce, Context, Made, ModelRef, Phrase, Skip, TempoMap

STAGE_VERSION = "1"

MOST_COPIED_NOTES = 12  # in a row
MOST_SHARED = 0.5  # of an arrangement's pitched notes, with the song's own
REPORT_S = 0.1
DRAWS = 3  # at most, until one is new
NOTHING = Phrase((), 0.0)
TAIL_DB = -40.0  # under the loudest sample: what sounds below it is a tail, not music


@dataclass(frozen=True)
class GenerateSettings:
    """What to write, how freely, and how it sounds."""

    mode: str = setting("both", choices=("both", "continue", "arrange"))
    bars: int = setting(8, lo=1, hi=64, help="length of the continuation")
    parts: str = setting("", help=f"who plays, with commas: {', '.join(PARTS)}; empty = as the song has it")
    temperature: float = setting(1.0, lo=0.05, hi=5.0, help="below 1 safer, above 1 wilder")
    top_p: float = setting(0.95, lo=0.01, hi=1.0, help="draw from the likeliest that hold this share")
    min_p: float = setting(0.02, lo=0.0, hi=1.0, help="and are so likely beside the likeliest one")
    seed: int = setting(0, lo=0, hi=2**31 - 1, help="the same seed gives the same notes")
    density: str = setting("normal", choices=DENSITIES, help="against what each part plays in the song")
    key_lock: bool = setting(True, help="only notes of the song's key")
    model: str = setting("dawbridge-small", help="the shipped one, or one you trained")
    soundfont: str = setting("", help="an SF2 or SF3 file of General MIDI; empty = the shipped one")
    instrument: str = setting("", help="a plug-in that plays all but the drums; empty = the soundfont")


@dataclass(frozen=True)
class Piece:
    """One new piece of music, not yet on disk."""

    name: str  # of its artifact
    phrase: Phrase
    tempo: TempoMap
    frames: int  # its length as audio, at the bounce's rate
    detail: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """One draw, and how new it is."""

    phrase: Phrase
    copied: int  # notes of its longest run that stands in the training music, 0 for none
    shared: float  # 0..1: its pitched notes that the song itself has there


@dataclass(frozen=True)
class Task:
    """All that a piece is made from."""

    song: Song
    bounce: Bounce
    tempo: TempoMap  # of the bounce
    model: Decoder
    settings: GenerateSettings

    def taste(self) -> Taste:
        """What is asked."""
        asked = self.settings
        return Taste(
            sampling=Sampling(asked.temperature, asked.top_p, asked.min_p, asked.seed),
            parts=_parts(asked),
            density=asked.density,
            key_lock=asked.key_lock,
        )


def digests(settings: GenerateSettings) -> tuple[str, ...]:
    """Nothing but a check: what the settings name must exist.

    Raises:
        PresetError: a part that is none, or a soundfont or plug-in that is missing.
    """
    _parts(settings)
    sound.soundfont_path(_sound(settings))
    sound.plugin_path(_sound(settings))
    return ()


def models(settings: GenerateSettings, models_dir: Path) -> tuple[ModelRef, ...]:
    """The network, and what plays its notes.

    Raises:
        ModelError: there is no such model.
        PresetError: the soundfont or the plug-in is missing.
    """
    return (shipped.model_ref(settings.model, models_dir), *sound.refs(_sound(settings)))


def generate(
    bounce: Bounce,
    notes_quantised: Artifact,
    grid: Artifact,
    *,
    settings: GenerateSettings,
    context: Context,
) -> Made | Skip:
    """Write `continuation` and `arrangement`, and render them.

    Raises:
        ModelError: there is no such model, or it is damaged.
        PresetError: a part that is none, or a soundfont or plug-in that is missing.
        StageError: the synthesizer failed.
    """
    found = read_grid(grid.path)
    heard, _ = read_midi(notes_quantised.path, bounce.sample_rate_hz)
    song = read_song(heard, found, _ends_beats(bounce, found.tempo))
    if not song.band.notes:
        return Skip("no notes were heard that music could go on from", "no_notes")
    model = shipped.load_model(settings.model, context.models_dir)
    task = Task(song, bounce, found.tempo, model, settings)
    makers = {"continue": (_continuation,), "arrange": (_arrangement,)}.get(
        settings.mode, (_arrangement, _continuation)
    )
    files, pieces = _make_all(makers, task, found.key, context)
    facts = _song_facts(song)
    for piece in pieces:
        facts |= piece.facts
    return Made(files, _detail(song, pieces), facts)


def _make_all(
    makers: Sequence[Callable[[Task, Report], Piece]], task: Task, key: str, context: Context
) -> tuple[dict[str, Path], list[Piece]]:
    """Write each piece while the one before it, the longer one, is rendered, in a process of its own."""
    stop = threading.Event()

    def unless_stopped(_done: float, _total: float) -> None:
        if stop.is_set():
            raise Cancelled("cancelled")

    pieces, rendered = [], []
    with ThreadPoolExecutor(1) as beside:
        try:
            for index, make in enumerate(makers):
                piece = make(task, part_of(context.report, index, len(makers) + 1))
                pieces.append(piece)
                rendered.append(beside.submit(_write, piece, task, key, context.workdir, unless_stopped))
            while wait(rendered, REPORT_S).not_done:
                context.report(len(makers), len(makers) + 1)
        finally:
            stop.set()
            beside.shutdown(cancel_futures=True)
    return {name: path for written in rendered for name, path in written.result().items()}, pieces


def _continuation(task: Task, report: Report) -> Piece:
    song, bars = task.song, task.settings.bars
    line = song.line_beats(song.bars)
    bpm = next(point.bpm for point in reversed(task.tempo.points) if point.beat <= line)
    tempo = constant_tempo(
        bpm, task.tempo.sample_rate_hz, beats_per_bar=task.tempo.beats_per_bar, beat_unit=task.tempo.beat_unit
    )
    drawn = _new(lambda taste: continue_song(task.model, song, bars, taste, report), task.taste(), NOTHING)
    phrase = drawn.phrase
    facts = {
        "continuation_start_frames": round(beats_to_frames(task.tempo, line)),
        "continuation_bars": bars,
        "continuation_parts": _who_plays(phrase),
        "continuation_copied_notes": drawn.copied,
    }
    detail = f"{bars} bars after bar {song.bars} for {', '.join(_who_plays(phrase)) or 'nobody'}"
    frames = round(beats_to_frames(tempo, phrase.length_beats))
    return Piece("continuation", phrase, tempo, frames, detail, facts)


def _arrangement(task: Task, report: Report) -> Piece:
    song = task.song
    drawn = _new(lambda taste: arrange_song(task.model, song, taste, report), task.taste(), song.band)
    phrase = drawn.phrase
    form = " ".join(f"{section.label}{section.bars}" for section in song.form)
    facts = {
        "form": form,
        "arrangement_parts": _who_plays(phrase),
        "arrangement_shared_notes": round(drawn.shared, 3),
        "arrangement_copied_notes": drawn.copied,
    }
    detail = f"an arrangement of {form} for {', '.join(_who_plays(phrase)) or 'nobody'}"
    return Piece("arrangement", phrase, task.tempo, task.bounce.frames, detail, facts)


def _new(write: Callable[[Taste], Phrase], taste: Taste, heard: Phrase) -> Drawn:
    """The first draw that quotes nothing of the training music and little of `heard`, or the best of DRAWS."""
    index = shipped.load_originality()
    drawn: list[Drawn] = []
    for draw in range(DRAWS):
        phrase = write(taste.again(draw))
        copied = max((run.notes for run in copied_runs(phrase, index, MOST_COPIED_NOTES)), default=0)
        drawn.append(Drawn(phrase, copied, shared_with(phrase, heard)))
        if not copied and drawn[-1].shared <= MOST_SHARED:
            break
    return min(drawn, key=lambda one: (one.copied, max(one.shared, MOST_SHARED)))


def _write(piece: Piece, task: Task, key: str, workdir: Path, report: Report) -> dict[str, Path]:
    """The piece as MIDI and as audio."""
    midi, sounds = workdir / f"{piece.name}.mid", workdir / f"{piece.name}_audio.wav"
    write_midi(midi, piece.phrase, piece.tempo, key=key)
    render(
        piece.phrase,
        piece.tempo,
        sounds,
        frames=piece.frames,
        sample_rate_hz=task.bounce.sample_rate_hz,
        sound=_sound(task.settings),
        report=report,
    )
    return {piece.name: midi, f"{piece.name}_audio": sounds}


def _ends_beats(bounce: Bounce, tempo: TempoMap) -> float:
    """Where the music ends: reverb and silence after it don't count."""
    heard = sound_of_file(bounce.path)
    highest = max(float(np.abs(block).max(initial=0.0)) for _, block in heard.blocks())
    limit, last = highest * audio.db_to_amplitude(TAIL_DB), 0
    for start, block in heard.blocks():
        sounding = np.flatnonzero(np.abs(block).max(axis=0) > limit)
        last = start + int(sounding[-1]) + 1 if sounding.size else last
    return frames_to_beats(tempo, float(last))


def _parts(settings: GenerateSettings) -> tuple[str, ...]:
    named = tuple(part.strip() for part in settings.parts.split(",") if part.strip())
    for part in named:
        if part not in PARTS:
            raise PresetError(
                f"generate.parts = {settings.parts!r}: {part!r} is no part. Parts are {', '.join(PARTS)}."
            )
    return named


def _sound(settings: GenerateSettings) -> Sound:
    return Sound(settings.soundfont, settings.instrument)


def _song_facts(song: Song) -> dict[str, Any]:
    return {
        "bars": song.bars,
        "chords": [
            [round(chord.start_beats, 3), round(chord.end_beats, 3), chord.name] for chord in song.chords
        ],
        "melody": song.melody.part if song.melody.is_clear else "",
        "melody_clarity": round(song.melody.clarity, 3),
    }


def _detail(song: Song, pieces: Sequence[Piece]) -> str:
    told = [piece.detail for piece in pieces]
    if not song.melody.is_clear:
        told.append("no clear melody was heard: it leans on chords and rhythm")
    for piece in pieces:
        copied = piece.facts[f"{piece.name}_copied_notes"]
        if copied:
            told.append(
                f"the {piece.name} quotes {copied} notes of the training music: try another generate.seed"
            )
        shared = piece.facts.get(f"{piece.name}_shared_notes", 0.0)
        if shared > MOST_SHARED:
            told.append(f"{shared:.0%} of the {piece.name} is what the song itself plays there")
    return "; ".join(told)


def _who_plays(phrase: Phrase) -> list[str]:
    playing = Counter(note.part for note in phrase.notes)
    return [part for part in PARTS if playing[part]]
