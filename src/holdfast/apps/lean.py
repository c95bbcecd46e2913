"""A process that starts with little: what a server never uses is not imported, nor collected."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Inside, these packages look as if they were not installed, unless they are imported already.

    For libraries that import what they find, and use it in cases that are none of ours.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None hides, by definition
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Inside, nothing is collected: what a start makes is there to stay, and is walked no more."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
