"""What passes by itself is told from what does not, and is tried again at growing distances."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bridge import retrying
from bridge.retrying import LONGEST_REST_S, Again, again_after, disk_code, rest_s, waits_for


def test_the_rests_grow_to_a_minute_and_no_further() -> None:
    assert [rest_s(times) for times in range(1, 8)] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert rest_s(10_000) == LONGEST_REST_S


def test_a_worker_that_died_gets_two_more_tries_and_lack_of_memory_one_both_with_less_memory_in_the_end() -> (
    None
):
    died = [again_after("worker_died", failures) for failures in (1, 2, 3)]
    assert [again.thrifty for again in died if again] == [False, True]
    assert died[2] is None
    assert isinstance(again_after("memory", 1), Again)
    assert again_after("memory", 2) is None
    assert again_after("unreadable", 1) is None


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EROFS, "read_only"),
        (errno.EIO, "disk_away"),
        (errno.ESTALE, "disk_away"),
        (errno.EMFILE, "crowded"),
        (errno.EACCES, ""),
        (errno.ENOENT, ""),
    ],
)
def test_what_the_system_says_decides(tmp_path: Path, number: int, code: str) -> None:
    assert disk_code(OSError(number, "x"), tmp_path) == code
    assert waits_for(code) == bool(code)


def test_a_library_that_does_not_say_why_is_judged_by_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert disk_code(RuntimeError("error writing"), tmp_path) == ""
    assert disk_code(RuntimeError("error writing"), tmp_path / "gone") == "disk_away"
    monkeypatch.setattr(retrying, "NEARLY_FULL_BYTES", 1 << 60)
    assert disk_code(RuntimeError("error writing"), tmp_path) == "disk_full"
