"""How well the whole bridge does on song_a, whose truth is known: the README's table, and the test's.

`uv run python -m tests.benchmarks.song_a [--json]` runs `dawbridge process --preset offline` on the mix and,
by `--role`, on each true part, and prints every figure beside its goal and beside what doing nothing, or
plain basic-pitch, gives. A null proves that nothing was lost; only the SDR beside it tells the quality.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from bridge import manifest
from bridge.audio import Samples, read_raw, rms_db
from bridge.harmony.chords import find_chords
from bridge.midi import read_midi
from bridge.process import process_file
from bridge.types import STEMS, StageEvent
from tests.scoring import Score, TimedNote, drum_f1, note_f1, onset_f1, sdr_db, timed_notes
from tests.song_a import DATA, true_stem

TRUE_BPM = 100.0
LITTLE_NEW_MUSIC = {"generate": {"mode": "continue", "bars": 1}}  # nothing here measures it


@dataclass(frozen=True)
class Row:
    """One figure. `sign` is how value and goal must compare; a goal of None is there to look at."""

    what: str
    value: float
    sign: str = ">="
    goal: float | None = None
    baseline: float | None = None  # what doing nothing, or the plain peer, gives
    unit: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether the goal holds."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.sign == ">=" else self.value <= self.goal


def process(song: Path, outbox: Path, role: str = "") -> Path:
    """The returned folder of one file, through the same path as the command."""

    def ignore(_event: StageEvent) -> None:
        return None

    result = asyncio.run(process_file(song, outbox, "offline", role, LITTLE_NEW_MUSIC, ignore))
    assert result.folder is not None, result.detail
    assert result.state == "done", result.detail
    return result.folder


def measure_mix(outbox: Path) -> list[Row]:
    """Everything about the mix."""
    folder = process(DATA / "mix.flac", outbox)
    return [*_separation(folder), *_grid(folder), *_notes(folder)]


def measure_parts(outbox: Path) -> list[Row]:
    """The notes of each true part, given by its role."""
    rows = []
    for role, goal in (("bass", 0.95), ("other", 0.75)):
        folder = process(DATA / f"{role}.flac", outbox, role)
        score = note_f1(DATA / f"{role}.mid", next(folder.glob("*_notes.mid")))
        rows.append(Row(f"notes of the true {role}, F1", score.f1, ">=", goal))
    folder = process(DATA / "drums.flac", outbox, "drums")
    hits = drum_f1(DATA / "drums.mid", next(folder.glob("*_notes.mid")))
    rows += [Row(f"{name} of the true drums, F1", score.f1, ">=", 0.85) for name, score in hits.items()]
    return rows


def plain_basic_pitch() -> dict[str, float]:
    """Onset F1 of basic-pitch's own `predict` with its defaults, by the row it stands beside."""
    from basic_pitch import FilenameSuffix, build_icassp_2022_model_path
    from basic_pitch.inference import Model, predict

    model = Model(build_icassp_2022_model_path(FilenameSuffix.onnx))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        music = Path(folder) / "accompaniment.wav"
        soundfile.write(music, (true_stem("bass") + true_stem("other") + true_stem("drums")).T, 44100)
        jobs: Sequence[tuple[str, Path, Sequence[Path]]] = (
            ("notes of bass and other, F1", music, (DATA / "bass.mid", DATA / "other.mid")),
            ("notes of the true bass, F1", DATA / "bass.flac", (DATA / "bass.mid",)),
            ("notes of the true other, F1", DATA / "other.flac", (DATA / "other.mid",)),
        )
        for row, audio, truth in jobs:
            _, heard, _ = predict(audio, model)
            heard.write(str(Path(folder) / "heard.mid"))
            found[row] = note_f1(truth, Path(folder) / "heard.mid").f1
    return found


def _separation(folder: Path) -> Iterable[Row]:
    mix, _ = read_raw(DATA / "mix.flac")
    stems = {name: read_raw(next(folder.glob(f"*_{name}.wav")))[0] for name in STEMS}
    rest = mix - stems["vocals"]
    true_rest = mix - true_stem("vocals")
    yield Row(
        "SDR of vocals",
        sdr_db(true_stem("vocals"), stems["vocals"]),
        ">=",
        11.5,
        _nothing("vocals", mix),
        "dB",
    )
    yield Row(
        "SDR of everything else, summed", sdr_db(true_rest, rest), ">=", 13.5, sdr_db(true_rest, mix), "dB"
    )
    for name in ("drums", "bass", "other"):
        yield Row(
            f"SDR of {name} (approximate)",
            sdr_db(true_stem(name), stems[name]),
            ">=",
            None,
            _nothing(name, mix),
            "dB",
        )
    residual = (mix - np.sum(list(stems.values()), axis=0, dtype=np.float64)).astype(np.float32)
    yield Row("null: bounce minus the stems", max(rms_db(residual), -200.0), "<=", -90.0, None, "dB")


def _nothing(stem: str, mix: Samples) -> float:
    return sdr_db(true_stem(stem), mix)  # type: ignore[arg-type]


def _grid(folder: Path) -> Iterable[Row]:
    told = manifest.read_manifest(folder)
    assert told.tempo is not None
    yield Row("tempo, off by", abs(told.tempo.bpm - TRUE_BPM), "<=", 0.5, None, "bpm")
    downbeat_ms = abs(told.tempo.first_downbeat_frames) / told.bounce.sample_rate_hz * 1000
    yield Row("first downbeat, off by", downbeat_ms, "<=", 30.0, None, "ms")
    yield Row("key is C major", float(told.key == "C major"), ">=", 1.0)
    yield Row("4/4, and somebody sings", float(told.tempo.beats_per_bar == 4 and bool(told.sings)), ">=", 1.0)


def _notes(folder: Path) -> Iterable[Row]:
    for kind in ("notes", "notes_quantised"):
        heard = next(folder.glob(f"*_{kind}.mid"))
        goal = 0.70 if kind == "notes" else None
        score = note_f1((DATA / "bass.mid", DATA / "other.mid"), heard, ("bass", "other"))
        what = "notes of bass and other, F1" + ("" if goal else ", quantised")
        yield Row(what, score.f1, ">=", goal)
    heard = next(folder.glob("*_notes.mid"))
    for name, score in drum_f1(DATA / "drums.mid", heard).items():
        yield Row(f"{name}, F1", score.f1, ">=", None if name == "hat" else 0.6)
    yield Row("notes of vocals, F1", _sung_notes(heard).f1)
    yield Row(
        "chords, share of half bars right", _right_chords(next(folder.glob("*_quantised.mid"))), ">=", 0.9
    )


def _sung_notes(heard: Path) -> Score:
    """Onsets of the melody alone: its pitch goes through a vocoder, its onsets are those of truth.json."""
    truth = json.loads((DATA / "truth.json").read_text(encoding="utf-8"))
    step_s = truth["melody_step_beats"] * 60.0 / truth["bpm"]
    starts = [
        begin + i * step_s for begin in truth["melody_starts_s"] for i in range(len(truth["melody_midi"]))
    ]
    sung: list[TimedNote] = [note for note in timed_notes(heard) if note.part == "vocals"]
    return onset_f1(starts, [note.start_s for note in sung])


def _right_chords(heard: Path) -> float:
    """Root and quality, half bar by half bar, without being told the key."""
    truth = json.loads((DATA / "truth.json").read_text(encoding="utf-8"))
    bar_beats = float(truth["beats_per_bar"])
    found = find_chords(read_midi(heard)[0], bar_beats)
    right = 0
    for half in range(2 * truth["bars"]):
        middle = (half + 0.5) * bar_beats / 2
        name = next(chord.name for chord in found if chord.start_beats <= middle < chord.end_beats)
        right += name == truth["chords"][half // 2 % len(truth["chords"])]
    return right / float(2 * truth["bars"])


def _print(rows: Sequence[Row]) -> None:
    table = Table(
        "song_a", "found", "goal", "doing nothing / plain basic-pitch", box=None, header_style="bold"
    )
    for row in rows:
        goal = "-" if row.goal is None else f"{row.sign} {row.goal:g}"
        colour = "green" if row.is_reached else "red"
        baseline = "-" if row.baseline is None else f"{row.baseline:.2f}"
        table.add_row(row.what, f"[{colour}]{row.value:.2f}[/] {row.unit}", goal, baseline)
    Console(width=110).print(table)


def main() -> None:
    """Print the table; exit status 1 if a goal is missed."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["DAWBRIDGE_HOME"] = home
        rows = [*measure_mix(Path(home) / "outbox"), *measure_parts(Path(home) / "outbox")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = plain_basic_pitch()
    rows = [Row(**{**asdict(row), "baseline": plain.get(row.what, row.baseline)}) for row in rows]
    if "--json" in sys.argv:
        print(json.dumps([asdict(row) | {"reached": row.is_reached} for row in rows], indent=1))
    else:
        _print(rows)
    sys.exit(0 if all(row.is_reached for row in rows) else 1)


if __name__ == "__main__":
    main()
