"""The companion in a thread of the daemon, where the configuration says so: its end is no end of the daemon."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from bridge.config import Config, Folders
from bridge.errors import DawbridgeError
from bridge.livehost.session import Session, Tell
from bridge.livehost.view import event_line

CLOSE_S = 15.0

log = logging.getLogger(__name__)


@contextlib.contextmanager
def companion_in_background(config: Config, folders: Folders, tell: Tell) -> Iterator[None]:
    """A running companion; without a MIDI system, or beside one that runs already, a warning is told instead."""
    stop = threading.Event()

    def told(event: Mapping[str, Any]) -> None:
        line = event_line(event)
        if line:
            tell({"event": "live", "what": event["event"], "detail": Text.from_markup(line).plain})

    def run() -> None:
        try:
            Session(config, folders, lambda event: tell({**event, "event": f"live {event['event']}"})).run(
                stop
            )
        except (DawbridgeError, OSError) as exc:
            log.warning("the companion does not run: %s", exc)
            tell({"event": "warning", "name": "live", "detail": f"The companion does not run: {exc}"})

    thread = threading.Thread(target=run, name="companion", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(CLOSE_S)
