"""The two products: the lead over the original music, and over the music that was written for it.

The lead follows the loudness of the original vocal, phrase by phrase, so that the singer's dynamics
survive whatever converter and effects did to the level. The music goes down a little under it; new music
is first brought to where the old one stood beside the singer, so that the song's balance survives too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge import audio, sound
from bridge.effects.limiter import master
from bridge.progress import Steps
from bridge.settings import setting
from bridge.sound import Sound
from bridge.types import STEMS, Artifact, Context, Made, Skip

STAGE_VERSION = "4"

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
    steps = Steps(context.report, 1 + bool(paths) + (arrangement_audio is not None))
    steps.tick()

    def read(path: Path) -> Sound:
        return sound.told(sound.of_file(path), steps.tick)

    vocals = read(stems.path / "vocals.wav")
    behind = read(backing.path) if backing else None
    voice = follow(read(lead.path), _without(vocals, behind), settings.follow)
    if behind is not None:
        voice = sound.added([voice, behind])
    backings: dict[str, Sound] = {"mix": sound.added([read(path) for path in paths])} if paths else {}
    if arrangement_audio is not None:
        written = sound.fitted(read(arrangement_audio.path), *voice.shape)
        backings["new_piece"] = balance(written, vocals, backings.get("mix"))
    ducked = duck(voice, settings.duck_db)
    files, facts, details = {}, {}, []
    for name, music in backings.items():
        steps.next()
        files[name] = context.workdir / f"{name}.wav"
        _over(ducked(music), voice, files[name], settings, read)
        mixed = read(files[name])
        lufs, peak = sound.loudness_lufs(mixed), sound.true_peak_dbtp(mixed)
        facts[name] = {"loudness_lufs": _or_none(lufs), "true_peak_dbtp": _or_none(peak)}
        details.append(f"{name} {_level(lufs, peak, settings)}")
    steps.next()
    return Made(files, "; ".join(details), facts)


def follow(lead: Sound, vocals: Sound, strength: float) -> Sound:
    """The lead as loud as the vocals: as a whole, and by `strength` (0..1) in each 400 ms window.

    A window is corrected by 12 dB at most; in the singer's pauses the gain glides from phrase to phrase.
    """
    loudness, sung_db = _loudness_and_levels(vocals, FOLLOW_HOP_S, FOLLOW_HOPS)
    lead_lufs, lead_db = _loudness_and_levels(lead, FOLLOW_HOP_S, FOLLOW_HOPS)
    whole_db = loudness - lead_lufs
    if not math.isfinite(whole_db):
        return lead
    lead_db = lead_db + whole_db
    sung = np.flatnonzero(sung_db > loudness - SUNG_BELOW_DB)
    if not sung.size:
        return sound.scaled(lead, audio.db_to_amplitude(whole_db))
    correction_db = np.clip(sung_db - lead_db, -MOST_CORRECTION_DB, MOST_CORRECTION_DB)[sung]
    gain_db = whole_db + strength * np.interp(np.arange(sung_db.size), sung, correction_db)
    return sound.shaped(lead, gain_db, FOLLOW_HOP_S)


def duck(lead: Sound, duck_db: float) -> Callable[[Sound], Sound]:
    """What makes music `duck_db` lower wherever the lead sounds, with a soft attack and a slow release."""
    loudness, level_db = _loudness_and_levels(lead, DUCK_HOP_S, DUCK_HOPS)
    if not math.isfinite(loudness) or duck_db == 0:
        return lambda music: music
    below_db = loudness - level_db
    presence = np.clip((DUCK_FROM_DB - below_db) / (DUCK_FROM_DB - DUCK_FULL_DB), 0.0, 1.0)
    gain_db = -duck_db * _attack_and_release(presence)
    return lambda music: sound.shaped(music, gain_db, DUCK_HOP_S)


def balance(music: Sound, vocals: Sound, original: Sound | None) -> Sound:
    """New music as loud beside the vocals as the original music was, within sensible bounds.

    Where there is no original music it stands 3 LU above the vocals, as accompaniment usually does.
    """
    vocals_lufs = sound.loudness_lufs(vocals)
    stood_lu = USUAL_LU if original is None else sound.loudness_lufs(original) - vocals_lufs
    change_db = vocals_lufs + float(np.clip(stood_lu, LEAST_LU, MOST_LU)) - sound.loudness_lufs(music)
    return sound.scaled(music, audio.db_to_amplitude(change_db)) if math.isfinite(change_db) else music


def _without(vocals: Sound, behind: Sound | None) -> Sound:
    """The vocals as loud as their lead is, window by window, where a backing is `behind` it."""
    if behind is None:
        return vocals
    theirs_db, all_db = (
        _loudness_and_levels(heard, FOLLOW_HOP_S, FOLLOW_HOPS)[1] for heard in (behind, vocals)
    )
    share = np.clip(1.0 - 10.0 ** ((theirs_db - all_db) / 10.0), LEAST_LEAD, 1.0)
    return sound.shaped(vocals, 10.0 * np.log10(share), FOLLOW_HOP_S)


def _over(
    music: Sound, voice: Sound, path: Path, settings: MixSettings, read: Callable[[Path], Sound]
) -> None:
    """Write the voice over the music, at the set loudness."""
    draft = path.with_name(f"{path.stem}_draft.wav")  # read many times
    sound.write(sound.added([music, voice]), draft)
    sound.write(master(read(draft), settings.target_lufs, settings.ceiling_dbtp), path)
    draft.unlink()


def _loudness_and_levels(heard: Sound, hop_s: float, hops: int) -> tuple[float, Levels]:
    """Integrated loudness, and K-weighted level of all channels (BS.1770) in windows of `hops` hops around each hop."""
    from scipy.ndimage import uniform_filter1d

    hop = round(hop_s * heard.rate_hz)
    count = -(-heard.frames // hop)
    loudness, energy = sound.loudness_and_energy(heard, np.arange(count + 1, dtype=np.int64) * hop)
    smooth = uniform_filter1d(energy / hop, hops, mode="nearest")
    return loudness, -0.691 + 10.0 * np.log10(np.maximum(smooth, 10.0 ** (SILENCE_DB / 10.0)))


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
