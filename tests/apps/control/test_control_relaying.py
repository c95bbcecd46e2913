"""A node that follows, beside a leader that hangs, or has not read yet what this one knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from a_control_plane import MAIL, SHOP, Clock, Plane
from litestar.testing import TestClient
from test_control_plane import eventually

from holdfast.adapters.memory import MemoryLeases
from holdfast.adapters.signing import Keys
from holdfast.apps.control import relaying as relaying_module
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import Parts, memory_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.control.relaying import HANGS_S, UNKNOWN_S, Circuit, Relaying
from holdfast.apps.settings import ControlSettings
from holdfast.core.reports import ConsumerReport
from holdfast.ports import Lease

OWN_URL = "http://follower.example:8010"
VIEWS = ("/v1/fleet", "/v1/rollouts", "/v1/fleet?service=shop")


class Asked(msgspec.Struct):
    method: str
    path: str
    body: bytes


class Leading(ThreadingHTTPServer):
    """A node that leads, as others see it: `answer` gives a status, or waits."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], int] = lambda _: 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def views(self) -> list[Asked]:
        return [each for each in self.asked if each.path.startswith(("/v1/fleet", "/v1/rollouts"))]

    def reports(self) -> list[Asked]:
        return [each for each in self.asked if each.method == "POST"]


class Handler(BaseHTTPRequestHandler):
    server: Leading

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        asked = Asked(self.command, self.path, body)
        self.server.asked.append(asked)
        self.send_response(self.server.answer(asked))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def leading() -> Iterator[Leading]:
    """Another node at a real address; it holds no lease yet."""
    server = Leading()
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return memory_parts(Keys.init(tmp_path, development=True))


@contextmanager
def follower(parts: Parts, url: str) -> Iterator[Plane]:
    """A node that knows that the one at `url` leads."""
    assert parts.leases.take("the-leader", url, 3_600.0)
    settings = ControlSettings(
        development=True,
        requests_per_s_max=100_000,
        store="memory://shared",
        node="follower",
        advertise=OWN_URL,
    )
    control = Control(settings, msgspec.structs.replace(parts, close=lambda: None), time.time)
    app = create_app(control)
    with TestClient(app) as client:
        eventually(lambda: control.leader.elsewhere and control.ready)
        yield Plane(control, app, client)


def figure(plane: Plane, name: str) -> float:
    lines = plane.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def report(consumer: str, service: str = "shop") -> ConsumerReport:
    return ConsumerReport(
        consumer=consumer.ljust(8, "-"),
        service=service,
        environment="production",
        kind="sdk",
        build="holdfast/0",
        sequence=1,
        at_ms=0,
    )


# Views


def test_who_hangs_is_asked_once_in_a_while_and_tried_by_one_alone() -> None:
    circuit = Circuit()
    assert circuit.asks(0.0)
    assert circuit.asks(0.0), "nobody hangs: everybody asks"
    circuit.ended(2.0, answered=False)
    circuit.ended(2.1, answered=False)
    assert not circuit.asks(2.1 + HANGS_S - 0.1)
    assert circuit.asks(2.1 + HANGS_S)
    assert not circuit.asks(2.1 + HANGS_S), "one tries, the others see what comes of it"
    circuit.ended(4.1 + HANGS_S, answered=False)
    assert not circuit.asks(4.1 + 2 * HANGS_S - 0.1)
    assert circuit.asks(4.1 + 2 * HANGS_S)
    circuit.ended(4.2 + 2 * HANGS_S, answered=True)
    assert circuit.asks(4.2 + 2 * HANGS_S)
    assert circuit.asks(4.2 + 2 * HANGS_S)


def test_one_who_tried_and_never_came_back_keeps_nobody_from_trying() -> None:
    circuit = Circuit()
    circuit.ended(0.0, answered=False)
    assert circuit.asks(HANGS_S)
    assert not circuit.asks(2 * HANGS_S - 0.1)
    assert circuit.asks(2 * HANGS_S)


def test_a_leader_that_hangs_is_waited_for_once(
    parts: Parts, leading: Leading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever is answered without it is told so."""
    monkeypatch.setattr(relaying_module, "HANGS_S", 3_600.0)  # for longer than any machine is busy
    goes_on = threading.Event()

    def hang(_: Asked) -> int:
        goes_on.wait(60.0)
        return 200

    leading.answer = hang
    with follower(parts, leading.url) as plane:
        for path in (*VIEWS, *VIEWS):
            answer = plane.client.get(path)
            assert answer.status_code == 200
            assert answer.headers["holdfast-alone"] == "1"
            assert answer.headers["holdfast-answered-by"] == OWN_URL
        assert len(leading.views()) == 1
        assert figure(plane, "holdfast_views_alone_total") == 2 * len(VIEWS)
        goes_on.set()


def test_another_node_that_leads_by_then_is_asked_at_once(parts: Parts, leading: Leading) -> None:
    nobody = "http://127.0.0.1:9"  # the port of `discard`
    with follower(parts, nobody) as plane:
        assert plane.client.get("/v1/fleet").headers["holdfast-alone"] == "1"
        assert isinstance(parts.leases, MemoryLeases)
        with parts.leases.lock:  # or this node may be the next one
            parts.leases.give_up(Lease(parts.leases.token, "the-leader"))
            assert parts.leases.take("the-next-one", leading.url, 3_600.0)
        eventually(lambda: plane.control.leader.elsewhere == leading.url)
        answer = plane.client.get("/v1/fleet")
        assert answer.headers["holdfast-answered-by"] == leading.url
        assert "holdfast-alone" not in answer.headers


# Reports


def test_a_token_that_the_leader_has_not_read_yet_is_told_where_it_is(
    parts: Parts, leading: Leading
) -> None:
    leading.answer = lambda asked: 202 if "?at_least=" in asked.path else 401
    with follower(parts, leading.url) as plane:
        plane.commit(SHOP)
        body = {"reports": [msgspec.to_builtins(report("one"))]}
        plane.ok("POST", "/v1/reports", json=body)
        eventually(lambda: figure(plane, "holdfast_relayed_reports_sent_total") == 1)
        assert figure(plane, "holdfast_relayed_reports_refused_total") == 0
        head = plane.control.state().head.revision
        assert leading.reports()[-1].path == f"/v1/reports?at_least={head}"


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_the_leader_does_not_know_waits_and_keeps_nobody_else_waiting(
    parts: Parts, leading: Leading, status: int
) -> None:
    refusing = threading.Event()
    refusing.set()

    def judge(asked: Asked) -> int:
        return status if refusing.is_set() and b"new-----" in asked.body else 202

    leading.answer = judge
    clock = Clock()
    with follower(parts, leading.url) as plane:
        relaying = Relaying(plane.control.leader, lambda: 7, clock)
        relaying.owe("hf_new", [report("new")])
        relaying.owe("hf_old", [report("old")])
        relaying.start()
        eventually(lambda: relaying.sent == 1 and len(leading.asked) >= 6)
        assert (relaying.refused, relaying.failed) == (0, 0)
        refusing.clear()
        eventually(lambda: relaying.sent == 2)

        refusing.set()
        relaying.owe("hf_new", [report("new")])
        asked = len(leading.asked)
        eventually(lambda: len(leading.asked) >= asked + 4)
        assert relaying.refused == 0
        clock.now_s += UNKNOWN_S
        eventually(lambda: relaying.refused == 1)
        relaying.close()
        assert (relaying.sent, relaying.failed) == (2, 0)


def test_what_a_token_may_not_tell_pushes_out_nobodys_report(
    parts: Parts, leading: Leading
) -> None:
    leading.answer = lambda _: 503
    with follower(parts, leading.url) as plane:
        plane.commit(SHOP, MAIL)
        plane.ok("POST", "/v1/reports", json={"reports": [msgspec.to_builtins(report("victim"))]})
        reader = plane.token({"verbs": ["read"], "service": "mail"})
        newer = msgspec.structs.replace(report("victim"), sequence=99)
        both = [msgspec.to_builtins(each) for each in (newer, report("own", "mail"))]
        headers = plane.bearing(reader)
        taken = plane.ok("POST", "/v1/reports", json={"reports": both}, headers=headers)
        assert taken == {"taken": 1}
        leading.asked.clear()
        leading.answer = lambda _: 202
        eventually(lambda: figure(plane, "holdfast_relayed_reports_sent_total") == 2)
        told = [
            (each["consumer"], each["sequence"])
            for asked in leading.reports()
            for each in msgspec.json.decode(asked.body)["reports"]
        ]
        assert sorted(set(told)) == [("own-----", 1), ("victim--", 1)]


class Faulty(MemoryLeases):
    """Leases whose adapter raises what nobody foresaw, while `fails`."""

    fails = False

    def current(self) -> Lease | None:
        if self.fails:
            raise OSError("no route to the store")
        return super().current()


def test_an_error_that_nobody_foresaw_keeps_no_report_for_good(
    parts: Parts, leading: Leading
) -> None:
    leases = Faulty()
    leading.answer = lambda _: 202
    with follower(msgspec.structs.replace(parts, leases=leases), leading.url) as plane:
        plane.control.leader.resign()
        leases.fails = True
        relaying = plane.control.relaying
        relaying.owe("hf_one", [report("one")])
        eventually(lambda: relaying.failed)
        leases.fails = False
        eventually(lambda: relaying.sent == 1)


def test_a_node_whose_lease_can_not_be_asked_for_says_so(parts: Parts, leading: Leading) -> None:
    leases = Faulty()
    with follower(msgspec.structs.replace(parts, leases=leases), leading.url) as plane:
        leases.fails = True
        eventually(lambda: figure(plane, "holdfast_leader_faults_total"))
        leases.fails = False
        lease = leases.current()
        assert lease is not None
        leases.give_up(lease)
        eventually(lambda: plane.control.leader.leads)


def test_a_leader_that_can_not_be_reached_where_it_says_is_done_without(parts: Parts) -> None:
    with follower(parts, "http://[") as plane:
        assert plane.client.get("/v1/fleet").headers["holdfast-alone"] == "1"
        plane.control.relaying.owe("hf_one", [report("one")])
        eventually(lambda: figure(plane, "holdfast_relayed_reports_failed_total"))
        eventually(lambda: figure(plane, "holdfast_relayed_reports_waiting") == 1)
