"""The verbs `voices add` and `voices train`; no logic."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Annotated

import typer

from bridge.config import folders
from bridge.errors import UsageError
from bridge.terminal import PipeSafeConsole, print_json, work_bar
from bridge.voice_verbs import AsJson, agreed

NewName = Annotated[str, typer.Argument(help="What the voice is called, or shall be.")]


def add(
    name: NewName,
    recordings: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    owner: Annotated[str, typer.Option(help="Whose voice it is.")] = "",
    given_by: Annotated[str, typer.Option(help="Who consents: the owner, or who may speak for them.")] = "",
    statement: Annotated[str, typer.Option(help="What was agreed to, in their own words.")] = "",
    scope: Annotated[str, typer.Option(help="personal or release.")] = "",
    expires: Annotated[
        str | None, typer.Option(help='The last day it holds, such as 2027-06-30; "" until it is revoked.')
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add recordings to train a voice on. Asks first whose voice it is and whether they agree."""
    from bridge.voices.consent import FILE_NAME, require_consent, voice_folder, write_consent
    from bridge.voices.recordings import add_recordings, read_sources
    from bridge.voices.survey import survey
    from bridge.voices.survey_page import write_survey

    voices, today = folders().voices, datetime.date.today()
    folder = voice_folder(name, voices)
    if not (folder / FILE_NAME).exists():
        write_consent(name, agreed(owner, given_by, statement, scope, expires), voices)
    elif owner or given_by or statement or scope or expires is not None:
        raise UsageError(f"{name} has a consent already. To change it: dawbridge voices consent {name}.")
    require_consent(name, voices, today)
    with work_bar(PipeSafeConsole(stderr=True), "listen") as report:
        added = add_recordings(name, recordings, voices, today, report)
    found = survey(read_sources(folder))
    page = write_survey(folder, name, found)
    if as_json:
        table = {"name": name, "added": [source.name for source in added.sources], "page": str(page)}
        skipped = {str(path): why for path, why in added.skipped.items()}
        print_json(table | {"skipped": skipped, "survey": dataclasses.asdict(found)})
        return
    for source in added.sources:
        print(f"{source.name}: {source.kept_s:.0f} of {source.seconds:.0f} s kept, {source.slices} slices")
    for path, why in added.skipped.items():
        print(f"{path.name}: not taken up: {why}")
    print(f"{name}: {found.minutes_kept:.1f} minutes of voice in all. The report: {page}")
    for line in found.advice:
        print(f"- {line}")


def train(
    name: NewName,
    epochs: Annotated[
        int, typer.Option(min=1, help="The most passes; it ends when it no longer gains.")
    ] = 1000,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="The most minutes.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=64, help="Slices in a step.")] = 4,
    segment_size: Annotated[
        int, typer.Option(min=2048, max=65536, help="Samples of each slice that are made in a step; in 512s.")
    ] = 10_240,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1e-2)] = 1e-4,
    template: Annotated[
        str,
        typer.Option(
            help="quickvc (fast on a processor), quickvc-small (faster, no base fits) or hifi-gan (slow)."
        ),
    ] = "quickvc",
    base: Annotated[
        Path | None, typer.Option(help="A base model to begin from: G_*.pth, its D_*.pth beside it.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="whisper-tiny-en, or content-vec-best, which most base models want.")
    ] = "whisper-tiny-en",
    encoder_folder: Annotated[
        Path | None, typer.Option(help="Where that encoder lies; else among dawbridge's models.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Epochs between two judgements and phrases.")] = 10,
    patience: Annotated[int, typer.Option(min=1, help="Judgements without gain before it ends.")] = 20,
    warm_up: Annotated[
        int, typer.Option(min=0, help="First epochs without discriminator: faster, duller; without a base.")
    ] = 0,
    use: Annotated[
        int | None, typer.Option(min=0, help="Don't train: make the checkpoint of this epoch the voice.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a voice on its recordings. The same command goes on after a break; Ctrl-C keeps everything."""
    from bridge.voices.recipe import Recipe
    from bridge.voices.train import train_voice, use_epoch

    voices = folders().voices
    if use is not None:
        chosen = use_epoch(name, voices, use, datetime.date.today())
        if as_json:
            print_json({"name": name, "epoch": chosen.epoch, "held_out_mel": chosen.held_out_mel})
        else:
            print(f"{name} is now what it was after epoch {chosen.epoch}.")
        return
    if segment_size % 512:
        raise UsageError(f"--segment-size {segment_size} must be a multiple of 512.")
    recipe = Recipe(
        epochs=epochs,
        minutes=minutes,
        batch=batch,
        segment_size=segment_size,
        learning_rate=learning_rate,
        template=template,
        base=base,
        encoder=encoder,
        encoder_folder=encoder_folder,
        every=every,
        patience=patience,
        warm_up=warm_up,
    )
    with work_bar(PipeSafeConsole(stderr=True), "train") as report:
        made = train_voice(name, voices, folders().models, recipe, report)
    if as_json:
        print_json(dataclasses.asdict(made) | {"folder": str(made.folder)})
        return
    for note in made.notes:
        print(note)
    print(
        f"{name}: {made.epochs} epochs, {made.seconds / 60:.1f} minutes on {made.minutes_of_data:.1f} minutes of voice; "
        f"{made.ended}. The voice is epoch {made.epoch}, held-out mel distance {made.held_out_mel:.3f}."
    )
    print(f"Listen: {made.folder / 'training' / 'report.html'}. Try it: dawbridge voices test {name} SONG")
