"""Holdfast answers what flagd's Python core answers: 2.0.0 for bucketing v3, 1.0.0 for v2.

The differences that are allowed, with their reasons, are in `test_reasoned_differences` and nowhere
else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import ref

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from tests.oracle import flagd_core, rules

from holdfast.core.evaluate import Evaluator, Setting
from holdfast.core.model import Bucketing
from holdfast.core.targeting.answers import Answers
from holdfast.core.targeting.compile import Function
from holdfast.core.targeting.outcome import Outcome

Answer = dict[str, Any]
Oracle = Callable[[dict[str, Any]], Answer]

# A rule costs more to make than to try: in the short form it is tried on more contexts.
SHORT = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=20_000)
UNWRITABLE = "ValueError: Circular reference detected"
"""flagd's `log` writes its argument as JSON; the scope of a `reduce` may contain itself."""
few_rules = rules.flags(asking=8)
many_rules = rules.flags(asking=2)


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


class Echo(Answers):
    """Answers that say what the targeting gave, so that values show and not only variants."""

    def __init__(self) -> None:
        super().__init__(flagd_core.KEY, {"v": 0}, None, {}, None)

    def resolve(self, value: Any) -> Outcome:
        return Outcome(self.key, "TARGETING_MATCH", value=flagd_core.shown(value))

    def failed(self, error: Exception) -> Outcome:
        return Outcome(self.key, "ERROR", error=("GENERAL", repr(error)))


class Aside:
    """Holds the function that a setting made anew."""

    function: Function

    def replace(self, key: str, function: Function) -> None:
        self.function = function

    def failed_in(self, key: str, context: Mapping[str, Any]) -> None:
        """It is the setting's answer that counts here."""


def given_by(setting: Setting, context: dict[str, Any]) -> Iterator[str | None]:
    """What the targeting gives, interpreted and compiled, as text; None where it fails."""
    aside = Aside()
    echo = Setting(Echo(), setting.root, setting._facts, setting._source, ref(aside))
    yield echo.whole(context).value
    yield echo.function()(context).value
    echo._expect_absence()
    yield aside.function(context).value


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
    named = {name: theirs[name] for name in ("reason", "variant", "value", "metadata")}
    return mine == named and type(mine["value"]) is type(theirs["value"])


def check(document: str, contexts: list[Any], oracle: Oracle, bucketing: Bucketing) -> None:
    evaluator = evaluator_of(document, bucketing)
    for context in contexts:
        theirs = oracle({"document": document, "context": context})
        if theirs.get("exception") == UNWRITABLE and '"log"' in document:
            continue
        mine = ours(evaluator, context)
        case = f"{document}\n{context}\nflagd: {theirs}\nholdfast: {mine}"
        assert agree(theirs, mine), case
        told = evaluator.explain(flagd_core.KEY, context)
        assert (told.reason, told.variant, told.error_code) == (
            mine.get("reason", "ERROR"), mine.get("variant"), mine.get("error")
        ), case  # fmt: skip
        assert msgspec.json.encode(told)
        setting = evaluator._settings[flagd_core.KEY]
        if isinstance(setting, Setting):
            for given in given_by(setting, context):
                assert given == theirs.get("given"), f"{case} {given}"


@SHORT
@given(few_rules)
def test_v3_answers_as_flagd_core_2(flagd_v3: Oracle, flag: Any) -> None:
    check(*flag, flagd_v3, "v3")


@SHORT
@given(few_rules)
def test_v2_answers_as_flagd_core_1(flagd_v2: Oracle, flag: Any) -> None:
    check(*flag, flagd_v2, "v2")


@SHORT
@given(rules.documents())
def test_documents_mean_what_they_mean_to_flagd(flagd_v3: Oracle, document: Any) -> None:
    check(*document, flagd_v3, "v3")


@pytest.mark.long
@LONG
@given(many_rules)
def test_v3_answers_as_flagd_core_2_many(flagd_v3: Oracle, flag: Any) -> None:
    check(*flag, flagd_v3, "v3")


@pytest.mark.long
@LONG
@given(many_rules)
def test_v2_answers_as_flagd_core_1_many(flagd_v2: Oracle, flag: Any) -> None:
    check(*flag, flagd_v2, "v2")
