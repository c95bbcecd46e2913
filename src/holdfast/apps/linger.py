"""A lingering close: answers reach clients that are still sending.

A socket that is closed with unread data resets the connection, and the answer that was sent before
is lost with it. So the server ends its own half and reads on for a while.
"""

from __future__ import annotations

import asyncio
import fcntl
import termios
from collections.abc import Callable
from typing import Final

LINGER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Read and dropped behind an answer that came before the end of its request."""


class Lingering(asyncio.Protocol):
    """Drops what a client still sends: until it ends, is silent, or has sent too much."""

    def __init__(
        self, transport: asyncio.Transport, on_lost: Callable[[Exception | None], None]
    ) -> None:
        """Take `transport` over from its protocol; `on_lost` is that one's `connection_lost`."""
        self._transport = transport
        self._on_lost = on_lost
        self._bytes = 0
        self._swept_bytes = -1
        transport.write_eof()
        transport.set_protocol(self)

    def is_silent(self) -> bool:
        """Whether nothing came since this was last asked."""
        before, self._swept_bytes = self._swept_bytes, self._bytes
        return before == self._bytes

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > LINGER_BYTES_MAX:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(exc)


def has_unread(transport: asyncio.Transport) -> bool:
    """Whether the kernel holds something that the client sent; closing would reset it."""
    size = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
    return size != bytes(4)
