"""Requests that two servers could read in two ways are refused, and the connection is ended.

Behind each of them comes a second request. Who takes the first one for something else than it is
would answer that, too.
"""

from __future__ import annotations

import re

import pytest
import serving
from serving import Raw, until

from holdfast.apps.asgi import Face
from holdfast.apps.http import Request, Response

STATUS = re.compile(rb"HTTP/1\.1 \d{3} ")
SECOND = b"GET /second HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /first HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"

REFUSED = {
    "two lengths": POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\naa",
    "two equal lengths": POST + b"content-length: 1\r\ncontent-length: 1\r\n\r\na",
    "a list of lengths": POST + b"content-length: 1, 1\r\n\r\na",
    "length and chunks": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "a signed length": POST + b"content-length: +1\r\n\r\na",
    "a negative length": POST + b"content-length: -1\r\n\r\na",
    "a length in hex": POST + b"content-length: 0x1\r\n\r\na",
    "a length with a blank": POST + b"content-length: 1 0\r\n\r\naaaaaaaaaa",
    "a length with an underscore": POST + b"content-length: 1_0\r\n\r\naaaaaaaaaa",
    "an empty length": POST + b"content-length: \r\n\r\n",
    "a length beyond 64 bits": POST + b"content-length: 18446744073709551617\r\n\r\na",
    "another coding": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding behind": POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "identity": POST + b"transfer-encoding: identity\r\n\r\n",
    "identity behind chunks": POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST
    + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice in one": POST + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a coding that looks alike": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding in quotes": POST + b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a coding behind a tab of its own": POST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "an empty coding": POST + b"transfer-encoding:\r\ncontent-length: 0\r\n\r\n",
    "a coding with a parameter": POST + b"transfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "a blank before the colon": POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a tab before the colon": POST + b"content-length\t: 1\r\n\r\na",
    "a folded line": POST + b"x: a\r\n content-length: 1\r\n\r\n",
    "a folded coding": POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a blank before the first header": b"GET / HTTP/1.1\r\n host: x\r\n\r\n",
    "bare LF behind a header": POST + b"x: a\ncontent-length: 0\r\n\r\n",
    "bare LF everywhere": b"GET /first HTTP/1.1\nhost: x\n\n",
    "bare LF at the end": POST + b"content-length: 0\r\n\n",
    "bare CR in a value": POST + b"x: a\rcontent-length: 1\r\n\r\n",
    "bare CR at the end": POST + b"content-length: 0\r\n\rX",
    "NUL in a value": POST + b"x: a\0b\r\n\r\n",
    "a control character in a value": POST + b"x: a\x01b\r\n\r\n",
    "NUL in a name": POST + b"x\0: a\r\n\r\n",
    "a line without a colon": POST + b"content-length\r\n\r\n",
    "a header without a name": POST + b": a\r\n\r\n",
    "no host": b"GET /first HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /first HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n",
    "two names in one host": b"GET /first HTTP/1.1\r\nhost: x, y\r\n\r\n",
    "a path in a host": b"GET /first HTTP/1.1\r\nhost: x/y\r\n\r\n",
    "a blank in a host": b"GET /first HTTP/1.1\r\nhost: x y\r\n\r\n",
    "a chunk of no size": CHUNKED + b"\r\na\r\n0\r\n\r\n",
    "a chunk with a sign": CHUNKED + b"+1\r\na\r\n0\r\n\r\n",
    "a chunk of negative size": CHUNKED + b"-1\r\na\r\n0\r\n\r\n",
    "a chunk with 0x": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "a chunk with a blank": CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"1\r\naa\r\n0\r\n\r\n",
    "a chunk's size behind bare LF": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "a chunk behind bare LF": CHUNKED + b"1\r\na\n0\r\n\r\n",
    "LF in a chunk's extension": CHUNKED + b'1;a="\n"\r\na\r\n0\r\n\r\n',
    "a length in a trailer": CHUNKED + b"0\r\ncontent-length: 40\r\n\r\n",
    "HTTP/1.0 with chunks": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 with chunks that would be upgraded": b"POST / HTTP/1.0\r\nhost: x\r\n"
    b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a version that there is not": b"GET /first HTTP/1.2\r\nhost: x\r\n\r\n",
    "a blank behind the version": b"GET /first HTTP/1.1 \r\nhost: x\r\n\r\n",
    "a blank in the target": b"GET /first /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "a tab in the request line": b"GET\t/first\tHTTP/1.1\r\nhost: x\r\n\r\n",
    "NUL in the target": b"GET /first\0 HTTP/1.1\r\nhost: x\r\n\r\n",
    "a byte above ASCII in the target": b"GET /first\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "a target that is no path": b"GET first HTTP/1.1\r\nhost: x\r\n\r\n",
    "a method in lower case": b"get /first HTTP/1.1\r\nhost: x\r\n\r\n",
    "a method that there is not": b"FIRST / HTTP/1.1\r\nhost: x\r\n\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "another server's answer": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
}

OTHER_VERSIONS = {
    "HTTP/0.9": b"GET /first\r\n\r\n",
    "HTTP/0.9 by name": b"GET /first HTTP/0.9\r\n\r\n",
    "HTTP/2 by name": b"GET /first HTTP/2.0\r\nhost: x\r\n\r\n",
}

TAKEN = {
    "a tab around a length": (POST + b"content-length: \t1\t\r\n\r\na", b"a"),
    "zeros before a length": (POST + b"content-length: 0001\r\n\r\na", b"a"),
    "chunked in capitals": (POST + b"Transfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n", b"a"),
    "zeros before a chunk": (CHUNKED + b"0001\r\na\r\n000\r\n\r\n", b"a"),
    "extensions of chunks": (CHUNKED + b'1;a=b;c="d"\r\na\r\n0;e\r\n\r\n', b"a"),
    "a trailer": (CHUNKED + b"1\r\na\r\n0\r\nx: y\r\n\r\n", b"a"),
    "a body that looks like a request": (POST + b"content-length: 33\r\n\r\n" + SECOND, SECOND),
    "empty lines before a request": (b"\r\n\r\n" + POST + b"content-length: 1\r\n\r\na", b"a"),
    "an absolute target": (
        b"POST http://other/first HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na",
        b"a",
    ),
    "a header with nothing in it": (POST + b"x:\r\ncontent-length: 1\r\n\r\na", b"a"),
    "an empty host": (b"POST /first HTTP/1.1\r\nhost:\r\ncontent-length: 1\r\n\r\na", b"a"),
    "an IPv6 host": (b"POST /first HTTP/1.1\r\nhost: [::1]:80\r\ncontent-length: 1\r\n\r\na", b"a"),
}


@pytest.fixture(scope="module", params=[False, True], ids=["ASGI", "direct"])
def listener(request):
    def echo(asked: Request) -> Response:
        return Response(200, [(b"x-path", asked.path.encode())], asked.body)

    face = Face(echo, 10_000)
    address = serving.Address("127.0.0.1", 0, shutdown_s=2)
    with serving.running(serving.make(face, address, direct=request.param)) as listener:
        yield listener


def answers(port: int, data: bytes) -> bytes:
    with Raw(port) as client:
        client.send(data)
        return client.read_all()


@pytest.mark.parametrize("first", REFUSED.values(), ids=REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(first, listener):
    answer = answers(listener.port, first + SECOND)

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert len(STATUS.findall(answer)) == 1
    assert b"connection: close\r\n" in answer
    until(lambda: not listener.bounds.connections)


@pytest.mark.parametrize("first", OTHER_VERSIONS.values(), ids=OTHER_VERSIONS)
def test_other_versions_are_refused(first, listener):
    answer = answers(listener.port, first + SECOND)

    assert answer.startswith(b"HTTP/1.1 505 "), answer
    assert len(STATUS.findall(answer)) == 1


@pytest.mark.parametrize(("first", "body"), TAKEN.values(), ids=TAKEN)
def test_what_is_odd_and_clear_is_taken(first, body, listener):
    with Raw(listener.port) as client:
        client.send(first + SECOND)

        head = client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"x-path: /first\r\n" in head
        assert b"content-length: %d\r\n" % len(body) in head
        client.read_until(body)
        assert b"x-path: /second\r\n" in client.read_until(b"\r\n\r\n")
