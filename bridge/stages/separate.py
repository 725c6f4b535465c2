"""separate: a bounce into vocals, drums, bass and other that add up to it again.

Whatever engine runs, the stems have the bounce's own rate, channels and length, no level is changed, and
`other` is the bounce minus the rest, so that the four null against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bridge import audio, weights
from bridge.audio import Samples
from bridge.errors import StageError
from bridge.separators import accompaniment, htdemucs, spleeter
from bridge.settings import setting
from bridge.types import STEMS, Bounce, Context, Fallback, Made, ModelRef, Stem

STAGE_VERSION = "1"
BOUNCE_FIELDS = ("sha256", "role")
RATE_HZ = 44_100
"""The rate all engines work at."""

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
    samples, rate_hz = audio.read(bounce.path)
    folder = context.workdir / "stems"
    folder.mkdir()
    if bounce.role != "mix":
        audio.write_float_wav(folder / f"{bounce.role}.wav", samples, rate_hz)
        return Made({"stems": folder}, f"the bounce is one part already: {bounce.role}", {"engine": None})
    stems = separate_samples(samples, rate_hz, settings.engine, context.models_dir, context.report)
    for stem, sound in stems.items():
        audio.write_float_wav(folder / f"{stem}.wav", sound, rate_hz)
    approximate = APPROXIMATE if settings.engine == "spleeter" else ()
    detail = f"{len(stems)} stems by {settings.engine}"
    if approximate:
        detail += f"; {', '.join(approximate)} are approximate"
    facts = {"engine": settings.engine, "approximate": list(approximate)}
    return Made({"stems": folder}, detail, facts)


def separate_samples(
    samples: Samples, rate_hz: int, engine: str, models_dir: Path, report: Callable[[float, float], None]
) -> dict[Stem, Samples]:
    """All four stems of `samples`, each of its shape, (1 or 2, frames) float32; their sum is `samples`.

    Silence stays silence, whatever the engine makes of it.
    """
    stems: dict[Stem, Samples] = {stem: np.zeros_like(samples) for stem in STEMS}
    if samples.any():
        stereo = np.repeat(samples, 2, axis=0) if samples.shape[0] == 1 else samples
        found = _run_engine(audio.resample(stereo, rate_hz, RATE_HZ), engine, models_dir, report)
        for stem, sound in found.items():
            stems[stem] = _like_bounce(sound, samples, rate_hz)
    stems["other"] = samples - (stems["vocals"] + stems["drums"] + stems["bass"])
    if not np.isfinite(stems["other"]).all():
        raise StageError(f'The engine {engine} gave values that are not numbers. Use engine = "spleeter".')
    return stems


def _run_engine(
    stereo: Samples, engine: str, models_dir: Path, report: Callable[[float, float], None]
) -> dict[Stem, Samples]:
    """Vocals, drums and bass of `stereo`, (2, frames) at `RATE_HZ`."""
    if engine != "spleeter":
        return htdemucs.separate(stereo, engine, models_dir, report)
    vocals = spleeter.separate_vocals(stereo, models_dir, lambda done, total: report(done, 2 * total))
    rest = accompaniment.split(stereo - vocals, RATE_HZ, lambda done, total: report(total + done, 2 * total))
    return {"vocals": vocals, **rest}


def _like_bounce(sound: Samples, bounce: Samples, rate_hz: int) -> Samples:
    """`sound` at the bounce's rate, length and number of channels."""
    fitted = audio.fit_length(audio.resample(sound, RATE_HZ, rate_hz), bounce.shape[1])
    return audio.to_mono(fitted) if bounce.shape[0] == 1 else fitted
