"""A notice when a song is back: the words, whole; and a desktop that fails costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.notice import COMMANDS, show, with_notices

SONG = '"; rm -rf ~ $(x) `y` --help'


class Desktop:
    """Takes down what would be shown."""

    def __init__(self, error: Exception | None = None) -> None:
        self.shown: list[tuple[Sequence[str], Mapping[str, str]]] = []
        self.error = error

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.shown.append((command, environment))
        if self.error:
            raise self.error


@pytest.mark.parametrize("platform", COMMANDS)
def test_a_song_s_name_is_text_and_never_part_of_a_script(platform: str) -> None:
    desktop = Desktop()
    show(SONG, "/out", platform=platform, start=desktop)
    ((command, environment),) = desktop.shown
    assert environment["DAWBRIDGE_TITLE"] == SONG
    assert [word for word in command if "rm -rf" in word] == ([] if platform == "win32" else [SONG])
    if platform != "win32":
        assert command.index("--") < command.index(SONG)


def test_only_the_end_of_a_job_is_shown() -> None:
    desktop = Desktop()
    told: list[Mapping[str, Any]] = []
    tell = with_notices(told.append, desktop)
    messages: list[dict[str, Any]] = [
        {"event": "queued", "id": "1"},
        {
            "event": "job",
            "state": "done",
            "name": "Song.wav",
            "folder": "/out/Song",
            "detail": "",
            "draft": True,
        },
        {
            "event": "job",
            "state": "done",
            "name": "Song.wav",
            "folder": "/out/2",
            "detail": "",
            "draft": False,
        },
        {"event": "job", "state": "failed", "name": "Bad.wav", "folder": None, "detail": "why"},
        {"event": "job", "state": "cancelled", "name": "Song.wav", "folder": None, "detail": ""},
    ]
    for message in messages:
        tell(message)
    assert told == messages
    titles = [(e["DAWBRIDGE_TITLE"], e["DAWBRIDGE_TEXT"]) for _, e in desktop.shown]
    assert titles == [
        ("A draft of Song.wav is back", "/out/Song"),
        ("Song.wav is back", "/out/2"),
        ("Bad.wav failed", "why"),
    ]


def test_a_desktop_that_fails_or_is_none_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show("a", "b", platform="linux", start=Desktop(OSError("no bus")))
    show("a", "b", platform="aix", start=Desktop())
    monkeypatch.setenv("PATH", str(tmp_path))
    with_notices(lambda message: None)(
        {"event": "job", "state": "done", "name": "a", "folder": "b", "detail": "", "draft": False}
    )
