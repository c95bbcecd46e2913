"""One function for all settings answers what each setting's own function answers."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.oracle import rules

from holdfast.core.evaluate import Evaluator, Outcome
from holdfast.core.model import Bucketing
from holdfast.core.targeting import fuse
from holdfast.core.targeting.fuse import CHUNK_CALLS, MEMBER_CALLS_MAX
from holdfast.core.targeting.segments import SegmentTable, build

NOW_S = 1_700_000_000.0
SHORT = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=10_000)
Answers = list[Outcome]

odd_definitions = st.sampled_from(
    [
        {"state": "DISABLED", "variants": {"on": 1}, "defaultVariant": "on"},
        {"state": "ENABLED", "variants": {"on": 1}, "defaultVariant": "absent"},
        {"state": "ENABLED", "variants": {"on": 1}, "targeting": {"$ref": "absent"}},
        {"state": "ENABLED"},
        {"variants": 7},
        [],
    ]
)
definitions = st.one_of(
    odd_definitions,
    *[
        st.fixed_dictionaries(
            {
                "state": st.just("ENABLED"),
                "variants": st.just(rules.VARIANTS),
                "targeting": rules.targetings,
                "defaultVariant": rules.defaults,
            }
        )
    ]
    * 4,
)
snapshots = st.lists(definitions, min_size=1, max_size=8)


def evaluator(
    definitions: list[Any],
    bucketing: Bucketing = "v3",
    segments: dict[str, SegmentTable] | None = None,
) -> Evaluator:
    return Evaluator(
        {f"setting-{n}": json.dumps(each).encode() for n, each in enumerate(definitions)},
        bucketing=bucketing,
        segments=segments or {},
        now_s=lambda: NOW_S,
    )


def ruled(*targetings: Any) -> list[Any]:
    variants = {"on": True, "off": False}
    return [
        {"state": "ENABLED", "variants": variants, "defaultVariant": "off", "targeting": each}
        for each in targetings
    ]


def fused(under_test: Evaluator) -> Any:
    """All outcomes in order; joined neighbours are lists that were added up."""
    together = under_test.fused(
        lambda outcome: [outcome], lambda items: list(chain.from_iterable(items))
    )
    return lambda context: list(chain.from_iterable(together(context)))


def check(given_definitions: list[Any], contexts: list[Any], bucketing: Bucketing) -> None:
    alone = evaluator(given_definitions, bucketing)
    together = fused(alone)
    for context in contexts:
        for theirs, ours in zip(
            (alone.evaluate(key, context) for key in alone.keys()),  # noqa: SIM118
            together(context),
            strict=True,
        ):
            assert theirs is ours


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@SHORT
@given(snapshots, st.lists(rules.contexts, min_size=4, max_size=4), st.sampled_from(["v2", "v3"]))
def test_all_at_once_is_each_alone(
    definitions: list[Any], contexts: list[Any], bucketing: Bucketing
) -> None:
    check(definitions, contexts, bucketing)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@LONG
@given(snapshots, st.lists(rules.contexts, min_size=4, max_size=4), st.sampled_from(["v2", "v3"]))
def test_all_at_once_is_each_alone_many(
    definitions: list[Any], contexts: list[Any], bucketing: Bucketing
) -> None:
    check(definitions, contexts, bucketing)


def test_what_one_setting_cannot_read_is_no_trouble_to_the_others() -> None:
    named = {"if": [{"==": [{"var": "object.name"}, "x"]}, "on", "off"]}
    under_test = evaluator(ruled(named, {"if": [{"==": [{"var": "tenant"}, "t"]}, "on"]}, named))
    together = fused(under_test)
    assert [each.variant for each in together({"tenant": "t", "object": 7})] == ["off", "on", "off"]
    assert [each.variant for each in together({"object": {"name": "x"}})] == ["on", "off", "on"]


def test_segments_are_looked_up() -> None:
    table = SegmentTable(build(["contoso", "fabrikam"]))
    rule = {"if": [{"in_segment": [{"var": "tenant"}, "pilot"]}, "on", "off"]}
    under_test = evaluator(ruled(rule, rule), segments={"pilot": table})
    together = fused(under_test)
    assert [each.variant for each in together({"tenant": "contoso"})] == ["on", "on"]
    assert [each.variant for each in together({"tenant": "tailspin"})] == ["off", "off"]


def test_neighbours_that_answer_everybody_alike_are_one_item() -> None:
    rule = {"if": [{"==": [{"var": "tenant"}, "t"]}, "on", "off"]}
    together = evaluator(ruled(None, None, rule, None, None)).fused(lambda _: 1, sum)
    assert together({"tenant": "t"}) == [2, 1, 2]


@pytest.mark.parametrize("count", [1, 50, 400])
def test_any_number_of_settings(count: int) -> None:
    kinds = [
        {"if": [{"in": [{"var": "tenant"}, ["a", "b"]]}, "on", "off"]},
        {"fractional": [["on", 50], ["off", 50]]},
        None,
    ]
    under_test = evaluator(ruled(*(kinds[n % 3] for n in range(count))))
    context = {"tenant": "a", "targetingKey": "u1"}
    answers = fused(under_test)(context)
    assert [each.key for each in answers] == list(under_test.keys())
    assert all(each is under_test.evaluate(each.key, context) for each in answers)


def test_functions_are_small_however_large_the_snapshot() -> None:
    rule = {"if": [{"and": [{"==": [{"var": f"a{n}"}, n]} for n in range(9)]}, "on", "off"]}
    together = evaluator(ruled(*[rule] * 300)).fused(lambda _: 1, sum)
    codes = [part.__code__ for part in together._parts]
    assert len(codes) > 300 * 10 / (CHUNK_CALLS + 40)
    assert max(len(code.co_code) for code in codes) < 40_000


def large(calls: int) -> Any:
    return {"if": [{"or": [{"==": [{"var": "n"}, n]} for n in range(calls)]}, "on", "off"]}


def deep(levels: int) -> Any:
    rule: Any = {"var": "beta"}
    for _ in range(levels):
        rule = {"and": [True, {"!": [rule]}]}
    return {"if": [rule, "on", "off"]}


@pytest.mark.parametrize("rule", [large(MEMBER_CALLS_MAX + 1), large(3_000), deep(45)])
def test_a_rule_too_large_or_too_deep_is_evaluated_by_itself(rule: Any) -> None:
    plain = {"if": [{"==": [{"var": "n"}, 1]}, "on", "off"]}
    under_test = evaluator(ruled(plain, rule, plain))
    together = fused(under_test)
    for context in ({"n": 1}, {"n": -1}, {"n": 1, "beta": True}, {}):
        expected = [under_test.evaluate(key, context) for key in under_test.keys()]  # noqa: SIM118
        assert together(context) == expected


def test_what_python_cannot_compile_is_evaluated_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(source: str) -> Any:
        raise RecursionError(len(source))

    monkeypatch.setattr(fuse, "code_of", refuse)
    monkeypatch.setattr(fuse, "_shapes", {})
    under_test = evaluator(ruled({"if": [{"==": [{"var": "n"}, 1]}, "on", "off"]}, None))
    assert [each.variant for each in fused(under_test)({"n": 1})] == ["on", "off"]


NASTY = ["'", '"""', "\\", "\n", "\0", "k0", "a0", "v0", "__import__('os')", "#", "\u2028", "{k0}"]


@given(st.sampled_from(NASTY), st.sampled_from(NASTY), st.text(max_size=5))
def test_any_text_is_data(name: str, value: str, other: str) -> None:
    rule = {"if": [{"in": [{"var": name}, [value, other]]}, "on", {"cat": [value, {"var": name}]}]}
    under_test = evaluator(ruled(rule, rule))
    together = under_test.fused(lambda outcome: outcome, lambda items: items[0])
    for part in together._parts:
        code = part.__code__
        assert not [each for each in code.co_consts if isinstance(each, str)]
        assert all(re.fullmatch(r"[acgrvt][0-9]*", each) for each in code.co_varnames)
        assert all(re.fullmatch(r"k[0-9]+|get|Exception", each) for each in code.co_names)
        assert part.__globals__["__builtins__"] == {}
    answers = fused(under_test)({name: value})
    assert answers == [under_test.evaluate(key, {name: value}) for key in under_test.keys()]  # noqa: SIM118


def test_snapshots_of_one_shape_share_their_code() -> None:
    def made(tenant: str) -> Any:
        rule = {"if": [{"==": [{"var": "tenant"}, tenant]}, "on", "off"]}
        return evaluator(ruled(rule, rule)).fused(lambda _: 1, sum)

    assert made("a")._parts[0].__code__ is made("b")._parts[0].__code__
