"""A change that was signed offline: an edge and all behind it take it, and it comes home."""

from __future__ import annotations

import contextlib
import json
import shutil

import pytest
from an_edge import edge_at
from serving import call, until
from upstream import (
    READ,
    READ_TEXT,
    SHOP_SUBJECT,
    SYSTEM,
    World,
    is_,
    setting,
    token,
)

from holdfast.adapters.cache_copy import CacheCopy
from holdfast.adapters.ed25519 import verify
from holdfast.adapters.signing import Keys
from holdfast.apps.cli import run
from holdfast.apps.cli.pushing import FromCache, FromEdge, Wish, prepare
from holdfast.apps.edge.spool import FILES_MAX, Spool
from holdfast.core.errors import Invalid, Unavailable, Untrusted
from holdfast.core.model import PutOverride, Scope
from holdfast.core.pushes import Pushed, decode_push, take
from holdfast.engine.pushes import PushDoor

BANNER = "/production/shop/ofrep/v1/evaluate/flags/banner"
CONTOSO = json.dumps({"context": {"targetingKey": "u", "tenant": "contoso"}})
WRITE_TEXT, WRITER = token("writer", b"w" * 32, Scope(verbs=("write",)))
WRITE = {"authorization": f"Bearer {WRITE_TEXT}"}
OFF = Wish("shop", "banner", variant="off")


@pytest.fixture
def world(tmp_path) -> World:
    made = World(tmp_path)
    made.commit(WRITER)
    return made


@pytest.fixture
def keys(tmp_path, world) -> Keys:
    return Keys.load(tmp_path / "keys")


def banner(port: int) -> tuple[object, int]:
    answered = call(port, "POST", BANNER, CONTOSO, READ)
    return answered.json()["value"], int(answered.headers["holdfast-revision"])


def hand(port: int, body: bytes, headers: dict[str, str] = WRITE) -> list[dict]:
    answered = call(port, "POST", "/v1/push", body, headers)
    assert answered.status == 202, answered.body
    name, found = answered.json()["push"], answered.json()["subjects"]

    def judged() -> bool:
        nonlocal found
        found = call(port, "GET", f"/v1/push/{name}").json()["subjects"]
        return all(one["state"] != "waiting" for one in found)

    until(judged)
    return found


def made(keys: Keys, port: int, *wishes: Wish, reason: str = "INC-7") -> Pushed:
    base = FromEdge(f"http://127.0.0.1:{port}", WRITE_TEXT)
    return prepare(base, keys, "production", wishes or (OFF,), "linus (offline)", reason)


def bring(world: World, keys: Keys, pushed: Pushed):
    taken = take(decode_push(pushed.body), keys.root, verify)
    return PushDoor(world.publisher, world.view).bring(taken, "linus", SYSTEM)


def newest(world: World) -> str:
    found = world.shelf.newest(SHOP_SUBJECT)
    assert found is not None
    return found.digest


def test_an_edge_takes_it_with_all_else_dead_and_hands_it_on(world, keys, tmp_path):
    with world.serving() as upstream:
        port = upstream.port
        with (
            edge_at(tmp_path / "a", port) as first,
            edge_at(tmp_path / "b", first.listener.port) as second,
        ):
            upstream.stop()
            before = banner(second.listener.port)
            pushed = made(keys, first.listener.port)
            [one] = hand(first.listener.port, pushed.body)
            assert (one["state"], one["revision"]) == ("taken", pushed.entry.revision)
            assert banner(first.listener.port) == (False, pushed.entry.revision)
            until(lambda: banner(second.listener.port)[1] == pushed.entry.revision)
            assert before[0] is True
            [again] = hand(first.listener.port, pushed.body)
            assert again["state"] == "taken"
        with edge_at(tmp_path / "a", port, wait=False) as first:  # and after a restart
            assert banner(first.listener.port) == (False, pushed.entry.revision)
        assert FromCache(tmp_path / "a").bundle(SHOP_SUBJECT)


def test_it_comes_home_and_all_agree_on_the_bytes(world, keys, tmp_path):
    with contextlib.ExitStack() as upstream:
        port = upstream.enter_context(world.serving()).port
        with edge_at(tmp_path / "a", port) as edge:
            upstream.close()
            pushed = made(keys, edge.listener.port)
            [one] = hand(edge.listener.port, pushed.body)
            home = bring(world, keys, pushed)
            assert (home.revision, home.hash, home.met) == (
                pushed.entry.revision,
                pushed.entry.hash,
                False,
            )
            assert newest(world) == one["digest"]
            assert bring(world, keys, pushed) == home  # twice is once
            with world.serving(port):
                until(lambda: not edge.follower.is_stale(SHOP_SUBJECT))
                world.change()
                until(lambda: banner(edge.listener.port)[1] > home.revision)
                assert banner(edge.listener.port)[0] is False  # it stands until it is lifted
                assert not edge._refused


def test_somebody_wrote_the_same_revision_meanwhile_and_nobody_goes_back(world, keys, tmp_path):
    with contextlib.ExitStack() as upstream:
        port = upstream.enter_context(world.serving()).port
        with edge_at(tmp_path / "a", port) as edge:
            upstream.close()
            pushed = made(keys, edge.listener.port)
            hand(edge.listener.port, pushed.body)
            world.put("shop", title=setting("string", {"old": "Shop", "new": "Neu"}, "new"))
            assert world.view.state.head.revision == pushed.entry.revision
            seen = [banner(edge.listener.port)]
            with world.serving(port):
                until(lambda: "two digests" in edge.follower.status().last_error)
                home = bring(world, keys, pushed)
                assert home.met
                assert home.revision > pushed.entry.revision

                def caught_up() -> bool:
                    seen.append(banner(edge.listener.port))
                    return seen[-1][1] == home.revision

                until(caught_up)
            assert {value for value, _ in seen} == {False}
            assert [at for _, at in seen] == sorted(at for _, at in seen)
            assert bring(world, keys, pushed) == home


def test_a_journal_that_lacks_what_it_was_made_on_says_so(world, keys, tmp_path):
    backup = World(tmp_path / "backup")
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        pushed = made(keys, edge.listener.port)
    with pytest.raises(Unavailable, match="restore a newer copy"):
        bring(backup, keys, pushed)


def test_it_is_lifted_once_the_setting_serves_the_same_by_itself(world, keys, tmp_path):
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        pushed = made(keys, edge.listener.port)
        hand(edge.listener.port, pushed.body)
        bring(world, keys, pushed)
        door = PushDoor(world.publisher, world.view)
        with pytest.raises(Invalid, match="serves something else") as refused:
            door.lift(SHOP_SUBJECT, "banner", "over", "linus", SYSTEM)
        assert "let it serve the same by itself first" in refused.value.problems[0].hint
        world.put("shop", banner=setting("boolean", {"on": True, "off": False}, "off"))
        lifted = door.lift(SHOP_SUBJECT, "banner", "over", "linus", SYSTEM)
        until(lambda: banner(edge.listener.port) == (False, lifted.revision))
        rule = is_("tenant", "contoso", "on")
        world.put("shop", banner=setting("boolean", {"on": True, "off": False}, "off", rule))
        until(lambda: banner(edge.listener.port)[0] is True)


def test_no_author_may_write_an_override(world):
    flag = {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}
    edit = PutOverride("production", "shop", "banner", {"flag": flag})
    with pytest.raises(Invalid, match="holdfast edge push --import"):
        world.commit(edit)


def test_who_may_not_is_turned_away(world, keys, tmp_path):
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        port = edge.listener.port
        pushed = made(keys, port)
        assert call(port, "POST", "/v1/push", pushed.body).status == 401
        assert call(port, "POST", "/v1/push", pushed.body, READ).status == 403
        strange = Keys.init(tmp_path / "strange", development=True)
        with pytest.raises(Untrusted):
            made(strange, port)
        shutil.rmtree(tmp_path / "strange")
        forged = json.loads(pushed.body)
        other = json.loads(made(keys, port, Wish("shop", "banner", variant="on")).body)
        forged["bundles"][0]["delta"] = other["bundles"][0]["delta"]
        [one] = hand(port, json.dumps(forged).encode())
        assert one["state"] == "refused"
        forged["bundles"][0]["signature"]["signatures"][0]["sig"] = "AAAA"
        answered = call(port, "POST", "/v1/push", json.dumps(forged).encode(), WRITE)
        assert answered.status == 422
        for wrong in (b"", b"[]", b"{}", b"x" * 1000, b'{"entry":{},"bundles":[]}'):
            assert call(port, "POST", "/v1/push", wrong, WRITE).status == 422
        assert call(port, "POST", "/v1/push", b"x" * 70_000, WRITE).status == 413
        assert call(port, "GET", "/v1/push/unknown").status == 404
        assert banner(port)[0] is True


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        (Wish("shop", "banner", variant="purple"), "no variant"),
        (Wish("shop", "benner", variant="on"), "no setting"),
        (Wish("shop", "tiles", value="many"), "is no integer"),
    ],
)
def test_what_no_consumer_would_take_is_refused_where_it_is_made(
    world, keys, tmp_path, wish, problem
):
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "a", upstream.port) as edge,
        pytest.raises(Invalid, match=problem),
    ):
        made(keys, edge.listener.port, wish)


def test_a_value_of_its_own_carries_the_reason_along(world, keys, tmp_path):
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        pushed = made(keys, edge.listener.port, Wish("shop", "tiles", value=4))
        hand(edge.listener.port, pushed.body)
        tiles = BANNER.replace("banner", "tiles")
        answered = call(edge.listener.port, "POST", tiles, CONTOSO, READ).json()
        assert (answered["value"], answered["variant"]) == (4, "pushed")
        assert answered["metadata"]["pushed"] == "INC-7"


def test_the_command_pushes_from_a_cache_and_keeps_the_file(world, keys, tmp_path, capsys):
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        until(lambda: [*CacheCopy(tmp_path / "a").bundles()][1:])  # the disk comes after the answer
        upstream.stop()
        code = run(
            [
                *("edge", "push", "--to", f"http://127.0.0.1:{edge.listener.port}"),
                *("--from-cache", str(tmp_path / "a"), "--key", str(tmp_path / "keys")),
                *("--set", "shop/banner=off", "--reason", "INC-7", "--token", WRITE_TEXT),
                *("--out", str(tmp_path / "push.json")),
            ]
        )
        assert code == 0, capsys.readouterr()
        entry = take(decode_push((tmp_path / "push.json").read_bytes()), keys.root, verify).entry
        assert banner(edge.listener.port) == (False, entry.revision)


def test_the_first_edge_is_the_ring_that_the_others_wait_for(world, keys, tmp_path, capsys):
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "a", upstream.port) as first,
        edge_at(tmp_path / "b", upstream.port) as second,
    ):
        upstream.stop()
        first.follower.pin(SHOP_SUBJECT, first.table.get(SHOP_SUBJECT).revision, "held")
        arguments = [
            *("edge", "push", "--key", str(tmp_path / "keys"), "--set", "shop/banner=off"),
            *("--to", f"http://127.0.0.1:{first.listener.port}"),
            *("--to", f"http://127.0.0.1:{second.listener.port}", "--soak", "0.1"),
            *("--reason", "INC-7", "--token", WRITE_TEXT, "--out", str(tmp_path / "push.json")),
        ]
        assert run(arguments) == 1
        assert "no other edge got it" in capsys.readouterr().err
        assert banner(second.listener.port)[0] is True
        first.follower.unpin(SHOP_SUBJECT)
        assert run(arguments) == 0, capsys.readouterr()
        assert banner(second.listener.port)[0] is False


def test_the_reader_token_alone_makes_no_push(world, keys, tmp_path):
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        pushed = prepare(
            FromEdge(f"http://127.0.0.1:{edge.listener.port}", READ_TEXT),
            keys,
            "production",
            (OFF,),
            "linus",
            "INC-7",
        )
        answered = call(edge.listener.port, "POST", "/v1/push", pushed.body, READ)
        assert answered.status == 403


def test_the_workers_of_an_edge_tell_each_other(world, keys, tmp_path):
    """As processes they share one folder; here each is an edge of its own on it."""
    spools = [Spool(tmp_path / "pushes") for _ in range(2)]
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "a", upstream.port) as first,
        edge_at(tmp_path / "b", upstream.port) as second,
    ):
        for edge, spool in zip((first, second), spools, strict=True):
            edge.pushes._spool = spool
        upstream.stop()
        pushed = made(keys, first.listener.port)
        hand(first.listener.port, pushed.body)
        until(lambda: banner(second.listener.port) == (False, pushed.entry.revision))
        for number in range(40):
            spools[0].put(f"{number:064x}", b"no push")
        assert len(list((tmp_path / "pushes").iterdir())) <= FILES_MAX
        assert [*Spool(tmp_path / "pushes").fresh()]
        until(lambda: not [*spools[1].fresh()])  # what is none is passed over
        assert banner(second.listener.port)[0] is False
