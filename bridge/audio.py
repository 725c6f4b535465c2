"""Read, write, resample and measure audio. Arrays are (channels, frames) float32, full scale = 1.0.

Files that libsndfile opens without complaint though they are cut off are refused here, so that no
stage ever works on half a song. numpy and soundfile alone are imported at the top: the daemon
probes files too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import soundfile

from bridge.errors import IncompleteError, InputError

Samples = npt.NDArray[np.float32]
"""(channels, frames) float32, full scale = 1.0."""

MIN_SECONDS = 0.5
MAX_CHANNELS = 2
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
    if not path.exists():
        raise InputError(f"{path} does not exist. Check the name.", "missing")
    if not path.is_file():
        raise InputError(f"{path} is not a file. Give the path of one audio file.", "not_a_file")
    try:
        if path.stat().st_size == 0:
            raise IncompleteError(f"{path} is empty (0 bytes). Export it again.", "empty")
        with soundfile.SoundFile(path) as file:
            info = AudioInfo(
                file.samplerate,
                file.channels,
                file.frames,
                file.subtype in FLOAT_SUBTYPES,
                file.format,
            )
            _check_last_frame(path, file, info)
    except PermissionError as exc:
        raise InputError(f"{path} may not be read. Give yourself read permission.", "permission") from exc
    except soundfile.LibsndfileError as exc:
        if not _readable(path):
            raise InputError(f"{path} may not be read. Give yourself read permission.", "permission") from exc
        kinds = " ".join(s.lstrip(".") for s in SUFFIXES)
        raise InputError(
            f"{path} is no audio file that can be read ({exc.error_string.strip()}). Use one of: {kinds}."
        ) from exc
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
    data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.ascontiguousarray(data.T), int(rate)


def write_float_wav(path: Path, samples: Samples, sample_rate_hz: int) -> None:
    """Write a working file: 32-bit float WAV (RF64 where it passes 4 GB), the same bytes each time."""
    # libsndfile puts a PEAK chunk with the time of writing into float files: write raw float instead.
    with soundfile.SoundFile(
        path,
        "w",
        sample_rate_hz,
        samples.shape[0],
        subtype="FLOAT",
        format="RF64" if samples.nbytes > 3_900_000_000 else "WAV",
    ) as file:
        file.write(samples.T)
    _zero_peak_time(path)


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
    """The largest magnitude over channels around each frame at four times the rate, (frames,)."""
    from scipy.signal import resample_poly

    up = np.abs(resample_poly(samples, 4, 1, axis=1)).max(axis=0)
    return cast(
        "npt.NDArray[np.float32]", up.reshape(-1, 4).max(axis=1)
    )  # (frames * 4,) -> (frames, 4) -> (frames,)


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


def _check_last_frame(path: Path, file: soundfile.SoundFile, info: AudioInfo) -> None:
    if info.frames <= 0:
        raise IncompleteError(f"{path} holds a header but no audio. Export it again.", "empty")
    reason = incomplete_reason(path)
    if reason:
        raise IncompleteError(f"{path} is cut off: {reason}. Export it again.")
    if not file.seekable():
        return
    try:
        file.seek(info.frames - 1)
        got = len(file.read(1))
    except soundfile.LibsndfileError:
        got = 0
    if got != 1:
        raise IncompleteError(f"{path} is cut off: its last frame is missing. Export it again.")


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


def _readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except PermissionError:
        return False


def incomplete_reason(path: Path) -> str | None:
    """Why the container is incomplete by its own header (RIFF, RF64, FORM), or None."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12:
        return f"{size} bytes are less than any header"
    return _chunks_beyond_end(path, head, size)


def _chunks_beyond_end(path: Path, head: bytes, size: int) -> str | None:
    kind = head[:4]
    if kind not in (b"RIFF", b"RF64", b"FORM"):
        return None
    order = "big" if kind == b"FORM" else "little"
    data_tag = b"SSND" if kind == b"FORM" else b"data"
    ds64_bytes: int | None = None
    with path.open("rb") as file:
        position = 12
        while position + 8 <= size:
            file.seek(position)
            tag, raw = file.read(4), file.read(4)
            length = int.from_bytes(raw, order)  # type: ignore[arg-type]
            if tag == b"ds64":
                file.seek(position + 16)
                ds64_bytes = int.from_bytes(file.read(8), "little")
            if tag == data_tag:
                if length == 0xFFFFFFFF and ds64_bytes is not None:
                    length = ds64_bytes
                if length == 0:
                    return "its header announces no audio yet"
                if position + 8 + length > size:
                    return f"its header announces {length} bytes of audio, {size - position - 8} are there"
                return None
            position += 8 + length + (length & 1)
    return "no audio chunk was found"


def _zero_peak_time(path: Path) -> None:
    with path.open("r+b") as file:
        head = file.read(256)
        at = head.find(b"PEAK")
        if at >= 0:
            file.seek(at + 12)  # tag, size, version, then the time stamp
            file.write(b"\0\0\0\0")
