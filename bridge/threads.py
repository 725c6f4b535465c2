"""How many threads one stage may compute on: as many as the machine has cores, or as OMP_NUM_THREADS says."""

from __future__ import annotations

import os


def compute_threads() -> int:
    """At least 1. torch and BLAS read the same variable; onnxruntime has to be told."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
