"""What all consumers would refuse is told to its author, and what is told they do refuse."""

from __future__ import annotations

import pytest
from tests.core.histories import serving, states
from tests.core.test_build import PRODUCTION, SHOP, include, made, put

from holdfast.core.checks import checks
from holdfast.core.contracts import World
from holdfast.core.errors import Problem, Untrusted
from holdfast.core.model import (
    DeleteSetting,
    Edit,
    Environment,
    MoveRollout,
    PutEnvironment,
    StartRollout,
)
from holdfast.core.policies import Plan, Policy, Shape, Stage
from holdfast.core.proof import Demands, prove
from holdfast.core.roots import RootSet
from holdfast.core.shape_check import check_shape
from holdfast.core.snapshot import Snapshot, digest, encode
from holdfast.core.state import State
from holdfast.core.trust import Admitted, Generation, equip

WORLD = World(tables=lambda _digest: None, now_s=lambda: 0.0)
KEYS = [f"setting-{number:02}" for number in range(40)]
FULL: list[Edit] = [put(key, serving("on")) for key in KEYS]


def deleted(count: int, service: str = "shop") -> list[Edit]:
    return [DeleteSetting(service, key) for key in KEYS[:count]]


def generation(snapshot: Snapshot) -> Generation:
    body = encode(snapshot)
    roots = RootSet(version=1, development=True, roots={}, keys={})
    return equip(Admitted(SHOP, snapshot, digest(body), body, body, roots), {}, lambda: 0.0)


def refused(old: State, new: State) -> bool:
    try:
        prove(generation(made(new)), generation(made(old)), Demands())
    except Untrusted as error:
        return error.code == "shape"
    return False


@pytest.mark.parametrize("count", [12, 13, 40])
def test_what_consumers_will_refuse_is_told(count: int) -> None:
    old, new = states([deleted(count)], states([[PRODUCTION], FULL])[-1])
    told = list(check_shape(old, new))
    assert bool(told) is refused(old, new) is (count > 12)
    assert told == [one for one in checks(old, deleted(count), new, world=WORLD) if one in told]
    assert {one.severity for one in told} <= {"warning"}


def test_with_a_rollout_it_is_refused_at_its_end() -> None:
    plan = Plan(stages=(Stage(percent=100),))
    change = [*deleted(20), StartRollout("production", plan)]
    begin = states([[PRODUCTION], FULL])[-1]
    old, under_way, over = states(
        [change, [MoveRollout(f"production.{begin.head.revision + 1}", 0, "completed")]], begin
    )
    assert not refused(old, under_way)
    assert refused(under_way, over)
    assert told(old, under_way)


def told(old: State, new: State) -> list[Problem]:
    return list(check_shape(old, new))


def test_what_is_taken_from_an_included_service_counts() -> None:
    full: list[Edit] = [put(key, serving("on"), "shared") for key in KEYS]
    begin = states([[PRODUCTION], full, [include("shared")]])[-1]
    old, new = states([deleted(20, "shared")], begin)
    assert [one.path for one in told(old, new)] == ["/services/shared", "/services/shop"]
    old, new = states([[include()]], begin)
    assert [one.path for one in told(old, new)] == ["/services/shop"]


def test_the_budget_is_the_one_that_stood_before() -> None:
    wide = PutEnvironment("production", Environment(policy=Policy(shape=Shape(lost_percent=100))))
    begin = states([[PRODUCTION], FULL])[-1]
    assert told(*states([[wide, *deleted(20)]], begin))
    begin = states([[wide]], begin)[-1]
    assert not told(*states([deleted(20)], begin))


def test_a_small_service_may_lose_all() -> None:
    begin = states([[PRODUCTION], FULL[:9]])[-1]
    assert not told(*states([deleted(9)], begin))
