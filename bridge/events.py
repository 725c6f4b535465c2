"""File system events of a changing set of folders, by watchdog; polled where the system sends none.

watchdog's threads only call `on_event`. The methods belong to one thread.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

log = logging.getLogger(__name__)

EVENT_TYPES = ("created", "modified", "moved", "deleted", "closed")
JOIN_S = 10.0


@dataclass(frozen=True)
class _Subscription:
    observer: BaseObserver
    watch: ObservedWatch
    folder_id: tuple[int, int]  # device and inode: another folder under the same name needs a new one


class FolderEvents:
    """Tells what happens in the folders it follows, not in what lies below them."""

    def __init__(self, on_event: Callable[[FileSystemEvent], object], *, poll_s: float) -> None:
        self._handler = _Handler(on_event)
        self._poll_s = poll_s
        self._observers: dict[bool, BaseObserver] = {}  # by `polling`
        self._subscriptions: dict[Path, _Subscription] = {}

    def follow(self, folders: Mapping[Path, bool]) -> None:
        """Have events for exactly these folders; the value says whether to poll."""
        for folder, subscription in list(self._subscriptions.items()):
            if folder not in folders or _folder_id(folder) != subscription.folder_id:
                self.drop(folder)
        for folder, polling in folders.items():
            folder_id = _folder_id(folder)
            if folder in self._subscriptions or folder_id is None:
                continue
            with contextlib.suppress(OSError):  # gone in this moment: the next call looks again
                observer, watch = self._schedule(folder, polling)
                self._subscriptions[folder] = _Subscription(observer, watch, folder_id)

    def drop(self, folder: Path) -> None:
        """Follow it no longer, if it is followed."""
        subscription = self._subscriptions.pop(folder, None)
        if subscription:
            subscription.observer.unschedule(subscription.watch)

    def close(self) -> None:
        """End watchdog's threads."""
        for observer in self._observers.values():
            observer.stop()
        for observer in self._observers.values():
            observer.join(JOIN_S)

    def _schedule(self, folder: Path, polling: bool) -> tuple[BaseObserver, ObservedWatch]:
        if polling not in self._observers:
            self._observers[polling] = PollingObserver(timeout=self._poll_s) if polling else Observer()
            self._observers[polling].start()
        observer = self._observers[polling]
        try:
            return observer, observer.schedule(self._handler, str(folder))
        except OSError as exc:
            if polling:
                raise
            log.warning("no events for %s (%s); polling it instead", folder, exc.strerror)
            return self._schedule(folder, polling=True)


class _Handler(FileSystemEventHandler):
    """Runs in watchdog's threads. Leaves out what our own reading causes."""

    def __init__(self, on_event: Callable[[FileSystemEvent], object]) -> None:
        self._on_event = on_event

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in EVENT_TYPES and not (event.is_directory and event.event_type == "modified"):
            self._on_event(event)


def _folder_id(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
