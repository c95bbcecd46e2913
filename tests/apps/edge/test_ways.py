"""Behind a head that is known by heart, all counts that may have changed.

Each test asks often enough that its head is known, and then changes what an answer depends on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from an_edge import edge_at
from serving import Answered, call, until
from upstream import READ, SHOP_SUBJECT, World, is_, setting, token

from holdfast.apps.edge.process import Edge
from holdfast.core.model import DeleteToken, Scope

TILES = "/production/shop/ofrep/v1/evaluate/flags/tiles"
SNAPSHOT = "/production/shop/snapshot"
BODY = '{"context":{"targetingKey":"u1"}}'


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@pytest.fixture
def cache_dir(tmp_path) -> Path:
    return tmp_path / "edge"


def ask(edge: Edge, headers: dict[str, str] = READ, body: str = BODY) -> Answered:
    return call(edge.listener.port, "POST", TILES, body, headers)


def read(edge: Edge, **headers: str) -> Answered:
    return call(edge.listener.port, "GET", SNAPSHOT, headers=READ | headers)


def learnt(edge: Edge) -> int:
    """How many heads are known: of requests that came twice in one piece, as most do."""
    return len(edge.listener.heads.known)


def test_a_known_head_gets_what_an_unknown_one_gets(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        answers = [ask(edge).body]
        until(lambda: answers.append(ask(edge).body) or learnt(edge) == 1)
        answers += [ask(edge).body for _ in range(4)]

        assert len(set(answers)) == 1
        assert ask(edge, READ | {"x-else": "1"}).body in answers
        assert edge.routes.counts.evaluations == len(answers) + 1


def test_another_body_behind_a_known_head_is_another_question(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        assert [ask(edge).json()["value"] for _ in range(4)] == [49] * 4

        assert ask(edge, body=BODY.replace("u1", "u2")).json()["value"] == 9
        broken = ask(edge, body="x" * len(BODY))
        assert (broken.status, broken.json()["errorCode"]) == (400, "PARSE_ERROR")
        assert ask(edge).json()["value"] == 49


def test_a_new_generation_answers_known_heads(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        for _ in range(4):
            before = ask(edge)
        tiles = setting("integer", {"few": 9, "many": 50}, "few", is_("targetingKey", "u1", "many"))
        world.put("shop", tiles=tiles)

        until(lambda: ask(edge).json()["value"] == 50)
        assert int(ask(edge).headers["holdfast-revision"]) > int(
            before.headers["holdfast-revision"]
        )


def test_a_revoked_token_is_refused_behind_a_known_head(world, cache_dir):
    other, kept = token("other", b"o" * 32, Scope(verbs=("read",)))
    headers = {"authorization": f"Bearer {other}"}
    world.commit(kept)
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        until(lambda: ask(edge, headers).status == 200)
        until(lambda: ask(edge, headers).status == 200 and learnt(edge) == 1)
        until(lambda: read(edge, **headers).status == 200 and learnt(edge) == 2)
        world.commit(DeleteToken("other"))

        until(lambda: ask(edge, headers).status == 401)
        assert read(edge, **headers).status == 401


def test_a_known_question_brings_the_newest_word_on_freshness(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        newest = edge.follower.generation(SHOP_SUBJECT)
        assert newest is not None
        have = {"if-none-match": f'"{newest.digest}"'}
        until(lambda: read(edge, **have).status == 304 and learnt(edge) > 0)
        first = read(edge, **have).headers["holdfast-freshness"]

        def is_news() -> bool:
            world.view.catch_up()  # in step with the journal, as of now
            told = read(edge, **have)
            assert told.status == 304
            return told.headers["holdfast-freshness"] != first

        until(is_news)


def test_a_known_question_for_what_is_new_gets_it(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        have = {"if-none-match": read(edge).headers["etag"]}
        until(lambda: read(edge, **have).status == 304 and learnt(edge) > 0)
        world.change()

        until(lambda: read(edge, **have).status == 200)
        assert read(edge).headers["etag"] != have["if-none-match"]


def test_an_answer_behind_a_known_head_says_that_it_is_stale(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        for _ in range(4):
            assert "holdfast-stale" not in ask(edge).headers
    # Here its upstream is gone.
    with edge_at(cache_dir, 1, wait=False) as edge:
        told: list[str] = []
        until(lambda: told.append(ask(edge).headers["holdfast-stale"]) or learnt(edge) == 1)
        told += [ask(edge).headers["holdfast-stale"] for _ in range(4)]
        assert all(each.startswith("true; age=") for each in told)
        assert edge.routes.counts.stale_answers == len(told)


def test_contexts_behind_known_heads_are_sampled(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        for _ in range(5):
            ask(edge)
        (active,) = edge.table

        assert sum(sample.count for sample in active.sampler.take()) == 5
