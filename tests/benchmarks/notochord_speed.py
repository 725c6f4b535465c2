"""How long Notochord 0.8 takes for an event, with random weights; it pins an older torch than ours.

So it runs in an environment of its own, by that one's Python: `PYTHON notochord_speed.py EVENTS_BEFORE EVENTS`.
A note is two events there: its start and its end.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time


def main() -> None:
    before, events = int(sys.argv[1]), int(sys.argv[2])
    os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp()  # it makes a folder where it is imported
    import torch
    from notochord import Notochord  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    torch.manual_seed(0)
    chance = random.Random(0)
    model = Notochord()
    model.eval()
    with torch.inference_mode():
        began = time.perf_counter()
        for number in range(before):
            model.feed(1, chance.randrange(48, 84), 0.25, 90 * (number % 2 == 0))
        prefill_ms = (time.perf_counter() - began) * 1e3
        took_ms = []
        for _ in range(events):
            began = time.perf_counter()
            event = model.query()
            model.feed(event["inst"], event["pitch"], event["time"], event["vel"])
            took_ms.append((time.perf_counter() - began) * 1e3)
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"prefill_ms": prefill_ms, "took_ms": took_ms, "rss_mb": rss_mb}) + "\n")


if __name__ == "__main__":
    main()
