"""Read, write, resample and measure audio. Arrays are (channels, frames) float32, full scale = 1.0.

Files that libsndfile opens without complaint though they are cut off are refused here, so that no
stage ever works on half a song. numpy and soundfile alone are imported at the top: the daemon
probes files too.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import soundfile

from bridge.container import incomplete_reason
from bridge.errors import IncompleteError, InputError

Samples = npt.NDArray[np.float32]
"""(channels, frames) float32, full scale = 1.0."""

MIN_SECONDS = 0.5
MAX_RIFF_BYTES = 3_900_000_000
MAX_CHANNELS = 2
BLOCK_FRAMES = 1 << 18
UPSAMPLER_REACH, UPSAMPLED_FRAMES = 10, 44
"""How many frames to either side the filter of the true peak sees, and how many are done at a time."""

SUFFIXES = (
    ".wav",
    ".wave",
    ".rf64",
    ".w64",
    ".flac",
    ".aif",
    ".aiff",
    ".aifc",
    ".caf",
    ".ogg",
    ".opus",
    ".mp3",
)
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III")


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    sample_rate_hz: int
    channels: int
    frames: int
    is_float: bool  # floating-point or lossy samples, which may pass 0 dBFS
    format: str  # libsndfile's name: WAV, FLAC, AIFF, ...

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate_hz


def probe(path: Path) -> AudioInfo:
    """Read the header and check that a stage can work on the file.

    Raises:
        IncompleteError: the file ends before its header says so.
        InputError: missing, not permitted, no audio, too short or too many channels.
    """
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist. Check the name.", "missing")
        if not path.is_file():
            raise InputError(f"{path} is not a file. Give the path of one audio file.", "not_a_file")
        info = _probe_whole(path)
    except PermissionError as exc:
        raise InputError(f"{path} may not be read. Give yourself read permission.", "permission") from exc
    except UnicodeEncodeError as exc:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise InputError(f"{shown} has a name that is not valid text. Rename it.", "name") from exc
    except soundfile.LibsndfileError as exc:
        kinds = " ".join(s.lstrip(".") for s in SUFFIXES)
        raise InputError(
            f"{path} is no audio file that can be read ({exc.error_string.strip()}). Use one of: {kinds}."
        ) from exc
    except OSError as exc:
        raise InputError(f"{path} can't be read ({exc.strerror}). Check the disk or the share.") from exc
    _check_shape(path, info)
    return info


def read(path: Path) -> tuple[Samples, int]:
    """All samples of a probed file and its rate in Hz.

    Raises:
        InputError: as `probe`, and for NaN or infinite samples.
    """
    info = probe(path)
    data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if data.shape[0] != info.frames:
        raise IncompleteError(f"{path} ends after {data.shape[0]} of {info.frames} frames. Export it again.")
    bad = int(np.count_nonzero(~np.isfinite(data)))
    if bad:
        raise InputError(
            f"{path} holds {bad} samples that are not numbers (NaN or infinite). "
            "A plug-in in the project has failed: find it and export again.",
            "not_finite",
        )
    return np.ascontiguousarray(data.T), int(rate)


def read_raw(path: Path) -> tuple[Samples, int]:
    """Samples and rate of a file that we wrote ourselves, without checks; (channels, frames)."""
    with soundfile.SoundFile(path) as file:
        samples = np.empty((file.channels, file.frames), dtype=np.float32)
        at = 0
        for block in file.blocks(BLOCK_FRAMES, dtype="float32", always_2d=True):  # never twice in memory
            samples[:, at : at + len(block)] = block.T
            at += len(block)
        return samples[:, :at], int(file.samplerate)


def write_float_wav(path: Path, samples: Samples, sample_rate_hz: int) -> None:
    """Write a working file: 32-bit float WAV (RF64 where it passes 4 GB), the same bytes each time."""
    with wav_writer(path, sample_rate_hz, *samples.shape, is_float=True) as file:
        for start in range(0, samples.shape[1], BLOCK_FRAMES):  # it makes a copy of what it is given
            file.write(samples[:, start : start + BLOCK_FRAMES].T)


@contextmanager
def wav_writer(
    path: Path, sample_rate_hz: int, channels: int, frames: int, *, is_float: bool
) -> Iterator[soundfile.SoundFile]:
    """A WAV to fill block by block, 32-bit float or 24-bit; RF64 where `frames` would pass 4 GB.

    24-bit files take int32 samples, left-justified. The same samples give the same bytes.
    """
    bytes_in_all = frames * channels * (4 if is_float else 3)
    with soundfile.SoundFile(
        path,
        "w",
        sample_rate_hz,
        channels,
        subtype="FLOAT" if is_float else "PCM_24",
        format="RF64" if bytes_in_all > MAX_RIFF_BYTES else "WAV",
    ) as file:
        yield file
    if is_float:
        _zero_peak_time(path)  # libsndfile writes the time of day into float files


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Band-limited resampling (soxr, very high quality), time-aligned: frame 0 stays frame 0.

    The length is `round(frames * to_hz / from_hz)`.
    """
    if from_hz == to_hz:
        return samples
    import soxr

    out = soxr.resample(samples.T, from_hz, to_hz, quality="VHQ").T
    return fit_length(np.ascontiguousarray(out, dtype=np.float32), round(samples.shape[1] * to_hz / from_hz))


def fit_length(samples: Samples, frames: int) -> Samples:
    """Cut or pad with silence at the end to `frames`."""
    if samples.shape[1] >= frames:
        return samples[:, :frames]
    return np.pad(samples, ((0, 0), (0, frames - samples.shape[1])))


def to_mono(samples: Samples) -> Samples:
    """The mean of the channels, (1, frames)."""
    return cast(Samples, samples.mean(axis=0, keepdims=True, dtype=np.float32))


def loudness_lufs(samples: Samples, sample_rate_hz: int) -> float:
    """Integrated loudness by ITU-R BS.1770-4 (pyloudnorm); -inf for silence or under 0.4 s."""
    import pyloudnorm

    if samples.shape[1] < int(0.4 * sample_rate_hz) + 1:
        return float("-inf")
    meter = pyloudnorm.Meter(sample_rate_hz)
    with np.errstate(divide="ignore"):
        return float(meter.integrated_loudness(samples.T.astype(np.float64)))


def true_peak_dbtp(samples: Samples, sample_rate_hz: int) -> float:
    """True peak in dBTP by four-fold oversampling (ITU-R BS.1770-4, annex 2); -inf for silence."""
    peak = float(np.max(np.abs(samples), initial=0.0))
    block = 10 * sample_rate_hz
    margin = 64
    for start in range(0, samples.shape[1], block):
        piece = samples[:, max(0, start - margin) : start + block + margin]
        peak = max(peak, float(np.max(oversampled_peak(piece), initial=0.0)))
    return amplitude_to_db(peak)


def oversampled_peak(samples: Samples) -> npt.NDArray[np.float32]:
    """The largest magnitude over channels around each frame at four times the rate, (frames,).

    As scipy's `resample_poly(samples, 4, 1)` has it, whose filter is laid out as a matrix: eight times as fast.
    """
    matrix, frames = _upsampler(), samples.shape[1]
    rows = -(-frames // UPSAMPLED_FRAMES)
    padded = np.zeros((len(samples), rows * UPSAMPLED_FRAMES + 2 * UPSAMPLER_REACH), dtype=np.float32)
    padded[:, UPSAMPLER_REACH : UPSAMPLER_REACH + frames] = samples
    seen = np.lib.stride_tricks.sliding_window_view(padded, len(matrix), axis=1)[:, ::UPSAMPLED_FRAMES]
    up = np.abs(seen.reshape(-1, len(matrix)) @ matrix)  # (channels * rows, 4 * UPSAMPLED_FRAMES)
    peaks = up.reshape(len(samples), rows, 4, UPSAMPLED_FRAMES).max(axis=(0, 2))
    return cast("npt.NDArray[np.float32]", peaks.reshape(-1)[:frames])


@functools.lru_cache(maxsize=1)
def _upsampler() -> npt.NDArray[np.float32]:
    """What makes frames, with those around them, into them at four times the rate, phase by phase."""
    from scipy.signal import resample_poly

    seen = UPSAMPLED_FRAMES + 2 * UPSAMPLER_REACH
    inside = slice(4 * UPSAMPLER_REACH, 4 * (UPSAMPLER_REACH + UPSAMPLED_FRAMES))
    ways = resample_poly(np.eye(seen), 4, 1, axis=1)[:, inside].reshape(seen, -1, 4)
    return np.ascontiguousarray(ways.transpose(0, 2, 1).reshape(seen, -1), dtype=np.float32)


def amplitude_to_db(amplitude: float) -> float:
    """20 log10; -inf for 0."""
    return float(20.0 * np.log10(amplitude)) if amplitude > 0 else float("-inf")


def db_to_amplitude(level_db: float) -> float:
    """The inverse of `amplitude_to_db`."""
    return float(10.0 ** (level_db / 20.0))


def rms_db(samples: Samples) -> float:
    """Level of all channels together in dBFS; -inf for silence."""
    if samples.size == 0:
        return float("-inf")
    return amplitude_to_db(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))))


def _probe_whole(path: Path) -> AudioInfo:
    if path.stat().st_size == 0:
        raise IncompleteError(f"{path} is empty (0 bytes). Export it again.", "empty")
    reason = incomplete_reason(path)
    if reason:
        raise _cut_off(path, reason)
    with soundfile.SoundFile(path) as file:
        is_float = file.subtype in FLOAT_SUBTYPES
        info = AudioInfo(file.samplerate, file.channels, file.frames, is_float, file.format)
        if info.frames <= 0:
            raise _cut_off(path, "it holds a header but no audio")
        if not _has_last_frame(file, info.frames):
            raise _cut_off(path, "its last frame is missing")
    return info


def _cut_off(path: Path, reason: str) -> IncompleteError:
    return IncompleteError(f"{path} is cut off: {reason}. Let the export end, or export it again.")


def _has_last_frame(file: soundfile.SoundFile, frames: int) -> bool:
    if not file.seekable():
        return True
    try:
        file.seek(frames - 1)
        return len(file.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def _check_shape(path: Path, info: AudioInfo) -> None:
    if info.seconds < MIN_SECONDS:
        raise InputError(
            f"{path} is {info.seconds:.2f} s long; at least {MIN_SECONDS} s are needed. Export a longer range.",
            "too_short",
        )
    if info.channels > MAX_CHANNELS:
        raise InputError(
            f"{path} has {info.channels} channels; only mono and stereo can be separated. Export it as stereo.",
            "channels",
        )


def _zero_peak_time(path: Path) -> None:
    with path.open("r+b") as file:
        head = file.read(256)
        at = head.find(b"PEAK")
        if at >= 0:
            file.seek(at + 12)  # tag, size, version, then the time stamp
            file.write(b"\0\0\0\0")
