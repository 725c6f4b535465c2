"""The verbs that look at the daemon or ask something of it; no logic: `jobs` with its subcommands, `peers`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from bridge.config import folders, load_config
from bridge.shown import show_result
from bridge.terminal import PipeSafeConsole, job_table, print_json, print_rows

if TYPE_CHECKING:
    from bridge.control import Control
    from bridge.ledger import Ledger

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

Set = Annotated[
    list[str] | None, typer.Option("--set", help="stage.key=value, e.g. generate.seed=7. Repeatable.")
]

jobs_app = typer.Typer(
    help="List jobs and the files that were seen; cancel, retry or forget one.", invoke_without_command=True
)


@jobs_app.callback()
def jobs(
    context: typer.Context,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing them until Ctrl-C.")] = False,
) -> None:
    """List jobs, newest first: what is queued, running, waiting, done, failed or quarantined, and why."""
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


@jobs_app.command("forget")
def forget(
    job: Annotated[
        str, typer.Argument(help="A job's id, a song's name, or the path of a file that was seen.")
    ],
    as_json: AsJson = False,
) -> None:
    """Take a job off the list; its file, if it still lies in the inbox, counts as new."""
    _ask(lambda control: control.forget(job), as_json, needs_daemon=False)


@jobs_app.command("seen")
def seen(as_json: AsJson = False) -> None:
    """List the files that were taken up, and are not again until they change or are forgotten."""
    from bridge.ledger import Ledger

    ledger = Ledger(folders().ledger)
    try:
        rows = [vars(file) for file in ledger.seen()]
    finally:
        ledger.close()
    print_rows(rows, ("path", "job_id"), as_json)


def again(
    song: Annotated[str, typer.Argument(help="A job's id, or a song's name: the newest job of it.")],
    set_: Set = None,
    preset: Annotated[
        str, typer.Option("--preset", help="Another preset; else the job's own settings.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make another take of a song, beside the first: other settings, or else another seed. Its stems are kept."""
    from bridge.holder import daemon_runs
    from bridge.presets import parse_overrides

    overrides = parse_overrides(set_ or [])
    if daemon_runs(folders()):
        _ask(lambda control: control.again(song, overrides, preset), as_json)
        return
    _again_here(song, overrides, preset, as_json)


def clean(
    store: Annotated[bool, typer.Option("--store", help="What stages made, and would make again.")] = False,
    spool: Annotated[bool, typer.Option("--spool", help="Copies of bounces that no job needs.")] = False,
    jobs: Annotated[bool, typer.Option("--jobs", help="The list of ended jobs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Free disk; without an option store and spool. Inboxes and what came back are never touched."""
    asked = {"store": store, "spool": spool, "jobs": jobs}
    what = [name for name, wanted in asked.items() if wanted] or ["store", "spool"]
    with _control() as control:
        freed = control.clean(what, dry_run=dry_run)
    if as_json:
        print_json(freed)
        return
    told = {
        "store": f"{freed['store_bytes'] / 1e6:.1f} MB of store",
        "spool": f"{freed['spool_bytes'] / 1e6:.1f} MB of spool",
        "jobs": f"{freed['jobs']} ended jobs",
    }
    print(("would free " if dry_run else "freed ") + ", ".join(told[name] for name in what))


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


def _ask(call: Callable[[Control], Mapping[str, Any]], as_json: bool, *, needs_daemon: bool = True) -> None:
    from bridge.control import require_daemon

    if needs_daemon:
        require_daemon(folders())
    with _control() as control:
        answer = call(control)
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['job']} {answer['state']}")


@contextlib.contextmanager
def _control() -> Iterator[Control]:
    from bridge.control import Control
    from bridge.ledger import Ledger
    from bridge.returned import Shelf

    ledger = Ledger(folders().ledger)
    try:
        yield Control(folders(), ledger, Shelf(load_config().outbox))
    finally:
        ledger.close()


def _again_here(song: str, overrides: Mapping[str, Mapping[str, Any]], preset: str, as_json: bool) -> None:
    """No daemon runs: this process does it."""
    from bridge.process import process_again

    with _control() as control:
        job_id = control.find(song).id
    show_result(lambda on_event: process_again(job_id, overrides, preset, on_event), as_json)


def _watch_jobs(ledger: Ledger) -> None:
    with (
        Live(refresh_per_second=4, console=PipeSafeConsole()) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            live.update(job_table([(row, ledger.stages(row.id)) for row in ledger.jobs(20)]))
            time.sleep(0.5)
