"""Rollouts as the journal tells them, and which of them an alarm speaks against."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.adapters.memory import MemoryJournal
from holdfast.core.errors import NotFound
from holdfast.core.fold import after
from holdfast.core.history import seal
from holdfast.core.model import (
    Edit,
    Environment,
    MoveRollout,
    PutEnvironment,
    PutService,
    PutSetting,
    Service,
    Setting,
    StartRollout,
    Subject,
    Targeting,
)
from holdfast.core.policies import Plan, Stage
from holdfast.core.reports import Refusal
from holdfast.core.state import EMPTY, State
from holdfast.engine import rollout_log
from holdfast.engine.blame import blamed
from holdfast.engine.fleet import Alarm
from holdfast.engine.rollout_log import RolloutLog

PLAN = Plan(stages=(Stage("first", ("ring0",), bake_s=60), Stage("all", percent=100)))


def setting(value: int) -> Setting:
    return Setting("integer", {"few": value}, {"production": Targeting("few")})


def put(service: str, value: int) -> PutSetting:
    return PutSetting(service, "tiles", setting(value))


class Written:
    """A journal that a test writes entry by entry, without a door."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()

    def append(self, *edits: Edit, reason: str = "a test") -> int:
        head = self.journal.head()
        self.journal.append(seal(head, 1_000 * (head.revision + 1), "ann", reason, edits))
        return head.revision + 1

    def rollout(self, *edits: Edit) -> str:
        return f"production.{self.append(*edits, StartRollout('production', PLAN))}"


def test_a_rollout_is_told_from_its_beginning_to_its_end() -> None:
    written = Written()
    log = RolloutLog(written.journal)
    assert log.all() == []
    written.append(PutService("shop", Service()))
    first = written.rollout(put("shop", 9))
    assert (log.one(first).status, log.one(first).stage) == ("running", 0)
    written.append(MoveRollout(first, 1, "running", "baked", {"e": 0.5}))
    written.append(MoveRollout(first, 1, "rolled-back", "errors"))
    second = written.rollout(put("shop", 10), put("mail", 1))
    told = log.one(first)
    assert (told.status, told.stage, told.ended) == ("rolled-back", 1, True)
    assert [(each.reason, each.evidence) for each in told.moves] == [
        ("baked", {"e": 0.5}),
        ("errors", None),
    ]
    assert (told.items, told.services) == (("shop/tiles",), ("shop",))
    assert log.one(second).services == ("mail", "shop")
    assert [each.rollout for each in log.all()] == [second, first]


def test_what_is_none_is_not_found() -> None:
    written = Written()
    written.append(PutService("shop", Service()))
    log = RolloutLog(written.journal)
    for name in ("production.1", "production.77", "production", "", ".", "x.-1", "x." + "9" * 400):
        with pytest.raises(NotFound):
            log.one(name)


def test_what_began_long_ago_is_found_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written()
    first = written.rollout(put("shop", 1))
    written.append(MoveRollout(first, 0, "completed"))
    for number in range(10):
        written.append(put("shop", number))
    newest = written.rollout(put("shop", 2))
    monkeypatch.setattr(rollout_log, "LOOKED_THROUGH_MAX", 5)
    log = RolloutLog(written.journal)
    assert [each.rollout for each in log.all()] == [newest]
    assert log.one(first).status == "completed"


def test_the_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_log, "KEPT_MAX", 3)
    written = Written()
    for number in range(6):
        written.rollout(put("shop", number))
    assert [each.revision for each in RolloutLog(written.journal).all()] == [6, 5, 4]


# Blame


@pytest.fixture
def state() -> State:
    """production.2 of shop and production.3 of mail are under way; cart includes shop."""
    begun = after(
        EMPTY,
        (
            PutEnvironment("production", Environment()),
            PutEnvironment("staging", Environment()),
            PutService("shop", Service()),
            PutService("mail", Service()),
            PutService("cart", Service(includes=("shop",))),
            put("shop", 1),
            put("mail", 1),
        ),
    )
    for service in ("shop", "mail"):
        begun = after(begun, (put(service, 2), StartRollout("production", PLAN)))
    return begun


def alarm(service: str, revision: int, code: str = "probe", environment: str = "production") -> Any:
    refusal = Refusal(revision, "", code, "", 0)
    return Alarm("consumer-a", Subject(environment, service), 0.0, revision, refusal)


@pytest.mark.parametrize(
    ("service", "revision", "code", "expected"),
    [
        ("shop", 2, "probe", ("production.2",)),
        ("shop", 9, "schema", ("production.2",)),
        ("cart", 2, "probe", ("production.2",)),
        ("mail", 3, "contract", ("production.3",)),
        ("mail", 2, "probe", ()),
        ("shop", 1, "probe", ()),
        ("other", 9, "probe", ()),
        ("shop", 2, "digest", ()),
        ("shop", 0, "signature", ()),
        ("shop", 0, "defect", ("production.2",)),
    ],
)
def test_a_refusal_speaks_against_the_rollout_that_brought_it(
    state: State, service: str, revision: int, code: str, expected: tuple[str, ...]
) -> None:
    assert blamed(alarm(service, revision, code), state) == expected


def test_other_environments_are_not_concerned(state: State) -> None:
    assert blamed(alarm("shop", 9, environment="staging"), state) == ()


def test_a_crash_speaks_against_what_ran(state: State) -> None:
    crash = Alarm("consumer-a", Subject("production", "shop"), 0.0, 2)
    assert blamed(crash, state) == ("production.2",)


def test_of_two_that_reach_a_subject_it_is_the_one_that_moved_last(state: State) -> None:
    both = after(
        state,
        (PutSetting("shop", "rows", setting(1)), StartRollout("production", PLAN)),
    )
    assert blamed(alarm("shop", 4), both) == ("production.4",)
    assert blamed(alarm("shop", 2), both) == ("production.2",)
    moved = after(both, (MoveRollout("production.2", 1, "running"),))
    assert blamed(alarm("shop", 5), moved) == ("production.2",)
