"""One upstream over real sockets: what it may ask of us, and what it can't do to us."""

from __future__ import annotations

import base64
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from tests.adapters.upstream import Respond, Upstream, always, answer, dripping, zipped

from holdfast.adapters import http_source
from holdfast.adapters.http_source import HttpSource, Timeouts
from holdfast.core.errors import (
    Forbidden,
    HoldfastError,
    NotFound,
    Unauthenticated,
    Unavailable,
    Untrusted,
)
from holdfast.core.model import Subject
from holdfast.ports import Fetched

SHOP = Subject("production", "demo-shop")
QUICK = Timeouts(connect_s=0.5, read_s=0.3, total_s=0.8)
"""For what never comes; what comes has `LONG`, on a machine that does other things, too."""
LONG = Timeouts(connect_s=30, read_s=30, total_s=60, silence_s=30)
DIGEST = "ab" * 32


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], Upstream]]:
    upstreams = []

    def start(respond: Respond) -> Upstream:
        upstreams.append(Upstream(respond))
        return upstreams[-1]

    yield start
    for upstream in upstreams:
        upstream.close()


Serve = Callable[[Respond], Upstream]


def asked(url: str, token: str = "", timeouts: Timeouts = LONG) -> Fetched:
    source = HttpSource(url, token, timeouts)
    try:
        return source.snapshot(SHOP, DIGEST)
    finally:
        source.close()


def test_a_bundle_and_its_freshness(serve: Serve) -> None:
    sealed = base64.b64encode(b"sealed").decode()
    upstream = serve(always(b"bundle", Holdfast_Freshness=sealed))
    assert asked(upstream.url) == Fetched(b"bundle", b"sealed")


def test_the_question_is_conditional_and_authorised(serve: Serve) -> None:
    upstream = serve(always(status="304 Not Modified"))
    assert asked(upstream.url + "/prefix/", "hf_id_secret") == Fetched(None)
    path, headers = upstream.asked[0]
    assert path == f"/prefix/production/demo-shop/snapshot?have={DIGEST}"
    assert headers["if-none-match"] == f'"{DIGEST}"'
    assert headers["authorization"] == "Bearer hf_id_secret"


def test_gzip_is_taken(serve: Serve) -> None:
    assert asked(serve(zipped(b"bundle" * 1000)).url).body == b"bundle" * 1000


def test_the_connection_is_kept(serve: Serve) -> None:
    upstream = serve(always(b"bundle"))
    source = HttpSource(upstream.url, "", LONG)
    for _ in range(5):
        source.snapshot(SHOP, None)
    assert len(upstream._open) == 1
    source.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("401 Unauthorized", Unauthenticated),
        ("403 Forbidden", Forbidden),
        ("404 Not Found", NotFound),
        ("429 Too Many Requests", Unavailable),
        ("500 Internal Server Error", Unavailable),
        ("503 Service Unavailable", Unavailable),
    ],
)
def test_statuses_become_errors(serve: Serve, status: str, error: type[HoldfastError]) -> None:
    with pytest.raises(error):
        asked(serve(always(b"no", status)).url)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_redirects_are_not_followed(serve: Serve, status: str) -> None:
    """The token would go where nobody meant it to."""
    elsewhere = serve(always(b"stolen"))
    upstream = serve(always(b"", status, Location=elsewhere.url + "/x"))
    with pytest.raises(Unavailable):
        asked(upstream.url, "hf_id_secret")
    assert elsewhere.asked == []


def test_nobody_there_is_unavailable() -> None:
    upstream = Upstream(always())
    upstream.close()
    with pytest.raises(Unavailable):
        asked(upstream.url)


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PATIENT = Timeouts(connect_s=1, read_s=2, total_s=20)
LENGTH = b"Content-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    "respond",
    [
        pytest.param(dripping(b"", b"", 0.05), id="silent"),
        pytest.param(dripping(b"", b"H", 0.05), id="dripping-status"),
        pytest.param(dripping(HEAD, b"X: y\r\n", 0.05), id="dripping-headers"),
        pytest.param(dripping(HEAD + LENGTH, b"x", 0.05), id="dripping-body"),
        pytest.param(
            dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
            id="dripping-chunks",
        ),
    ],
)
def test_no_slowness_lasts_longer_than_the_total(serve: Serve, respond: Respond) -> None:
    began_s = time.monotonic()
    with pytest.raises(Unavailable):
        asked(serve(respond).url, timeouts=QUICK)
    assert time.monotonic() - began_s < 5 * QUICK.total_s


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        HEAD + LENGTH + b"short",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    ],
)
def test_broken_answers_are_unavailable(serve: Serve, first: bytes) -> None:
    def respond(_u: Upstream, _p: str, _h: object, sock: object) -> None:
        sock.sendall(first)  # type: ignore[attr-defined]
        raise OSError  # close

    with pytest.raises(Unavailable):
        asked(serve(respond).url)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="1xx"),
        pytest.param(b"", b"HTTP/1.1 103 Hints\r\nLink: <x>\r\n\r\n", id="hints"),
        pytest.param(HEAD, b"X: y\r\n", id="headers"),
        pytest.param(HEAD + b"X: ", b"y" * 100, id="header"),
        pytest.param(HEAD + CHUNKED + b"1;", b"e" * 100, id="chunk-extension"),
        pytest.param(HEAD + CHUNKED + b"0\r\n", b"X: y\r\n", id="trailers"),
        pytest.param(HEAD + CHUNKED, b"1;" + b"e" * 60_000 + b"\r\nx\r\n", id="extensions"),
    ],
)
def test_what_is_no_content_is_bounded_in_bytes(serve: Serve, first: bytes, again: bytes) -> None:
    """However quickly it comes: it ends at a bound, most of it after half a megabyte."""
    source = HttpSource(serve(dripping(first, again * 50, 0)).url, "", PATIENT)
    began_s = time.process_time()
    with pytest.raises(HoldfastError):
        source.snapshot(SHOP, DIGEST)
    assert source._line._received < 128 * 1024 * 1024
    assert time.process_time() - began_s < PATIENT.total_s
    source.close()


def test_a_question_ends_when_its_time_is_over_whatever_calls_it_takes(serve: Serve) -> None:
    upstream = serve(dripping(HEAD + LENGTH, b"x", 0.05))
    source = HttpSource(upstream.url, "", PATIENT)
    source.within(2.0)
    began_s = time.monotonic()
    for _ in range(3):
        with pytest.raises(Unavailable):
            source.snapshot(SHOP, None)
    assert time.monotonic() - began_s < 6
    assert len(upstream.asked) == 1
    source.close()


def test_a_large_answer_on_a_slow_honest_line_arrives(serve: Serve) -> None:
    """It takes longer than a question may that brings nothing, and comes on all the time."""
    body = b"x" * 400_000

    def respond(upstream: Upstream, _p: str, _h: object, sock: object) -> None:
        send = sock.sendall  # type: ignore[attr-defined]
        send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 20_000):
            send(body[at : at + 20_000])
            upstream.closing.wait(0.15)

    times = Timeouts(connect_s=30, read_s=2, total_s=2.5)
    source = HttpSource(serve(respond).url, "", times)
    source.within(60)
    assert source.snapshot(SHOP, None).body == body
    source.close()


def test_wishes_of_an_upstream_are_handed_on(serve: Serve) -> None:
    assert asked(serve(always(b"x", Holdfast_Pace="poll=90")).url).poll_s == 90
    assert asked(serve(always(b"x", Holdfast_Pace="poll=-1")).url).poll_s == 0
    with pytest.raises(Unavailable) as refused:
        asked(serve(always(b"", "503 Busy", Retry_After="17")).url)
    assert refused.value.retry_after_s == 17


def test_not_modified_keeps_the_connection(serve: Serve) -> None:
    upstream = serve(always(status="304 Not Modified"))
    source = HttpSource(upstream.url, "", LONG)
    for _ in range(5):
        assert source.snapshot(SHOP, DIGEST).body is None
    assert len(upstream._open) == 1
    source.close()


def test_bytes_after_a_compressed_body_are_refused(serve: Serve) -> None:
    with pytest.raises(Untrusted, match="goes on"):
        asked(serve(always(zlib.compress(b"x", wbits=31) * 2, Content_Encoding="gzip")).url)


def test_gzip_cut_short_is_unavailable(serve: Serve) -> None:
    whole = zlib.compress(b"bundle" * 1000, wbits=31)
    with pytest.raises(Unavailable):
        asked(serve(always(whole[:-9], Content_Encoding="gzip")).url)


def test_an_unknown_encoding_is_refused(serve: Serve) -> None:
    with pytest.raises(Untrusted, match="encoding"):
        asked(serve(always(b"x", Content_Encoding="br")).url)


def test_an_announced_size_beyond_the_bound_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_source, "BUNDLE_BYTES_MAX", 100)
    with pytest.raises(Untrusted, match="bytes"):
        asked(serve(always(b"x" * 101)).url)
    assert asked(serve(always(b"x" * 100)).url).body == b"x" * 100


def test_an_endless_body_is_cut(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_source, "BUNDLE_BYTES_MAX", 1_000_000)
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(Untrusted, match="bytes"):
        asked(serve(dripping(head, b"10000\r\n" + b"x" * 65536 + b"\r\n", 0)).url)


def test_a_compression_bomb_is_cut_before_it_opens(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 MB of zeros in 100 kB; memory stays near the bound, not near the bomb."""
    monkeypatch.setattr(http_source, "BUNDLE_BYTES_MAX", 1_000_000)
    bomb = zlib.compress(bytes(100_000_000), wbits=31)
    tracemalloc.start()
    try:
        with pytest.raises(Untrusted, match="bytes"):
            asked(serve(always(bomb, Content_Encoding="gzip")).url)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10_000_000


def test_an_error_leaves_nothing_for_the_next_answer(serve: Serve) -> None:
    """Half an answer must not be read as the start of the next one."""
    bodies = iter([b"first" * 100_000, b"second"])

    def respond(_u: Upstream, _p: str, _h: object, sock: object) -> None:
        status = "500 Oops" if len(upstream.asked) == 1 else "200 OK"
        answer(sock, next(bodies), status)  # type: ignore[arg-type]

    upstream = serve(respond)
    source = HttpSource(upstream.url, "", LONG)
    with pytest.raises(Unavailable):
        source.snapshot(SHOP, None)
    assert source.snapshot(SHOP, None).body == b"second"
    source.close()


def test_the_catalogue(serve: Serve) -> None:
    listed = (
        b'{"subjects":[{"environment":"production","service":"demo-shop","revision":3,'
        b'"digest":"d"},{"environment":"production","service":"_access","revision":1,"digest":"e"},'
        b'{"environment":"production","service":"../../etc","revision":1,"digest":"f"}]}'
    )
    source = HttpSource(serve(always(listed)).url, "", LONG)
    assert source.catalogue() == {SHOP: "d", Subject("production", "_access"): "e"}
    source.close()


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"subjects":[{"environment":"\xff","service":"s","digest":"d"}]}',
        b'{"more":' + b"[" * 50_000 + b"]" * 50_000 + b',"subjects":[]}',
    ],
    ids=["shape", "utf-8", "depth"],
)
def test_a_bad_catalogue_is_refused(serve: Serve, body: bytes) -> None:
    source = HttpSource(serve(always(body)).url, "", LONG)
    with pytest.raises(Untrusted, match="catalogue"):
        source.catalogue()
    source.close()


def test_a_segment(serve: Serve) -> None:
    upstream = serve(always(b"table"))
    source = HttpSource(upstream.url, "", LONG)
    assert source.segment(SHOP, DIGEST) == b"table"
    assert upstream.asked[0][0] == f"/production/demo-shop/segments/{DIGEST}"
    source.close()


STREAM = HEAD + b"Content-Type: text/event-stream\r\n\r\n"


def hint(digest: str, event: str = "change") -> bytes:
    data = f'{{"environment":"production","service":"demo-shop","revision":1,"digest":"{digest}"}}'
    return f"event: {event}\ndata: {data}\n\n".encode()


def test_hints_come_as_they_are_sent(serve: Serve) -> None:
    frames = (
        b":\n\n" + hint("a") + hint("x", "other") + b"event: change\ndata: nope\n\n" + hint("b")
    )
    hints = HttpSource(serve(dripping(STREAM + frames, b":\n\n", 0.1)).url, "", LONG).hints()
    told = iter(hints)
    assert [next(told) for _ in range(3)] == [{SHOP: "a"}, {}, {SHOP: "b"}]
    hints.close()
    with pytest.raises((Unavailable, StopIteration)):
        next(told)


def test_heartbeats_keep_a_stream_and_silence_ends_it(serve: Serve) -> None:
    def respond(upstream: Upstream, _p: str, _h: object, sock: object) -> None:
        send = sock.sendall  # type: ignore[attr-defined]
        send(STREAM)
        for _ in range(5):
            upstream.closing.wait(times.silence_s / 4)
            send(b":\n\n")
        send(hint("a"))
        upstream.closing.wait(60)

    times = Timeouts(connect_s=30, read_s=30, total_s=60, silence_s=2.4)
    told = iter(HttpSource(serve(respond).url, "", times).hints())
    assert next(told) == {SHOP: "a"}
    with pytest.raises(Unavailable):
        next(told)


def test_silence_is_told_before_it_ends_a_stream(serve: Serve) -> None:
    """After two heartbeats' time, and then after twice as long, and so on."""
    told: list[float] = []
    head = STREAM.replace(b"\r\n\r\n", b"\r\nHoldfast-Heartbeat: 0.1\r\n\r\n")
    timeouts = Timeouts(connect_s=1, read_s=1, total_s=2, silence_s=1.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_source, "SILENCE_MIN_S", 0.2)
        hints = HttpSource(serve(dripping(head, b"", 9)).url, "", timeouts).hints()
    hints.on_silence = lambda: told.append(time.monotonic())
    with pytest.raises(Unavailable):
        next(iter(hints))
    assert len(told) == 3


def test_digests_of_hints_are_bounded(serve: Serve) -> None:
    told = iter(
        HttpSource(
            serve(dripping(STREAM + hint("d" * 10_000) + hint("a"), b":\n\n", 0.1)).url
        ).hints()
    )
    assert [next(told), next(told)] == [{}, {SHOP: "a"}]


def test_a_waiting_stream_is_closed_from_another_thread(serve: Serve) -> None:
    patient = Timeouts(silence_s=60)
    hints = HttpSource(serve(dripping(STREAM, b"", 0.05)).url, "", patient).hints()
    threading.Timer(0.1, hints.close).start()
    began_s = time.monotonic()
    with pytest.raises((Unavailable, StopIteration)):
        next(iter(hints))
    assert time.monotonic() - began_s < 10


def test_hints_that_nobody_can_read_are_passed_over(serve: Serve) -> None:
    deep = b"event: change\ndata: " + b"[" * 20_000 + b"]" * 20_000 + b"\n\n"
    told = iter(HttpSource(serve(dripping(STREAM + deep + hint("a"), b":\n\n", 0.1)).url).hints())
    assert [next(told), next(told)] == [{}, {SHOP: "a"}]


def test_freshness_in_no_base64_is_refused(serve: Serve) -> None:
    with pytest.raises(Untrusted, match="base64"):
        asked(serve(always(b"bundle", Holdfast_Freshness="ä")).url)


def test_a_hint_without_an_end_is_cut(serve: Serve) -> None:
    hints = HttpSource(serve(dripping(STREAM + b"data: ", b"x" * 10_000, 0)).url, "", LONG).hints()
    with pytest.raises(Untrusted, match="without an end"):
        next(iter(hints))


@pytest.mark.parametrize("status", ["401 Unauthorized", "503 Busy"])
def test_a_stream_that_is_refused_says_so(serve: Serve, status: str) -> None:
    with pytest.raises((Unauthenticated, Unavailable)):
        HttpSource(serve(always(b"no", status)).url, "", LONG).hints()
