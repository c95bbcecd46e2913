"""A generation on which workers die: spared, then put away; the others go on."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_process import BANNER, CONTOSO, Edges, edges
from serving import call, until
from upstream import World, setting

from holdfast.apps.edge.blame import REMEMBERED_S, SPARED_S, Blame
from holdfast.apps.edge.doing import Doing
from holdfast.apps.edge.quarantine import FOR_GOOD
from holdfast.core.model import PutService, Rule, Service, Subject
from holdfast.gameday.patches import defects, own, patched_tree

MAIL = Subject("production", "mail")
QUOTA = "/production/mail/ofrep/v1/evaluate/flags/quota"
POISON = '{"context":{"version":"2.0.0-%s"}}' % ("x" * 50)


def test_one_death_spares_and_three_put_away() -> None:
    blame = Blame()
    blame.died(MAIL, "d1", 10.0)
    assert list(blame.found(10.0)) == [(MAIL, "d1", SPARED_S)]
    assert list(blame.found(10.0 + SPARED_S)) == []
    blame.died(MAIL, "d1", 20.0)
    assert list(blame.found(20.0)) == [(MAIL, "d1", 2 * SPARED_S)]
    blame.died(MAIL, "d1", 30.0)
    assert list(blame.found(31.0)) == [(MAIL, "d1", FOR_GOOD)]


def test_deaths_far_apart_prove_nothing() -> None:
    blame = Blame()
    for number in range(10):
        blame.died(MAIL, "d1", number * REMEMBERED_S)
        assert [each[2] for each in blame.found(number * REMEMBERED_S)] == [SPARED_S]


def test_what_is_noted_is_what_was_evaluated_when_the_process_ended() -> None:
    doing = Doing()
    assert doing.left() is None
    doing.name(MAIL, "d1")
    doing.sampler(MAIL).offer({})
    assert doing.left() == (MAIL, "d1")
    assert doing.left() is None
    sampler = doing.sampler(MAIL)
    doing.name(MAIL, "d2")
    sampler.offer({})
    assert doing.left() == (MAIL, "d2")
    sampler.offer({})
    doing.now[0] = 0
    assert doing.left() is None


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.commit(PutService("mail", Service()), *made.settings("mail", quota("basic")))
    return made


def quota(default: str, *rules: Rule) -> dict:
    return {"quota": setting("integer", {"basic": 1, "more": 2}, default, *rules)}


def poisonous() -> dict:
    """A valid rule of a kind that nobody used before."""
    return quota(
        "basic", Rule(logic={"sem_ver": [{"var": "version"}, ">=", "1.5.0"]}, serve="more")
    )


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def build(name: str, tmp_path: Path) -> Path:
    defect = next(one for one in defects(own("dormant")) if one.name == f"dormant-{name}")
    return patched_tree(tmp_path / "tree", defect)


@contextlib.contextmanager
def fragile(world: World, tmp_path: Path, port: int, **settings: object) -> Iterator[Edges]:
    """Two workers of a build with a dormant bug, and settings that wake it."""
    with (
        world.serving() as upstream,
        edges(tmp_path / "e", upstream.port, port, workers=2, open_reads=True, **settings) as made,
    ):
        made.wait_serving(made.start(tree=build("kills", tmp_path)))
        until(lambda: asked(port, "{}") == 200, made.told())
        world.put("mail", **poisonous())
        revision = world.shelf.newest(MAIL).revision
        until(lambda: made.told().count(f'"revision": {revision}') >= 2)
        yield made


def asked(port: int, body: str, target: str = QUOTA) -> int:
    """The status; 0 for a connection that ended."""
    with contextlib.suppress(OSError):
        return call(port, "POST", target, body).status
    return 0


def test_who_kills_workers_is_put_away_and_others_never_notice(
    world: World, tmp_path: Path, port: int
) -> None:
    with fragile(world, tmp_path, port) as running:
        end_s = time.monotonic() + 40
        while "put away" not in running.told():
            assert time.monotonic() < end_s, running.told()
            asked(port, POISON)
            for _ in range(10):
                assert asked(port, CONTOSO, BANNER) == 200, running.told()
        until(
            lambda: {asked(port, POISON) for _ in range(10)} == {200}, "what it was answers again"
        )
        assert running.told().count('"a worker died"') == 3
        world.put("mail", **quota("more"))
        until(lambda: call(port, "POST", QUOTA, "{}").json()["value"] == 2)


@pytest.mark.long
def test_unprotected_the_workers_die_on_and_on(world: World, tmp_path: Path, port: int) -> None:
    """Whether others notice is chance: who connects waits in sockets that the parent keeps."""
    with fragile(world, tmp_path, port, unprotected=True) as running:
        answers: Counter[int] = Counter()

        def went_on() -> bool:
            answers[asked(port, POISON)] += 1
            return running.told().count('"a worker died"') > 3

        until(went_on, lambda: f"{answers} {running.told()}")
