"""What signals mean: which of them tell a process to end in order, and what SIGHUP came from."""

from __future__ import annotations

import os
import signal


def ending() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, and SIGHUP, which comes when a terminal closes; under `nohup`, it stays
    ignored. For an edge that serves, SIGHUP may mean something else: `Terminal`."""
    hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hangup)


class Terminal:
    """The terminal that this process was started from, if there was one.

    SIGHUP tells two things: that it closed, or that somebody sent it, as service managers do for a
    reload.
    """

    def __init__(self) -> None:
        self._there = _is_there()

    def closed(self) -> bool:
        """Whether there was one, and is none any more."""
        return self._there and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
