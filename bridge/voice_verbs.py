"""The verb `voices` with its subcommands; no logic."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.config import folders, load_config
from bridge.errors import UsageError
from bridge.terminal import (
    PipeSafeConsole,
    StageBars,
    print_error,
    print_fallbacks,
    print_json,
    print_returned,
    print_rows,
    result_table,
)

if TYPE_CHECKING:
    from bridge.voices.consent import Consent
    from bridge.voices.shelf import Shelved

TEST_PRESET = "voice-test"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Name = Annotated[str, typer.Argument(help="A voice; see `dawbridge voices list`.")]

voices_app = typer.Typer(
    help="Voices to sing in: list, import, test, and whose consent there is.", no_args_is_help=True
)


@voices_app.command("list")
def list_(as_json: AsJson = False) -> None:
    """The voices that are here, and whether each may be used."""
    from bridge.voices.shelf import list_voices

    rows = [_row(voice) for voice in list_voices(folders().voices, datetime.date.today())]
    print_rows(rows, ("name", "engine", "speaker", "around_hz", "may be used", "problem"), as_json)


@voices_app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """All that is known of a voice: its card, its consent, where it lies."""
    from bridge.voices.shelf import look_up

    voice = look_up(name, folders().voices, datetime.date.today())
    table = _row(voice) | {
        "folder": str(voice.folder) if voice.folder else None,
        "card": dataclasses.asdict(voice.card) if voice.card else None,
        "consent": dataclasses.asdict(voice.consent) if voice.consent else None,
    }
    if as_json:
        print_json(table)
        return
    console = PipeSafeConsole()
    for key, value in table.items():
        for line, told in value.items() if isinstance(value, Mapping) else ((key, value),):
            label = line if line == key else f"{key}: {line}"
            console.print(f"{label} = {told}", markup=False, highlight=False, soft_wrap=True)


@voices_app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="A so-vits-svc model: its folder, or a G_*.pth; or a voice's .zip.")
    ],
    name: Annotated[str, typer.Option(help="What the voice shall be called.")],
    speaker: Annotated[str, typer.Option(help="Which one, where the model has several.")] = "",
    f0_hz: Annotated[
        float | None, typer.Option(min=30.0, max=2000.0, help="Where the voice lies: its median pitch in Hz.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="A folder with its content encoder; else dawbridge's models.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take in a so-vits-svc model, read as data and checked; nothing in it is run."""
    from bridge.voices.imported import import_voice

    made = import_voice(source, name, folders().voices, speaker=speaker, f0_hz=f0_hz, encoder=encoder)
    if as_json:
        table = {"name": name, "folder": str(made.folder), "card": dataclasses.asdict(made.card)}
        print_json(table | {"notes": made.notes})
        return
    for note in made.notes:
        print(note)
    if made.card.f0_median_hz is None:
        print(
            "Where the voice lies is not known, so songs keep their octave: set f0_median_hz in its voice.toml."
        )
    print(f"{name} lies in {made.folder}. Before it sings: `dawbridge voices consent {name}`.")


@voices_app.command()
def test(
    name: Name,
    song: Annotated[Path, typer.Argument(help="One audio file.")],
    role: Annotated[str, typer.Option(help="mix, vocals, drums, bass or other; else from the name.")] = "",
    out: Annotated[Path | None, typer.Option(help="Return it here instead of the configured outbox.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hear a voice on a song, dry: separate, find the singing, convert."""
    from bridge.manifest import read_manifest
    from bridge.process import process_file
    from bridge.voices.consent import require_consent

    require_consent(name, folders().voices, datetime.date.today())  # a no needs no separation first
    console = PipeSafeConsole(stderr=as_json)
    outbox = (out or load_config().outbox).absolute()
    with StageBars(console) as bars:
        overrides = {"convert": {"voice": name}}
        result = asyncio.run(process_file(song, outbox, TEST_PRESET, role, overrides, bars.update))
    print_fallbacks(result.job.fallbacks, result.job.warnings, console)
    if as_json:
        print_json(result_table(result, strict=False))
    elif result.folder:
        print_returned(result.folder, read_manifest(result.folder), console)
    if result.detail:
        print_error(result.detail)
    raise typer.Exit(result.exit_code())


@voices_app.command()
def consent(
    name: Name,
    owner: Annotated[str, typer.Option(help="Whose voice it is.")] = "",
    given_by: Annotated[str, typer.Option(help="Who consents: the owner, or who may speak for them.")] = "",
    statement: Annotated[str, typer.Option(help="What was agreed to, in their own words.")] = "",
    scope: Annotated[str, typer.Option(help="personal or release.")] = "",
    expires: Annotated[
        str | None, typer.Option(help='The last day it holds, such as 2027-06-30; "" until it is revoked.')
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write down whose voice it is and what they agreed to; asks for what no option says."""
    from bridge.voices.consent import SCOPES, Consent, write_consent
    from bridge.voices.shelf import look_up

    look_up(name, folders().voices, datetime.date.today())
    owner = owner or _ask("--owner", "Whose voice is it?")
    given = Consent(
        owner=owner,
        given_by=given_by or _ask("--given-by", "Who consents?", owner),
        statement=statement or _ask("--statement", "What did they agree to, in their own words?"),
        scope=scope or _ask("--scope", f"For what ({' or '.join(SCOPES)})?", SCOPES[0]),
        date=datetime.date.today(),
        expires=_day(
            _ask("--expires", "Until which day (empty: until revoked)?", "") if expires is None else expires
        ),
    )
    digest = write_consent(name, given, folders().voices)
    _tell_consent(name, given, digest, as_json)


@voices_app.command()
def revoke(name: Name, as_json: AsJson = False) -> None:
    """From now on the voice may not be used, by anything that dawbridge does."""
    from bridge.voices.consent import read_consent, revoke_consent

    digest = revoke_consent(name, folders().voices, datetime.date.today())
    _tell_consent(name, read_consent(name, folders().voices), digest, as_json)


@voices_app.command()
def export(
    name: Name,
    out: Annotated[Path | None, typer.Option(help="The .zip to write; else NAME.zip here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a voice to a .zip. Its consent stays here: where it lands, its owner must be asked again."""
    from bridge.voices.imported import export_voice

    path = out or Path(f"{name}.zip")
    if path.exists():
        raise UsageError(f"{path} exists already. Give another name with --out.")
    written = export_voice(name, folders().voices, path)
    if as_json:
        print_json({"name": name, "file": str(written)})
    else:
        print(f"{written} holds {name} without its consent: where it lands, its owner must be asked again.")


@voices_app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a voice and its consent. What was made with it stays where it is."""
    from bridge.voices.imported import remove_voice
    from bridge.voices.shelf import look_up

    place = look_up(name, folders().voices, datetime.date.today()).folder
    if place is None:
        raise UsageError(f"{name!r} is a built-in character and can't be removed.")
    if not yes and _ask("--yes", f"Delete {place} for good (yes or no)?", "no") != "yes":
        raise UsageError(f"{name} is kept.")
    remove_voice(name, folders().voices)
    if as_json:
        print_json({"name": name, "removed": str(place)})
    else:
        print(f"{place} is gone.")


def _row(voice: Shelved) -> dict[str, Any]:
    card = voice.card
    return {
        "name": voice.name,
        "engine": card.engine
        if card
        else ("character" if voice.folder is None and not voice.problem else None),
        "speaker": card.speaker if card else None,
        "around_hz": card.f0_median_hz if card else None,
        "may be used": voice.may,
        "problem": voice.problem or None,
    }


def _ask(option: str, question: str, default: str | None = None) -> str:
    """What the user types; an error that names the option where nobody can be asked."""
    try:
        return str(typer.prompt(question, default=default, err=True))
    except typer.Abort:
        raise UsageError(f"{question} Answer it, or give {option}.") from None


def _day(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"--expires {text!r} is no day. Write it such as 2027-06-30.") from None


def _tell_consent(name: str, given: Consent, digest: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "sha256": digest, **dataclasses.asdict(given)})
        return
    until = f"revoked on {given.revoked}" if given.revoked else f"until {given.expires or 'it is revoked'}"
    print(f"{name}: {given.owner}, {given.scope}, {until}. SHA-256 of this record: {digest}")
