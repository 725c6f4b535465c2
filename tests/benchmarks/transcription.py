"""How fast three stems of a song are heard, beside `basic_pitch.inference.predict` on each, with the same raw notes.

`python -m tests.benchmarks.transcription [--threads N] [--rounds N] [--json FILE]`. Both sides read the same three
files, resample, run the network and decode notes, with everything loaded before. "Raw notes" are what basic-pitch's
own decoding makes of either side's posteriorgrams (the bridge decodes them in a way of its own, which leaves out
harmonics). They are equal for the same samples, over the frames that both have: predict() reckons with 86 frames a
second where there are 86.13, and so leaves out the last quarter of a second of 38 s. From the file the two sides resample
by different filters.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.types import Stem
from tests.benchmarks.versus import Work, machine, table, tell, turn_by_turn
from tests.song_a import RATE_HZ, true_stem

STEMS: tuple[Stem, ...] = ("vocals", "bass", "other")
FOLDER = "DAWBRIDGE_BENCHMARK_STEMS"
GOAL = 0.85


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        for stem in STEMS:
            audio.write_float_wav(_files()[stem], true_stem(stem), RATE_HZ)
        ways = {side: f"{__spec__.name}:{side}" for side in ("ours", "peer")}
        times = turn_by_turn(ways, rounds=asked.rounds, threads=asked.threads)
        same = turn_by_turn({"ours": f"{__spec__.name}:ours_of_the_peers_samples"}, rounds=0)["ours"].answer
    figures = table(times["ours"], times["peer"])
    heard = times["peer"].answer
    shared = min(_shared(times["ours"].answer[stem], heard[stem]) for stem in STEMS)
    same_shared = min(_shared(same[stem], heard[stem]) for stem in STEMS)
    what = f"three stems of 38 s, threads: {asked.threads}"
    rows = [
        {
            "what": f"{what}: wall time of predict()'s, warm",
            "value": figures["ratio_warm"],
            "goal": f"<= {GOAL}",
            "holds": figures["ratio_warm"] <= GOAL,
            **figures,
        },
        {"what": f"{what}: cold", "value": figures["ratio_cold"], "goal": "", "holds": None},
        {
            "what": "raw notes that both have of the same samples, least of the stems",
            "value": round(same_shared, 4),
            "goal": "1.0",
            "holds": same_shared == 1.0,
        },
        {
            "what": "the same of the same files, each with its own resampling",
            "value": round(shared, 4),
            "goal": "",
            "holds": None,
        },
    ]
    return tell(rows, before, asked.json)


def ours() -> Work:
    from bridge.analysis.spectrum import heard_mono
    from bridge.transcribers import pitched

    def hear(file: Path) -> tuple[Any, Any]:
        samples, rate_hz = audio.read_raw(file)
        mono = audio.resample(heard_mono(samples), rate_hz, pitched.RATE_HZ)
        heard = pitched.posteriorgrams(mono, lambda done, total: None)
        pitched.transcribe_pitched(heard, mono, 28, 100)
        return heard.note, heard.onset

    return lambda: {stem: hear(file) for stem, file in _files().items()}


def ours_of_the_peers_samples() -> Work:
    import librosa

    from bridge.transcribers import pitched

    def hear(file: Path) -> tuple[Any, Any]:
        samples, _ = librosa.load(str(file), sr=pitched.RATE_HZ, mono=True)
        heard = pitched.posteriorgrams(samples[np.newaxis], lambda done, total: None)
        return heard.note, heard.onset

    return lambda: {stem: hear(file) for stem, file in _files().items()}


def peer() -> Work:
    from basic_pitch import FilenameSuffix, build_icassp_2022_model_path
    from basic_pitch.inference import Model, predict

    model = Model(build_icassp_2022_model_path(FilenameSuffix.onnx))

    def hear(file: Path) -> tuple[Any, Any]:
        with contextlib.redirect_stdout(io.StringIO()):
            output, _, _ = predict(file, model)
        return output["note"], output["onset"]

    return lambda: {stem: hear(file) for stem, file in _files().items()}


def _files() -> dict[str, Path]:
    return {stem: Path(os.environ[FOLDER], f"{stem}.wav") for stem in STEMS}


def _shared(ours: tuple[Any, Any], peer: tuple[Any, Any]) -> float:
    """Twice the number of common notes over the number of all."""
    mine, theirs = _raw_notes(*(each[: len(peer[0])] for each in ours)), _raw_notes(*peer)
    left = list(theirs)
    for start, end, pitch in mine:
        twin = next(
            (n for n in left if n[2] == pitch and abs(n[0] - start) <= 1 and abs(n[1] - end) <= 1), None
        )
        if twin is not None:
            left.remove(twin)
    return 2 * (len(theirs) - len(left)) / max(1, len(mine) + len(theirs))


def _raw_notes(note: Any, onset: Any) -> list[tuple[int, int, int]]:
    from basic_pitch.note_creation import output_to_notes_polyphonic

    found = output_to_notes_polyphonic(
        np.array(note),
        np.array(onset),
        0.5,
        0.3,
        min_note_len=11,
        infer_onsets=True,
        min_freq=None,
        max_freq=None,
    )
    return [(int(start), int(end), int(pitch)) for start, end, pitch, _ in found]


if __name__ == "__main__":
    sys.exit(main())
