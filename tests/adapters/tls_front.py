"""TLS in front of a PostgreSQL that speaks none: the wheel's is built without it.

It does what the server does at that point of the protocol: "SSLRequest" is answered with `S`, and
what follows is TLS; whoever begins without it is sent away.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import Self

from holdfast.apps.defaults import LOOPBACK
from holdfast.gameday.etcd import Tls

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
CHUNK_BYTES = 64 * 1024
END_S = 20.0


class TlsFront:
    """Listens on `port`; `encrypted` counts the connections that became TLS."""

    def __init__(self, target_port: int, tls: Tls) -> None:
        self._target_port = target_port
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(tls.cert, tls.key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tls-front", daemon=True)
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self.port = 0
        self.encrypted = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(END_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(END_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
                self.encrypted += 1
                behind, onwards = await asyncio.open_connection(LOOPBACK, self._target_port)
                await asyncio.gather(_pump(reader, onwards), _pump(behind, writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
