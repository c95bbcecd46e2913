"""The data plane's routes for one publisher, on a real socket."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Mapping
from typing import Any, Self

from tests.adapters.upstream import Upstream, answer
from tests.sdk.publisher import Publisher


class Edge:
    """Serves what was published last, with a new freshness statement every time, and hints."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.bundle = b""
        self.digest = ""
        self.tokens: set[str] = set()
        self._streams: list[socket.socket] = []
        self.upstream = Upstream(self._respond)
        self.url = self.upstream.url

    def publish(self, **settings: Any) -> None:
        self.publisher.publish(**settings)
        self.hold()

    def hold(self) -> None:
        """Serve what the publisher published last."""
        self.bundle = self.publisher.bundle_now()
        self.digest = self.publisher.digest
        subject = self.publisher.subject
        said = {
            "environment": subject.environment, "service": subject.service,
            "revision": self.publisher.revision, "digest": self.digest,
        }  # fmt: skip
        frame = f"event: change\ndata: {json.dumps(said)}\n\n".encode()
        for stream in list(self._streams):
            try:
                stream.sendall(frame)
            except OSError:
                self._streams.remove(stream)

    def close(self) -> None:
        if not self.upstream.closing.is_set():
            self.upstream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _respond(
        self, upstream: Upstream, path: str, headers: Mapping[str, str], sock: socket.socket
    ) -> None:
        self.tokens.add(headers.get("authorization", ""))
        subject = self.publisher.subject
        if path == "/v1/reports":
            answer(sock, b'{"taken":1}', "202 Accepted")
        elif path == "/v1/stream":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n")
            self._streams.append(sock)
            upstream.closing.wait()
        elif not path.startswith(f"/{subject.environment}/{subject.service}/snapshot"):
            answer(sock, b"", "404 Not Found")
        elif not self.bundle:
            answer(sock, b"", "503 Service Unavailable")
        else:
            sealed = base64.b64encode(self.publisher.fresh()).decode()
            same = headers.get("if-none-match") == f'"{self.digest}"'
            status = "304 Not Modified" if same else "200 OK"
            answer(sock, b"" if same else self.bundle, status, Holdfast_Freshness=sealed)
