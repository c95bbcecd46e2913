"""Who may still read a setting decides how its type and its schema may change."""

from __future__ import annotations

from typing import Any

import pytest
from histories import state_after

from holdfast.core.checks import checks
from holdfast.core.compatibility import History, Version, check_compatibility, no_history
from holdfast.core.contracts import World
from holdfast.core.errors import Problem
from holdfast.core.fold import after
from holdfast.core.model import (
    Contract,
    Environment,
    Need,
    PutContract,
    PutEnvironment,
    PutService,
    PutSetting,
    Service,
    Setting,
    Targeting,
)
from holdfast.core.policies import Policy
from holdfast.core.state import State

NARROW, MIDDLE, WIDE = {"maximum": 25}, {"maximum": 49}, {"maximum": 100}


def setting(schema: Any = None, type_: Any = "integer", value: Any = 9) -> Setting:
    return Setting(
        type=type_,
        variants={"one": value},
        environments={"production": Targeting(default="one")},
        schema=schema,
    )


def standing(mode: Any = None, schema: Any = MIDDLE) -> State:
    policy = Policy() if mode is None else Policy(compatibility=mode)
    return state_after(
        (
            PutEnvironment("production", Environment(policy=policy)),
            PutService("calling", Service()),
            PutSetting("calling", "tiles", setting(schema)),
        )
    )


def found(old: State, to: Setting, history: History = no_history) -> list[Problem]:
    return check_compatibility(old, after(old, [PutSetting("calling", "tiles", to)]), history)


@pytest.mark.parametrize(
    ("mode", "narrower", "wider"),
    [
        ("NONE", True, True),
        ("BACKWARD", False, True),
        ("FORWARD", True, False),
        ("FULL", False, False),
        ("BACKWARD_TRANSITIVE", False, True),
        ("FORWARD_TRANSITIVE", True, False),
        ("FULL_TRANSITIVE", False, False),
        (None, False, False),
    ],
)
def test_each_mode_lets_through_what_its_readers_can_read(
    mode: str | None, narrower: bool, wider: bool
) -> None:
    assert (found(standing(mode), setting(NARROW)) == []) is narrower
    assert (found(standing(mode), setting(WIDE)) == []) is wider
    assert found(standing(mode), setting({"title": "tiles", **MIDDLE})) == []
    assert found(standing(mode), setting({"exclusiveMaximum": 50})) == []


def test_a_refusal_shows_a_value_and_the_way_out() -> None:
    (problem,) = found(standing(), setting(WIDE))
    assert problem.code == "incompatible"
    assert problem.path == "/services/calling/settings/tiles/schema"
    assert "production (FULL_TRANSITIVE)" in problem.message
    assert "the new schema lets values through that the schema that stands refuses, " in (
        problem.message
    )
    assert "another key" in problem.hint


def test_without_an_example_it_says_what_is_in_doubt() -> None:
    names = setting({"pattern": "^[a-z]+$"}, "string", "web")
    old = state_after([PutSetting("calling", "tiles", names)], start=standing("NONE"))
    old = state_after([PutEnvironment("production", Environment())], start=old)
    longer = setting({"pattern": "^[a-z]+$", "not": {"pattern": "^x"}}, "string", "web")
    (problem,) = found(old, longer)
    assert "(in doubt: /allOf/0/not)" in problem.message
    assert "not known" in problem.message


@pytest.mark.parametrize("mode", ["BACKWARD", "FORWARD", "FULL", "FULL_TRANSITIVE"])
def test_a_first_schema_narrows_what_was_a_type_alone(mode: str) -> None:
    assert found(standing(mode, None), setting(MIDDLE)) == []


def test_a_schema_that_goes_lets_more_through() -> None:
    assert found(standing("FORWARD"), setting(None)) != []
    assert found(standing("BACKWARD"), setting(None)) == []


def test_a_type_is_a_schema_too() -> None:
    text = setting(None, "string", "nine")
    assert found(standing("NONE"), text) == []
    for mode in ("BACKWARD", "FORWARD", "FULL"):
        (problem,) = found(standing(mode), text)
        assert problem.path.endswith("/type")
        assert "is of type integer, the new one of string" in problem.message
    assert found(standing("BACKWARD", None), setting(None, "number")) == []
    assert found(standing("FORWARD", None), setting(None, "number")) != []


def test_the_policy_that_stands_decides_and_not_the_one_that_comes_along() -> None:
    old = standing()
    loose = PutEnvironment("production", Environment(policy=Policy(compatibility="NONE")))
    new = after(old, [loose, PutSetting("calling", "tiles", setting(WIDE))])
    assert check_compatibility(old, new) != []
    assert found(state_after([loose], start=old), setting(WIDE)) == []


def test_versions_of_the_past_count_where_the_mode_is_transitive() -> None:
    past = [Version("integer", WIDE, "the schema of revision 3")]

    def history(service: str, key: str) -> list[Version]:
        return past if (service, key) == ("calling", "tiles") else []

    same = setting({"title": "tiles", **MIDDLE})
    assert found(standing("BACKWARD"), same, history) == []
    (problem,) = found(standing("BACKWARD_TRANSITIVE"), same, history)
    assert "the schema of revision 3 lets values through that the new schema" in problem.message
    assert " for one" in problem.message


def test_what_consumers_read_by_counts_too() -> None:
    need = Contract(needs={"tiles": Need("integer", {"maximum": 60})})
    old = state_after([PutContract("calling", "web", need)], start=standing("FORWARD_TRANSITIVE"))
    odd = setting({"maximum": 49, "$comment": "the same"})
    assert found(old, odd) == []
    (problem,) = found(old, setting(WIDE))
    assert "for one" in problem.message


def test_only_settings_whose_form_changed_are_asked_about() -> None:
    old = standing()
    assert found(old, setting(MIDDLE, value=10)) == []
    other = PutSetting("calling", "other", setting(WIDE))
    assert check_compatibility(old, after(old, [other])) == []


def test_it_is_one_of_the_checks() -> None:
    old = standing()
    edits = [PutSetting("calling", "tiles", setting(WIDE))]
    world = World(tables=lambda _digest: None, now_s=lambda: 0.0)
    problems = checks(old, edits, after(old, edits), world=world)
    assert [one.code for one in problems] == ["incompatible"]
