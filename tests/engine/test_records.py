"""Search, history, past states, and undoing, asked of a small journal."""

from __future__ import annotations

import pytest
from tests.engine.a_node import FREE, Node, setting

from holdfast.core.errors import NotFound
from holdfast.core.history import EMPTY, fold
from holdfast.core.model import (
    DeleteService,
    DeleteSetting,
    PutEnvironment,
    PutService,
    PutSetting,
    Service,
)
from holdfast.engine import records


@pytest.fixture
def shop(node: Node) -> Node:
    node.commit(
        PutEnvironment("production", FREE),
        PutEnvironment("staging", FREE),
        PutService("mail", Service()),
        PutService("shop", Service()),
    )
    node.commit(
        PutSetting("shop", "max-tiles", setting(9, description="Tiles of a MEETING")),
        PutSetting("shop", "banner", setting(1, "staging")),
        PutSetting("mail", "max-size", setting(2)),
    )
    node.commit(PutSetting("shop", "max-tiles", setting(8)))
    node.commit(PutSetting("mail", "max-size", setting(3)))
    return node


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["mail/max-size", "shop/banner", "shop/max-tiles"]),
        ({"query": "max"}, ["mail/max-size", "shop/max-tiles"]),
        ({"query": "MAX shop"}, ["shop/max-tiles"]),
        ({"service": "shop"}, ["shop/banner", "shop/max-tiles"]),
        ({"environment": "staging"}, ["shop/banner"]),
        ({"service": "nowhere"}, []),
        ({"cursor": "shop/banner"}, ["shop/max-tiles"]),
        ({"cursor": "mail"}, ["mail/max-size", "shop/banner", "shop/max-tiles"]),
        ({"cursor": "zzz/zzz"}, []),
    ],
)
def test_settings_are_found(shop: Node, query: dict[str, str], found: list[str]) -> None:
    page = shop.records.settings(**query)  # type: ignore[arg-type]
    assert [f"{one.service}/{one.key}" for one in page.settings] == found
    assert page.cursor == ""


def test_pages_of_settings_follow_each_other(shop: Node) -> None:
    seen, cursor = [], ""
    for _ in range(3):
        page = shop.records.settings(limit=1, cursor=cursor)
        seen += [one.key for one in page.settings]
        cursor = page.cursor
    assert (seen, cursor) == (["max-size", "banner", "max-tiles"], "")


@pytest.mark.parametrize(
    ("query", "revisions"),
    [
        ({}, [4, 3, 2, 1]),
        ({"service": "shop"}, [3, 2, 1]),
        ({"service": "shop", "key": "max-tiles"}, [3, 2]),
        ({"service": "mail", "key": "max-size"}, [4, 2]),
        ({"before": 3}, [2, 1]),
        ({"before": 99}, [4, 3, 2, 1]),
        ({"service": "nowhere"}, []),
    ],
)
def test_history_is_newest_first(shop: Node, query: dict[str, str], revisions: list[int]) -> None:
    page = shop.records.history(**query)  # type: ignore[arg-type]
    assert [entry.revision for entry in page.entries] == revisions
    assert page.before == 0


def test_pages_of_history_follow_each_other(shop: Node) -> None:
    first = shop.records.history(service="shop", limit=2)
    assert ([one.revision for one in first.entries], first.before) == ([3, 2], 2)
    second = shop.records.history(service="shop", limit=2, before=first.before)
    assert ([one.revision for one in second.entries], second.before) == ([1], 0)


def test_a_page_of_history_ends_where_too_much_was_looked_through(
    shop: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LOOKED_THROUGH_MAX", 2)
    first = shop.records.history(service="shop", key="banner")
    assert (first.entries, first.before) == ((), 3)
    second = shop.records.history(service="shop", key="banner", before=first.before)
    assert ([one.revision for one in second.entries], second.before) == ([2], 0)


def test_an_entry_and_what_it_changed(shop: Node) -> None:
    assert shop.records.entry(3).revision == 3
    (changed,) = shop.records.changes(3)
    assert changed.summary.startswith("/description")
    for revision in (0, -1, 5):
        with pytest.raises(NotFound):
            shop.records.entry(revision)


def test_every_past_state_is_the_fold_up_to_it(shop: Node) -> None:
    again, state = Node(shop.journal).records, EMPTY
    assert again.state_at(0) == EMPTY
    for entry in shop.journal.read():
        state = fold(state, entry)
        assert again.state_at(entry.revision) == state
        assert shop.records.state_at(entry.revision) == state
    for revision in (-1, 5):
        with pytest.raises(NotFound):
            again.state_at(revision)


def test_two_revisions_compare_both_ways(shop: Node) -> None:
    there = shop.records.differences(1, 2)
    back = shop.records.differences(2, 1)
    assert [one.name for one in there] == ["max-size", "banner", "max-tiles"]
    assert [(one.before, one.after) for one in back] == [(one.after, one.before) for one in there]


def test_a_revision_is_reverted_and_newer_work_stays(shop: Node) -> None:
    undo = shop.records.revert(3, 3)
    assert undo.problems == ()
    shop.commit(*undo.edits)
    services = shop.view.state.services
    assert services["shop"].settings["max-tiles"].setting.variants["few"] == 9
    assert services["mail"].settings["max-size"].setting.variants["few"] == 3


def test_what_was_changed_again_since_is_a_problem(shop: Node) -> None:
    undo = shop.records.revert(2, 2)
    assert {problem.code for problem in undo.problems} == {"changed-since"}
    assert {problem.path for problem in undo.problems} >= {"/mail/settings/max-size"}
    whole = shop.records.revert(2, 4)
    assert whole.problems == ()
    shop.commit(*whole.edits)
    assert shop.view.state.services["shop"].settings == {}


def test_a_deleted_setting_is_restored_as_it_last_was(shop: Node) -> None:
    before = shop.view.state.services["shop"].settings["max-tiles"].setting
    shop.commit(DeleteSetting("shop", "max-tiles"))
    undo = shop.records.restore("shop", "max-tiles")
    shop.commit(*undo.edits)
    assert shop.view.state.services["shop"].settings["max-tiles"].setting == before


def test_a_deleted_service_is_restored_whole(shop: Node) -> None:
    before = {key: one.setting for key, one in shop.view.state.services["shop"].settings.items()}
    shop.commit(DeleteService("shop"))
    shop.commit(*shop.records.restore("shop").edits)
    after = {key: one.setting for key, one in shop.view.state.services["shop"].settings.items()}
    assert after == before


def test_a_setting_is_restored_from_a_revision_of_choice(shop: Node) -> None:
    shop.commit(DeleteSetting("shop", "max-tiles"))
    shop.commit(*shop.records.restore("shop", "max-tiles", 2).edits)
    restored = shop.view.state.services["shop"].settings["max-tiles"].setting
    assert restored.variants["few"] == 9


def test_what_never_was_cannot_be_restored(shop: Node) -> None:
    with pytest.raises(NotFound):
        shop.records.restore("shop", "nothing")
    with pytest.raises(NotFound):
        shop.records.restore("nowhere")
    problems = shop.records.restore("shop", "banner", 2).problems
    assert [problem.code for problem in problems] == ["exists"]
