"""What plays a phrase: the soundfont that ships with pretty_midi, one of the user's own, or a plug-in."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bridge.errors import PresetError
from bridge.store import content_sha256
from bridge.types import ModelRef

SHIPPED, SHIPPED_LICENCE, OWN_LICENCE = "TimGM6mb.sf2", "GPL-2.0-only", "the user's own"
REMEDY = 'Name an SF2 or SF3 file of General MIDI, or "" for the shipped one.'


@dataclass(frozen=True)
class Sound:
    """Which soundfont, and which plug-in if any."""

    soundfont: str = ""  # path of an SF2 or SF3 file of General MIDI; "" is the shipped one
    plugin: str = ""  # path of an instrument (VST3, on a Mac AU too) for all parts but the drums; "" is none


def refs(sound: Sound) -> tuple[ModelRef, ...]:
    """The files that decide how it sounds, for manifests and cache keys.

    Raises:
        PresetError: as `soundfont_path` and `plugin_path`.
    """
    licence = OWN_LICENCE if sound.soundfont else SHIPPED_LICENCE
    found = [(soundfont_path(sound), licence)]
    plugin = plugin_path(sound)
    found += [(plugin, OWN_LICENCE)] if plugin else []
    return tuple(ModelRef(path.name, content_sha256(path), licence) for path, licence in found)


def soundfont_path(sound: Sound) -> Path:
    """The soundfont's file.

    Raises:
        PresetError: it is missing, can't be read, or is no soundfont by its header.
    """
    path = _path(sound.soundfont) if sound.soundfont else _shipped()
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as exc:
        raise PresetError(f"The soundfont {path} can't be read ({exc.strerror}). {REMEDY}") from exc
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise PresetError(f"{path} is no soundfont. {REMEDY}")
    return path


def plugin_path(sound: Sound) -> Path | None:
    """The plug-in's file or bundle, None where none is named.

    Raises:
        PresetError: there is no such file.
    """
    if not sound.plugin:
        return None
    path = _path(sound.plugin)
    if not path.exists():
        raise PresetError(f"There is no instrument plug-in {path}. Install it, or correct the path.")
    return path


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError as exc:
        raise PresetError(f"{name} names a home that does not exist. Write the whole path.") from exc


def _shipped() -> Path:
    """In the installed package, found without the second that its import takes."""
    spec = find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise PresetError(
            "The package pretty_midi, which holds the shipped soundfont, is missing: install again."
        )
    return Path(spec.origin).with_name(SHIPPED)
