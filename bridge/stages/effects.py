"""The lead: the converted voice, or the vocals stem where no conversion was asked for, through a chain."""

from __future__ import annotations

from dataclasses import dataclass

from bridge import sound
from bridge.effects.chains import chain_folders, load_chain
from bridge.effects.render import render
from bridge.grid import read_grid
from bridge.settings import setting
from bridge.types import Artifact, Context, Made, Skip

STAGE_VERSION = "1"


@dataclass(frozen=True)
class EffectsSettings:
    """Which chain of effects."""

    chain: str = setting("lead", help="a file in presets/effects, yours or a shipped one, without .toml")


def digests(settings: EffectsSettings) -> tuple[str, ...]:
    """The digest of the chain's content, which decides the result like a setting.

    Raises:
        PresetError: there is no such chain, or something in it is wrong.
    """
    return (load_chain(settings.chain, chain_folders()).sha256,)


def effects(
    stems: Artifact, grid: Artifact, voice: Artifact | None, *, settings: EffectsSettings, context: Context
) -> Made | Skip:
    """Make `lead`, as long as the bounce and in time with it.

    Raises:
        PresetError: as `digests`.
        StageError: an effect or a plug-in fails.
    """
    if not read_grid(grid.path).sings:
        return Skip("nobody seems to sing; if somebody does, set analyse.sings=yes", "no_singing")
    source = voice.path if voice else stems.path / "vocals.wav"
    if not source.exists():
        return Skip("this bounce has no vocals stem", "no_vocals")
    chain = load_chain(settings.chain, chain_folders())
    path = context.workdir / "lead.wav"
    render(chain, sound.of_file(source), path, context.report)
    return Made({"lead": path}, f"chain {chain.name!r}, {len(chain.steps)} effects", {"chain": chain.name})
