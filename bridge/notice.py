"""A desktop notice when a song is back, by the system's own command. Optional, and a failure never matters.

The text goes in as an argument or by the environment, never as part of a script: a song's name can't run anything.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.names import printable

MOST_CHARACTERS = 200
WINDOWS_SCRIPT = (
    "$x=[Windows.UI.Notifications.ToastNotificationManager,Windows.UI.Notifications,ContentType=WindowsRuntime]::"
    "GetTemplateContent(1);$t=$x.GetElementsByTagName('text');"
    "$t.Item(0).AppendChild($x.CreateTextNode($env:DAWBRIDGE_TITLE))|Out-Null;"
    "$t.Item(1).AppendChild($x.CreateTextNode($env:DAWBRIDGE_TEXT))|Out-Null;"
    "[Windows.UI.Notifications.ToastNotificationManager]::CreateToastNotifier('dawbridge').Show($x)"
)
MAC_SCRIPT = ("on run argv", "display notification (item 2 of argv) with title (item 1 of argv)", "end run")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "linux": ("notify-send", "--app-name=dawbridge", "--", "{title}", "{text}"),
    "darwin": (
        "osascript",
        *(part for line in MAC_SCRIPT for part in ("-e", line)),
        "--",
        "{title}",
        "{text}",
    ),
    "win32": ("powershell", "-NoProfile", "-NonInteractive", "-Command", WINDOWS_SCRIPT),
}
"""By sys.platform; {title} and {text} are whole arguments."""

log = logging.getLogger(__name__)

Start = Callable[[Sequence[str], Mapping[str, str]], object]


def with_notices(
    tell: Callable[[Mapping[str, Any]], None], start: Start | None = None
) -> Callable[[Mapping[str, Any]], None]:
    """A listener to what the daemon tells that also shows a notice for each job that ended."""

    def tell_and_show(message: Mapping[str, Any]) -> None:
        tell(message)
        if message["event"] == "job" and message["state"] in ("done", "failed"):
            show(*_words(message), start=start or _start)

    return tell_and_show


def show(title: str, text: str, *, platform: str = sys.platform, start: Start) -> None:
    """Show a notice, if this system can; it is not waited for."""
    title, text = (printable(one)[:MOST_CHARACTERS] for one in (title, text))
    template = COMMANDS.get(platform)
    if template is None:
        return
    filled = {"{title}": title, "{text}": text}
    command = [filled.get(word, word) for word in template]
    try:
        start(command, {**os.environ, "DAWBRIDGE_TITLE": title, "DAWBRIDGE_TEXT": text})
    except Exception as exc:  # noqa: BLE001 -- whatever the desktop does, the song is back
        log.info("no notice: %s", exc)


def _words(message: Mapping[str, Any]) -> tuple[str, str]:
    if message["state"] == "done":
        what = "A draft of " if message["draft"] else ""
        return f"{what}{message['name']} is back", message["folder"] or ""
    return f"{message['name']} failed", message["detail"]


def _start(command: Sequence[str], environment: Mapping[str, str]) -> None:
    if shutil.which(command[0]) is None:
        log.info("no notice: there is no %s", command[0])
        return
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _reap(process)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for it in a thread, so that no dead process stays behind."""
    threading.Thread(target=process.wait, name="dawbridge-notice", daemon=True).start()
