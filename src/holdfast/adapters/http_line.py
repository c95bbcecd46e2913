"""One connection to one host, on which everything is bounded: each read, all reads, all bytes, and
how long its name is looked up.

Neither http.client nor urllib3 bounds how long headers or a body may take as a whole, nor how many
answers of status 1xx, headers or chunk extensions come before a byte of content: an upstream that
sends one byte every few seconds, or rubbish for ever, holds its reader for ever.
"""

from __future__ import annotations

import codecs
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from holdfast.adapters.names import NAMES
from holdfast.core.conversation import PATIENCE_S

codecs.lookup("idna")  # urllib3 encodes hosts by it: imported now, not between two forks

HEAD_BYTES_MAX: Final = 128 * 1024
"""All that comes before a body: answers of status 1xx, the status line, headers."""
FRAMING: Final = 2
"""A body may take so many times its bound on the line, chunk sizes and extensions counted in."""
FRAMING_BYTES_MAX: Final = 512 * 1024
"""And so much may come between two pieces of content."""
PROGRESS_BYTES_PER_S: Final = 16 * 1024
"""What an answer must bring on average once it takes longer than `PATIENCE_S`."""


class Line:
    """See the module. Not thread-safe, but for `cut`. After a fork, make a new one.

    `on_silence` is asked when nothing came for the longest silence: true waits on. `tls`: in the
    place of what the system believes.
    """

    def __init__(self, base_url: str, connect_s: float, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(base_url)
        self._prefix = parts.path.rstrip("/")
        self._connect_s = connect_s
        self._silence_s = connect_s
        self._deadline_s = float("inf")
        self._began_s = float("inf")
        self._received = 0
        self._room: float = HEAD_BYTES_MAX
        self._room_max: float = HEAD_BYTES_MAX
        self._sock: Any = None
        self._cut = False
        self.on_silence: Callable[[], bool] = _never
        pool = _HttpsPool if parts.scheme == "https" else _HttpPool
        self._pool = pool(
            parts.hostname or "",
            parts.port,
            maxsize=1,
            timeout=urllib3.Timeout(connect=connect_s, read=None),
            retries=False,
        )
        self._pool.conn_kw["line"] = self
        if tls is not None:
            self._pool.conn_kw["ssl_context"] = tls

    def bound(self, silence_s: float, total_s: float, *, progress: bool = True) -> None:
        """From now on: longest silence, and longest time in all; infinite for a stream.

        Without `progress` an answer may be silent for all of its time.
        """
        self._silence_s = silence_s
        bounded = progress and total_s != float("inf")
        self._began_s = time.monotonic() if bounded else float("inf")
        self._deadline_s = time.monotonic() + total_s

    def open(
        self,
        path: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        body: bytes | None = None,
        body_bytes_max: float = 0,
    ) -> urllib3.BaseHTTPResponse:
        """Ask; what comes back has its head, and may bring a body of up to `body_bytes_max`."""
        self._received, self._room = 0, HEAD_BYTES_MAX
        if self._sock is not None:  # a kept connection: sending is bounded like reading
            with suppress(OSError):  # it is closed, or time is up: what follows says so
                self._sock.settimeout(self.patience_s())
        response = self._pool.urlopen(
            method,
            self._prefix + path,
            body=body,
            headers=headers,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        self._room = self._room_max = HEAD_BYTES_MAX + FRAMING * body_bytes_max
        return response

    def content_came(self) -> None:
        """A piece of the body was read: as much framing as before may come until the next one."""
        self._room = min(self._room_max, self._received + FRAMING_BYTES_MAX)

    def patience_s(self) -> float:
        """How long the next read may wait. Raises `TimeoutError` past the deadline."""
        now_s = time.monotonic()
        progress_s = self._began_s + PATIENCE_S + self._received / PROGRESS_BYTES_PER_S
        left_s = min(self._deadline_s, progress_s) - now_s
        if left_s <= 0:
            raise TimeoutError("the answer took too long as a whole")
        return min(self._silence_s, left_s)

    def read_into(self, sock: Any, buffer: Any) -> int:
        """Read what comes next. Raises `OSError` past a bound."""
        while True:
            sock.settimeout(self.patience_s())
            try:
                count = int(sock.recv_into(buffer))
            except TimeoutError:
                if self.on_silence():
                    continue
                raise
            self._received += count
            if self._received > self._room:
                raise OSError(f"more than {self._room:.0f} bytes came")
            return count

    def connect(self, connection: HTTPConnection) -> socket.socket:
        """To the first address of the host that takes it, in the time that is left for the answer.

        Raises what urllib3 raises where a connection does not come about.
        """
        host, failed = self._pool.host, OSError("")
        try:
            addresses = NAMES.addresses(host, self._connect_within_s())
        except OSError as error:
            raise NewConnectionError(connection, str(error)) from error
        for address in addresses:
            try:
                return create_connection(
                    (address, connection.port),
                    self._connect_within_s(),
                    socket_options=connection.socket_options,
                )
            except OSError as error:
                failed = error
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(connection, f"Connection to {host} timed out")
        raise NewConnectionError(connection, f"Failed to establish a new connection: {failed}")

    def _connect_within_s(self) -> float:
        return min(self._connect_s, self.patience_s())

    def hold(self, sock: Any) -> Any:
        """The socket, its reads bounded."""
        self._sock = sock
        if self._cut:
            self.cut()
        return _Bounded(sock, self)

    def cut_after(self, sock: Any) -> threading.Timer:
        """A timer, started, that ends a handshake on the socket when this line's time is over.

        One that opens a stream, which has no end, has the longest silence for it.
        """
        left_s = self._deadline_s - time.monotonic()
        within_s = self._silence_s if left_s == float("inf") else max(0.01, left_s)
        timer = threading.Timer(within_s, _shut, (sock,))
        timer.daemon = True
        timer.start()
        return timer

    def cut(self) -> None:
        """End whatever read is waiting; from any thread."""
        self._cut = True
        if self._sock is not None:
            _shut(self._sock)

    def close(self) -> None:
        self._pool.close()


def _never() -> bool:
    return False


def _shut(sock: Any) -> None:
    with suppress(OSError):  # closed already
        sock.shutdown(socket.SHUT_RDWR)


class _Bounded:
    """A socket whose `makefile` reads under its line's bounds; all else is the socket's own."""

    def __init__(self, sock: Any, line: Line) -> None:
        self._sock = sock
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, mode: str) -> io.BufferedReader:
        """http.client asks for `rb`, once per answer."""
        if mode != "rb":
            raise ValueError(mode)
        # The socket's own file object counts references, so that closing waits for it.
        return io.BufferedReader(_Reads(self._sock.makefile("rb", buffering=0), self))

    def read_into(self, buffer: Any) -> int:
        return self._line.read_into(self._sock, buffer)


class _Reads(io.RawIOBase):
    def __init__(self, owner: io.RawIOBase, bounded: _Bounded) -> None:
        self._owner = owner
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.read_into(buffer)

    def close(self) -> None:
        self._owner.close()
        super().close()


class _HttpConnection(HTTPConnection):
    def __init__(self, *args: Any, line: Line, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line

    def _new_conn(self) -> socket.socket:
        return self._line.connect(self)

    def connect(self) -> None:
        super().connect()
        self.sock = self._line.hold(self.sock)


class _HttpsConnection(HTTPSConnection):
    def __init__(self, *args: Any, line: Line, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line
        self._timer: threading.Timer | None = None

    def _new_conn(self) -> socket.socket:
        sock = self._line.connect(self)
        self._timer = self._line.cut_after(sock)
        return sock

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            if self._timer is not None:
                self._timer.cancel()
        self.sock = self._line.hold(self.sock)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
