"""What a person sees stays readable, however much a stage has to say."""

from __future__ import annotations

import io

from rich.console import Console

from bridge.terminal import StageBars
from bridge.types import StageEvent


def test_a_long_note_takes_more_lines_and_no_stage_loses_its_name() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    bars = StageBars(console)
    said = "an arrangement of A8 B8 A8 for piano, bass, strings, drums; " * 3
    bars.update(StageEvent("job", "transcribe", "done", detail="drums 113 notes"))
    bars.update(StageEvent("job", "generate", "done", detail=said))
    plain = Console(file=io.StringIO(), width=80, no_color=True)
    plain.print(bars)
    assert isinstance(plain.file, io.StringIO)
    shown = plain.file.getvalue()
    assert "transcribe" in shown
    assert "generate" in shown
    for word in said.split():
        assert word in shown
