"""An edge as one process: it takes its place, serves, and gives its place to the next one.

The main thread runs the event loop. A thread of its own, `Keeper`, waits at the door for who comes
to take over, and starts a successor when it is told to (SIGHUP).
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from holdfast.adapters.disk_cache import DiskCache
from holdfast.apps.edge.handover import Giver, Place, Stand, take
from holdfast.apps.edge.owned_cache import OwnedCache
from holdfast.apps.edge.process import Edge
from holdfast.apps.notify import notify, reloading
from holdfast.apps.observe import logger, start_logs
from holdfast.apps.open_files import room_for
from holdfast.apps.settings import EdgeSettings
from holdfast.core.errors import Unavailable

TURN_S: Final = 0.5
PROOF_LOOK_S: Final = 0.02
SHOWN: Final = 5
"""Subjects named in one message."""
TAKE_OVER: Final = "--take-over"

_log = logger("holdfast.edge")


def run(settings: EdgeSettings) -> None:
    """Serve until SIGTERM or SIGINT, or until another process takes over; then drain.

    Raises `Invalid` and `Unavailable`.
    """
    start_logs(settings.log_level, "edge")
    if settings.unprotected:
        _log.warning("unprotected: whatever is signed is believed, nothing is checked")
    settings = replace(settings, connections_max=room_for(settings.connections_max))
    cache = OwnedCache(DiskCache(settings.cache_dir), ours=False)
    with place_of(settings) as place:
        if place.ours:
            cache.take_up()
        edge = Edge(settings, once_ready=_settle, sockets=place.sockets, cache=cache)
        with contextlib.closing(edge):
            edge.start()
            if not place.ours:
                await_proof(partial(lacks, edge, place.holds), place, settings.take_over_within_s)
                cache.take_up()
            keeper = Keeper(place, Alone(edge, cache), edge.listener.listening)
            with contextlib.closing(keeper), succeeding(keeper.succeed):
                keeper.start()
                edge.listener.run()


def lacks(edge: Edge, holds: Mapping[str, int]) -> str:
    """What this edge can't answer yet of what another one does: subject -> revision; empty for
    nothing. Raises `Unavailable` for an edge that answers wrongly."""
    ready, facts = edge.ready()
    if "fault" in facts:
        raise Unavailable(f"not taken over: this build answers wrongly: {facts['fault']}")
    mine = held_by(edge)
    older = [f"{each} {holds[each]}" for each in holds if mine.get(each, -1) < holds[each]]
    if older:
        return f"there is nothing here as new as {', '.join(older[:SHOWN])}"
    return "" if ready else f"it is not ready: {dict(facts)}"


def held_by(edge: Edge) -> dict[str, int]:
    """Subject -> revision of all that an edge has."""
    found = {one: edge.follower.generation(one) for one in edge.follower.subjects()}
    return {str(one): has.revision for one, has in found.items() if has is not None}


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
        self._edge.listener.stop_accepting(self._edge.settings.drain_s)
        self._edge.hints.changes.dismiss()
        self._edge.hints.refetches.dismiss()

    def stay(self) -> None:
        notify(MAINPID=os.getpid())
        self._edge.listener.accept_again()


def _settle() -> None:
    """Spare the collector what stays: settings that are loaded are walked over no more."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def place_of(settings: EdgeSettings) -> Iterator[Place]:
    """The place of an edge, let go of in the end. Raises `Unavailable` when it can't be had."""
    place = take(
        settings.cache_dir, take_over=settings.take_over, within_s=settings.take_over_within_s
    )
    with contextlib.closing(place):
        yield place


def await_proof(lacks: Callable[[], str], place: Place, within_s: float) -> None:
    """Wait until nothing is lacking, then make the place ours. Raises `Unavailable`.

    `lacks` says what is, and raises `Unavailable` for what will never come.
    """
    end_s = time.monotonic() + within_s
    while missing := lacks():
        if place.gone():
            place.survive()
            return
        if time.monotonic() > end_s:
            raise Unavailable(f"not taken over: after {within_s:g} s {missing}")
        time.sleep(PROOF_LOOK_S)
    place.settle()


class Keeper:
    """Keeps the place of a process that serves, in a thread; `listening` is set when it does."""

    def __init__(self, place: Place, stand: Stand, listening: threading.Event) -> None:
        self._place = place
        self._stand = stand
        self._listening = listening
        self._giver = Giver(place, stand)
        self._ours, self._theirs = socket.socketpair()
        self._closed = False
        self._successor: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="holdfast-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def succeed(self) -> None:
        """Start a successor soon; for a signal's handler."""
        with contextlib.suppress(OSError):
            self._ours.send(b"s")

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._ours.send(b"c")
        if self._thread.is_alive():
            self._thread.join()
        self._ours.close()
        self._theirs.close()

    def _run(self) -> None:
        while not (self._listening.wait(TURN_S) or self._closed):
            pass
        if self._listening.is_set():
            self._place.serving()
            notify(READY=1, STATUS="serving")
        while not self._closed:
            watched = [self._theirs, *self._giver.watched()]
            ready, _, _ = select.select(watched, (), (), TURN_S)
            if self._theirs in ready and self._theirs.recv(64).strip(b"c"):
                self._start_successor()
            self._giver.turn(ready)
            self._look_after_successor()
        self._giver.close()

    def _start_successor(self) -> None:
        if self._successor is None and self._giver.state == "serving":
            reloading()
            self._successor = start_successor()

    def _look_after_successor(self) -> None:
        if self._successor is not None and (code := self._successor.poll()) is not None:
            self._successor = None
            _log.error("the successor has ended: this process goes on", code=code)
            notify(READY=1, STATUS=f"serving; a successor ended with {code}, see its log")


@contextlib.contextmanager
def succeeding(succeed: Callable[[], None]) -> Iterator[None]:
    """Inside, SIGHUP starts a successor."""
    before = signal.signal(signal.SIGHUP, lambda *_: succeed())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def start_successor() -> subprocess.Popen[bytes]:
    """The command of this process once more, as it is installed now, to take over from it."""
    command = [sys.executable, *_without_parent(sys.orig_argv[1:])]
    if TAKE_OVER not in command:
        command.append(TAKE_OVER)
    _log.warning("starting a successor", command=" ".join(command))
    # Our own command, as this process was started.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603


def _without_parent(arguments: list[str]) -> list[str]:
    """The successor is the child of a process that will end."""
    if "--parent" not in arguments:
        return arguments
    at = arguments.index("--parent")
    return arguments[:at] + arguments[at + 2 :]
