"""The verb `install-scripts`; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.config import folders, load_config
from bridge.errors import InstallError
from bridge.install import Place, Step, find_places, install, remember, this_system, uninstall
from bridge.terminal import print_error, print_json

DONE = {"new": "written", "update": "updated", "same": "as it was", "keep": "kept", "remove": "removed"}
WOULD = {
    "new": "would write",
    "update": "would update",
    "same": "as it is",
    "keep": "would keep",
    "remove": "would remove",
}


def install_scripts(
    daw: Annotated[
        str | None, typer.Argument(help="live, reaper or ardour; else each one that is found.")
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(
            help="The DAW's own folder, if it isn't where it usually is: Live's User Library, REAPER's resource path."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and where.")
    ] = False,
    uninstall_: Annotated[bool, typer.Option("--uninstall", help="Take them away again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Put the scripts for Live, REAPER and Ardour where each looks for them, and say what to switch on."""
    rows: list[dict[str, Any]] = []
    failed = False
    for place in find_places(this_system(), daw, path, folders()):
        row: dict[str, Any] = {"daw": place.daw.name, "folder": str(place.folder), "found": place.is_there}
        rows.append(row)
        if not place.is_there and not (dry_run and not uninstall_):
            continue
        try:
            steps = (
                uninstall(place, dry_run=dry_run)
                if uninstall_
                else install(place, load_config(), dry_run=dry_run)
            )
        except InstallError as exc:
            failed = True
            row["error"] = exc.message
            continue
        row["files"] = [{"action": s.action, "path": str(s.path), "why": s.why} for s in steps]
        row["switch_on"] = "" if uninstall_ else place.daw.switch_on
        if path is not None and not dry_run:
            remember(folders(), place, forget=uninstall_)
        if not as_json:
            _show(place, steps, dry_run, uninstall_)
    if as_json:
        print_json(rows)
    else:
        failed |= _show_rest(rows, daw)
    raise typer.Exit(1 if failed else 0)


def _show(place: Place, steps: tuple[Step, ...], dry_run: bool, is_uninstall: bool) -> None:
    absent = "" if place.is_there else f" ({place.daw.title} was not found here)"
    print(f"{place.daw.title}: {place.folder}{absent}")
    for step in steps:
        why = f": {step.why}" if step.why else ""
        print(
            f"  {(WOULD if dry_run else DONE)[step.action]:<12} {step.path.relative_to(place.folder).as_posix()}{why}"
        )
    if is_uninstall:
        print("  nothing of ours" if not steps else "  Switch it off in the DAW's settings too.")
    else:
        print(f"  {place.daw.switch_on}")


def _show_rest(rows: list[dict[str, Any]], daw: str | None) -> bool:
    """What was not done, and why; whether that is a failure."""
    for row in rows:
        if "error" in row:
            print_error(row["error"])
    done = [row for row in rows if "files" in row]
    if done or any("error" in row for row in rows):
        return False
    places = ", ".join(row["folder"] for row in rows)
    looked = f"looked for {places}" if places else "it does not run on this system"
    print_error(
        f"{daw or 'No DAW'} was not found: {looked}. Is it elsewhere? dawbridge install-scripts {daw or 'live'} --path FOLDER"
    )
    return True
