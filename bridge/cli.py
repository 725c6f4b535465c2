"""The verbs; no logic. Exit codes: 0 all asked-for work done, 1 something failed, 2 wrong usage or input."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import logging
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bridge import __version__
from bridge.config import folders, load_config, write_default_config
from bridge.control_verbs import jobs_app, peers
from bridge.errors import (
    Cancelled,
    ConfigError,
    DawbridgeError,
    InputError,
    ModelError,
    PresetError,
    UsageError,
)
from bridge.install_verbs import install_scripts
from bridge.live_verbs import capture, live_app, play_live_demo, ports
from bridge.terminal import (
    PipeSafeConsole,
    StageBars,
    continuation_table,
    narrator,
    print_continuation,
    print_error,
    print_fallbacks,
    print_json,
    print_returned,
    print_rows,
    print_surprise,
    print_tuned,
    result_table,
    tuned_table,
    work_bar,
)
from bridge.voice_verbs import voices_app

app = typer.Typer(
    name="dawbridge",
    help="A bounce dropped in a watched folder comes back as stems, MIDI, a treated vocal and a mix.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
log = logging.getLogger(__name__)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
PresetName = Annotated[str, typer.Option("--preset", help="See `dawbridge presets`.")]
ContinuationModel = Annotated[
    str, typer.Option("--model", help="The shipped one, or one that `dawbridge train continuation` made.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="stage.key=value, e.g. analyse.bpm=152. Repeatable.")
]


def main() -> None:
    """The command `dawbridge`: every deliberate error becomes one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a song's name may not exist in the terminal's letters
    try:
        app()
    except (UsageError, ConfigError, PresetError, InputError) as exc:
        _fail(exc.message, 2)
    except Cancelled as exc:
        _fail(exc.message, 130)
    except DawbridgeError as exc:
        _fail(exc.message, 1)
    except OSError as exc:  # a folder of ours can't be made or written
        _fail(
            f"{exc.filename or 'A file'}: {exc.strerror}. Make room, mend it, or set DAWBRIDGE_HOME to a folder of yours.",
            1,
        )
    except Exception as exc:  # noqa: BLE001 -- no traceback reaches the user; the log has it
        _fail(f"This is a fault in dawbridge ({type(exc).__name__}: {exc}). {_log_fault()}", 1)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def run(
    inbox: Annotated[
        Path | None, typer.Option(help="Watch this folder instead of the configured ones.")
    ] = None,
    outbox: Annotated[Path | None, typer.Option(help="Return finished songs here.")] = None,
    preset: Annotated[str | None, typer.Option(help="For --inbox; else `default`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start the daemon: watch the export folders until Ctrl-C."""
    from bridge.daemon import run_daemon

    config = load_config()
    if inbox is not None:
        config = config.with_inbox(inbox.absolute(), preset or "default")
    elif preset is not None:
        raise UsageError(f"--preset {preset} goes with --inbox; configured folders name their own presets.")
    if outbox is not None:
        config = dataclasses.replace(config, outbox=outbox.absolute())
    asyncio.run(run_daemon(config, folders(), narrator(PipeSafeConsole(), as_json)))


@app.command()
def process(
    song: Annotated[Path, typer.Argument(help="One audio file.")],
    preset: PresetName = "default",
    role: Annotated[str, typer.Option(help="mix, vocals, drums, bass or other; else from the name.")] = "",
    out: Annotated[Path | None, typer.Option(help="Return it here instead of the configured outbox.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A fallback counts as a failure.")] = False,
    as_json: AsJson = False,
    set_: Set = None,
) -> None:
    """Do one file now, without the daemon."""
    from bridge.manifest import read_manifest
    from bridge.presets import parse_overrides
    from bridge.process import process_file

    outbox = (out or load_config().outbox).absolute()
    overrides = parse_overrides(set_ or [])
    console = PipeSafeConsole(stderr=as_json)
    with StageBars(console) as bars:
        result = asyncio.run(process_file(song, outbox, preset, role, overrides, bars.update))
    print_fallbacks(result.job.fallbacks, result.job.warnings, console)
    if as_json:
        print_json(result_table(result, strict))
    elif result.folder:
        print_returned(result.folder, read_manifest(result.folder), console)
    if result.detail:
        print_error(result.detail)
    raise typer.Exit(result.exit_code(strict))


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Keep what came back here; else in a temporary folder.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="The companion instead: a scripted musician plays, it answers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """See it work on a short song that ships with dawbridge. Needs no network."""
    from bridge.demo import run_demo

    if live:
        play_live_demo(out, as_json)
        return
    console = PipeSafeConsole(stderr=as_json)
    result = run_demo(out, console, StageBars(console))
    if as_json:
        files = [artifact.path for artifact in result.manifest.artifacts]
        summary = {"state": result.state, "folder": str(result.folder), "seconds": round(result.seconds, 1)}
        print_json(summary | {"files": files})
    else:
        print_returned(result.folder, result.manifest, console)
    raise typer.Exit(0 if result.state == "done" else 1)


@app.command("continue")
def continue_(
    midi: Annotated[Path, typer.Argument(help="A MIDI file to go on from.")],
    bars: Annotated[int, typer.Option(help="How many bars to write.")] = 8,
    parts: Annotated[
        str,
        typer.Option(
            help="Who plays: lead, piano, guitar, bass, strings, drums; else who plays in the file."
        ),
    ] = "",
    key: Annotated[
        str, typer.Option(help='The only notes allowed: "A minor", "D dorian"; auto = the file\'s key; free.')
    ] = "auto",
    range_: Annotated[
        list[str] | None,
        typer.Option("--range", help="Lowest and highest MIDI pitch of a part: bass=28-50. Repeatable."),
    ] = None,
    density: Annotated[
        float | None, typer.Option(min=0.05, help="The most notes per beat of each part.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="Below 1 safer, above 1 wilder.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest that hold this share.")] = 0.95,
    min_p: Annotated[float, typer.Option(help="And are so likely beside the likeliest one.")] = 0.02,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same notes; else another.")
    ] = None,
    model: ContinuationModel = "dawbridge-small",
    out: Annotated[
        Path | None, typer.Option(help="Write this file; else IN_continuation.mid beside the given one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what comes next, as a MIDI file that begins on the bar line where the given one ends."""
    from bridge.transformer.continuing import Wish, continue_midi, free_name, parse_parts, parse_ranges
    from bridge.transformer.sample import Sampling
    from bridge.transformer.shipped import load_model

    sampling = Sampling(temperature, top_p, min_p, secrets.randbelow(2**31) if seed is None else seed)
    wish = Wish(bars, parse_parts(parts), key, parse_ranges(range_ or []), density, sampling)
    with work_bar(PipeSafeConsole(stderr=True), "continue") as report:
        written = continue_midi(
            midi,
            out or free_name(midi),
            load_model(model, folders().models),
            wish,
            model_name=model,
            report=lambda done, total: report(done, total, ""),
        )
    if as_json:
        print_json(continuation_table(written))
    else:
        print_continuation(written, PipeSafeConsole())


@app.command()
def score(
    prompt: Annotated[Path, typer.Argument(help="A MIDI file.")],
    candidate: Annotated[
        Path, typer.Argument(help="What might come next; its tick 0 is where the prompt ends.")
    ],
    model: ContinuationModel = "dawbridge-small",
    as_json: AsJson = False,
) -> None:
    """How well one MIDI file goes on from another: bits per note, fewer are better."""
    from bridge.transformer.scoring import score_midi
    from bridge.transformer.shipped import load_model

    surprise = score_midi(prompt, candidate, load_model(model, folders().models))
    if as_json:
        print_json({"prompt": str(prompt), "candidate": str(candidate), "model": model, **vars(surprise)})
    else:
        print_surprise(surprise, PipeSafeConsole())


app.add_typer(live_app, name="live")
app.add_typer(jobs_app, name="jobs")
app.add_typer(voices_app, name="voices")
app.command()(peers)
app.command()(capture)
app.command()(ports)
app.command("install-scripts")(install_scripts)


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the presets and what each runs."""
    from bridge.presets import load_preset, preset_description, preset_files

    rows = []
    for name, path in preset_files().items():
        try:
            description, stages = preset_description(path), list(load_preset(name).settings)
        except PresetError as exc:
            description, stages = f"broken: {exc.message}", []
        rows.append({"name": name, "description": description, "stages": stages, "path": str(path)})
    print_rows(rows, ("name", "description", "stages"), as_json)


train_app = typer.Typer(help="Train models on your own material.", no_args_is_help=True)
app.add_typer(train_app, name="train")


@train_app.command("continuation")
def train_continuation(
    midi_folder: Annotated[Path, typer.Option(help="All MIDI files in and below this folder.")],
    name: Annotated[str, typer.Option(help="What the model shall be called.")],
    steps: Annotated[int, typer.Option(min=1, help="The most steps; it ends when it no longer gains.")] = 400,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="The most minutes.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune the continuation model on your own MIDI files. The same command goes on after a break."""
    from bridge.transformer.finetune import fine_tune
    from bridge.transformer.shipped import SHIPPED, weights_path

    models = folders().models
    base = weights_path(SHIPPED, models)
    try:
        with work_bar(PipeSafeConsole(stderr=True), "train") as report:
            tuned = fine_tune(midi_folder, name, models, base, steps=steps, minutes=minutes, report=report)
    except KeyboardInterrupt:
        raise Cancelled(
            "Training is cancelled. The same command goes on from what was judged last."
        ) from None
    if as_json:
        print_json(tuned_table(tuned))
    else:
        print_tuned(tuned, PipeSafeConsole())


models_app = typer.Typer(help="List and fetch model weights.", no_args_is_help=True)
app.add_typer(models_app, name="models")


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """What is known: size, licence, where it lies, and what works without it."""
    from bridge.weights import list_models

    rows = [
        {
            "name": status.model.name,
            "installed": status.installed,
            "megabytes": round(status.size_bytes / 1e6, 1) or None,
            "licence": status.model.licence,
            "folder": str(status.folder),
            "without it": status.model.without,
        }
        for status in list_models(folders().models)
    ]
    print_rows(rows, ("name", "installed", "megabytes", "licence", "folder", "without it"), as_json)


@models_app.command("fetch")
def models_fetch(name: str) -> None:
    """Fetch a model's weights, with their digest checked."""
    from rich.progress import Progress

    from bridge.weights import fetch, find, list_models

    try:
        find(name)
    except ModelError as exc:
        raise UsageError(exc.message) from exc
    with Progress(console=PipeSafeConsole(stderr=True)) as progress:
        bar = progress.add_task(f"fetch {name}", total=None)
        fetch(name, folders().models, lambda done, total: progress.update(bar, completed=done, total=total))
    print(next(status.folder for status in list_models(folders().models) if status.model.name == name))


@app.command()
def doctor(
    as_json: AsJson = False,
    midi_loop: Annotated[
        bool,
        typer.Option("--midi-loop", help="Send a test clock out and back, and remember how long it takes."),
    ] = False,
    port: Annotated[
        str,
        typer.Option(help="With --midi-loop: a port whose output is joined to its input; else one of ours."),
    ] = "",
) -> None:
    """What is missing, and the one command that mends it."""
    from bridge.doctor import examine, examine_loop

    config = load_config()
    if port and not midi_loop:
        raise UsageError("--port goes with --midi-loop.")
    findings = examine_loop(folders(), config.live.output, port) if midi_loop else examine(config, folders())
    rows = [dataclasses.asdict(finding) for finding in findings]
    print_rows(rows, ("what", "verdict", "detail", "remedy"), as_json)
    raise typer.Exit(1 if any(finding.verdict == "missing" for finding in findings) else 0)


@app.command()
def config(
    init: Annotated[bool, typer.Option("--init", help="Write a commented configuration to edit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the configuration in force and where its file lies."""
    path = folders().config_file
    if init:
        write_default_config(path)
    table = dataclasses.asdict(load_config())
    if as_json:
        print_json({"path": str(path), "exists": path.exists(), "config": table})
        return
    console = PipeSafeConsole()
    console.print(
        f"{path}{'' if path.exists() else ' (not written yet: `dawbridge config --init`)'}", soft_wrap=True
    )
    for key, value in table.items():
        for line in value if isinstance(value, tuple) else (value,):
            shown = ", ".join(f"{k}={v}" for k, v in line.items()) if isinstance(line, dict) else line
            console.print(f"  {key} = {escape(str(shown))}", soft_wrap=True, highlight=False)


def _fail(message: str, code: int) -> None:
    print_error(message)
    sys.exit(code)


def _log_fault() -> str:
    """Write the fault down, and say where."""
    log_file = folders().log
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(filename=log_file, force=True, format="%(asctime)s %(message)s")
    except OSError as exc:
        return f"The details could not be written to {log_file} ({exc.strerror})."
    log.exception("fault")
    return f"The details are in {log_file}."
