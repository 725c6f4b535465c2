"""Promises of the number of threads: what is set counts, else the cores this process may use."""

from __future__ import annotations

import os

import pytest

from bridge.threads import compute_threads


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("1", 1)])
def test_what_is_set_counts(monkeypatch: pytest.MonkeyPatch, told: str, threads: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert compute_threads() == threads


@pytest.mark.parametrize("told", ["", "0", "many"])
def test_else_the_cores_count(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert 1 <= compute_threads() <= (os.cpu_count() or 1)
