"""Sound that is read a block at a time, so that a song of any length takes no more memory than a short one.

A `Sound` is made of files, and of other sounds: added, louder, with a gain that moves. Nothing is computed until a block
of it is read. Loudness is that of ITU-R BS.1770-4 with pyloudnorm's filters, as `audio.loudness_lufs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from bridge import audio
from bridge.audio import Samples

BLOCK_S = 10.0
GATE_S, GATE_HOPS = 0.1, 4  # gating blocks of 400 ms, one each 100 ms
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
NEPERS_PER_DB = np.float32(np.log(10.0) / 20.0)
PEAK_MARGIN_FRAMES = 64  # what the oversampling filter looks to either side
K_WEIGHTING = ((4.0, 0.5**0.5, 1500.0, "high_shelf"), (0.0, 0.5, 38.0, "high_pass"))  # as pyloudnorm's meter

Levels = npt.NDArray[np.float64]
Frames = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sound:
    """`read(start, stop)` gives these frames, (channels, stop - start) float32; 0 <= start <= stop <= frames."""

    channels: int
    frames: int
    rate_hz: int
    read: Callable[[int, int], Samples]

    @property
    def shape(self) -> tuple[int, int]:
        """As that of the array."""
        return self.channels, self.frames

    def all(self) -> Samples:
        """The whole of it, in memory."""
        return self.read(0, self.frames)

    def blocks(self) -> Iterator[tuple[int, Samples]]:
        """First frame and samples of each block, in order."""
        step = round(BLOCK_S * self.rate_hz)
        for start in range(0, self.frames, step):
            yield start, self.read(start, min(self.frames, start + step))


def of_file(path: Path) -> Sound:
    """A file that was checked before, or that we wrote."""
    info = soundfile.info(path)

    def read(start: int, stop: int) -> Samples:
        data, _ = soundfile.read(path, frames=stop - start, start=start, dtype="float32", always_2d=True)
        return np.ascontiguousarray(data.T)

    return Sound(info.channels, info.frames, info.samplerate, read)


def told(sound: Sound, tick: Callable[[], None]) -> Sound:
    """The same sound; `tick` is called before each read of it, and may raise."""

    def read(start: int, stop: int) -> Samples:
        tick()
        return sound.read(start, stop)

    return replace(sound, read=read)


def of_array(samples: Samples, rate_hz: int) -> Sound:
    """What is in memory, (channels, frames)."""
    channels, frames = samples.shape
    return Sound(channels, frames, rate_hz, lambda start, stop: samples[:, start:stop])


def added(sounds: Sequence[Sound]) -> Sound:
    """Sounds of one shape, together."""

    def read(start: int, stop: int) -> Samples:
        total = np.array(sounds[0].read(start, stop))
        for sound in sounds[1:]:
            total += sound.read(start, stop)
        return total

    return replace(sounds[0], read=read) if len(sounds) > 1 else sounds[0]


def scaled(sound: Sound, gain: float) -> Sound:
    """Louder by a factor."""
    factor = np.float32(gain)
    return replace(sound, read=lambda start, stop: sound.read(start, stop) * factor)


def shaped(sound: Sound, gain_db: Levels, hop_s: float) -> Sound:
    """With a gain that goes straight from the middle of one hop to that of the next."""
    hop = round(hop_s * sound.rate_hz)
    middles = (np.arange(gain_db.size) + 0.5) * hop

    def read(start: int, stop: int) -> Samples:
        now_db = np.interp(np.arange(start, stop), middles, gain_db).astype(np.float32)
        gain: Samples = np.exp(now_db * NEPERS_PER_DB)
        return sound.read(start, stop) * gain

    return replace(sound, read=read)


def faded_out(sound: Sound, seconds: float) -> Sound:
    """With a straight fade at the end."""
    fade = min(round(seconds * sound.rate_hz), sound.frames)
    first = sound.frames - fade
    ramp = np.linspace(1.0, 0.0, fade, dtype=np.float32)

    def read(start: int, stop: int) -> Samples:
        samples = sound.read(start, stop)
        if stop <= first:
            return samples
        gain = np.ones(stop - start, dtype=np.float32)
        gain[max(0, first - start) :] = ramp[max(0, start - first) : stop - first]
        return samples * gain

    return replace(sound, read=read)


def silence(channels: int, frames: int, rate_hz: int) -> Sound:
    """Nothing to hear."""
    return Sound(
        channels, frames, rate_hz, lambda start, stop: np.zeros((channels, stop - start), np.float32)
    )


def fitted(sound: Sound, channels: int, frames: int) -> Sound:
    """With this length, cut or with silence behind, and one channel where that is asked."""

    def read(start: int, stop: int) -> Samples:
        inside = sound.read(min(start, sound.frames), min(stop, sound.frames))
        if channels == 1:
            inside = audio.to_mono(inside)
        return audio.fit_length(inside, stop - start)

    return Sound(min(channels, sound.channels), frames, sound.rate_hz, read)


def write(sound: Sound, path: Path) -> None:
    """As `audio.write_float_wav`."""
    with audio.wav_writer(path, sound.rate_hz, *sound.shape, is_float=True) as file:
        for _, block in sound.blocks():
            file.write(block.T)


def loudness_lufs(sound: Sound) -> float:
    """Integrated loudness; -inf for silence or under 0.4 s."""
    return loudness_and_energy(sound, np.zeros(1, dtype=np.int64))[0]


def loudness_and_energy(sound: Sound, edges: Frames) -> tuple[float, Levels]:
    """`loudness_lufs` and `weighted_energy` in one go."""
    rate, seconds = sound.rate_hz, sound.frames / sound.rate_hz
    if sound.frames < int(GATE_HOPS * GATE_S * rate) + 1:
        return float("-inf"), weighted_energy(sound, edges)
    count = round((seconds - GATE_HOPS * GATE_S) / GATE_S) + 1
    gates = np.minimum((np.arange(count + GATE_HOPS) * GATE_S * rate).astype(np.int64), sound.frames)
    energy, gated = _weighted_energies(sound, [edges, gates])
    sums = np.concatenate([[0.0], np.cumsum(gated)])
    power = (sums[GATE_HOPS:] - sums[:-GATE_HOPS]) / (GATE_HOPS * GATE_S * rate)
    return _lufs(_gated(power)), energy


def true_peak_dbtp(sound: Sound) -> float:
    """True peak in dBTP by four-fold oversampling; -inf for silence."""
    return audio.amplitude_to_db(max((float(peak.max(initial=0.0)) for peak in _peaks(sound)), default=0.0))


def true_peaks(sound: Sound, hop: int) -> npt.NDArray[np.float32]:
    """The true peak over all channels within each hop of so many frames, (hops,)."""
    found, at = np.zeros(-(-sound.frames // hop), dtype=np.float32), 0
    for peaks in _peaks(sound):
        first = at // hop
        starts = np.maximum(np.arange(first, -(-(at + peaks.size) // hop)) * hop - at, 0)
        here = found[first : first + starts.size]
        np.maximum(here, np.maximum.reduceat(peaks, starts), out=here)
        at += peaks.size
    return found


def rms_db(sound: Sound) -> float:
    """Level of all channels together in dBFS; -inf for silence."""
    total = sum(float(np.square(block, dtype=np.float64).sum()) for _, block in sound.blocks())
    return audio.amplitude_to_db(float(np.sqrt(total / max(1, sound.channels * sound.frames))))


def weighted_energy(sound: Sound, edges: Frames) -> Levels:
    """K-weighted energy, the sum of squares over all channels, between each two of the rising `edges` in frames."""
    return _weighted_energies(sound, [edges])[0]


def resampled_mono(sound: Sound, pick: Callable[[Samples], Samples], to_hz: int) -> npt.NDArray[np.float32]:
    """One line out of each block by `pick`, (channels, n) -> (1, n), at another rate: (frames,), in memory."""
    mono = np.zeros(round(sound.frames * to_hz / sound.rate_hz), dtype=np.float32)
    at = 0
    for part in _resampled((pick(block)[0] for _, block in sound.blocks()), sound.rate_hz, to_hz):
        fitting = part[: mono.size - at]
        mono[at : at + fitting.size] = fitting
        at += fitting.size
    return mono


def _resampled(
    parts: Iterable[npt.NDArray[np.float32]], from_hz: int, to_hz: int
) -> Iterator[npt.NDArray[np.float32]]:
    if from_hz == to_hz:
        yield from parts
        return
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="VHQ")
    for part in parts:
        yield stream.resample_chunk(part)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _weighted_energies(sound: Sound, edges: Sequence[Frames]) -> list[Levels]:
    from scipy.signal import sosfilt

    weighting = _k_weighting(sound.rate_hz)
    state = np.zeros((len(weighting), sound.channels, 2))
    found = [np.zeros(each.size - 1) for each in edges]
    for start, block in sound.blocks():
        weighted, state = sosfilt(weighting, block.astype(np.float64), axis=1, zi=state)
        sums = np.concatenate([[0.0], np.cumsum(np.einsum("cf,cf->f", weighted, weighted))])
        for energy, each in zip(found, edges, strict=True):
            inside = np.clip(each - start, 0, block.shape[1])
            energy += sums[inside[1:]] - sums[inside[:-1]]
    return found


def _k_weighting(rate_hz: int) -> Levels:
    """(sections, 6), with the coefficients of pyloudnorm's meter."""
    from pyloudnorm import IIRfilter

    filters = [IIRfilter(*parameters, rate_hz, kind) for *parameters, kind in K_WEIGHTING]
    return np.stack([np.concatenate([each.b, each.a]) / each.a[0] for each in filters])


def _peaks(sound: Sound) -> Iterator[npt.NDArray[np.float32]]:
    for start, block in sound.blocks():
        first = max(0, start - PEAK_MARGIN_FRAMES)
        last = min(sound.frames, start + block.shape[1] + PEAK_MARGIN_FRAMES)
        around = audio.oversampled_peak(sound.read(first, last))
        yield around[start - first : start - first + block.shape[1]]


def _gated(power: Levels) -> float:
    loud = power[_to_lufs(power) >= ABSOLUTE_GATE_LUFS]
    if not loud.size:
        return 0.0
    loud = loud[_to_lufs(loud) > _lufs(float(loud.mean())) + RELATIVE_GATE_LU]
    return float(loud.mean()) if loud.size else 0.0


def _lufs(power: float) -> float:
    return float(_to_lufs(np.asarray(power)))


def _to_lufs(power: Levels) -> Levels:
    with np.errstate(divide="ignore", invalid="ignore"):
        return -0.691 + 10.0 * np.log10(np.maximum(power, 0.0))
