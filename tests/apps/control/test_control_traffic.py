"""Around a request: an id, a deadline, a line in the log without secrets, the metrics."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import generate_latest

from holdfast.apps import observe
from holdfast.apps.asgi import App, Message, Receive, Send
from holdfast.apps.control.door import TokenDoor
from holdfast.apps.control.traffic import Metrics, Traffic
from holdfast.core.access import issue
from holdfast.core.model import Scope

TEXT, TOKEN = issue("abc", bytes(32), "ci", [Scope(verbs=("read",))])


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers, root.level
    observe.start_logs("info", "test", stream)
    yield stream
    root.handlers = before
    root.setLevel(level)


def call(app: App, path: str = "/x", headers: dict[str, str] | None = None, **options: Any) -> Any:
    """(status, headers, metrics) of one GET through `Traffic`."""
    metrics = Metrics(observe.registry("test"))
    traffic = Traffic(app, TokenDoor(lambda: {"abc": TOKEN}, lambda: 0.0), metrics, **options)
    sent: list[Message] = []
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": raw}
    asyncio.run(traffic(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), generate_latest(metrics.registry).decode()


async def answers(scope: Any, receive: Receive, send: Send) -> None:
    scope["path_template"] = "/things/{thing}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def hangs(_scope: Any, _receive: Receive, _send: Send) -> None:
    await asyncio.Event().wait()


async def reads_first(_scope: Any, receive: Receive, _send: Send) -> None:
    await receive()


async def streams(_scope: Any, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b""})


def test_one_line_a_request_with_who_what_and_how_it_went(lines: io.StringIO) -> None:
    headers = {"authorization": f"Bearer {TEXT}", "x-request-id": "trace-1"}
    _, answered, _ = call(answers, "/things/secret-name", headers)
    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert answered[b"x-request-id"] == b"trace-1"
    assert {key: line[key] for key in ("event", "request_id", "token", "route", "status")} == {
        "event": "request",
        "request_id": "trace-1",
        "token": "abc",
        "route": "/things/{thing}",
        "status": 200,
    }
    assert TEXT.rpartition("_")[2] not in lines.getvalue()
    assert "secret-name" not in lines.getvalue()


def test_a_request_id_that_could_forge_a_log_is_replaced() -> None:
    _, answered, _ = call(answers, headers={"x-request-id": 'a"}{"event": "forged'})
    assert len(answered[b"x-request-id"]) == 16


def test_a_secret_that_gets_into_an_event_is_cut_down_to_its_id(lines: io.StringIO) -> None:
    observe.logger("test").error("refused", header=f"Bearer {TEXT}")
    logging.getLogger("uvicorn").error("bad header %s", TEXT)
    assert lines.getvalue().count("hf_abc_[secret]") == 2
    assert TEXT not in lines.getvalue()


@pytest.mark.parametrize(("app", "status"), [(hangs, 503), (reads_first, 408)])
def test_a_request_that_hangs_ends_with_whose_fault_it_is(app: App, status: int) -> None:
    assert call(app, request_s=0.01)[0] == status


def test_the_deadline_is_for_the_head_of_the_answer_not_for_a_stream() -> None:
    assert call(streams, request_s=0.02)[0] == 200


def test_labels_are_templates_and_never_what_a_caller_sent() -> None:
    _, _, metrics = call(answers)
    assert 'route="/things/{thing}"' in metrics
    for path, route in {
        "/production/shop/snapshot": "/{environment}/{service}/snapshot",
        "/production/shop/segments/abc": "/{environment}/{service}/segments",
        "/v1/stream": "/v1/stream",
        "/made/up/path": "unknown",
    }.items():
        assert f'route="{route}"' in call(streams, path)[2]
