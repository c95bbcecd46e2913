"""The signals that tell a process to end in order."""

from __future__ import annotations

import signal


def ending() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, and SIGHUP, which comes when a terminal closes; under `nohup`, it stays
    ignored. (An edge that serves starts its successor by it: `apps.edge.life`.)"""
    hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hangup)
