"""Speaks to the companion that runs in another process: a request row in the ledger, and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from bridge.config import Folders
from bridge.errors import LiveError
from bridge.ledger import Ledger

ADDRESSEE = "live"
ANSWER_S = 5.0


def ask_companion(
    folders: Folders, body: Mapping[str, Any], timeout_s: float = ANSWER_S
) -> Mapping[str, Any]:
    """Have the running companion do something; its answer.

    Raises:
        LiveError: none runs, it gave no answer, or it refused.
    """
    if not is_running(folders):
        raise LiveError("No companion runs. Start it with `dawbridge live`.", "not_running")
    ledger = Ledger(folders.ledger)
    try:
        answer = ledger.ask(ADDRESSEE, body, timeout_s)
    finally:
        ledger.close()
    if answer is None:
        raise LiveError(f"The companion gave no answer for {timeout_s:.0f} s. Start it anew.", "silent")
    if not answer["ok"]:
        raise LiveError(answer["detail"], answer["code"])
    return answer


def offer_song(folders: Folders, folder: Path) -> None:
    """A song came back: the running companion, if any, may take key, metre and parts from it."""
    if is_running(folders):
        ledger = Ledger(folders.ledger)
        try:
            ledger.request(ADDRESSEE, {"name": "song", "folder": str(folder)})
        finally:
            ledger.close()


def is_running(folders: Folders) -> bool:
    """Does a companion hold this state folder?"""
    if not (folders.state / "live.lock").exists():
        return False
    lock = filelock.FileLock(folders.state / "live.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def companion_state(folders: Folders) -> Mapping[str, Any]:
    """What the running companion shows.

    Raises:
        LiveError: none runs.
    """
    if not is_running(folders):
        raise LiveError("No companion runs. Start it with `dawbridge live`.", "not_running")
    try:
        table: Mapping[str, Any] = json.loads(folders.live_state.read_text(encoding="utf-8"))
    except OSError:  # it starts just now
        table = {}
    return table
