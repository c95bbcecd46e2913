"""An edge that serves goes on asking itself, and looks at what fails for callers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from an_edge import edge_at
from serving import call, until
from upstream import READ, SHOP_SUBJECT, World, setting

from holdfast.apps import ofrep
from holdfast.apps.edge import process, rounds
from holdfast.apps.edge.process import Edge
from holdfast.apps.http import Response
from holdfast.core.model import Rule

BANNER = "/production/shop/ofrep/v1/evaluate/flags/banner"
RATIO = BANNER.replace("banner", "ratio")
CONTOSO = '{"context":{"tenant":"contoso"}}'
ZERO = '{"context":{"t":"x","n":0}}'


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LABELS_S", 0.01)


def ask(edge: Edge, target: str = BANNER, body: str = CONTOSO) -> int:
    return call(edge.listener.port, "POST", target, body, READ).status


def go_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on one setting is answered wrongly, whoever asks."""
    right = ofrep.answer

    def answer(active: object, outcome: object) -> Response:
        found = right(active, outcome)
        if outcome.key != "tiles" or not found.body:
            return found
        told = msgspec.json.decode(found.body)
        body = msgspec.json.encode({**told, "value": 1_000_000})
        return Response(found.status, found.headers, body)

    monkeypatch.setattr(ofrep, "answer", answer)


def test_an_edge_that_goes_wrong_while_it_serves_says_where_and_answers_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        assert ask(edge) == 200
        go_wrong(monkeypatch)
        until(lambda: not edge.ready()[0])
        answered = call(edge.listener.port, "GET", "/readyz")
        assert answered.status == 503
        assert "'tiles' of production/shop" in answered.json()["fault"]
        assert ask(edge) == 503


def test_unprotected_it_answers_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, unprotected=True) as edge,
    ):
        go_wrong(monkeypatch)
        found = call(edge.listener.port, "POST", BANNER.replace("banner", "tiles"), "{}", READ)
        assert found.json()["value"] == 1_000_000
        assert edge.ready()[0]


def test_all_behind_it_dead_an_edge_goes_round_and_is_ready(world: World, tmp_path: Path) -> None:
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        upstream.stop()
        until(lambda: edge.ready()[1]["stale"] == 1)
        asked = edge._rounds.asked
        until(lambda: edge._rounds.asked > asked + 50)
        assert edge.ready()[0]
        assert ask(edge) == 200


def test_a_look_is_bounded_in_computing(world: World, tmp_path: Path) -> None:
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        mine = rounds.Rounds(edge._parts(), edge.table, 60.0)
        for looks in range(1, 20):
            assert mine.look() == ""
            assert mine.asked <= looks * rounds.PROBES_PER_LOOK


def divided(world: World) -> int:
    """`ratio` becomes a setting that can't be evaluated for n = 0; the revision."""
    divides = {"==": [{"%": [1, {"var": "n"}]}, 1]}
    logic = {"and": [{"==": [{"var": "t"}, "x"]}, divides]}
    world.put("shop", ratio=setting("integer", {"a": 1, "b": 2}, "a", Rule(logic=logic, serve="b")))
    return world.shelf.newest(SHOP_SUBJECT).revision


def revision(edge: Edge) -> int:
    return edge.table.get(SHOP_SUBJECT).revision


def test_a_fresh_generation_that_fails_where_the_one_before_answered_goes_back(
    world: World, tmp_path: Path
) -> None:
    world.put("shop", ratio=setting("integer", {"a": 1, "b": 2}, "a"))
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        before = revision(edge)
        assert ask(edge, RATIO, ZERO) == 200
        after = divided(world)
        until(lambda: revision(edge) == after)
        until(lambda: (ask(edge, RATIO, ZERO), revision(edge) == before)[1])
        assert ask(edge, RATIO, ZERO) == 200
        refused = edge.follower.status().subjects[SHOP_SUBJECT].refusals
        assert {each.code for each in refused} == {"failing"}  # it may be found again meanwhile
        world.change()
        until(lambda: revision(edge) > after)


def test_a_few_odd_contexts_among_many_send_nothing_back(world: World, tmp_path: Path) -> None:
    world.put("shop", ratio=setting("integer", {"a": 1, "b": 2}, "a"))
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        after = divided(world)
        until(lambda: revision(edge) == after)
        for number in range(400):
            ask(edge, RATIO, ZERO if number % 16 == 15 else CONTOSO)
        assert edge.table.get(SHOP_SUBJECT).evaluator.failed > rounds.FAILED_MIN
        assert revision(edge) == after


def test_contexts_that_fail_before_and_after_send_nothing_back(
    world: World, tmp_path: Path
) -> None:
    divided(world)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        world.change()
        after = world.shelf.newest(SHOP_SUBJECT).revision
        until(lambda: revision(edge) == after)
        for _ in range(60):
            ask(edge, RATIO, ZERO)
        looked = edge._rounds.asked
        until(lambda: edge._rounds.asked > looked + 20)
        assert revision(edge) == after
