"""What runs counts at whichever node a change is made, or the answer says that it could not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from a_control_plane import SHOP, documents
from litestar.testing import TestClient
from test_control_nodes import figure, following, node
from test_control_plane import eventually

from holdfast.adapters.signing import Keys
from holdfast.apps.control import held
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import Parts, memory_parts
from holdfast.engine.advance import SETTLE_S

WIDER = {"documents": documents(SHOP.replace("maximum: 49", "maximum: 60"))}


class Leader(BaseHTTPRequestHandler):
    """The node that leads: `web 7` reported there, and nowhere else."""

    asked: ClassVar[list[str]] = []
    status: ClassVar[int] = 200
    answer: ClassVar[Any] = None
    hangs: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        assert query.startswith("at_least=")
        self.asked.append(path)
        assert self.headers["Authorization"].startswith("Bearer hf_")
        assert self.headers["Holdfast-Hop"] == "1"
        self.hangs.wait(10)
        body = json.dumps(self.answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return memory_parts(Keys.init(tmp_path, development=True))


@pytest.fixture
def server(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(held, "WAIT_S", 20.0)  # whichever thread is held up, the answer is waited
    monkeypatch.setattr(held, "AGAIN_S", 600.0)  # for, and does for the whole test
    Leader.asked, Leader.status, Leader.answer = [], 200, {}
    Leader.hangs = threading.Event()
    Leader.hangs.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Leader)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    parts.leases.take("the-leader", f"http://127.0.0.1:{server.server_port}", 3_600.0)
    yield server
    Leader.hangs.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(parts: Parts, server: ThreadingHTTPServer) -> Iterator[TestClient[Any]]:
    """Of a node that follows, and has heard of no consumer."""
    control = node(parts, "two")
    with TestClient(create_app(control)) as client:
        following(control, client)
        yield client


def policy(client: TestClient[Any], mode: str) -> None:
    body = {"policy": {"compatibility": mode}}
    assert client.put("/v1/environments/production/policy", json=body).status_code == 200


def narrowed(client: TestClient[Any]) -> int:
    """Revision of a wider schema that stands no more, under a policy that remembers it."""
    for environment in ("production", "staging"):
        assert client.put(f"/v1/environments/{environment}", json={}).status_code == 200
    policy(client, "NONE")
    wide = {"documents": documents(SHOP.replace("maximum: 49", "maximum: 100"))}
    revision: int = client.post("/v1/commits", json=wide).json()["revision"]
    assert client.post("/v1/commits", json={"documents": documents(SHOP)}).status_code == 201
    policy(client, "BACKWARD_TRANSITIVE")
    change_token(client)
    return revision


def change_token(client: TestClient[Any]) -> None:
    """To one in whose name nothing was asked yet."""
    body = {"name": "another", "scopes": [{"verbs": ["admin"]}]}
    token = client.post("/v1/tokens", json=body).json()["token"]
    client.headers["Authorization"] = f"Bearer {token}"
    Leader.asked.clear()


def telling(revision: int, *, whole: bool = True) -> dict[str, Any]:
    return {"whole": whole, "services": {"shop": [{"revision": revision, "by": "web 7"}]}}


def codes(answer: Any) -> list[str]:
    return [one["code"] for one in answer.json()["problems"]]


def test_what_reported_to_the_leader_alone_counts_at_a_node_that_follows(
    client: TestClient[Any],
) -> None:
    Leader.answer = telling(narrowed(client))
    answer = client.post("/v1/commits", json=WIDER)
    assert answer.status_code == 422, answer.text
    assert "`web 7`" in answer.json()["error"]["problems"][0]["message"]
    assert client.post("/v1/changes/check", json=WIDER).json()["ok"] is False
    assert Leader.asked == ["/v1/running"], "an answer does for some seconds"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, {}),
        (403, {"error": {"code": "forbidden", "message": "no"}}),
        (200, {"of": "another shape"}),
        (200, {"whole": True, "services": {}}),
        (200, {"whole": False, "services": {"shop": []}}),
    ],
)
def test_a_check_without_the_leader_says_that_it_is_not_whole(
    client: TestClient[Any], status: int, answer: Any
) -> None:
    narrowed(client)
    Leader.status, Leader.answer = status, answer
    made = client.post("/v1/commits", json=WIDER)
    assert made.status_code == 201, made.text
    assert codes(made) == ["running-unknown"]
    assert made.json()["problems"][0]["severity"] == "warning"


def test_a_whole_answer_leaves_no_doubt_and_what_asks_no_history_asks_nobody(
    client: TestClient[Any],
) -> None:
    narrowed(client)
    Leader.answer = {"whole": True, "services": {"shop": []}}
    assert codes(client.post("/v1/commits", json=WIDER)) == []
    assert Leader.asked == ["/v1/running"]
    for environment in ("production", "staging"):
        body = {"policy": {"compatibility": "NONE"}}
        client.put(f"/v1/environments/{environment}/policy", json=body)
    change_token(client)
    assert codes(client.post("/v1/commits", json={"documents": documents(SHOP)})) == []
    assert Leader.asked == []


def test_a_leader_that_hangs_holds_up_a_change_once_and_not_for_long(
    client: TestClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "WAIT_S", 0.5)
    narrowed(client)
    Leader.hangs.clear()
    made = client.post("/v1/commits", json=WIDER)
    assert made.status_code == 201
    assert codes(made) == ["running-unknown"]
    eventually(lambda: figure(client, "holdfast_running_versions_failed_total"))
    assert client.post("/v1/changes/check", json=WIDER).status_code == 200
    assert len(Leader.asked) == 1


def test_the_leader_tells_only_writers_and_says_when_it_can_not_know_all(parts: Parts) -> None:
    now_s = time.time()
    control = node(parts, "one", clock=lambda: now_s)
    with TestClient(create_app(control)) as client:
        eventually(lambda: control.leader.leads and control.ready)
        client.headers["Authorization"] = f"Bearer {control.first_token('admin')}"
        revision = narrowed(client)
        report = {
            "consumer": "consumer-1", "service": "shop", "environment": "production",
            "kind": "sdk", "build": "holdfast/1", "sequence": 1, "at_ms": 0,
            "application": "web 7", "revision": revision,
        }  # fmt: skip
        assert client.post("/v1/reports", json={"reports": [report]}).status_code == 202
        assert client.get("/v1/running").json() == telling(revision, whole=False)
        checked = client.post("/v1/changes/check", json=WIDER)
        assert {"running-unknown"} < set(codes(checked))
        now_s += SETTLE_S
        assert client.get("/v1/running").json() == telling(revision)
        assert "running-unknown" not in codes(client.post("/v1/changes/check", json=WIDER))

        def issued(verb: str, service: str) -> dict[str, str]:
            scopes = [{"verbs": [verb], "service": service}]
            made = client.post("/v1/tokens", json={"name": "a", "scopes": scopes})
            return {"Authorization": f"Bearer {made.json()['token']}"}

        assert client.get("/v1/running", headers=issued("read", "shop")).status_code == 403
        other = client.get("/v1/running", headers=issued("write", "mail")).json()
        assert other == {"whole": True, "services": {}}
