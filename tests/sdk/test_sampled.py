"""Contexts that a client saw: from reads, evaluations and reports, and nothing of them untold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.edge import Edge
from tests.sdk.publisher import Publisher
from tests.sdk.waiting import until

from holdfast import Client
from holdfast.core.sampling import hashed
from holdfast.core.snapshot import Snapshot
from holdfast.sdk.sampled import READS_MAX, SEEN_MAX, WINDOW


class Declaring(Publisher):
    """Its snapshots declare two attributes."""

    def snapshot(self, **changes: Any) -> Snapshot:
        return super().snapshot(**{"attributes": ("ring", "tenant"), **changes})


@pytest.fixture
def edge() -> Iterator[Edge]:
    with Edge(Declaring()) as made:
        made.publish(tiles=1)
        yield made


@pytest.fixture
def client(edge: Edge, tmp_path: Path) -> Iterator[Client]:
    given: dict[str, Any] = {"service": "demo-shop", "cache_dir": tmp_path, "poll_interval_s": 0.1}
    with Client([edge.url], **given) as made:
        until(lambda: made.get_int("tiles", 0) == 1)
        quiet(made)
        taken(made)
        yield made


def quiet(client: Client) -> None:
    """No report of its own takes what a test has put there."""
    assert client._reporting is not None
    client._reporting.close()


def taken(client: Client) -> list[dict[str, Any]]:
    """What a report would take now; a new window is open after it."""
    assert client._sampled is not None
    return [each.context for each in client._sampled.take()]


def person(number: int) -> dict[str, Any]:
    return {"targetingKey": f"u{number}", "tenant": f"t{number}", "email": "ann@example.com"}


def test_reads_are_seen_for_a_moment_after_each_report(client: Client) -> None:
    assert client._table is WINDOW
    for number in range(SEEN_MAX):
        assert client.get_int("tiles", 0, person(number)) == 1
    assert client._table is client._view.evaluator.table, "and then the fast path is back"
    client.get_int("tiles", 0, person(1_000))
    seen = taken(client)
    assert len(seen) == SEEN_MAX
    assert {"targetingKey": hashed("demo-shop", "u3"), "tenant": "t3"} in seen
    assert all(each.keys() <= {"targetingKey", "tenant", "ring"} for each in seen)


def test_a_request_that_reads_much_is_one_request(client: Client) -> None:
    one = person(1)
    for _ in range(READS_MAX - 1):
        client.get_int("tiles", 0, one)
    assert client._table is WINDOW
    client.get_int("tiles", 0, one)
    assert client._table is client._view.evaluator.table, "a window has a bound"
    assert len(taken(client)) == 1


def test_answers_in_a_window_are_counted_as_ever(client: Client) -> None:
    before = client.counts()["tiles"]["here"]
    for number in range(3 * SEEN_MAX):
        client.get_int("tiles", 0, person(number))
    client.get_str("tiles", "", person(1))
    assert client.counts()["tiles"]["here"] == before + 3 * SEEN_MAX + 1


def test_what_was_reported_and_evaluated_is_seen_at_any_time(client: Client) -> None:
    one = person(1)  # more than one, and chance would choose which are told
    for _ in range(READS_MAX):
        client.get_int("tiles", 0, one)
    assert client._table is not WINDOW
    client.report({"ring": "ring0", "targetingKey": "ann"})
    client.evaluate("tiles", {"ring": "ring1"})
    assert {each["ring"] for each in taken(client) if "ring" in each} == {"ring0", "ring1"}


def test_settings_that_come_during_a_window_are_answered_from(edge: Edge, client: Client) -> None:
    assert client._table is WINDOW
    edge.publish(tiles=2)
    until(lambda: client.get_int("tiles", 0) == 2)
    taken(client)
    for number in range(2 * SEEN_MAX):
        assert client.get_int("tiles", 0, person(number)) == 2


def test_without_a_declaration_only_hashed_keys_are_told(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge:
        edge.publish(tiles=1)
        given: dict[str, Any] = {"service": "demo-shop", "poll_interval_s": 0.1}
        with Client([edge.url], cache_dir=tmp_path, **given) as client:
            until(lambda: client.get_int("tiles", 0) == 1)
            quiet(client)
            taken(client)
            client.report(person(7))
            assert taken(client) == [{"targetingKey": hashed("demo-shop", "u7")}]


def test_without_reports_there_are_no_windows(edge: Edge, tmp_path: Path) -> None:
    given: dict[str, Any] = {"service": "demo-shop", "cache_dir": tmp_path / "other"}
    with Client([edge.url], reports=False, **given) as client:
        until(lambda: client.get_int("tiles", 0) == 1)
        client.evaluate("tiles", person(1))
        assert client._sampled is None
        assert client._table is client._view.evaluator.table
