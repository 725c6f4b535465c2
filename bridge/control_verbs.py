"""The verbs that look at the daemon or ask something of it; no logic: `jobs` with its subcommands, `peers`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from bridge.config import folders, load_config
from bridge.terminal import PipeSafeConsole, job_table, print_json, print_rows

if TYPE_CHECKING:
    from bridge.control import Control
    from bridge.ledger import Ledger

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

jobs_app = typer.Typer(help="List jobs; cancel or retry one.", invoke_without_command=True)


@jobs_app.callback()
def jobs(
    context: typer.Context,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing them until Ctrl-C.")] = False,
) -> None:
    """List jobs, newest first: what is queued, running, done, failed or quarantined, and why."""
    if context.invoked_subcommand is not None:
        return
    from bridge.ledger import Ledger

    ledger = Ledger(folders().ledger)
    try:
        if watch and not as_json:
            _watch_jobs(ledger)
            return
        rows = [(row, ledger.stages(row.id)) for row in ledger.jobs()]
        if as_json:
            print_json([vars(row) | {"stages": [vars(event) for event in stages]} for row, stages in rows])
        else:
            PipeSafeConsole().print(job_table(rows))
    finally:
        ledger.close()


@jobs_app.command("cancel")
def cancel(job: str, as_json: AsJson = False) -> None:
    """Call a job off that waits or runs; its finished stages are kept."""
    _ask(lambda control: control.cancel(job), as_json)


@jobs_app.command("retry")
def retry(job: str, as_json: AsJson = False) -> None:
    """Run a failed, cancelled or quarantined job again."""
    _ask(lambda control: control.retry(job), as_json)


def peers(
    seconds: Annotated[float, typer.Option(min=0.1, max=60.0, help="How long to listen.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Other dawbridges on the local network."""
    from bridge.discovery import find_peers

    own = ""
    with contextlib.suppress(OSError, ValueError):
        own = json.loads(folders().http_state.read_text(encoding="utf-8")).get("peer_id", "")
    rows = [dataclasses.asdict(peer) for peer in asyncio.run(find_peers(seconds, but=own))]
    print_rows(rows, ("name", "host", "port", "version", "needs_token"), as_json)


def _ask(call: Callable[[Control], Mapping[str, Any]], as_json: bool) -> None:
    from bridge.control import Control, require_daemon
    from bridge.ledger import Ledger
    from bridge.returned import Shelf

    require_daemon(folders())
    ledger = Ledger(folders().ledger)
    try:
        answer = call(Control(folders(), ledger, Shelf(load_config().outbox)))
    finally:
        ledger.close()
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['job']} {answer['state']}")


def _watch_jobs(ledger: Ledger) -> None:
    with (
        Live(refresh_per_second=4, console=PipeSafeConsole()) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            live.update(job_table([(row, ledger.stages(row.id)) for row in ledger.jobs(20)]))
            time.sleep(0.5)
