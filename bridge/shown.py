"""Runs one job in the foreground and shows how it goes and what came back: the end of `process` and `again`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import typer

from bridge.terminal import (
    PipeSafeConsole,
    StageBars,
    print_error,
    print_fallbacks,
    print_json,
    print_returned,
    result_table,
)

if TYPE_CHECKING:
    from bridge.jobs import JobResult, OnEvent


def show_result(
    work: Callable[[OnEvent], Coroutine[Any, Any, JobResult]], as_json: bool, strict: bool = False
) -> None:
    """Bars while it runs, then the returned folder; ends the program with the job's exit code."""
    from bridge.manifest import read_manifest

    console = PipeSafeConsole(stderr=as_json)
    with StageBars(console) as bars:
        result = asyncio.run(work(bars.update))
    print_fallbacks(result.job.fallbacks, result.job.warnings, console)
    if as_json:
        print_json(result_table(result, strict))
    elif result.folder:
        print_returned(result.folder, read_manifest(result.folder), console)
    if result.detail:
        print_error(result.detail)
    raise typer.Exit(result.exit_code(strict))
