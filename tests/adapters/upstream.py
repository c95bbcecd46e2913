"""An HTTP upstream on a real socket that answers whatever bytes a test wants."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Self, TypeAlias

Respond: TypeAlias = Callable[["Upstream", str, Mapping[str, str], socket.socket], None]


class Upstream:
    """Answers on loopback. `respond(upstream, path, headers, sock)` writes to the socket.

    `asked` holds the paths and headers (names in small letters) of all requests, `bodies` their
    bodies.
    """

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.bodies: list[bytes] = []
        self.closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop at once, as `kill -9` would."""
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as lines:
            try:
                while line := lines.readline():
                    path = line.split()[1].decode()
                    headers = {}
                    while (header := lines.readline().strip()) != b"":
                        name, _, value = header.decode().partition(":")
                        headers[name.lower()] = value.strip()
                    self.bodies.append(lines.read(int(headers.get("content-length", "0"))))
                    self.asked.append((path, headers))
                    self.respond(self, path, headers, sock)
            except OSError:
                return


def answer(sock: socket.socket, body: bytes = b"", status: str = "200 OK", **headers: str) -> None:
    lines = [f"HTTP/1.1 {status}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    if not status.startswith("304"):
        lines.append(f"Content-Length: {len(body)}")
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


def always(body: bytes = b"", status: str = "200 OK", **headers: str) -> Respond:
    return lambda _upstream, _path, _headers, sock: answer(sock, body, status, **headers)


def zipped(body: bytes) -> Respond:
    return always(gzip.compress(body), Content_Encoding="gzip")


def dripping(first: bytes, drop: bytes, every_s: float) -> Respond:
    """Send `first`, then `drop` again and again, for as long as somebody reads."""

    def respond(
        upstream: Upstream, _path: str, _headers: Mapping[str, str], sock: socket.socket
    ) -> None:
        sock.sendall(first)
        while not upstream.closing.wait(every_s):
            sock.sendall(drop)

    return respond
