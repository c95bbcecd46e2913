"""Contexts for probes: chosen, checked at the door, folded, and each touch explained."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.core.build import build
from holdfast.core.context_check import CONTEXTS_MAX
from holdfast.core.evaluate import Evaluator
from holdfast.core.fold import after
from holdfast.core.model import (
    DeleteService,
    Edit,
    Environment,
    Head,
    PutContexts,
    PutEnvironment,
    PutService,
    PutSetting,
    Rule,
    Service,
    Setting,
    Subject,
    Targeting,
)
from holdfast.core.representative import representative
from holdfast.core.state import EMPTY, State
from holdfast.core.subjects import subject_revision
from holdfast.core.validate import validate

SHOP = Subject("production", "shop")
SETTING = Setting(
    type="string",
    variants={"x": "x", "y": "y"},
    environments={
        "production": Targeting(
            default="x", rules=(Rule(logic={"===": [{"var": "tenant"}, "a"]}, serve="y"),)
        )
    },
)


def shop() -> State:
    return after(
        EMPTY,
        [
            PutEnvironment("production", Environment()),
            PutService("shop", Service(attributes={"tenant": "string"})),
            PutSetting("shop", "banner", SETTING),
        ],
    )


def put(*contexts: dict[str, Any], service: str = "shop") -> PutContexts:
    return PutContexts("production", service, contexts)


def test_they_stand_and_touch_their_subject() -> None:
    state = shop()
    new = after(state, [put({"tenant": "a"})])
    assert new.contexts == {"production/shop": ({"tenant": "a"},)}
    assert subject_revision(new, SHOP) == state.head.revision + 1
    again = after(new, [put({"tenant": "a"})])
    assert subject_revision(again, SHOP) == subject_revision(new, SHOP), "the same touch nothing"
    there_and_back = after(new, [put(), put({"tenant": "a"})])
    assert subject_revision(there_and_back, SHOP) == subject_revision(new, SHOP)
    assert after(new, [put()]).contexts == {}


def test_of_what_is_not_there_none_are_kept() -> None:
    assert after(EMPTY, [put({"tenant": "a"})]).contexts == {}
    gone = after(shop(), [DeleteService("shop"), put({"tenant": "a"})])
    assert gone.contexts == {}


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (put({"tenant": "a"}, service="mail"), "unknown-service"),
        (PutContexts("staging", "shop", ({},)), "unknown-service"),
        (put(*({"n": n} for n in range(CONTEXTS_MAX + 1))), "too-many"),
        (put({"tenant": "x" * 10_000}), "too-large"),
    ],
)
def test_the_door_holds_their_bounds(edit: Edit, code: str) -> None:
    assert [each.code for each in validate(shop(), [edit])] == [code]
    assert validate(shop(), [put({"tenant": "a"})]) == []


def test_a_snapshot_names_the_attributes_that_may_be_told() -> None:
    state = after(
        shop(),
        [
            PutService("shared", Service(attributes={"ring": "string"})),
            PutService("shop", Service(includes=("shared",), attributes={"tenant": "string"})),
        ],
    )
    head = Head(subject_revision(state, SHOP), "0" * 64)
    assert build(state, SHOP, None, head=head).holdfast.attributes == ("ring", "tenant")
    more = after(
        state, [PutService("shared", Service(attributes={"ring": "string", "plan": "string"}))]
    )
    described = after(state, [PutService("shop", state.services["shop"].info)])
    assert subject_revision(described, SHOP) == subject_revision(state, SHOP)
    assert more.head.revision == state.head.revision + 1


def test_declaring_an_attribute_touches_who_stands_there() -> None:
    state = shop()
    declared = Service(attributes={"tenant": "string", "plan": "string"})
    new = after(state, [PutService("shop", declared)])
    assert subject_revision(new, SHOP) == new.head.revision


def test_a_few_stand_for_many() -> None:
    state = shop()
    snapshot = build(state, SHOP, None, head=Head(state.head.revision, "0" * 64))
    evaluator = Evaluator(snapshot.flags, now_s=lambda: 0.0)
    many = [{"tenant": name} for name in "bcdaef"]
    assert representative(evaluator, many) == ({"tenant": "b"}, {"tenant": "a"})
    assert representative(evaluator, many, most=1) == ({"tenant": "b"},)
    assert representative(evaluator, []) == ()
