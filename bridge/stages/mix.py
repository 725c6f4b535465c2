"""The two products: the lead over the original music, and over the music that was written for it.

The lead follows the loudness of the original vocal, phrase by phrase, so that the singer's dynamics
survive whatever converter and effects did to the level. The music goes down a little under it; new music
is first brought to where the old one stood beside the singer, so that the song's balance survives too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from bridge import audio
from bridge.audio import Samples
from bridge.effects.limiter import master
from bridge.progress import Report, part_of
from bridge.settings import setting
from bridge.types import STEMS, Artifact, Context, Made, Skip

STAGE_VERSION = "3"

FOLLOW_HOP_S, FOLLOW_HOPS = 0.08, 5  # windows of 400 ms, as for momentary loudness in BS.1770
MOST_CORRECTION_DB = 12.0
SUNG_BELOW_DB = 20.0  # what lies further below the vocal's loudness counts as a pause
DUCK_HOP_S, DUCK_HOPS = 0.01, 5
DUCK_FROM_DB, DUCK_FULL_DB = 20.0, 10.0  # below the lead's loudness: where ducking begins, where it is full
DUCK_ATTACK_S, DUCK_RELEASE_S = 0.03, 0.3
SILENCE_DB = -100.0
LEAST_LEAD = 1e-3  # of the vocals' power is the lead's, even where the backing sings alone
MISSED_LU = 0.3
USUAL_LU, LEAST_LU, MOST_LU = 3.0, -6.0, 9.0  # how far new music stands above the vocal

Levels = npt.NDArray[np.float64]
"""Levels in dB, one per hop."""


@dataclass(frozen=True)
class MixSettings:
    """How the mix is balanced and how loud it comes out."""

    target_lufs: float = setting(-14.0, lo=-30.0, hi=-6.0, help="integrated loudness of mix and new piece")
    ceiling_dbtp: float = setting(-1.0, lo=-9.0, hi=0.0, help="no true peak lies above it")
    duck_db: float = setting(2.0, lo=0.0, hi=12.0, help="how far the music goes down under the lead")
    follow: float = setting(1.0, lo=0.0, hi=1.0, help="how closely the lead follows the singer's dynamics")


def mix(
    stems: Artifact,
    grid: Artifact,
    lead: Artifact | None,
    arrangement_audio: Artifact | None,
    backing: Artifact | None,
    *,
    settings: MixSettings,
    context: Context,
) -> Made | Skip:
    """Make `mix`, the lead over drums, bass and other, and `new_piece`, the lead over the arrangement.

    A backing lies under the lead in both, as loud as it was sung.
    Each is made where there is such music, with the bounce's length and channels, and in time with it.
    """
    if lead is None:
        return Skip("there is no lead to mix", "no_lead")
    paths = [path for stem in STEMS if stem != "vocals" and (path := stems.path / f"{stem}.wav").exists()]
    if not paths and arrangement_audio is None:
        return Skip("this bounce is a vocal alone: there is no music to mix the lead with", "no_music")
    parts = 1 + bool(paths) + (arrangement_audio is not None)
    context.report(0, parts)
    vocals, rate = audio.read_raw(stems.path / "vocals.wav")
    behind = audio.read_raw(backing.path)[0] if backing else None
    voice = follow(audio.read_raw(lead.path)[0], _without(vocals, behind, rate), rate, settings.follow)
    if behind is not None:
        voice = voice + behind
    backings: dict[str, Samples] = {"mix": _sum(paths)} if paths else {}
    if arrangement_audio is not None:
        written = _like(voice, audio.read_raw(arrangement_audio.path)[0])
        backings["new_piece"] = balance(written, vocals, backings.get("mix"), rate)
    files, facts, details = {}, {}, []
    for done, (name, music) in enumerate(backings.items(), 1):
        mixed = _over(music, voice, rate, settings, part_of(context.report, done, parts))
        files[name] = context.workdir / f"{name}.wav"
        audio.write_float_wav(files[name], mixed, rate)
        lufs, peak = audio.loudness_lufs(mixed, rate), audio.true_peak_dbtp(mixed, rate)
        facts[name] = {"loudness_lufs": _or_none(lufs), "true_peak_dbtp": _or_none(peak)}
        details.append(f"{name} {_level(lufs, peak, settings)}")
    context.report(parts, parts)
    return Made(files, "; ".join(details), facts)


def follow(lead: Samples, vocals: Samples, rate: int, strength: float) -> Samples:
    """The lead as loud as the vocals: as a whole, and by `strength` (0..1) in each 400 ms window.

    A window is corrected by 12 dB at most; in the singer's pauses the gain glides from phrase to phrase.
    """
    loudness = audio.loudness_lufs(vocals, rate)
    whole_db = loudness - audio.loudness_lufs(lead, rate)
    if not math.isfinite(whole_db):
        return lead
    sung_db = _levels_db(vocals, rate, FOLLOW_HOP_S, FOLLOW_HOPS)
    lead_db = _levels_db(lead, rate, FOLLOW_HOP_S, FOLLOW_HOPS) + whole_db
    sung = np.flatnonzero(sung_db > loudness - SUNG_BELOW_DB)
    if not sung.size:
        return lead * np.float32(audio.db_to_amplitude(whole_db))
    correction_db = np.clip(sung_db - lead_db, -MOST_CORRECTION_DB, MOST_CORRECTION_DB)[sung]
    gain_db = whole_db + strength * np.interp(np.arange(sung_db.size), sung, correction_db)
    return lead * _gain(gain_db, lead.shape[1], rate, FOLLOW_HOP_S)


def duck(music: Samples, lead: Samples, rate: int, duck_db: float) -> Samples:
    """The music, `duck_db` lower wherever the lead sounds, with a soft attack and a slow release."""
    loudness = audio.loudness_lufs(lead, rate)
    if not math.isfinite(loudness) or duck_db == 0:
        return music
    below_db = loudness - _levels_db(lead, rate, DUCK_HOP_S, DUCK_HOPS)
    presence = np.clip((DUCK_FROM_DB - below_db) / (DUCK_FROM_DB - DUCK_FULL_DB), 0.0, 1.0)
    return music * _gain(-duck_db * _attack_and_release(presence), music.shape[1], rate, DUCK_HOP_S)


def balance(music: Samples, vocals: Samples, original: Samples | None, rate: int) -> Samples:
    """New music as loud beside the vocals as the original music was, within sensible bounds.

    Where there is no original music it stands 3 LU above the vocals, as accompaniment usually does.
    """
    vocals_lufs = audio.loudness_lufs(vocals, rate)
    stood_lu = USUAL_LU if original is None else audio.loudness_lufs(original, rate) - vocals_lufs
    change_db = vocals_lufs + float(np.clip(stood_lu, LEAST_LU, MOST_LU)) - audio.loudness_lufs(music, rate)
    return music * np.float32(audio.db_to_amplitude(change_db)) if math.isfinite(change_db) else music


def _without(vocals: Samples, behind: Samples | None, rate: int) -> Samples:
    """The vocals as loud as their lead is, window by window, where a backing is `behind` it."""
    if behind is None:
        return vocals
    theirs_db, all_db = (_levels_db(samples, rate, FOLLOW_HOP_S, FOLLOW_HOPS) for samples in (behind, vocals))
    share = np.clip(1.0 - 10.0 ** ((theirs_db - all_db) / 10.0), LEAST_LEAD, 1.0)
    return vocals * _gain(10.0 * np.log10(share), vocals.shape[1], rate, FOLLOW_HOP_S)


def _over(music: Samples, voice: Samples, rate: int, settings: MixSettings, report: Report) -> Samples:
    """The voice over the ducked music, at the set loudness."""
    report(0, 2)
    summed = duck(music, voice, rate, settings.duck_db) + voice
    mixed = master(summed, rate, settings.target_lufs, settings.ceiling_dbtp, lambda: report(1, 2))
    report(2, 2)
    return mixed


def _like(voice: Samples, music: Samples) -> Samples:
    """The music with the voice's channels and length."""
    return audio.fit_length(audio.to_mono(music) if len(voice) == 1 else music, voice.shape[1])


def _sum(paths: list[Path]) -> Samples:
    total = audio.read_raw(paths[0])[0]
    for path in paths[1:]:
        total += audio.read_raw(path)[0]
    return total


def _levels_db(samples: Samples, rate: int, hop_s: float, hops: int) -> Levels:
    """K-weighted level of all channels (BS.1770) in windows of `hops` hops around each hop."""
    from pyloudnorm import IIRfilter
    from scipy.ndimage import uniform_filter1d

    # The two filters of BS.1770's K-weighting, as pyloudnorm's own meter sets them.
    shelf = IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, rate, "high_shelf")
    high_pass = IIRfilter(0.0, 0.5, 38.0, rate, "high_pass")
    hop = round(hop_s * rate)
    count = -(-samples.shape[1] // hop)
    power = np.zeros(count)
    for channel in samples:
        weighted = high_pass.apply_filter(shelf.apply_filter(channel.astype(np.float64)))
        padded = np.pad(weighted, (0, count * hop - weighted.size))
        power += np.square(padded).reshape(count, hop).mean(axis=1)  # (frames,) -> (hops, hop) -> (hops,)
    smooth = uniform_filter1d(power, hops, mode="nearest")
    return cast(Levels, -0.691 + 10.0 * np.log10(np.maximum(smooth, 10.0 ** (SILENCE_DB / 10.0))))


def _gain(gain_db: Levels, frames: int, rate: int, hop_s: float) -> npt.NDArray[np.float32]:
    """A gain per frame from one in dB per hop, straight between the middles of the hops."""
    hop = round(hop_s * rate)
    middles = (np.arange(gain_db.size) + 0.5) * hop
    return np.power(10.0, np.interp(np.arange(frames), middles, gain_db) / 20.0).astype(np.float32)


def _attack_and_release(presence: Levels) -> Levels:
    """One pole up and a slower one down, at the hops of the ducking."""
    up, down = (1.0 - math.exp(-DUCK_HOP_S / seconds) for seconds in (DUCK_ATTACK_S, DUCK_RELEASE_S))
    smooth = np.empty_like(presence)
    now = 0.0
    for index, target in enumerate(presence):
        now += (target - now) * (up if target > now else down)
        smooth[index] = now
    return smooth


def _level(lufs: float, peak_dbtp: float, settings: MixSettings) -> str:
    told = f"{lufs:.1f} LUFS, {peak_dbtp:.1f} dBTP"
    if settings.target_lufs - lufs > MISSED_LU:
        told += f": {settings.target_lufs:g} LUFS can't be had below {settings.ceiling_dbtp:g} dBTP"
    return told


def _or_none(level_db: float) -> float | None:
    """JSON knows no infinity."""
    return round(level_db, 2) if math.isfinite(level_db) else None
