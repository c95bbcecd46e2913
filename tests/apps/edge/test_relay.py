"""Reports at an edge: taken from readers, handed up in bounded batches, with the edge's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from serving import call, until
from upstream import READ, World

from holdfast.apps.edge import relay as module
from holdfast.apps.edge.process import Edge
from holdfast.apps.edge.relay import Relay
from holdfast.apps.edge.table import Table
from holdfast.apps.http import Request, Response
from holdfast.core.errors import Forbidden, Unavailable
from holdfast.core.model import Subject
from holdfast.core.reports import ConsumerReport, ReportBody
from holdfast.sdk.follower import FollowerStatus


def report(number: int = 1, sequence: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "consumer": f"consumer-{number:04}", "service": "shop", "environment": "production",
        "kind": "sdk", "build": "holdfast/0", "sequence": sequence, "at_ms": 1, **more,
    }  # fmt: skip


def body(*reports: dict[str, Any]) -> bytes:
    return json.dumps({"reports": reports}).encode()


class Above:
    """An upstream that keeps what it gets, or refuses it."""

    def __init__(self) -> None:
        self.got: list[ConsumerReport] = []
        self.away = False
        self.closed = 0
        self.came = threading.Event()

    def send(self, reports: Sequence[ConsumerReport]) -> None:
        if self.away:
            raise Unavailable("away")
        self.got += reports
        self.came.set()

    def close(self) -> None:
        self.closed += 1


class Open:
    """A door that knows one word."""

    def sees(self, headers: Sequence[tuple[bytes, bytes]]) -> Any:
        if (b"x-word", b"please") not in headers:
            raise Forbidden("say please")
        return lambda subject: subject.service == "shop"


def status() -> FollowerStatus:
    return FollowerStatus("http://above", False, {}, "", None, "", 1, True, False, {})


@pytest.fixture
def above() -> Above:
    return Above()


@pytest.fixture
def relay(above: Above) -> Iterator[Relay]:
    made = Relay(Open(), Table(), status, lambda _url: above)
    yield made
    made.close()


def take(relay: Relay, content: bytes, word: bytes = b"please") -> Response:
    return relay.take(Request("POST", "/v1/reports", b"", [(b"x-word", word)], content))


def test_only_the_newest_report_of_each_consumer_waits(relay: Relay, above: Above) -> None:
    assert take(relay, body(report(1, 1), report(2, 5), report(1, 2))).status == 202
    assert take(relay, body(report(2, 4))).status == 202
    assert relay.waiting == 2
    relay.start()
    assert above.came.wait(10)
    assert {(each.consumer, each.sequence) for each in above.got} == {
        ("consumer-0001", 2),
        ("consumer-0002", 5),
    }


def test_what_an_upstream_does_not_take_waits_and_nothing_newer_is_lost(
    relay: Relay, above: Above
) -> None:
    above.away = True
    take(relay, body(report(1, 1), report(2, 1)))
    relay.start()
    until(lambda: relay.failed)
    take(relay, body(report(1, 2)))
    until(lambda: relay.waiting == 2)  # it may be trying just now
    above.away = False
    assert above.came.wait(30)
    assert {(each.consumer, each.sequence) for each in above.got} == {
        ("consumer-0001", 2),
        ("consumer-0002", 1),
    }


def test_what_waits_is_bounded_and_counted(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 10)
    take(relay, body(*(report(number) for number in range(25))))
    assert relay.waiting == 10
    assert relay.dropped == 15


def test_the_bytes_that_wait_are_bounded_too(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 10_000)
    for sequence in (1, 2):
        large = [report(n, sequence, contexts=[{"context": {"a": "x" * 4_000}}]) for n in range(5)]
        take(relay, body(*large))
        assert relay.waiting == 2
    assert relay.dropped >= 6


@pytest.mark.parametrize(
    ("content", "word", "expected"),
    [
        (body(report()), b"please", 202),
        (body(), b"please", 202),
        (body(report()), b"no", 403),
        (body(report(service="mail")), b"please", 403),
        (b"", b"please", 400),
        (b"[]", b"please", 400),
        (b"\xff", b"please", 400),
        (b'{"reports":' + b"[" * 5_000, b"please", 400),
        (body(report(consumer="x" * 65)), b"please", 400),
        (body(report(sequence=-1)), b"please", 400),
        (body(report(refusals=[{}])), b"please", 400),
        (body(report(contexts=[{"context": {}}] * 33)), b"please", 400),
    ],
)
def test_what_is_no_report_is_refused(
    relay: Relay, content: bytes, word: bytes, expected: int
) -> None:
    assert take(relay, content, word).status == expected


def test_reports_of_what_the_sender_may_not_read_are_left_out(relay: Relay) -> None:
    assert json.loads(take(relay, body(report(), report(2, service="mail"))).body) == {"taken": 1}
    assert relay.refused == 1


# A real edge under a real upstream


def got(world: World) -> list[ConsumerReport]:
    """All reports that came up."""
    bodies = [msgspec.json.decode(each, type=ReportBody) for each in world.reports]
    return [report for body in bodies for report in body.reports]


def test_an_edge_hands_reports_up_and_tells_of_itself(world: World, shop: Edge) -> None:
    answer = call(shop.listener.port, "POST", "/v1/reports", body(report()), READ)
    assert answer.status == 202, answer.body
    until(lambda: any(each.consumer == "consumer-0001" for each in got(world)))
    until(lambda: any(each.kind == "edge" and each.service == "shop" for each in got(world)))
    mine = next(each for each in got(world) if each.kind == "edge" and each.service == "shop")
    active = shop.table.get(Subject("production", "shop"))
    assert active is not None
    assert (mine.revision, mine.digest) == (active.revision, active.digest)
    text = shop.metrics()[0].decode()
    assert "holdfast_reports_taken_total 1.0" in text
    assert 'holdfast_limit_hits_total{limit="reports_waiting"} 0.0' in text


def test_a_report_takes_a_token_that_may_read_its_service(shop: Edge) -> None:
    port = shop.listener.port
    assert call(port, "POST", "/v1/reports", body(report())).status == 401
    assert call(port, "POST", "/v1/reports", body(report(service="mail")), READ).status == 403
    assert call(port, "GET", "/v1/reports", None, READ).status == 405
