"""Two control planes on one store, in one process: what each does alone, and what one does for all.

What crosses processes is in `tests/end_to_end/test_leading_nodes.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from a_control_plane import SHOP, Clock, documents
from litestar.testing import TestClient
from test_control_plane import eventually

import holdfast.apps.control.api  # noqa: F401  two nodes of one process must not import it at once
from holdfast.adapters.memory import MemoryJournal
from holdfast.adapters.signing import Keys
from holdfast.apps.control.app import create_app
from holdfast.apps.control.leader import SOLE
from holdfast.apps.control.parts import Parts, memory_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings, problems_of
from holdfast.core.errors import Fenced
from holdfast.ports import Lease


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return memory_parts(Keys.init(tmp_path, development=True))


def node(parts: Parts, name: str, clock: Callable[[], float] = time.time) -> Control:
    """One node on those stores, which outlive it."""
    settings = ControlSettings(
        development=True, requests_per_s_max=100_000, store="memory://shared", node=name
    )
    return Control(settings, msgspec.structs.replace(parts, close=lambda: None), clock)


def figure(client: TestClient[Any], name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


REPORT = {
    "consumer": "consumer-1",
    "service": "shop",
    "environment": "production",
    "kind": "sdk",
    "build": "holdfast/0",
    "sequence": 1,
    "at_ms": 0,
}


def test_one_leads_and_both_write(parts: Parts) -> None:
    one, two = node(parts, "one"), node(parts, "two")
    with TestClient(create_app(one)) as first:
        eventually(lambda: one.leader.leads)
        with TestClient(create_app(two)) as second:
            eventually(lambda: two.ready and figure(second, "holdfast_lease_refusals_total"))
            token = one.first_token("admin")
            two.view.catch_up()
            for client, count in ((first, 2), (second, 3)):
                client.headers["Authorization"] = f"Bearer {token}"
                made = client.put(f"/v1/environments/env-{count}", json={})
                assert made.status_code == 200
            assert (figure(first, "holdfast_leader"), figure(second, "holdfast_leader")) == (1, 0)
            assert figure(second, "holdfast_fencing_token") == 1
            with pytest.raises(Fenced):
                two.leader.fence()
        assert parts.leases.current() is not None
    assert parts.leases.current() is None, "it was given up"


def test_a_name_that_two_processes_share_makes_no_two_leaders(parts: Parts) -> None:
    one, two = node(parts, "same"), node(parts, "same")
    with TestClient(create_app(one)):
        eventually(lambda: one.leader.leads)
        with TestClient(create_app(two)) as second:
            eventually(lambda: figure(second, "holdfast_lease_refusals_total"))
            assert not two.leader.leads


def test_a_node_alone_on_its_directory_leads_again_at_once_after_it_died(parts: Parts) -> None:
    """Nobody else can have led meanwhile; its lease is still running."""
    lease = parts.leases.take(SOLE, "", 3_600.0)
    settings = ControlSettings(development=True, port=8_011)
    control = Control(settings, msgspec.structs.replace(parts, close=lambda: None), time.time)
    with TestClient(create_app(control)):
        eventually(lambda: control.leader.leads)
        assert lease is not None
        assert control.leader.fence() == lease.token


def test_a_schedule_falls_due_once_and_on_the_node_that_leads(parts: Parts) -> None:
    one, two = node(parts, "one"), node(parts, "two")
    with TestClient(create_app(one)) as first, TestClient(create_app(two)) as second:
        token = one.first_token("admin")
        two.view.catch_up()
        second.headers["Authorization"] = f"Bearer {token}"
        assert second.put("/v1/environments/production", json={}).status_code == 200
        assert second.put("/v1/environments/staging", json={}).status_code == 200
        change = {"documents": documents(SHOP), "reason": "a schedule"}
        made = second.post("/v1/changes", json=change).json()
        due = {"at_s": int(time.time())}
        assert second.put(f"/v1/changes/{made['id']}/schedule", json=due).status_code == 200
        eventually(lambda: second.get(f"/v1/changes/{made['id']}").status_code == 404)

        def told() -> list[float]:
            """By who leads: the change goes before it is counted."""
            return [
                figure(each, 'holdfast_scheduled_total{outcome="committed"}')
                for each, leads in ((first, one), (second, two))
                if leads.leader.leads
            ]

        eventually(lambda: told() == [1.0])
        reasons = [entry.reason for entry in parts.journal.read()]
        assert reasons.count("a schedule") == 1


def test_a_fault_ends_no_task_of_the_leader(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep no schedule any more, and lead on."""
    one = node(parts, "one")
    tried: list[int] = []

    def run_due(fence: int) -> None:
        tried.append(fence)
        raise KeyError("a fault of the program")

    monkeypatch.setattr(one.proposals, "run_due", run_due)
    with TestClient(create_app(one)):
        eventually(lambda: len(tried) > 1)


def test_what_a_leader_of_old_writes_is_refused_counted_and_ends_its_term(parts: Parts) -> None:
    clock = Clock()
    one = node(parts, "one", clock=clock)
    with TestClient(create_app(one)) as client:
        eventually(lambda: one.leader.leads)
        client.headers["Authorization"] = f"Bearer {one.first_token('admin')}"
        edit = {"type": "put-environment", "environment": "late", "to": {}}
        made = client.post("/v1/changes", json={"edits": [edit]}).json()
        due = {"at_s": int(clock.now_s) + 100}
        assert client.put(f"/v1/changes/{made['id']}/schedule", json=due).status_code == 200

        fence = one.leader.fence()
        parts.leases.give_up(Lease(fence, ""))
        newer = parts.leases.take("another", "", 3_600.0)
        clock.now_s += 100
        head = parts.journal.head()
        with pytest.raises(Fenced):
            one.proposals.run_due(fence)

        eventually(lambda: not one.leader.leads)
        assert newer is not None
        assert figure(client, "holdfast_fenced_writes_total") >= 1
        assert figure(client, "holdfast_fencing_token") == newer.token
        assert parts.journal.head() == head
        assert client.get(f"/v1/changes/{made['id']}").json()["change"]["status"] == "scheduled"


def test_nodes_that_start_at_once_put_the_roots_once(parts: Parts) -> None:
    """The second one looked for what is missing before the first had put it."""
    behind = Keys.missing_from
    one = node(parts, "one")
    looked: list[int] = []

    def before(keys: Keys, roots: Any) -> Any:
        looked.append(len(roots))
        return behind(keys, () if len(looked) == 1 else roots)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keys, "missing_from", before)
        two = node(parts, "two")
    assert len(looked) > 1
    assert len(one.state().roots) == len(two.state().roots) == 1


class Leader(BaseHTTPRequestHandler):
    """A node that leads, as others see it: takes what comes, and says it to `seen`."""

    seen: ClassVar[list[tuple[str, str, dict[str, str]]]] = []
    status = 202

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b'{"taken": 1}')

    def do_GET(self) -> None:
        self._answer(b'{"of": "the leader"}')

    def _answer(self, body: bytes) -> None:
        self.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def leader(parts: Parts) -> Iterator[ThreadingHTTPServer]:
    """Another node that holds the lease, at a real address."""
    Leader.seen, Leader.status = [], 202
    server = ThreadingHTTPServer(("127.0.0.1", 0), Leader)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    parts.leases.take("the-leader", f"http://127.0.0.1:{server.server_port}", 3_600.0)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def following(control: Control, client: TestClient[Any]) -> None:
    """Until it knows who leads; the client is an administrator from then on."""
    eventually(lambda: control.leader.elsewhere and control.ready)
    client.headers["Authorization"] = f"Bearer {control.first_token('admin')}"


def test_reports_go_to_the_leader_with_the_token_they_came_with(
    parts: Parts, leader: ThreadingHTTPServer
) -> None:
    control = node(parts, "two")
    with TestClient(create_app(control)) as client:
        following(control, client)
        assert client.post("/v1/reports", json={"reports": [REPORT]}).status_code == 202
        eventually(lambda: Leader.seen)
        (method, path, headers), *_ = Leader.seen
        assert (method, path, headers["holdfast-hop"]) == ("POST", "/v1/reports", "1")
        assert headers["authorization"] == client.headers["Authorization"]
        assert control.fleet.remembered == 1, "this node knows it too, if it leads next"


def test_reports_wait_for_a_leader_that_does_not_answer(
    parts: Parts, leader: ThreadingHTTPServer
) -> None:
    Leader.status = 503
    control = node(parts, "two")
    with TestClient(create_app(control)) as client:
        following(control, client)
        client.post("/v1/reports", json={"reports": [REPORT]})
        eventually(lambda: figure(client, "holdfast_relayed_reports_failed_total"))
        eventually(lambda: figure(client, "holdfast_relayed_reports_waiting") == 1)
        Leader.status = 202
        eventually(lambda: figure(client, "holdfast_relayed_reports_sent_total") == 1)
        assert figure(client, "holdfast_relayed_reports_waiting") == 0


def test_reports_wait_until_somebody_leads(parts: Parts, leader: ThreadingHTTPServer) -> None:
    """A node that leads no more is no leader to itself: what it hears is for the next one."""
    lease = parts.leases.current()
    assert lease is not None
    parts.leases.give_up(lease)
    control = node(parts, "one")
    with TestClient(create_app(control)) as client:
        eventually(lambda: control.leader.leads and control.ready)
        client.headers["Authorization"] = f"Bearer {control.first_token('admin')}"
        control.leader.resign()
        eventually(lambda: parts.leases.current() is None)
        client.post("/v1/reports", json={"reports": [REPORT]})
        assert figure(client, "holdfast_relayed_reports_waiting") == 1
        parts.leases.take("the-leader", lease.url, 3_600.0)
        eventually(lambda: figure(client, "holdfast_relayed_reports_sent_total") == 1)
        assert [each[:2] for each in Leader.seen] == [("POST", "/v1/reports")]


def test_views_are_asked_of_the_leader_and_answered_here_without_one(
    parts: Parts, leader: ThreadingHTTPServer
) -> None:
    Leader.status = 200
    control = node(parts, "two")
    with TestClient(create_app(control)) as client:
        following(control, client)
        client.post("/v1/reports", json={"reports": [REPORT]})
        eventually(lambda: Leader.seen)
        for path in ("/v1/fleet?service=shop", "/v1/rollouts", "/v1/rollouts/production.3"):
            answer = client.get(path)
            assert answer.json() == {"of": "the leader"}
            assert answer.headers["holdfast-answered-by"].startswith("http://127.0.0.1:")
            plain, _, query = path.partition("?")
            asked_for = f"{plain}?at_least={control.state().head.revision}"
            assert Leader.seen[-1][:2] == ("GET", f"{asked_for}&{query}" if query else asked_for)
        asked = len(Leader.seen)
        hop = {"holdfast-hop": "1"}
        assert client.get("/v1/fleet", headers=hop).json()["summary"]["consumers"] == 1
        nobody = {"Authorization": "Bearer hf_wrong"}
        assert client.get("/v1/fleet", headers=nobody).status_code == 401
        assert len([each for each in Leader.seen if each[0] == "GET"]) <= asked
        for status in (401, 403, 404, 429, 500, 503):
            Leader.status = status  # it has not read yet what this node has, or it is busy
            assert client.get("/v1/fleet").json()["summary"]["consumers"] == 1


def test_a_store_that_was_moved_says_so_and_changes_nothing(parts: Parts) -> None:
    control = node(parts, "one")
    with TestClient(create_app(control)) as client:
        eventually(lambda: control.ready)
        client.headers["Authorization"] = f"Bearer {control.first_token('admin')}"
        before = parts.journal.head()
        assert isinstance(parts.journal, MemoryJournal)
        assert parts.journal.mark("frozen: moved to etcd://user@h1:2379", "")
        answer = client.put("/v1/environments/e", json={"reason": "one more", "bucketing": "v3"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store-marked")
        assert "Nothing was changed" in answer.json()["error"]["message"]
        assert "h1" not in answer.text, "a mark may name hosts"
        assert parts.journal.head() == before


@pytest.mark.parametrize(
    ("named", "code"),
    [({"node": "a b"}, "bad-node"), ({"advertise": "control:8010"}, "bad-advertise")],
)
def test_what_can_be_no_node_is_refused(named: dict[str, str], code: str) -> None:
    (problem,) = problems_of(ControlSettings(**named))  # type: ignore[arg-type]
    assert problem.code == code
