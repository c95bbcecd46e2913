"""From a name to a connection: whatever its resolver does, and wherever its addresses lead."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator

import pytest
from tests.adapters.upstream import Upstream, always

from holdfast.adapters import http_line
from holdfast.adapters.http_source import HttpSource, Timeouts
from holdfast.adapters.names import Names
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject

SHOP = Subject("production", "demo-shop")
QUICK = Timeouts(connect_s=0.2, read_s=5, total_s=5)
LONG_S = 20.0
PATIENT = Timeouts(connect_s=LONG_S, read_s=LONG_S, total_s=LONG_S)


@pytest.fixture
def freed() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def found_at(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    monkeypatch.setattr(http_line, "NAMES", Names(lambda _: addresses))


def hang(monkeypatch: pytest.MonkeyPatch, freed: threading.Event) -> None:
    def lookup(_: str) -> Iterable[str]:
        freed.wait(LONG_S)
        return ()

    monkeypatch.setattr(http_line, "NAMES", Names(lookup))


def test_a_resolver_that_hangs_holds_nobody(
    monkeypatch: pytest.MonkeyPatch, freed: threading.Event
) -> None:
    hang(monkeypatch, freed)
    source = HttpSource("http://edge.test:8016", "", QUICK)
    began_s = time.monotonic()
    with pytest.raises(Unavailable, match=r"no address of edge\.test: timed out"):
        source.snapshot(SHOP, None)
    with pytest.raises(Unavailable):
        source.hints()
    assert time.monotonic() - began_s < LONG_S / 2


def test_without_a_bound_it_would(monkeypatch: pytest.MonkeyPatch, freed: threading.Event) -> None:
    hang(monkeypatch, freed)
    names = http_line.NAMES
    monkeypatch.setattr(Names, "addresses", lambda _, host, __: tuple(names._lookup(host)))
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(Unavailable):
            HttpSource("http://edge.test:8016", "", QUICK).snapshot(SHOP, None)
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    assert not ended.wait(5 * QUICK.connect_s)
    freed.set()
    assert ended.wait(LONG_S)


def test_a_resolver_that_dies_does_not_cut_off_who_has_been_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = ["127.0.0.1"]
    monkeypatch.setattr(http_line, "NAMES", Names(lambda _: found))
    with Upstream(always(b"bundle")) as upstream:
        for _ in range(2):
            source = HttpSource(f"http://edge.test:{upstream.port}", "", PATIENT)
            assert source.snapshot(SHOP, None).body == b"bundle"
            source.close()
            found.clear()


def test_the_first_address_that_takes_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found_at(monkeypatch, "127.0.0.9", "127.0.0.1")
    with Upstream(always(b"bundle")) as upstream:
        source = HttpSource(f"http://edge.test:{upstream.port}", "", PATIENT)
        assert source.snapshot(SHOP, None).body == b"bundle"
        assert upstream.asked[0][1]["host"] == f"edge.test:{upstream.port}"
        source.close()


def test_many_addresses_that_lead_nowhere_take_no_longer_than_a_question_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def connect(address: tuple[str, int], within_s: float, **_: object) -> socket.socket:
        tried.append(address)
        time.sleep(within_s)
        raise TimeoutError("timed out")

    monkeypatch.setattr(http_line, "create_connection", connect)
    found_at(monkeypatch, *(f"127.0.0.{number}" for number in range(2, 10)))
    source = HttpSource("http://edge.test:8016", "", QUICK)
    source.within(2.5 * QUICK.connect_s)
    with pytest.raises(Unavailable, match="timed out"):
        source.snapshot(SHOP, None)
    assert len(tried) <= 3
