"""All settings at once: the same answers as one by one, made where nobody waits for it."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from an_edge import edge_at
from serving import Answered, call, until
from upstream import READ, SHOP_SUBJECT, World, is_, setting, token

from holdfast.apps.edge import bulk as at_once
from holdfast.apps.edge.bulk import AtOnce
from holdfast.apps.edge.fragments import fragment
from holdfast.apps.edge.process import Edge
from holdfast.core.evaluate import Evaluator
from holdfast.core.limits import SETTINGS_MAX
from holdfast.core.model import Scope
from holdfast.core.targeting.prepare import Node

PATH = "/production/shop/ofrep/v1/evaluate/flags"
CONTEXTS = [{}, {"tenant": "contoso"}, {"tenant": "x", "targetingKey": "u1"}, {"tenant": 7}]


def ask(edge: Edge, context: Any, **headers: str) -> Answered:
    body = json.dumps({"context": context})
    return call(edge.listener.port, "POST", PATH, body, {**READ, **headers})


def one_by_one(edge: Edge, context: Any) -> list[Any]:
    evaluator = edge.table.get(SHOP_SUBJECT).evaluator
    return [json.loads(fragment(evaluator.evaluate(key, context))) for key in evaluator.keys()]  # noqa: SIM118


def is_fused(edge: Edge) -> bool:
    return edge.table.get(SHOP_SUBJECT).bulk.flags.fused is not None


@pytest.fixture
def own(tmp_path: Path) -> World:
    return World(tmp_path)


def test_one_function_answers_what_each_setting_answers(own: World, tmp_path: Path) -> None:
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        before = [ask(edge, context).json()["flags"] for context in CONTEXTS]
        until(lambda: is_fused(edge))
        for context, flags in zip(CONTEXTS, before, strict=True):
            assert ask(edge, context).json()["flags"] == flags == one_by_one(edge, context)


def test_a_generation_after_one_that_was_asked_is_prepared_before_it_answers(
    own: World, tmp_path: Path
) -> None:
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        ask(edge, {})
        prepared = []
        right = edge.table.put

        def put(active: Any) -> None:
            prepared.append((active.bulk.flags.fused is not None, len(active.evaluator.table)))
            right(active)

        edge.table.put = put
        digest = own.change()
        until(lambda: edge.table.get(SHOP_SUBJECT).digest == digest)
        digest = own.change()
        until(lambda: edge.table.get(SHOP_SUBJECT).digest == digest)
        settings = len(edge.table.get(SHOP_SUBJECT).evaluator)
        # Nobody asked the second one, so the third is not fused; its settings are compiled.
        assert prepared == [(True, settings), (False, settings)]


def test_the_etag_says_what_is_told_and_nothing_else(own: World, tmp_path: Path) -> None:
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        first = ask(edge, {"tenant": "contoso", "who": "a"})
        have = {"if-none-match": first.headers["etag"]}
        until(lambda: is_fused(edge))
        for _ in range(4):  # on the long way and on the short one
            same = ask(edge, {"tenant": "contoso", "who": "b"}, **have)
            assert (same.status, same.body) == (304, b"")
            assert ask(edge, {"tenant": "y"}, **have).status == 200
        edge.routes._parts.tickets._secret = b"another hour's ticket"
        edge.routes._parts.tickets._issued.clear()
        assert ask(edge, {"tenant": "contoso"}, **have).status == 200


def test_a_change_is_told_to_who_asks_with_the_same_head(own: World, tmp_path: Path) -> None:
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        assert [len(ask(edge, {}).json()["flags"]) for _ in range(4)] == [7] * 4
        own.put("shop", banner=setting("boolean", {"on": True, "off": False}, "on"))
        until(lambda: ask(edge, {}).json()["flags"][0]["value"] is True)


def wrong(evaluator: Evaluator, render: Any, join: Any, pause: Any = None) -> Any:
    return lambda _context: [b'{"key":"banner","reason":"STATIC","variant":"on","value":true}']


def test_a_function_that_answers_otherwise_is_not_used(
    own: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "fused", wrong)
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        ask(edge, {})
        until(lambda: edge.table.get(SHOP_SUBJECT).bulk.differs)
        assert ask(edge, {}).json()["flags"] == one_by_one(edge, {})
        assert b"holdfast_bulk_differing 1.0" in call(edge.listener.port, "GET", "/metrics").body


def test_untried_the_wrong_answers_go_out(
    own: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "fused", wrong)
    monkeypatch.setattr(at_once, "TRIED_MAX", 0)
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        ask(edge, {})
        until(lambda: len(ask(edge, {}).json()["flags"]) == 1)


def test_however_large_a_snapshot_it_is_made_in_small_pieces() -> None:
    flag = b'{"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a"%s}'
    rule = b', "targeting": {"if": [{"==": [{"var": "n"}, %d]}, "b", "a"]}'
    flags = {f"s{n:05}": flag % (rule % n if n % 20 == 0 else b"") for n in range(SETTINGS_MAX)}
    evaluator = Evaluator(flags, now_s=lambda: 0.0)
    pauses = []
    large = AtOnce(evaluator, lambda outcome: str(outcome.value), "".join)
    large.fuse([{"n": 40}], lambda: pauses.append(1))
    assert large.fused is not None
    assert len(pauses) > SETTINGS_MAX / 20
    assert large.whole({"n": 19_980}) == "1" * 19_980 + "2" + "1" * 19


def test_what_is_made_does_not_keep_what_it_was_made_of() -> None:
    """A hundred objects for each setting: for 20,000 of them a look of the collector took 0.4 s."""
    targeting = b'{"if": [{"in": [{"var": "n"}, ["x", "y"]]}, "b", "a"]}'
    flag = b'{"state":"ENABLED","variants":{"a":1,"b":2},"defaultVariant":"a","targeting":%b}'
    evaluator = Evaluator({f"s{n}": flag % targeting for n in range(500)}, now_s=lambda: 0.0)
    for key in evaluator.keys():  # noqa: SIM118
        evaluator.function(key)

    def nodes() -> int:
        gc.collect()
        return sum(isinstance(each, Node) for each in gc.get_objects())

    before = nodes()
    large = AtOnce(evaluator, lambda outcome: str(outcome.value), "".join)
    large.fuse([{"n": "x"}], lambda: None)
    assert large.whole({"n": "x"}) == "2" * 500
    assert nodes() - before < 100


def test_the_ecs_shaped_read_is_made_the_same_way(own: World, tmp_path: Path) -> None:
    target = "/config/v1/Teams/1.5.0?environment=production&tenantId=contoso&agents=shop"
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:

        def get() -> Answered:
            return call(edge.listener.port, "GET", target, None, READ)

        def is_made() -> bool:
            return edge.table.get(SHOP_SUBJECT).bulk.parts.fused is not None

        before = get()
        until(is_made)
        after = get()
        assert [after.json()[name] for name in ("shop", "ConfigIDs")] == [
            before.json()[name] for name in ("shop", "ConfigIDs")
        ]
        assert after.headers["etag"] == before.headers["etag"]
        digest = own.change()
        until(lambda: edge.table.get(SHOP_SUBJECT).digest == digest)
        assert is_made()
        assert get().headers["etag"] != before.headers["etag"]


def test_who_was_turned_away_is_so_again_until_tokens_are_learnt(
    own: World, tmp_path: Path
) -> None:
    text, put = token("late", b"l" * 32, Scope(verbs=("read",)))
    late = {"authorization": f"Bearer {text}"}
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        refused = edge.door.refused
        for path, method in (
            (PATH, "POST"),
            (f"{PATH}/banner", "POST"),
            ("/production/shop/snapshot", "GET"),
        ):
            body = '{"context":{}}' if method == "POST" else None
            told = [call(edge.listener.port, method, path, body, late) for _ in range(5)]
            assert {each.status for each in told} == {401}
            assert {each.headers["www-authenticate"] for each in told} == {
                'Bearer realm="holdfast"'
            }
        assert edge.door.refused == refused + 15
        own.commit(put)
        until(lambda: ask(edge, {}, **late).status == 200)
        assert (
            call(edge.listener.port, "GET", "/production/shop/snapshot", None, late).status == 200
        )


def test_rules_that_choose_are_told_apart(own: World, tmp_path: Path) -> None:
    own.put("shop", more=setting("string", {"a": "A", "b": "B"}, "a", is_("ring", "r0", "b")))
    with own.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        ask(edge, {})
        until(lambda: is_fused(edge))
        flags = {each["key"]: each for each in ask(edge, {"ring": "r0"}).json()["flags"]}
        assert flags["more"]["value"] == "B"
        assert flags["more"]["reason"] == "TARGETING_MATCH"
