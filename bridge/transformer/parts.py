"""The parts that the continuation model knows, and which part a MIDI file's channel belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.sheet import DRUM_CHANNEL, Voice

PARTS = ("lead", "piano", "guitar", "bass", "strings", "drums")

PROGRAMS: tuple[tuple[range, str | None], ...] = (  # programs counted from 0, by General MIDI family
    (range(8), "piano"),
    (range(8, 16), "piano"),  # chromatic percussion: struck and pitched, as a piano is
    (range(16, 24), "piano"),  # organs, accordion, harmonica
    (range(24, 32), "guitar"),
    (range(32, 40), "bass"),
    (range(40, 47), "strings"),
    (range(47, 48), None),  # timpani: tuned, but it plays no melody and no chords
    (range(48, 56), "strings"),  # ensembles, choirs, orchestra hit
    (range(56, 64), "lead"),  # brass
    (range(64, 72), "lead"),  # reeds
    (range(72, 80), "lead"),  # pipes
    (range(80, 88), "lead"),  # synthetic leads
    (range(88, 96), "strings"),  # pads
    (range(96, 104), "strings"),  # effects that sound like pads
    (range(104, 108), "guitar"),  # sitar, banjo, shamisen, koto
    (range(108, 109), "piano"),  # kalimba
    (range(109, 112), "lead"),  # bagpipe, fiddle, shanai
    (range(112, 115), "piano"),  # bell, agogo, steel drums
    (range(115, 120), None),  # unpitched percussion on a channel of its own
    (range(120, 128), None),  # noises
)
"""Channel 10 never comes here: it is `drums` whatever its program says."""
OUR_TRACKS: Mapping[str, str] = {"vocals": "lead", "other": "piano"}
"""Tracks of our own files whose program says less than their name."""
TRACK_NAMES: Mapping[str, str] = {
    **{part: part for part in PARTS},
    "lead vocal": "lead",
    "vocal": "lead",
    "vox": "lead",
    "voice": "lead",
    "melody": "lead",
    "keys": "piano",
    "gtr": "guitar",
    "pad": "strings",
    "drum kit": "drums",
    "percussion": "drums",
}
"""What a track's whole name tells where no program does."""


def part_of_voice(voice: Voice) -> str | None:
    """The part that plays a channel of a track; None where the model has none for it.

    Channel 10 is `drums`. A track's name counts where the file sets no program, or 0, which many programs write
    for everything; a nameless track without a program is a piano, as General MIDI has it.
    """
    if voice.channel == DRUM_CHANNEL:
        return "drums"
    name = re.sub(r"[\W\d_]+", " ", voice.track).strip().lower()
    if name in OUR_TRACKS:
        return OUR_TRACKS[name]
    if voice.program:
        return part_of_program(voice.program)
    return TRACK_NAMES.get(name, "piano")


def part_of_program(program: int) -> str | None:
    """The part that plays a General MIDI program (0..127); None where it is neither pitched nor a drum kit."""
    return next((part for programs, part in PROGRAMS if program in programs), None)
