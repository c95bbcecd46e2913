"""What consumers need, against every change and every version of a consumer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from histories import state_after

from holdfast.core.build import build
from holdfast.core.checks import checks, examine
from holdfast.core.contracts import Reader, World, can_deploy, environments_of
from holdfast.core.difference import diff
from holdfast.core.errors import Problem
from holdfast.core.fold import after
from holdfast.core.model import (
    Audience,
    Contract,
    DeleteContract,
    DeleteService,
    DeleteSetting,
    Edit,
    Environment,
    Example,
    MoveRollout,
    Need,
    PutContract,
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
from holdfast.core.needs import contract_digest, in_force
from holdfast.core.policies import Plan, Policy, Stage
from holdfast.core.revert import revert
from holdfast.core.rollback import rolled_back
from holdfast.core.snapshot import Facts
from holdfast.core.state import State
from holdfast.core.validate import validate

WORLD = World(tables=lambda _digest: None, now_s=lambda: 1_800_000_000.0)
PRODUCTION = Subject("production", "calling")


def tiles(variants: dict[str, Any] | None = None, type_: Any = "integer", **more: Any) -> Setting:
    targeting = Targeting(
        default="few",
        rules=(Rule(logic={"==": [{"var": "tenant"}, "contoso"]}, serve="many"),),
    )
    return Setting(
        type=type_,
        variants=variants or {"few": 9, "many": 49},
        environments={"production": more.pop("targeting", targeting)},
        **more,
    )


TILES = Need(type="integer", schema={"minimum": 1, "maximum": 49})
CONTRACT = Contract(
    needs={"max-video-tiles": TILES},
    examples=(Example({"tenant": "contoso"}, {"max-video-tiles": 49}),),
    environments=("production",),
    version="1.2.0",
)
BASE: tuple[Edit, ...] = (
    PutEnvironment("production", Environment(policy=Policy(compatibility="NONE"))),
    PutService("calling", Service()),
    PutSetting("calling", "max-video-tiles", tiles()),
)


@pytest.fixture
def standing() -> State:
    return state_after(BASE, (PutContract("calling", "web", CONTRACT),))


def found(old: State, *edits: Edit) -> list[Problem]:
    new = after(old, edits)
    assert validate(old, edits, new) == []
    return checks(old, edits, new, world=WORLD)


def codes(problems: Sequence[Problem]) -> list[str]:
    return [problem.code for problem in problems]


def put(setting: Setting) -> PutSetting:
    return PutSetting("calling", "max-video-tiles", setting)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (DeleteSetting("calling", "max-video-tiles"), "contract-missing"),
        (put(tiles({"few": "9", "many": "49"}, "string")), "contract-type"),
        (put(tiles({"few": 9, "many": 49.5}, "number")), "contract-type"),
        (put(tiles({"few": 9, "many": 50})), "contract-value"),
        (put(tiles({"few": 9, "many": 48})), "contract-example"),
        (DeleteService("calling"), "contract-missing"),
    ],
)
def test_a_change_that_breaks_a_consumer_is_refused_and_names_it(
    standing: State, edit: Edit, code: str
) -> None:
    problems = found(standing, edit)
    assert codes(problems) == [code]
    assert "`web`" in problems[0].message
    assert problems[0].hint
    assert problems[0].severity == "error"
    without = state_after((DeleteContract("calling", "web"),), start=standing)
    assert found(without, edit) == []


def test_who_renames_a_setting_is_told_to_keep_it_and_not_of_the_new_name(standing: State) -> None:
    edits = (
        DeleteSetting("calling", "max-video-tiles"),
        PutSetting("calling", "max-tiles", tiles()),
    )
    (problem,) = found(standing, *edits)
    assert problem.hint == "keep it until nobody needs it any more"


def test_what_keeps_the_contract_goes_through(standing: State) -> None:
    assert found(standing, put(tiles({"few": 4, "many": 49}))) == []
    assert found(standing, PutSetting("calling", "other", tiles({"few": 0, "many": 99}))) == []


def test_a_value_that_nobody_can_get_is_no_break(standing: State) -> None:
    spare = tiles({"few": 9, "many": 49, "spare": 1_000})
    assert found(standing, put(spare)) == []
    weights = Split(weights={"few": 1, "spare": 0, "many": 1})
    unshared = Targeting(default="few", rules=(*_pilot(), Rule(split=weights)))
    assert found(standing, put(tiles(spare.variants, targeting=unshared))) == []
    shared = Targeting(default="few", rules=(*_pilot(), Rule(split=Split({"spare": 1, "few": 9}))))
    assert codes(found(standing, put(tiles(spare.variants, targeting=shared)))) == [
        "contract-value"
    ]


def _pilot() -> tuple[Rule, ...]:
    return (Rule(logic={"==": [{"var": "tenant"}, "contoso"]}, serve="many"),)


def test_raw_targeting_may_give_any_variant(standing: State) -> None:
    raw = Targeting(default="few", logic={"if": [{"var": "x"}, "few", "many"]})
    spare = {"few": 9, "many": 49, "spare": 1_000}
    assert "contract-value" in codes(found(standing, put(tiles(spare, targeting=raw))))


def test_a_kill_switch_works_whatever_others_need(standing: State) -> None:
    off = Targeting(default="few", enabled=False, rules=_pilot())
    assert found(standing, put(tiles({"few": 0, "many": 0}, targeting=off))) == []


def test_a_setting_that_leaves_the_environment_is_missing_there(standing: State) -> None:
    moved = Setting(
        type="integer", variants={"few": 9}, environments={"staging": Targeting(default="few")}
    )
    edits = (PutEnvironment("staging", Environment()), put(moved))
    assert codes(found(standing, *edits)) == ["contract-missing"]


def test_an_optional_need_may_be_missing_and_must_fit_when_it_is_there() -> None:
    optional = Contract(needs={"later": Need("integer", {"maximum": 5}, required=False)})
    state = state_after(BASE, (PutContract("calling", "web", optional),))
    assert found(state, PutSetting("calling", "later", tiles({"few": 1, "many": 5}))) == []
    problems = found(state, PutSetting("calling", "later", tiles({"few": 1, "many": 6})))
    assert codes(problems) == ["contract-value"]


def test_integers_are_read_as_numbers() -> None:
    need = Contract(needs={"max-video-tiles": Need("number")}, environments=("production",))
    assert found(state_after(BASE), PutContract("calling", "web", need)) == []


def test_a_segment_edit_that_moves_an_example_is_refused() -> None:
    rule = Rule(logic={"$ref": "pilot"}, serve="many")
    state = state_after(
        BASE,
        (
            PutSegment("calling", "pilot", Segment(Audience(by="tenant", members=("contoso",)))),
            put(tiles(targeting=Targeting(default="few", rules=(rule,)))),
            PutContract("calling", "web", CONTRACT),
        ),
    )
    nobody = Segment(Audience(by="tenant", members=("fabrikam",)))
    problems = found(state, PutSegment("calling", "pilot", nobody))
    assert codes(problems) == ["contract-example"]
    assert "gives 9, where 49 is counted on" in problems[0].message


def test_an_example_over_a_table_that_is_not_at_hand_is_told_and_refuses_nothing() -> None:
    table = Audience(
        by="tenant", members_digest="a" * 64, member_count=1, table_digest="b" * 64, table_bytes=40
    )
    rule = Rule(logic={"$ref": "pilot"}, serve="many")
    edits = (
        PutSegment("calling", "pilot", Segment(table)),
        put(tiles(targeting=Targeting(default="few", rules=(rule,)))),
    )
    problems = found(state_after(BASE, (PutContract("calling", "web", CONTRACT),)), *edits)
    assert [(one.code, one.severity) for one in problems] == [("contract-unchecked", "warning")]


def test_a_shared_setting_counts_for_all_that_include_it() -> None:
    state = state_after(
        BASE,
        (
            PutService("suite", Service(includes=("calling",))),
            PutContract("suite", "desktop", CONTRACT),
            PutContract("suite", "mobile", CONTRACT),
        ),
    )
    problems = found(state, DeleteSetting("calling", "max-video-tiles"))
    assert codes(problems) == ["contract-missing"]
    assert "`desktop`, `mobile`" in problems[0].message


def test_what_was_broken_before_is_told_and_keeps_no_other_change_back(standing: State) -> None:
    forced = state_after((put(tiles({"few": 9, "many": 50})),), start=standing)
    assert found(forced, PutSetting("calling", "other", tiles())) == []
    described = tiles({"few": 9, "many": 50}, metadata={"team": "video"})
    assert {one.severity for one in found(forced, put(described))} == {"warning"}
    segment = PutSegment("calling", "vips", Segment(Audience(by="tenant", members=("a",))))
    assert {one.severity for one in found(forced, segment)} == {"warning"}
    worse = found(forced, DeleteSetting("calling", "max-video-tiles"))
    assert [(one.code, one.severity) for one in worse] == [("contract-missing", "error")]


def test_a_contract_is_put_only_where_it_is_kept() -> None:
    state = state_after(BASE)
    assert found(state, PutContract("calling", "web", CONTRACT)) == []
    early = Contract(needs={"max-video-tile": TILES}, environments=("production",))
    problems = found(state, PutContract("calling", "web", early))
    assert codes(problems) == ["contract-missing"]
    assert problems[0].path == "/services/calling/contracts/web/needs/max-video-tile"
    assert problems[0].hint == "did you mean `max-video-tiles`?"


def test_a_setting_and_its_contract_come_in_one_change() -> None:
    state = state_after(BASE[:2])
    assert found(state, BASE[2], PutContract("calling", "web", CONTRACT)) == []


def test_can_deploy_asks_for_a_version_before_it_is_published(standing: State) -> None:
    def asked(contract: Contract, environment: str = "production") -> list[Problem]:
        return can_deploy(standing, Reader("calling", "web", contract), [environment], WORLD)

    assert asked(CONTRACT) == []
    narrow = Contract(needs={"max-video-tiles": Need("integer", {"maximum": 25})})
    problems = asked(narrow)
    assert codes(problems) == ["contract-value"]
    assert problems[0].path == "/needs/max-video-tiles"
    assert codes(asked(narrow, "staging")) == ["contract-missing"]
    assert asked(CONTRACT, "staging") == []
    assert environments_of(standing, "calling", narrow) == ["production"]


@pytest.mark.parametrize(
    ("contract", "code", "path"),
    [
        (Contract(needs={}), "too-many", "/needs"),
        (Contract(needs={"a/b": TILES}), "wrong-name", "/needs/a~1b"),
        (Contract(needs={"a": Need("date")}), "wrong-value", "/needs/a/type"),  # type: ignore[arg-type]
        (Contract(needs={"a": Need("integer", {"minimum": "1"})}), "schema", "/needs/a/schema"),
        (
            Contract(needs={"a": Need("integer", {"$ref": "x:y"})}),
            "schema",
            "/needs/a/schema",
        ),
        (Contract({"a": TILES}, (Example({}, {}),)), "example", "/examples/0/expected"),
        (Contract({"a": TILES}, (Example({}, {"b": 1}),)), "example", "/examples/0/expected/b"),
        (Contract({"a": TILES}, (Example({}, {"a": "x"}),)), "example", "/examples/0/expected/a"),
        (
            Contract({"a": TILES}, (Example({"x": "y" * 70_000}, {"a": 1}),)),
            "too-large",
            "/examples/0/context",
        ),
        (
            Contract({"a": TILES}, environments=("nowhere",)),
            "unknown-environment",
            "/environments/nowhere",
        ),
    ],
)
def test_what_is_no_contract_is_refused(contract: Contract, code: str, path: str) -> None:
    state = state_after(BASE)
    problems = examine(
        state,
        edits := (PutContract("calling", "web", contract),),
        after(state, edits),
        world=WORLD,
    )
    assert (code, f"/services/calling/contracts/web{path}") in [
        (one.code, one.path) for one in problems
    ]


def test_a_contract_of_an_unknown_service_is_refused() -> None:
    problems = validate(state_after(BASE), (PutContract("colling", "web", CONTRACT),))
    assert codes(problems) == ["unknown-service"]


# The noun in state, differences, undoing and snapshots -------------------------------------------


def facts(state: State) -> Facts:
    return build(state, PRODUCTION, None).holdfast


def test_a_contract_touches_its_subjects_and_stands_in_their_snapshots(standing: State) -> None:
    assert standing.services["calling"].touched == {"production": 2}
    (named,) = facts(standing).contracts
    digest = contract_digest(CONTRACT)
    assert bytes(named) == f'{{"consumer":"web","digest":"{digest}"}}'.encode()
    assert in_force(standing, Subject("staging", "calling")) == {}
    again = state_after((PutContract("calling", "web", CONTRACT),), start=standing)
    assert again.services["calling"].touched == {"production": 2}
    assert again.contracts == standing.contracts
    gone = state_after((DeleteContract("calling", "web"),), start=again)
    assert gone.services["calling"].touched == {"production": 4}
    assert gone.contracts == {}
    assert facts(gone).contracts == ()


def test_a_contract_is_told_and_undone(standing: State) -> None:
    before = state_after(BASE)
    (difference,) = diff(before, standing)
    assert (difference.kind, difference.service, difference.name) == ("contract", "calling", "web")
    assert difference.environments == ()
    undone = revert(before, standing, standing)
    assert undone.edits == (DeleteContract("calling", "web"),)
    gone = state_after(undone.edits, start=standing)
    assert revert(standing, gone, gone).edits == (PutContract("calling", "web", CONTRACT),)


# While a rollout runs ----------------------------------------------------------------------------

PLAN = Plan(stages=(Stage(name="ring0", rings=("ring0",)), Stage(name="all", percent=100)))


def test_an_example_is_held_against_what_the_rollout_brings(standing: State) -> None:
    """At its first stage the example's context is not exposed: that must not hide the break."""
    changed = put(tiles({"few": 9, "many": 48}))
    assert codes(found(standing, changed, StartRollout("production", PLAN))) == ["contract-example"]


def test_a_contract_that_comes_meanwhile_is_held_against_both_sides() -> None:
    wide = put(tiles({"few": 9, "many": 90}))
    narrowing = (put(tiles()), StartRollout("production", PLAN))
    midway = state_after(BASE, (wide,), narrowing)
    problems = found(midway, PutContract("calling", "web", CONTRACT))
    assert codes(problems) == ["contract-value"]
    (rollout,) = midway.rollouts
    through = state_after((MoveRollout(rollout, 1, "completed"),), start=midway)
    assert found(through, PutContract("calling", "web", CONTRACT)) == []


def test_what_a_rollout_adds_can_be_needed_at_once() -> None:
    adding = (PutSetting("calling", "later", tiles()), StartRollout("production", PLAN))
    need = Contract(needs={"later": TILES}, environments=("production",))
    midway = state_after(BASE, adding)
    assert found(midway, PutContract("calling", "web", need)) == []


def test_nothing_keeps_a_rollout_from_being_taken_back() -> None:
    strict = PutEnvironment("production", Environment(policy=Policy(compatibility="BACKWARD")))
    bounded = tiles(schema={"maximum": 49})
    widening = (put(tiles(schema={"maximum": 60})), StartRollout("production", PLAN))
    midway = state_after(BASE, (strict, put(bounded)), widening)
    (rollout,) = midway.rollouts
    edits = rolled_back(midway, rollout)
    assert [(one.code, one.severity) for one in found(midway, *edits)] == [
        ("incompatible", "warning")
    ]
