"""A transport in memory: what a connection does with bytes, cut where a test likes, without I/O."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from holdfast.apps.asgi import Face, Handle
from holdfast.apps.direct import Connection
from holdfast.apps.front import Front, Gate

_DATE = re.compile(rb"date: [^\r]*\r\n")


class Wire(asyncio.Transport):
    """Keeps what is written. It takes everything at once, unless `takes` says so."""

    def __init__(self, takes: bool = True) -> None:
        super().__init__()
        self.sent = b""
        self.unread = 0
        self.takes = takes
        self.closing = False
        self.paused = False
        self._protocol: asyncio.BaseProtocol | None = None
        self._high = 64 * 1024

    def connect(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    def feed(self, data: bytes) -> None:
        if not self.closing and data:
            self._protocol.data_received(data)

    def read(self) -> None:
        """The client takes all that waits for it."""
        self.unread = 0
        if hasattr(self._protocol, "resume_writing"):
            self._protocol.resume_writing()

    def write(self, data: bytes) -> None:
        assert not self.closing, "written behind the end"
        self.sent += data
        if not self.takes:
            before, self.unread = self.unread, self.unread + len(data)
            if before <= self._high < self.unread:
                self._protocol.pause_writing()

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 0

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write_eof(self) -> None:
        """Nothing more is written: a lingering close reads on."""

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close


def front(handle: Handle, *, body_bytes_max: int = 1000, gate: Gate | None = None) -> Front:
    return Front(Face(handle, body_bytes_max), 100, gate)


def connected(shared: Front, *, takes: bool = True) -> tuple[Connection, Wire]:
    connection, wire = Connection(shared), Wire(takes)
    wire.connect(connection)
    return connection, wire


async def turns(wire: Wire) -> None:
    """Let the event loop go on until the connection has had all its turns."""
    for _ in range(10_000):
        await asyncio.sleep(0)
        if wire.closing or not wire.paused:
            return


async def conversation(shared: Front, pieces: Iterable[bytes]) -> bytes:
    """All that is answered to these pieces on one connection, without the dates."""
    connection, wire = connected(shared)
    for piece in pieces:
        wire.feed(piece)
        await turns(wire)
    connection.connection_lost(None)
    return _DATE.sub(b"", wire.sent)
