"""More pushes than one in a night: each has a file, and follows those before it."""

from __future__ import annotations

import contextlib

import pytest
from an_edge import edge_at
from serving import call, until
from upstream import SHOP_SUBJECT, SYSTEM, World, setting, token

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.signing import Keys
from holdfast.apps.cli import run
from holdfast.apps.cli.pushing import FromCache, FromEdge, Wish, prepare
from holdfast.apps.edge.spool import Spool
from holdfast.core.model import PutService, Scope, Service
from holdfast.core.pushes import decode_push, take
from holdfast.core.wire import canonical
from holdfast.engine.pushes import PushDoor

WRITE_TEXT, WRITER = token("writer", b"w" * 32, Scope(verbs=("write",)))
WRITE = {"authorization": f"Bearer {WRITE_TEXT}"}


@pytest.fixture
def world(tmp_path) -> World:
    made = World(tmp_path)
    made.commit(WRITER)
    mail = setting("boolean", {"on": True, "off": False}, "on")
    made.commit(PutService("mail", Service()), *made.settings("mail", {"send": mail}))
    return made


def url(edge) -> str:
    return f"http://127.0.0.1:{edge.listener.port}"


def holds(edge) -> str:
    return edge.table.get(SHOP_SUBJECT).digest


def pushing(tmp_path, monkeypatch):
    """The command in a directory of its own, and the files that it left there."""
    folder = tmp_path / "night"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def push(*arguments: str) -> int:
        return run(["edge", "push", "--token", WRITE_TEXT, *arguments])

    return push, lambda: sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def test_two_services_one_after_the_other_are_two_entries_and_both_come_home(
    world, tmp_path, monkeypatch, capsys
):
    push, files = pushing(tmp_path, monkeypatch)
    common = ("--key", str(tmp_path / "keys"), "--reason", "INC-7")
    with contextlib.ExitStack() as upstream:
        port = upstream.enter_context(world.serving()).port
        with edge_at(tmp_path / "a", port) as edge:
            upstream.close()
            assert push("--to", url(edge), "--set", "shop/banner=off", *common) == 0
            assert push("--to", url(edge), "--set", "mail/send=off", *common) == 0
            entry = prepare(
                FromEdge(url(edge), WRITE_TEXT),
                Keys.load(tmp_path / "keys"),
                "production",
                (Wish("shop", "tiles", variant="many"),),
                "linus",
                "INC-8",
            ).entry
            until(lambda: FromCache(tmp_path / "a").bundle(SHOP_SUBJECT))
    roots = Keys.load(tmp_path / "keys").root
    pushed = [take(decode_push(path.read_bytes()), roots, verify) for path in files()]
    first, second = (one.entry for one in pushed)
    assert (second.revision, second.previous) == (first.revision + 1, first.hash)
    assert (entry.revision, entry.previous) == (second.revision + 1, second.hash)
    door = PushDoor(world.publisher, world.view)
    assert not any(door.bring(one, "linus", SYSTEM).met for one in pushed)


def test_no_push_takes_the_file_of_another_one(world, tmp_path, monkeypatch, capsys):
    push, files = pushing(tmp_path, monkeypatch)
    common = ("--key", str(tmp_path / "keys"), "--reason", "INC-7", "--set", "shop/banner=off")
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "a", upstream.port) as first,
        edge_at(tmp_path / "b", upstream.port) as second,
    ):
        upstream.stop()
        for edge in (first, second):  # each by itself: two entries of one revision
            assert push("--to", url(edge), *common) == 0
    assert len(files()) == 2


def test_an_edge_that_was_away_gets_the_same_push(world, tmp_path, monkeypatch, capsys):
    push, files = pushing(tmp_path, monkeypatch)
    common = ("--key", str(tmp_path / "keys"), "--reason", "INC-7", "--set", "shop/banner=off")
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "a", upstream.port) as first,
        edge_at(tmp_path / "b", upstream.port) as second,
    ):
        upstream.stop()
        assert push("--to", url(first), *common) == 0
        [kept] = files()
        assert push("--again", str(kept), "--to", url(second)) == 0
        assert holds(first) == holds(second)
        assert files() == [kept]
        assert push("--again", str(kept)) == 2
        assert push("--again", str(kept), "--to", url(second), "--set", "shop/tiles=few") == 2


def test_what_no_edge_took_is_not_said_to_be_kept_for_import(world, tmp_path, monkeypatch, capsys):
    push, _ = pushing(tmp_path, monkeypatch)
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        edge.follower.pin(SHOP_SUBJECT, edge.table.get(SHOP_SUBJECT).revision, "held")
        common = ("--key", str(tmp_path / "keys"), "--reason", "INC-7", "--set", "shop/banner=off")
        assert push("--to", url(edge), *common) == 1
    told = capsys.readouterr()
    assert "No edge said that it took it" in told.out + told.err


def test_a_key_that_was_rotated_just_before_all_died_pushes(world, tmp_path, monkeypatch, capsys):
    push, _ = pushing(tmp_path, monkeypatch)
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        upstream.stop()
        assert run(["keys", "rotate", "--data", str(tmp_path), "--environment", "production"]) == 0
        common = ("--key", str(tmp_path / "keys"), "--reason", "INC-7", "--set", "shop/banner=off")
        assert push("--to", url(edge), *common) == 0, capsys.readouterr()


def test_hostile_pushes_are_turned_away_and_nothing_else(world, tmp_path):
    bundle = {"roots": [], "signature": {"payloadType": "x", "payload": "e30=", "signatures": []}}
    envelope = {"payloadType": "x", "payload": "e30=", "signatures": []}
    with world.serving() as upstream, edge_at(tmp_path / "a", upstream.port) as edge:
        for bad in (
            {**bundle, "delta": {}},
            {**bundle, "snapshot": {}},
            {**bundle, "snapshot": [[[]]] * 100, "delta": 1},
            {"delta": {}, "roots": [1], "signature": None},
            [],
            "x",
            None,
            1e400,
        ):
            body = f'{{"entry":{canonical(envelope).decode()},"bundles":['.encode()
            body += repr(bad).encode() if bad == 1e400 else canonical(bad)
            answered = call(edge.listener.port, "POST", "/v1/push", body + b"]}", WRITE)
            assert answered.status == 422, (bad, answered.body)
        assert edge.ready()[0]


def test_a_push_that_comes_again_is_told_to_the_other_workers_again(tmp_path):
    """What kept it out of one of them, a pin perhaps, may be gone by then."""
    one, other = (Spool(tmp_path / "pushes") for _ in range(2))
    for _ in range(2):
        one.put("a" * 64, b"push")
        assert [*other.fresh()] == [b"push"]
        assert not [*other.fresh()]
        assert not [*one.fresh()]
