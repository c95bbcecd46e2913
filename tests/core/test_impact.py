"""Impact says what evaluating everything would say, and names who it happens to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.authoring import SourceFile, plan
from holdfast.core.build import build
from holdfast.core.evaluate import Evaluator
from holdfast.core.fold import after
from holdfast.core.impact import HASHED, Impact, impact, traffic_percent
from holdfast.core.model import (
    DeleteService,
    Edit,
    Environment,
    Head,
    PutEnvironment,
    Subject,
)
from holdfast.core.policies import Plan, Stage
from holdfast.core.reports import Sample
from holdfast.core.sampling import hashed
from holdfast.core.state import EMPTY, Before, RolloutState, State
from holdfast.core.subjects import subject_revision

CALLING = Subject("production", "calling")
CHAT = Subject("production", "chat")
HEAD = "owners: [me]\nattributes: {tenant: string, ring: string, n: integer}\n"


def files(state: State, **texts: str) -> State:
    sources = [SourceFile(f"{name}.yaml", text.encode()) for name, text in texts.items()]
    planned = plan(sources, state.services)
    assert not planned.problems, planned.problems
    edits: tuple[Edit, ...] = planned.edits
    if not state.environments:
        edits = (PutEnvironment("production", Environment()), *edits)
    return after(state, edits)


def calling(rules: str = "", variants: str = "{few: 9, many: 49}", default: str = "few") -> str:
    return (
        f"service: calling\n{HEAD}settings:\n  tiles:\n    type: integer\n"
        f"    variants: {variants}\n    environments:\n      production:\n"
        f"        default: {default}\n        rules: [{rules}]\n"
    )


def people(*contexts: dict[str, Any]) -> list[Sample]:
    return [Sample(context, 10) for context in contexts]


SEEN = people(
    {"tenant": "a", "targetingKey": hashed("calling", "ann")},
    {"tenant": "a", "targetingKey": hashed("calling", "bob")},
    {"tenant": "b", "targetingKey": hashed("calling", "cyd")},
    {"targetingKey": hashed("calling", "dan")},
)


def of(old: State, new: State, samples: Any = None, **more: Any) -> Impact:
    seen = {CALLING: SEEN} if samples is None else samples
    return impact(old, new, seen, tables=lambda _: None, now_s=0.0, **more)


def test_who_moves_from_what_to_what() -> None:
    old = files(EMPTY, calling=calling())
    found = of(old, files(old, calling=calling("{when: 'tenant == \"a\"', serve: many}")))
    (subject,) = found.subjects
    assert (subject.seen.requests, subject.seen.tenants, subject.seen.users) == (40, 2, 4)
    assert (subject.moved.requests, subject.moved.percent) == (20, 50.0)
    assert (subject.moved.tenants, subject.moved.users) == (1, 2)
    (setting,) = subject.settings
    (move,) = setting.moves
    assert (setting.key, move.before, move.after) == ("tiles", 9, 49)
    assert (move.before_variant, move.after_variant) == ("few", "many")
    assert {each["tenant"] for each in move.examples} == {"a"}
    assert found.moved.percent == 50.0
    assert traffic_percent(found) == 50.0
    assert found.notes == (HASHED,)


def test_nothing_moves_without_another_value() -> None:
    old = files(EMPTY, calling=calling())
    assert of(old, old) == Impact()
    assert traffic_percent(of(old, old)) == 0.0
    described = calling().replace("type: integer", "type: integer\n    description: new")
    assert of(old, files(old, calling=described)) == Impact()
    renamed = files(old, calling=calling(variants="{some: 9, many: 49}", default="some"))
    found = of(old, renamed)
    assert found.subjects[0].moved.requests == 0
    assert found.subjects[0].unmoved == 1


def test_what_was_not_seen_is_not_known() -> None:
    old = files(EMPTY, calling=calling())
    new = files(old, calling=calling(default="many"))
    found = of(old, new, {})
    assert found.unseen == ("production/calling",)
    assert traffic_percent(found) is None


def test_new_settings_count_in_no_total_and_removed_ones_do() -> None:
    old = files(EMPTY, calling=calling())
    more = calling() + (
        "  other:\n    type: boolean\n    variants: {on: true, off: false}\n"
        "    environments: {production: {default: on}}\n"
    )
    grown = files(old, calling=more)
    found = of(old, grown)
    (added,) = found.subjects[0].settings
    assert (added.key, added.added, added.reached.requests) == ("other", True, 40)
    assert found.moved.requests == 0
    back = of(grown, old)
    (removed,) = back.subjects[0].settings
    assert removed.removed
    assert back.moved.percent == 100.0
    assert removed.moves[0].after_variant is None


def test_a_service_that_goes_moves_everybody() -> None:
    old = files(EMPTY, calling=calling())
    found = of(old, after(old, [DeleteService("calling")]))
    assert found.moved.percent == 100.0


def test_a_switch_off_gives_the_callers_own_default() -> None:
    old = files(EMPTY, calling=calling())
    off = calling().replace("        default: few", "        default: few\n        enabled: false")
    (move,) = of(old, files(old, calling=off)).subjects[0].settings[0].moves
    assert (move.before, move.after, move.after_variant) == (9, None, None)


def test_segments_of_included_services_reach_their_includers() -> None:
    shared = (
        "service: shared\nowners: [me]\nattributes: {tenant: string}\n"
        "segments: {pilot: {by: tenant, members: [%s]}}\nsettings: {}\n"
    )
    text = calling("{when: 'tenant in segment(\"pilot\")', serve: many}")
    text = text.replace("owners: [me]", "owners: [me]\nincludes: [shared]")
    old = files(EMPTY, shared=shared % "z", calling=text)
    found = of(old, files(old, shared=shared % "b"))
    (subject,) = found.subjects
    assert (subject.service, subject.moved.requests) == ("calling", 10)


def test_downstream_services_and_their_share_by_moved_tenants() -> None:
    def service(name: str, *on: str) -> str:
        return f"service: {name}\nowners: [me]\ndepends_on: [{', '.join(on)}]\nsettings: {{}}\n"

    old = files(
        EMPTY, calling=calling(), meetings=service("meetings", "calling"),
        rooms=service("rooms", "meetings"), other=service("other"),
    )  # fmt: skip
    new = files(old, calling=calling("{when: 'tenant == \"a\"', serve: many}"))
    seen = {CALLING: SEEN, Subject("production", "rooms"): people({"tenant": "a"}, {"tenant": "b"})}
    downstream = {each.service: each for each in of(old, new, seen).downstream}
    assert downstream.keys() == {"meetings", "rooms"}
    assert downstream["rooms"].way == ("meetings", "calling")
    assert downstream["rooms"].moved.percent == 50.0


def test_one_environment_of_several() -> None:
    old = files(EMPTY, calling=calling())
    new = files(old, calling=calling(default="many"))
    assert of(old, new, environment="staging") == Impact()
    assert of(old, new, environment="production").moved.percent == 100.0


def test_what_is_on_its_way_is_left_out() -> None:
    """A rollout that exposes nobody yet: impact is that of the whole change."""
    old = files(EMPTY, calling=calling())
    new = files(old, calling=calling(default="many"))
    tiles = old.services["calling"].settings["tiles"]
    rollout = RolloutState(
        environment="production", plan=Plan(stages=(Stage(percent=1), Stage(percent=100))),
        before=Before(settings={"calling": {"tiles": tiles.setting}}),
        started=new.head.revision, moved=new.head.revision, moved_ms=0,
    )  # fmt: skip
    import msgspec

    rolling = msgspec.structs.replace(new, rollouts={f"production.{new.head.revision}": rollout})
    assert of(old, rolling).moved.percent == 100.0


# Against brute force: everything built, everything evaluated, one context after the other.

CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "tenant": st.sampled_from(["a", "b", "c"]),
        "ring": st.sampled_from(["r0", "r1"]),
        "n": st.sampled_from([0, 1, 2, True]),
        "targetingKey": st.sampled_from(["k1", "k2", "k3", "k4", "k5"]),
    },
)
RULES = st.lists(
    st.sampled_from(
        [
            "{when: 'tenant == \"a\"', serve: many}",
            '{when: \'tenant in ["b", "c"] && ring == "r0"\', serve: many}',
            "{when: 'n > 1', serve: many}",
            "{when: 'in_segment(\"pilot\")', serve: many}",
            "{split: {weights: {few: 1, many: 1}}}",
            "{when: 'ring == \"r1\"', split: {by: tenant, seed: s, weights: {few: 2, many: 1}}}",
            "{serve: many}",
        ]
    ),
    max_size=3,
)


def document(rules: list[str], members: list[str]) -> str:
    segments = f"segments: {{pilot: {{by: tenant, members: [{', '.join(members)}]}}}}\n"
    return calling(", ".join(rules)).replace("settings:", f"{segments}settings:", 1)


def evaluator(state: State) -> Evaluator:
    head = Head(subject_revision(state, CALLING), state.head.hash)
    snapshot = build(state, CALLING, None, head=head)
    return Evaluator(
        snapshot.flags,
        evaluators=snapshot.evaluators,
        types={"tiles": "integer"},
        now_s=lambda: 0.0,
    )


@settings(max_examples=40, deadline=None)
@given(
    RULES, RULES, st.lists(st.sampled_from("abc"), min_size=1, unique=True),
    st.lists(st.sampled_from("abc"), min_size=1, unique=True),
    st.lists(CONTEXTS, min_size=1, max_size=12),
)  # fmt: skip
def test_it_counts_what_evaluating_everything_counts(
    before: list[str],
    now: list[str],
    had: list[str],
    has: list[str],
    contexts: list[dict[str, Any]],
) -> None:
    old = files(EMPTY, calling=document(before, had))
    new = files(old, calling=document(now, has))
    was, is_now = evaluator(old), evaluator(new)
    moved = sum(
        was.evaluate("tiles", each).value != is_now.evaluate("tiles", each).value
        for each in contexts
    )
    found = of(old, new, {CALLING: [Sample(each) for each in contexts]})
    assert found.moved.requests == moved


@pytest.mark.parametrize("count", [0, 1, 7])
def test_shares_of_nothing_are_nothing(count: int) -> None:
    old = files(EMPTY, calling=calling())
    found = of(old, files(old, calling=calling(default="many")), {CALLING: SEEN[:count]})
    assert 0 <= found.moved.percent <= 100
