"""A follower on real sockets, whose preferred upstream is worse than none: the other one serves."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator

import pytest
from tests.adapters.upstream import Upstream, dripping
from tests.sdk.edge import Edge
from tests.sdk.publisher import SHOP, Publisher
from tests.sdk.waiting import until

from holdfast.adapters import http_line
from holdfast.adapters.ed25519 import verify
from holdfast.adapters.http_source import READ_S, HttpSource
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.adapters.names import Names
from holdfast.core import follow
from holdfast.sdk.follower import Follower, Following

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
DRIP_S = 0.02
"""Between two bytes: a long way below the longest silence that is allowed."""
PATIENCE_S = 0.3


@pytest.fixture
def edge() -> Iterator[Edge]:
    with Edge(Publisher()) as made:
        made.publish(tiles=9)
        yield made


@pytest.fixture
def freed() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


@contextlib.contextmanager
def following(*urls: str) -> Iterator[Follower]:
    follower = Follower(
        Following(
            sources=lambda: [HttpSource(url) for url in urls],
            cache=MemoryCache(),
            verify=verify,
            subjects=(SHOP,),
            streams=False,
        )
    )
    with contextlib.closing(follower):
        follower.start()
        yield follower


def be_patient(monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
    monkeypatch.setattr(follow, "PATIENCE_S", patience_s)
    monkeypatch.setattr(http_line, "PATIENCE_S", patience_s)


def test_one_that_drips_is_left(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DRIP_S * 10 < READ_S
    be_patient(monkeypatch, PATIENCE_S)
    with (
        Upstream(dripping(HEAD, b"x", DRIP_S)) as drip,
        following(drip.url, edge.url) as follower,
    ):
        until(lambda: follower.generation(SHOP))
        assert follower.status().upstream == edge.url


def test_one_that_drips_fails_too_when_there_is_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large answer may take a minute then; one that brings nothing may not."""
    be_patient(monkeypatch, PATIENCE_S)
    with Upstream(dripping(HEAD, b"x", DRIP_S)) as drip, following(drip.url) as follower:
        until(lambda: follower.counts["failed"])


def test_with_a_bound_on_each_silence_alone_it_holds_a_follower(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch, 3600)
    drops = []

    def drip(upstream: Upstream, _path: str, _headers: object, sock: socket.socket) -> None:
        sock.sendall(HEAD)
        while not upstream.closing.wait(DRIP_S):
            sock.sendall(b"x")
            drops.append(1)

    with Upstream(drip) as slow, following(slow.url, edge.url) as follower:
        until(lambda: len(drops) * DRIP_S > 5 * PATIENCE_S)
        assert follower.generation(SHOP) is None
        assert edge.upstream.asked == []


def test_one_whose_name_nobody_finds_is_left(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, freed: threading.Event
) -> None:
    def lookup(_: str) -> Iterable[str]:
        freed.wait()
        return ()

    monkeypatch.setattr(http_line, "NAMES", Names(lookup))
    with following("http://edge.test:8016", edge.url) as follower:
        until(lambda: follower.generation(SHOP))
        assert follower.status().upstream == edge.url
