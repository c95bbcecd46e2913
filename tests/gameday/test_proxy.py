"""The fault proxy over real sockets: each state of the line, and the way back."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from holdfast.core.errors import Unavailable
from holdfast.gameday.proxy import (
    ANSWERS_LOST,
    BLACK_HOLE,
    PASS,
    QUESTIONS_LOST,
    REFUSED,
    SYN_DROPPED,
    Fault,
    Proxy,
    Way,
    spelled,
)

SOON_S = 0.3


class Echo:
    """Sends back what it gets."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while chunk := sock.recv(65536):
                    sock.sendall(chunk)
            except OSError:
                return


@pytest.fixture
def line() -> Iterator[Proxy]:
    echo = Echo()
    with Proxy(echo.port) as proxy:
        yield proxy
    echo.listener.close()


def connected(line: Proxy) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", line.port), timeout=5)
    sock.sendall(b"hello")
    assert sock.recv(5) == b"hello"
    return sock


def is_silent(sock: socket.socket) -> bool:
    sock.settimeout(SOON_S)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(5)
    return False


def test_bytes_and_ends_pass(line: Proxy) -> None:
    with connected(line) as sock:
        sock.sendall(b"x" * 300_000)
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := sock.recv(65536):
            got += chunk
    assert len(got) == 300_000


@pytest.mark.parametrize("fault", [QUESTIONS_LOST, ANSWERS_LOST, BLACK_HOLE])
def test_a_held_way_is_silent_and_what_was_sent_comes_when_it_is_healed(
    line: Proxy, fault: Fault
) -> None:
    with connected(line) as sock:
        line.be(fault)
        sock.sendall(b"later")
        assert is_silent(sock)
        line.be(PASS)
        assert sock.recv(5) == b"later"


def test_one_way_leaves_connecting_as_it_was(line: Proxy) -> None:
    line.be(ANSWERS_LOST)
    with socket.create_connection(("127.0.0.1", line.port), timeout=5) as sock:
        sock.sendall(b"x")
        assert is_silent(sock)


def test_refused(line: Proxy) -> None:
    with connected(line) as sock:
        line.be(REFUSED)
        with pytest.raises(ConnectionRefusedError):
            connected(line)
        sock.sendall(b"open")
        assert sock.recv(4) == b"open"
    line.be(PASS)
    connected(line).close()


def test_a_dropped_syn_is_neither_yes_nor_no(line: Proxy) -> None:
    line.be(SYN_DROPPED)
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", line.port), timeout=SOON_S)
    line.be(PASS)
    connected(line).close()


def test_cut_resets_what_is_open(line: Proxy) -> None:
    sock = connected(line)
    line.cut()
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    sock.close()
    connected(line).close()


def test_a_reset_in_the_middle(line: Proxy) -> None:
    sock = connected(line)
    line.be(Fault(down=Way(reset_after=1_000)))
    sock.sendall(b"x" * 5_000)
    got: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        got.extend(iter(lambda: sock.recv(100), b""))
    assert sum(map(len, got)) <= 1_000
    sock.close()


def test_a_throttled_way_takes_its_time(line: Proxy) -> None:
    with connected(line) as sock:
        line.be(Fault(down=Way(bytes_per_s=1_000)))
        began_s = time.monotonic()
        sock.sendall(b"x" * 300)
        got = 0
        while got < 300:
            got += len(sock.recv(300 - got))
        assert time.monotonic() - began_s >= 0.2


def test_a_delayed_way(line: Proxy) -> None:
    with connected(line) as sock:
        line.be(Fault(up=Way(delay_s=0.2)))
        began_s = time.monotonic()
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert time.monotonic() - began_s >= 0.2


def test_what_has_a_word_in_it_is_held_until_it_is_let_go(line: Proxy) -> None:
    with connected(line) as first, connected(line) as second:
        trap = line.trap(b"needle", b"other")
        first.sendall(b"a nee")
        assert first.recv(5) == b"a nee"
        first.sendall(b"dle came, and more")
        trap.wait(5.0)
        second.sendall(b"needle")
        assert second.recv(6) == b"needle", "one connection is held, no more"
        assert is_silent(first)
        trap.let_go()
        assert first.recv(18) == b"dle came, and more"
        first.sendall(b"needle")
        assert first.recv(6) == b"needle"


@pytest.mark.parametrize("before", [b"", b"1", b"22", b"333"])
@pytest.mark.parametrize("behind", [b"", b"1", b"22", b"333"])
def test_a_word_is_found_however_it_is_spelled(before: bytes, behind: bytes) -> None:
    raw = before + b"marker-17" + behind
    plain, in_hex, *in_base64 = spelled("marker-17")
    assert plain in raw
    assert in_hex in raw.hex().encode()
    assert any(each in base64.b64encode(raw) for each in in_base64)
    other = base64.b64encode(before + b"marker-27" + behind)
    assert not any(each in other for each in in_base64)


def test_a_trap_that_catches_nothing_says_so(line: Proxy) -> None:
    with pytest.raises(Unavailable, match="nothing was caught"):
        line.trap(b"needle").wait(0.01)
