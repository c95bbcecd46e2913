"""What is proven of conditions is true of every context, by the evaluator itself."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.cel import Scope, lower
from holdfast.core.implication import (
    FALSE,
    TRUE,
    any_of,
    formula,
    implies,
    is_contradiction,
)
from holdfast.core.model import Audience
from holdfast.core.targeting.interpret import Run
from holdfast.core.targeting.prepare import Rules

SCOPE = Scope({"tenant": "string", "ring": "string", "age": "integer", "beta": "boolean"}, {})


def of(text: str) -> Any:
    return formula(lower(text, SCOPE).logic)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('tenant == "a"', 'tenant in ["a", "b"]'),
        ('tenant == "a" && ring == "x"', 'ring == "x"'),
        ('tenant == "a"', 'tenant != "b"'),
        ("age > 5", "age >= 5"),
        ("age == 7", "age > 3 && age < 9"),
        ('tenant == "a" || tenant == "b"', 'tenant in ["a", "b", "c"]'),
        (
            'tenant == "a" && (ring == "x" || ring == "y")',
            '(tenant == "a" && ring == "x") || (tenant == "a" && ring == "y")',
        ),
        ('semver(ring) > semver("1.0.0") && beta', 'semver(ring) > semver("1.0.0")'),
    ],
)
def test_it_proves(one: str, other: str) -> None:
    assert implies(of(one), of(other))


@pytest.mark.parametrize(
    "text",
    [
        'tenant == "a" && tenant == "b"',
        "age > 5 && age < 3",
        "age > 5 && age <= 5",
        "age == 3 && age > 5",
        "beta && !beta",
        'tenant in ["a"] && !(tenant in ["a", "b"])',
        '(tenant == "a" || tenant == "b") && tenant == "c"',
        "2 < 1",
    ],
)
def test_it_finds_what_cannot_hold(text: str) -> None:
    assert is_contradiction(of(text))


@pytest.mark.parametrize("text", ["age >= 5 && age <= 5", 'tenant != "a"', "age > 5 && age < 7"])
def test_it_does_not_find_more(text: str) -> None:
    assert not is_contradiction(of(text))


def test_constants_are_evaluated() -> None:
    assert formula(True) == TRUE
    assert formula({"==": [1, 1.0]}) == TRUE
    assert formula({"in": ["x", []]}) == FALSE
    assert formula({"and": [{"===": [{"var": "a"}, 1]}, False]}) == FALSE


def test_segments_are_looked_into() -> None:
    people = Audience(by="tenant", members=("a", "b"))
    found = formula({"$ref": "pilot"}, lambda _: people)
    assert implies(of('tenant == "a"'), found)
    assert not implies(found, of('tenant == "a"'))
    unknown = formula({"$ref": "pilot"})
    assert implies(unknown, unknown)
    assert not implies(unknown, found)


# Whatever it says is so: by brute force over all contexts of a small world.

NAMES = ("p", "q")
VALUES = (None, "a", "b", "c", 1, 5, True, False, "1", ["a"])
WORLD = tuple(
    {name: value for name, value in zip(NAMES, values, strict=True) if value is not None}
    for values in itertools.product(VALUES, repeat=2)
)
_constants = st.sampled_from(["a", "b", "c", 1, 5, True, False, None])
_var = st.sampled_from(NAMES).map(lambda name: {"var": name})
_atoms = st.one_of(
    st.booleans(),
    _var,
    st.builds(lambda op, a, b: {op: [a, b]}, st.sampled_from(["===", "!=="]), _var, _constants),
    st.builds(
        lambda op, a, b: {op: [a, b]},
        st.sampled_from(["==", "!="]),
        _var,
        st.sampled_from(["a", "b", "1", "c"]),
    ),
    st.builds(
        lambda op, a, b: {op: [a, b]},
        st.sampled_from([">", ">=", "<", "<="]),
        _var,
        st.integers(-1, 6),
    ),
    st.builds(
        lambda op, a, b: {op: [b, a]},
        st.sampled_from([">", ">=", "<", "<="]),
        _var,
        st.integers(-1, 6),
    ),
    st.builds(lambda a, b: {"in": [a, b]}, _var, st.lists(_constants, max_size=3)),
    st.builds(lambda a: {"in": ["a", a]}, _var),
    st.builds(lambda a: {"starts_with": [a, "a"]}, _var),
)
CONDITIONS = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"!": [part]}, inner),
        st.builds(lambda part: {"!!": [part]}, inner),
    ),
    max_leaves=6,
)


def where(logic: Any) -> set[int]:
    """The contexts of the world, by number, in which the condition holds."""
    node = Rules({}, lambda _: None).prepare({"!!": [logic]})
    assert node is not None
    return {number for number, context in enumerate(WORLD) if Run("v3", {}).apply(node, context)}


def check_soundness(one: Any, other: Any, third: Any) -> None:
    first, second = formula(one), any_of((formula(other), formula(third)))
    if implies(first, second):
        assert where(one) <= where(other) | where(third)
    if is_contradiction(first):
        assert not where(one)
    if first == TRUE:
        assert len(where(one)) == len(WORLD)


@settings(max_examples=40, deadline=None)
@given(CONDITIONS, CONDITIONS, CONDITIONS)
def test_what_is_proven_is_so(one: Any, other: Any, third: Any) -> None:
    check_soundness(one, other, third)


@pytest.mark.long
@settings(max_examples=1_500, deadline=None)
@given(CONDITIONS, CONDITIONS, CONDITIONS)
def test_what_is_proven_is_so_in_many_worlds(one: Any, other: Any, third: Any) -> None:
    check_soundness(one, other, third)
