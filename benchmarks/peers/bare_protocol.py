"""The least that answers HTTP in Python: `asyncio.Protocol` on httptools and uvloop, unprotected.

    python benchmarks/peers/bare_protocol.py PORT [SNAPSHOT_FILE]

No limit, no deadline, no token, no count: what hardening costs is measured against this. A POST is
parsed and answered as one evaluation of the setting `tiles` would be; a GET is the snapshot, with
its ETag and 304.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httptools
import msgspec
import uvloop

ETAG = b'"bare"'
ANSWER = {
    "key": "tiles",
    "reason": "TARGETING_MATCH",
    "variant": "many",
    "value": 49,
    "metadata": {"flagSetId": "shop", "version": "1"},
}
decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
TAGGED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: %b\r\ncontent-length: %d\r\n\r\n%b"
)
UNCHANGED = b"HTTP/1.1 304 Not Modified\r\netag: %b\r\n\r\n" % ETAG


class Bare(asyncio.Protocol):
    """One connection; `snapshot` is a whole answer."""

    snapshot = TAGGED % (ETAG, 2, b"{}")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = self.known = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"if-none-match":
            self.known = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        body, self.body, known, self.known = self.body, b"", self.known, b""
        if not body:
            self.transport.write(UNCHANGED if known == ETAG else self.snapshot)
            return
        context = decode(body)["context"]
        answer = encode(ANSWER) if "tenant" in context else b"{}"
        self.transport.write(JSON % (len(answer), answer))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        body = Path(sys.argv[2]).read_bytes()
        Bare.snapshot = TAGGED % (ETAG, len(body), body)
    uvloop.run(serve(int(sys.argv[1])))
