"""The engine behind the built-in characters: Praat's PSOLA, through parselmouth.

Both channels are resynthesised from the same glottal pulses, found on the mid signal, so that the
stereo image stands still. Breath and consonants are the singer's own: only voiced sound is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bridge.audio import Samples, fit_length, resample, rms_db, to_mono
from bridge.voices.character import CHARACTERS, Character
from bridge.voices.consent import Permit
from bridge.voices.converter import Transposition
from bridge.voices.f0 import HOP_S, F0Track, track_f0

PITCH_FLOOR_HZ = 65.0  # a low bass voice
PITCH_CEILING_HZ = 1100.0  # a soprano's high C
BELOW_QUARTILE, ABOVE_QUARTILE = 0.6, 2.2
PITCH_STEP_S = 0.01
OCTAVE_ERROR_CENTS, MANY = 900.0, 0.01


@dataclass(frozen=True)
class CharacterVoice:
    """A `Converter` for one of the characters."""

    name: str
    character: Character

    def transposition(self, f0: F0Track) -> Transposition:
        """The character's own, whoever sings."""
        semitones = self.character.pitch_semitones
        moved = f"{semitones:+d} semitones" if semitones else "the singer's own pitch"
        return Transposition(semitones, f"{moved}: the character {self.name!r}")

    def convert(self, samples: Samples, sample_rate_hz: int, f0: F0Track, semitones: int) -> Samples:
        """As `change_voice`."""
        return change_voice(samples, sample_rate_hz, self.character, semitones, f0)


def open_character(permit: Permit) -> CharacterVoice:
    """The engine set to the character that `permit` names. Raises KeyError for any other voice."""
    return CharacterVoice(permit.voice, CHARACTERS[permit.voice])


def change_voice(
    samples: Samples,
    sample_rate_hz: int,
    character: Character,
    semitones: int | None = None,
    f0: F0Track | None = None,
) -> Samples:
    """Change pitch and formants as Praat's "Change gender" does; (channels, frames) in and out.

    Formants move by playing the sound faster or slower, and PSOLA takes back what that does to length
    and pitch. The voiced parts keep their level (RMS); the same input gives the same bytes. `semitones`
    stands in for the character's own; `f0`, where it is not what is sung, for the sung pitch.
    """
    # Praat is told another sampling rate: this is the "playing faster". A whole number of hertz
    # lets the way back be an exact resampling.
    faster_hz = round(sample_rate_hz * character.formant_ratio)
    ratio = faster_hz / sample_rate_hz
    moved = character.pitch_semitones if semitones is None else semitones
    mid = _sound(to_mono(samples)[0], faster_hz)
    pitch = _find_pitch(mid, ratio)
    if f0 is not None and _is_octaves_off(pitch, f0, ratio):
        pitch = _search(mid, ratio, f0.hz[f0.hz > 0] * ratio)
    is_voiced: npt.NDArray[np.bool_] = pitch.selected_array["frequency"] > 0
    if not is_voiced.any():
        return samples
    psola = _manipulation(mid, pitch, 2.0 ** (moved / 12.0) / ratio, ratio)
    cents = None if f0 is None else _moved_cents(samples, sample_rate_hz, f0)
    if cents is not None:
        _bend(psola, pitch, 2.0 ** (moved / 12.0) / ratio, ratio, cents)
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
    return _search(mid, ratio, found[found > 0]) if (found > 0).any() else wide


def _search(mid: Any, ratio: float, found_hz: npt.NDArray[np.float64]) -> Any:
    """Praat's Pitch object, in the range of the pitches `found_hz`."""
    low, high = np.quantile(found_hz, (0.25, 0.75))
    return mid.to_pitch_ac(
        time_step=PITCH_STEP_S / ratio,
        pitch_floor=max(PITCH_FLOOR_HZ * ratio, BELOW_QUARTILE * low),
        pitch_ceiling=min(PITCH_CEILING_HZ * ratio, ABOVE_QUARTILE * high),
    )


def _is_octaves_off(pitch: Any, f0: F0Track, ratio: float) -> bool:
    """Does Praat's search disagree with the given f0 by octaves, for more than a moment?"""
    times_s, sung_hz = _voiced(pitch)
    given_hz = _at(f0.hz, times_s * ratio)
    both = given_hz > 0
    cents = 1200.0 * np.log2(given_hz[both] * ratio / sung_hz[both])
    return bool(both.any() and np.mean(np.abs(cents) > OCTAVE_ERROR_CENTS) > MANY)


def _moved_cents(samples: Samples, sample_rate_hz: int, f0: F0Track) -> npt.NDArray[np.float64] | None:
    """By how much the given f0 lies above the one that the trackers hear, per hop; None where nowhere."""
    mono = to_mono(samples)
    heard = track_f0(mono, sample_rate_hz)
    if any(np.array_equal(own.hz, f0.hz) for own in (heard, track_f0(mono, sample_rate_hz, mend=False))):
        return None
    both = (heard.hz > 0) & (f0.hz > 0)
    ratios = np.where(both, f0.hz / np.maximum(heard.hz, 1.0), 1.0)
    return np.asarray(1200.0 * np.log2(ratios))


def _voiced(pitch: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Praat's times in s and pitches in Hz, where it hears one."""
    hz = pitch.selected_array["frequency"]
    return pitch.xs()[hz > 0], hz[hz > 0]


def _at(values: npt.NDArray[np.float64], times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The value of the hop nearest to each time."""
    hops = np.clip(np.round(times_s / HOP_S).astype(int), 0, values.size - 1)
    return np.asarray(values[hops])


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


def _bend(
    manipulation: Any, pitch: Any, pitch_factor: float, ratio: float, cents: npt.NDArray[np.float64]
) -> None:
    """Give it a pitch tier that lies `cents`, (hops,), above the one it has."""
    from parselmouth.praat import call

    times_s, hz = _voiced(pitch)
    wanted_hz = hz * pitch_factor * np.exp2(_at(cents, times_s * ratio) / 1200.0)
    tier = call("Create PitchTier", "f0", pitch.xmin, pitch.xmax)
    for time_s, wanted in zip(times_s.tolist(), wanted_hz.tolist(), strict=True):
        call(tier, "Add point", time_s, wanted)
    call([manipulation, tier], "Replace pitch tier")


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
