"""The listener's bounds on a real socket: each hit is answered, counted, and hurts nobody else."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import serving
from serving import Raw, call, running, until

from holdfast.apps import direct as short
from holdfast.apps import linger, listen
from holdfast.apps.address import Address
from holdfast.apps.asgi import Face
from holdfast.apps.http import Request, Response
from holdfast.apps.listen import Connection, Listener
from holdfast.core.errors import Unavailable

ADDRESS = Address("127.0.0.1", 0, shutdown_s=2)


@pytest.fixture(params=[False, True], ids=["ASGI", "direct"])
def direct(request) -> bool:
    """Whether answers go through ASGI's messages, or straight to the connection."""
    return request.param


@pytest.fixture
def listening(direct):
    return partial(serving.listening, direct=direct)


def echo(request: Request) -> Response:
    return Response(200, [(b"x-method", request.method.encode())], request.body)


def sweep_every(seconds: float, monkeypatch) -> None:
    """From the next sweep on: what is to come before is sent first, however long that takes."""
    for module in (listen, short):
        monkeypatch.setattr(module, "SWEEP_S", seconds)


def test_bodies_go_through_whole_up_to_their_bound(listening):
    with listening(echo, body_bytes_max=300_000) as listener:
        answer = call(listener.port, "POST", "/", b"x" * 300_000)

        assert (answer.status, len(answer.body)) == (200, 300_000)


@pytest.mark.parametrize("size", [1001, 5_000_000])
def test_a_longer_body_is_refused_while_it_is_read(size, direct):
    face = Face(echo, 1000)
    with (
        running(serving.make(face, ADDRESS, direct=direct)) as listener,
        Raw(listener.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        client.send(b"x" * 1001)

        assert client.read_all().startswith(b"HTTP/1.1 413 ")
        assert face.bodies_refused == 1
        assert call(listener.port, "GET", "/").status == 200


def test_a_chunked_body_is_bounded_too(listening):
    with listening(echo, body_bytes_max=1000) as listener, Raw(listener.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        client.send(b"3e9\r\n" + b"x" * 1001 + b"\r\n")

        assert client.read_all().startswith(b"HTTP/1.1 413 ")


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def test_a_trailer_passes_for_no_header(listening):
    def tell(request: Request) -> Response:
        names = b",".join(name for name, _ in request.headers)
        return Response(200, [], names + b" " + request.body)

    with listening(tell) as listener, Raw(listener.port) as client:
        client.send(CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\nx-other: y\r\n\r\n")

        assert b"authorization" not in client.read_until(b" abc")
        client.send(b"GET / HTTP/1.1\r\nhost: x\r\nx-own: 1\r\n\r\n")
        client.read_until(b"host,x-own ")


def test_trailers_without_end_are_refused(listening):
    with listening(echo) as listener, Raw(listener.port) as client:
        client.send(CHUNKED + b"3\r\nabc\r\n")
        with contextlib.suppress(ConnectionError):
            client.send(b"0\r\nx: ")
            for _ in range(1_000):
                client.send(b"y" * 10_000)

        until(lambda: listener.bounds.heads_refused == 1)
        until(lambda: not listener.bounds.connections)


def test_a_large_chunk_is_no_head(listening):
    chunk = b"30d40\r\n" + b"x" * 200_000 + b"\r\n"
    with listening(echo, body_bytes_max=700_000) as listener, Raw(listener.port) as client:
        client.send(CHUNKED + chunk * 3 + b"0\r\n\r\n")

        assert len(client.read_until(b"x" * 600_000)) > 600_000


def test_half_a_head_behind_many_requests_is_not_taken_for_a_large_one(listening):
    ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    with listening(echo) as listener, Raw(listener.port) as client:
        client.send(ask * 2_000 + ask[:9])
        for _ in range(2_000):
            client.read_until(b"\r\n\r\n")
        client.send(ask[9:])

        assert b"200 OK" in client.read_until(b"\r\n\r\n")
        assert listener.bounds.heads_refused == 0


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_client_that_sends_far_too_much_reads_why_it_is_refused(connection, listening):
    with listening(echo, body_bytes_max=1000) as listener:
        answer = call(listener.port, "POST", "/", b"x" * 10_000_000, {"connection": connection})

        assert (answer.status, answer.json()["error"]["code"]) == (413, "too-large")
        until(lambda: not listener.bounds.connections)


def test_without_lingering_the_answer_is_lost(monkeypatch, listening):
    monkeypatch.setattr(Connection, "linger", lambda self: self.transport.close())
    monkeypatch.setattr(short, "Lingering", lambda transport, _: transport.close())
    with listening(echo, body_bytes_max=1000) as listener, pytest.raises(ConnectionError):
        call(listener.port, "POST", "/", b"x" * 10_000_000)


def test_what_is_read_behind_an_answer_is_bounded_in_bytes(monkeypatch, listening):
    monkeypatch.setattr(linger, "LINGER_BYTES_MAX", 100_000)
    with listening(echo, body_bytes_max=1000) as listener, Raw(listener.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 900000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            client.send(b"x" * 900_000_000)


TOO_LARGE = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 900000000\r\n\r\n" + b"x" * 1001


def test_what_is_read_behind_an_answer_ends_with_silence(monkeypatch, listening):
    with listening(echo, body_bytes_max=1000) as listener, Raw(listener.port) as client:
        client.send(TOO_LARGE)
        assert client.read_until(b"\r\n").startswith(b"HTTP/1.1 413 ")
        sweep_every(0.02, monkeypatch)
        until(lambda: not listener.bounds.connections)
        assert listener.bounds.aborted == 0


def test_what_is_read_behind_an_answer_is_bounded_in_time(monkeypatch, listening):
    with listening(echo, body_bytes_max=1000) as listener:

        def aborted() -> bool:
            sweep_every(1.0, monkeypatch)
            with Raw(listener.port) as client, contextlib.suppress(ConnectionError):
                client.send(TOO_LARGE)
                assert client.read_until(b"\r\n").startswith(b"HTTP/1.1 413 ")
                sweep_every(0.05, monkeypatch)
                while listener.bounds.connections:
                    client.send(b"x")
            until(lambda: not listener.bounds.connections)
            return listener.bounds.aborted > 0

        until(aborted)  # where this thread was held up, its client was silent, and that ended it


def test_an_expected_continue_is_given(listening):
    with listening(echo) as listener, Raw(listener.port) as client:
        client.send(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
        assert b"100 Continue" in client.read_until(b"\r\n\r\n")
        client.send(b"hi")

        assert b"200 OK" in client.read_until(b"hi")


def test_head_has_the_length_and_no_body(listening):
    def hello(request: Request) -> Response:
        return Response(200, [], b"hello")

    with listening(hello) as listener, Raw(listener.port) as client:
        client.send(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        head, _, body = client.read_all().partition(b"\r\n\r\n")

        assert b"content-length: 5" in head
        assert body == b""


def test_a_304_has_no_length(listening):
    with listening(lambda _: Response(304, [])) as listener:
        answer = call(listener.port, "GET", "/")

        assert answer.status == 304
        assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 70 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 40_000, 431),
        (b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 70 + b"content-length: 3\r\n\r\nabc", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc", 400),
    ],
)
def test_a_bad_head_is_answered_and_closed(request_bytes, status, listening):
    with listening(echo) as listener:
        with Raw(listener.port) as client:
            client.send(request_bytes)

            answer = client.read_all()
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer
            assert answer.count(b"HTTP/1.1") == 1
        assert listener.bounds.heads_refused == 1
        assert call(listener.port, "GET", "/").status == 200
        until(lambda: not listener.bounds.connections)


def test_one_connection_too_many_is_told_so(listening):
    with listening(echo, connections_max=1) as listener:
        with Raw(listener.port) as first:
            first.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            first.read_until(b"\r\n\r\n")
            with Raw(listener.port) as second:
                assert second.read_all().startswith(b"HTTP/1.1 503 ")
            first.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            first.read_until(b"\r\n\r\n")
        assert listener.bounds.connections_refused == 1
        until(lambda: not listener.bounds.connections)
        assert call(listener.port, "GET", "/").status == 200


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc"],
    ids=["silent", "half a head", "half a body"],
)
def test_a_request_that_never_arrives_is_given_up(beginning, monkeypatch, listening):
    sweep_every(0.01, monkeypatch)
    with listening(echo) as listener, Raw(listener.port) as client:
        client.send(beginning)

        assert client.read_all().startswith(b"HTTP/1.1 408 ")
        assert listener.bounds.arrivals_timed_out == 1


def test_without_the_sweep_it_stays_for_ever(monkeypatch, listening):
    sweep_every(3600.0, monkeypatch)
    with listening(echo) as listener, Raw(listener.port) as client:
        client.send(b"GET / HT")
        until(lambda: listener.bounds.connections)
        for _ in range(listen.ARRIVAL_SWEEPS_MAX):
            assert call(listener.port, "GET", "/").status == 200

        assert len(listener.bounds.connections) >= 1
        assert listener.bounds.arrivals_timed_out == 0


def test_a_connection_at_rest_between_requests_is_left_alone(monkeypatch, listening):
    monkeypatch.setattr(short, "IDLE_SWEEPS_MAX", 10**9)  # another bound, with a test of its own
    with listening(echo) as listener, Raw(listener.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        client.read_until(b"\r\n\r\n")
        sweep_every(0.001, monkeypatch)
        swept = []
        original = listener.bounds.sweep
        listener.bounds.sweep = lambda: (original(), swept.append(1))
        until(lambda: len(swept) > 3 * listen.ARRIVAL_SWEEPS_MAX)

        client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_failure_of_ours_is_a_500_and_the_next_request_is_fine(direct):
    def fail(request: Request) -> Response:
        if request.path == "/fail":
            raise RuntimeError("a secret path")
        return echo(request)

    face = Face(fail, 1000)
    with running(serving.make(face, ADDRESS, direct=direct)) as listener:
        answer = call(listener.port, "GET", "/fail")
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert call(listener.port, "GET", "/").status == 200
        assert face.failures == 1
        assert face.answered[500] == 1


def test_a_taken_port_is_an_error_before_anything_runs(listening):
    with listening(echo) as listener, pytest.raises(Unavailable, match="can't be used"):
        Listener(Face(echo, 1), Address("127.0.0.1", listener.port))


def test_a_client_that_asks_and_does_not_read_is_not_answered_without_end(listening):
    asked = 0

    def big(request: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(200, [], b"x" * 1_000_000)

    with listening(big) as listener, Raw(listener.port, 4096) as greedy:
        greedy.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 200)
        until(lambda: asked > 0)
        assert call(listener.port, "GET", "/").status == 200
        assert asked < 20


def test_after_close_nothing_more_is_answered(listening):
    with listening(echo) as listener, Raw(listener.port) as client:
        close = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        client.send(close * 3)

        assert client.read_all().count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    "more", [b"", b"connection: keep-alive\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n"]
)
def test_http_1_0_is_answered_and_closed(more, listening):
    with listening(echo) as listener, Raw(listener.port) as client:
        client.send(b"GET / HTTP/1.0\r\nhost: x\r\n%b\r\n" % more)

        answer = client.read_all()
        assert b"200 OK" in answer
        assert b"connection: close\r\n" in answer


def test_a_connection_at_rest_for_too_long_is_closed(monkeypatch):
    monkeypatch.setattr(short, "IDLE_SWEEPS_MAX", 3)
    with serving.listening(echo, direct=True) as listener, Raw(listener.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        sweep_every(0.01, monkeypatch)

        assert client.read_all() == b""
        assert listener.bounds.idle_closed == 1


def test_requests_in_one_packet_are_answered_in_their_order(listening):
    def name(request: Request) -> Response:
        return Response(200, [], request.path.encode())

    with listening(name) as listener, Raw(listener.port) as client:
        client.send(b"".join(b"GET /p%d HTTP/1.1\r\nhost: x\r\n\r\n" % n for n in range(5)))
        for n in range(5):
            assert b"200 OK" in client.read_until(b"/p%d" % n)
