"""PromQL over HTTP: values, or `Unavailable`; never a guess."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.adapters.upstream import Upstream, always, dripping

from holdfast.adapters.prometheus import BYTES_MAX, Prometheus
from holdfast.core.errors import Unavailable

QUERY = 'sum(rate(errors_total{job="shop"}[1m]))'


def vector(*values: str) -> bytes:
    result = [{"metric": {"job": "shop"}, "value": [1_800_000_000.1, each]} for each in values]
    return body({"resultType": "vector", "result": result})


def body(data: Any, status: str = "success") -> bytes:
    return json.dumps({"status": status, "data": data}).encode()


def ask(content: bytes, status: str = "200 OK") -> list[float]:
    with Upstream(always(content, status)) as upstream:
        asking = Prometheus()
        try:
            return asking.ask(upstream.url + "/", QUERY)
        finally:
            asking.close()


def test_the_values_of_a_query() -> None:
    assert ask(vector("0.5", "2", "+Inf")) == [0.5, 2.0, float("inf")]
    assert ask(vector()) == []
    assert ask(body({"resultType": "scalar", "result": [1, "3"]})) == [3.0]


def test_the_query_goes_as_it_is() -> None:
    with Upstream(always(vector())) as upstream:
        Prometheus().ask(upstream.url, QUERY)
        path = urlsplit(upstream.asked[0][0])
    assert path.path == "/api/v1/query"
    assert parse_qs(path.query) == {"query": [QUERY]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"\xff",
        body(None),
        body({"resultType": "matrix", "result": []}),
        body({"resultType": "vector", "result": [{}]}),
        body({"resultType": "vector", "result": []}, "error"),
        vector("many"),
        vector("NaN"),
        b" " * (BYTES_MAX + 1),
        b"[" * 10_000,
    ],
)
def test_what_is_no_answer_is_unavailable(content: bytes) -> None:
    with pytest.raises(Unavailable):
        ask(content)


@pytest.mark.parametrize("status", ["302 Elsewhere", "400 Bad", "503 No"])
def test_a_server_that_refuses_is_unavailable(status: str) -> None:
    with pytest.raises(Unavailable, match=status[:3]):
        ask(vector("1"), status)


@pytest.mark.parametrize("url", ["not a url", "http://127.0.0.1:1", ""])
def test_an_address_without_a_server_is_unavailable(url: str) -> None:
    with pytest.raises(Unavailable):
        Prometheus().ask(url, QUERY)


def test_a_server_that_never_answers_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.adapters.prometheus.READ_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable):
        Prometheus().ask(f"http://127.0.0.1:{silent.getsockname()[1]}", QUERY)


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    ],
    ids=["body", "headers"],
)
def test_a_server_that_drips_is_unavailable(
    first: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not hold a thread for as long as it likes, and other rollouts' questions with it."""
    monkeypatch.setattr("holdfast.adapters.prometheus.TOTAL_S", 0.2)
    with Upstream(dripping(first, drop, 0.02)) as upstream, pytest.raises(Unavailable):
        Prometheus().ask(upstream.url, QUERY)


def test_to_close_it_ends_what_is_being_asked() -> None:
    asking = Prometheus()
    with Upstream(lambda upstream, *_: (asking.close(), upstream.closing.wait(30))[0]) as upstream:
        with pytest.raises(Unavailable):
            asking.ask(upstream.url, QUERY)
        upstream.closing.set()
