"""What a bounce's file name tells (role, tempo), how it is shown, and what the returned folder is called."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePath

from bridge.types import Role

MAX_STEM = 80
NOT_PLAIN = re.compile(r"[^A-Za-z0-9 ._()+-]+")
# With the separators and brackets around it, so that the name without it reads well.
TEMPO = re.compile(
    r"(?:^|[\s_-]+|[\s_-]*[(\[])(\d{2,3}(?:[.,]\d{1,3})?)[ _]?bpm(?![a-z])[)\]]?", re.IGNORECASE
)
STRAY_BPM = re.compile(r"(\d)[ _]?bpm", re.IGNORECASE)
ROLE = re.compile(r"(?:^|[_-]\s*)([a-z]+)\s*$", re.IGNORECASE)

ROLE_WORDS: dict[str, Role] = {
    "vox": "vocals",
    "vocal": "vocals",
    "vocals": "vocals",
    "acapella": "vocals",
    "drum": "drums",
    "drums": "drums",
    "bass": "bass",
    "other": "other",
    "mix": "mix",
    "mixdown": "mix",
    "master": "mix",
}

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: not as a stem, whatever follows a dot.
WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {f"{port}{n}" for port in ("COM", "LPT") for n in range(10)}


def role_in_name(name: str) -> Role | None:
    """The role that a name ends in, behind "_" or "-" or alone: `Song_vox.wav`, `Song - Drums.wav`."""
    match = ROLE.search(_without_tempo(PurePath(name).stem))
    return ROLE_WORDS.get(match.group(1).lower()) if match else None


def bpm_in_name(name: str) -> float | None:
    """The tempo in a name such as `Song_120bpm.wav` or `Song 97.5 BPM.wav`."""
    match = TEMPO.search(PurePath(name).stem)
    return float(match.group(1).replace(",", ".")) if match else None


def printable(name: str | PurePath) -> str:
    """The name with what is no text in it as an escape, fit to show, store and send: `bad\\udcff.wav`.

    Such names hold bytes that are no UTF-8 (Linux) or half a character (Windows).
    """
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


def name_trouble(path: PurePath) -> str | None:
    """Why a file of this name can't be worked on, or None: its path is no text."""
    shown = printable(path)
    return None if shown == str(path) else f"{shown} has a name that is not valid text. Rename it."


def song_folder_name(name: str) -> str:
    """A name for the returned folder and its files, safe on every system and in every DAW.

    ASCII letters, digits and `._()+- `, at most 80 characters, never empty, reserved on Windows or
    hidden. It carries no tempo, since some DAWs stretch a file whose name does. Where letters had to
    go (a name in another script), a few digits of its hash keep different songs apart.
    """
    stem = PurePath(name).stem
    ascii_text = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode("ascii")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    suffix = f"-{digest}" if _loses_letters(stem) else ""
    plain = NOT_PLAIN.sub("_", STRAY_BPM.sub(r"\1", _without_tempo(ascii_text)))
    plain = re.sub(r"\.{2,}", ".", plain).strip(" ._-")
    plain = (plain[: MAX_STEM - len(suffix)].rstrip(" ._-") or "song") + suffix
    return f"song_{plain}" if plain.split(".")[0].strip().upper() in WINDOWS_DEVICES else plain


def _without_tempo(stem: str) -> str:
    return TEMPO.sub("", stem).strip(" _-")


def _loses_letters(text: str) -> bool:
    """Whether letters or digits have no ASCII form; accents on Latin letters don't count."""
    return any(char.isalnum() and not char.isascii() for char in unicodedata.normalize("NFKD", text))
