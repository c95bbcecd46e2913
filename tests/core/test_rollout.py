"""Rollouts as the write door and builds see them: what begins, what is refused, what goes back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from tests.core.histories import serving, state_after

from holdfast.core import limits
from holdfast.core.build import build
from holdfast.core.difference import diff
from holdfast.core.errors import Invalid
from holdfast.core.evaluate import Evaluator
from holdfast.core.exposure import EVERYBODY, NOBODY, condition
from holdfast.core.fold import after
from holdfast.core.model import (
    JSON,
    Ahead,
    Audience,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    Environment,
    Head,
    MoveRollout,
    Probe,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    Rule,
    Segment,
    Service,
    Setting,
    Split,
    StartRollout,
    Subject,
    Targeting,
)
from holdfast.core.policies import Gates, Plan, Policy, Stage
from holdfast.core.rollout import rolled_back, staged
from holdfast.core.snapshot import Snapshot, encode
from holdfast.core.state import RolloutState, State, segment_environments
from holdfast.core.subjects import subject_revision
from holdfast.core.validate import validate

SHOP = Subject("production", "shop")
PLAN = Plan(
    stages=(
        Stage(name="inside", rings=("inside",)),
        Stage(name="tenth", percent=10),
        Stage(name="all", percent=100),
    ),
    unit="user",
)
FAST = Plan(stages=(Stage(name="half", percent=50), Stage(name="all", percent=100)))
POLICED = PutEnvironment("production", Environment(policy=Policy(rollout=PLAN, fast=FAST)))
FREE = PutEnvironment("staging", Environment())
INSIDE = {"targetingKey": "k", "ring": "inside"}
OUTSIDE = {"targetingKey": "k", "ring": "outside"}


def standing(*edits: Edit) -> State:
    """A state in which these were put before there was any policy."""
    free = PutEnvironment("production", Environment())
    return state_after([free, FREE, PutService("shop", Service()), *edits], [POLICED])


def put(key: str, to: Setting, service: str = "shop") -> PutSetting:
    return PutSetting(service, key, to)


def fixed(value: Any, *environments: str, enabled: bool = True) -> Setting:
    """A setting that gives everybody one value."""
    where = environments or ("production",)
    kind = "string" if isinstance(value, str) else "integer"
    targeting = Targeting(default="it", enabled=enabled)
    return Setting(kind, {"it": value}, dict.fromkeys(where, targeting))  # type: ignore[arg-type]


def commit(state: State, *edits: Edit) -> State:
    """Through all that the write door does with a change's edits."""
    whole = staged(state, edits, after(state, edits))
    problems = validate(state, whole)
    assert problems == []
    return state_after(whole, start=state)


def taken_back(state: State, rollout: str) -> State:
    """As automation does it, which stages nothing. It is never refused."""
    edits = rolled_back(state, rollout)
    assert validate(state, edits) == []
    return state_after(edits, start=state)


def problems(state: State, *edits: Edit) -> list[str]:
    whole = staged(state, edits, after(state, edits))
    found = validate(state, whole)
    assert all(one.hint for one in found), "each says the way out"
    return [one.code for one in found]


def made(state: State, subject: Subject = SHOP) -> Snapshot:
    revision = subject_revision(state, subject)
    head = state.head if state.head.revision == revision else Head(revision, "0" * 64)
    return build(state, subject, None, head=head)


def ask(state: State, key: str, context: dict[str, Any], subject: Subject = SHOP) -> Any:
    """The answer of Holdfast's evaluator and of flagd's own, which must agree."""
    snapshot = made(state, subject)
    mine = Evaluator(snapshot.flags, evaluators=snapshot.evaluators, now_s=lambda: 0.0).evaluate(
        key, context
    )
    assert not mine.error_code
    core = FlagdCore()
    core.set_flags(json.loads(encode(snapshot)))
    attributes = {name: value for name, value in context.items() if name != "targetingKey"}
    theirs = core._resolve(key, None, EvaluationContext(context.get("targetingKey"), attributes))
    assert (mine.value, mine.variant) == (theirs.value, theirs.variant)
    return mine.value


def only(state: State) -> tuple[str, RolloutState]:
    ((name, rollout),) = state.rollouts.items()
    return name, rollout


# -- what begins


def test_a_policy_sends_a_change_out_in_stages() -> None:
    state = commit(standing(put("n", fixed(1))), put("n", fixed(2)))
    assert (ask(state, "n", INSIDE), ask(state, "n", OUTSIDE)) == (2, 1)
    name, rollout = only(state)
    assert (name, rollout.stage, rollout.plan) == ("production.3", 0, PLAN)
    state = commit(state, MoveRollout(name, 2, "running"))
    assert ask(state, "n", OUTSIDE) == 2
    state = commit(state, MoveRollout(name, 2, "completed"))
    assert state.rollouts == {}
    assert msgspec.json.decode(made(state).flags["n"]) == {
        "state": "ENABLED",
        "variants": {"it": 2},
        "defaultVariant": "it",
    }


def test_without_one_it_goes_everywhere_at_once() -> None:
    """The damage with it off."""
    policed = standing(put("n", fixed(1, "staging")))
    state = commit(policed, put("n", fixed(2, "staging")))
    assert state.rollouts == {}
    assert ask(state, "n", OUTSIDE, Subject("staging", "shop")) == 2


def test_the_snapshot_says_who_is_exposed_to_what() -> None:
    state = commit(standing(put("n", fixed(1))), put("n", fixed(2)))
    told = msgspec.json.decode(made(state).holdfast.rollouts["production.3"])
    assert told == {
        "stage": 0,
        "status": "running",
        "unit": "user",
        "percent": 0.0,
        "ring": "ring",
        "rings": ["inside"],
        "settings": ["n"],
        "objective_ms": 0,
    }


@pytest.mark.parametrize(
    ("edit", "plan"),
    [
        (put("n", fixed(2)), PLAN),
        (put("new", fixed(2)), PLAN),
        (put("n", fixed(1, enabled=False)), FAST),
        (DeleteSetting("shop", "n"), FAST),
        (PutSegment("shop", "pilot", Segment(Audience("tenant", ("a", "b")))), FAST),
    ],
)
def test_kill_switches_deletions_and_segments_go_faster(edit: Edit, plan: Plan) -> None:
    pilot = PutSegment("shop", "pilot", Segment(Audience("tenant", ("a",))))
    state = commit(standing(put("n", fixed(1)), pilot), edit)
    assert only(state)[1].plan == plan


def test_what_answers_nobody_otherwise_begins_nothing() -> None:
    state = standing(put("n", fixed(1)))
    words = msgspec.structs.replace(fixed(1), description="words")
    for edit in (put("n", fixed(1)), put("n", words), put("m", fixed(1, "staging"))):
        assert commit(state, edit).rollouts == {}


def test_a_change_can_t_choose_its_own_plan_nor_drop_the_policy_on_the_way() -> None:
    at_once = Plan(stages=(Stage(percent=100),))
    free = PutEnvironment("production", Environment())
    edits = (StartRollout("production", at_once), free, put("n", fixed(2)))
    state = commit(standing(put("n", fixed(1))), *edits)
    assert only(state)[1].plan == PLAN
    own = commit(
        standing(put("n", fixed(1, "staging"))),
        StartRollout("staging", FAST),
        put("n", fixed(2, "staging")),
    )
    assert only(own)[1].plan == FAST, "where no policy asks, a change may"


def test_a_shared_setting_is_staged_for_those_that_include_it() -> None:
    shared = (PutService("common", Service()), put("n", fixed(1), "common"))
    state = commit(
        standing(*shared, PutService("shop", Service(includes=("common",)))),
        put("n", fixed(2), "common"),
    )
    assert (ask(state, "n", INSIDE), ask(state, "n", OUTSIDE)) == (2, 1)
    assert made(state).setting("n").revision == 3


def test_a_difference_shows_it() -> None:
    old = standing(put("n", fixed(1)))
    new = commit(old, put("n", fixed(2)))
    moved = commit(new, MoveRollout("production.3", 1, "held"))
    done = commit(moved, MoveRollout("production.3", 1, "completed"))
    assert [one.summary for one in diff(old, new) if one.kind == "rollout"] == ["rollout begins"]
    assert [(one.name, one.summary) for one in diff(new, moved)] == [
        ("production.3", "stage 0 -> 1, held")
    ]
    assert [one.summary for one in diff(moved, done)] == ["rollout ends"]


# -- both sides


@pytest.mark.parametrize(
    ("old", "new", "inside", "outside"),
    [
        (fixed(1), fixed(2), 2, 1),
        (None, fixed(2), 2, None),
        (fixed(1), None, None, 1),
        (fixed(1), fixed(1, enabled=False), None, 1),
        (fixed(1, enabled=False), fixed(1), 1, None),
        (serving("on"), serving("off"), "no", "yes"),
        (serving("on", {"==": [{"var": "ring"}, "inside"]}), serving("off"), "no", "no"),
    ],
)
def test_values_targeting_new_ones_deletions_and_switches(
    old: Setting | None, new: Setting | None, inside: Any, outside: Any
) -> None:
    at_once = Plan(stages=(Stage(rings=("inside",)), Stage(percent=100)))
    policy = Policy(rollout=at_once, fast=at_once)
    state = state_after(
        [PutEnvironment("production", Environment(policy=policy)), PutService("shop", Service())],
        [put("other", fixed(0))],
        [MoveRollout("production.2", 1, "completed")],
        [put("n", old)] if old else [],
    )
    state = commit(state, put("n", new) if new else DeleteSetting("shop", "n"))
    assert (ask(state, "n", INSIDE), ask(state, "n", OUTSIDE)) == (inside, outside)


def test_variants_of_both_sides_are_told_apart() -> None:
    state = commit(standing(put("n", fixed(1))), put("n", fixed(2)))
    flag = msgspec.json.decode(made(state).flags["n"])
    assert flag["variants"] == {"it": 1, "it~3": 2}
    assert flag["targeting"] == {"if": [{"$ref": "rollout:production.3"}, "it~3", "it"]}


def test_a_default_that_stays_is_the_flag_s() -> None:
    def ruled(serve: str) -> Setting:
        return serving(serve, {"==": [{"var": "tenant"}, "a"]})

    state = commit(standing(put("n", ruled("on"))), put("n", ruled("off")))
    assert msgspec.json.decode(made(state).flags["n"])["defaultVariant"] == "off"


def test_splits_of_both_sides_fall_back_to_their_own_defaults() -> None:
    def split(default: str) -> Setting:
        rules = (Rule(split=Split({"a": 1, "b": 0})),)
        where = {"production": Targeting(default, rules=rules)}
        return Setting("integer", {"a": 1, "b": 2, "c": 3}, where)

    state = commit(standing(put("n", split("b"))), put("n", split("c")))
    without = {name: value for name, value in INSIDE.items() if name != "targetingKey"}
    assert (ask(state, "n", INSIDE), ask(state, "n", without)) == (1, 3)
    assert ask(state, "n", {"ring": "outside"}) == 2


@pytest.mark.parametrize("given", ["it", "gone", True])
def test_logic_written_whole_names_its_own_side_s_variants(given: JSON) -> None:
    def computed(value: int, **more: int) -> Setting:
        logic = {"var": "wanted"}
        where = {"production": Targeting(default="it", logic=logic)}
        return Setting("integer", {"it": value, "true": value + 10, **more}, where)

    state = commit(standing(put("n", computed(1, gone=5))), put("n", computed(2, come=6)))
    flags = made(state)
    evaluator = Evaluator(flags.flags, evaluators=flags.evaluators, now_s=lambda: 0.0)

    def answer(who: dict[str, Any], wanted: Any) -> Any:
        outcome = evaluator.evaluate("n", {**who, "wanted": wanted})
        return outcome.error_code or outcome.value

    inside = {"it": 2, "gone": "GENERAL", True: 12, "come": 6}
    outside = {"it": 1, "gone": 5, True: 11, "come": "GENERAL"}
    for wanted in (given, "come", None):
        assert answer(INSIDE, wanted) == inside.get(wanted, 2)
        assert answer(OUTSIDE, wanted) == outside.get(wanted, 1)


def test_a_segment_is_chosen_in_its_own_place() -> None:
    """Flags that refer to it stay as they are: a thousand of them must not double."""
    refers = serving("on", {"$ref": "pilot"})
    before = PutSegment("shop", "pilot", Segment(Audience("tenant", ("a",))))
    now = PutSegment("shop", "pilot", Segment(Audience("tenant", ("b",))))
    old = standing(before, put("n", refers))
    policy = Policy(rollout=PLAN)
    state = commit(state_after([PutEnvironment("production", Environment(policy=policy))],
                               start=old), now)  # fmt: skip
    assert made(state).flags["n"] == made(old).flags["n"]
    assert ask(state, "n", INSIDE | {"tenant": "b"}) == "yes"
    assert ask(state, "n", INSIDE | {"tenant": "a"}) == "no"
    assert ask(state, "n", OUTSIDE | {"tenant": "a"}) == "yes"
    assert made(state).setting("n").revision == state.head.revision


def test_both_tables_of_a_large_segment_travel() -> None:
    def table(digest: str) -> Segment:
        return Segment(
            Audience(
                "user",
                members_digest="a" * 64,
                member_count=20_000,
                table_digest=digest * 64,
                table_bytes=320_040,
            )
        )

    looks = serving("on", {"in_segment": [{"var": "x"}, "big"]})
    old = standing(
        PutSegment("shop", "big", table("b")), put("n", serving("on", {"$ref": "big"})),
        put("m", looks),
    )  # fmt: skip
    state = state_after(
        [StartRollout("production", PLAN), PutSegment("shop", "big", table("c"))], start=old
    )
    snapshot = made(state)
    assert {name: one.digest for name, one in snapshot.holdfast.segments.items()} == {
        "big~new": "c" * 64,
        "big~old": "b" * 64,
    }
    tables = {"big~new": {"u1"}, "big~old": {"u2"}}
    evaluator = Evaluator(
        snapshot.flags,
        evaluators=snapshot.evaluators,
        segments=tables,  # type: ignore[arg-type]
        now_s=lambda: 0.0,
    )
    for ring, user in (("inside", "u1"), ("outside", "u2")):
        for who, answer in ((user, "yes"), ("u3", "no")):
            context = {"ring": ring, "user": who, "x": who}
            assert evaluator.evaluate("n", context).value == answer
            assert evaluator.evaluate("m", context).value == answer


def test_too_many_variants_of_both_sides_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    state = standing(put("n", fixed(1)))
    monkeypatch.setattr(limits, "VARIANTS_MAX", 1)
    edits = (StartRollout("production", PLAN), put("n", fixed(2)))
    with pytest.raises(Invalid, match="variants"):
        made(state_after(edits, start=state))


# -- who is exposed


def test_shares_grow_and_rings_add_up() -> None:
    plan = Plan(
        stages=(
            Stage(rings=("a",)),
            Stage(rings=("b",), percent=5),
            Stage(percent=50),
            Stage(percent=100),
        ),
        unit="tenant",
    )
    before: set[int] = set()
    sizes = []
    for stage in range(4):
        logic = {"if": [condition("production.7", plan, stage), "in", "out"]}
        flag = {"state": "ENABLED", "variants": {"in": 1, "out": 0}, "targeting": logic}
        evaluator = Evaluator({"n": msgspec.json.encode(flag)}, now_s=lambda: 0.0)
        contexts = [{"tenant": f"t{n}", "ring": "c"} for n in range(2_000)]
        now = {n for n, one in enumerate(contexts) if evaluator.evaluate("n", one).value}
        assert before <= now
        before = now
        sizes.append(len(now))
        rings = [evaluator.evaluate("n", {"ring": ring}).value for ring in ("a", "b", "c")]
        assert rings == [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]][stage]
    assert sizes[0] == 0
    assert 70 <= sizes[1] <= 130
    assert 930 <= sizes[2] <= 1_070
    assert sizes[3] == 2_000


def test_nobody_and_everybody() -> None:
    plan = Plan(stages=(Stage(), Stage(percent=100)))
    assert condition("production.1", plan, 0) == NOBODY
    assert condition("production.1", plan, 1) == EVERYBODY


def test_different_rollouts_begin_with_different_units() -> None:
    plan = Plan(stages=(Stage(percent=10), Stage(percent=100)), unit="user")
    chosen = []
    for name in ("production.1", "production.2"):
        logic = {"if": [condition(name, plan, 0), "in", "out"]}
        flag = {"state": "ENABLED", "variants": {"in": 1, "out": 0}, "targeting": logic}
        evaluator = Evaluator({"n": msgspec.json.encode(flag)}, now_s=lambda: 0.0)
        chosen.append({n for n in range(1_000) if evaluator.evaluate("n", {"user": f"{n}"}).value})
    assert len(chosen[0] & chosen[1]) < 30


# -- going back


def test_rolling_back_gives_the_old_answers() -> None:
    old = standing(put("n", fixed(1)), put("gone", fixed(5)))
    edits = (put("n", fixed(2)), put("new", fixed(3)), DeleteSetting("shop", "gone"))
    state = commit(old, *edits)
    state = commit(state, *rolled_back(state, "production.3", "bad"))
    assert state.rollouts == {}
    assert made(state).flags == made(old).flags
    assert made(state).holdfast.removed == {"new": 4}


def test_other_environments_keep_what_they_have() -> None:
    both = ("production", "staging")
    old = standing(put("n", serving("on")))
    setting = Setting(
        "string",
        {"on": "yes", "off": "no", "new": "newer"},
        {name: Targeting("new") for name in both},
    )
    state = commit(old, put("n", setting))
    state = taken_back(state, "production.3")
    assert ask(state, "n", INSIDE) == "yes"
    assert ask(state, "n", INSIDE, Subject("staging", "shop")) == "newer"


def test_a_value_that_all_environments_share_goes_back_with_its_other_rollouts() -> None:
    plan = PutEnvironment("staging", Environment(policy=Policy(rollout=PLAN)))
    old = state_after([plan], start=standing(put("n", fixed(1, "production", "staging"))))
    state = commit(old, put("n", fixed(2, "production", "staging")))
    assert set(state.rollouts) == {"production.4", "staging.4"}
    state = commit(state, *rolled_back(state, "production.4"))
    assert state.rollouts == {}
    assert [ask(state, "n", INSIDE, Subject(name, "shop")) for name in ("production", "staging")] \
        == [1, 1]  # fmt: skip


def test_a_segment_goes_back_in_its_environment_alone() -> None:
    rule = Targeting("off", rules=(Rule(logic={"$ref": "pilot"}, serve="on"),))
    where = dict.fromkeys(("production", "staging"), rule)
    old = standing(pilot("a"), put("n", Setting("string", {"on": "yes", "off": "no"}, where)))
    state = commit(old, pilot("b"))
    state = commit(state, *rolled_back(state, "production.3"))
    tenant_b = {"tenant": "b", "targetingKey": "k"}
    assert ask(state, "n", tenant_b) == "no"
    assert ask(state, "n", tenant_b, Subject("staging", "shop")) == "yes"


def pilot(*members: str) -> PutSegment:
    return PutSegment("shop", "pilot", Segment(Audience("tenant", members)))


@pytest.mark.parametrize(
    ("before", "edits"),
    [
        ((), (pilot("a"),)),
        ((pilot("a"),), (DeleteSegment("shop", "pilot"),)),
    ],
)
def test_whether_there_is_a_segment_goes_back_with_the_other_rollouts_of_its_change(
    before: tuple[Edit, ...], edits: tuple[Edit, ...]
) -> None:
    """It stands in all environments or in none; each rollout would be in the other one's way."""
    plan = PutEnvironment("staging", Environment(policy=Policy(rollout=PLAN)))
    old = state_after([plan], start=standing(*before))
    state = commit(old, *edits)
    assert set(state.rollouts) == {"production.4", "staging.4"}
    state = commit(state, *rolled_back(state, "staging.4"))
    assert state.rollouts == {}
    assert state.services["shop"].segments.keys() == old.services["shop"].segments.keys()


def test_a_probe_goes_with_the_environment_that_it_names() -> None:
    both = fixed(1, "production", "staging")
    probes = tuple(Probe({}, 1, names) for names in (("production",), ("production", "staging")))
    state = commit(standing(), put("n", msgspec.structs.replace(both, probes=probes)))
    state = taken_back(state, "production.3")
    left = state.services["shop"].settings["n"].setting
    assert left.environments.keys() == {"staging"}
    assert left.probes == (Probe({}, 1, ("staging",)),)


def test_each_environment_keeps_the_probes_of_what_it_has() -> None:
    def setting(serve: str, value: int) -> Setting:
        where = dict.fromkeys(("production", "staging"), Targeting(serve))
        return Setting("integer", {"one": 1, "two": 2}, where, probes=(Probe({}, value),))

    state = commit(standing(put("n", setting("one", 1))), put("n", setting("two", 2)))
    state = taken_back(state, "production.3")
    assert ask(state, "n", {}) == 1
    assert ask(state, "n", {}, Subject("staging", "shop")) == 2


def test_an_include_stays_while_rules_that_stay_name_a_segment_of_it() -> None:
    rule = Targeting("off", rules=(Rule(logic={"$ref": "pilot"}, serve="on"),))
    where = dict.fromkeys(("production", "staging"), rule)
    setting = Setting("string", {"on": "yes", "off": "no"}, where)
    common = (PutService("common", Service()), PutSegment("common", "pilot", pilot("a").to))
    includes = PutService("fresh", Service(includes=("common",)))
    state = commit(standing(*common), includes, put("n", setting, "fresh"))
    state = taken_back(state, "production.3")
    assert state.services["fresh"].info.includes == ("common",)
    assert made(state, Subject("production", "fresh")).flags == {}
    assert ask(state, "n", {"tenant": "a"}, Subject("staging", "fresh")) == "yes"
    alone = commit(standing(*common), includes)
    assert taken_back(alone, only(alone)[0]).services["fresh"].info.includes == ()


def test_a_setting_that_moved_goes_back_in_its_environment_alone() -> None:
    both = fixed(1, "production", "staging")
    include = PutService("shop", Service(includes=("common",)))
    old = standing(PutService("common", Service()), put("n", both, "common"), include)
    state = commit(old, DeleteSetting("shop", "n"), DeleteSetting("common", "n"), put("n", both))
    state = taken_back(state, "production.3")
    owners = {
        name: made(state, Subject(name, "shop")).setting("n").service
        for name in ("production", "staging")
    }
    assert owners == {"production": "common", "staging": ""}
    assert "key-collision" in problems(state, put("m", both), put("m", both, "common"))


def test_an_include_goes_back_over_what_came_elsewhere_under_a_key_of_it() -> None:
    """In the environment that has both, its own goes on to answer."""
    both, shop = ("production", "staging"), Subject("staging", "shop")
    include = PutService("shop", Service(includes=("common",)))
    shared = put("n", fixed(1, *both), "common")
    state = commit(
        standing(PutService("common", Service()), shared, include), PutService("shop", Service())
    )
    state = commit(state, put("n", fixed(5, "staging")))
    state = taken_back(state, only(state)[0])
    assert (ask(state, "n", OUTSIDE), ask(state, "n", OUTSIDE, shop)) == (1, 5)
    assert problems(state, put("m", fixed(1, *both), "common")) == []
    assert problems(state, put("m", fixed(1, *both), "common"), put("m", fixed(1, *both))) == [
        "key-collision"
    ]


def test_probes_of_both_sides_that_are_too_many_are_in_no_rollbacks_way() -> None:
    def probed(served: str, value: int) -> Setting:
        targetings = dict.fromkeys(("production", "staging"), Targeting(served))
        probes = tuple(Probe({"user": f"u{number}"}, value) for number in range(60))
        return Setting("integer", {"one": 1, "two": 2}, targetings, probes=probes)

    state = commit(standing(put("n", probed("one", 1))), put("n", probed("two", 2)))
    state = taken_back(state, only(state)[0])
    assert ask(state, "n", OUTSIDE) == 1


def test_schemas_too_deep_to_be_joined_are_in_no_rollbacks_way() -> None:
    def limited(served: str, schema: JSON) -> Setting:
        for _ in range(15):
            schema = {"allOf": [schema]}
        targetings = dict.fromkeys(("production", "staging"), Targeting(served))
        return Setting("integer", {"one": 1, "two": 2}, targetings, schema=schema)

    old, new = limited("one", {"maximum": 2}), limited("two", {"maximum": 3})
    state = commit(standing(put("n", old)), put("n", new))
    state = taken_back(state, only(state)[0])
    assert ask(state, "n", OUTSIDE) == 1


def test_a_deleted_service_comes_back_without_what_it_needed_and_is_gone() -> None:
    needs = Service(depends_on=("other", "stays"))
    others = (PutService("other", Service()), PutService("stays", Service()))
    state = commit(standing(put("n", fixed(1)), *others, PutService("shop", needs)),
                   DeleteService("shop"))  # fmt: skip
    state = commit(state, DeleteService("other"))
    state = taken_back(state, "production.3")
    assert state.services["shop"].info.depends_on == ("stays",)
    assert ask(state, "n", OUTSIDE) == 1


def test_a_rollout_of_another_environment_is_in_no_rollback_s_way() -> None:
    plan = PutEnvironment("staging", Environment(policy=Policy(rollout=PLAN)))
    both = ("production", "staging")
    old = state_after([plan], start=standing(put("n", fixed(1, *both))))
    state = commit(old, put("n", fixed(2, *both)))
    state = commit(state, MoveRollout("staging.4", 2, "completed"))
    off = msgspec.structs.replace(
        fixed(2, *both), environments={"production": Targeting("it"), "staging": Targeting()}
    )
    state = commit(state, put("n", off))
    assert set(state.rollouts) == {"production.4", "staging.6"}
    state = taken_back(state, "production.4")
    assert set(state.rollouts) == {"staging.6"}
    assert ask(state, "n", INSIDE) == 1
    assert problems(state, put("n", fixed(3, *both))) == ["rollout-busy"]


def test_rollouts_that_hang_together_by_a_third_one_go_back_together() -> None:
    plans = [
        PutEnvironment(name, Environment(policy=Policy(rollout=PLAN))) for name in ("staging", "x")
    ]
    first, second = put("n", fixed(1, "production", "staging")), put("m", fixed(1, "staging", "x"))
    state = commit(
        state_after(plans, [first, second], start=standing()),
        put("n", fixed(2, "production", "staging")),
        put("m", fixed(2, "staging", "x")),
    )
    assert len(state.rollouts) == 3
    state = commit(state, *rolled_back(state, "production.5"))
    assert state.rollouts == {}


def test_a_kill_switch_takes_back_what_is_on_its_way_first() -> None:
    state = commit(standing(put("n", fixed(1)), put("m", fixed(1))), put("n", fixed(2)),
                   put("m", fixed(2)))  # fmt: skip
    state = commit(state, put("n", fixed(2, enabled=False)))
    name, rollout = only(state)
    assert (name, rollout.plan) == ("production.4", FAST)
    assert ask(state, "m", INSIDE) == 1, "the whole change is taken back"
    assert ask(state, "n", {}) == 1, "what most had is what they have until it is off"
    state = commit(state, MoveRollout(name, 1, "running"))
    assert ask(state, "n", {}) is None


def test_a_kill_switch_keeps_the_segments_that_its_rules_name() -> None:
    """They came with the change that it takes back."""
    rules = (Rule(logic={"$ref": "pilot"}, serve="it"),)
    setting = Setting("integer", {"it": 1}, {"production": Targeting("it", rules=rules)})
    state = commit(standing(put("n", fixed(1))), pilot("a"), put("n", setting))
    off = Targeting("it", enabled=False, rules=rules)
    state = commit(
        state, put("n", msgspec.structs.replace(setting, environments={"production": off}))
    )
    state = commit(state, MoveRollout(only(state)[0], 1, "completed"))
    assert ask(state, "n", {"tenant": "a"}) is None


def test_a_kill_switch_takes_back_what_was_begun_by_hand() -> None:
    subject = Subject("staging", "shop")
    old = standing(put("n", fixed(1, "staging")))
    state = commit(old, put("n", fixed(2, "staging")), StartRollout("staging", PLAN))
    state = commit(state, put("n", fixed(2, "staging", enabled=False)))
    assert state.rollouts == {}
    assert ask(state, "n", {}, subject) is None


def test_a_kill_switch_takes_back_a_change_of_two_environments() -> None:
    """Each environment's rollout goes back, the segment that they have in common with both."""
    both = ("production", "staging")
    two = {"one": 1, "two": 2}
    one = Setting("integer", two, dict.fromkeys(both, Targeting("one")))
    new = Setting("integer", two, dict.fromkeys(both, Targeting("two")))
    off = Setting("integer", two, dict.fromkeys(both, Targeting("two", enabled=False)))
    start = standing(put("n", one), pilot("a"))
    state = state_after([PutEnvironment("staging", POLICED.to)], start=start)
    state = commit(state, put("n", new), pilot("b"))
    assert len(state.rollouts) == 2
    state = commit(state, put("n", off))
    assert sorted(state.rollouts) == ["production.5", "staging.5"]
    back, was = (one.services["shop"].segments["pilot"].segment for one in (state, start))
    assert not segment_environments(back, was, both)


def test_a_kill_switch_takes_back_the_include_that_is_on_its_way_to_it() -> None:
    shared = (PutService("shared", Service()), put("n", fixed(1), "shared"))
    state = commit(
        standing(*shared, put("m", fixed(1))), PutService("shop", Service(includes=("shared",)))
    )
    state = commit(state, put("n", fixed(1, enabled=False), "shared"))
    (rollout,) = state.rollouts.values()
    assert rollout.before.settings.keys() == {"shared"}
    assert not state.services["shop"].info.includes


def test_a_segment_stays_while_a_rollback_would_put_a_rule_back_that_names_it() -> None:
    """The rule was switched off, so that no side of any flag names it meanwhile."""
    off = Targeting("it", enabled=False, rules=(Rule(logic={"$ref": "pilot"}, serve="it"),))
    start = standing(pilot("a"), put("n", Setting("integer", {"it": 1}, {"production": off})))
    state = commit(start, put("n", fixed(1)))
    assert problems(state, DeleteSegment("shop", "pilot")) == ["rollout-busy"]
    assert made(taken_back(state, only(state)[0])).flags == made(start).flags


def test_a_kill_switch_may_lead_to_the_very_setting_that_was() -> None:
    """Then it begins nothing: it is off for whoever was exposed, and was off for all others."""
    both = ("production", "staging")
    off, on = Targeting("it", enabled=False), Targeting("it")
    old = Setting("integer", {"it": 1}, dict.fromkeys(both, off))
    new = Setting("integer", {"it": 1, "two": 2}, {"production": on, "staging": Targeting("two")})
    state = commit(standing(put("n", old)), put("n", new))
    state = commit(state, put("n", old))
    assert state.rollouts == {}
    assert made(state).flags == made(standing(put("n", old))).flags


# -- what is refused


def test_what_is_on_its_way_is_not_changed_again() -> None:
    pilot = PutSegment("shop", "pilot", Segment(Audience("tenant", ("a",))))
    state = commit(standing(put("n", fixed(1)), pilot), put("n", fixed(2)))
    assert problems(state, put("n", fixed(3))) == ["rollout-busy"]
    assert problems(state, DeleteSetting("shop", "n")) == ["rollout-busy"]
    assert problems(state, put("n", msgspec.structs.replace(fixed(2), description="words"))) == []


def test_includes_on_their_way_stand_alone() -> None:
    shared = (PutService("common", Service()), put("n", fixed(1), "common"))
    old = standing(*shared)
    state = commit(old, PutService("shop", Service(includes=("common",))))
    assert (ask(state, "n", INSIDE), ask(state, "n", OUTSIDE)) == (1, None)
    assert problems(state, put("n", fixed(2), "common")) == ["rollout-busy"]
    assert problems(state, put("m", fixed(2))) == ["rollout-busy"]
    state = commit(old, put("n", fixed(2), "common"))
    assert problems(state, PutService("shop", Service(includes=("common",)))) == ["rollout-busy"]


def test_what_an_include_on_its_way_out_leads_to_stays() -> None:
    include = PutService("shop", Service(includes=("common",)))
    old = standing(PutService("common", Service()), put("n", fixed(1), "common"), include)
    state = commit(old, PutService("shop", Service()))
    assert problems(state, DeleteService("common")) == ["rollout-busy"]


def test_a_service_is_not_made_anew_while_something_of_it_is_on_its_way() -> None:
    state = commit(standing(put("n", fixed(1))), put("n", fixed(2)))
    anew = (DeleteService("shop"), PutService("shop", Service()))
    assert problems(state, *anew) == ["rollout-busy"]


def test_a_type_stays_while_two_sides_answer() -> None:
    state = standing(put("n", fixed(1)))
    assert problems(state, put("n", fixed("one"))) == ["type-change"]


STAGED = Policy(rollout=PLAN, fast=FAST)


def over(bucketing: Any, *ahead: str, to: Any = "v2") -> PutEnvironment:
    """Production with its policy, these services going over to another bucketing first."""
    early = Ahead(to, ahead) if ahead else None
    return PutEnvironment("production", Environment(bucketing, policy=STAGED, ahead=early))


def test_another_bucketing_for_all_at_once_is_refused_where_changes_are_staged() -> None:
    state = standing(put("n", fixed(1)), PutService("mail", Service()), put("n", fixed(1), "mail"))
    assert problems(state, over("v2")) == ["bucketing-change"]
    assert problems(state, over("v3", "mail", "shop")) == ["bucketing-change"]
    assert problems(state, PutEnvironment("staging", Environment(bucketing="v2"))) == []
    assert problems(state, over("v3", "none")) == ["unknown-service"]
    busy = commit(state, put("n", fixed(2)))
    assert problems(busy, over("v3", "mail")) == ["bucketing-change"]


@pytest.mark.parametrize("edit", [DeleteService("shop"), DeleteSetting("shop", "n")])
def test_what_is_leaving_is_not_dealt_anew(edit: Edit) -> None:
    """Whoever is not exposed yet still has it."""
    assert problems(commit(standing(put("n", fixed(1))), edit), over("v2")) == ["bucketing-change"]


def test_services_go_over_to_another_bucketing_one_after_the_other() -> None:
    """Who went over is dealt anew, with its revision moved; nobody else, and nobody at the end."""
    split = Setting(
        "integer",
        {"a": 1, "b": 2},
        {"production": Targeting("a", rules=(Rule(split=Split({"a": 1, "b": 1})),))},
    )
    mail = Subject("production", "mail")
    state = standing(put("n", split), PutService("mail", Service()), put("n", split, "mail"))

    def dealt(now: State, subject: Subject) -> list[Any]:
        snapshot = made(now, subject)
        hashed = snapshot.holdfast.semantics.bucketing
        evaluator = Evaluator(snapshot.flags, bucketing=hashed, now_s=lambda: 0.0)
        return [
            evaluator.evaluate("n", {"targetingKey": f"u{number}"}).value for number in range(50)
        ]

    first = after(state, [over("v3", "mail")])
    assert dealt(first, SHOP) == dealt(state, SHOP)
    assert subject_revision(first, SHOP) == subject_revision(state, SHOP)
    assert dealt(first, mail) != dealt(state, mail)
    assert made(first, mail).setting("n").revision == first.head.revision
    assert problems(first, over("v3", "mail", "shop")) == []
    second = after(first, [over("v3", "mail", "shop")])
    assert dealt(second, SHOP) != dealt(state, SHOP)
    assert problems(second, over("v2")) == []
    last = after(second, [over("v2")])
    for subject in (SHOP, mail):
        assert dealt(last, subject) == dealt(second, subject)
        assert made(last, subject).holdfast.semantics.bucketing == "v2"


@pytest.mark.parametrize(
    ("move", "code"),
    [
        (MoveRollout("production.9", 0, "running"), "unknown-rollout"),
        (MoveRollout("production.3", 3, "running"), "rollout-stage"),
        (MoveRollout("production.3", 0, "running"), "rollout-stage"),
        (MoveRollout("production.3", 1, "rolled-back"), "rollout-edits"),
    ],
)
def test_moves_that_can_t_be_made(move: MoveRollout, code: str) -> None:
    state = commit(standing(put("n", fixed(1))), put("n", fixed(2)))
    state = commit(state, MoveRollout("production.3", 1, "running"))
    assert problems(state, move) == [code]


ALL = Stage(percent=100)


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (Plan(stages=()), "stages"),
        (Plan(stages=(ALL,) * 40), "stages"),
        (Plan(stages=(Stage(percent=50),)), "percent"),
        (Plan(stages=(Stage(percent=50), Stage(percent=10), ALL)), "percent"),
        (Plan(stages=(Stage(percent=-1), ALL)), "percent"),
        (Plan(stages=(Stage(percent=0.00001), ALL)), "percent"),
        (Plan(stages=(Stage(percent=float("nan")), ALL)), "percent"),
        (Plan(stages=(Stage(bake_s=-1), ALL)), "wrong-value"),
        (Plan(stages=(Stage(rings=("",)), ALL)), "rings"),
        (Plan(stages=(Stage(name="n" * 200), ALL)), "too-long"),
        (Plan(stages=(ALL,), unit=""), "wrong-name"),
        (Plan(stages=(ALL,), ring="a b"), "wrong-name"),
        (Plan(stages=(ALL,), gates=Gates(alpha=0)), "alpha"),
        (Plan(stages=(ALL,), gates=Gates(alpha=1)), "alpha"),
        (Plan(stages=(ALL,), gates=Gates(silence_s=-1)), "wrong-value"),
        (Plan(stages=(ALL,), gates=Gates(query="up")), "query"),
    ],
)
def test_plans_that_can_t_be_obeyed(plan: Plan, code: str) -> None:
    state = standing(put("n", fixed(1)))
    for policy in (Policy(rollout=plan), Policy(rollout=PLAN, fast=plan)):
        found = validate(state, [PutEnvironment("production", Environment(policy=policy))])
        assert [one.code for one in found] == [code]
    found = validate(state, [StartRollout("production", plan), put("n", fixed(2))])
    assert [one.code for one in found] == [code]


def test_two_plans_for_one_environment_and_one_for_none() -> None:
    state = standing(put("n", fixed(1)))
    starts = (StartRollout("staging", PLAN), StartRollout("staging", FAST))
    assert problems(state, *starts) == ["rollout"]
    assert problems(state, StartRollout("nowhere", PLAN)) == ["unknown-environment"]
