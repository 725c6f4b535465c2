"""Whether the outbox's disk is there. A folder under a mount point looks as usual when the disk is away, only emptier.

So the daemon remembers where the outbox's disk is mounted, also over a restart: nothing is ever written into the
empty folder that a share, a stick or an external disk leaves behind.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from bridge.atomic import replacing


def mount_point(folder: Path) -> Path:
    """Where the disk that holds `folder`, or would hold it, is mounted."""
    place = folder.resolve()
    while not os.path.ismount(place):
        if place.parent == place:
            return place
        place = place.parent
    return place


def is_away(mount: Path | None) -> bool:
    """Whether nothing is mounted there now."""
    return mount is not None and not os.path.ismount(mount)


def known_mount(outbox: Path, note: Path) -> Path:
    """The mount point of the outbox's disk: the one that `note`, a file of ours, tells where that disk is away now."""
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        mount = Path(told["mount"])
        if told["outbox"] == str(outbox) and is_away(mount):
            return mount
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: it is written anew
        pass
    mount = mount_point(outbox)
    note.parent.mkdir(parents=True, exist_ok=True)
    with replacing(note) as file:
        file.write(json.dumps({"outbox": str(outbox), "mount": str(mount)}).encode())
    return mount
