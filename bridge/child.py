"""Runs foreign code (plug-ins, synthesizers) in a child process with a time limit, since it may hang or crash.

The parent lays what the child needs into a folder, starts `python -m MODULE FOLDER`, and finds there what
the child made. A child that can't do what it is asked says why, and the parent raises that.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from bridge.errors import StageError

POLL_S = 0.1
REFUSED_EXIT = 3  # the child has said why in its reason file
FILE_EXIT = 4  # a file could not be read or written, which is nobody's fault
REQUEST, REASON, LOG = "request.json", "reason.txt", "child.log"


@dataclass(frozen=True)
class Guest:
    """The foreign thing that the child loads, as errors name it."""

    name: str  # "The plug-in /path/Some.vst3"
    kind: str  # first word of the error codes, e.g. "plugin"
    remedy: str  # a sentence for one that hangs or crashes
    timeout_s: float  # for all that the child does


def run_child(
    module: str, request: Mapping[str, Any], folder: Path, guest: Guest, on_wait: Callable[[], None]
) -> None:
    """Have `module`, whose entry calls `serve`, do what `request` (JSON values) says in `folder`.

    `on_wait` is called ten times a second and may raise, which ends the child.

    Raises:
        StageError: the guest hung (`<kind>_timeout`), crashed (`<kind>_crashed`), or the child refused.
        OSError: a file could not be read or written, perhaps for want of room.
    """
    (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
    code = _wait(module, folder, guest, on_wait)
    if code == REFUSED_EXIT:
        raise StageError(f"{guest.name}: {(folder / REASON).read_text(encoding='utf-8')}")
    if code == FILE_EXIT:
        raise OSError(f"{guest.name}: a file could not be read or written")
    if code != 0:
        raise StageError(f"{guest.name} crashed (exit {code}). {guest.remedy}", f"{guest.kind}_crashed")


def serve(work: Callable[[Mapping[str, Any], Path], None]) -> int:
    """The child's entry: `work(request, folder)`, and the process's exit code.

    `work` raises ValueError, with the reason and the remedy, where it can't do what is asked.
    """
    folder = Path(sys.argv[1])
    try:
        work(json.loads((folder / REQUEST).read_text(encoding="utf-8")), folder)
    except (OSError, soundfile.LibsndfileError):
        with contextlib.suppress(OSError):  # the log lies on that disk too
            traceback.print_exc()
        return FILE_EXIT
    except ValueError as exc:
        (folder / REASON).write_text(str(exc), encoding="utf-8")
        return REFUSED_EXIT
    return 0


def _wait(module: str, folder: Path, guest: Guest, on_wait: Callable[[], None]) -> int:
    deadline_s = time.monotonic() + guest.timeout_s
    with (folder / LOG).open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", module, str(folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            while time.monotonic() < deadline_s:
                try:
                    return child.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    on_wait()
        finally:
            child.kill()
            child.wait()
    raise StageError(
        f"{guest.name} gave no answer within {guest.timeout_s:g} s. {guest.remedy}", f"{guest.kind}_timeout"
    )
