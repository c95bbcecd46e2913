"""Where a server listens: the address, its bounds, and the socket."""

from __future__ import annotations

import socket
from typing import Final

import msgspec

from holdfast.core.errors import Unavailable

BACKLOG: Final = 2048
"""Connections that the kernel holds for a process that has not accepted them yet."""


class Address(msgspec.Struct, frozen=True):
    """Where to listen, and the bounds of it. `shutdown_s`: how long open requests may finish."""

    host: str
    port: int
    connections_max: int = 12_000
    shutdown_s: float = 5.0


def bind(host: str, port: int) -> socket.socket:
    """The socket to listen on. Raises `Unavailable` for an address that can't be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Unavailable(f"{host}:{port} can't be used: {error.strerror}") from None
