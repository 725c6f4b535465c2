"""What a person sees: progress bars, the daemon's tale, returned files as a tree, tables; and JSON for scripts."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.tree import Tree

from bridge.retrying import FULL
from bridge.telling import unfailing
from bridge.types import Fallback, StageEvent

if TYPE_CHECKING:  # `dawbridge --help` should not wait for the pipeline
    from bridge.jobs import JobResult
    from bridge.ledger_rows import JobRow
    from bridge.manifest import Manifest
    from bridge.transformer.continuing import Written
    from bridge.transformer.finetune import Tuned
    from bridge.transformer.scoring import Surprise

COLOURS = {
    "queued": "dim",
    "running": "cyan",
    "waiting": "yellow",
    "done": "green",
    "cached": "green",
    "skipped": "yellow",
    "cancelled": "yellow",
    "refused": "red",
    "failed": "red",
    "quarantined": "red",
}
WHAT_IT_IS = {
    "vocals": "stem",
    "drums": "stem",
    "bass": "stem",
    "other": "stem",
    "notes": "MIDI as played",
    "notes_quantised": "MIDI on the song's grid",
    "voice": "another character, dry",
    "backing": "the voices behind the lead",
    "lead": "the same with effects",
    "mix": "lead over the music",
    "arrangement": "new music over the song's bars",
    "arrangement_audio": "the same to listen to",
    "continuation": "what comes after the last bar",
    "continuation_audio": "the same to listen to",
    "new_piece": "lead over the arrangement",
    "report": "output against input, what ran; opens in a browser",
}

log = logging.getLogger(__name__)


class PipeSafeConsole(Console):
    """A console whose reader may go away (`| head`, a closed window): it falls silent, and the work goes on.

    What does not fit on a full disk is lost; there may be room for what follows.
    """

    def on_broken_pipe(self) -> None:
        """Called by rich instead of ending the program."""
        self.quiet = True
        _to_nowhere(self.file)

    def _check_buffer(self) -> None:
        # All that rich writes goes through here. It knows of broken pipes only, and keeps what could not be written.
        try:
            super()._check_buffer()
        except OSError as exc:
            log.warning("what goes on can't be shown: %s", exc)
            if exc.errno not in FULL:
                self.on_broken_pipe()
                return
            self.quiet = True
            super()._check_buffer()
            self.quiet = False


class StageBars:
    """One bar with an ETA for each stage of a job; plain lines where there is no terminal.

    Feed it the job's events, inside `with`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description:<10}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", table_column=Column()),  # a long note takes more lines
            console=console,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}
        self._ended: set[str] = set()

    def __enter__(self) -> StageBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __rich__(self) -> RenderableType:
        """The bars as they stand."""
        return self._progress.get_renderable()

    def update(self, event: StageEvent) -> None:
        """Show an event; events of a stage that has ended are ignored."""
        if event.stage in self._ended:
            return
        if event.stage not in self._bars:
            self._bars[event.stage] = self._progress.add_task(event.stage, total=None, note="")
        bar = self._bars[event.stage]
        if event.state in ("running", "waiting"):  # neither is an end
            if event.total > 0:
                self._progress.update(bar, completed=event.done, total=event.total)
            return
        self._ended.add(event.stage)
        self._progress.update(
            bar, completed=1.0, total=1.0, note=f"{_state(event.state)} {escape(event.detail)}"
        )
        if not self._console.is_terminal:
            line = f"{event.stage:<10} {event.state:<8} {event.seconds:5.1f} s  {event.detail}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def work_bar(console: Console, work: str) -> Iterator[Callable[[float, float, str], None]]:
    """One bar with an ETA for work that tells `(done, total, what)`; nothing where there is no terminal."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(work, total=None, note="")

        def report(done: float, total: float, what: str) -> None:
            progress.update(bar, completed=done, total=total, note=what)

        yield report


def narrator(
    console: Console, as_json: bool, tale: Callable[[Mapping[str, Any]], str] | None = None
) -> Callable[[Mapping[str, Any]], None]:
    """A listener for what the daemon tells: JSON lines for a script, short lines for a person.

    `tale` makes such a line of a message, or an empty one; by default the daemon's. It never fails: a terminal
    or a pipe may go away, a disk that takes its output may be full.
    """
    line_of = tale or _tale

    def tell_json(message: Mapping[str, Any]) -> None:
        try:
            print(json.dumps(message, default=str), flush=True)
        except OSError as exc:
            if exc.errno not in FULL:  # whoever listened has gone for good
                _to_nowhere(sys.stdout)
            raise

    def tell_person(message: Mapping[str, Any]) -> None:
        line = line_of(message)
        if line:
            console.print(line, highlight=False, soft_wrap=True)

    return unfailing(tell_json if as_json else tell_person)


def print_returned(folder: Path, manifest: Manifest, console: Console) -> None:
    """The returned files as a tree, with what each is, and where they lie."""
    tree = Tree(f"[bold]{escape(folder.name)}/[/]")
    for artifact in manifest.artifacts:
        size = (folder / artifact.path).stat().st_size
        note = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
        note += f", {WHAT_IT_IS.get(artifact.name, artifact.kind)}"
        note += ", approximate" if artifact.approximate else ""
        note += ", synthetic" if artifact.synthetic else ""
        tree.add(f"{escape(artifact.path)}  [dim]{note}[/]")
    tree.add("manifest.json  [dim]what ran, from what, how long[/]")
    console.print(tree, highlight=False, soft_wrap=True)
    if manifest.tempo is not None:
        tempo = manifest.tempo
        sings = "somebody sings" if manifest.sings else "nobody sings"
        bar = f"{tempo.beats_per_bar}/{tempo.beat_unit}"
        console.print(f"{tempo.bpm:.2f} bpm, {bar}, {manifest.key or 'no key'}, {sings}.", highlight=False)
    console.print(f"They lie in [bold]{escape(str(folder))}[/]", soft_wrap=True, highlight=False)


def print_fallbacks(fallbacks: Sequence[Fallback], warnings: Sequence[str], console: Console) -> None:
    """Say what was used instead of what was wanted, and what was odd about the input."""
    for fallback in fallbacks:
        text = f"{fallback.stage}: {fallback.used} instead of {fallback.wanted}: {fallback.reason}"
        console.print(f"[yellow]fallback[/] {escape(text)}", soft_wrap=True, highlight=False)
    for warning in warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True, highlight=False)


def print_continuation(written: Written, console: Console) -> None:
    """What was written, in two lines."""
    notes = ", ".join(f"{part} {count}" for part, count in written.notes.items()) or "no notes"
    key = f" in {written.key}" if written.key else ""
    console.print(
        f"{written.bars} bars of {written.beats_per_bar}/{written.beat_unit}{key} at {written.bpm:.2f} bpm: "
        f"{notes} (seed {written.seed}).",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"They lie in [bold]{escape(str(written.path))}[/]", soft_wrap=True, highlight=False)


def continuation_table(written: Written) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "file": str(written.path),
        "bars": written.bars,
        "length_beats": written.phrase.length_beats,
        "beats_per_bar": written.beats_per_bar,
        "beat_unit": written.beat_unit,
        "bpm": round(written.bpm, 4),
        "key": written.key or None,
        "notes": written.notes,
        "seed": written.seed,
        "model": written.model,
    }


def print_surprise(surprise: Surprise, console: Console) -> None:
    """What a candidate costs, in one line."""
    fields = ", ".join(f"{name} {bits:.2f}" for name, bits in surprise.bits_by_field.items())
    console.print(
        f"{surprise.bits_per_note:.3f} bits per note over {surprise.notes} notes ({fields})",
        highlight=False,
        soft_wrap=True,
    )


def print_tuned(tuned: Tuned, console: Console) -> None:
    """Which files were passed over, and what the new model is."""
    for path, reason in tuned.skipped.items():
        console.print(
            f"[yellow]skipped[/] {escape(path.name)}: {escape(reason)}", soft_wrap=True, highlight=False
        )
    console.print(
        f"[bold]{escape(tuned.name)}[/] learned from {tuned.files} files, {tuned.notes:,} notes, in {tuned.steps} steps. "
        f"Held-out notes cost {tuned.bits_before:.3f} bits before, {tuned.bits_after:.3f} after.",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"It lies in [bold]{escape(str(tuned.folder))}[/]", soft_wrap=True, highlight=False)


def tuned_table(tuned: Tuned) -> dict[str, Any]:
    """The same for scripts."""
    skipped = {str(path): reason for path, reason in tuned.skipped.items()}
    return {**vars(tuned), "folder": str(tuned.folder), "skipped": skipped}


def result_table(result: JobResult, strict: bool) -> dict[str, Any]:
    """A job's result for scripts."""
    return {
        "id": result.job.id,
        "state": result.state,
        "exit_code": result.exit_code(strict),
        "folder": str(result.folder) if result.folder else None,
        "detail": result.detail,
        "stages": [
            {
                "stage": e.stage,
                "state": e.state,
                "code": e.code,
                "detail": e.detail,
                "seconds": round(e.seconds, 3),
            }
            for e in result.stages
        ],
        "fallbacks": [vars(fallback) for fallback in result.job.fallbacks],
        "warnings": list(result.job.warnings),
    }


def job_table(rows: Sequence[tuple[JobRow, Sequence[StageEvent]]]) -> Table:
    """Jobs, newest first, with the stage that runs or the reason why they ended."""
    table = Table(box=None, header_style="bold")
    for column in ("job", "song", "preset", "state", "what"):
        table.add_column(column, overflow="fold", no_wrap=column in ("job", "state"))
    for row, stages in rows:
        what = row.folder or row.detail
        if row.state == "running":
            what = ", ".join(f"{e.stage} {_percent(e)}" for e in stages if e.state == "running")
        elif row.state in ("waiting", "failed", "quarantined", "cancelled"):
            what = row.detail
        preset = f"{row.preset} (draft)" if row.draft else row.preset
        table.add_row(row.id, escape(row.name), escape(preset), _state(row.state), escape(what))
    return table


def print_json(value: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(value, indent=1, default=str))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Rows as a table with these columns, or as JSON with all they hold."""
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row[column])) for column in columns))
    PipeSafeConsole().print(table)


def print_error(message: str) -> None:
    """One line on standard error."""
    Console(stderr=True).print(f"[red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)


def _to_nowhere(stream: IO[str]) -> None:
    """Let what is still written to a broken pipe or a closed terminal vanish, also at the end of the program."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tale(message: Mapping[str, Any]) -> str:
    event = message["event"]
    if event == "ready":
        places = "\n".join(
            f"  {escape(w['inbox'])}  [dim]preset {escape(w['preset'])}[/]" for w in message["watch"]
        )
        http = f"\nHTTP for scripts on {escape(message['http'])}" if message["http"] else ""
        return f"Watching\n{places}\nReturning to {escape(message['outbox'])}{http}\nCtrl-C ends it."
    if event == "queued":
        what = ", a draft" if message["draft"] else ""
        return f"[bold]{escape(message['name'])}[/] queued as job {message['id']}, preset {escape(message['preset'])}{what}"
    if event == "stage" and message["state"] != "running":
        return f"  {message['stage']:<10} {_state(message['state'])} [dim]{message['seconds']:.1f} s[/] {escape(message['detail'])}"
    if event == "job":
        where = message["folder"] or message["detail"]
        what = " (draft)" if message["draft"] else ""
        return f"[bold]{escape(message['name'])}[/]{what} {_state(message['state'])}: {escape(where)}"
    if event == "waiting":
        return f"[bold]{escape(message['name'])}[/] {_state('waiting')}: {escape(message['detail'])}"
    if event == "live":
        return f"[cyan]live[/] {escape(message['detail'])}"
    if event in ("refused", "warning"):
        return f"[yellow]{event}[/] {escape(message['detail'])}"
    return ""


def _state(state: str) -> str:
    return f"[{COLOURS[state]}]{state}[/]"


def _percent(event: StageEvent) -> str:
    return f"{100 * event.done / event.total:.0f}%" if event.total > 0 else "..."


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)
