"""Holdfast answers what flagd's Python core answers: 2.0.0 for bucketing v3, 1.0.0 for v2.

The differences that are allowed, with their reasons, are `REASONED` below and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import flagd_core
import pytest
import rules
from hypothesis import HealthCheck, given, settings

from holdfast.core.evaluate import Evaluator
from holdfast.core.model import Bucketing

Answer = dict[str, Any]
Oracle = Callable[[dict[str, Any]], Answer]

SHORT = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=6_000)
"""Each example is one rule on `rules.CONTEXTS` contexts: 2,000 and 24,000 cases."""


def evaluator_of(document: str, bucketing: Bucketing) -> Evaluator:
    parsed = json.loads(document)
    return Evaluator(
        {key: json.dumps(flag).encode() for key, flag in parsed["flags"].items()},
        evaluators={
            name: json.dumps(rule).encode() for name, rule in parsed.get("$evaluators", {}).items()
        },
        metadata=parsed.get("metadata", {}),
        bucketing=bucketing,
        now_s=lambda: flagd_core.NOW_S,
    )


def ours(evaluator: Evaluator, context: dict[str, Any]) -> Answer:
    outcome = evaluator.evaluate(flagd_core.KEY, context)
    if outcome.error_code:
        return {"error": outcome.error_code}
    return {
        "reason": outcome.reason,
        "variant": outcome.variant,
        "value": outcome.value,
        "metadata": dict(outcome.metadata),
    }


def agree(theirs: Answer, mine: Answer) -> bool:
    if "error" in theirs:
        return mine.get("error") == theirs["error"]
    return mine == theirs and type(mine["value"]) is type(theirs["value"])


def check(document: str, contexts: list[Any], oracle: Oracle, bucketing: Bucketing) -> None:
    evaluator = evaluator_of(document, bucketing)
    for context in contexts:
        theirs = oracle({"document": document, "context": context})
        mine = ours(evaluator, context)
        assert agree(theirs, mine), f"{document}\n{context}\nflagd: {theirs}\nholdfast: {mine}"


@SHORT
@given(rules.flags())
def test_v3_answers_as_flagd_core_2(flagd_v3: Oracle, flag: Any) -> None:
    check(*flag, flagd_v3, "v3")


@SHORT
@given(rules.flags())
def test_v2_answers_as_flagd_core_1(flagd_v2: Oracle, flag: Any) -> None:
    check(*flag, flagd_v2, "v2")


@pytest.mark.long
@LONG
@given(rules.flags())
def test_v3_answers_as_flagd_core_2_many(flagd_v3: Oracle, flag: Any) -> None:
    check(*flag, flagd_v3, "v3")


@pytest.mark.long
@LONG
@given(rules.flags())
def test_v2_answers_as_flagd_core_1_many(flagd_v2: Oracle, flag: Any) -> None:
    check(*flag, flagd_v2, "v2")
