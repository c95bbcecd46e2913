"""What differs between two states: everything that an entry can put shows."""

from __future__ import annotations

from holdfast.core.difference import Difference, diff
from holdfast.core.fold import fold
from holdfast.core.history import seal
from holdfast.core.model import (
    DeleteSetting,
    Edit,
    Environment,
    Override,
    PutContexts,
    PutEnvironment,
    PutOverride,
    PutService,
    PutSetting,
    Service,
    Setting,
    Targeting,
)
from holdfast.core.revert import revert
from holdfast.core.state import EMPTY, State

SETTING = Setting(
    type="boolean",
    variants={"on": True, "off": False},
    environments={"production": Targeting(default="off"), "staging": Targeting(default="off")},
)
FLAG = {"state": "ENABLED", "variants": SETTING.variants, "defaultVariant": "on"}


def then(state: State, actor: str, reason: str, *edits: Edit) -> State:
    return fold(state, seal(state.head, 7, actor, reason, edits))


BEFORE = then(
    EMPTY,
    "ada",
    "begin",
    PutEnvironment("production", Environment()),
    PutEnvironment("staging", Environment()),
    PutService("shop", Service()),
    PutSetting("shop", "checkout", SETTING),
)
PUSHED = then(
    BEFORE,
    "linus",
    "INC-7",
    PutOverride("production", "shop", "checkout", Override(FLAG)),
    PutOverride("staging", "shop", "checkout", Override({**FLAG, "defaultVariant": "off"})),
)


def overrides(old: State, new: State) -> list[Difference]:
    return [one for one in diff(old, new) if one.kind == "override"]


def test_a_push_shows_in_each_environment_with_its_value_and_who_made_it() -> None:
    production, staging = diff(BEFORE, PUSHED)
    assert (production.name, production.environments) == ("checkout", ("production",))
    assert (staging.name, staging.environments) == ("checkout", ("staging",))
    assert production.after == {
        "value": True, "revision": 2, "at_ms": 7, "actor": "linus", "reason": "INC-7",
    }  # fmt: skip
    assert production.summary == "true pushed by linus in revision 2: INC-7"
    assert staging.summary == "false pushed by linus in revision 2: INC-7"
    assert [one.summary for one in diff(PUSHED, BEFORE)] == [
        "true not pushed yet",
        "false not pushed yet",
    ]


def test_one_that_is_pushed_over_another_shows_both() -> None:
    again = PutOverride("staging", "shop", "checkout", Override(FLAG))
    (found,) = diff(PUSHED, then(PUSHED, "grace", "INC-8\nworse", again))
    assert found.summary == "false -> true pushed by grace in revision 3: INC-8 worse"
    assert (found.before["value"], found.after["value"]) == (False, True)


def test_what_is_lifted_is_there_no_more_and_who_did_it_is_told() -> None:
    lift = PutOverride("production", "shop", "checkout", None)
    lifted = then(PUSHED, "ada", "over", lift)
    (found,) = diff(PUSHED, lifted)
    assert found.after is None
    assert found.summary == "true lifted by ada in revision 3: over"
    assert [one.environments for one in diff(BEFORE, lifted)] == [("staging",)]


def test_a_deleted_setting_takes_what_was_pushed_along() -> None:
    gone = overrides(PUSHED, then(PUSHED, "ada", "", DeleteSetting("shop", "checkout")))
    assert [(one.environments, one.summary) for one in gone] == [
        (("production",), "true gone with its setting in revision 3"),
        (("staging",), "false gone with its setting in revision 3"),
    ]


def test_contexts_and_declared_attributes_show() -> None:
    contexts = ({"tier": "gold"}, {"tier": "tin"})
    new = then(
        BEFORE,
        "automation",
        "contexts",
        PutContexts("production", "shop", contexts),
        PutService("shop", Service(attributes={"tier": "string"})),
    )
    probed, service = diff(BEFORE, new)
    assert (probed.kind, probed.service, probed.name) == ("contexts", "shop", "production")
    assert (probed.before, probed.after) == (None, list(contexts))
    assert probed.summary == "contexts that probes are made from: 0 -> 2"
    assert probed.environments == (), "they move no answer"
    assert service.kind == "service"
    assert service.summary == '/attributes nothing -> {"tier":"string"}'
    assert not diff(new, then(new, "automation", "", PutContexts("production", "shop", contexts)))


def test_to_undo_a_push_takes_a_lift_and_says_so() -> None:
    undone = revert(BEFORE, PUSHED, PUSHED)
    assert undone.edits == ()
    assert {(one.code, one.severity) for one in undone.problems} == {("not-undone", "warning")}
    hints = [one.hint for one in undone.problems]
    assert hints == [
        "lift it: holdfast edge push --lift shop/checkout --environment production",
        "lift it: holdfast edge push --lift shop/checkout --environment staging",
    ]
    lift = PutOverride("production", "shop", "checkout", None)
    lifted = then(PUSHED, "ada", "over", lift)
    assert [one.hint for one in revert(BEFORE, PUSHED, lifted).problems] == hints[1:]
    assert [one.hint for one in revert(PUSHED, lifted, lifted).problems] == ["push it again"]
