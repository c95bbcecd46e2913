"""The edge's server: sockets, an event loop, the sweep, and an end that resets nobody.

    server = Server(face, Address("127.0.0.1", 8016))
    server.run()                  # until SIGTERM, SIGINT or stop()

It ends in two steps, which may come at once. `stop_accepting` leaves the listening sockets alone;
what is open is finished: the next answer of a connection says that it is the last, and connections
at rest are closed once nothing unread lies on them. `stop` ends the streams besides. `run` returns
when all connections have gone, or after `shutdown_s`; until then `accept_again` undoes the first.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import partial
from typing import Final

import uvloop

from holdfast.apps import direct
from holdfast.apps.address import BACKLOG, Address, bind
from holdfast.apps.asgi import Face
from holdfast.apps.direct import Connection
from holdfast.apps.front import Front, Gate

__all__ = ["Gate", "Server"]

DRAIN_S: Final = 0.05
"""Between two looks at connections that may be closed, while draining."""


class Server:
    """A listening server over a face. The sockets are bound when it is made, so that `port` is
    known (0 asks for any) and a taken one is an `Unavailable` before anything else starts.

    `sockets` are listening already, given by whoever held them before. `on_stop` is called when it
    is told to stop, to end what would never end by itself: streams. `deadlines`: whether slow
    clients are cut; they are, but in game days.
    """

    def __init__(  # noqa: PLR0913 - who answers, where, who lets in, and how it ends
        self,
        face: Face,
        address: Address,
        sockets: Sequence[socket.socket] | None = None,
        on_stop: Callable[[], None] = lambda: None,
        gate: Gate | None = None,
        *,
        deadlines: bool = True,
    ) -> None:
        self.sockets = list(sockets or [bind(address.host, address.port)])
        self.port: int = self.sockets[0].getsockname()[1]
        self.listening = threading.Event()
        self._front = Front(face, address.connections_max, gate)
        self.bounds = self._front.bounds
        self.heads = self._front.heads
        self._address = address
        self._on_stop = on_stop
        self._deadlines = deadlines
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: list[asyncio.Server] = []
        self._told_to_stop = False
        self._rest_s = 0.0
        self.swept_s = time.monotonic()
        """When the event loop last had its turn, about once a second while it has."""

    def run(self) -> None:
        """Serve until it is stopped; blocks."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """End it, from any thread or a signal's handler; what is asked is answered first."""
        self._told_to_stop = True
        self._call(self._stop)

    def stop_accepting(self, patience_s: float = 0.0) -> None:
        """Accept no more and finish what is open, streams as they like; any thread.

        Connections at rest stay for `patience_s`: a request may be on its way on each of them, and
        to close it then would lose that one.
        """
        self._call(partial(self._drain, patience_s))

    def accept_again(self) -> None:
        """As if `stop_accepting` had not been called; any thread."""
        self._call(self._resume)

    def _call(self, what: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(what)

    async def _serve(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._tick(time.time())
        await self._listen()
        in_main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGTERM, signal.SIGINT) if in_main else ()
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        sweeping = asyncio.create_task(self._sweep())
        self.listening.set()
        if self._told_to_stop:
            self._stop()
        while not await self._empty():
            await self._listen()
        sweeping.cancel()
        for number in numbers:
            loop.remove_signal_handler(number)

    async def _listen(self) -> None:
        """Accept on all sockets. The event loop gets copies: it closes what it lets go of."""
        for each in self.sockets:
            copy, loop = each.dup(), asyncio.get_running_loop()
            server = await loop.create_server(self._connection, sock=copy, backlog=BACKLOG)
            self._servers.append(server)

    def _connection(self) -> Connection:
        return Connection(self._front)

    def _on_signal(self, number: signal.Signals) -> None:
        """A second one has its usual effect: the process ends at once."""
        asyncio.get_running_loop().remove_signal_handler(number)
        self.stop()

    def _stop(self) -> None:
        self._on_stop()
        self._drain(0.0)
        for each in self.sockets:
            each.close()

    def _drain(self, patience_s: float) -> None:
        rest_s = asyncio.get_running_loop().time() + patience_s
        self._rest_s = min(rest_s, self._rest_s) if self._front.draining else rest_s
        if self._front.draining:
            return
        self._front.draining = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in self.bounds.connections:
            connection.drain()
        self._ended.set()

    def _resume(self) -> None:
        self._front.draining = self._told_to_stop
        if not self._told_to_stop:
            self._ended.clear()

    async def _empty(self) -> bool:
        """Once it has ended: until nobody is connected any more, or the time is over, and the rest
        is cut. False when it is to go on."""
        await self._ended.wait()
        loop = asyncio.get_running_loop()
        shutdown_s = self._address.shutdown_s
        while self._front.draining:
            left = bool(self.bounds.connections or self._front.streams)
            if not left or loop.time() >= self._rest_s + shutdown_s:
                break
            for connection in tuple(self.bounds.connections):
                if loop.time() >= self._rest_s:
                    connection.end_if_idle()
            self._front.forget_streams()
            await asyncio.sleep(DRAIN_S)
        if not self._front.draining:
            return False
        self._on_stop()
        self._front.abort()
        await asyncio.sleep(0)
        return True

    async def _sweep(self) -> None:
        while True:
            self.swept_s = time.monotonic()
            await asyncio.sleep(direct.SWEEP_S)
            self._tick(time.time())
            self._front.forget_streams()
            if self._deadlines:
                self.bounds.sweep()

    def _tick(self, now_s: float) -> None:
        self._front.tell_date(formatdate(now_s, usegmt=True).encode())
