"""HTTP/1.1 as others speak it: an unmodified nginx before the edge's server, h11 as its client.

h11 holds each answer against the standard as it reads it, and raises where one breaks it.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import h11
import pytest
import serving
from an_nginx import nginx_at
from serving import DEADLINE_S, Raw, call, until

from holdfast.apps.http import Request, Response, etag_matches
from holdfast.apps.streams import STREAM_HEADERS, Fanout, Stream, frame
from holdfast.core.model import Subject

SHOP = Subject("production", "shop")
BIG = b"0123456789" * 50_000
ETAG = b'"one"'
BEFORE = """
  upstream edge {{ server 127.0.0.1:{edge}; keepalive 2; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://edge; }}
    location /unbuffered/ {{ proxy_pass http://edge; proxy_request_buffering off; }}
    location /old/ {{ proxy_pass http://edge; proxy_http_version 1.0; }}
  }}
"""


def handle(fanout: Fanout):
    def answer(request: Request) -> Response | Stream:
        match request.path:
            case "/big":
                return Response(200, [(b"etag", ETAG)], BIG)
            case "/tagged" if etag_matches(request.header(b"if-none-match"), ETAG):
                return Response(304, [(b"etag", ETAG)])
            case "/stream":
                feed = fanout.open(None, lambda _: True)
                return Stream(200, STREAM_HEADERS, feed)
            case "/empty":
                return Response(204, [])
        headers = [(b"x-method", request.method.encode()), (b"x-path", request.path.encode())]
        return Response(200, headers, request.body or b"nothing")

    return answer


@pytest.fixture(scope="module")
def fanout() -> Fanout:
    return Fanout()


@pytest.fixture(scope="module", params=[False, True], ids=["ASGI", "direct"])
def edge(request, fanout):
    own = fanout if request.param else Fanout()
    with serving.listening(handle(own), direct=request.param, on_stop=own.close) as listener:
        listener.fanout = own
        yield listener


@pytest.fixture(scope="module")
def nginx(edge) -> Iterator[int]:
    """The port of an nginx that passes all requests on, over connections that it keeps."""
    with (
        tempfile.TemporaryDirectory() as name,
        nginx_at(Path(name), lambda port: BEFORE.format(edge=edge.port, port=port)) as port,
    ):
        yield port


def test_nginx_passes_each_kind_of_request_through(nginx):
    assert call(nginx, "GET", "/a%20b?c=d").headers["x-path"] == "/a b"
    assert call(nginx, "POST", "/", b"body").body == b"body"
    assert call(nginx, "HEAD", "/").body == b""
    assert call(nginx, "GET", "/big").body == BIG
    assert call(nginx, "GET", "/tagged", headers={"if-none-match": '"one"'}).status == 304
    assert call(nginx, "GET", "/empty").status == 204
    assert call(nginx, "POST", "/old/", b"x" * 9_000).body == b"x" * 9_000


def test_nginx_passes_bodies_in_chunks_on_as_chunks(nginx):
    with Raw(nginx) as client:
        head = b"POST /unbuffered/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        client.send(head + b"3\r\none\r\n")
        client.send(b"3\r\ntwo\r\n0\r\n\r\n")

        assert client.read_until(b"onetwo").startswith(b"HTTP/1.1 200 OK")


def test_nginx_keeps_its_connections_to_the_edge(nginx, edge):
    for number in range(200):
        assert call(nginx, "POST", "/", b"%d" % number).body == b"%d" % number

    assert 1 <= len(edge.bounds.connections) <= 4


def test_nginx_hands_the_refusal_of_a_large_body_on(nginx):
    answer = call(nginx, "POST", "/", b"x" * 100_000)

    assert (answer.status, answer.json()["error"]["code"]) == (413, "too-large")
    assert call(nginx, "GET", "/").status == 200


def test_nginx_hands_a_stream_on_as_it_comes(nginx, edge):
    with Raw(nginx) as client:
        client.send(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        client.read_until(b":\n\n")
        edge.fanout.announce(SHOP, None, frame("change", 1))
        client.read_until(b"data: 1\n\n")
    until(lambda: len(edge.fanout) == 0)


class Client:
    """h11 over a socket: what it takes for an answer is one."""

    def __init__(self, port: int) -> None:
        self.http = h11.Connection(h11.CLIENT)
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)

    def send(self, *events: h11.Event) -> None:
        for event in events:
            self.socket.sendall(self.http.send(event) or b"")

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> tuple[h11.Response, bytes]:
        length = [("content-length", str(len(body)))] if body else []
        self.send(
            h11.Request(method=method, target=target, headers=[("host", "x"), *headers, *length])
        )
        if body:
            self.send(h11.Data(data=body))
        self.send(h11.EndOfMessage())
        return self.answer()

    def event(self) -> h11.Event:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(self.socket.recv(65536))
        return event

    def answer(self) -> tuple[h11.Response, bytes]:
        response, body = self.event(), b""
        assert isinstance(response, h11.Response)
        while isinstance(event := self.event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
        return response, body


@pytest.fixture
def client(edge) -> Iterator[Client]:
    made = Client(edge.port)
    with made.socket:
        yield made


def test_h11_reads_one_answer_after_another_on_one_connection(client):
    for _ in range(3):
        assert client.ask("GET", "/a")[1] == b"nothing"
        assert client.ask("POST", "/", b"body")[1] == b"body"
        assert client.ask("HEAD", "/big")[1] == b""
        assert client.ask("GET", "/big")[1] == BIG
        response, body = client.ask("GET", "/tagged", headers=[("if-none-match", '"one"')])
        assert (response.status_code, body) == (304, b"")
        assert client.ask("GET", "/empty")[0].status_code == 204
    assert client.http.our_state is h11.IDLE


def test_h11_is_told_to_go_on_with_its_body(client):
    headers = [("host", "x"), ("content-length", "4"), ("expect", "100-continue")]
    client.send(h11.Request(method="POST", target="/", headers=headers))
    assert isinstance(client.event(), h11.InformationalResponse)
    client.send(h11.Data(data=b"body"), h11.EndOfMessage())

    assert client.answer()[1] == b"body"


def test_h11_sends_chunks_with_trailers(client):
    headers = [("host", "x"), ("transfer-encoding", "chunked")]
    client.send(h11.Request(method="POST", target="/", headers=headers))
    client.send(h11.Data(data=b"one"), h11.Data(data=b"two"))
    client.send(h11.EndOfMessage(headers=[("x-mark", "1")]))

    assert client.answer()[1] == b"onetwo"


def test_h11_sees_the_end_where_it_asked_for_it(client):
    response, _ = client.ask("GET", "/", headers=[("connection", "close")])

    assert (b"connection", b"close") in response.headers
    assert isinstance(client.event(), h11.ConnectionClosed)


def test_h11_sees_a_refusal_and_the_end_behind_it(client):
    headers = [("host", "x"), ("content-length", "100000")]
    client.send(h11.Request(method="POST", target="/", headers=headers))
    client.send(h11.Data(data=b"x" * 70_000))
    response, _ = client.answer()

    assert response.status_code == 413
    assert isinstance(client.event(), h11.ConnectionClosed)


def test_h11_reads_a_stream_to_its_clean_end(client, edge):
    headers = [("host", "x")]
    client.send(h11.Request(method="GET", target="/stream", headers=headers), h11.EndOfMessage())
    assert isinstance(client.event(), h11.Response)
    assert client.event().data == b":\n\n"
    edge.fanout.announce(SHOP, None, frame("change", 1))
    assert client.event().data == frame("change", 1)
    loop = edge.fanout._loop
    assert loop is not None
    for feed in edge.fanout._all():
        loop.call_soon_threadsafe(feed.close)

    assert isinstance(client.event(), h11.EndOfMessage)


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_nobody_is_switched_to_another_protocol(protocol, client, edge):
    upgrade = [("connection", "upgrade"), ("upgrade", protocol)]
    assert client.ask("GET", "/", headers=upgrade)[1] == b"nothing"

    response, body = client.ask("POST", "/", b"body", headers=upgrade)
    if isinstance(edge, serving.Server):
        assert (response.status_code, body) == (200, b"body")
        assert client.ask("GET", "/")[1] == b"nothing"
    else:
        assert response.status_code == 400
        assert isinstance(client.event(), h11.ConnectionClosed)
