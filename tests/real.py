"""Skips a test where a real part is missing; `DAWBRIDGE_REQUIRE_REAL=1` makes that a failure."""

from __future__ import annotations

import os

import pytest


def require_real(condition: bool, what: str) -> None:
    """Go on only if `condition` holds; `what` names the missing part and how to get it."""
    if condition:
        return
    if os.environ.get("DAWBRIDGE_REQUIRE_REAL") == "1":
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")
