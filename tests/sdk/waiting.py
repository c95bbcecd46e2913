"""Waiting for what happens in another thread, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 20.0


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """The first true value of `condition`; fails after a generous deadline."""
    ends_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends_s:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"{what} did not happen within {DEADLINE_S} s")
