"""Explanations: what decided, what was read, which bucket; and that they agree with the answer."""

from __future__ import annotations

import json
from typing import Any

import mmh3
import msgspec

from holdfast.core.evaluate import Evaluator, Explanation
from holdfast.core.targeting.explain import ITEMS_MAX, STEPS_MAX

RULES = {
    "if": [
        {"and": [{"==": [{"var": "ring"}, "canary"]}, {"var": "beta"}]}, "on",
        {"$ref": "pilot"}, {"fractional": [{"var": "user"}, ["on", 10], ["off", 90]]},
        {"/": [1, {"var": "zero"}]}, "on",
    ]
}  # fmt: skip
NAMES = ["canaries", "a tenth of the pilot", "broken"]


def explain(context: dict[str, Any], targeting: Any = None, **more: Any) -> Explanation:
    flag = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": RULES if targeting is None else targeting,
    }
    evaluator = Evaluator(
        {"k": json.dumps(flag | more).encode()},
        evaluators={"pilot": b'{"in":[{"var":"tenant"},["contoso"]]}'},
        now_s=lambda: 0.0,
    )
    told = evaluator.explain("k", context, NAMES)
    answer = evaluator.evaluate("k", context)
    assert (told.reason, told.variant, told.error_code) == (
        answer.reason, answer.variant, answer.error_code,
    )  # fmt: skip
    return msgspec.json.decode(msgspec.json.encode(told), type=Explanation)


def test_the_rule_that_decided_and_those_before_it() -> None:
    told = explain({"ring": "general", "tenant": "contoso", "user": "u1"})
    assert (told.rule, told.rule_name) == (1, "a tenth of the pilot")
    assert [(each.name, each.held) for each in told.rules] == [
        ("canaries", False), ("a tenth of the pilot", True),
    ]  # fmt: skip
    assert told.attributes == {"ring": "general", "tenant": "contoso", "user": "u1"}


def test_each_condition_with_its_parts() -> None:
    condition = explain({"ring": "canary", "beta": 0, "tenant": "x", "zero": 1}).rules[0].condition
    assert condition is not None
    assert (condition.op, condition.value) == ("and", 0)
    assert [(part.op, part.value) for part in condition.parts] == [("==", True), ("var", 0)]
    assert condition.parts[1].logic == '{"var":"beta"}'


def test_the_bucket() -> None:
    told = explain({"ring": "", "tenant": "contoso", "user": "u1"})
    (made,) = told.buckets
    hashed = mmh3.hash(b"\x62u1", 0, signed=False)
    assert (made.key, made.key_hex, made.hash) == ("u1", "627531", hashed)
    assert (made.bucket, made.total_weight) == (hashed * 100 >> 32, 100)
    assert [(share.variant, share.weight) for share in made.shares] == [("on", 10), ("off", 90)]
    assert [share.variant for share in made.shares if share.chosen] == [told.variant]


def test_a_failure_is_where_it_happened() -> None:
    told = explain({"ring": "", "tenant": "", "zero": 0})
    assert (told.reason, told.rule, told.error_message) == (
        "ERROR", None, "the targeting divides by zero",
    )  # fmt: skip
    broken = told.rules[-1]
    assert (broken.name, broken.held) == ("broken", None)
    assert broken.condition is not None
    assert broken.condition.failed == "ZeroDivisionError"


def test_the_default_decided() -> None:
    told = explain(
        {"ring": "", "tenant": "", "zero": 1}, {"if": [{"==": [{"var": "ring"}, "x"]}, "on"]}
    )
    assert (told.reason, told.rule, told.variant) == ("DEFAULT", None, "off")


def test_what_no_rule_had_a_part_in() -> None:
    assert explain({}, {}).reason == "STATIC"
    assert explain({}, state="DISABLED").reason == "DISABLED"
    assert explain({}, state="PERHAPS").error_code == "PARSE_ERROR"


def test_it_stays_readable() -> None:
    rule = {"if": [{"some": [{"var": "l"}, {"==": [{"var": ""}, -1]}]}, "on", "off"]}
    told = explain({"l": list(range(5_000)), "x": "y" * 10_000}, rule)
    assert not told.complete
    condition = told.rules[0].condition
    assert condition is not None
    assert len(condition.parts) <= STEPS_MAX
    assert len(told.attributes["l"]) == ITEMS_MAX + 1
    assert len(msgspec.json.encode(told)) < 200_000


def test_any_value_of_a_context_can_be_shown() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), endless, float("nan"), {1: {2: {3: {4: {5: 6}}}}}, b"x", 10**40):
        told = explain({"ring": value, "tenant": "", "zero": 1})
        assert told.reason == ("ERROR" if value is endless else "TARGETING_MATCH")
