"""A rule that fails for a context which has an answer is told as consumers refuse it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.histories import serving, state_after
from tests.core.test_build import PRODUCTION, made, put
from tests.core.test_shape_check import WORLD, generation

from holdfast.core.checks import checks
from holdfast.core.errors import Problem, Untrusted
from holdfast.core.model import (
    Audience,
    Edit,
    MoveRollout,
    PutContexts,
    PutSegment,
    Segment,
    Setting,
    StartRollout,
    Targeting,
)
from holdfast.core.policies import Plan, Stage
from holdfast.core.proof import prove
from holdfast.core.state import State

WORDS = {"on": "yes", "off": "no"}


def ruled(then: Any, *, enabled: bool = True) -> Setting:
    """A setting that gives one ring what is said, and all others its default."""
    logic = {"if": [{"==": [{"var": "ring"}, "x"]}, then, None]}
    return Setting("string", WORDS, {"production": Targeting("off", enabled=enabled, logic=logic)})


NO_VARIANT = {"cat": ["o", "x"]}
SOUND, FAILING = ruled("on"), ruled(NO_VARIANT)


def told(old: State, *edits: Edit) -> list[Problem]:
    new = state_after(edits, start=old)
    return [one for one in checks(old, edits, new, world=WORLD) if one.code == "failing"]


def refused(old: State, *edits: Edit) -> bool:
    """Whether a consumer refuses the change for what it fails for."""
    try:
        prove(generation(made(state_after(edits, start=old))), generation(made(old)))
    except Untrusted as error:
        return error.code == "probe"
    return False


def test_what_would_fail_is_told_with_the_context() -> None:
    old, change = state_after([PRODUCTION, put("a", SOUND)]), put("a", FAILING)
    (problem,) = told(old, change)
    assert problem.severity == "error"
    assert problem.path == "/services/shop/settings/a/environments/production"
    assert '{"ring":"x"' in problem.message
    assert refused(old, change)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FAILING, SOUND),
        (FAILING, ruled({"cat": ["o", "y"]})),
        (SOUND, serving("on", {"==": [{"var": "ring"}, "y"]})),
        (SOUND, ruled(NO_VARIANT, enabled=False)),
        (SOUND, serving("on", {"$ref": "large"})),
    ],
)
def test_what_failed_already_or_fails_for_nothing_is_let_through(
    before: Setting, after: Setting
) -> None:
    """What a large segment's table decides is carried by no snapshot."""
    large = Audience("user", members_digest="a" * 64, member_count=9, table_digest="b" * 64)
    old = state_after([PRODUCTION, put("a", before), PutSegment("shop", "large", Segment(large))])
    assert not told(old, put("a", after))


def test_a_context_from_traffic_counts() -> None:
    """Nothing in the rule as it was led to it."""
    seen = PutContexts("production", "shop", ({"ring": "x"},))
    plain = Setting("string", WORDS, {"production": Targeting("off")})
    old = state_after([PRODUCTION, put("a", plain), seen])
    (problem,) = told(old, put("a", FAILING))
    assert '{"ring":"x"}' in problem.message
    assert refused(old, put("a", FAILING))


def test_it_is_told_at_the_beginning_of_a_rollout_and_keeps_none_from_going_back() -> None:
    old = state_after([PRODUCTION, put("a", FAILING)])
    plan = Plan(stages=(Stage(percent=0, rings=("inside",)), Stage(percent=100)))
    begun = state_after([put("a", SOUND), StartRollout("production", plan)], start=old)
    (name,) = begun.rollouts
    back = (put("a", FAILING), MoveRollout(name, 0, "rolled-back"))
    (problem,) = told(begun, *back)
    assert problem.severity == "warning"
    sound = state_after([PRODUCTION, put("a", SOUND)])
    assert told(sound, put("a", FAILING), StartRollout("production", plan))
