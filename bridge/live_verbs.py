"""The verbs of the live companion; no logic: `live`, its subcommands, `capture`, `ports`."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape

from bridge.config import LiveConfig, folders, load_config, parse_scalar, read_table
from bridge.errors import InputError, UsageError
from bridge.live.controls import COMMANDS, FIELDS, Controls, check
from bridge.live.probe import SHOWN
from bridge.terminal import PipeSafeConsole, narrator, print_json, print_rows

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
REFRESH_PER_S = 8

live_app = typer.Typer(help="Play along: hear the DAW, answer in time.", invoke_without_command=True)


@live_app.callback()
def live(
    context: typer.Context,
    song: Annotated[
        Path | None,
        typer.Option(help="A returned folder of the same project: its key, metre, tempo and parts."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, see `dawbridge live controls`. Repeatable.")
    ] = None,
    midi: Annotated[str, typer.Option(help="jack, alsa, core or winmm; else the first that works.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write replies below this folder, not the outbox.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start the companion and show what goes on, until Ctrl-C. With a subcommand: speak to the running one."""
    if context.invoked_subcommand is not None:
        return
    from bridge.livehost.session import Session
    from bridge.livehost.view import LiveView, event_line

    config = load_config()
    if song is not None and not (song / "manifest.json").is_file():
        raise InputError(f"{song} is no returned folder: it holds no manifest.json. Name one in the outbox.")
    controls = check(
        read_table(Controls, _controls_table(config.live.controls, set_ or []), "--set", UsageError)
    )
    chosen = read_table(LiveConfig, {"midi": midi or config.live.midi}, "--midi", UsageError).midi
    live_config = dataclasses.replace(config.live, controls=controls, midi=chosen)
    config = dataclasses.replace(config, live=live_config, outbox=(out or config.outbox).absolute())
    console = PipeSafeConsole()
    if as_json or not console.is_terminal:
        tell = narrator(console, as_json, event_line)
        Session(config, folders(), tell, song=song and song.absolute()).run(_stop_signal())
        return
    view = LiveView()
    with Live(view, console=console, refresh_per_second=REFRESH_PER_S, transient=False):
        Session(config, folders(), view.update, song=song and song.absolute()).run(_stop_signal())


@live_app.command("set")
def set_control(name: str, value: str, as_json: AsJson = False) -> None:
    """Set a control of the running companion: `dawbridge live set mode loop`."""
    from bridge.livehost.remote import ask_companion

    known = _known(name)
    answer = ask_companion(folders(), {"name": known, "value": _value(known, value)})
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['name']} = {answer['value']}")


@live_app.command("controls")
def list_controls(as_json: AsJson = False) -> None:
    """What can be set, in which range; the commands too."""
    rows: list[Mapping[str, Any]] = [
        {"name": name, "default": field.default, "values": _values(field), "what": field.metadata["help"]}
        for name, field in FIELDS.items()
    ]
    rows += [
        {"name": name, "default": "", "values": "command", "what": what} for name, what in COMMANDS.items()
    ]
    print_rows(rows, ("name", "default", "values", "what"), as_json)


@live_app.command("status")
def status(as_json: AsJson = False) -> None:
    """What the running companion does now."""
    from bridge.livehost.remote import companion_state
    from bridge.livehost.view import LiveView

    table = companion_state(folders())
    if as_json:
        print_json(table)
        return
    view = LiveView()
    if table.get("state"):
        view.update({**table["state"], "event": "state"})
    view.update({"event": "ready", "ports": table.get("ports", ())})
    view.update({"event": "controls", "controls": table.get("controls", {})})
    PipeSafeConsole().print(view)


def _command_verb(name: str) -> Callable[[], None]:
    def verb() -> None:
        from bridge.livehost.remote import ask_companion

        ask_companion(folders(), {"name": name})

    return verb


for _name, _what in COMMANDS.items():
    if _name != "capture":
        live_app.command(_name, help=_what[0].upper() + _what[1:] + ".")(_command_verb(_name))


def capture(as_json: AsJson = False) -> None:
    """Save what the running companion heard in the last minutes, as a MIDI file: for the idea nobody recorded."""
    from bridge.livehost.remote import ask_companion

    answer = ask_companion(folders(), {"name": "capture"})
    if as_json:
        print_json(answer)
    else:
        print(answer["path"])


def ports(as_json: AsJson = False) -> None:
    """List the MIDI systems and ports of this machine, and say which is which."""
    from bridge.live.ports import what_port_is
    from bridge.live.probe import REMEDIES, SHOWN, platform_apis, probe

    rows = []
    for found in probe(platform_apis()):
        system = SHOWN[found.api]
        if not found.works:
            why = f"does not work: {found.why}. To get it: {REMEDIES[found.api]}"
            rows.append({"system": system, "port": "-", "we": "-", "what": why})
        for we, names in (("hear", found.inputs), ("send to", found.outputs)):
            rows += [{"system": system, "port": name, "we": we, "what": what_port_is(name)} for name in names]
        if found.works and not found.inputs and not found.outputs:
            rows.append({"system": system, "port": "-", "we": "-", "what": "works; no ports yet"})
    print_rows(rows, ("system", "port", "we", "what"), as_json)


def play_live_demo(out: Path | None, as_json: bool) -> None:
    """`demo --live`; the last line on standard output is what came of it, as JSON with `--json`."""
    from bridge.livehost.demo import live_demo_table, run_live_demo
    from bridge.livehost.view import event_line

    console = PipeSafeConsole(stderr=as_json)
    result = run_live_demo(out, narrator(console, False, event_line))
    if as_json:
        print(json.dumps(live_demo_table(result)))
        return
    how = (
        "inside the process: no MIDI system works here"
        if result.api == "none"
        else f"over {SHOWN[result.api]}"
    )
    console.print(
        f"{result.notes} notes {how}; {result.late} late, {result.dropped} dropped.", highlight=False
    )
    console.print(f"Both players lie in [bold]{escape(str(result.take))}[/]", soft_wrap=True, highlight=False)


def _controls_table(controls: Controls, texts: list[str]) -> dict[str, Any]:
    table = dataclasses.asdict(controls)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'--set "{text}" has no value. Write NAME=VALUE, e.g. --set mode=loop.')
        table[_known(name)] = _value(name, value)
    return table


def _known(name: str) -> str:
    if name not in FIELDS:
        raise UsageError(f'There is no control "{name}". Controls are {", ".join(FIELDS)}.')
    return name


def _value(name: str, text: str) -> Any:
    """Text stays text where the control is text; else as TOML reads it."""
    return text if isinstance(FIELDS[name].default, str) else parse_scalar(text)


def _values(field: dataclasses.Field[Any]) -> str:
    if isinstance(field.default, bool):
        return "true, false"
    choices = field.metadata["choices"]
    if choices:
        return ", ".join(map(str, choices))
    low, high = field.metadata["lo"], field.metadata["hi"]
    return "" if low is None else f"{low} to {high}"


def _stop_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
