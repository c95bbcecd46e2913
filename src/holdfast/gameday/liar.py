"""An edge that lies: every question on its port is answered with the lie that it was told last.

    with Liar() as liar:
        liar.lie = lies.make("bomb", told, chance)
        HttpSource(liar.url).snapshot(…)

One connection, one lie; bytes as they are, without an HTTP library that might put them right.
A reader that keeps connections may ask on one that has just ended: no lie is told then, and `told`
says so.
"""

from __future__ import annotations

import socket
import threading
from typing import Final, Self

from holdfast.apps.defaults import LOOPBACK
from holdfast.gameday.lies import Lie, answer

DROP_S: Final = 0.02
"""Between two drops of a slow lie."""
QUESTION_BYTES_MAX: Final = 16 * 1024
HONEST: Final = Lie("nothing", answer(b"", "404 Not Found"))


class Liar:
    """See the module. `told` counts the lies that began while somebody was there to hear them."""

    def __init__(self) -> None:
        self.lie = HONEST
        self.told = 0
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self._closing = threading.Event()
        self.url = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, name="liar", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                self._answer(sock)

    def _answer(self, sock: socket.socket) -> None:
        sock.settimeout(5.0)
        try:
            question = b""
            while b"\r\n\r\n" not in question and len(question) < QUESTION_BYTES_MAX:
                if not (chunk := sock.recv(4096)):
                    return
                question += chunk
            if _gone(sock):
                return
            self.told += 1
            lie = self.lie
            for part in lie.parts():
                if lie.slow and self._hung_up(sock):
                    return
                sock.sendall(part)
        except OSError:
            return  # the reader had enough

    def _hung_up(self, sock: socket.socket) -> bool:
        """Wait for a drop's time; whether nobody listens any more."""
        if self._closing.is_set():
            return True
        sock.settimeout(DROP_S)
        try:
            return sock.recv(1) == b""
        except TimeoutError:
            return False
        finally:
            sock.settimeout(5.0)


def _gone(sock: socket.socket) -> bool:
    """Whether who asked has hung up already."""
    patience_s = sock.gettimeout()
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(patience_s)
