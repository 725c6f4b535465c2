"""What training learns from: one recorded slice as the network sees it, a row per frame of its spectrogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge import audio
from bridge.voices import encoders
from bridge.voices.encoders import Encoder

Array = npt.NDArray[np.float32]

FLOOR_HZ, CEILING_HZ = 50.0, 1100.0  # so-vits-svc's own search range
VOICING_THRESHOLD = 0.6
UNIT_S = encoders.HOP_FRAMES / encoders.RATE_HZ


@dataclass(frozen=True)
class Utterance:
    """A slice of `frames` spectrogram frames; frame n begins at n * hop samples."""

    samples: Array  # (frames * hop,) in [-1, 1]
    content: Array  # (dims, frames)
    f0_hz: Array  # (frames,), carried on through what is unvoiced
    voiced: Array  # (frames,), 1.0 or 0.0

    @property
    def frames(self) -> int:
        """How many frames of the spectrogram."""
        return self.f0_hz.size

    def crop(self, first: int, frames: int) -> Utterance:
        """Frames [first, first + frames), fewer at the end."""
        hop = self.samples.size // self.frames
        end = first + frames
        return Utterance(
            self.samples[first * hop : end * hop],
            self.content[:, first:end],
            self.f0_hz[first:end],
            self.voiced[first:end],
        )


def utterance(samples: Array, rate_hz: int, hop_frames: int, encode: Encoder) -> Utterance:
    """`samples`, (frames,) float32 at `rate_hz`, with content and f0; a rest under one hop is cut off."""
    frames = samples.size // hop_frames
    samples = samples[: frames * hop_frames]
    units = encode(audio.resample(samples[None], rate_hz, encoders.RATE_HZ)[0])  # (units, dims)
    # As the engine has it when it sings: the unit in which the frame begins, and the f0 there.
    begin_s = np.arange(frames) * hop_frames / rate_hz
    content = units[np.minimum((begin_s / UNIT_S).astype(int), len(units) - 1)].T
    hz = praat_f0(samples, rate_hz, begin_s)
    voiced = hz > 0
    carried = np.interp(begin_s, begin_s[voiced], hz[voiced]) if voiced.any() else np.zeros(frames)
    return Utterance(
        samples, np.ascontiguousarray(content), carried.astype(np.float32), voiced.astype(np.float32)
    )


def praat_f0(samples: Array, rate_hz: int, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """f0 in Hz at `times_s` by Praat's autocorrelation (Boersma 1993), 0.0 where unvoiced."""
    import parselmouth

    if samples.size < 3.2 / FLOOR_HZ * rate_hz:
        return np.zeros(times_s.size)
    pitch = parselmouth.Sound(samples.astype(np.float64), rate_hz).to_pitch_ac(
        time_step=float(times_s[1] - times_s[0]),
        voicing_threshold=VOICING_THRESHOLD,
        pitch_floor=FLOOR_HZ,
        pitch_ceiling=CEILING_HZ,
    )
    hz = pitch.selected_array["frequency"]
    nearest = np.round((times_s - pitch.x1) / pitch.dx).astype(int)
    inside = (nearest >= 0) & (nearest < hz.size)
    found = np.where(inside, hz[np.clip(nearest, 0, hz.size - 1)], 0.0)
    return cast("npt.NDArray[np.float64]", found)
