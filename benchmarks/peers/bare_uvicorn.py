"""The least ASGI application that does the work, on uvicorn: the same context, the same answer.

python benchmarks/peers/bare_uvicorn.py PORT
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import uvicorn

ANSWER = {
    "key": "tiles-0",
    "reason": "TARGETING_MATCH",
    "variant": "many",
    "value": 49,
    "metadata": {"flagSetId": "shop", "version": "1"},
}
decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


async def app(_scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    context = decode(body)["context"]
    out = encode(ANSWER) if "tenant" in context else b"{}"
    length = str(len(out)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": out})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
    )
