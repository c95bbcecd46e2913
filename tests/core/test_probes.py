"""Probes made at build: what they reach, what is left out, what an author is told."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.histories import serving, state_after

from holdfast.core import probe_choice
from holdfast.core.build import Fragments, build
from holdfast.core.errors import Invalid
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import (
    Audience,
    Contract,
    Environment,
    Example,
    Need,
    Probe,
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
    Subject,
    Targeting,
)
from holdfast.core.policies import Policy, Shape
from holdfast.core.probes import PROBES_MAX, Answering, Carried, read, replay
from holdfast.core.snapshot import Snapshot
from holdfast.core.solve import satisfy
from holdfast.core.state import State
from holdfast.core.targeting.prepare import Call, Rules

SHOP = Subject("production", "shop")
PRODUCTION = PutEnvironment(environment="production", to=Environment())


def put(key: str, setting: Setting) -> PutSetting:
    return PutSetting(service="shop", key=key, to=setting)


def ruled(*rules: Rule, probes: tuple[Probe, ...] = ()) -> Setting:
    return Setting(
        type="integer",
        variants={"few": 9, "some": 25, "many": 49},
        environments={"production": Targeting(default="few", rules=rules)},
        probes=probes,
    )


def made(state: State, fragments: Fragments | None = None) -> Snapshot:
    """As the write door makes it."""
    return build(state, SHOP, None, fragments=fragments, held=True)


def shop(*edits: Any) -> State:
    return state_after([PRODUCTION, PutService("shop", Service()), *edits])


def probes(snapshot: Snapshot, key: str = "tiles") -> tuple[Carried, ...]:
    return read(key, snapshot.holdfast.probes[key])


def values(snapshot: Snapshot, key: str = "tiles") -> list[Any]:
    return [msgspec.json.decode(bytes(one.value)) for one in probes(snapshot, key)]


def all_hold(snapshot: Snapshot) -> bool:
    """With the compiled rules, as consumers have them."""
    evaluator = Evaluator(
        snapshot.flags, evaluators=snapshot.evaluators, types=_Types(snapshot), now_s=lambda: 1e9
    )
    replayed = replay(Answering(evaluator), snapshot.holdfast.probes)
    return all(probe.holds(answer) for _, probe, answer in replayed)


class _Types(dict[str, str]):
    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__({key: snapshot.setting(key).type for key in snapshot.flags})


# -- what is reached

CONDITIONS: list[Any] = [
    {"==": [{"var": "tenant"}, "contoso"]},
    {"===": [{"var": "seats"}, 7]},
    {"!=": [{"var": "ring"}, "r0"]},
    {"in": [{"var": "tenant"}, ["contoso", "fabrikam"]]},
    {"in": ["beta", {"var": "roles"}]},
    {"in": [{"var": "letter"}, "abc"]},
    {">": [{"var": "seats"}, 100]},
    {"<=": [3, {"var": "seats"}]},
    {"sem_ver": [{"var": "version"}, ">=", "1.5.0"]},
    {"sem_ver": [{"var": "version"}, "^", "2.0.0"]},
    {"starts_with": [{"var": "mail"}, "ann@"]},
    {"ends_with": [{"var": "mail"}, "@example.com"]},
    {"!": [{"var": "guest"}]},
    {"!!": [{"var": "member"}]},
    {"var": "device.trusted"},
    {"and": [{"==": [{"var": "a"}, 1]}, {"==": [{"var": "b"}, 2]}]},
    {"or": [{"==": [{"var": "a"}, 1]}, {"==": [{"var": "b"}, 2]}]},
    {"!": [{"and": [{"==": [{"var": "a"}, 1]}, {"==": [{"var": "b"}, 2]}]}]},
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=[str(one)[:40] for one in CONDITIONS])
def test_a_rule_is_reached_and_missed(condition: Any) -> None:
    snapshot = made(shop(put("tiles", ruled(Rule(logic=condition, serve="many")))))
    assert set(values(snapshot)) == {9, 49}
    assert all_hold(snapshot)


@pytest.mark.parametrize("in_use", [True, False])
def test_what_probes_ask_is_not_kept(in_use: bool) -> None:
    """Of what others ask the function stays, and not the prepared rule, which is far larger.

    Contexts of probes lack most attributes, and each would leave one behind.
    """
    condition = {"in": [{"var": "tenant"}, ["contoso", "fabrikam"]]}
    keys = [f"k{n}" for n in range(20)]
    snapshot = made(shop(*(put(k, ruled(Rule(logic=condition, serve="many"))) for k in keys)))
    evaluator = Evaluator(snapshot.flags, now_s=lambda: 1e9)
    gc.collect()
    before = nodes()
    answering = Answering(evaluator, keys if in_use else ())
    assert len(list(replay(answering, snapshot.holdfast.probes))) >= len(keys)
    assert nodes() == before
    assert evaluator.table.keys() == set(keys if in_use else ())
    evaluator.evaluate_all()
    assert nodes() - before >= len(keys), "what would be there otherwise"


def nodes() -> int:
    """Operators of prepared rules, all there are."""
    return sum(type(each) is Call for each in gc.get_objects())


def test_every_rule_has_a_probe() -> None:
    rules = [
        Rule(logic={"==": [{"var": "tenant"}, f"t{n}"]}, serve=("some", "many")[n % 2])
        for n in range(12)
    ]
    snapshot = made(shop(put("tiles", ruled(*rules))))
    tenants = {one.context.get("tenant") for one in probes(snapshot)}
    assert {f"t{n}" for n in range(12)} <= tenants


def test_every_arm_of_a_split_has_a_probe() -> None:
    split = Split({"few": 80, "some": 18, "many": 2}, by="user")
    snapshot = made(shop(put("tiles", ruled(Rule(logic=CONDITIONS[0], split=split)))))
    inside = [
        v for v, p in zip(values(snapshot), probes(snapshot), strict=True) if p.context.get("user")
    ]
    assert set(inside) == {9, 25, 49}
    assert all_hold(snapshot)


def test_segments_are_looked_into() -> None:
    pilot = PutSegment("shop", "pilot", Segment(Audience(by="tenant", members=("a", "b"))))
    snapshot = made(shop(pilot, put("tiles", ruled(Rule(logic={"$ref": "pilot"}, serve="many")))))
    assert set(values(snapshot)) == {9, 49}


@pytest.mark.parametrize("enabled", [True, False])
def test_who_serves_no_variant_gives_the_caller_s_default(enabled: bool) -> None:
    setting = Setting(
        type="integer",
        variants={"few": 9},
        environments={"production": Targeting(enabled=enabled)},
    )
    snapshot = made(shop(put("tiles", setting)))
    assert values(snapshot) == [None]
    assert all_hold(snapshot)


@pytest.mark.parametrize(
    "condition",
    [
        {">": [{"var": "$flagd.timestamp"}, 1_700_000_000]},
        {"==": [{"var": {"cat": ["$flagd", ".timestamp"]}}, 1]},
    ],
)
def test_rules_that_read_the_time_have_none(condition: Any) -> None:
    snapshot = made(shop(put("tiles", ruled(Rule(logic=condition, serve="many")))))
    assert snapshot.holdfast.probes == {}


def test_contexts_seen_come_before_those_made_up() -> None:
    state = shop(put("tiles", ruled(Rule(logic=CONDITIONS[0], serve="many"))))
    seen = ({"tenant": "contoso", "user": "real"},)
    state = msgspec.structs.replace(state, contexts={str(SHOP): seen})
    first = probes(made(state))[0]
    assert (first.origin, first.context) == ("sampled", seen[0])


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.sampled_from(CONDITIONS),
        lambda inner: st.one_of(
            st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda part: {"!": [part]}, inner),
        ),
        max_leaves=8,
    )
)
def test_whatever_is_proposed_comes_out_with_compiled_rules_too(condition: Any) -> None:
    snapshot = made(shop(put("tiles", ruled(Rule(logic=condition, serve="many")))))
    assert all_hold(snapshot)
    assert len(probes(snapshot)) <= 64


def test_the_solver_is_bounded() -> None:
    wide = {"and": [{"or": [{"==": [{"var": f"a{n}"}, m]} for m in range(50)]} for n in range(50)]}
    root = Rules({}, lambda _: None).prepare(wide)
    assert root is not None
    assert 0 < len(satisfy(root, wanted=True)) <= 8


# -- choosing


def test_the_same_state_gives_the_same_probes_and_unchanged_settings_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule = Rule(logic=CONDITIONS[0], serve="many")
    edits = [put(f"k{n}", ruled(rule)) for n in range(20)]
    fragments = Fragments()
    first = made(shop(*edits), fragments)
    assert first.holdfast.probes == made(shop(*edits)).holdfast.probes
    probed: list[str] = []
    original = probe_choice.Probed.reach
    monkeypatch.setattr(
        probe_choice.Probed,
        "reach",
        lambda self, seen: probed.append(self.key) or original(self, seen),
    )
    state = shop(*edits)
    made(state, fragments)
    assert probed == []
    changed = state_after(
        [PRODUCTION, PutService("shop", Service()), *edits],
        [put("k3", ruled(Rule(logic=CONDITIONS[1], serve="many")))],
    )
    second = made(changed, fragments)
    assert probed == ["k3"]
    moved = {k for k, raw in second.holdfast.probes.items() if first.holdfast.probes[k] != raw}
    assert moved == {"k3"}


def test_no_snapshot_has_more_than_its_bound() -> None:
    rules = [Rule(logic={"==": [{"var": "t"}, n]}, serve="many") for n in range(40)]
    snapshot = made(shop(*[put(f"k{n}", ruled(*rules)) for n in range(60)]))
    counts = [len(read(key, raw)) for key, raw in snapshot.holdfast.probes.items()]
    assert sum(counts) == PROBES_MAX
    assert len(counts) == 60, "no setting is crowded out by others"


# -- what people write


def test_an_authored_probe_is_carried() -> None:
    wish = Probe({"tenant": "contoso", "note": "mine"}, 49)
    snapshot = made(
        shop(put("tiles", ruled(Rule(logic=CONDITIONS[0], serve="many"), probes=(wish,))))
    )
    assert probes(snapshot)[0].origin == "authored"
    assert probes(snapshot)[0].context == wish.context


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        (Probe({"tenant": "contoso"}, 9), "gives 49, not 9"),
        (Probe({}, 9.5), "gives 9, not 9.5"),
        (Probe({}, True), "gives 9, not true"),
        (Probe({"x": "y" * 5_000}, 9), "can't be probed"),
    ],
)
def test_one_that_does_not_come_out_is_the_author_s_problem(probe: Probe, said: str) -> None:
    setting = ruled(Rule(logic=CONDITIONS[0], serve="many"), probes=(probe,))
    with pytest.raises(Invalid) as caught:
        made(shop(put("tiles", setting)))
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("probe", "/services/shop/settings/tiles/probes/0")
    assert said in problem.message


def test_one_of_another_environment_asks_nothing_here() -> None:
    probe = Probe({}, 666, ("staging",))
    assert made(shop(put("tiles", ruled(probes=(probe,)))))


def test_one_that_failed_before_is_left_out_and_in_nobodys_way() -> None:
    """Whatever goes back may have left it behind."""
    setting = ruled(Rule(logic=CONDITIONS[0], serve="many"), probes=(Probe({"x": "mine"}, 49),))
    before = [PRODUCTION, PutService("shop", Service()), put("tiles", setting)]
    state = state_after(before, [put("other", ruled())])
    assert Probe({"x": "mine"}, 49).context not in [one.context for one in probes(made(state))]
    with pytest.raises(Invalid, match="gives 9, not 49"):
        made(state_after([put("tiles", ruled(probes=setting.probes))], start=state))


def test_an_edit_of_a_segment_that_breaks_a_probe_is_refused() -> None:
    setting = ruled(
        Rule(logic={"$ref": "pilot"}, serve="many"), probes=(Probe({"tenant": "a"}, 49),)
    )
    pilot = PutSegment("shop", "pilot", Segment(Audience(by="tenant", members=("b",))))
    with pytest.raises(Invalid):
        made(shop(pilot, put("tiles", setting)))


def test_examples_of_contracts_are_probes() -> None:
    need = {"tiles": Need("integer")}
    right = Contract(need, examples=(Example({"tenant": "contoso"}, {"tiles": 49}),))
    rule = put("tiles", ruled(Rule(logic=CONDITIONS[0], serve="many")))
    snapshot = made(shop(rule, PutContract("shop", "web", right)))
    assert probes(snapshot)[0].origin == "contract"
    wrong = Contract(need, examples=(Example({"tenant": "contoso"}, {"tiles": 9}),))
    with pytest.raises(Invalid) as caught:
        made(shop(rule, PutContract("shop", "web", wrong)))
    assert caught.value.problems[0].path == "/contracts/shop/web/examples/0"


def test_a_kill_switch_works_whatever_people_wrote_of_its_answers() -> None:
    example = Example({"tenant": "contoso"}, {"tiles": 49})
    right = Contract({"tiles": Need("integer")}, examples=(example,))
    setting = ruled(
        Rule(logic=CONDITIONS[0], serve="many"), probes=(Probe({"tenant": "contoso"}, 49),)
    )
    targeting = msgspec.structs.replace(setting.environments["production"], enabled=False)
    off = msgspec.structs.replace(setting, environments={"production": targeting})
    before = [put("tiles", setting), PutContract("shop", "web", right)]
    assert probes(made(shop(*before)))
    assert made(shop(*before, put("tiles", off)))


def test_an_example_of_what_is_not_there_is_the_contract_s_alone() -> None:
    """A rollout that brought the setting can be taken back."""
    need = {"new": Need("integer")}
    contract = Contract(need, examples=(Example({}, {"new": 9}),))
    assert made(shop(put("tiles", ruled()), PutContract("shop", "web", contract)))


def test_a_change_of_probes_alone_makes_a_snapshot() -> None:
    before = shop(put("tiles", ruled()))
    after = state_after(
        [PRODUCTION, PutService("shop", Service()), put("tiles", ruled())],
        [put("tiles", ruled(probes=(Probe({}, 9),)))],
    )
    assert made(after).holdfast.revision > made(before).holdfast.revision


def test_the_budgets_of_the_environment_s_policy_are_carried_and_make_a_snapshot() -> None:
    strict = Environment(policy=Policy(shape=Shape(lost_percent=1)))
    state = state_after(
        [PRODUCTION, put("tiles", serving("on"))], [PutEnvironment("production", strict)]
    )
    snapshot = build(state, SHOP, None)
    assert (snapshot.holdfast.revision, snapshot.holdfast.shape.lost_percent) == (2, 1)
    assert snapshot.setting("tiles").revision == 1, "no answer moved by that"
