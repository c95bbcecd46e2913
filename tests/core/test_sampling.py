"""What is told of contexts: little, bounded, keys hashed, and an even choice of all."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.model import Subject
from holdfast.core.reports import CONTEXTS_MAX, Sample
from holdfast.core.sampling import (
    CONTEXT_BYTES_MAX,
    HASH_CHARS,
    TEXT_CHARS_MAX,
    Sampler,
    filtered,
    hashed,
    told,
)

CALLING = Subject("production", "calling")


def sampler(*allowed: str, seed: int = 1, **bounds: Any) -> Sampler:
    made = Sampler(CALLING, random.Random(seed).random, **bounds)
    made.allow(allowed)
    return made


def test_only_what_is_declared_is_told() -> None:
    context = {"tenant": "contoso", "email": "ann@contoso.example", "targetingKey": "ann"}
    assert told(context, {"tenant"}, "calling") == {
        "tenant": "contoso",
        "targetingKey": hashed("calling", "ann"),
    }
    assert told({"email": "ann"}, {"tenant"}, "calling") == {}


def test_keys_are_the_same_in_one_service_and_others_in_another() -> None:
    assert hashed("calling", "ann") == hashed("calling", "ann") != hashed("chat", "ann")
    assert "ann" not in hashed("calling", "ann")
    assert len(hashed("calling", "ann")) == HASH_CHARS + 1
    assert hashed("calling", hashed("calling", "ann")) == hashed("calling", "ann")
    assert hashed("calling", "\ud800")
    for plain in ("~ann.of.contoso.x", "~ABCDEF0123456789", "~0123456789abcdef\n"):
        assert plain not in hashed("calling", plain)


def test_values_are_bounded() -> None:
    allowed = {"a", "b", "c", "d"}
    assert told({"a": "x" * 1_000}, allowed, "s") == {"a": "x" * TEXT_CHARS_MAX}
    assert len(told({"a": list(range(1_000))}, allowed, "s")["a"]) == 32
    assert told({"a": {"b": {"c": {}}}}, allowed, "s") == {"a": {"b": {}}}
    assert told({"a": float("nan"), "b": object(), "c": None}, allowed, "s") == {}
    huge = {name: [f"{number}" * 60 for number in range(32)] for name in "abcd"}
    assert told(huge, allowed, "s") == {}
    assert told({1: 2}, allowed, "s") == {}  # type: ignore[dict-item]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["a", "b", "targetingKey", "x"]), JSON))
def test_whatever_comes_is_bounded_json(context: dict[str, Any]) -> None:
    found = told(context, {"a", "b"}, "s")
    assert len(msgspec.json.encode(found)) <= CONTEXT_BYTES_MAX
    assert found.keys() <= {"a", "b", "targetingKey"}
    assert told(found, {"a", "b"}, "s") == found


def test_the_control_plane_filters_again() -> None:
    came = [Sample({"tenant": "t", "secret": "x", "targetingKey": "plain"}, 3), Sample({"x": 1})]
    assert filtered(came, {"tenant"}, "calling") == [
        Sample({"tenant": "t", "targetingKey": hashed("calling", "plain")}, 3)
    ]


def test_counts_sum_to_all_that_were_offered() -> None:
    made = sampler("tenant")
    for number in range(50_000):
        made.offer({"tenant": f"t{number % 4}"})
    samples = made.take()
    assert len(samples) == 4
    assert sum(each.count for each in samples) == pytest.approx(50_000, rel=0.01)
    assert made.take() == ()


def test_the_choice_is_even() -> None:
    """Each quarter of the offers gets a quarter of the places; 200 rounds of 32 places."""
    quarters = [0, 0, 0, 0]
    made = sampler("n", seed=7)
    for _ in range(200):
        for number in range(4_000):
            made.offer({"n": number})
        for each in made.take():
            quarters[each.context["n"] // 1_000] += 1
    assert sum(quarters) == pytest.approx(200 * CONTEXTS_MAX, rel=0.01)
    for each in quarters:
        assert each == pytest.approx(50 * CONTEXTS_MAX, rel=0.15)


def test_few_come_whole() -> None:
    made = sampler("tenant")
    for tenant in ("a", "b", "a"):
        made.offer({"tenant": tenant})
    assert set(map(str, made.take())) == set(
        map(str, (Sample({"tenant": "a"}, 2), Sample({"tenant": "b"}, 1)))
    )


def test_nothing_that_is_offered_raises() -> None:
    class Bad(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            raise RuntimeError("no")

    made = sampler("tenant")
    made.offer(Bad(tenant="x"))
    assert made.failed == 1
    assert made.take() == ()


def test_a_report_taken_in_the_middle_of_an_offer_fails_nobody() -> None:
    def draw() -> float:
        if len(drawn) % 3 == 2:
            sampler.take()
        drawn.append(chance.random())
        return drawn[-1]

    chance, drawn = random.Random(1), list[float]()
    sampler = Sampler(CALLING, draw, size=4)
    sampler.allow(["tenant"])
    for _ in range(2_000):
        sampler.offer({"tenant": "contoso"})
    assert len(drawn) > 100
    assert sampler.failed == 0


def test_another_allow_list_forgets() -> None:
    made = sampler("tenant")
    made.offer({"tenant": "a", "ring": "b"})
    made.allow({"ring"})
    assert made.take() == ()
    made.offer({"tenant": "a", "ring": "b"})
    assert made.take() == (Sample({"ring": "b"}, 1),)
