"""Progress of work that has parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Report = Callable[[float, float], None]
"""`report(done, total)` in any unit; it may raise `errors.Cancelled`, which passes through whoever calls it."""


def part_of(report: Report, index: int, parts: int) -> Report:
    """`report` for one of several equal parts of the whole."""

    def within(done: float, total: float) -> None:
        report(index + done / total, parts)

    return within


@dataclass
class Steps:
    """Work in steps that say how far it is also in their midst, so that a cancel is heard there."""

    report: Report
    total: int
    done: int = 0

    def tick(self) -> None:
        """Still at it."""
        self.report(self.done, self.total)

    def next(self) -> None:
        """One more is done."""
        self.done += 1
        self.tick()
