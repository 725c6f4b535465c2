"""How fast a trained voice sings beside so-vits-svc-fork's own `infer_silence`, and how much memory it takes.

`python -m tests.benchmarks.voice_speed [--seconds 12] [--rounds 3] [--memory-minutes 10]` prints JSON. Networks of the
package's own templates with random weights, full size, and one HuBERT of base size with random weights, the same
object for both sides. The sides take turns in one process, so that a loaded machine loads both.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bridge import audio
from bridge.voices import encoders, sovits
from bridge.voices.consent import Consent, require_consent, write_consent
from bridge.voices.encoders import Encoder
from bridge.voices.f0 import HOP_S, F0Track
from bridge.voices.imported import import_voice
from bridge.voices.passages import sung_spans
from tests.sung import sing

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
        "loudest_step_at_a_chunk_border_dbfs": border_step(voice, vocal, f0),
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
    made = import_voice(model, name, voices)
    write_consent(name, CONSENT, voices)
    network = sovits.load_voice(made.folder, made.card)
    permit = require_consent(name, voices, TODAY)
    return sovits.SovitsVoice(permit, made.card, network, encoder_of(hubert), lambda: TODAY)


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


def border_step(voice: sovits.SovitsVoice, vocal: Any, f0: F0Track) -> float:
    """How much more the loudest step near a chunk's border is than the loudest anywhere in the uncut passage."""
    whole = voice.convert(vocal[None], RATE_HZ, f0, 0)
    longest, sovits.CHUNK_S = sovits.CHUNK_S, 1.5
    try:
        cut = voice.convert(vocal[None], RATE_HZ, f0, 0)
    finally:
        sovits.CHUNK_S = longest
    steps = [float(np.abs(np.diff(sound[0], n=2)).max()) for sound in (whole, cut)]
    return round(audio.amplitude_to_db(max(steps[1] - steps[0], 1e-9)), 1)


def memory(hubert: Any, minutes: float, folder: Path) -> dict[str, Any]:
    """Megabytes at most, for a vocal of 20 s and for one of `minutes`, in one call each."""
    voice = open_voice(put_template("quickvc", folder / "memory"), "memory", hubert, folder)
    found = {}
    for name, seconds in (("20 s", 20.0), (f"{minutes:g} min", 60.0 * minutes)):
        vocal, f0, _ = made_vocal(seconds)
        assert len(sung_spans(vocal, RATE_HZ, f0)) == 2
        voice.convert(vocal[None], RATE_HZ, f0, 0)
        found[name] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {"peak_mb": found}


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
            table |= memory(hubert, asked.memory_minutes, folder)
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
