"""How long the way from our output to the instrument is, as `doctor --midi-loop` measured it for each port."""

from __future__ import annotations

import json

from bridge.atomic import replacing
from bridge.config import Folders


def delay_ms(folders: Folders, output: str) -> float:
    """What was measured for an output port ("" is our own); 0 where nothing was."""
    return _read(folders).get(output, 0.0)


def save_delay_ms(folders: Folders, output: str, delay: float) -> None:
    """Remember it; the next companion sends so much earlier."""
    folders.state.mkdir(parents=True, exist_ok=True)
    delays = {**_read(folders), output: round(delay, 3)}
    with replacing(folders.midi_delays) as file:
        file.write(json.dumps(delays).encode())


def _read(folders: Folders) -> dict[str, float]:
    try:
        table = json.loads(folders.midi_delays.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in table.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # never measured, or damaged: as good as none
        return {}
