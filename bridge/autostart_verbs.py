"""The verb `autostart`; no logic."""

from __future__ import annotations

from typing import Annotated

import typer

from bridge.autostart import Step, run_command, state_of, switch_off, switch_on, this_machine
from bridge.config import folders
from bridge.terminal import print_json

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
MEANS = {
    "on": "on: the daemon starts at login",
    "off": "off",
    "changed": "on, but for another dawbridge, or changed by hand: `dawbridge autostart on` writes it anew",
    "foreign": "off: a file that isn't ours stands in its place",
}

autostart_app = typer.Typer(help="Start the daemon at login, or no longer.", no_args_is_help=True)


@autostart_app.command("on")
def on(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Start the daemon now and at each login."""
    _show(switch_on(this_machine(folders()), run_command, dry_run=dry_run), dry_run, as_json)


@autostart_app.command("off")
def off(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """No longer; the daemon that was started this way ends."""
    _show(switch_off(this_machine(folders()), run_command, dry_run=dry_run), dry_run, as_json)


@autostart_app.command("status")
def status(as_json: AsJson = False) -> None:
    """Whether it is on."""
    state = state_of(this_machine(folders()))
    if as_json:
        print_json({"state": state})
    else:
        print(MEANS[state])


def _show(steps: tuple[Step, ...], dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json([{"action": step.action, "what": step.what} for step in steps])
        return
    for step in steps:
        print(f"{'would ' if dry_run else ''}{step.action}: {step.what}")
