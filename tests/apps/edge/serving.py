"""A listener on a real socket in a thread of the test's process, and plain clients for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from holdfast.apps.address import Address
from holdfast.apps.asgi import Face, Handle
from holdfast.apps.listen import Listener
from holdfast.apps.serve import Gate, Server

DEADLINE_S = 60.0
"""For what takes milliseconds, on a machine that has no time for it."""


@contextlib.contextmanager
def listening(
    handle: Handle,
    *,
    body_bytes_max: int = 64 * 1024,
    connections_max: int = 100,
    direct: bool = False,
    on_stop: Callable[[], None] = lambda: None,
    gate: Gate | None = None,
) -> Iterator[Server | Listener]:
    face = Face(handle, body_bytes_max)
    address = Address("127.0.0.1", 0, connections_max=connections_max, shutdown_s=2)
    with running(make(face, address, direct=direct, on_stop=on_stop, gate=gate)) as listener:
        yield listener


def make(
    face: Face,
    address: Address,
    *,
    direct: bool = False,
    on_stop: Callable[[], None] = lambda: None,
    gate: Gate | None = None,
) -> Server | Listener:
    """A server that answers straight from the connection, or through ASGI."""
    if direct:
        return Server(face, address, on_stop=on_stop, gate=gate)
    return Listener(face, address, on_stop)


@contextlib.contextmanager
def running(listener: Server | Listener) -> Iterator[Server | Listener]:
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        assert listener.listening.wait(DEADLINE_S)
        yield listener
    finally:
        listener.stop()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()


def until(holds: Callable[[], object], what: str | Callable[[], str] = "") -> None:
    """Poll until it holds; fails after the deadline, and says `what` there is to say then."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > end:
            raise AssertionError((what() if callable(what) else what) or "it never came to hold")
        time.sleep(0.005)


class Answered:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self) -> dict:
        return json.loads(self.body)


def call(
    port: int,
    method: str,
    target: str,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answered:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request(method, target, body, dict(headers or {}))
        return Answered(connection.getresponse())


class Raw:
    """A connection on which a test sends what it likes."""

    def __init__(self, port: int, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(("127.0.0.1", port))
        self.seen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`; what follows stays for the next read."""
        while mark not in self.seen:
            data = self.socket.recv(65536)
            assert data, f"closed before {mark!r}: {self.seen!r}"
            self.seen += data
        head, _, self.seen = self.seen.partition(mark)
        return head + mark

    def read_all(self) -> bytes:
        """Everything until the other side closes."""
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                self.seen += data
        return self.seen
