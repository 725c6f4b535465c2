"""What was heard and played in the last minutes, for `capture` and for a generator that starts anew. Any thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

HeardNote = list[Any]
"""As the live protocol has it: start and length in axis beats, pitch, velocity, part, whether it is ours."""


class History:
    """Notes with the moment at which they were told."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._told: deque[tuple[float, HeardNote]] = deque()

    def add(self, notes: Sequence[HeardNote], now_s: float) -> None:
        """Notes that have just ended; older ones than the longest time are forgotten."""
        with self._lock:
            self._told.extend((now_s, note) for note in notes)
            while self._told and self._told[0][0] < now_s - self._longest_s:
                self._told.popleft()

    def since(self, moment_s: float) -> list[HeardNote]:
        """All that was told from then on, by onset."""
        with self._lock:
            return sorted(
                (note for told_s, note in self._told if told_s >= moment_s), key=lambda note: note[:3]
            )

    def last(self, most: int) -> list[list[Any]]:
        """The last notes, by onset, as a generator hears them."""
        return [note[:5] for note in self.since(0.0)[-most:]]

    def forget(self, notes: Sequence[Sequence[Any]]) -> None:
        """Notes of ours that were taken back."""
        gone = {tuple(note[:5]) for note in notes}
        with self._lock:
            self._told = deque(one for one in self._told if not (one[1][5] and tuple(one[1][:5]) in gone))
