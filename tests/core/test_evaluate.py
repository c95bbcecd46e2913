"""The evaluator: every outcome of flagd's table, typed slots, lazy loading, bounds, threads."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import msgspec
import pytest

from holdfast.core import limits
from holdfast.core.evaluate import MISSES_MAX, Evaluator
from holdfast.core.targeting import compile as compiler
from holdfast.core.targeting.check import check_flag
from holdfast.core.targeting.prepare import Rules
from holdfast.core.targeting.segments import SegmentTable, build

NOW_S = 1_767_225_600.75
SWITCH = {"on": True, "off": False}
CONTOSO = {"if": [{"==": [{"var": "tenant"}, "contoso"]}, "on"]}


def flag(targeting: Any = None, **more: Any) -> bytes:
    made = {"state": "ENABLED", "variants": SWITCH, "defaultVariant": "off"}
    return json.dumps(
        made | ({"targeting": targeting} if targeting is not None else {}) | more
    ).encode()


def evaluator(**flags: bytes) -> Evaluator:
    return Evaluator(flags, now_s=lambda: NOW_S)


def outcome_of(targeting: Any, context: dict[str, Any] | None = None, **more: Any) -> Any:
    return evaluator(k=flag(targeting, **more)).evaluate("k", context or {})


@pytest.mark.parametrize(
    ("body", "context", "expected"),
    [
        (flag(), {}, ("STATIC", "off", False, None)),
        (flag({}), {}, ("STATIC", "off", False, None)),
        (flag(CONTOSO), {"tenant": "contoso"}, ("TARGETING_MATCH", "on", True, None)),
        (flag(CONTOSO), {"tenant": "fabrikam"}, ("DEFAULT", "off", False, None)),
        (flag(CONTOSO, defaultVariant=None), {}, ("DEFAULT", None, None, None)),
        (flag(defaultVariant=None), {}, ("DEFAULT", None, None, None)),
        (flag(state="DISABLED"), {}, ("DISABLED", None, None, None)),
        (flag({"==": [1, 1]}, variants={"true": "y"}), {}, ("TARGETING_MATCH", "true", "y", None)),
        (flag({"cat": "nope"}), {}, ("ERROR", None, None, "GENERAL")),
        (flag({"nope": 1}), {}, ("ERROR", None, None, "PARSE_ERROR")),
        (flag({"$ref": "nope"}), {}, ("ERROR", None, None, "PARSE_ERROR")),
        (flag({"/": [1, 0]}), {}, ("ERROR", None, None, "GENERAL")),
        (flag(defaultVariant="nope"), {}, ("ERROR", None, None, "GENERAL")),
        (flag(["no object"]), {}, ("ERROR", None, None, "PARSE_ERROR")),
        (flag(state="PERHAPS"), {}, ("ERROR", None, None, "PARSE_ERROR")),
        (flag(variants={}), {}, ("ERROR", None, None, "PARSE_ERROR")),
        (b"{", {}, ("ERROR", None, None, "PARSE_ERROR")),
    ],
)  # fmt: skip
def test_outcomes(body: bytes, context: dict[str, Any], expected: tuple[Any, ...]) -> None:
    outcome = evaluator(k=body).evaluate("k", context)
    assert (outcome.reason, outcome.variant, outcome.value, outcome.error_code) == expected
    assert (outcome.error_message is None) == (outcome.error_code is None)


def test_an_unknown_setting_is_not_kept() -> None:
    under_test = evaluator()
    outcome = under_test.evaluate("nope", {})
    assert (outcome.error_code, outcome.key) == ("FLAG_NOT_FOUND", "nope")
    assert not under_test.table


def test_the_demo_shop() -> None:
    text = Path(__file__).parents[2] / "examples" / "demo-shop.flagd.json"
    document = msgspec.json.decode(text.read_bytes(), type=dict[str, msgspec.Raw])
    flags = msgspec.json.decode(document["flags"], type=dict[str, msgspec.Raw])
    answers = Evaluator(flags, now_s=lambda: NOW_S).evaluate_all({"product_id": "OLJCESPC7Z"})
    assert len(answers) == len(flags)
    assert not [each for each in answers.values() if each.error_code]
    assert answers["productCatalogFailure"].reason == "TARGETING_MATCH"


@pytest.mark.parametrize(
    ("value", "slots"),
    [
        (True, {"boolean": True}),
        ("text", {"string": "text"}),
        (9, {"integer": 9, "number": 9.0}),
        (9.5, {"number": 9.5}),
        ({"a": 1}, {"object": {"a": 1}}),
        ([1], {"object": [1]}),
        (None, {}),
    ],
)
def test_a_slot_exists_for_each_type_that_the_value_has(value: Any, slots: dict[str, Any]) -> None:
    outcome = outcome_of(None, variants={"v": value}, defaultVariant="v")
    for name in ("boolean", "string", "integer", "number", "object"):
        if name in slots:
            assert getattr(outcome, name) == slots[name]
            assert type(getattr(outcome, name)) is type(slots[name])
        else:
            with pytest.raises(AttributeError):
                getattr(outcome, name)


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [("number", 9, 9.0), ("integer", 9, 9), ("integer", 9.0, 9), ("number", 9.5, 9.5)],
)
def test_a_declared_type_decides_what_a_number_is(declared: str, value: Any, expected: Any) -> None:
    body = flag(variants={"v": value}, defaultVariant="v")
    outcome = Evaluator({"k": body}, types={"k": declared}, now_s=lambda: NOW_S).evaluate("k")
    assert (outcome.value, type(outcome.value)) == (expected, type(expected))
    assert hasattr(outcome, "integer") == (declared == "integer")


def test_metadata_of_the_flag_goes_before_that_of_the_set() -> None:
    under_test = Evaluator(
        {"k": flag(metadata={"owner": "us"}), "plain": flag()},
        metadata={"owner": "all", "version": "12"},
        now_s=lambda: NOW_S,
    )
    assert under_test.evaluate("k").metadata == {"owner": "us", "version": "12"}
    assert under_test.evaluate("plain").metadata == {"owner": "all", "version": "12"}


def test_flagds_own_attributes_override_the_contexts() -> None:
    rule = {"cat": [{"var": "$flagd.flagKey"}, "-", {"var": "$flagd.timestamp"}]}
    outcome = outcome_of(rule, {"$flagd": {"flagKey": "x"}}, variants={"k-1767225600": 1})
    assert outcome.variant == "k-1767225600"


def test_settings_are_loaded_when_they_are_asked_for() -> None:
    under_test = evaluator(good=flag(), bad=b"no JSON")
    assert not under_test.table
    assert not list(under_test.outcomes())
    under_test.evaluate("good")
    assert list(under_test.table) == ["good"]
    assert {outcome.key for outcome in under_test.outcomes()} == {"good"}


def test_a_client_may_index_the_table() -> None:
    under_test = evaluator(k=flag(CONTOSO))
    under_test.function("k")
    outcome = under_test.table["k"]({"tenant": "contoso"})
    outcome.count += 1.0
    assert under_test.table["k"]({"tenant": "contoso"}) is outcome
    assert [each.count for each in under_test.outcomes() if each.count] == [1]


def test_threads_get_the_same_outcomes() -> None:
    under_test = evaluator(**{f"k{number}": flag(CONTOSO) for number in range(200)})
    keys = list(under_test.keys())
    ready = threading.Barrier(8)
    seen: list[list[int]] = []

    def read() -> None:
        ready.wait()
        seen.append([id(under_test.evaluate(key, {"tenant": "contoso"})) for key in keys])

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert all(each == seen[0] for each in seen)


@pytest.mark.parametrize("context", [None, 7, [], "text", {"tenant": object()}, {1: 2}])
def test_no_context_makes_a_read_raise(context: Any) -> None:
    rules = [CONTOSO, {"fractional": [["on", 1]]}, {"missing": ["tenant"]}, {"var": ""}]
    for rule in rules:
        assert evaluator(k=flag(rule)).evaluate("k", context).reason in ("DEFAULT", "ERROR")


def test_absence_that_goes_on_is_expected() -> None:
    under_test = evaluator(k=flag(CONTOSO))
    first = under_test.function("k")
    for _ in range(MISSES_MAX + 1):
        assert under_test.evaluate("k", {}).reason == "DEFAULT"
    assert under_test.table["k"] is not first
    assert under_test.evaluate("k", {}).reason == "DEFAULT"
    assert under_test.evaluate("k", {"tenant": "contoso"}).variant == "on"


def test_settings_that_are_read_together_are_not_all_made_anew_at_once() -> None:
    under_test = evaluator(**{f"k{number}": flag(CONTOSO) for number in range(1_000)})
    at_once = []
    for _ in range(MISSES_MAX):
        before = dict(under_test.table)
        under_test.evaluate_all({})
        at_once.append(sum(under_test.table[key] is not before[key] for key in before))
    assert sum(at_once) > 900
    assert max(at_once) <= 30


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is collected: what is freed is freed since nobody refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_a_replaced_snapshot_is_freed_when_it_is_let_go() -> None:
    """It leaves no circles, that a collection would have to find while all threads wait."""
    flags = evaluator(a=flag(CONTOSO), b=flag(CONTOSO), c=flag({"cat": "nope"}))
    for _ in range(MISSES_MAX + 1):
        flags.evaluate_all({})
    flags.explain("b", {"tenant": "contoso"})
    held = [ref(flags), *(ref(flags.function(key)) for key in "abc")]
    del flags
    assert [each() for each in held] == [None] * len(held)


def test_a_function_outlives_its_snapshot() -> None:
    """A thread may be in the middle of a read when the next one is there."""
    flags = evaluator(a=flag(CONTOSO), c=flag({"cat": "nope"}))
    matching, failing = flags.function("a"), flags.function("c")
    held = ref(flags)
    del flags
    gc.collect()
    assert held() is None
    for _ in range(2 * MISSES_MAX):
        assert matching({}).variant == "off"
        assert matching({"tenant": "contoso"}).variant == "on"
        assert failing({}).error_code == "GENERAL"


def test_what_is_let_go_comes_back() -> None:
    flags = evaluator(a=flag(CONTOSO), b=flag())
    assert flags.evaluate("a", {}).variant == "off"
    for key in ("a", "b", "nope"):
        flags.let_go(key)
    assert flags.evaluate("a", {}).variant == "off"
    assert flags.explain("a", {"tenant": "contoso"}).variant == "on"


def test_what_is_forgotten_leaves_nothing_and_comes_back() -> None:
    flags = evaluator(a=flag(CONTOSO), b=flag())
    flags.evaluate_all({})
    for key in ("a", "b", "nope"):
        flags.forget(key)
    assert not flags.table
    assert not list(flags.outcomes())
    assert flags.evaluate("a", {"tenant": "contoso"}).variant == "on"


def test_segments_as_tables() -> None:
    rule = {"if": [{"in_segment": [{"var": "tenant"}, "big"]}, "on", "off"]}
    under_test = Evaluator(
        {"k": flag(rule), "lost": flag({"if": [{"in_segment": [{"var": "tenant"}, "no"]}, "on"]})},
        segments={"big": SegmentTable(build(["contoso"]))},
        now_s=lambda: NOW_S,
    )
    for tenant, expected in (("contoso", "on"), ("fabrikam", "off"), (7, "off"), (None, "off")):
        assert under_test.evaluate("k", {"tenant": tenant}).variant == expected
    assert under_test.evaluate("k", {}).variant == "off"
    lost = under_test.evaluate("lost", {"tenant": "contoso"})
    assert (lost.error_code, lost.error_message) == (
        "GENERAL", "the table of segment no is not loaded",
    )  # fmt: skip


def test_error_outcomes_are_bounded() -> None:
    """Who chooses the variant by the context makes no end of unknown ones."""
    under_test = evaluator(k=flag({"var": "tier"}))
    for number in range(1_000):
        assert under_test.evaluate("k", {"tier": f"t{number}"}).error_code == "GENERAL"
    assert len(list(under_test.outcomes())) < 32


# bounds


def deep(levels: int, inside: str = "1") -> str:
    return '{"!":[' * levels + inside + "]}" * levels


def deep_flag(levels: int) -> bytes:
    return b'{"state":"ENABLED","variants":{"a":1},"targeting":' + deep(levels).encode() + b"}"


@pytest.mark.parametrize("levels", [33, 500, 100_000])
def test_deep_rules_are_refused(levels: int) -> None:
    outcome = evaluator(k=deep_flag(levels)).evaluate("k", {})
    assert outcome.error_code == "PARSE_ERROR"
    assert "deep" in str(outcome.error_message)
    assert [each.severity for each in check_flag("k", deep_flag(levels))] == ["error"]


def test_rules_at_the_bound_are_answered() -> None:
    assert (
        evaluator(k=deep_flag(32)).evaluate("k", {}).error_message.startswith("the targeting gave")
    )


def test_without_the_bound_depth_would_be_recursion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOGIC_DEPTH_MAX", 10**9)
    logic: Any = 1
    for _ in range(1_000):
        logic = {"!": [logic]}
    with pytest.raises(RecursionError):
        Rules({}, lambda name: name).prepare(logic)


def test_deep_shared_rules_are_refused() -> None:
    under_test = Evaluator(
        {"k": flag({"!": {"$ref": "deep"}}), "other": flag()},
        evaluators={"deep": deep(100_000).encode()},
        now_s=lambda: NOW_S,
    )
    assert under_test.evaluate("k").error_code == "PARSE_ERROR"
    assert under_test.evaluate("other").variant == "off"


def test_shared_rules_that_multiply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 references to a rule of 50 operators are 2,500 operators, on a page of JSON."""
    monkeypatch.setattr(limits, "LOGIC_CALLS_MAX", 2_000)
    shared = json.dumps({"and": [{"var": "n"}] * 50}).encode()
    body = flag({"or": [{"$ref": "one"}] * 50})
    evaluators = {"one": shared}
    outcome = Evaluator({"k": body}, evaluators=evaluators, now_s=lambda: NOW_S).evaluate("k")
    assert outcome.error_code == "PARSE_ERROR"
    assert [each.code for each in check_flag("k", body, evaluators)] == ["rule"]


def test_large_rules_are_interpreted() -> None:
    tests = [{"==": [{"var": "n"}, number]} for number in range(compiler.CALLS_MAX)]
    under_test = evaluator(k=flag({"if": [{"or": tests}, "on", "off"]}))
    assert under_test.function("k").__name__ == "whole"
    assert under_test.evaluate("k", {"n": 1_999}).variant == "on"
    assert under_test.evaluate("k", {"n": -1}).variant == "off"


@pytest.mark.parametrize(
    "rule",
    [
        {"map": [list(range(900)), {"map": [list(range(900)), {"map": [list(range(900)), 1]}]}]},
        {"reduce": [list(range(900)), [{"var": "accumulator"}, {"var": "accumulator"}], 1]},
        {"reduce": [list(range(900)), {"*": [{"var": "accumulator"}] * 2}, 10]},
        {"reduce": [list(range(900)), {"cat": [{"var": "accumulator"}] * 2}, "ab"]},
        {"reduce": [list(range(900)), {"merge": [{"var": "accumulator"}] * 2}, [1]]},
    ],
)
def test_work_is_bounded(rule: Any) -> None:
    outcome = outcome_of({"if": [rule, "on", "off"]})
    assert outcome.error_code == "GENERAL"
    assert outcome.error_message == "the targeting does too much work on this context"


def test_without_the_meter_work_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty items make a list of a million; each further one doubles it."""
    monkeypatch.setattr(limits, "EVALUATION_STEPS_MAX", 10**12)
    rule = {"reduce": [list(range(19)), {"merge": [{"var": "accumulator"}] * 2}, [1]]}
    assert outcome_of({"if": [rule, "on", "off"]}).variant == "on"


def test_what_contains_itself_is_an_answer() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for rule in ({"cat": {"var": "l"}}, {"some": [{"var": "l"}, {"cat": {"var": ""}}]}):
        assert outcome_of({"if": [rule, "on", "off"]}, {"l": endless}).error_code == "GENERAL"


def test_too_many_variants_and_too_large_values() -> None:
    many = flag(variants={f"v{number}": 1 for number in range(limits.VARIANTS_MAX + 1)})
    large = flag(variants={"off": "x" * (limits.VALUE_BYTES_MAX + 1)})
    value: Any = 1
    for _ in range(limits.VALUE_DEPTH_MAX + 1):
        value = [value]
    for body in (many, large, flag(variants={"off": value})):
        assert evaluator(k=body).evaluate("k").error_code == "PARSE_ERROR"
        assert "error" in {each.severity for each in check_flag("k", body)}


def test_check_flag_lists_what_will_fail() -> None:
    rule = {"if": [{"nope": 1}, "on", {"in_segment": [{"var": "t"}, "lost"]}, "on", {"$ref": "x"}]}
    found = check_flag("a/b", flag(rule, defaultVariant="nope"), tables=["big"])
    assert [(each.code, each.severity, each.path) for each in found] == [
        ("variant", "warning", "/flags/a~1b"),
        *[("operator", "warning", "/flags/a~1b/targeting")] * 3,
    ]
    assert check_flag("k", flag(CONTOSO)) == []


def test_what_could_not_be_evaluated_is_counted_and_the_last_of_it_kept() -> None:
    flag = {
        "state": "ENABLED",
        "variants": {"a": 1},
        "defaultVariant": "a",
        "targeting": {"if": [{"%": [1, {"var": "n"}]}, "a"]},
    }
    evaluator = Evaluator({"odd": msgspec.json.encode(flag)}, now_s=lambda: 0.0)
    for _ in range(20):
        assert evaluator.evaluate("odd", {"n": 0}).error_code == "GENERAL"
    assert evaluator.evaluate("odd", {"n": 1}).error_code is None
    assert evaluator.failed == 20
    assert set(map(str, evaluator.failing)) == {str(("odd", {"n": 0}))}
    assert len(evaluator.failing) < 20
