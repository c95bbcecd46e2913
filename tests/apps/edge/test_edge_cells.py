"""Cells and shards: nothing spills, and who asks the wrong edge is told the right one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from an_edge import edge_at
from serving import call, until
from upstream import FOLLOW_TEXT, READ, World, setting

from holdfast.apps.edge.cell import CellGate
from holdfast.apps.edge.process import Edge
from holdfast.apps.settings import EdgeSettings, problems_of
from holdfast.core.cells import Plan, serves
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import PutService, Service, Subject

BANNER = "/production/shop/ofrep/v1/evaluate/flags/banner"
EAST = {**READ, "holdfast-cell": "east"}
SERVICES = tuple(f"service-{number}" for number in range(8))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_who_means_another_cell_is_sent_away_out_of_no_budget(world: World, tmp_path: Path) -> None:
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, cell="west", requests_per_s_max=0.001) as edge,
    ):
        port = edge.listener.port
        for _ in range(3):
            answered = call(port, "POST", BANNER, "{}", EAST)
            assert answered.status == 421
            assert answered.json()["error"]["code"] == "another-cell"
        assert edge.entrance.misdirected == 3
        assert call(port, "GET", "/readyz").json()["cell"] == "west"


def test_a_cell_that_is_full_refuses_and_says_when_to_come_back(
    world: World, tmp_path: Path
) -> None:
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, cell="west", requests_per_s_max=5) as edge,
    ):
        port, west = edge.listener.port, {**READ, "holdfast-cell": "west"}
        until(lambda: call(port, "POST", BANNER, "{}", west).status == 503)
        assert call(port, "GET", "/readyz").status == 200
        until(lambda: call(port, "POST", BANNER, "{}", west).status == 200)
        metrics = call(port, "GET", "/metrics").body.decode()
        assert 'holdfast_cell_refusals_total{why="cell-full"}' in metrics
        assert 'holdfast_cell_info{cell="west"} 1.0' in metrics


def test_an_edge_of_another_cell_may_not_follow(world: World, tmp_path: Path) -> None:
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "a", upstream.port, cell="west") as west,
        edge_at(tmp_path / "b", west.listener.port, cell="east", wait=False) as east,
        edge_at(tmp_path / "c", west.listener.port, cell="west") as mine,
    ):
        until(lambda: "421" in east.follower.status().last_error)
        assert not len(east.table)
        assert len(mine.table)


def test_an_edge_follows_and_serves_its_shard_alone(world: World, tmp_path: Path) -> None:
    for name in SERVICES:
        flag = setting("boolean", {"on": True}, "on")
        world.commit(PutService(name, Service()), *world.settings(name, {"flag": flag}))
    plan = Plan(("edge-1", "edge-2", "edge-3"), per_service=1, everywhere=("shop",))
    file = tmp_path / "shards.json"
    file.write_text(json.dumps({"edges": plan.edges, "per_service": 1, "everywhere": ["shop"]}))
    mine = {name for name in SERVICES if serves(plan, "edge-1", Subject("production", name))}
    others = sorted(set(SERVICES) - mine)
    assert mine
    assert others
    auth = {"authorization": f"Bearer {FOLLOW_TEXT}"}
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, shards=file, shard="edge-1") as edge,
    ):
        port = edge.listener.port
        listed = call(port, "GET", "/v1/catalogue", headers=auth).json()["subjects"]
        assert {one["service"] for one in listed} == {"_access", "shop", *mine}
        for target in (
            f"/production/{others[0]}/snapshot",
            f"/production/{others[0]}/segments/{'0' * 64}",
        ):
            answered = call(port, "GET", target, headers=auth)
            assert answered.status == 421
            assert "is served by edge-" in answered.json()["error"]["message"]
        target = f"/production/{others[0]}/ofrep/v1/evaluate/flags/flag"
        assert call(port, "POST", target, "{}", auth).status == 421
        assert call(port, "POST", BANNER, "{}", auth).status == 200
        asked = edge.follower.counts["asked"]
        world.put(others[0], flag=setting("boolean", {"on": True, "off": False}, "off"))
        world.put("shop", flag=setting("boolean", {"on": True}, "on"))
        until(
            lambda: call(port, "POST", BANNER.replace("banner", "flag"), "{}", auth).status == 200
        )
        assert edge.follower.counts["asked"] > asked


@pytest.mark.parametrize(
    "plan",
    ["", "[]", '{"edges": []}', '{"edges": ["a", "a"]}', '{"edges": ["a"], "per_service": 2}'],
)
def test_a_plan_that_can_t_be_meant_is_refused(tmp_path: Path, plan: str) -> None:
    (tmp_path / "shards.json").write_text(plan)
    settings = EdgeSettings(cache_dir=tmp_path, port=0, shards=tmp_path / "shards.json", shard="a")
    with pytest.raises(Invalid) as refused:
        Edge(settings)
    problem: Problem = refused.value.problems[0]
    assert problem.code == "shards"
    assert problem.hint


@pytest.mark.parametrize("cell", ["a b", "west ", "w\xe9st", "a\r\nx: y", "x" * 129, '"'])
def test_a_cell_has_a_name_that_all_spell_alike(cell: str) -> None:
    problems = problems_of(EdgeSettings(cell=cell))
    assert [problem.code for problem in problems] == ["bad-cell"]
    assert not problems_of(EdgeSettings(cell="west-1.eu"))


@pytest.mark.parametrize(
    ("cell", "told"), [("west", "the cell west answers"), ("", "here are answered")]
)
def test_who_comes_too_often_is_told_what_is_answered(cell: str, told: str) -> None:
    gate = CellGate(cell, 1.0, None, clock=lambda: 0.0)
    assert gate.admit(b"GET", b"/", [], 0.0) is None
    refused = gate.admit(b"GET", b"/", [], 0.0)
    assert refused is not None
    assert f'"message":"{told} 1 requests/s, no more"'.encode() in refused
