"""One edge as what hands over and takes over: what it has, what it lacks, how it leaves."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from holdfast.apps.edge.owned_cache import OwnedCache
from holdfast.apps.edge.process import Edge
from holdfast.apps.notify import notify
from holdfast.core.access import ACCESS
from holdfast.core.errors import Unavailable

SHOWN: Final = 5
"""Subjects named in one message."""


def lacks(edge: Edge, holds: Mapping[str, int]) -> str:
    """What this edge can't answer yet of what another one does: subject -> revision; empty for
    nothing. Raises `Unavailable` for an edge that answers wrongly."""
    ready, facts = edge.own_ready()
    if "fault" in facts:
        raise Unavailable(f"not taken over: this build answers wrongly: {facts['fault']}")
    mine = held_by(edge)
    older = [f"{each} {holds[each]}" for each in holds if mine.get(each, -1) < holds[each]]
    if older:
        return f"there is nothing here as new as {', '.join(older[:SHOWN])}"
    return "" if ready else f"it is not ready: {dict(facts)}"


def held_by(edge: Edge) -> dict[str, int]:
    """Subject -> revision of all that an edge answers from: what it holds and still rehearses is
    not among it."""
    found = {active.name: active.revision for active in edge.table}
    for one in edge.follower.subjects():
        if one.service == ACCESS and (has := edge.follower.generation(one)) is not None:
            found[str(one)] = has.revision
    return found


class Alone:
    """The `Stand` of one edge in one process."""

    def __init__(self, edge: Edge, cache: OwnedCache) -> None:
        self._edge = edge
        self._cache = cache

    def sockets(self) -> Sequence[socket.socket]:
        return self._edge.listener.sockets

    def holds(self) -> Mapping[str, int]:
        return held_by(self._edge)

    def lay_down(self) -> None:
        self._cache.lay_down()

    def take_up(self) -> None:
        self._cache.take_up()

    def leave(self, pid: int) -> None:
        # A service manager follows the new process from now on.
        notify(MAINPID=pid)
        self.finish()

    def finish(self) -> None:
        """Accept no more; end streams, and connections once they are at rest."""
        self._edge.listener.stop_accepting(self._edge.settings.drain_s)
        self._edge.hints.changes.dismiss()
        self._edge.hints.refetches.dismiss()

    def stay(self) -> None:
        notify(MAINPID=os.getpid())
        self._edge.listener.accept_again()


@cache
def settle() -> None:
    """Spare the collector what stays: settings that are loaded are walked over no more.

    Once for each process, and best before it accepts anybody: it takes some 50 ms.
    """
    gc.collect()
    gc.freeze()
