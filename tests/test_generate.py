"""The stage that writes new music: files of exact length, in time with the bounce, the same for the same seed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

from bridge import audio, sound
from bridge.errors import Cancelled, ModelError, PresetError
from bridge.grid import write_grid
from bridge.midi import read_midi, write_midi
from bridge.stages.generate import GenerateSettings, digests, generate, models
from bridge.tempo import constant_tempo, tempo_from_changes
from bridge.transformer.originality import CopiedRun
from bridge.transformer.saved import save_weights
from bridge.types import PPQ, Artifact, Bounce, Context, Grid, Made, Phrase, Skip, TempoMap
from tests.made_notes import song
from tests.tiny_model import TINY, tiny_arrays

RATE_HZ = 22_050
TEMPO = constant_tempo(180.0, RATE_HZ)
SETTINGS = GenerateSettings(model="tiny", bars=2)
AUDIO, MIDI = ("continuation_audio", "arrangement_audio"), ("continuation", "arrangement")


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes a second each time; where only notes are asked, silence does."""

    def silence(_phrase: Phrase, _tempo: TempoMap, path: Path, *, frames: int, **_: Any) -> None:
        sound.write(sound.silence(2, frames, RATE_HZ), path)

    monkeypatch.setattr("bridge.stages.generate.render", silence)


def put(
    folder: Path, phrase: Phrase, tempo: TempoMap = TEMPO, seconds: float | None = None, **told: Any
) -> dict[str, Any]:
    """A bounce of noise with these notes, and what the stage takes."""
    frames = round((seconds or phrase.length_beats * 60 / tempo.points[0].bpm) * RATE_HZ)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (2, frames)).astype(np.float32)
    noise[:, round(phrase.length_beats * 60 / tempo.points[0].bpm * RATE_HZ) :] = 0.0
    audio.write_float_wav(folder / "Song.wav", noise, RATE_HZ)
    write_midi(folder / "notes_quantised.mid", phrase, tempo)
    known = {"key": "C major", "sings": False, **told}
    write_grid(
        folder / "grid.json",
        Grid(tempo, "set", 1.0, known["key"], 1.0, -14.0, -1.0, known["sings"], ()),
    )
    return {
        "bounce": Bounce(folder / "Song.wav", "Song.wav", "", "mix", RATE_HZ, 2, frames),
        "notes_quantised": Artifact("notes_quantised", "midi", folder / "notes_quantised.mid", ""),
        "grid": Artifact("grid", "json", folder / "grid.json", ""),
    }


def context(
    folder: Path, name: str = "work", report: Callable[[float, float], None] | None = None
) -> Context:
    (folder / name).mkdir()
    weights = folder / "models" / "continuation" / "tiny" / "weights.safetensors"
    if not weights.exists():
        weights.parent.mkdir(parents=True)
        save_weights(weights, tiny_arrays(), TINY)
    return Context(
        folder / name, folder / "models", folder / "voices", report or (lambda _done, _total: None)
    )


def made(
    folder: Path, taken: dict[str, Any], settings: GenerateSettings = SETTINGS, name: str = "work"
) -> Made:
    answer = generate(**taken, settings=settings, context=context(folder, name))
    assert isinstance(answer, Made)
    return answer


def ticks(path: Path) -> set[int]:
    return {sum(message.time for message in track) for track in mido.MidiFile(path).tracks}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_four_files_come_of_exact_lengths(tmp_path: Path) -> None:
    taken = put(tmp_path, song([("A", 4)]))
    answer = made(tmp_path, taken)
    assert set(answer.files) == {*AUDIO, *MIDI}
    assert ticks(answer.files["continuation"]) == {2 * 4 * PPQ}
    assert ticks(answer.files["arrangement"]) == {16 * PPQ}
    frames = {name: audio.probe(answer.files[name]) for name in AUDIO}
    assert frames["arrangement_audio"].frames == taken["bounce"].frames
    assert frames["continuation_audio"].frames == round(8 * 60 / 180 * RATE_HZ)
    assert {info.sample_rate_hz for info in frames.values()} == {RATE_HZ}
    assert answer.facts["continuation_start_frames"] == taken["bounce"].frames


@pytest.mark.usefixtures("unheard")
def test_the_continuation_begins_at_the_bar_line_after_the_music_not_after_its_tail(tmp_path: Path) -> None:
    phrase = song([("A", 4)])
    short = Phrase(tuple(note for note in phrase.notes if note.start_beats < 13.0), 13.5)
    answer = made(tmp_path, put(tmp_path, short, seconds=30.0))
    assert answer.facts["continuation_start_frames"] == round(16 * 60 / 180 * RATE_HZ)
    assert audio.probe(answer.files["arrangement_audio"]).frames == 30 * RATE_HZ


@pytest.mark.usefixtures("unheard")
def test_the_continuation_keeps_the_tempo_that_the_song_ends_in(tmp_path: Path) -> None:
    tempo = tempo_from_changes([(0, 180.0), (4 * RATE_HZ, 120.0)], RATE_HZ)  # 12 beats, then slower
    answer = made(tmp_path, put(tmp_path, song([("A", 4)]), tempo, seconds=6.0))
    assert read_midi(answer.files["continuation"])[1].points[0].bpm == pytest.approx(120.0)
    assert audio.probe(answer.files["continuation_audio"]).frames == 4 * RATE_HZ
    assert answer.facts["continuation_start_frames"] == 6 * RATE_HZ


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    taken = put(tmp_path, song([("A", 2)]))
    first, again = (made(tmp_path, taken, SETTINGS, name) for name in ("one", "two"))
    assert [sha256(first.files[name]) for name in first.files] == [
        sha256(again.files[name]) for name in again.files
    ]
    other = made(tmp_path, taken, replace(SETTINGS, seed=1, mode="continue"), "three")
    assert sha256(first.files["continuation"]) != sha256(other.files["continuation"])


@pytest.mark.usefixtures("unheard")
@pytest.mark.parametrize(("mode", "name"), [("continue", "continuation"), ("arrange", "arrangement")])
def test_one_mode_makes_one_piece(tmp_path: Path, mode: str, name: str) -> None:
    answer = made(
        tmp_path, put(tmp_path, song([("A", 4)])), GenerateSettings(model="tiny", bars=1, mode=mode)
    )
    assert set(answer.files) == {name, f"{name}_audio"}


@pytest.mark.usefixtures("unheard")
def test_it_says_when_no_clear_melody_was_heard(tmp_path: Path) -> None:
    answer = made(tmp_path, put(tmp_path, song([("A", 4)], sung=False)))
    assert "no clear melody was heard: it leans on chords and rhythm" in answer.detail
    assert answer.facts["melody"] == ""
    parts = {note.part for name in MIDI for note in read_midi(answer.files[name])[0].notes}
    assert "lead" not in parts


@pytest.mark.usefixtures("unheard")
def test_it_tells_the_chords_and_the_form(tmp_path: Path) -> None:
    answer = made(tmp_path, put(tmp_path, song([("A", 8)], mistakes=0.0)))
    assert [name for _, _, name in answer.facts["chords"]] == ["C", "G", "Am", "F"] * 2
    assert answer.facts["form"] == "A8"
    assert "an arrangement of A8" in answer.detail


@pytest.mark.usefixtures("unheard")
def test_the_key_stands_in_the_files(tmp_path: Path) -> None:
    answer = made(tmp_path, put(tmp_path, song([("A", 4)])))
    for name in MIDI:
        keys = [
            m.key
            for track in mido.MidiFile(answer.files[name]).tracks
            for m in track
            if m.type == "key_signature"
        ]
        assert keys == ["C"]


@pytest.mark.usefixtures("unheard")
def test_an_arrangement_that_repeats_the_song_is_drawn_again_and_the_newest_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = [0.9, 0.6, 0.7]
    monkeypatch.setattr("bridge.stages.generate.shared_with", lambda _written, _heard: shares.pop(0))
    answer = made(tmp_path, put(tmp_path, song([("A", 4)])), replace(SETTINGS, mode="arrange"))
    assert (answer.facts["arrangement_shared_notes"], shares) == (0.6, [])
    assert "60% of the arrangement is what the song itself plays there" in answer.detail


@pytest.mark.usefixtures("unheard")
def test_what_quotes_the_training_music_is_drawn_again_and_told_if_it_still_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Phrase] = []

    def quote(phrase: Phrase, _index: Any, _more_than: int) -> list[CopiedRun]:
        asked.append(phrase)
        return [CopiedRun("lead", 0.0, 14)] if len(asked) <= quotes else []

    monkeypatch.setattr("bridge.stages.generate.copied_runs", quote)
    taken = put(tmp_path, song([("A", 4)]))
    settings = replace(SETTINGS, mode="continue")
    quotes = 1
    answer = made(tmp_path, taken, settings, "once")
    assert (len(asked), answer.facts["continuation_copied_notes"]) == (2, 0)
    assert "quote" not in answer.detail
    asked.clear()
    quotes = 9
    answer = made(tmp_path, taken, settings, "twice")
    assert (len(asked), answer.facts["continuation_copied_notes"]) == (3, 14)
    assert "continuation quotes 14 notes of the training music: try another generate.seed" in answer.detail


def test_without_notes_there_is_nothing_to_do(tmp_path: Path) -> None:
    answer = generate(**put(tmp_path, Phrase((), 8.0)), settings=SETTINGS, context=context(tmp_path))
    assert isinstance(answer, Skip)
    assert answer.code == "no_notes"


def test_it_stops_when_cancelled(tmp_path: Path) -> None:
    def cancel(_done: float, _total: float) -> None:
        raise Cancelled("stopped")

    taken = put(tmp_path, song([("A", 4)]))
    with pytest.raises(Cancelled):
        generate(**taken, settings=SETTINGS, context=context(tmp_path, report=cancel))


def test_it_stops_when_cancelled_while_the_last_piece_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    def render_for_ever(*_taken: Any, report: Callable[[float, float], None], **_named: Any) -> None:
        try:
            while True:
                report(0, 1)
                time.sleep(0.01)
        finally:
            ended.append("render")

    def cancel(done: float, total: float) -> None:
        if done == total - 1:
            raise Cancelled("stopped")

    monkeypatch.setattr("bridge.stages.generate.render", render_for_ever)
    taken = put(tmp_path, song([("A", 4)]))
    with pytest.raises(Cancelled, match="stopped"):
        generate(**taken, settings=SETTINGS, context=context(tmp_path, report=cancel))
    assert ended == ["render"]


def test_settings_that_name_what_does_not_exist_are_told_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"'banjo' is no part. Parts are lead, piano"):
        digests(GenerateSettings(parts="piano, banjo"))
    with pytest.raises(PresetError, match="can't be read"):
        digests(GenerateSettings(soundfont=str(tmp_path / "none.sf2")))
    with pytest.raises(ModelError, match="no continuation model"):
        models(GenerateSettings(model="nosuch"), tmp_path)


def test_the_manifest_learns_of_the_model_and_of_the_soundfont(tmp_path: Path) -> None:
    context(tmp_path)
    assert [ref.name for ref in models(SETTINGS, tmp_path / "models")] == ["tiny", "TimGM6mb.sf2"]
