"""Properties of one connection: cuts change nothing, and nothing makes it hang or fail."""

from __future__ import annotations

import asyncio
import re

import pytest
import wire
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_smuggling import OTHER_VERSIONS, REFUSED, TAKEN

from holdfast.apps import direct
from holdfast.apps.http import HEAD_BYTES_MAX, Request, Response

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
TRACE = b"traceparent: 00-%032x-%016x-01\r\n"
GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"


def echo(request: Request) -> Response:
    headers = [(b"x-path", request.path.encode()), (b"x-query", request.query)]
    return Response(200, headers, request.body)


def post(path: bytes, body: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    return head % (path, len(body)) + body


def chunked(path: bytes, *chunks: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" % path
    return head + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


GOOD = [
    GET % b"/",
    GET % b"/a?b=c",
    GET % b"/%61%20b",
    b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n",
    b'GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer hf_x\r\nif-none-match: "y"\r\n\r\n',
    post(b"/", b""),
    post(b"/p", b"body"),
    post(b"/p", b"GET / HTTP/1.1\r\n\r\n"),
    chunked(b"/c"),
    chunked(b"/c", b"one", b"two"),
    post(b"/u", b"up").replace(b"host: x", b"host: x\r\nconnection: upgrade\r\nupgrade: h2c"),
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
    chunked(b"/u", b"up").replace(b"host: x", b"host: x\r\nconnection: upgrade\r\nupgrade: a/1"),
    b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    b"\r\n" + GET % b"/",
    post(b"/t", b"one").replace(b"host: x", TRACE % (1, 2) + b"host: x"),
    post(b"/t", b"two").replace(b"host: x", TRACE % (3, 4) + b"host: x"),
    *(first for first, _ in TAKEN.values()),
]
LAST = [
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 70 + b"\r\n",
    post(b"/", b"x" * 1001),
    chunked(b"/", b"x" * 1001),
    *REFUSED.values(),
    *OTHER_VERSIONS.values(),
]

conversations = st.tuples(
    st.lists(st.sampled_from(GOOD), max_size=5), st.sampled_from([b"", *LAST])
).map(lambda both: b"".join([*both[0], both[1]]))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]


@settings(max_examples=500)
@given(conversations, st.lists(st.integers(0, 20_000), max_size=20))
def test_the_same_bytes_get_the_same_answers_however_they_are_cut(data, places):
    async def both() -> tuple[bytes, bytes, bytes]:
        shared = wire.front(echo)
        whole = await wire.conversation(shared, [data])
        pieces = await wire.conversation(shared, cut(data, places))
        # By now heads are known by heart.
        return whole, pieces, await wire.conversation(shared, [data])

    whole, pieces, again = asyncio.run(both())
    assert pieces == whole == again


@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=6))
def test_each_request_is_answered_in_its_order_known_or_not(requests):
    async def talk() -> tuple[bytes, bytes]:
        shared = wire.front(echo)
        for each in requests * 3:
            await wire.conversation(shared, [each])
        alone = [await wire.conversation(shared, [each]) for each in requests]
        return b"".join(alone), await wire.conversation(shared, requests)

    alone, together = asyncio.run(talk())
    assert together == alone
    assert len(STATUS.findall(together)) == len(requests)


@settings(max_examples=500)
@example([b"GET / HTTP/1.1\r\nhost: x\r\n\r\n\0"])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.sampled_from([*GOOD, *LAST]),
            st.sampled_from([b"\r\n", b"\r\n\r\n", b": ", b"HTTP/1.1", b"0\r\n\r\n", b"\0", b" "]),
            st.tuples(st.sampled_from([*GOOD, *LAST]), st.integers(0, 200)).map(
                lambda both: both[0][: both[1]]
            ),
        ),
        max_size=8,
    )
)
def test_garbage_is_answered_or_waited_for_and_never_a_failure_of_ours(pieces):
    async def talk() -> tuple[bytes, wire.Wire, direct.Connection, dict[int, int]]:
        shared = wire.front(echo)
        connection, line = wire.connected(shared)
        for piece in pieces:
            line.feed(piece)
            await wire.turns(line)
        for _ in range(direct.ARRIVAL_SWEEPS_MAX + direct.IDLE_SWEEPS_MAX + 3):
            connection.sweep()
        return line.sent, line, connection, shared.face.answered

    sent, line, connection, answered = asyncio.run(talk())
    assert connection.left
    assert line.closing
    assert 500 not in answered
    assert sum(answered.values()) == len(STATUS.findall(sent)) or b"HTTP" in b"".join(pieces)


def test_a_turn_has_an_end_and_the_rest_comes_in_the_next_ones():
    asked = []

    def count(request: Request) -> Response:
        asked.append(request.path)
        return Response(200, [])

    async def talk() -> bytes:
        _, line = wire.connected(wire.front(count))
        line.feed(b"".join(GET % b"/%d" % number for number in range(1000)))
        assert len(asked) <= direct.ANSWERS_PER_TURN
        assert line.paused
        await wire.turns(line)
        return line.sent

    sent = asyncio.run(talk())
    assert asked == [f"/{number}" for number in range(1000)]
    assert len(STATUS.findall(sent)) == 1000


def test_who_does_not_read_is_answered_up_to_a_bound_and_cut_after_a_while():
    asked = []

    def big(request: Request) -> Response:
        asked.append(request.path)
        return Response(200, [], b"x" * 20_000)

    async def talk() -> tuple[direct.Connection, wire.Wire, int]:
        connection, line = wire.connected(wire.front(big), takes=False)
        line.feed(GET % b"/" * 1000)
        for _ in range(100):
            await asyncio.sleep(0)
        before = len(asked)
        for _ in range(direct.FLUSH_SWEEPS_MAX + 2):
            connection.sweep()
        return connection, line, before

    connection, line, before = asyncio.run(talk())
    assert before <= 5
    assert line.closing
    assert connection.left


def test_who_reads_slowly_but_reads_is_answered_to_the_end():
    async def talk() -> tuple[wire.Wire, direct.Connection]:
        big = Response(200, [], b"x" * 20_000)
        connection, line = wire.connected(wire.front(lambda _: big), takes=False)
        line.feed(GET % b"/" * 50)
        while len(STATUS.findall(line.sent)) < 50:
            line.unread = max(0, line.unread - direct.FLUSH_BYTES)
            connection.sweep()
            if line.unread == 0:
                line.read()
                await asyncio.sleep(0)
        return line, connection

    line, connection = asyncio.run(talk())
    assert not line.closing
    assert not connection.left


@pytest.mark.parametrize(
    "beginning", [b"GET /", b"GET / HTTP/1.1\r\n", post(b"/", b"x" * 99)[:-50]]
)
def test_a_slow_drip_does_not_put_the_deadline_off(beginning):
    async def talk() -> bytes:
        connection, line = wire.connected(wire.front(echo))
        line.feed(beginning)
        for _ in range(direct.ARRIVAL_SWEEPS_MAX + 2):
            line.feed(b"x")
            connection.sweep()
        return line.sent

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 408 ")


def test_a_body_is_refused_by_its_length_before_it_comes():
    async def talk() -> tuple[bytes, int]:
        shared = wire.front(echo)
        head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n"
        return await wire.conversation(shared, [head]), shared.face.bodies_refused

    sent, refused = asyncio.run(talk())
    assert sent.startswith(b"HTTP/1.1 413 ")
    assert refused == 1


def test_heads_known_by_heart_are_bounded(monkeypatch):
    monkeypatch.setattr("holdfast.apps.heads.KNOWN_MAX", 10)

    async def talk() -> tuple[int, int]:
        shared = wire.front(echo)
        for number in range(100):
            for _ in range(2):
                await wire.conversation(shared, [GET % b"/%d" % number])
        return len(shared.heads.known), shared.heads.cleared

    known, cleared = asyncio.run(talk())
    assert known <= 10
    assert cleared == 9


def test_of_a_request_that_is_known_the_head_is_kept_and_not_the_body():
    async def talk() -> list[bytes]:
        shared = wire.front(echo)
        for _ in range(4):
            assert (await wire.conversation(shared, [post(b"/", b"body")])).endswith(b"body")
        return [known.request.body for known in shared.heads.known.values()]

    assert asyncio.run(talk()) == [b""]


@example(b"\r\n" + GET % b"/", 0)
@given(st.sampled_from(GOOD), st.integers(0, 300))
def test_a_trace_anywhere_means_the_same_to_who_knows_the_head(request, place):
    place %= len(request) + 1
    traced = request[:place] + b"\r\n" + (TRACE % (5, 6)).rstrip() + request[place:]

    async def both() -> tuple[bytes, bytes]:
        knowing = wire.front(echo)
        for _ in range(3):
            await wire.conversation(knowing, [request])
        return (
            await wire.conversation(knowing, [traced]),
            await wire.conversation(wire.front(echo), [traced]),
        )

    known, parsed = asyncio.run(both())
    assert known == parsed


UPGRADE = (
    b"GET /%d HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\nx-long: %b\r\n\r\n"
)


def test_half_a_head_behind_many_upgrades_is_not_taken_for_a_large_one():
    data = b"".join(UPGRADE % (number, b"y" * 3_000) for number in range(6))

    async def talk() -> bytes:
        return await wire.conversation(wire.front(echo), [data[:-100], data[-100:]])

    assert STATUS.findall(asyncio.run(talk())) == [b"200"] * 6


def test_as_many_upgrades_as_fit_are_answered_in_their_order():
    data = b"".join(UPGRADE % (number, b"") for number in range(2_000))

    async def talk() -> bytes:
        return await wire.conversation(wire.front(echo), [data])

    paths = re.findall(rb"x-path: /(\d+)\r\n", asyncio.run(talk()))
    assert paths == [b"%d" % number for number in range(2_000)]


@pytest.mark.parametrize("more", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n"])
def test_a_head_that_is_too_large_is_refused_upgrade_or_not(more):
    head = b"GET / HTTP/1.1\r\nhost: x\r\n%b" % more
    head += b"x: %b\r\n\r\n" % (b"y" * HEAD_BYTES_MAX)

    async def talk() -> bytes:
        return await wire.conversation(wire.front(echo), [head[:9_000], head[9_000:]])

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 431 ")


TRACED = b"GET /traced HTTP/1.1\r\nhost: x\r\ntraceparent: 00-%032x-%016x-01%b\r\nx-own: 1\r\n\r\n"


def test_a_head_is_known_whatever_its_trace():
    async def talk() -> tuple[set[bytes], int, list[tuple[bytes, bytes]]]:
        shared = wire.front(echo)
        answers = {
            await wire.conversation(shared, [TRACED % (number, number, b"")])
            for number in range(20)
        }
        (known,) = shared.heads.known.values()
        return answers, len(answers), known.headers

    answers, count, headers = asyncio.run(talk())
    assert count == 1
    assert b"x-path: /traced\r\n" in answers.pop()
    assert headers == [(b"host", b"x"), (b"x-own", b"1")]


@pytest.mark.parametrize("more", [b"\0", b"\r", b"\n", b"\r\n folded", b"\r\nhost: y"])
def test_what_hides_behind_a_trace_is_refused_as_ever(more):
    async def talk() -> bytes:
        shared = wire.front(echo)
        for _ in range(4):
            await wire.conversation(shared, [TRACED % (1, 1, b"")])
        return await wire.conversation(shared, [TRACED % (2, 2, more)])

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 400 ")


def test_a_head_that_came_once_is_not_kept():
    async def talk() -> int:
        shared = wire.front(echo)
        for number in range(100):
            await wire.conversation(shared, [GET % b"/%d" % number])
        return len(shared.heads.known)

    assert asyncio.run(talk()) == 0
