"""The contexts that an edge keeps as they came: few, small, an even choice of what was asked."""

from __future__ import annotations

import random
from collections import Counter

import msgspec

from holdfast.apps.edge.witnesses import WitnessedSampler
from holdfast.core.model import Subject
from holdfast.core.reports import CONTEXTS_MAX
from holdfast.core.sampling import CONTEXT_BYTES_MAX

SHOP = Subject("production", "shop")


def sampler(seed: int = 1) -> WitnessedSampler:
    return WitnessedSampler(SHOP, random.Random(seed).random)


def test_they_are_kept_as_they_came_whatever_may_be_told() -> None:
    made = sampler()
    made.allow(["tenant"])
    context = {"targetingKey": "ann", "tenant": "contoso", "deep": [{"n": 1.5}, None]}
    made.offer(context)
    assert made.witnesses() == [context]
    assert made.take()[0].context["targetingKey"] != "ann"


def test_those_of_the_last_report_stay_until_more_come() -> None:
    made = sampler()
    made.offer({"n": 1})
    made.take()
    made.take()
    assert made.witnesses() == [{"n": 1}]
    made.offer({"n": 2})
    assert made.witnesses() == [{"n": 1}, {"n": 2}]
    made.take()
    assert made.witnesses() == [{"n": 2}]


def test_a_generation_that_declares_other_attributes_forgets_none() -> None:
    made = sampler()
    made.offer({"n": 1})
    made.allow(["n"])
    assert made.witnesses() == [{"n": 1}]


def test_they_are_few_and_small() -> None:
    made = sampler()
    for number in range(10_000):
        made.offer({"n": number})
    assert len(made.witnesses()) == CONTEXTS_MAX
    large = sampler()
    large.offer({"text": "x" * CONTEXT_BYTES_MAX})
    assert large.witnesses() == []


def test_what_is_no_json_is_passed_over() -> None:
    made = sampler()
    for odd in ({"it": object()}, {"n": 2**70}, {1: msgspec}):
        made.offer(odd)
    made.offer({"n": 1})
    assert {"n": 1} in made.witnesses()


def test_the_choice_is_even() -> None:
    """A tenth of all requests is a tenth of the witnesses, whenever it comes."""
    found: Counter[int] = Counter()
    for seed in range(200):
        made = sampler(seed)
        for number in range(1_000):
            made.offer({"tenth": number // 100})
        found.update(each["tenth"] for each in made.witnesses())
    share = 200 * CONTEXTS_MAX / 10
    assert all(0.8 * share < found[tenth] < 1.2 * share for tenth in range(10))
