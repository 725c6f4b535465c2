"""How soon a draft comes back where the preset asks for htdemucs: `python -m tests.benchmarks.draft_times`.

`[--rounds N] [--seconds S] [--json FILE]`. A real `dawbridge run` with the preset `default`, and htdemucs of the true
architecture with random weights (the published ones can't be had without a network). From the settle time after the last
byte to the draft told as published, as a share of the song's length; in a daemon just started, and then with its workers
warm. And the same for the best result, which replaces it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bridge import audio, manifest
from bridge.audio import Samples
from bridge.config import folders
from tests.benchmarks.daemon_times import SETTLE_S, running_daemon, set_up
from tests.benchmarks.separation import put_true_size, song
from tests.benchmarks.versus import machine, tell
from tests.song_a import RATE_HZ
from tests.test_daemon import RunningDaemon

GOAL = 0.25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=38.0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    before = machine()
    cold: list[tuple[float, float]] = []
    warm: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as place:
        home = set_up(Path(place))
        put_true_size(folders().models)
        for number in range(asked.rounds):
            with running_daemon(home, "--preset", "default") as (running, _):
                cold.append(_one(running, f"Cold{number}", asked.seconds))
                warm.append(_one(running, f"Warm{number}", asked.seconds))
    rows = []
    for kind, shares in (("just started", cold), ("warm", warm)):
        drafts, bests = zip(*shares, strict=True)
        share = statistics.median(drafts)
        rows.append(
            {
                "what": f"the draft of {asked.seconds:g} s, {kind}: share of the song's length",
                "value": round(share, 3),
                "goal": f"<= {GOAL}",
                "holds": share <= GOAL,
                "all": [round(each, 3) for each in drafts],
            }
        )
        best = {"what": f"the best of it, {kind}", "value": round(statistics.median(bests), 3), "goal": ""}
        rows.append(best | {"holds": None, "all": [round(each, 3) for each in bests]})
    return tell(rows, before, asked.json)


def _one(running: RunningDaemon, name: str, seconds: float) -> tuple[float, float]:
    """When draft and best were published after the settle time, in lengths of the song."""
    audio.write_float_wav(running.inbox / f"{name}.wav", _song(name, seconds), RATE_HZ)
    settled = time.monotonic() + SETTLE_S
    told = running.wait_for("job", 600.0, draft=True)
    draft_s = time.monotonic() - settled
    best = running.wait_for("job", 1800.0, draft=False)
    best_s = time.monotonic() - settled
    assert (told["state"], best["state"]) == ("done", "done"), (told, best)
    assert manifest.read_manifest(Path(best["folder"])).replaces == told["id"]
    return draft_s / seconds, best_s / seconds


def _song(name: str, seconds: float) -> Samples:
    whole = song(min(38.0, seconds))
    samples = np.tile(whole, (1, int(np.ceil(seconds * RATE_HZ / whole.shape[1]))))[
        :, : round(seconds * RATE_HZ)
    ]
    samples[:, 0] = sum(name.encode()) / 2**16  # nothing of it is known
    return samples


if __name__ == "__main__":
    sys.exit(main())
