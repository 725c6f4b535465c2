"""separate: a bounce into vocals, drums, bass and other that add up to it again.

Whatever engine runs, the stems have the bounce's own rate, channels and length, no level is changed, and
`other` is the bounce minus the rest, so that the four null against it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bridge import audio, sound, weights
from bridge.audio import Samples
from bridge.errors import InputError, StageError
from bridge.progress import Report
from bridge.separators import accompaniment, htdemucs, spleeter
from bridge.settings import setting
from bridge.stretches import Stretches, over_stretches
from bridge.types import STEMS, Bounce, Context, Fallback, Made, ModelRef, Stem

STAGE_VERSION = "3"
BOUNCE_FIELDS = ("sha256", "role")
RATE_HZ = 44_100
"""The rate all engines work at."""

STRETCHES = Stretches(length_s=119.0, around_s=12.0, seam_s=1.0)  # as long as the networks look around
THRIFTY_STRETCHES = replace(STRETCHES, length_s=24.0)  # where memory has run out before

APPROXIMATE: tuple[Stem, ...] = ("drums", "bass", "other")


@dataclass(frozen=True)
class SeparateSettings:
    """Which engine; the better ones need weights that are fetched once."""

    engine: str = setting(
        "htdemucs",
        choices=("htdemucs", "htdemucs_ft", "htdemucs_6s", "spleeter"),
        help="htdemucs: good; htdemucs_ft: better, three times as slow; spleeter: fast, nothing to download",
    )


def resolve(
    settings: SeparateSettings, bounce: Bounce, models_dir: Path
) -> tuple[SeparateSettings, Fallback | None]:
    """The engine that can really be used, decided once before the job; answers within 5 s."""
    if bounce.role != "mix":
        return settings, None
    reason = weights.why_unavailable(settings.engine, models_dir)
    if reason is None or settings.engine == "spleeter":
        return settings, None
    return replace(settings, engine="spleeter"), Fallback("separate", settings.engine, "spleeter", reason)


def models(settings: SeparateSettings, models_dir: Path) -> tuple[ModelRef, ...]:
    """The weights that take part."""
    return weights.refs(settings.engine, models_dir)


def separate(bounce: Bounce, *, settings: SeparateSettings, context: Context) -> Made:
    """A folder with one float WAV for each stem.

    Raises:
        ModelError: the engine's weights are missing, changed or unsafe.
        StageError: the engine gave values that are not numbers.
    """
    audio.probe(bounce.path)
    song = sound.of_file(bounce.path)
    folder = context.workdir / "stems"
    folder.mkdir()
    if bounce.role != "mix":
        sound.write(song, folder / f"{bounce.role}.wav")
        return Made({"stems": folder}, f"the bounce is one part already: {bounce.role}", {"engine": None})
    stems: tuple[Stem, ...] = STEMS
    level = htdemucs.Level.of(song) if settings.engine != "spleeter" else None
    cut = THRIFTY_STRETCHES if context.thrifty else STRETCHES

    def apart(samples: Samples, report: Report) -> list[Samples]:
        found = separate_samples(
            _finite(samples), song.rate_hz, settings.engine, context.models_dir, report, level
        )
        return [found[stem] for stem in stems]

    with ExitStack() as files:
        shape = (song.rate_hz, song.channels, song.frames)
        writers = {
            stem: files.enter_context(audio.wav_writer(folder / f"{stem}.wav", *shape, is_float=True))
            for stem in stems
        }
        for found in over_stretches(song, cut, apart, context.report):
            for stem, samples in zip(stems, found, strict=True):
                writers[stem].write(samples.T)
    approximate = APPROXIMATE if settings.engine == "spleeter" else ()
    detail = f"{len(stems)} stems by {settings.engine}"
    if approximate:
        detail += f"; {', '.join(approximate)} are approximate"
    facts = {"engine": settings.engine, "approximate": list(approximate)}
    return Made({"stems": folder}, detail, facts)


def separate_samples(
    samples: Samples,
    rate_hz: int,
    engine: str,
    models_dir: Path,
    report: Report,
    level: htdemucs.Level | None = None,
) -> dict[Stem, Samples]:
    """All four stems of `samples`, each of its shape, (1 or 2, frames) float32; their sum is `samples`.

    Silence stays silence, whatever the engine makes of it. `level` is that of the song that the samples are part of.
    """
    stems: dict[Stem, Samples] = {stem: np.zeros_like(samples) for stem in STEMS}
    if samples.any():
        stereo = np.repeat(samples, 2, axis=0) if samples.shape[0] == 1 else samples
        found = _run_engine(audio.resample(stereo, rate_hz, RATE_HZ), engine, models_dir, report, level)
        for stem, heard in found.items():
            stems[stem] = _like_bounce(heard, samples, rate_hz)
    stems["other"] = samples - (stems["vocals"] + stems["drums"] + stems["bass"])
    if not np.isfinite(stems["other"]).all():
        raise StageError(f'The engine {engine} gave values that are not numbers. Use engine = "spleeter".')
    return stems


def _finite(samples: Samples) -> Samples:
    if not np.isfinite(samples).all():
        raise InputError(
            "The bounce holds samples that are not numbers (NaN or infinite). "
            "A plug-in in the project has failed: find it and export again.",
            "not_finite",
        )
    return samples


def _run_engine(
    stereo: Samples, engine: str, models_dir: Path, report: Report, level: htdemucs.Level | None
) -> dict[Stem, Samples]:
    """Vocals, drums and bass of `stereo`, (2, frames) at `RATE_HZ`."""
    if engine != "spleeter":
        return htdemucs.separate(stereo, engine, models_dir, report, level)
    vocals = spleeter.separate_vocals(stereo, models_dir, lambda done, total: report(done, 2 * total))
    rest = accompaniment.split(stereo - vocals, RATE_HZ, lambda done, total: report(total + done, 2 * total))
    return {"vocals": vocals, **rest}


def _like_bounce(heard: Samples, bounce: Samples, rate_hz: int) -> Samples:
    """`heard` at the bounce's rate, length and number of channels."""
    fitted = audio.fit_length(audio.resample(heard, RATE_HZ, rate_hz), bounce.shape[1])
    return audio.to_mono(fitted) if bounce.shape[0] == 1 else fitted
