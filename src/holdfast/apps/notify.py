"""What a service manager is told: systemd's `sd_notify`, a datagram to the socket that it names.

Without `NOTIFY_SOCKET` nobody asked, and nothing is told. What can't be told is not waited for.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(**facts: object) -> None:
    """Tell facts such as `READY=1`, `STATUS="…"`, `MAINPID=123`."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    if where.startswith("@"):
        where = "\0" + where[1:]
    told = "\n".join(f"{name}={value}" for name, value in facts.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.sendto(told.encode(), where)


def reloading() -> None:
    """A new process is being started in this one's place."""
    notify(RELOADING=1, MONOTONIC_USEC=int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6))
