"""Ableton Live Remote Script: puts what dawbridge returned onto new tracks, and tells dawbridge the tempo.

    config.py     what the installer wrote and the user may change
    problem.py    the one line that a person reads when something can't be done
    midi_file.py  bytes of a MIDI file -> notes and tempo
    song.py       a returned folder -> what to place where; checks every file's digest
    worker.py     a thread for all file work; never touches Live
    loader.py     places a song in the set; every call of Live's is in here and in script.py
    script.py     what Live calls: ticks, MIDI, the end

It runs in Live's own Python: 3.7 in Live 11, 3.11 in Live 12. Only the standard library.
"""

from __future__ import annotations

from typing import Any

from .script import Script


def create_instance(c_instance: Any) -> Script:
    """Called by Live when the control surface is chosen in its settings."""
    return Script(c_instance)
