"""When a client reports, and what: paced, sooner after a refusal, and never in anybody's way."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.upstream import Upstream, always, dripping
from tests.sdk.edge import Edge
from tests.sdk.publisher import Publisher
from tests.sdk.waiting import until

from holdfast import Client
from holdfast.adapters.http_reports import HttpReports, batches
from holdfast.core.errors import Invalid, Unavailable
from holdfast.core.reports import BODY_BYTES_MAX, ConsumerReport, ReportBody
from holdfast.core.snapshot import Pacing
from holdfast.sdk import reporter
from holdfast.sdk.reporter import Pace, Reporter

chances = st.floats(0, 1, exclude_max=True)


# Pace: a conversation of times


@given(chances)
def test_a_fleet_that_starts_together_reports_spread_over_the_interval(chance: float) -> None:
    pace = Pace.begin(100.0, chance)
    assert 100.0 <= pace.due_s <= 110.0


@given(chances)
def test_what_cannot_wait_is_told_within_a_second(chance: float) -> None:
    pace = Pace.begin(100.0, 0.99).sent(110.0, 0.5, ok=True)
    assert pace.soon(115.0, chance).due_s <= 116.0
    early = pace.soon(110.1, chance)
    assert 110.0 + pace.gap_s <= early.due_s <= 111.1 + pace.gap_s, "and not in a burst"


@given(chances)
def test_an_upstream_that_takes_nothing_is_asked_less_and_less(chance: float) -> None:
    pace, now_s, waits = Pace.begin(0.0, 0.0), 0.0, []
    for _ in range(8):
        pace = pace.sent(now_s, chance, ok=False)
        waits.append(pace.due_s - now_s)
        now_s = pace.due_s
    assert waits[0] >= 18.0
    assert waits[-1] <= 1.1 * reporter.INTERVAL_S * 2**reporter.DOUBLINGS_MAX
    assert pace.soon(now_s, 0.0).due_s - pace.sent_s >= min(waits[-1], 60.0)
    assert pace.sent(now_s, 0.5, ok=True).due_s == now_s + reporter.INTERVAL_S


@given(chances)
def test_while_a_rollout_is_under_way_reports_come_more_often(chance: float) -> None:
    pace = Pace.begin(100.0, 0.5).sent(110.0, 0.5, ok=True)
    often = pace.every(112.0, chance, 5.0)
    assert 112.0 <= often.due_s <= 117.0
    assert often.sent(often.due_s, 0.5, ok=True).due_s == often.due_s + 5.0


def test_what_a_report_raises_is_counted_and_no_more() -> None:
    called = threading.Semaphore(0)

    def send() -> None:
        called.release()
        raise ZeroDivisionError

    telling = Reporter(send, lambda: 0.0, interval_s=0.01, gap_s=0.01)
    telling.start()
    for _ in range(2):
        assert called.acquire(timeout=10)
    telling.close()
    until(lambda: telling.failed >= 1)


# Reports on their way: a client and an upstream


def reports(upstream: Upstream) -> list[ConsumerReport]:
    """All that came, oldest first."""
    paths = [path for path, _ in upstream.asked]
    bodies = [b for path, b in zip(paths, upstream.bodies, strict=False) if path == "/v1/reports"]
    return [one for body in bodies for one in msgspec.json.decode(body, type=ReportBody).reports]


def client_of(edge: Edge, tmp_path: Path, **more: Any) -> Client:
    given = {"endpoints": [edge.url], "service": "demo-shop", "cache_dir": tmp_path / "cache"}
    return Client(**{**given, "poll_interval_s": 0.1, **more})


def test_a_refusal_is_told_within_about_a_second(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge, client_of(edge, tmp_path, application="shop/1") as client:
        edge.publish(tiles=1)
        until(lambda: client.get_int("tiles", 0) == 1)
        edge.bundle = edge.bundle.replace(b'"tiles"', b'"tales"')
        edge.digest = "0" * 64
        told = until(lambda: [each for each in reports(edge.upstream) if each.refusals])
        assert told[-1].refusals[-1].code == "digest"
        assert told[-1].application == "shop/1"
        assert (told[-1].environment, told[-1].service) == ("production", "demo-shop")
        assert told[-1].kind == "sdk"
        assert told[-1].revision == 1


def test_reports_of_a_client_name_what_it_runs(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge, client_of(edge, tmp_path, token="hf_x_1") as client:
        edge.publish(tiles=1)
        until(lambda: client.get_int("tiles", 0) == 1)
        client._reporting.reporter.soon()
        (first, *_) = until(lambda: reports(edge.upstream))
        assert first.sequence == 1
        assert first.digest == edge.digest
        assert [head.revision for head in first.heads] == [1]
        assert first.contexts == ()
        assert "Bearer hf_x_1" in edge.tokens
        until(lambda: client.status().counts.get("reports_sent"))
        assert "reports_failed" not in client.status().counts
        assert client.status().counts["outcomes_dropped"] == 0


def test_switched_off_there_is_no_report_and_no_thread(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge, client_of(edge, tmp_path, reports=False) as client:
        edge.publish(tiles=1)
        until(lambda: client.get_int("tiles", 0) == 1)
        client.report({"targetingKey": "a"}, ok=False)
        assert "holdfast-reporter" not in {each.name for each in threading.enumerate()}


def test_whatever_is_reported_the_host_goes_on(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge, client_of(edge, tmp_path) as client:
        for context in (None, {}, {"targetingKey": object()}, 7, "x"):
            client.report(context, ok=False, latency_ms=float("nan"))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_child_is_another_consumer(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge, client_of(edge, tmp_path) as client:
        edge.publish(tiles=1)
        until(lambda: client.get_int("tiles", 0) == 1)
        mine = client._reporting.consumer
        child = os.fork()
        if child == 0:
            client._reporting.reporter.soon()
            until(lambda: client._reporting.reporter.sent)
            os._exit(0)
        os.waitpid(child, 0)
        assert {each.consumer for each in reports(edge.upstream)} - {mine}


def test_arguments_that_cannot_be_meant_are_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="application"):
        Client(["http://127.0.0.1:1"], service="shop", application="x" * 300)


# The adapter


def report(number: int, **more: Any) -> ConsumerReport:
    given = {
        "consumer": f"consumer-{number:06}", "service": "shop", "environment": "production",
        "kind": "sdk", "build": "holdfast/0", "sequence": 1, "at_ms": 1,
    }  # fmt: skip
    return ConsumerReport(**{**given, **more})


def test_many_reports_go_in_bodies_within_the_bound() -> None:
    sent = [report(number, application="x" * 200) for number in range(500)]
    bodies = list(batches(msgspec.json.encode(each) for each in sent))
    assert len(bodies) > 1
    assert all(len(body) <= BODY_BYTES_MAX for body in bodies)
    got = [one for body in bodies for one in msgspec.json.decode(body, type=ReportBody).reports]
    assert got == sent


def test_one_that_is_too_large_stops_no_other() -> None:
    huge = b'"' + b"x" * BODY_BYTES_MAX + b'"'
    assert list(batches([huge, b"1", huge, b"2"])) == [b'{"reports":[1,2]}']


@pytest.mark.parametrize("status", ["401 No", "403 No", "404 No", "503 No", "302 Elsewhere"])
def test_an_upstream_that_does_not_take_them_is_unavailable(status: str) -> None:
    with Upstream(always(b"", status, Location="http://127.0.0.1:1/")) as upstream:
        sending = HttpReports(upstream.url)
        with pytest.raises(Unavailable, match=status[:3]):
            sending.send([report(1)])
        sending.close()


def test_a_batch_that_will_never_be_taken_is_not_kept() -> None:
    with Upstream(always(b"", "400 Bad")) as upstream:
        sending = HttpReports(upstream.url + "/base/")
        sending.send([report(1)])
        sending.send([report(2)])
        assert sending.refused == 2
        assert [path for path, _ in upstream.asked] == ["/base/v1/reports"] * 2
        sending.close()


def test_nobody_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Unavailable):
        HttpReports(f"http://127.0.0.1:{port}").send([report(1)])


def test_an_upstream_that_asks_to_be_left_alone_is() -> None:
    now_s = [0.0]
    with Upstream(always(b"{}", "503 Busy", Retry_After="7")) as upstream:
        sending = HttpReports(upstream.url, clock=lambda: now_s[0])
        for at_s, asked in ((0.0, 1), (6.9, 1), (7.1, 2), (14.0, 2)):
            now_s[0] = at_s
            with pytest.raises(Unavailable):
                sending.send([report(1)])
            assert len(upstream.asked) == asked
        sending.close()


def test_a_wish_to_be_left_alone_for_years_is_bounded() -> None:
    """By what was signed, not by who answers."""
    now_s, signed = [0.0], [Pacing(retry_after_max_s=20)]
    with Upstream(always(b"{}", "503 Busy", Retry_After="999999999")) as upstream:
        sending = HttpReports(upstream.url, clock=lambda: now_s[0], contract=lambda: signed[0])
        for at_s, asked in ((0.0, 1), (15.9, 1), (16.1, 2), (32.2, 3)):
            now_s[0] = at_s
            with pytest.raises(Unavailable):
                sending.send([report(1)])
            assert len(upstream.asked) == asked
        sending.close()


@pytest.mark.parametrize("drop", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X: y\r\n"])
def test_an_answer_without_an_end_costs_a_bounded_number_of_bytes(drop: bytes) -> None:
    first = b"" if drop.startswith(b"HTTP") else b"HTTP/1.1 202 Accepted\r\n"
    with Upstream(dripping(first, drop * 100, 0)) as upstream, pytest.raises(Unavailable):
        HttpReports(upstream.url).send([report(1)])
