"""Where somebody speaks or sings in a recording, and what the rest is: silence, noise or music.

Speech is what silero-vad takes for speech. It drops much of what is sung, so whatever else has a pitch is judged by
`presence`: a mouth moves its formants, an instrument does not.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from bridge import audio
from bridge.audio import Samples
from bridge.voices.presence import find_singing

Kind = Literal["voice", "silence", "noise", "music"]
Array = npt.NDArray[np.float64]

RATE_HZ = 16_000
HOP_FRAMES = 512  # 32 ms, what silero-vad works in
HOP_S = HOP_FRAMES / RATE_HZ
CONTEXT_FRAMES = 64
VOICE_FROM = 0.5  # probability of speech
QUIETEST_DB = -60.0
BEHIND_DB = 40.0  # this far under the recording's loud moments it is silence
MERGE_S = 0.35  # pauses inside speech that belong to it
MARGIN_S = 0.1
LEAST_SUNG_S = 1.0
MUSIC_VOICED_SHARE = 0.4


@dataclass(frozen=True)
class Stretch:
    """A part of a recording, in seconds from its start."""

    start_s: float
    end_s: float
    kind: Kind


def find_stretches(mono: Samples, sample_rate_hz: int) -> tuple[Stretch, ...]:
    """The whole of `mono`, (1, frames), as stretches in order without gaps."""
    slow = audio.resample(mono, sample_rate_hz, RATE_HZ)[0]
    level_db = _levels(slow)
    speech = _closed(_speech_probability(slow) >= VOICE_FROM, MERGE_S)
    loud = float(np.quantile(level_db, 0.95))
    active = level_db > max(QUIETEST_DB, loud - BEHIND_DB)
    kinds = np.where(active, "noise", "silence").astype("<U7")
    kinds[speech & _closed(active, MERGE_S)] = "voice"
    for first, end in _runs(_closed(active & (kinds != "voice"), MERGE_S) & (kinds != "voice")):
        _judge_rest(kinds, first, end, mono, sample_rate_hz)
    kinds[_widened(kinds == "voice", MARGIN_S)] = "voice"
    return _stretches(kinds, mono.shape[1] / sample_rate_hz)


def seconds_of(stretches: tuple[Stretch, ...], kind: Kind) -> float:
    """How long all stretches of a kind are together."""
    return sum(stretch.end_s - stretch.start_s for stretch in stretches if stretch.kind == kind)


def _judge_rest(
    kinds: npt.NDArray[np.str_], first: int, end: int, mono: Samples, sample_rate_hz: int
) -> None:
    """Sound that is no speech: song, music or noise."""
    start_frame, end_frame = (min(mono.shape[1], round(at * HOP_S * sample_rate_hz)) for at in (first, end))
    part = mono[:, start_frame:end_frame]
    if (end - first) * HOP_S < LEAST_SUNG_S:
        return
    found = find_singing(part, part, sample_rate_hz)
    if found.sings:
        for span in found.spans:
            kinds[first + int(span.start_s / HOP_S) : min(end, first + int(span.end_s / HOP_S) + 1)] = "voice"
    elif found.voiced_s > MUSIC_VOICED_SHARE * (end - first) * HOP_S:
        kinds[first:end] = "music"


def _speech_probability(slow: npt.NDArray[np.float32]) -> Array:
    """silero-vad's probability for each hop."""
    session = _session()
    state = np.zeros((2, 1, 128), np.float32)
    rate = np.array(RATE_HZ, np.int64)
    hops = -(-slow.size // HOP_FRAMES)
    padded = np.pad(slow, (CONTEXT_FRAMES, hops * HOP_FRAMES - slow.size))
    found = np.empty(hops)
    for hop in range(hops):
        window = padded[None, hop * HOP_FRAMES : (hop + 1) * HOP_FRAMES + CONTEXT_FRAMES]
        probability, state = session.run(None, {"input": window, "state": state, "sr": rate})
        found[hop] = probability[0, 0]
    return found


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    """The network as the package ships it; the package itself would import torch and set its threads."""
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise ModuleNotFoundError("silero_vad")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(places[0]) / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _levels(slow: npt.NDArray[np.float32]) -> Array:
    """RMS of each hop in dBFS."""
    hops = -(-slow.size // HOP_FRAMES)
    blocks = np.pad(slow, (0, hops * HOP_FRAMES - slow.size)).reshape(hops, HOP_FRAMES)
    power = np.square(blocks, dtype=np.float64).mean(axis=1)
    return cast(Array, 10.0 * np.log10(power + 1e-12))


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.pad(flags.astype(np.int8), 1)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _closed(flags: npt.NDArray[np.bool_], seconds: float) -> npt.NDArray[np.bool_]:
    """With the gaps up to `seconds` filled, except at either end."""
    out = flags.copy()
    for first, end in _runs(~flags):
        if first > 0 and end < flags.size and (end - first) * HOP_S <= seconds:
            out[first:end] = True
    return out


def _widened(flags: npt.NDArray[np.bool_], seconds: float) -> npt.NDArray[np.bool_]:
    """With `seconds` added at both ends of each run: soft onsets and endings."""
    out = flags.copy()
    for hops in range(1, round(seconds / HOP_S) + 1):
        out[hops:] |= flags[:-hops]
        out[:-hops] |= flags[hops:]
    return out


def _stretches(kinds: npt.NDArray[np.str_], seconds: float) -> tuple[Stretch, ...]:
    borders = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), kinds.size]
    return tuple(
        Stretch(first * HOP_S, min(end * HOP_S, seconds), cast(Kind, str(kinds[first])))
        for first, end in itertools.pairwise(borders)
    )
