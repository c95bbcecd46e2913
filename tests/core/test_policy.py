"""What policies ask, as pure decisions: where a change reaches, and whose word counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.difference import diff
from holdfast.core.fold import after
from holdfast.core.model import (
    Audience,
    Change,
    Contract,
    DeleteContract,
    DeleteSegment,
    DeleteToken,
    Edit,
    Environment,
    Need,
    Probe,
    PutContract,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    PutToken,
    Scope,
    Segment,
    Service,
    Setting,
    Targeting,
    Token,
)
from holdfast.core.policies import Approval, Freeze, Policy
from holdfast.core.policy import counted, demands, frozen, policy_of, touched
from holdfast.core.reserved import reserved
from holdfast.core.state import EMPTY, State


def setting(value: int = 9, *environments: str, default: str = "few", **more: object) -> Setting:
    where = {name: Targeting(default) for name in environments or ("production",)}
    return Setting("integer", {"few": value, "many": 49}, where, **more)  # type: ignore[arg-type]


BOTH = ("production", "staging")
START = after(
    EMPTY,
    (
        PutEnvironment("production", Environment()),
        PutEnvironment("staging", Environment()),
        PutService("shop", Service()),
        PutSetting("shop", "tiles", setting(9, *BOTH)),
        PutSetting("shop", "beta", setting(9, "staging")),
        PutSegment("shop", "pilots", Segment(Audience(by="tenant", members=("contoso",)))),
    ),
)
SPLIT = Setting(
    "integer",
    {"few": 9, "many": 49},
    {"production": Targeting("few"), "staging": Targeting("many")},
)


def reached(*edits: Edit, state: State = START) -> set[str]:
    new = after(state, edits)
    return touched(state, new, diff(state, new))


@pytest.mark.parametrize(
    ("edit", "environments"),
    [
        (PutSetting("shop", "tiles", SPLIT), {"staging"}),
        (PutSetting("shop", "tiles", setting(8, *BOTH)), {*BOTH}),
        (PutSetting("shop", "tiles", setting(9, *BOTH, description="more")), {*BOTH}),
        (PutSetting("shop", "tiles", setting(9, *BOTH, probes=(Probe({}, 9),))), {*BOTH}),
        (PutSetting("shop", "tiles", setting(9, "production")), {"staging"}),
        (PutSetting("shop", "beta", setting(8, "staging")), {"staging"}),
        (PutSetting("shop", "new", setting(1, "production")), {"production"}),
        (DeleteSegment("shop", "pilots"), {*BOTH}),
        (PutService("shop", Service(owners=("a@example.com",))), {*BOTH}),
        (PutService("mail", Service()), set()),
        (PutEnvironment("staging", Environment(description="next")), {"staging"}),
        (PutEnvironment("staging", Environment(policy=Policy(approvals=3))), {"staging"}),
        (PutEnvironment("new", Environment(policy=Policy(approvals=3))), set()),
        (PutToken("t", Token("t", "0" * 64, (Scope(("admin",)),))), set()),
        (DeleteToken("t"), set()),
        (PutContract("shop", "web", Contract({"tiles": Need("integer")})), set()),
        (DeleteContract("shop", "web"), set()),
    ],
)
def test_a_change_is_judged_wherever_it_may_matter(edit: Edit, environments: set[str]) -> None:
    assert reached(edit) == environments


@given(st.lists(st.sampled_from([setting(8), SPLIT, setting(9, *BOTH)]), min_size=1, max_size=3))
def test_wherever_answers_move_the_policy_is_asked(settings: list[Setting]) -> None:
    edits = [PutSetting("shop", f"k{n}", each) for n, each in enumerate(settings)]
    edits.append(PutSetting("shop", "tiles", settings[0]))
    new = after(START, edits)
    differences = diff(START, new)
    moved = {name for one in differences for name in one.environments}
    assert moved <= touched(START, new, differences)


def test_who_has_no_policy_yet_has_the_default() -> None:
    assert policy_of(START, "nowhere") == Policy()


def test_a_policy_that_a_change_brings_does_not_judge_it() -> None:
    edits = (
        PutEnvironment("production", Environment(policy=Policy(approvals=2))),
        PutSetting("shop", "tiles", setting(8, *BOTH)),
    )
    new = after(START, edits)
    assert [one.approvals for one in demands(START, new, diff(START, new), 0.0)] == [0, 0]
    later = after(new, (PutEnvironment("production", Environment()),))
    (asked,) = demands(new, later, diff(new, later), 0.0)
    assert asked.approvals == 2


NAMES = st.sampled_from("abc")
APPROVALS = st.lists(
    st.builds(
        Approval,
        token=NAMES,
        name=NAMES,
        actor=st.just(""),
        digest=st.sampled_from(["right", "wrong"]),
        at_ms=st.just(0),
    ),
    max_size=8,
)


@given(APPROVALS, st.tuples(NAMES, NAMES), st.sets(NAMES))
def test_whose_word_counts(
    given_: list[Approval], author: tuple[str, str], revoked: set[str]
) -> None:
    found = counted(given_, "right", author, lambda one: one.token not in revoked)
    assert set(found) <= set(given_)
    assert all(one.digest == "right" and one.token not in revoked for one in found)
    for part, own in (("token", author[0]), ("name", author[1])):
        values = [getattr(one, part) for one in found]
        assert len(set(values)) == len(values)
        assert own not in values


def test_a_freeze_holds_from_its_beginning_up_to_its_end() -> None:
    policy = Policy(freezes=(Freeze(10, 20), Freeze(15, 30)))
    assert [frozen(policy, at) for at in (9, 10, 16, 20, 30)] == [
        None,
        Freeze(10, 20),
        Freeze(15, 30),
        Freeze(15, 30),
        None,
    ]


def test_what_authors_write_is_not_reserved() -> None:
    change = Change((PutSetting("shop", "tiles", setting()),))
    assert [*reserved(change.edits, START, automation=False)] == []
