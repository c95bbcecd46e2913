"""One reader of a stream: a tiny protocol on its transport, or a queue under an ASGI application.

On a transport there is no task, no parser and no queue for a reader: frames are encoded before, and
written straight away. What a reader does not read in time waits in its transport, up to a bound;
over it the reader is cut. So the slowness of one is a matter between it and its own buffer.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

UNREAD_BYTES_MAX: Final = 64 * 1024
"""Written for one reader and not taken by the kernel yet; more, and the reader is cut."""
SEND_BUFFER_BYTES: Final = 64 * 1024
"""Of the kernel, for one reader: left to itself it grows to megabytes for each slow one."""
GONE_MS: Final = 60_000
"""A reader whose machine takes nothing for so long is gone, whatever its socket says."""
LAST_CHUNK: Final = b"0\r\n\r\n"


class Frames(msgspec.Struct, frozen=True, gc=False):
    """Some frames, encoded once for all readers: as they are, and as a chunk of HTTP/1.1."""

    plain: bytes
    chunk: bytes


def encode(plain: bytes) -> Frames:
    """`plain` must not be empty: an empty chunk would end the stream."""
    return Frames(plain, b"%x\r\n%b\r\n" % (len(plain), plain))


class Owner(Protocol):
    """What a feed tells of itself."""

    def forget(self, feed: Feed) -> None:
        """It has ended."""

    def cut(self, feed: Feed) -> None:
        """It read too slowly."""

    def spoke(self, feed: Feed) -> None:
        """Its client sent something, which nobody does who only listens."""


class Group(msgspec.Struct, eq=False):
    """The readers of one topic who may see the same subjects."""

    topic: Any
    sees: Callable[[Any], bool]
    feeds: set[Feed] = msgspec.field(default_factory=set)


class Feed(asyncio.Protocol):
    """One reader's frames. Everything here happens on the event loop.

    A face either gives it the connection's transport (`attach`), or asks for `chunk` after `chunk`
    and sets `on_cut`, which has to end the connection at once, without waiting for the reader.
    """

    __slots__ = (
        "_chunked", "_inbox", "_owner", "_transport", "closed", "ends_s", "group", "on_cut", "slot",
    )  # fmt: skip

    def __init__(self, owner: Owner, group: Group, slot: int, ends_s: float | None) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._inbox: _Inbox | None = None
        self._chunked = True
        self.group = group
        self.slot = slot
        self.ends_s = ends_s
        self.closed = False
        self.on_cut: Callable[[], None] | None = None

    def attach(self, transport: asyncio.Transport, *, chunked: bool = True) -> None:
        """Take over a connection whose head was written; its protocol may go.

        With `chunked` the answer goes in chunks, so that a clean end can be told from a cut; else
        until the connection closes. What the client sends from here on ends the stream.
        """
        self._transport, self._chunked = transport, chunked
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        bounded: socket.socket | None = transport.get_extra_info("socket")
        if bounded is not None and bounded.family in {socket.AF_INET, socket.AF_INET6}:
            bounded.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            bounded.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_MS)
        inbox, self._inbox = self._inbox, None
        if self.closed:
            self._end(transport)
        elif transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._owner.cut(self)
        elif inbox is not None:
            self.push(encode(inbox.take()))

    def push(self, frames: Frames) -> None:
        """Send frames; a reader who has too many unread is cut and counted."""
        if self.closed:
            return
        if self._transport is not None:
            self._transport.write(frames.chunk if self._chunked else frames.plain)
            return
        inbox = self._inbox = self._inbox or _Inbox()
        if inbox.put(frames.plain) > UNREAD_BYTES_MAX:
            self._owner.cut(self)

    def waiting_bytes(self) -> int:
        """Written for this reader, and neither taken by the kernel nor by an application."""
        if self._transport is not None:
            return self._transport.get_write_buffer_size()
        return self._inbox.size if self._inbox is not None else 0

    async def chunk(self) -> bytes | None:
        """All frames that wait, at least one, as one piece; none when the feed has ended."""
        inbox = self._inbox = self._inbox or _Inbox()
        if self.closed:
            return None
        await inbox.wake.wait()
        return None if self.closed else inbox.take()

    def close(self) -> None:
        """End it, in good order; again is fine."""
        if self.closed:
            return
        self.closed = True
        self._owner.forget(self)
        if self._transport is not None:
            self._end(self._transport)
        elif self._inbox is not None:
            self._inbox.wake.set()

    def cut_off(self) -> None:
        """End it now; what was not sent yet is dropped."""
        transport = self._transport
        if transport is None:
            self.close()
            if self.on_cut is not None:
                self.on_cut()
        elif not self.closed:
            self.closed = True
            self._owner.forget(self)
            transport.abort()

    def _end(self, transport: asyncio.Transport) -> None:
        if transport.get_write_buffer_size():
            transport.abort()  # behind already, it would hold us up for the end as well
            return
        if self._chunked:
            transport.write(LAST_CHUNK)
        transport.close()

    def data_received(self, _data: bytes) -> None:
        if not self.closed:
            self._owner.spoke(self)

    def pause_writing(self) -> None:
        """More is unread than `UNREAD_BYTES_MAX`."""
        if not self.closed:
            self._owner.cut(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self.close()


class _Inbox:
    """Frames that wait for one reader under an ASGI application."""

    __slots__ = ("frames", "size", "wake")

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.wake = asyncio.Event()
        self.size = 0

    def put(self, data: bytes) -> int:
        """Bytes that waited before."""
        before = self.size
        self.frames.append(data)
        self.size += len(data)
        self.wake.set()
        return before

    def take(self) -> bytes:
        data = b"".join(self.frames)
        self.frames.clear()
        self.size = 0
        self.wake.clear()
        return data
