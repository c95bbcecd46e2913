"""Where Holdfast means to answer otherwise than flagd's Python core: the whole list, with reasons.

Errors of any kind but a parse error are GENERAL to OpenFeature's client, so TypeError from `==`,
ZeroDivisionError, OverflowError and UnicodeEncodeError in flagd are GENERAL outcomes here and no
difference.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import pytest
from tests.oracle import flagd_core

from holdfast.core import limits
from holdfast.core.evaluate import Evaluator
from holdfast.core.targeting.segments import SegmentTable, build

SWITCH = {"on": True, "off": False}


class Ring(StrEnum):
    GENERAL = "general"


def nested(depth: int) -> Any:
    rule: Any = {"var": "n"}
    for _ in range(depth):
        rule = {"!": [rule]}
    return {"if": [rule, "on", "off"]}


def flag(targeting: Any = None, **more: Any) -> dict[str, Any]:
    made = {"state": "ENABLED", "variants": SWITCH, "defaultVariant": "off"}
    return made | ({"targeting": targeting} if targeting is not None else {}) | more


class Difference(NamedTuple):
    """`theirs` and `ours` are the variant, or the error code."""

    reason: str
    document: str
    theirs: str
    ours: str
    context: dict[str, Any] = {}  # noqa: RUF012 - never changed


def document(definition: dict[str, Any], **more: Any) -> str:
    return json.dumps({"flags": {flagd_core.KEY: definition}} | more)


DOUBLING = {
    "reduce": [
        {"var": "items"},
        {"merge": [{"var": "accumulator"}, {"var": "accumulator"}]},
        [1],
    ]
}
TIMES_TIMES = {"map": [{"var": "items"}, {"map": [{"var": ""}, {"+": [{"var": ""}, 1]}]}]}
ITSELF = {"reduce": [[1], {"var": ""}]}

DIFFERENCES = [
    Difference(
        "an operator that looks like a path into an operator is unknown, and so a parse error; "
        "flagd fails with a TypeError while looking it up",
        document(flag({"if": [{"var.x": [1]}, "on"]})),
        "GENERAL",
        "PARSE_ERROR",
    ),
    Difference(
        "references inside shared rules are not followed (flagd's specification); flagd's Python "
        "core follows those that happen to come later in the file",
        document(
            flag({"if": [{"$ref": "one"}, "on", "off"]}),
            **{"$evaluators": {"one": {"$ref": "two"}, "two": {"==": [1, 1]}}},
        ),
        "on",
        "PARSE_ERROR",
    ),
    Difference(
        "a shared rule may hold any text; flagd takes it for the template of a regular expression, "
        "refuses \\u escapes and with them the whole file",
        document(
            flag({"if": [{"$ref": "one"}, "on", "off"]}),
            **{"$evaluators": {"one": {"==": [{"var": "city"}, "Zürich"]}}},
        ),
        "GENERAL",
        "on",
        {"city": "Zürich"},
    ),
    Difference(
        "fields that flagd's schema doesn't name are passed over, as in flagd's daemon; the public "
        "demo shop's file has them, and flagd's Python core refuses it whole",
        document(flag(description="for people")),
        "PARSE_ERROR",
        "off",
    ),
    Difference(
        "a text is a text, subclasses too; flagd fails with a TypeError",
        document(flag({"if": [{"==": [{"var": "ring"}, {"cat": "general"}]}, "on", "off"]})),
        "GENERAL",
        "on",
        {"ring": Ring.GENERAL},
    ),
    Difference(
        "what is no JSON equals nothing in a rule; flagd fails with a TypeError",
        document(flag({"if": [{"==": [{"var": "ring"}, "general"]}, "on", "off"]})),
        "GENERAL",
        "off",
        {"ring": b"general"},
    ),
    Difference(
        "a date is its ISO text, as OFREP sends it; flagd makes an HTTP date in local time of it",
        document(
            flag(
                {"if": [{"==": [{"cat": {"var": "at"}}, "2026-01-01T00:00:00+00:00"]}, "on", "off"]}
            )
        ),
        "off",
        "on",
        {"at": datetime(2026, 1, 1, tzinfo=UTC)},
    ),
    Difference(
        f"rules are at most {limits.LOGIC_DEPTH_MAX} deep, so that no evaluation overflows a stack",
        document(flag(nested(40))),
        "on",
        "PARSE_ERROR",
        {"n": 1},
    ),
    Difference(
        "the work of one evaluation is bounded: 12 items double a list to 4,096, 16 to 65,536",
        document(flag({"if": [DOUBLING, "on", "off"]})),
        "on",
        "GENERAL",
        {"items": [0] * 18},
    ),
    Difference(
        "the work of one evaluation is bounded: a list of lists, item by item",
        document(flag({"if": [TIMES_TIMES, "on", "off"]})),
        "on",
        "GENERAL",
        {"items": [[0] * 300] * 300},
    ),
    Difference(
        f"products are at most {limits.EVALUATED_INTEGER_BITS_MAX} bits long",
        document(flag({"if": [{"*": [{"var": "n"}] * 50}, "on", "off"]})),
        "on",
        "GENERAL",
        {"n": 2**2_000},
    ),
    Difference(
        f"lists that rules make have at most {limits.EVALUATED_ITEMS_MAX} items",
        document(flag({"if": [{"merge": [{"var": "items"}] * 40}, "on", "off"]})),
        "on",
        "GENERAL",
        {"items": [0] * 30_000},
    ),
    Difference(
        f"texts that rules make have at most {limits.EVALUATED_CHARS_MAX} characters",
        document(flag({"if": [{"cat": [{"var": "text"}] * 100}, "on", "off"]})),
        "on",
        "GENERAL",
        {"text": "x" * 60_000},
    ),
    Difference(
        "numbers are finite (RFC 8259); flagd's Python core reads NaN",
        document(flag({"if": [{"==": [1, float("nan")]}, "on", "off"]})),
        "off",
        "PARSE_ERROR",
    ),
    Difference(
        "texts are Unicode (RFC 7493); flagd's Python core reads lone surrogates",
        document(flag({"if": [{"==": [1, "\ud800"]}, "on", "off"]})),
        "off",
        "PARSE_ERROR",
    ),
    Difference(
        "log writes nothing, and so can't fail at what can't be written as JSON: a scope of reduce "
        "that contains itself. flagd fails with a ValueError",
        document(flag({"if": [{"log": ITSELF}, "on", "off"]})),
        "GENERAL",
        "on",
    ),
    Difference(
        "the one operator of Holdfast's own",
        document(flag({"if": [{"in_segment": [{"var": "tenant"}, "big"]}, "on", "off"]})),
        "PARSE_ERROR",
        "on",
        {"tenant": "contoso"},
    ),
]


def theirs(difference: Difference) -> str:
    answer = flagd_core.answer({"document": difference.document, "context": difference.context})
    return answer.get("error") or answer["variant"]


def ours(difference: Difference) -> str | None:
    parts = json.loads(difference.document)
    evaluator = Evaluator(
        {key: json.dumps(each).encode() for key, each in parts["flags"].items()},
        evaluators={
            name: json.dumps(rule).encode() for name, rule in parts.get("$evaluators", {}).items()
        },
        segments={"big": SegmentTable(build(["contoso"]))},
        now_s=lambda: flagd_core.NOW_S,
    )
    outcome = evaluator.evaluate(flagd_core.KEY, difference.context)
    return outcome.error_code or outcome.variant


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.reason[:40])
def test_a_difference_with_its_reason(difference: Difference) -> None:
    assert (theirs(difference), ours(difference)) == (difference.theirs, difference.ours)


def test_references_stand_for_rules_in_targeting_alone() -> None:
    """flagd replaces them wherever they are in the file's text, in the values of variants too."""
    text = document(
        flag(variants={"on": {"$ref": "one"}}, defaultVariant="on"), **{"$evaluators": {"one": 7}}
    )
    answer = flagd_core.answer({"document": text, "context": {}})
    mine = Evaluator(
        {"k": json.dumps(flag(variants={"on": {"$ref": "one"}}, defaultVariant="on")).encode()},
        evaluators={"one": b"7"},
        now_s=lambda: 0.0,
    ).evaluate("k")
    assert (answer["value"], mine.value) == (7, {"$ref": "one"})


def test_one_bad_definition_spoils_no_other() -> None:
    """flagd refuses the whole file."""
    flags = {"bad": flag(state="PERHAPS"), flagd_core.KEY: flag()}
    answer = flagd_core.answer({"document": json.dumps({"flags": flags}), "context": {}})
    evaluator = Evaluator(
        {key: json.dumps(each).encode() for key, each in flags.items()}, now_s=lambda: 0.0
    )
    assert answer["error"] == "PARSE_ERROR"
    assert evaluator.evaluate(flagd_core.KEY).variant == "off"
    assert evaluator.evaluate("bad").error_code == "PARSE_ERROR"


def test_log_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps(flag({"if": [{"log": {"var": "secret"}}, "on", "off"]})).encode()
    outcome = Evaluator({"k": body}, now_s=lambda: 0.0).evaluate("k", {"secret": "s"})
    assert (outcome.variant, capsys.readouterr().out) == ("on", "")
