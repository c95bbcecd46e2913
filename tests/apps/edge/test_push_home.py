"""A push comes home to a journal in which others wrote meanwhile: once, whatever they did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from upstream import SHOP_SUBJECT, SYSTEM, World, setting

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.signing import Keys
from holdfast.apps.cli.pushing import Wish, prepare
from holdfast.apps.control.upstream import Upstream
from holdfast.core.errors import Invalid
from holdfast.core.limits import TEXT_CHARS_MAX
from holdfast.core.model import Change, DeleteService, DeleteSetting, Head, Subject
from holdfast.core.pushes import Pushed, decode_push, take
from holdfast.core.roots import RootSet
from holdfast.engine.judgement import AUTOMATION
from holdfast.engine.pushes import Home, PushDoor

OFF = Wish("shop", "banner", variant="off")
ON = Wish("shop", "banner", variant="on")


class Base:
    """What an edge has that saw the world as it is now."""

    def __init__(self, world: World) -> None:
        newest = Upstream(world.shelf).newest(SHOP_SUBJECT)
        assert newest is not None
        self._bundle = newest.body
        self._head = world.view.state.head

    def bundle(self, _subject: Subject) -> bytes:
        return self._bundle

    def table(self, _subject: Subject, _digest: str) -> bytes | None:
        return None

    def heads(self, _roots: RootSet, _environment: str) -> Iterator[Head]:
        yield self._head


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@pytest.fixture
def keys(tmp_path, world) -> Keys:
    return Keys.load(tmp_path / "keys")


def made(base: Base, keys: Keys, wish: Wish = OFF, reason: str = "INC-7") -> Pushed:
    return prepare(base, keys, "production", (wish,), "linus (offline)", reason)


def bring(world: World, keys: Keys, pushed: Pushed) -> Home:
    taken = take(decode_push(pushed.body), keys.root, verify)
    return PushDoor(world.publisher, world.view).bring(taken, "linus", SYSTEM)


def standing(world: World) -> str:
    flag = world.view.state.overrides["production/shop"].keys["banner"].flag
    return flag["defaultVariant"] if flag else "lifted"


def somebody_writes(world: World) -> None:
    world.put("shop", title=setting("string", {"old": "Shop", "new": "Neu"}, "new"))


def test_an_older_push_that_is_brought_twice_does_not_undo_a_newer_one(world, keys):
    base = Base(world)
    somebody_writes(world)
    older = made(base, keys, OFF)
    home = bring(world, keys, older)
    assert home.met
    newer = made(Base(world), keys, ON)
    last = bring(world, keys, newer)
    assert standing(world) == "on"
    assert bring(world, keys, older).met
    assert standing(world) == "on"
    assert world.view.state.head.revision == last.revision


def test_what_was_lifted_does_not_come_back_with_its_file(world, keys):
    base = Base(world)
    somebody_writes(world)
    pushed = made(base, keys, OFF)
    bring(world, keys, pushed)
    world.put("shop", banner=setting("boolean", {"on": True, "off": False}, "off"))
    door = PushDoor(world.publisher, world.view)
    lifted = door.lift(SHOP_SUBJECT, "banner", "over", "linus", SYSTEM)
    assert bring(world, keys, pushed).met
    assert standing(world) == "lifted"
    assert world.view.state.head.revision == lifted.revision


def test_two_pushes_of_one_revision_both_come_above_what_was_handed_out(world, keys):
    """Two edges, pushed to one by one, hold other bytes under the same number."""
    base = Base(world)
    first, second = made(base, keys), made(base, keys)
    assert first.entry.revision == second.entry.revision
    assert first.entry.hash != second.entry.hash
    assert not bring(world, keys, first).met
    home = bring(world, keys, second)
    assert home.met
    newest = world.shelf.newest(SHOP_SUBJECT)
    assert newest is not None
    # What follows revision N names N's digest: an edge with the other N refuses it.
    assert newest.revision == home.revision > second.entry.revision + 1
    assert bring(world, keys, second).revision == home.revision


def test_a_service_that_was_deleted_meanwhile_is_said_and_nothing_is_written(world, keys):
    base = Base(world)
    pushed = made(base, keys)
    keys_there = list(world.view.state.services["shop"].settings)
    gone = (*(DeleteSetting("shop", key) for key in keys_there), DeleteService("shop"))
    world.publisher.commit(Change(gone, "shut"), "test", SYSTEM, AUTOMATION)
    head = world.view.state.head
    with pytest.raises(Invalid, match="shop"):
        bring(world, keys, pushed)
    assert world.view.state.head == head


def test_a_setting_that_was_deleted_meanwhile_is_said_and_nothing_is_written(world, keys):
    base = Base(world)
    pushed = made(base, keys)
    world.commit(DeleteSetting("shop", "banner"))
    head = world.view.state.head
    with pytest.raises(Invalid, match="banner"):
        bring(world, keys, pushed)
    assert world.view.state.head == head


def test_the_longest_reason_comes_home_too(world, keys):
    base = Base(world)
    pushed = made(base, keys, reason="x" * TEXT_CHARS_MAX)
    somebody_writes(world)
    assert bring(world, keys, pushed).met
    assert standing(world) == "off"
