"""Which effects a chain may hold, and the range of each parameter: ONE table, read by check and render.

Names are pedalboard's own. The ranges are what makes musical sense; they lie inside what pedalboard
takes (a test holds them against it). pedalboard itself is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """A number from `lo` to `hi`, both included."""

    lo: float
    hi: float


@dataclass(frozen=True)
class Choice:
    """A word out of a list: the members of one of pedalboard's enumerations."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class SoundFile:
    """The path of an audio file, relative to the chain's own folder."""


Allowed = Range | Choice | SoundFile

FREQUENCY_HZ = Range(10.0, 20000.0)
"""Also kept below half the song's sample rate, where pedalboard's filters would blow up."""

_SHARE = Range(0.0, 1.0)
_THRESHOLD_DB = Range(-80.0, 0.0)
_GAIN_DB = Range(-60.0, 24.0)
_Q = Range(0.1, 20.0)
_ATTACK_MS = Range(0.0, 1000.0)
_RELEASE_MS = Range(1.0, 5000.0)
_SHELF = {"cutoff_frequency_hz": FREQUENCY_HZ, "gain_db": Range(-24.0, 24.0), "q": _Q}
_SINC = (
    "WindowedSinc256",
    "WindowedSinc128",
    "WindowedSinc64",
    "WindowedSinc32",
    "WindowedSinc16",
    "WindowedSinc8",
)
_QUALITY = Choice(("ZeroOrderHold", "Linear", "CatmullRom", "Lagrange", "WindowedSinc", *_SINC))

EFFECTS: Mapping[str, Mapping[str, Allowed]] = {
    "Bitcrush": {"bit_depth": Range(1.0, 32.0)},
    "BrickwallLimiter": {
        "ceiling_db": Range(-40.0, 0.0),
        "release_ms": _RELEASE_MS,
        "lookahead_ms": Range(0.1, 100.0),
    },
    "Chorus": {
        "rate_hz": Range(0.0, 20.0),
        "depth": _SHARE,
        "centre_delay_ms": Range(1.0, 100.0),
        "feedback": Range(-0.95, 0.95),
        "mix": _SHARE,
    },
    "Clipping": {"threshold_db": _THRESHOLD_DB},
    "Compressor": {
        "threshold_db": _THRESHOLD_DB,
        "ratio": Range(1.0, 100.0),
        "attack_ms": _ATTACK_MS,
        "release_ms": _RELEASE_MS,
    },
    "Convolution": {"impulse_response_filename": SoundFile(), "mix": _SHARE},
    "Delay": {"delay_seconds": Range(0.0, 5.0), "feedback": Range(0.0, 0.95), "mix": _SHARE},
    "Distortion": {"drive_db": Range(0.0, 60.0)},
    "GSMFullRateCompressor": {"quality": _QUALITY},
    "Gain": {"gain_db": _GAIN_DB},
    "HighShelfFilter": _SHELF,
    "HighpassFilter": {"cutoff_frequency_hz": FREQUENCY_HZ},
    "Invert": {},
    "LadderFilter": {
        "mode": Choice(("LPF12", "HPF12", "BPF12", "LPF24", "HPF24", "BPF24")),
        "cutoff_hz": FREQUENCY_HZ,
        "resonance": _SHARE,
        "drive": Range(1.0, 20.0),
    },
    "Limiter": {"threshold_db": _THRESHOLD_DB, "release_ms": _RELEASE_MS},
    "LowShelfFilter": _SHELF,
    "LowpassFilter": {"cutoff_frequency_hz": FREQUENCY_HZ},
    "MP3Compressor": {"vbr_quality": Range(0.0, 9.9)},
    "NoiseGate": {
        "threshold_db": _THRESHOLD_DB,
        "ratio": Range(1.0, 100.0),
        "attack_ms": _ATTACK_MS,
        "release_ms": _RELEASE_MS,
    },
    "PeakFilter": _SHELF,
    "Phaser": {
        "rate_hz": Range(0.0, 20.0),
        "depth": _SHARE,
        "centre_frequency_hz": FREQUENCY_HZ,
        "feedback": Range(-0.95, 0.95),
        "mix": _SHARE,
    },
    "PitchShift": {"semitones": Range(-24.0, 24.0)},
    "Resample": {"target_sample_rate": Range(1000.0, 48000.0), "quality": _QUALITY},
    "Reverb": {
        "room_size": _SHARE,
        "damping": _SHARE,
        "wet_level": _SHARE,
        "dry_level": _SHARE,
        "width": _SHARE,
        "freeze_mode": _SHARE,
    },
}

NOT_OFFERED = frozenset({"IIRFilter"})
"""pedalboard's effects that no chain file can describe: this one is made by factory methods."""
