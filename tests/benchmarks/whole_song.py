"""How long a 38 s song takes through the preset `offline`, beside its stages' peers run one after another by hand.

`python -m tests.benchmarks.whole_song [--rounds N] [--cold N] [--threads N] [--json FILE]`.

Ours: the job as the daemon runs it, all nine stages with report and publishing; cold from the start of a process to
the published folder, warm with loaded workers and nothing of the song in the cache (each round's song differs by a
sample). The peers, in one process, each loaded before the warm rounds, one after another: Spleeter's networks in
eager torch with the bridge's own transforms, and `librosa.decompose.hpss` for the drums; `librosa.beat.beat_track`,
`chroma_cqt` and loudness by pyloudnorm; `basic_pitch.predict` on vocals, bass and other, and librosa's onsets for the
drums; the music by the same network in eager torch with remembered keys and values; the voice by the same Praat
calls; effects by the same pedalboard chain; the same mix. Report, manifest, tags and publishing have no peer and
count on our side only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import itertools
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.types import Artifact, Bounce, Context
from tests.benchmarks.separation import MODELS, song
from tests.benchmarks.versus import Work, machine, table, tell, turn_by_turn
from tests.song_a import RATE_HZ, put_grid, put_stems

FOLDER = "DAWBRIDGE_BENCHMARK_SONG"
SECONDS = 38.0
GOAL = 0.6
STAGES = 9
_OPEN: list[contextlib.AsyncExitStack] = []  # what must outlive the function that opened it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        put_inputs(Path(folder))
        ways = {side: f"{__spec__.name}:{side}" for side in ("ours", "peer")}
        times = turn_by_turn(ways, rounds=asked.rounds, cold_rounds=asked.cold, threads=asked.threads)
    figures = table(times["ours"], times["peer"])
    states = times["ours"].answer
    what = f"{SECONDS:.0f} s through preset offline, threads: {asked.threads}"
    rows: list[dict[str, Any]] = [
        {
            "what": f"{what}: wall time of its peers' sum, {kind}",
            "value": figures[f"ratio_{kind}"],
            "goal": f"<= {GOAL}",
            "holds": figures[f"ratio_{kind}"] <= GOAL,
        }
        for kind in ("warm", "cold")
    ]
    rows[0] |= figures | {"stages_s": states, "peers_s": times["peer"].answer}
    rows.append(
        {
            "what": "stages of that job that were done, none from the cache",
            "value": len(states),
            "goal": str(STAGES),
            "holds": len(states) == STAGES,
        }
    )
    return tell(rows, before, asked.json)


def put_inputs(folder: Path) -> None:
    """The song, and what the peers of later stages start from: true stems and grid, and their notes."""
    from bridge.stages.transcribe import TranscribeSettings, transcribe

    os.environ[FOLDER] = str(folder)
    os.environ[MODELS] = str(folder / "models")
    audio.write_float_wav(folder / "song_100bpm.wav", song(SECONDS), RATE_HZ)
    stems, grid = put_stems(folder, SECONDS), put_grid(folder)
    transcribe(stems, grid, settings=TranscribeSettings(), context=_context("notes"))


def ours() -> Work:
    from bridge.config import Folders, folders
    from bridge.jobs import JobResult, run_job
    from bridge.workshop import open_workshop, take_up

    home = Path(tempfile.mkdtemp(dir=_folder()))
    os.environ["DAWBRIDGE_HOME"] = str(home)
    loop = asyncio.new_event_loop()
    stack = contextlib.AsyncExitStack()
    places: Folders = folders()
    shop = loop.run_until_complete(stack.enter_async_context(open_workshop(places)))
    _OPEN.append(stack)
    counter = itertools.count(1)

    async def one(path: Path) -> JobResult:
        job = await asyncio.to_thread(take_up, path, shop, preset="offline", outbox=home / "outbox")
        shop.ledger.add_job(job, path)
        return await run_job(job, shop, lambda event: None, threading.Event())

    def work() -> dict[str, float]:
        number = next(counter)
        samples = song(SECONDS)
        samples[:, 0] = number / 2**16  # another song, as far as any cache can tell
        path = home / f"song{number}_100bpm.wav"
        audio.write_float_wav(path, samples, RATE_HZ)
        result = loop.run_until_complete(one(path))
        assert result.state == "done", result.detail
        return {event.stage: round(event.seconds, 2) for event in result.stages if event.state == "done"}

    return work


def peer() -> Work:
    if hasattr(os, "nice"):
        os.nice(5)  # as the bridge's workers are, so that whatever runs beside hits both alike

    import librosa
    import pyloudnorm
    import torch
    from basic_pitch import FilenameSuffix, build_icassp_2022_model_path
    from basic_pitch.inference import Model, predict

    from bridge.separators import spleeter
    from bridge.separators.spectral import mask_sounds
    from tests.benchmarks.separation import spleeter_nets

    folder, number = _folder(), itertools.count()
    mix = song(SECONDS)
    nets = spleeter_nets()
    model = Model(build_icassp_2022_model_path(FilenameSuffix.onnx))
    later = _later_stages()

    def mask(magnitude: Any) -> Any:
        seen = np.zeros((1, 2, spleeter.BLOCK, spleeter.SEEN_BINS), np.float32)
        seen[0, :, : magnitude.shape[1]] = magnitude[:, :, : spleeter.SEEN_BINS]
        with torch.inference_mode():
            heard = [net(torch.from_numpy(seen))[0].numpy() for net in nets]
        return spleeter.ratio_mask(heard, magnitude)[None]

    def separate() -> None:
        (vocals,) = mask_sounds(mix, mask, 1, lambda done, total: None, block=spleeter.BLOCK)
        librosa.decompose.hpss(librosa.stft(mix - vocals, n_fft=4096, hop_length=1024))

    def analyse() -> None:
        mono = audio.to_mono(mix)[0]
        librosa.beat.beat_track(y=mono, sr=RATE_HZ)
        librosa.feature.chroma_cqt(y=mono, sr=RATE_HZ)
        pyloudnorm.Meter(RATE_HZ).integrated_loudness(mix.T)

    def transcribe() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            for stem in ("vocals", "bass", "other"):
                predict(folder / "stems" / f"{stem}.wav", model)
        drums, _ = audio.read_raw(folder / "stems" / "drums.wav")
        librosa.onset.onset_detect(y=audio.to_mono(drums)[0], sr=RATE_HZ)

    def work() -> dict[str, float]:
        import time

        took: dict[str, float] = {}
        turn = f"peer{next(number)}-{os.getpid()}"
        steps = {"separate": separate, "analyse": analyse, "transcribe": transcribe, **later(turn)}
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            took[name] = round(time.perf_counter() - began, 2)
        return took

    return work


def _later_stages() -> Any:
    """generate on eager torch, and convert, effects and mix as they are."""
    from bridge.stages import convert, effects, generate, mix
    from bridge.transformer import sample, shipped
    from tests.benchmarks import torch_engine

    folder = _folder()
    song_file = folder / "song_100bpm.wav"
    digest = hashlib.sha256(song_file.read_bytes()).hexdigest()
    bounce = Bounce(song_file, song_file.name, digest, "mix", RATE_HZ, 2, round(SECONDS * RATE_HZ))
    stems = Artifact("stems", "stems", folder / "stems", "")
    grid = Artifact("grid", "json", folder / "grid.json", "")
    notes = Artifact("notes_quantised", "midi", folder / "notes" / "notes_quantised.mid", "")
    decoder = torch_engine.TorchDecoder(shipped.weights_path(shipped.SHIPPED, folder / "models"))
    vars(sample)["Memory"] = torch_engine.TorchMemory
    vars(shipped)["load_model"] = lambda name, models_dir: decoder

    def steps(turn: str) -> dict[str, Any]:
        made: dict[str, Artifact] = {}

        def run(stage: Any, settings: Any, **inputs: Any) -> None:
            result = stage(settings=settings, context=_context(f"{turn}-{stage.__name__}"), **inputs)
            made.update({name: Artifact(name, "audio", path, "") for name, path in result.files.items()})

        return {
            "generate": lambda: run(
                generate.generate,
                generate.GenerateSettings(),
                bounce=bounce,
                notes_quantised=notes,
                grid=grid,
            ),
            "convert": lambda: run(
                convert.convert, convert.ConvertSettings(voice="bright"), stems=stems, grid=grid
            ),
            "effects": lambda: run(
                effects.effects, effects.EffectsSettings(), stems=stems, grid=grid, voice=made["voice"]
            ),
            "mix": lambda: run(
                mix.mix,
                mix.MixSettings(),
                stems=stems,
                grid=grid,
                lead=made["lead"],
                arrangement_audio=made["arrangement_audio"],
                backing=made.get("backing"),
            ),
        }

    return steps


def _context(name: str) -> Context:
    workdir = _folder() / name
    workdir.mkdir()
    return Context(workdir, _folder() / "models", _folder() / "voices", lambda done, total: None)


def _folder() -> Path:
    return Path(os.environ[FOLDER])


if __name__ == "__main__":
    sys.exit(main())
