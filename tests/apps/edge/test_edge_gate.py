"""The gate of an edge: what a request asks, who asks it, and the bytes of a refusal."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import DEADLINE_S, Answered, Raw, call, running
from upstream import READ, World

from conftest import Edges
from holdfast.apps.address import Address
from holdfast.apps.edge.asked import asked
from holdfast.apps.edge.cors import Cors
from holdfast.apps.edge.gate import TARGETS_MAX, EdgeGate
from holdfast.apps.edge.process import Edge
from holdfast.apps.heads import Known
from holdfast.apps.http import Request
from holdfast.apps.serve import Server
from holdfast.apps.settings import EdgeSettings, problems_of
from holdfast.core.admission import Rank
from holdfast.core.errors import Invalid
from holdfast.core.pacing import pace_s

SINGLE = "/production/shop/ofrep/v1/evaluate/flags/banner"
BULK = "/production/shop/ofrep/v1/evaluate/flags"
SNAPSHOT = "/production/shop/snapshot"
BODY = json.dumps({"context": {"targetingKey": "u1"}})


class Clock:
    """Stands still unless it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def crowd(gate: EdgeGate, clock: Clock) -> None:
    """Batches that take 10 s each: whoever comes next has waited as long."""
    for _ in range(2):
        clock.now_s += 10.0
        gate.batch(10.0, 1)


def eventually(status: int, ask: Callable[[], Answered]) -> Answered:
    """Its first answer of that status; the batch of the one before may not be over yet."""
    answers = (ask() for _ in range(100))
    return next(answer for answer in answers if answer.status == status)


def in_a_crowd(gate: EdgeGate, clock: Clock, ask: Callable[[], Answered]) -> Answered:
    """The refusal of a request that comes in a crowd."""

    def crowded() -> Answered:
        crowd(gate, clock)
        return ask()

    return eventually(503, crowded)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(shop: Edge, clock: Clock) -> EdgeGate:
    return EdgeGate(shop.table, shop.door, Cors(("https://a.example",)), 0.005, clock)


@pytest.fixture
def guarded(shop: Edge, gate: EdgeGate) -> Iterator[int]:
    """The shop's edge behind a gate whose clock stands; the port."""
    server = Server(shop.face, Address("127.0.0.1", 0, shutdown_s=1), gate=gate)
    with running(server):
        yield server.port


# -- what is asked


@pytest.mark.parametrize(
    ("target", "rank", "renewal", "place"),
    [
        ("/healthz", Rank.IMPORTANT, Rank.IMPORTANT, "healthz"),
        ("/metrics", Rank.IMPORTANT, Rank.IMPORTANT, "metrics"),
        ("/v1/catalogue", Rank.IMPORTANT, Rank.IMPORTANT, "catalogue"),
        ("/v1/push/abc", Rank.IMPORTANT, Rank.IMPORTANT, "push"),
        (f"{SNAPSHOT}?have={'0' * 64}", Rank.IMPORTANT, Rank.IMPORTANT, "production/shop"),
        (SNAPSHOT, Rank.EXPORT, Rank.IMPORTANT, "production/shop"),
        (f"{SNAPSHOT}?have=x", Rank.EXPORT, Rank.IMPORTANT, "production/shop"),
        ("/production/shop/segments/abc", Rank.IMPORTANT, Rank.IMPORTANT, "production/shop"),
        (SINGLE, Rank.INTERACTIVE, Rank.INTERACTIVE, "production/shop"),
        ("/production/shop/ofrep/v1/stream", Rank.INTERACTIVE, Rank.INTERACTIVE, "production/shop"),
        ("/v1/stream", Rank.INTERACTIVE, Rank.INTERACTIVE, "stream"),
        (BULK, Rank.BULK, Rank.BULK, "production/shop"),
        ("/config/v1/teams/1.0?agents=a", Rank.BULK, Rank.BULK, "config"),
        ("/v1/reports", Rank.EXPORT, Rank.EXPORT, "other"),
        ("/nothing/here", Rank.EXPORT, Rank.EXPORT, "other"),
    ],
)
def test_what_a_target_asks(target: str, rank: Rank, renewal: Rank, place: str) -> None:
    found = asked(target.encode())
    assert (found.rank, found.renewal, found.place) == (rank, renewal, place)


@given(st.binary(max_size=200))
def test_any_target_is_read(target: bytes) -> None:
    assert asked(target).rank in Rank


# -- on the wire


def post(connection: http.client.HTTPConnection, target: str) -> Answered:
    connection.request("POST", target, BODY, READ)
    return Answered(connection.getresponse())


def test_a_refusal_is_an_answer_on_a_connection_that_stays(
    guarded: int, gate: EdgeGate, clock: Clock
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", guarded, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        assert post(connection, SINGLE).status == 200
        before = connection.sock
        refused = in_a_crowd(gate, clock, lambda: post(connection, SINGLE))
        assert refused.json()["errorCode"] == "GENERAL"
        assert 1 <= int(refused.headers["retry-after"]) <= 300
        assert pace_s(refused.headers["holdfast-pace"]) >= 1
        assert refused.headers["cache-control"] == "no-store"
        again = eventually(200, lambda: post(connection, SINGLE))
        assert again.json()["value"] is False
        assert connection.sock is before


def test_our_own_routes_are_refused_in_our_own_shape(
    guarded: int, gate: EdgeGate, clock: Clock
) -> None:
    refused = in_a_crowd(gate, clock, lambda: call(guarded, "GET", SNAPSHOT, headers=READ))
    assert refused.json()["error"]["code"] == "overloaded"


def test_who_looks_after_an_edge_is_answered_in_any_crowd(
    guarded: int, gate: EdgeGate, clock: Clock
) -> None:
    in_a_crowd(gate, clock, lambda: call(guarded, "GET", "/metrics"))
    for route in ("/healthz", "/readyz") * 20:
        crowd(gate, clock)
        assert call(guarded, "GET", route).status == 200


def test_a_head_request_is_refused_without_a_body(
    guarded: int, gate: EdgeGate, clock: Clock
) -> None:
    with Raw(guarded) as raw:
        crowd(gate, clock)  # nothing was asked here before, so no batch is open
        raw.send(f"HEAD {SNAPSHOT} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert b" 503 " in raw.read_until(b"\r\n\r\n")
        raw.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert raw.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 ")


def test_a_refused_body_in_pieces_is_read_and_dropped(
    guarded: int, gate: EdgeGate, clock: Clock
) -> None:
    with Raw(guarded) as raw:
        crowd(gate, clock)
        head = f"POST {BULK} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n\r\n"
        raw.send(head.encode() + BODY[:5].encode())
        raw.send(BODY[5:].encode())
        assert b" 503 " in raw.read_until(b"\r\n\r\n")
        raw.read_until(b"}")
        raw.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert raw.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 ")


def test_a_page_may_read_its_refusal(guarded: int, gate: EdgeGate, clock: Clock) -> None:
    origin = {"origin": "https://a.example"}
    refused = in_a_crowd(gate, clock, lambda: call(guarded, "POST", BULK, BODY, READ | origin))
    assert refused.headers["access-control-allow-origin"] == origin["origin"]
    assert "retry-after" in refused.headers["access-control-expose-headers"]
    crowd(gate, clock)
    assert call(guarded, "OPTIONS", BULK, headers=origin).status == 204


def test_those_who_are_refused_together_come_back_apart(gate: EdgeGate, clock: Clock) -> None:
    crowd(gate, clock)
    gate._refusals.press(16.0)
    headers = [(b"authorization", READ["authorization"].encode())]
    told = []
    for _ in range(32):
        refused = gate.admit(b"POST", BULK.encode(), headers, 9.0)
        assert refused is not None
        told.append(int(refused.partition(b"retry-after: ")[2].partition(b"\r\n")[0]))
    assert len(set(told)) >= 12
    assert all(first != then for first, then in pairwise(told))


def test_who_asks_the_same_in_one_batch_is_refused_alike_and_counted(
    gate: EdgeGate, clock: Clock
) -> None:
    crowd(gate, clock)
    gate._refusals.press(16.0)
    headers = [(b"authorization", READ["authorization"].encode())]
    known = Known(b"", Request("POST", BULK, "", headers, BODY.encode()), BULK.encode())
    for again in (3, 0, 20):
        before, wanted_s = gate.admission.refusals, gate.admission.tokens.wanted_s
        refused = gate.admit(b"POST", BULK.encode(), headers, 9.0, known)
        assert refused is not None
        assert refused == known.refusals[0]
        assert len(set(known.refusals)) >= 12, "who comes next comes back at another time"
        price_s = gate.admission.tokens.wanted_s - wanted_s
        gate.again(known, again)
        assert gate.admission.refusals == before + 1 + again
        assert sum(map(sum, gate.admission.refused)) == gate.admission.refusals
        wanted_in_all_s = gate.admission.tokens.wanted_s - wanted_s
        assert wanted_in_all_s == pytest.approx((1 + again) * price_s)


def test_a_page_is_asked_about_each_time(gate: EdgeGate, clock: Clock) -> None:
    crowd(gate, clock)
    headers = [(b"origin", b"https://a.example")]
    known = Known(b"", Request("POST", BULK, "", headers, BODY.encode()), BULK.encode())
    assert gate.admit(b"POST", BULK.encode(), headers, 9.0, known) is not None
    assert not known.refusals


# -- who asks


def callers(gate: EdgeGate, clock: Clock, values: list[str]) -> int:
    """How many callers the gate tells apart when all of these ask in a crowd."""
    crowd(gate, clock)
    for value in values:
        gate.admit(b"GET", SNAPSHOT.encode(), [(b"authorization", value.encode())], 1.0)
    crowd(gate, clock)
    return len(gate.admission.tokens)


def test_a_token_is_one_caller_however_it_is_written(
    shop: Edge, gate: EdgeGate, clock: Clock
) -> None:
    text = READ["authorization"].partition(" ")[2]
    for headers in (READ, {"authorization": f"bearer  {text}"}):
        assert call(shop.listener.port, "POST", SINGLE, BODY, headers).status == 200
    assert callers(gate, clock, [f"Bearer {text}", f"bearer  {text}"]) == 1
    assert callers(gate, clock, [f"Bearer {text}", "Bearer hf_made_up"]) == 2


def test_names_that_nobody_proved_are_one_stranger(gate: EdgeGate, clock: Clock) -> None:
    assert callers(gate, clock, [f"Bearer hf_made_up_{number}" for number in range(9)]) == 1


def test_targets_are_remembered_within_a_bound(gate: EdgeGate, clock: Clock) -> None:
    crowd(gate, clock)
    for number in range(TARGETS_MAX + 10):
        assert gate.admit(b"GET", b"/made-up/%d" % number, [], 9.0) is not None
    assert gate.forgotten == 1
    assert len(gate._targets) <= TARGETS_MAX
    assert gate.admit(b"GET", b"/" + b"x" * 600, [], 9.0) is not None


# -- as a part of the edge


def test_an_edge_tells_what_its_gate_decides(shop: Edge) -> None:
    told = call(shop.listener.port, "GET", "/metrics").body.decode()
    assert "holdfast_admission_armed 1.0" in told
    assert 'holdfast_admission_decisions_total{decision="share",rank="bulk"} 0.0' in told
    assert 'holdfast_admission_changes_total{state="disarmed"} 0.0' in told


@pytest.mark.parametrize("settings", [{"admission": False}, {"unprotected": True}])
def test_it_can_be_switched_off(
    world: World, edges: Edges, tmp_path: Path, settings: dict[str, bool]
) -> None:
    with world.serving() as upstream, edges(tmp_path, upstream.port, **settings) as edge:
        assert edge.gate is None
        told = call(edge.listener.port, "GET", "/metrics").body.decode()
        assert "holdfast_admission_armed 0.0" in told


@pytest.mark.parametrize("budget_s", [0.0, -1.0, 11.0, float("nan")])
def test_a_wait_budget_that_can_not_be_meant(budget_s: float) -> None:
    problems = problems_of(EdgeSettings(wait_budget_s=budget_s))
    assert [problem.code for problem in problems] == ["bad-wait-budget"]
    with pytest.raises(Invalid):
        Edge(EdgeSettings(wait_budget_s=budget_s))
