"""The graph: ONE table. A stage's parameters are named after the artifacts it needs and wants.

`needs`: without it the stage is skipped. `wants`: it gets None instead. `wants_if_asked`: the same,
but when the preset asked for the stage that makes it and that stage made nothing, this one is
skipped too (an unconverted vocal must never go out as the converted lead).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from bridge.stages import analyse, convert, effects, export, generate, mix, report, separate, transcribe
from bridge.types import ArtifactKind, Bounce, Fallback, Made, ModelRef, Skip

LaneName = Literal["heavy", "light"]

KINDS: Mapping[str, ArtifactKind] = {
    "record": "json",
    "stems": "stems",
    "grid": "json",
    "notes": "midi",
    "notes_quantised": "midi",
    "continuation": "midi",
    "continuation_audio": "audio",
    "arrangement": "midi",
    "arrangement_audio": "audio",
    "voice": "audio",
    "backing": "audio",
    "lead": "audio",
    "mix": "audio",
    "new_piece": "audio",
    "report": "report",
}
"""What each artifact is. `bounce` and `record` are given by the job itself."""


BOUNCE_FIELDS = ("sha256", "role", "tempo_map", "tempo_source", "key")


@dataclass(frozen=True)
class Stage:
    """One row of the table. `resolve`, `models`, `digests` and `permit` are optional hooks of its module."""

    name: str
    run: Callable[..., Made | Skip]
    settings: type[Any]
    version: str
    needs: tuple[str, ...]
    wants: tuple[str, ...]
    wants_if_asked: tuple[str, ...]
    gives: tuple[str, ...]
    lane: LaneName
    bounce_fields: tuple[str, ...]  # what of the bounce its result depends on
    resolve: Callable[[Any, Bounce, Path], tuple[Any, Fallback | None]] | None
    models: Callable[[Any, Path], tuple[ModelRef, ...]] | None
    digests: Callable[[Any], tuple[str, ...]] | None
    permit: Callable[[Any, Path], Mapping[str, Any]] | None

    @property
    def takes(self) -> tuple[str, ...]:
        """All artifacts it is called with."""
        return self.needs + self.wants + self.wants_if_asked


def stage(
    module: ModuleType,
    *,
    needs: tuple[str, ...],
    gives: tuple[str, ...],
    lane: LaneName,
    wants: tuple[str, ...] = (),
    wants_if_asked: tuple[str, ...] = (),
) -> Stage:
    """A row from a stage's module, which holds everything else under agreed names."""
    name = module.__name__.rsplit(".", 1)[-1]
    return Stage(
        name=name,
        run=getattr(module, name),
        settings=getattr(module, f"{name.capitalize()}Settings"),
        version=module.STAGE_VERSION,
        needs=needs,
        wants=wants,
        wants_if_asked=wants_if_asked,
        gives=gives,
        lane=lane,
        bounce_fields=getattr(module, "BOUNCE_FIELDS", BOUNCE_FIELDS),
        resolve=getattr(module, "resolve", None),
        models=getattr(module, "models", None),
        digests=getattr(module, "digests", None),
        permit=getattr(module, "permit", None),
    )


PIPELINE: tuple[Stage, ...] = (
    stage(separate, needs=("bounce",), gives=("stems",), lane="heavy"),
    stage(analyse, needs=("bounce",), wants=("stems",), gives=("grid",), lane="light"),
    stage(transcribe, needs=("stems", "grid"), gives=("notes", "notes_quantised"), lane="heavy"),
    stage(
        generate,
        needs=("bounce", "notes_quantised", "grid"),
        gives=("continuation", "continuation_audio", "arrangement", "arrangement_audio"),
        lane="heavy",
    ),
    stage(convert, needs=("stems", "grid"), gives=("voice", "backing"), lane="light"),
    stage(effects, needs=("stems", "grid"), wants_if_asked=("voice",), gives=("lead",), lane="light"),
    stage(
        mix,
        needs=("stems", "grid"),
        wants=("lead", "arrangement_audio", "backing"),
        gives=("mix", "new_piece"),
        lane="light",
    ),
    stage(
        report,
        needs=("bounce", "record"),
        wants=("grid", "notes", "continuation", "arrangement", "lead", "mix", "new_piece"),
        gives=("report",),
        lane="light",
    ),
    stage(
        export,  # last: it writes the manifest
        needs=("bounce", "record"),
        wants=(
            *("stems", "grid", "notes", "notes_quantised"),
            *("continuation", "continuation_audio", "arrangement", "arrangement_audio"),
            *("voice", "backing", "lead", "mix", "new_piece", "report"),
        ),
        gives=(),
        lane="light",
    ),
)

STAGES: Mapping[str, Stage] = {row.name: row for row in PIPELINE}


def maker_of(artifact: str) -> str | None:
    """The name of the stage that gives `artifact`, or None for what the job itself gives."""
    return next((row.name for row in PIPELINE if artifact in row.gives), None)
