"""Progress of work that has parts."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[float, float], None]
"""`report(done, total)` in any unit; it may raise `errors.Cancelled`, which passes through whoever calls it."""


def part_of(report: Report, index: int, parts: int) -> Report:
    """`report` for one of several equal parts of the whole."""

    def within(done: float, total: float) -> None:
        report(index + done / total, parts)

    return within
