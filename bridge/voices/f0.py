"""The fundamental frequency of a voice over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HOP_S = 0.01


@dataclass(frozen=True)
class F0Track:
    """f0 at hop n, which stands at n * HOP_S seconds from the samples' first frame."""

    hz: npt.NDArray[np.float64]  # (hops,), 0.0 where unvoiced
    confidence: npt.NDArray[np.float64]  # (hops,), how sure the trackers are, in [0, 1]
