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
from holdfast.core.evaluate import Evaluator
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


def ask_often(edge: Edge, often: int = 40, odd_every: int = 0) -> None:
    """What callers ask `ratio` with; every so many of them with n = 0."""
    for number in range(1, often + 1):
        odd = odd_every and number % odd_every == 0
        assert ask(edge, RATIO, ZERO if odd else CONTOSO) == 200


def was_plain(world: World) -> None:
    world.put("shop", ratio=setting("integer", {"a": 1, "b": 2}, "a"))


def failed(edge: Edge) -> int:
    return edge.table.get(SHOP_SUBJECT).evaluator.failed


def test_a_fresh_generation_that_fails_where_the_one_before_answered_goes_back(
    world: World, tmp_path: Path
) -> None:
    was_plain(world)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        before = revision(edge)
        ask_often(edge, odd_every=2)
        after = divided(world)
        until(lambda: revision(edge) == after)
        until(lambda: (ask(edge, RATIO, ZERO), revision(edge) == before)[1])
        assert ask(edge, RATIO, ZERO) == 200
        refused = edge.follower.status().subjects[SHOP_SUBJECT].refusals
        assert {each.code for each in refused} == {"failing"}  # it may be found again meanwhile
        world.change()
        until(lambda: revision(edge) > after)


def judged(edge: Edge) -> set[str]:
    return edge._rounds._fresh[SHOP_SUBJECT].judged


def vote(world: World, edge: Edge) -> int:
    """A change that fails for nobody who asked until now; one who likes to asks nothing else."""
    ask_often(edge)
    after = divided(world)
    until(lambda: revision(edge) == after)
    for _ in range(3 * rounds.FAILED_MIN):
        ask(edge, RATIO, ZERO)
    return after


def test_who_chooses_contexts_that_fail_sends_no_good_generation_back(
    world: World, tmp_path: Path
) -> None:
    was_plain(world)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        after = vote(world, edge)
        until(lambda: judged(edge) == {"ratio"})
        assert failed(edge) > 2 * rounds.FAILED_MIN
        assert revision(edge) == after


def test_if_every_failure_counted_he_would(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WITNESSED_SHARE", 0)
    was_plain(world)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        after = vote(world, edge)
        until(lambda: revision(edge) < after)


def test_an_edge_that_was_asked_too_little_before_sends_nothing_back(
    world: World, tmp_path: Path
) -> None:
    was_plain(world)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        ask_often(edge, rounds.WITNESSES_MIN - 1, odd_every=1)
        after = divided(world)
        until(lambda: revision(edge) == after)
        until(lambda: (ask(edge, RATIO, ZERO), judged(edge))[1])
        assert revision(edge) == after


def test_what_fails_for_too_few_of_all_who_ask_is_not_judged(world: World, tmp_path: Path) -> None:
    was_plain(world)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        ask_often(edge, odd_every=2)
        after = divided(world)
        until(lambda: revision(edge) == after)
        for number in range(400):
            ask(edge, RATIO, ZERO if number % 16 == 15 else CONTOSO)
        assert failed(edge) > rounds.FAILED_MIN
        assert not judged(edge)
        assert revision(edge) == after


def test_contexts_that_fail_before_and_after_send_nothing_back(
    world: World, tmp_path: Path
) -> None:
    divided(world)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        for _ in range(40):
            ask(edge, RATIO, ZERO)
        world.change()
        after = world.shelf.newest(SHOP_SUBJECT).revision
        until(lambda: revision(edge) == after)
        for _ in range(60):
            ask(edge, RATIO, ZERO)
        looked = edge._rounds.asked
        until(lambda: edge._rounds.asked > looked + 20)
        assert revision(edge) == after


def test_work_on_what_was_asked_before_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluator(logic: str) -> Evaluator:
        flag = f'{{"state":"ENABLED","variants":{{"a":1}},"defaultVariant":"a"{logic}}}'
        return Evaluator({"one": flag.encode()}, now_s=lambda: 0.0)

    before, new = evaluator(""), evaluator(',"targeting":{"%":[1,{"var":"n"}]}')
    witnesses = [{"n": 0}] * rounds.WITNESSES_MIN
    assert rounds.fails("one", new, before, witnesses)
    monkeypatch.setattr(rounds, "JUDGED_S", -1)
    assert not rounds.fails("one", new, before, witnesses)
