"""Speech made by code, whose words and morae are known: what `voices` measures words and syllables with.

English comes from Debian's flite where it is installed, and from a Kokoro speaker; Japanese from Kokoro.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from bridge import audio
from bridge.audio import Samples
from tests.benchmarks import kokoro_speech
from tests.song_a import RATE_HZ

SPEECH_HZ = kokoro_speech.RATE_HZ

HARVARD = (
    "the birch canoe slid on the smooth planks",
    "glue the sheet to the dark blue background",
    "it is easy to tell the depth of a well",
    "these days a chicken leg is a rare dish",
    "rice is often served in round bowls",
    "the juice of lemons makes fine punch",
    "the box was thrown beside the parked truck",
    "the hogs were fed chopped corn and garbage",
    "four hours of steady work faced us",
    "a large size in stockings is hard to sell",
    "the boy was there when the sun rose",
    "a rod is used to catch pink salmon",
    "the source of the huge river is the clear spring",
    "kick the ball straight and follow through",
    "help the woman get back to her feet",
    "a pot of tea helps to pass the evening",
    "smoky fires lack flame and heat",
    "the soft cushion broke the man's fall",
    "the salt breeze came across from the sea",
    "the girl at the booth sold fifty bonds",
    "the small pup gnawed a hole in the sock",
    "the fish twisted and turned on the bent hook",
    "press the pants and sew a button on the vest",
    "the swan dive was far short of perfect",
)
"""Two lists and more of the Harvard sentences (IEEE 1969)."""

JAPANESE = (
    "wa ta shi wa ma i a sa ha ya ku o ki ma su",
    "kyo - wa to te mo i i te n ki de su ne",
    "so no ya ma no mu ko - ni u mi ga mi e ma su",
    "a ta ra shi i u ta o u ta i ma sho -",
    "ko no ho n o yo n de ku da sa i",
    "na tsu no yo ru ni ha na bi o mi ma shi ta",
    "e ki ma de a ru i te ju - go fu n ka ka ri ma su",
    "ne ko ga ni wa de ne mu t te i ma su",
)
"""Sentences, a mora to each word; "t" before another mora is the pause of a double consonant."""

_ONSETS = (
    *(("kyo", "kʲo"), ("sho", "ɕo"), ("shi", "ɕi"), ("chi", "ʨi"), ("tsu", "ʦɨ"), ("ju", "ʥɨ"), ("fu", "ɸɯ")),
    *(("ki", "kʲi"), ("ri", "ɾʲi"), ("mi", "mʲi"), ("bi", "bʲi"), ("ni", "ɲi"), ("hi", "çi"), ("su", "sɨ")),
    *(("y", "j"), ("r", "ɾ"), ("g", "ɡ"), ("w", "β")),
)
_VOWELS = dict.fromkeys(
    ("kyo", "sho", "shi", "chi", "tsu", "ju", "fu", "ki", "ri", "mi", "bi", "ni", "hi", "su"), ""
)


def flite_voices() -> tuple[str, ...]:
    """Voices of Debian's flite that speak clearly, where it is installed."""
    return ("slt", "rms") if shutil.which("flite") else ()


def spoken(voice: str) -> list[Samples]:
    """The Harvard sentences by a flite voice, or by a Kokoro voice that learnt Japanese; (1, frames) at RATE_HZ each."""
    if voice not in flite_voices():
        return [
            audio.resample(kokoro_speech.speak(words, voice)[None], SPEECH_HZ, RATE_HZ) for words in HARVARD
        ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        said = []
        for words in HARVARD:
            subprocess.run(["flite", "-voice", voice, "-t", words, "-o", str(path)], check=True)
            samples, rate_hz = audio.read_raw(path)
            said.append(audio.resample(samples, rate_hz, RATE_HZ))
        return said


def japanese(voice: str) -> tuple[Samples, int]:
    """Sentences of known length in one voice, (1, frames) at SPEECH_HZ, and how many morae they have."""
    pause = np.zeros(round(0.3 * SPEECH_HZ), dtype=np.float32)
    parts = [pause]
    for sentence in JAPANESE:
        sounds = "".join(kana(mora) for mora in sentence.split())
        parts += [kokoro_speech.speak_sounds(f"{sounds}.", voice), pause]
    return np.concatenate(parts)[None], sum(len(sentence.split()) for sentence in JAPANESE)


def kana(mora: str) -> str:
    """One mora in Hepburn's letters -> the letters of Kokoro's vocabulary."""
    if mora == "n":
        return "ɴ"
    if mora == "-":  # the vowel before it, longer
        return "ː"
    for hepburn, letter in _ONSETS:
        if mora.startswith(hepburn):
            return letter + _VOWELS.get(mora, mora[len(hepburn) :].replace("u", "ɯ"))
    return mora.replace("u", "ɯ")
