"""How many connections a process may hold open: each is a file to the kernel (`ulimit -n`)."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from holdfast.apps.observe import logger

SPARE: Final = 256
"""Files that a process has open besides connections: logs, caches, upstreams."""

_log = logger("holdfast.limits")


def room_for(connections: int) -> int:
    """Make room for so many connections, and say how many there is room for.

    The soft limit is raised as far as the hard one lets it; where that is too little, it is said.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft >= wanted:
        return connections
    room = max(1, soft - SPARE)
    _log.warning(
        "too few files may be open for the connections that are allowed",
        connections_max=connections,
        room_for=room,
        way_out=f"start it with ulimit -n {wanted} (systemd: LimitNOFILE={wanted})",
    )
    return room
