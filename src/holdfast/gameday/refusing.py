"""Stands in for a server that is away, as the balancer in front of it does: 503 to everybody.

python -m holdfast.gameday.refusing PORT PARENT
"""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import Final, cast

import uvloop

from holdfast.apps.address import BACKLOG
from holdfast.apps.defaults import LOOPBACK
from holdfast.apps.dev import end_with_parent

HEAD_END: Final = b"\r\n\r\n"
REFUSAL: Final = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class _Refusing(asyncio.Protocol):
    """Every request that came is answered, on a connection that is kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(REFUSAL * data.count(HEAD_END))


async def _refuse(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        _Refusing, LOOPBACK, port, backlog=BACKLOG, reuse_address=True
    )
    await server.serve_forever()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[2]))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_refuse(int(sys.argv[1])))
