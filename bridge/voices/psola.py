"""The engine behind the built-in characters: Praat's PSOLA, through parselmouth.

Both channels are resynthesised from the same glottal pulses, found on the mid signal, so that the
stereo image stands still. Breath and consonants are the singer's own: only voiced sound is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples, fit_length, resample, rms_db, to_mono
from bridge.voices.character import CHARACTERS, Character
from bridge.voices.consent import Permit

Converter = Callable[[Samples, int], Samples]
"""(samples, sample_rate_hz) -> the same shape, in the other voice."""

PITCH_FLOOR_HZ = 65.0  # a low bass voice
PITCH_CEILING_HZ = 1100.0  # a soprano's high C
BELOW_QUARTILE, ABOVE_QUARTILE = 0.6, 2.2
PITCH_STEP_S = 0.01


def open_character(permit: Permit) -> Converter:
    """The engine set to the character that `permit` names. Raises KeyError for any other voice."""
    character = CHARACTERS[permit.voice]

    def convert(samples: Samples, sample_rate_hz: int) -> Samples:
        return change_voice(samples, sample_rate_hz, character)

    return convert


def change_voice(samples: Samples, sample_rate_hz: int, character: Character) -> Samples:
    """Change pitch and formants as Praat's "Change gender" does; (channels, frames) in and out.

    Formants move by playing the sound faster or slower, and PSOLA takes back what that does to length
    and pitch. The voiced parts keep their level (RMS); the same input gives the same bytes.
    """
    # Praat is told another sampling rate: this is the "playing faster". A whole number of hertz
    # lets the way back be an exact resampling.
    faster_hz = round(sample_rate_hz * character.formant_ratio)
    ratio = faster_hz / sample_rate_hz
    mid = _sound(to_mono(samples)[0], faster_hz)
    pitch = _find_pitch(mid, ratio)
    is_voiced: npt.NDArray[np.bool_] = pitch.selected_array["frequency"] > 0
    if not is_voiced.any():
        return samples
    psola = _manipulation(mid, pitch, 2.0 ** (character.pitch_semitones / 12.0) / ratio, ratio)
    channels = [_resynthesise(psola, channel, faster_hz) for channel in samples]
    changed = fit_length(resample(np.stack(channels), faster_hz, sample_rate_hz), samples.shape[1])
    times_s = np.arange(samples.shape[1]) / faster_hz
    voiced = _fade_mask(is_voiced, pitch.xs(), times_s)
    return _join(samples, changed, voiced)


def _find_pitch(mid: Any, ratio: float) -> Any:
    """Praat's Pitch object: searched wide, then in the singer's own range, against octave errors.

    The range from the quartiles: De Looze & Hirst (2010), widened for singing.
    """
    floor_hz, ceiling_hz, step_s = PITCH_FLOOR_HZ * ratio, PITCH_CEILING_HZ * ratio, PITCH_STEP_S / ratio
    wide = mid.to_pitch_ac(time_step=step_s, pitch_floor=floor_hz, pitch_ceiling=ceiling_hz)
    found = wide.selected_array["frequency"]
    if not (found > 0).any():
        return wide
    low, high = np.quantile(found[found > 0], (0.25, 0.75))
    return mid.to_pitch_ac(
        time_step=step_s,
        pitch_floor=max(floor_hz, BELOW_QUARTILE * low),
        pitch_ceiling=min(ceiling_hz, ABOVE_QUARTILE * high),
    )


def _manipulation(mid: Any, pitch: Any, pitch_factor: float, duration_factor: float) -> Any:
    """Praat's Manipulation object of `mid` with its pitch and duration already changed."""
    from parselmouth.praat import call

    manipulation = call([mid, pitch], "To Manipulation")
    pitch_tier = call(manipulation, "Extract pitch tier")
    call(pitch_tier, "Multiply frequencies", mid.xmin, mid.xmax, pitch_factor)
    call([manipulation, pitch_tier], "Replace pitch tier")
    duration_tier = call("Create DurationTier", "length", mid.xmin, mid.xmax)
    call(duration_tier, "Add point", mid.xmin, duration_factor)
    call([manipulation, duration_tier], "Replace duration tier")
    return manipulation


def _resynthesise(
    manipulation: Any, channel: npt.NDArray[np.float32], faster_hz: int
) -> npt.NDArray[np.float32]:
    from parselmouth.praat import call, run

    # Praat strews random periods into voiceless sound: the same ones each time, please.
    run("random_initializeWithSeedUnsafelyButPredictably (1)")
    call([manipulation, _sound(channel, faster_hz)], "Replace original sound")
    changed = call(manipulation, "Get resynthesis (overlap-add)")
    return cast("npt.NDArray[np.float32]", changed.values[0].astype(np.float32))


def _fade_mask(
    is_voiced: npt.NDArray[np.bool_], frame_times_s: npt.NDArray[np.float64], times_s: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """1.0 where the voice sounds, 0.0 where it doesn't, with straight fades of one pitch frame."""
    return np.interp(times_s, frame_times_s, is_voiced).astype(np.float32)


def _join(original: Samples, changed: Samples, voiced: npt.NDArray[np.float32]) -> Samples:
    """Voiced sound from `changed`, brought to the level it had, the rest from `original`."""
    level_db = rms_db(original * voiced) - rms_db(changed * voiced)
    gain = 10.0 ** (level_db / 20.0) if np.isfinite(level_db) else 1.0
    return cast(Samples, (original + voiced * (changed * np.float32(gain) - original)).astype(np.float32))


def _sound(channel: npt.NDArray[np.float32], sample_rate_hz: int) -> Any:
    import parselmouth

    return parselmouth.Sound(channel.astype(np.float64), sampling_frequency=sample_rate_hz)
