"""What a musician can set while playing: one table behind the configuration, MIDI controllers and `live set`.

Pure. Values are checked where they come from outside (`config.read_table`); a controller's 0..127 always maps into
the range.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.errors import UsageError
from bridge.settings import setting

PARTS = ("lead", "piano", "guitar", "bass", "strings", "drums")
SCALES = (
    "major", "minor", "harmonic minor", "melodic minor", "dorian", "phrygian", "lydian", "mixolydian",
    "major pentatonic", "minor pentatonic", "blues", "chromatic",
)  # fmt: skip
TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
FOLLOW, FREE = "follow", "free"
KEY_CHOICES = (FOLLOW, FREE, *(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS))
"""What a controller steps through; by name any key of SCALES can be set."""
COMMANDS: Mapping[str, str] = {
    "answer": "the phrase is over: answer from the next bar line on",
    "stop": "the companion falls silent; the musician's next phrase wakes it",
    "panic": "all notes off, everywhere, at once",
    "keep": "the last reply is put aside in the folder live/kept",
    "undo": "the last reply is taken back: forgotten, and its file moved to live/undone",
    "capture": "save what was heard in the last minutes",
}
CC_ON = 64


@dataclass(frozen=True)
class Controls:
    """Everything that can be set while playing."""

    mode: str = setting("call", choices=("call", "continue", "loop"), help="call and response; continue until stopped; a new variation each `bars` bars")  # fmt: skip
    bars: int = setting(4, lo=1, hi=32, help="length of a reply or variation, in bars")
    part: str = setting(FOLLOW, help='who plays: lead, piano, guitar, bass, strings, drums, several with commas; "follow": lead, or piano where you play chords')  # fmt: skip
    channel: int = setting(
        1, lo=1, hi=16, help="MIDI channel of the first part; others follow, drums are on 10"
    )
    temperature: float = setting(1.0, lo=0.05, hi=2.0, help="below 1 safer, above 1 wilder")
    density: float = setting(0.0, lo=0.0, hi=12.0, help="most notes per beat of each part; 0 = half as many again as you play")  # fmt: skip
    low: int = setting(36, lo=0, hi=127, help="lowest MIDI pitch of what is answered")
    high: int = setting(96, lo=0, hi=127, help="highest MIDI pitch of what is answered")
    key: str = setting(
        FOLLOW, help='"follow" what is played, "free", or a key such as "A minor" or "D dorian"'
    )
    rest_beats: float = setting(
        0.5, lo=0.0, hi=16.0, help="a phrase is over after so long a rest, at a bar line"
    )
    align_bars: int = setting(1, lo=1, hi=16, help="replies begin on every so many bars")
    every_bars: int = setting(
        0, lo=0, hi=64, help="answer after every so many bars, rest or not; 0 = by rest"
    )
    seed: int = setting(0, lo=0, hi=2**31 - 1, help="of the next reply; 0 = another one each time")
    mute: bool = setting(False, help="the companion listens and does not play")
    thru: bool = setting(False, help="what is heard goes out too")
    beats_per_bar: int = setting(4, lo=1, hi=32, help="MIDI clock does not tell the metre")
    beat_unit: int = setting(4, choices=(1, 2, 4, 8, 16), help="4 = quarter notes, 8 = eighths")
    tempo: float = setting(120.0, lo=20.0, hi=400.0, help="quarter notes per minute of the internal clock")
    clock: str = setting("auto", choices=("auto", "internal", "midi", "link"), help="who leads")
    send_clock: bool = setting(False, help="send MIDI clock on the output")

    @property
    def bar_beats(self) -> float:
        """Length of a bar in quarter notes."""
        return self.beats_per_bar * 4.0 / self.beat_unit

    def parts(self, played: str) -> tuple[str, ...]:
        """Who plays, where the musician's own part is `played`."""
        if self.part == FOLLOW:
            return (played,)
        return tuple(dict.fromkeys(name.strip() for name in self.part.split(",")))

    def channel_of(self, part: str) -> int:
        """MIDI channel 0..15 of a part."""
        if part == "drums":
            return 9
        pitched = [name for name in self.parts(part) if name != "drums"]
        if len(pitched) == 1:
            return self.channel - 1
        first = self.channel - 1
        free: list[int] = [channel % 16 for channel in range(first, first + 16) if channel % 16 != 9]
        return free[pitched.index(part) if part in pitched else 0]


FIELDS = {field.name: field for field in dataclasses.fields(Controls)}


def check(controls: Controls) -> Controls:
    """What no single range can tell.

    Raises:
        UsageError: no such part or key, or a lowest pitch above the highest.
    """
    for part in controls.parts("lead"):
        if part not in PARTS:
            raise UsageError(
                f'part = "{part}" is no part. Write {FOLLOW}, or one or more of {", ".join(PARTS)}.'
            )
    if not is_key(controls.key):
        raise UsageError(
            f'key = "{controls.key}" is no key. Write {FOLLOW}, {FREE}, or a tonic and a scale such as "A minor"; '
            f"scales are {', '.join(SCALES)}."
        )
    if controls.low > controls.high:
        raise UsageError(f"low = {controls.low} lies above high = {controls.high}. Swap them.")
    return controls


def is_key(text: str) -> bool:
    """`follow`, `free`, or a tonic with a scale."""
    match = re.fullmatch(r"([A-G][#b]?) (.+)", text)
    return text in (FOLLOW, FREE) or bool(match and match[2] in SCALES)


def from_controller(controls: Controls, name: str, value: int) -> Controls:
    """A controller's 0..127 as a value of the control `name`; what would contradict another control is left."""
    field = FIELDS[name]
    now = getattr(controls, name)
    own_choices = {"key": KEY_CHOICES, "part": (FOLLOW, *PARTS)}
    choices = own_choices.get(name, field.metadata["choices"])
    new: Any
    if isinstance(now, bool):
        new = value >= CC_ON
    elif choices:
        new = choices[value * len(choices) // 128]
    else:
        low, high = field.metadata["lo"], field.metadata["hi"]
        new = low + (high - low) * value / 127
        new = round(new) if isinstance(now, int) else round(new, 3)
    changed = dataclasses.replace(controls, **{name: new})
    return changed if changed.low <= changed.high else controls
