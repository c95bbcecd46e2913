"""An edge as one process: it takes its place, serves, and gives its place to the next one.

The main thread runs the event loop. A thread of its own, `Keeper`, waits at the door for who comes
to take over, and starts a successor when it is told to (SIGHUP).
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from msgspec.structs import replace

from holdfast.adapters.disk_cache import DiskCache
from holdfast.apps.edge.alone import Alone, lacks, settle
from holdfast.apps.edge.handover import Giver, Place, Stand
from holdfast.apps.edge.owned_cache import OwnedCache
from holdfast.apps.edge.process import Edge
from holdfast.apps.edge.succession import Successor, await_proof, place_of
from holdfast.apps.edge.workers import run_workers
from holdfast.apps.notify import notify
from holdfast.apps.observe import logger, start_logs
from holdfast.apps.open_files import room_for
from holdfast.apps.settings import EdgeSettings
from holdfast.apps.signals import Terminal

TURN_S: Final = 0.5

_log = logger("holdfast.edge")


def run(settings: EdgeSettings) -> None:
    """Serve until SIGTERM or SIGINT, until the terminal closes, or until another process takes
    over; then drain.

    Raises `Invalid` and `Unavailable`.
    """
    start_logs(settings.log_level, "edge")
    if settings.unprotected:
        _log.warning("unprotected: whatever is signed is believed, nothing is checked")
    settings = replace(settings, connections_max=room_for(settings.connections_max))
    if settings.workers > 1:
        run_workers(settings)
    else:
        _run_alone(settings)


def _run_alone(settings: EdgeSettings) -> None:
    cache = OwnedCache(DiskCache(settings.cache_dir), ours=False)
    with place_of(settings) as place:
        if place.ours:
            cache.take_up()
        edge = Edge(settings, once_ready=settle, sockets=place.sockets, cache=cache)
        with contextlib.closing(edge):
            edge.start()
            if not place.ours:
                await_proof(partial(_ready, edge, place), place, settings.take_over_within_s)
                cache.take_up()
            keeper = Keeper(place, Alone(edge, cache), edge.listener.listening)
            with contextlib.closing(keeper), on_hangup(keeper.succeed, edge.listener.stop):
                keeper.start()
                edge.listener.run()


def _ready(edge: Edge, place: Place) -> str:
    """What is lacking; when nothing is, all that would delay the first answers is done."""
    lacking = lacks(edge, place.holds)
    if not lacking:
        settle()
    return lacking


class Keeper:
    """Keeps the place of a process that serves, in a thread; `listening` is set when it does."""

    def __init__(self, place: Place, stand: Stand, listening: threading.Event) -> None:
        self._place = place
        self._listening = listening
        self._giver = Giver(place, stand)
        self._ours, self._theirs = socket.socketpair()
        self._closed = False
        self._successor = Successor()
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
            if self._theirs in ready and b"s" in self._theirs.recv(64):
                self._succeed()
            self._giver.turn(ready)
            self._successor.look()
        self._giver.close()

    def _succeed(self) -> None:
        if self._giver.state == "serving":
            self._successor.start()


@contextlib.contextmanager
def on_hangup(succeed: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    """Inside, SIGHUP starts a successor, or ends this edge when its terminal has closed."""
    terminal = Terminal()
    before = signal.signal(signal.SIGHUP, lambda *_: end() if terminal.closed() else succeed())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
