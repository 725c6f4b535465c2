"""The one exception of this script: a line for the person at the DAW, which changes nothing in the set."""

from __future__ import annotations


class Problem(Exception):
    """What can't be done, why, and what helps."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line
