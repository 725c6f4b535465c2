"""A quick draft before the best: which job gets one, and what is made for it.

Separating as well as it can be done takes longer than the song. So its stems and notes come back first, from the fast
engine, as a revision of their own that says it is a draft. No voice sings in it and no music is new.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bridge import weights
from bridge.jobs import Workshop, already_returned, has_stems, prepare
from bridge.ledger import utc_now
from bridge.stages.separate import SeparateSettings
from bridge.types import Job

FAST = "spleeter"
QUICK = ("separate", "analyse", "transcribe", "export")
"""The stages of a draft, as far as the preset runs them."""


def with_draft(job: Job, shop: Workshop, *, is_wanted: bool = True) -> tuple[Job, ...]:
    """The job, and before it its draft where one shortens the wait. May take a second: not on an event loop.

    None is made for a part or by the fast engine, where the stems are there already, or the draft itself came back;
    one that came back is replaced all the same, even if no draft `is_wanted` now.
    """
    settings = job.preset.settings.get("separate")
    if not isinstance(settings, SeparateSettings) or settings.engine == FAST or job.bounce.role != "mix":
        return (job,)
    draft = _draft_of(job, settings, shop)
    best = replace(job, replaces=draft.id, created_at=utc_now())  # later, as it comes back later
    if already_returned(draft, shop):
        return (best,)
    if not is_wanted or has_stems(job, shop) or weights.why_unavailable(FAST, shop.folders.models):
        return (job,)
    return draft, best


def _draft_of(job: Job, settings: SeparateSettings, shop: Workshop) -> Job:
    quick: dict[str, Any] = {name: job.preset.settings[name] for name in QUICK if name in job.preset.settings}
    quick["separate"] = replace(settings, engine=FAST)
    draft = prepare(
        job.bounce,
        replace(job.preset, settings=quick),
        job.outbox,
        shop.folders,
        warnings=job.warnings,
        draft=True,
    )
    return replace(draft, created_at=job.created_at, project=job.project, track=job.track)
