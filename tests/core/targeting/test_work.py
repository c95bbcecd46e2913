"""All evaluations of one request together have one bound; exceeding it is no setting's failure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.core import limits
from holdfast.core.evaluate import Evaluator
from holdfast.core.targeting.work import Metered, TooMuchWork

TAGS = {"tags": [f"t{number}" for number in range(16_000)]}
HAS = {"some": [{"var": "tags"}, {"==": [{"var": ""}, "x"]}]}


def evaluator(settings: int, rule: Any = HAS) -> Evaluator:
    flag = {
        "state": "ENABLED",
        "variants": {"on": 1, "off": 0},
        "defaultVariant": "off",
        "targeting": {"if": [rule, "on", "off"]},
    }
    body = json.dumps(flag).encode()
    made = Evaluator({f"s{number}": body for number in range(settings)}, now_s=lambda: 0.0)
    for key in made.keys():  # noqa: SIM118
        made.function(key)
    return made


def all_of(under_test: Evaluator, context: Any, *, fused: bool) -> list[Any]:
    """Every setting's answer, by one function or one by one, as an edge asks."""
    metered = under_test.metered(context)
    if fused:
        found = under_test.fused(lambda outcome: outcome.value, lambda items: items[0])(metered)
    else:
        found = [under_test.function(key)(metered).value for key in under_test.keys()]  # noqa: SIM118
    under_test.settle(metered)
    return found


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("rule", [HAS, {"!": [{"missing": {"var": "tags"}}]}])
def test_long_lists_times_many_settings_are_too_much(rule: Any, fused: bool) -> None:
    under_test = evaluator(20, rule)
    with pytest.raises(TooMuchWork):
        all_of(under_test, TAGS, fused=fused)
    assert (under_test.exhausted, under_test.failed) == (1, 0)
    assert not under_test.failing
    assert all_of(under_test, {"tags": ["x"] * 50}, fused=fused)


@pytest.mark.parametrize("fused", [False, True])
def test_without_the_bound_each_setting_walks_them_all(
    monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    monkeypatch.setattr(limits, "REQUEST_STEPS_MAX", 10**12)
    assert all_of(evaluator(4), TAGS, fused=fused) == [0] * 4


def test_who_gets_less_than_the_bound_gets_what_each_setting_answers() -> None:
    under_test = evaluator(3)
    context = {"tags": [*TAGS["tags"][:1_000], "x"]}
    assert all_of(under_test, context, fused=True) == [1, 1, 1]
    assert all_of(under_test, context, fused=False) == [1, 1, 1]
    assert under_test.exhausted == 0


def test_a_request_for_several_services_draws_on_one_bound() -> None:
    each = evaluator(2)
    spends = each.metered(TAGS)
    assert each.metered(spends) is spends
    all_of(each, spends, fused=False)
    with pytest.raises(TooMuchWork):
        all_of(evaluator(2), spends, fused=False)


def test_a_single_evaluation_has_the_bound_and_does_not_begin_again() -> None:
    under_test = evaluator(
        1, {"some": [{"var": "tags"}, {"and": [{"==": [{"var": ""}, "x"]}] * 9}]}
    )
    outcome = under_test.bounded("s0")(TAGS)
    assert outcome.error_message == "the targeting does too much work on this context"
    assert (under_test.exhausted, under_test.failed) == (1, 0)
    assert under_test.bounded("s0")({"tags": ["x"]}).value == 1


def test_a_single_evaluation_is_bounded_without_changing_its_answer() -> None:
    under_test = evaluator(1)
    for context in (TAGS, {"tags": ["x"]}, {"tags": 7}, {}):
        assert under_test.bounded("s0")(context) is under_test.evaluate("s0", context)
    assert under_test.exhausted == 0


LONG = {"tags": [1] * 30_000}
READING = [
    {"in": ["x", {"var": "tags"}]},
    {"in": ["x", {"merge": [{"var": "tags"}, "y"]}]},
    {"==": [{"var": "tags"}, "x"]},
    {"!": {"!=": ["x", {"var": "tags.rest"}]}},
    {"===": [{"var": "tags"}, {"var": ["tags", 0]}]},
    {"in": ["x", {"cat": ["a", {"var": "tags"}]}]},
    {"starts_with": [{"substr": [{"var": "tags"}, 0, 3]}, "x"]},
    {"<": [{"min": [{"var": "tags"}, 1]}, 0]},
    {"==": [{"if": [{"var": "b"}, "y", {"or": [{"var": "c"}, {"var": "tags"}]}]}, "x"]},
    {"==": [{"filter": [{"var": "tags"}, True]}, "x"]},
    {"var": {"var": "tags"}},
    {"==": [{"var": ["d", {"var": "tags"}]}, "x"]},
]


@pytest.mark.parametrize("rule", READING)
def test_reading_one_long_list_in_many_settings_is_too_much(rule: Any) -> None:
    under_test = evaluator(200, rule)
    with pytest.raises(TooMuchWork):
        under_test.metered(LONG)  # before anything is evaluated
    assert (under_test.exhausted, under_test.failed) == (1, 0)
    assert under_test.metered({"other": LONG["tags"]}).keys() == {"other"}
    assert under_test.metered({"tags": ["a", "b"]}) == {"tags": ["a", "b"]}


@pytest.mark.parametrize("rule", READING[:3])
def test_few_settings_read_it_and_answer(rule: Any) -> None:
    assert all_of(evaluator(3, rule), LONG, fused=True) == [0] * 3


def test_a_setting_is_charged_for_once_even_if_it_was_forgotten() -> None:
    under_test = evaluator(70, READING[0])
    for _ in range(3):
        assert all_of(under_test, LONG, fused=False) == [0] * 70
        for key in under_test.keys():  # noqa: SIM118
            under_test.forget(key)


def test_without_the_bound_each_setting_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_STEPS_MAX", 10**12)
    assert all_of(evaluator(200, READING[0]), LONG, fused=True) == [0] * 200


def test_long_texts_are_charged_for_by_their_length() -> None:
    under_test = evaluator(1_000, {"<": [{"var": "age"}, 18]})
    with pytest.raises(TooMuchWork):
        under_test.metered({"age": "x" * 60_000})
    assert all_of(under_test, {"age": "x" * 600}, fused=False) == [0] * 1_000


@pytest.mark.parametrize(
    "rule",
    [
        {"in": [{"var": "tags"}, ["a", "b"]]},
        {"===": [{"var": "tags"}, "a"]},
        {"==": [{"var": "tags"}, None]},
        {"!": {"var": "tags"}},
        {"==": [{"var": "$flagd.flagKey"}, "a"]},
        {"==": [{"if": [{"var": "tags"}, "a", "b"]}, "c"]},
    ],
)
def test_what_does_not_look_into_a_list_is_free(rule: Any) -> None:
    under_test = evaluator(1_000, rule)
    assert under_test.metered(LONG) is LONG


def test_several_services_that_read_one_list_draw_on_one_bound() -> None:
    under_test = evaluator(60, READING[0])
    spends = Metered(LONG, limits.REQUEST_STEPS_MAX)
    assert under_test.metered(spends) is spends
    with pytest.raises(TooMuchWork):
        under_test.metered(spends)


def test_one_setting_that_reads_a_list_a_thousand_times_is_too_much() -> None:
    under_test = evaluator(1, {"or": [READING[0]] * 1_000})
    outcome = under_test.bounded("s0")(LONG)
    assert outcome.error_message == "the targeting does too much work on this context"
    assert (under_test.exhausted, under_test.failed) == (1, 0)
    short = {"tags": ["x"]}
    assert under_test.bounded("s0")(short) is under_test.evaluate("s0", short)


def test_who_walks_nothing_pays_nothing() -> None:
    under_test = evaluator(2, {"in": [{"var": "tenant"}, ["a", "b"]]})
    assert under_test.bounded("s0") is under_test.function("s0")
    assert under_test.metered(TAGS) is TAGS
    assert type(evaluator(1).metered(TAGS)) is Metered
