"""What only one node does, with real processes on one store: what comes to any node reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.adapters.http_relay import HttpRelay
from holdfast.gameday.drill import Day
from holdfast.gameday.etcd import EtcdCluster
from holdfast.gameday.nodes import Nodes
from holdfast.gameday.patches import defects, own, patched_tree
from holdfast.gameday.postgres import Postgres
from holdfast.gameday.processes import Answered, Build, ask, until
from holdfast.gameday.promises.node_lost import figures, leader

DEADLINE_S = 60.0
CONSUMER = "consumer-"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Nodes]:
    """Two nodes on one SQLite store, nothing else yet."""
    with two_nodes(tmp_path, f"sqlite://{tmp_path / 'store'}") as made:
        yield made


def two_nodes(directory: Path, store: str) -> Nodes:
    day = Day(directory, seed=1, protected=True)
    return Nodes(day, dict.fromkeys(("node-a", "node-b"), store))


def begun(fleet: Nodes) -> tuple[str, str]:
    """The node that leads, and the other one."""
    fleet.begin(())
    leads = until(lambda: leader(fleet), "a leader", DEADLINE_S)
    (follows,) = fleet.nodes.keys() - {leads}
    until(lambda: figures(fleet, follows)["holdfast_lease_refusals_total"], "the other", DEADLINE_S)
    return leads, follows


def report(name: str, **more: Any) -> dict[str, Any]:
    subject = {"service": "shop", "environment": "production"}
    told = {"kind": "sdk", "build": "holdfast/0", "sequence": 1, "at_ms": 0}
    return {"consumer": CONSUMER + name, **subject, **told, **more}


def tell(fleet: Nodes, node: str, *reports: dict[str, Any], token: str | None = None) -> Answered:
    given = fleet.token if token is None else token
    return ask("POST", f"{fleet.node_urls[node]}/v1/reports", {"reports": reports}, given)


def known(fleet: Nodes, node: str) -> set[str]:
    """Consumers that a node knows itself, or has asked the leader for."""
    found = fleet.at(node, "GET", "/v1/fleet")
    return {one["report"]["consumer"].removeprefix(CONSUMER) for one in found.body["consumers"]}


def test_exactly_one_leads_and_what_came_to_another_reaches_it(fleet: Nodes) -> None:
    leads, follows = begun(fleet)
    assert figures(fleet, leads)["holdfast_fencing_token"] >= 1
    assert figures(fleet, follows)["holdfast_leader"] == 0
    roles = {one: fleet.at(one, "GET", "/readyz").body["role"] for one in (leads, follows)}
    assert roles == {leads: "leader", follows: "follower"}

    assert tell(fleet, follows, report("one")).status == 202
    assert tell(fleet, leads, report("two")).status == 202
    until(lambda: known(fleet, leads) == {"one", "two"}, "the reports", DEADLINE_S)
    shown = fleet.at(follows, "GET", "/v1/fleet")
    assert shown.headers["holdfast-answered-by"] == fleet.node_urls[leads]
    assert known(fleet, follows) == {"one", "two"}, "any node shows all of them"
    assert figures(fleet, follows)["holdfast_relayed_reports_sent_total"] == 1

    readers = {"scopes": [{"verbs": ["read"], "service": "shared"}], "name": "reader"}
    token = fleet.at(leads, "POST", "/v1/tokens", readers).body["token"]
    until(lambda: tell(fleet, follows, token=token).status == 202, "the token", DEADLINE_S)
    assert tell(fleet, follows, report("eve"), token=token).status == 403
    assert tell(fleet, follows, report("nobody"), token="").status in {202, 401}
    both = (report("more"), {**report("shared"), "service": "shared"})
    assert tell(fleet, follows, *both, token=token).body == {"taken": 1}
    until(lambda: "shared" in known(fleet, leads), "what the token may read", DEADLINE_S)
    assert not {"eve", "more"} & known(fleet, leads), "each node asks what the token may"


def test_what_was_handed_on_once_is_handed_on_no_more(fleet: Nodes) -> None:
    leads, follows = begun(fleet)
    hop = HttpRelay(fleet.node_urls[follows])
    body = msgspec.json.encode({"reports": [report("hopped")]})
    assert hop.ask("POST", "/v1/reports", fleet.token, body).status == 202
    assert tell(fleet, follows, report("later")).status == 202
    until(lambda: "later" in known(fleet, leads), "a report", DEADLINE_S)
    assert "hopped" not in known(fleet, leads)
    view = msgspec.json.decode(hop.ask("GET", "/v1/fleet", fleet.token).body)
    hop.close()
    seen = {one["report"]["consumer"] for one in view["consumers"]}
    assert CONSUMER + "hopped" in seen, "it tells what it knows itself"


def test_a_refusal_told_to_another_node_outlives_the_leader(fleet: Nodes) -> None:
    """The leader is stopped when it is told, and killed before it goes on."""
    leads, follows = begun(fleet)
    stages = [
        {"name": "half", "percent": 50.0, "bake_s": 3600.0},
        {"name": "all", "percent": 100.0},
    ]
    policy = {"policy": {"rollout": {"stages": stages}}, "reason": "a test"}
    assert fleet.at(leads, "PUT", "/v1/environments/production/policy", policy).status == 200
    edits = {"reason": "a test", "edits": [fleet.counter_edit(77)]}
    made = fleet.at(follows, "POST", "/v1/commits", edits)
    revision = made.body["revision"]
    rollout = f"/v1/rollouts/production.{revision}"
    fleet.stop(leads)
    refusal = {"revision": revision, "digest": "d" * 64, "code": "schema", "message": "no"}
    told = report("one", refusals=[{**refusal, "at_ms": 0}])
    assert tell(fleet, follows, told).status == 202
    fleet.cont(leads)
    fleet.nodes[leads].kill()
    until(
        lambda: fleet.at(follows, "GET", rollout).body["rollout"]["status"] == "rolled-back",
        "the rollback under the next leader",
        DEADLINE_S,
    )
    assert leader(fleet) == follows


def test_a_build_that_makes_other_bytes_stays_out_from_its_start(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", members=1) as etcd, two_nodes(tmp_path, etcd.url) as fleet:
        leads, follows = begun(fleet)
        fleet.nodes[follows].kill()
        fleet.nodes[follows].start(newer(tmp_path))
        check_stays_out(fleet, honest=leads, other=follows)
        fleet.nodes[follows].kill()
        fleet.nodes[follows].start(fleet.good)
        fleet.wait_node(follows)


def test_it_stays_out_as_soon_as_a_change_shows_it(tmp_path: Path) -> None:
    """Both start on an empty store, where nothing can be compared yet."""
    with Postgres() as server, two_nodes(tmp_path, server.url) as fleet:
        assert fleet.token
        fleet.nodes["node-b"].start(newer(tmp_path))
        fleet.begin(())
        check_stays_out(fleet, honest="node-a", other="node-b")


def newer(directory: Path) -> Build:
    (defect,) = [one for one in defects(own("defects")) if one.name == "control-wrong-default"]
    return Build("newer", patched_tree(directory / "newer", defect))


def check_stays_out(fleet: Nodes, honest: str, other: str) -> None:
    """One node is not ready and says why; the other one leads, serves and commits."""
    fault = until(lambda: departed(fleet, other), "its departure", DEADLINE_S)
    assert "This build signs and serves nothing" in fault["message"]
    until(lambda: leader(fleet) == honest, "the honest one leads", DEADLINE_S)
    edits = {"reason": "a test", "edits": [fleet.counter_edit(77)]}
    made = fleet.at(honest, "POST", "/v1/commits", edits)
    assert made.status == 201
    refused = fleet.at(other, "POST", "/v1/commits", edits)
    assert (refused.status, refused.body["error"]["code"]) == (503, "not-reproducible")
    subject = "/production/shop/snapshot"
    served = fleet.at(honest, "GET", subject).body["snapshot"]["holdfast"]
    assert served["revision"] == made.body["revision"]
    assert fleet.at(other, "GET", subject).status == 503
    assert figures(fleet, other)["holdfast_departed_snapshots"] > 0


def departed(fleet: Nodes, node: str) -> Any:
    """What its readiness says, once it stays out."""
    found = fleet.at(node, "GET", "/readyz")
    if found.status != 503 or not isinstance(found.body, dict):
        return None
    fault = found.body["error"]
    return fault if fault["code"] == "not-reproducible" else None
