"""How alike voices are, by Resemblyzer's speaker embeddings (Wan et al. 2018), and whether one recording holds two."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bridge import audio
from bridge.audio import Samples

Embeddings = npt.NDArray[np.float32]
"""(pieces, 256) float32, each of length 1."""

RATE_HZ = 16_000
SHORTEST_S = 1.6  # what one embedding is made of, at least
PIECE_S = 3.0
LEVEL_DB = -30.0

# Between what was measured on made voices: see tests/test_speakers.py.
ALIKE_FROM = 0.75
LEAST_SHARE = 0.12  # of the pieces: less may be a cough


@dataclass(frozen=True)
class Speakers:
    """Whether more than one voice is heard. One singer's highest and lowest notes can sound like two people to it."""

    several: bool
    likeness: float  # of the two groups that the pieces fall into, in [0, 1]; 1.0 where there is one piece
    smaller_share: float  # of the pieces in the smaller group


def embed(mono: Samples, sample_rate_hz: int, piece_s: float = PIECE_S) -> Embeddings:
    """Embeddings of consecutive pieces of `mono`, (1, frames), which holds a voice throughout."""
    samples = audio.resample(mono, sample_rate_hz, RATE_HZ)[0]
    samples = samples * np.float32(audio.db_to_amplitude(LEVEL_DB - max(audio.rms_db(samples[None]), -80.0)))
    length, least = round(piece_s * RATE_HZ), round(SHORTEST_S * RATE_HZ)
    pieces = [samples[at : at + length] for at in range(0, samples.size, length)]
    long_enough = [piece for piece in pieces if piece.size >= least] or pieces[:1]
    return np.stack([_encoder().embed_utterance(piece) for piece in long_enough])


def likeness(first: Embeddings, second: Embeddings) -> float:
    """Cosine of the mean embeddings: about 0.9 for one speaker, 0.5 to 0.8 for two."""
    return float(_direction(first) @ _direction(second))


def judge(pieces: Embeddings) -> Speakers:
    """Split the pieces into the two groups that differ most (2-means), and see how much they differ."""
    if len(pieces) < 2:
        return Speakers(False, 1.0, 0.0)
    alike = pieces @ pieces.T
    first, second = np.unravel_index(int(np.argmin(alike)), alike.shape)
    centres = pieces[[first, second]]
    belongs = np.zeros(len(pieces), dtype=int)
    for _ in range(20):
        belongs = np.argmax(pieces @ centres.T, axis=1)
        if len(set(belongs.tolist())) < 2:
            return Speakers(False, 1.0, 0.0)
        centres = np.stack([_direction(pieces[belongs == group]) for group in (0, 1)])
    share = float(min(np.mean(belongs == 0), np.mean(belongs == 1)))
    found = float(centres[0] @ centres[1])
    return Speakers(found < ALIKE_FROM and share >= LEAST_SHARE, found, share)


def _direction(pieces: Embeddings) -> npt.NDArray[np.float32]:
    mean = pieces.mean(axis=0)
    return cast("npt.NDArray[np.float32]", mean / np.linalg.norm(mean))


@functools.lru_cache(maxsize=1)
def _encoder() -> Any:
    """Its weights lie in the package as tensors alone: torch reads them without unpickling, as it does by default."""
    from resemblyzer import VoiceEncoder

    return VoiceEncoder("cpu", verbose=False)
