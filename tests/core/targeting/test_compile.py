"""Generated functions: nothing of a rule is in their source, and shapes share their code."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.evaluate import Evaluator

NASTY = [
    "'", '"', "\\", '"""', "\n", "\r\n", "\0", "{k0}", "%s", "c]", 'x"]', "__import__('os')", "k0",
    "\u2028", "#", "'; raise SystemExit #", "\\N{DASH}", "日本",
]  # fmt: skip
texts = st.one_of(st.sampled_from(NASTY), st.text())


def evaluator(targeting: Any, **flags: Any) -> Evaluator:
    bodies = {
        key: json.dumps(
            {"state": "ENABLED", "variants": {"on": 1, "off": 0}, "targeting": rule}
        ).encode()
        for key, rule in {"k": targeting, **flags}.items()
    }
    return Evaluator(bodies, now_s=lambda: 0.0)


def rule(name: str, value: str) -> Any:
    return {
        "if": [
            {"==": [{"var": name}, value]}, "on",
            {"in": [{"var": name}, [value, "b"]]}, "on",
            {"starts_with": [{"var": name}, value + "x"]}, "on",
            {"sem_ver": [{"var": name}, "=", value]}, "on",
            {"==": [{"cat": [value, {"var": name}]}, value + value]}, "on",
            "off",
        ]
    }  # fmt: skip


@given(texts.filter(lambda name: name and "." not in name and name != "$flagd"), texts, texts)
def test_any_text_is_data(name: str, value: str, other: str) -> None:
    under_test = evaluator(rule(name, value))
    setting = under_test.function("k")
    assert setting.__name__ == "answer"
    code = setting.__code__
    assert not [each for each in code.co_consts if isinstance(each, str)]
    assert set(code.co_names) <= {"Exception", "get", "startswith", "str", "type"}
    assert all(re.fullmatch(r"c|slow|r|K|[kt][0-9]+", each) for each in code.co_varnames)
    assert under_test.evaluate("k", {name: value}).variant == "on"
    expected = "on" if other in (value, "b") or other.startswith(value + "x") else None
    if expected:
        assert under_test.evaluate("k", {name: other}).variant == expected


def test_generated_code_reaches_no_builtins() -> None:
    function = evaluator(rule("tenant", "contoso")).function("k")
    assert function.__globals__["__builtins__"] == {}
    assert "__import__" not in function.__globals__


def test_rules_of_one_shape_share_their_code() -> None:
    under_test = evaluator(rule("a", "x"), other=rule("b", "y"), third={"if": [True, "on"]})
    one, other, third = (under_test.function(key) for key in ("k", "other", "third"))
    assert one.__code__ is other.__code__
    assert one.__code__ is not third.__code__


def test_outcomes_are_built_once() -> None:
    under_test = evaluator(rule("a", "x"))
    assert under_test.evaluate("k", {"a": "x"}) is under_test.evaluate("k", {"a": "x"})


@pytest.mark.parametrize("count", [1, 10, 30, 300])
def test_many_constants(count: int) -> None:
    branches = [part for n in range(count) for part in ({"==": [{"var": f"a{n}"}, f"v{n}"]}, "on")]
    under_test = evaluator({"if": [*branches, "off"]})
    context = {f"a{n}": "" for n in range(count)}
    assert under_test.evaluate("k", context).variant == "off"
    for n in (0, count - 1):
        assert under_test.evaluate("k", context | {f"a{n}": f"v{n}"}).variant == "on"


def test_close_to_the_stacks_end_a_read_answers() -> None:
    under_test = evaluator(rule("a", "x"))
    under_test.function("k")

    def dive(levels: int) -> Any:
        return under_test.evaluate("k", {}) if levels == 0 else dive(levels - 1)

    room = sys.getrecursionlimit() - 60
    answered = [dive(levels) for levels in range(room - 700, room - 200, 50)]
    assert {each.reason for each in answered} <= {"TARGETING_MATCH", "ERROR"}
