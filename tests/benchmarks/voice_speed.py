"""How fast a trained voice sings beside so-vits-svc-fork's own `infer_silence`, and how much memory it takes.

`python -m tests.benchmarks.voice_speed [--seconds 12] [--rounds 3] [--memory-minutes 10] [--templates ...]` prints JSON. Networks of the
package's own templates with random weights, full size, and one HuBERT of base size with random weights, the same
object for both sides. The sides take turns in one process, so that a loaded machine loads both.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.voices import encoders, passages, sovits
from bridge.voices.consent import Consent, require_consent, write_consent
from bridge.voices.encoders import Encoder
from bridge.voices.f0 import HOP_S, F0Track
from bridge.voices.folder import read_card, write_card
from bridge.voices.imported import import_voice
from bridge.voices.passages import cuts, on_grid
from tests.sung import sing
from tests.tiny_voice import put_voice

RATE_HZ = 44_100
TEMPLATES = ("quickvc", "so-vits-svc-4.0v1")
TODAY = datetime.date(2026, 11, 22)
CONSENT = Consent("nobody", "nobody", "Random weights.", "personal", datetime.date(2026, 1, 1))


def measure(template: str, hubert: Any, seconds: float, rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds of both sides in turn, after one round that warms up, and what of the gap between phrases is kept."""
    model = put_template(template, folder / template)
    voice = open_voice(model, template, hubert, folder)
    theirs = package_svc(model, hubert)
    vocal, f0, gap = made_vocal(seconds)
    sides: dict[str, Callable[[], Any]] = {
        # Both find f0 by the package's own way, which is part of infer_silence.
        "dawbridge": lambda: voice.convert(vocal[None], RATE_HZ, package_f0(vocal), 0),
        "infer_silence": lambda: theirs.infer_silence(vocal, speaker="nobody", f0_method="parselmouth"),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    made: dict[str, Any] = {}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            started_s = time.perf_counter()
            made[name] = side()
            taken[name].append(time.perf_counter() - started_s)
    ratios = [ours / other for ours, other in zip(*(taken[name][1:] for name in sides), strict=True)]
    return {
        "template": template,
        "seconds_of_vocal": round(vocal.size / RATE_HZ, 1),
        "took_s": {name: [round(t, 2) for t in times[1:]] for name, times in taken.items()},
        "ratio": round(statistics.median(ratios), 3),
        "gap_db": {
            "source": level(vocal[gap]),
            "dawbridge": level(made["dawbridge"][0][gap]),
            "infer_silence": level(np.asarray(made["infer_silence"])[gap]),
        },
        "a_chunk_border_clicks_by_dbfs": border_step(voice, vocal, f0),
    }


def put_template(template: str, folder: Path) -> Path:
    """A G_0.pth with random weights and its config.json, as the package's template says."""
    import so_vits_svc_fork
    import torch

    path = Path(so_vits_svc_fork.__file__).parent / "preprocessing" / "config_templates" / f"{template}.json"
    table = json.loads(path.read_text(encoding="utf-8")) | {"spk": {"nobody": 0}}
    sizes = {key: value for key, value in table["model"].items() if key != "pretrained"}
    table["model"] = sizes
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(table), encoding="utf-8")
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):
        network = sovits.package().SynthesizerTrn(1025, 20, **sizes)
    checkpoint = {"model": network.state_dict(), "iteration": 0, "optimizer": None, "learning_rate": 0.0}
    torch.save(checkpoint, folder / "G_0.pth")
    return folder / "G_0.pth"


def open_voice(model: Path, name: str, hubert: Any, folder: Path) -> sovits.SovitsVoice:
    """Our side, with `hubert` in the place of its encoder."""
    voices = folder / "voices"
    import_voice(model, name, voices)
    write_card(voices / name, replace(read_card(voices / name), encoder="stand-in"))
    write_consent(name, CONSENT, voices)
    stand_ins = {"stand-in": lambda models_dir, place, final_proj: encoder_of(hubert)}
    encoders.ENCODERS = {**encoders.ENCODERS, **stand_ins}
    return sovits.SovitsVoice(require_consent(name, voices, TODAY), folder / "models", lambda: TODAY)


def encoder_of(hubert: Any) -> Encoder:
    """`hubert` as our encoder calls it."""
    import torch

    def encode(samples: Any) -> Any:
        sound = torch.from_numpy(np.pad(samples, (0, 400 - encoders.HOP_FRAMES)))[None]
        with torch.inference_mode():
            return hubert(sound).last_hidden_state[0].numpy()

    return Encoder("random", 768, "", encode)


def package_svc(model: Path, hubert: Any) -> Any:
    """The package's own Svc, which would download its encoder."""
    with warnings.catch_warnings(action="ignore"):
        from so_vits_svc_fork import utils
        from so_vits_svc_fork.inference.core import Svc

        vars(utils)["get_hubert_model"] = lambda device, final_proj: hubert
        return Svc(net_g_path=model, config_path=model.with_name("config.json"), device="cpu")


def package_f0(vocal: Any) -> F0Track:
    """f0 as infer_silence finds it."""
    from so_vits_svc_fork import f0

    hop = round(HOP_S * RATE_HZ)
    hz = f0.compute_f0(vocal, sampling_rate=RATE_HZ, hop_length=hop, method="parselmouth")
    return F0Track(np.asarray(hz, dtype=np.float64), np.ones(len(hz)))


def made_vocal(seconds: float) -> tuple[Any, F0Track, slice]:
    """A made vocal of about `seconds` with a second of room noise in its middle: (frames,), its f0, the gap."""
    phrase = sing((57, 60, 62, 64) * max(1, round((seconds - 1) / 2 / 2.4)))
    noise = np.random.default_rng(1).standard_normal(RATE_HZ) * 10 ** (-70 / 20)
    vocal = np.concatenate([phrase.samples, noise, phrase.samples]).astype(np.float32)
    hops = -(-vocal.size // round(HOP_S * RATE_HZ))
    hz = np.zeros(hops)
    second = round((phrase.samples.size / RATE_HZ + 1) / HOP_S)
    hz[: phrase.hz.size] = phrase.hz
    hz[second : second + phrase.hz.size] = phrase.hz[: hops - second]
    return (
        vocal,
        F0Track(hz, np.ones(hops)),
        slice(phrase.samples.size + 8820, phrase.samples.size + RATE_HZ - 8820),
    )


def border_step(voice: sovits.SovitsVoice, vocal: Any, f0: F0Track) -> float | None:
    """By how many dBFS the loudest step near a chunk's border passes the loudest elsewhere; None where none does."""
    network = voice._network
    hops = int(4.0 / network.hop_s)
    hz, voiced = on_grid(f0, hops, network.hop_s)
    features = voice._features(vocal, RATE_HZ, 0, hops)
    found: list[list[int]] = []

    def listen(levels: Any, longest: int) -> list[int]:
        found.append(cuts(levels, longest))
        return found[-1]

    usual = sovits.CHUNK_S
    try:
        sovits.CHUNK_S, vars(passages)["cuts"] = 1.5, listen
        sound = sovits._sing(network, features, hz, voiced)
    finally:
        sovits.CHUNK_S, vars(passages)["cuts"] = usual, cuts
    steps = np.abs(np.diff(sound, n=2))
    is_near = np.zeros(steps.size, dtype=bool)
    for border in found[0][1:-1]:
        middle, reach = border * network.config.data.hop_length, round(0.04 * RATE_HZ)
        is_near[middle - reach : middle + reach] = True
    excess = float(steps[is_near].max() - steps[~is_near].max())
    return round(audio.amplitude_to_db(excess), 1) if excess > 0 else None


def memory(minutes: float, folder: Path) -> dict[str, Any]:
    """Megabytes at most after a vocal of 20 s and after one of `minutes`, in one call each.

    With small networks: what grows with the length are the arrays around them, which are as large as ever.
    """
    made = put_voice(folder, folder / "voices", "ada", kind="hifi-gan")
    permit = require_consent("ada", folder / "voices", TODAY)
    voice = sovits.SovitsVoice(permit, folder / "models", lambda: TODAY)
    assert made.card.encoder_folder
    phrase, f0, _ = made_vocal(20.0)
    found = {}
    for name, times in (("20 s", 1), (f"{minutes:g} min", round(minutes * 3))):
        vocal = np.tile(phrase, (2, times))
        long_f0 = F0Track(np.tile(f0.hz, times), np.tile(f0.confidence, times))
        before_mb = peak_mb(forget=True)
        voice.convert(vocal, RATE_HZ, long_f0, 0)
        found[name] = {"before_mb": before_mb, "peak_mb": peak_mb(), "vocal_mb": round(vocal.nbytes / 1e6)}
    return {"memory": found}


def peak_mb(*, forget: bool = False) -> int:
    """The most memory this process has had, in MB, since it was last forgotten (Linux)."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    told = Path("/proc/self/status").read_text()
    return round(int(told.partition("VmHWM:")[2].split()[0]) / 1024)


def level(sound: Any) -> float | None:
    """dBFS, None for digital silence."""
    found = audio.rms_db(np.asarray(sound)[None])
    return round(found, 2) if np.isfinite(found) else None


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-minutes", type=float, default=0.0)
    parser.add_argument("--templates", nargs="*", default=TEMPLATES)
    asked = parser.parse_args()
    sovits.package()
    logging.getLogger("so_vits_svc_fork").setLevel(logging.ERROR)
    import torch
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    build: Any = HubertModel
    hubert = build(HubertConfig()).eval()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = [measure(name, hubert, asked.seconds, asked.rounds, folder) for name in asked.templates]
        table: dict[str, Any] = {
            "load": os.getloadavg()[0],
            "threads": torch.get_num_threads(),
            "speed": rows,
        }
        if asked.memory_minutes:
            table |= memory(asked.memory_minutes, folder)
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
