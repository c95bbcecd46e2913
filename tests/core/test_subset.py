"""One schema within another: what is known, and that a yes is never contradicted."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from holdfast.core.subset import subset

ITEM = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ({"type": "integer"}, {"type": "number"}),
        ({"type": "integer"}, {"type": ["number", "string"]}),
        ({"type": "integer", "minimum": 1}, {"exclusiveMinimum": 0}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"minimum": 1}),
        ({"minimum": 1, "maximum": 49}, {"minimum": 0, "maximum": 50}),
        ({"type": "integer", "minimum": 1, "maximum": 3}, {"enum": [1, 2, 3, 4]}),
        ({"enum": [1, "a"]}, {"type": ["integer", "string"]}),
        ({"const": "vp9"}, {"enum": ["h264", "vp9"]}),
        ({"type": "boolean"}, {"enum": [False, True]}),
        ({"type": "integer", "multipleOf": 6}, {"multipleOf": 3}),
        ({"minLength": 2, "maxLength": 4}, {"minLength": 1}),
        ({"pattern": "^a", "maxLength": 3}, {"pattern": "^a"}),
        ({"items": {"type": "integer"}}, {"items": {"type": "number"}}),
        ({"items": ITEM, "minItems": 2}, {"items": ITEM, "minItems": 1}),
        ({"maxItems": 1}, {"uniqueItems": True}),
        ({"minItems": 1, "items": {"minimum": 3}}, {"contains": {"minimum": 2}}),
        (ITEM, {"properties": {"a": {"type": "number"}}}),
        ({**ITEM, "additionalProperties": False}, ITEM),
        ({**ITEM, "additionalProperties": False}, {"maxProperties": 1, "minProperties": 1}),
        ({**ITEM, "additionalProperties": False}, {"propertyNames": {"maxLength": 1}}),
        ({"required": ["a", "b"]}, {"required": ["a"], "dependentRequired": {"a": ["b"]}}),
        (
            {"patternProperties": {"^x": {"minimum": 2}}},
            {"patternProperties": {"^x": {"minimum": 1}}},
        ),
        ({"anyOf": [{"const": 1}, {"const": 2}]}, {"enum": [1, 2, 3]}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"type": ["string", "number"]}),
        ({"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"type": "string"}, {"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"type": "integer", "maximum": 5}, {"not": {"type": "string"}}),
        ({"type": "integer", "maximum": 5}, {"not": {"minimum": 6}}),
        ({"allOf": [{"minimum": 1}, {"maximum": 4}]}, {"minimum": 0, "maximum": 4}),
        ({"minimum": 2}, {"allOf": [{"minimum": 1}, {"minimum": 2}]}),
        ({"$ref": "#/$defs/p", "$defs": {"p": {"minimum": 2}}}, {"minimum": 1}),
        ({"minimum": 2}, {"$ref": "#/$defs/p", "$defs": {"p": {"minimum": 1}}}),
        ({"minimum": 2, "title": "a"}, {"minimum": 2, "title": "b", "x-note": 1, "default": 3}),
        (
            {"if": {"minimum": 2}, "then": {"maximum": 5}, "minimum": 1},
            {"if": {"minimum": 2}, "then": {"maximum": 5}},
        ),
        (False, {"type": "string"}),
        ({"type": "string", "minimum": 3}, True),
        ({"type": "string", "enum": [1]}, {"type": "object"}),
        (
            {"oneOf": [
                {"properties": {"kind": {"const": "a"}}, "required": ["kind"], "type": "object"},
                {"properties": {"kind": {"const": "b"}}, "required": ["kind"], "type": "object"},
            ]},
            {"properties": {"kind": {"enum": ["a", "b", "c"]}}, "required": ["kind"]},
        ),
    ],
)  # fmt: skip
def test_known_subsets(narrow: Any, wide: Any) -> None:
    assert subset(narrow, wide).known


@pytest.mark.parametrize(
    ("narrow", "wide", "at"),
    [
        ({"maximum": 50}, {"maximum": 49}, "/maximum"),
        ({"type": "number", "minimum": 1}, {"exclusiveMinimum": 1}, "/exclusiveMinimum"),
        ({"type": "number"}, {"type": "integer"}, "/type"),
        ({"enum": [1, 2]}, {"enum": [1]}, "/"),
        ({}, {"required": ["a"]}, "/required"),
        (
            {"properties": {"a": {"maximum": 2}}},
            {"properties": {"a": {"maximum": 1}}},
            "/properties/a/maximum",
        ),
        ({"properties": {"a": {}}}, {"properties": {"a": {}}, "additionalProperties": False}, None),
        ({"pattern": "^a"}, {"pattern": "^(a|b)"}, "/pattern"),
        ({"format": "ipv4"}, {"format": "ipv6"}, "/format"),
        ({}, {"unknown-keyword": 1}, "/unknown-keyword"),
        (
            {"unevaluatedProperties": False, "allOf": [{"properties": {"a": {}}}]},
            {"unevaluatedProperties": False},
            None,
        ),
        ({"$dynamicRef": "#x"}, {"type": "string"}, ""),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 2}, {"minimum": 1}, ""),
        ({"properties": {"a": {"$ref": "#"}}, "type": "object"}, {"type": "object"}, ""),
        ({"$ref": "#/nowhere"}, {"type": "object"}, ""),
        ({"type": "integer", "minimum": 1}, {"oneOf": [{"minimum": 0}, {"minimum": 1}]}, None),
    ],
)  # fmt: skip
def test_what_is_not_known_to_be_one(narrow: Any, wide: Any, at: str | None) -> None:
    verdict = subset(narrow, wide)
    assert not verdict.known
    assert at is None or verdict.at == at


def test_the_same_schema_is_within_itself_whatever_it_uses() -> None:
    odd = {"$dynamicRef": "#x", "unevaluatedItems": False, "pattern": "^(a|b)+$"}
    assert subset(odd, dict(reversed(odd.items()))).known


def test_a_proof_ends() -> None:
    deep: Any = {"type": "integer"}
    for _ in range(20):
        deep = {"anyOf": [deep, {"properties": {"a": deep}}]}
    assert not subset({"anyOf": [deep, True]}, deep).known


# Whatever it says yes to, no value contradicts ---------------------------------------------------

numbers = st.integers(-3, 6) | st.sampled_from([0.5, 2.5])
counts = st.integers(0, 3)
names = st.sampled_from(["a", "b", "c"])
scalars = st.none() | st.booleans() | numbers | st.sampled_from(["", "a", "ab", "abc", "b"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
types = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    schemas = st.lists(inner, min_size=1, max_size=2)
    maps = st.dictionaries(names, inner, max_size=2)
    one = {
        "type": types | st.lists(types, min_size=1, max_size=2, unique=True),
        "enum": st.lists(values, min_size=1, max_size=3, unique_by=repr),
        "const": values,
        "minimum": numbers, "maximum": numbers,
        "exclusiveMinimum": numbers, "exclusiveMaximum": numbers,
        "multipleOf": st.integers(1, 4) | st.just(0.5),
        "minLength": counts, "maxLength": counts, "pattern": st.sampled_from(["^a", "b$"]),
        "minItems": counts, "maxItems": counts, "uniqueItems": st.booleans(),
        "items": inner, "prefixItems": schemas, "contains": inner,
        "minContains": counts, "maxContains": counts,
        "properties": maps, "additionalProperties": inner, "propertyNames": inner,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=2),
        "required": st.lists(names, max_size=2, unique=True),
        "minProperties": counts, "maxProperties": counts,
        "dependentRequired": st.dictionaries(names, st.lists(names, max_size=1), max_size=1),
        "dependentSchemas": st.dictionaries(names, inner, max_size=1),
        "allOf": schemas, "anyOf": schemas, "oneOf": schemas, "not": inner,
        "if": inner, "then": inner, "else": inner,
        "unevaluatedProperties": st.booleans(), "unevaluatedItems": st.booleans(),
        "title": st.just("t"),
    }  # fmt: skip
    return st.lists(st.sampled_from(sorted(one)), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({keyword: one[keyword] for keyword in chosen})
    )


leaf = st.booleans() | keywords(st.booleans())
schemas = st.recursive(leaf, keywords, max_leaves=6)


def relatives(schema: Any) -> st.SearchStrategy[Any]:
    """Schemas that have much in common with one: some of its keywords, and some others."""
    if not isinstance(schema, dict):
        return schemas

    def part(chosen: list[str], more: Any) -> Any:
        mixed = {keyword: schema[keyword] for keyword in chosen}
        return {**mixed, **more} if isinstance(more, dict) else mixed

    return st.builds(
        part,
        st.lists(st.sampled_from(sorted(schema)), unique=True) if schema else st.just([]),
        st.just({}) | schemas,
    )


pairs = schemas.flatmap(lambda one: st.tuples(st.just(one), relatives(one) | schemas)).flatmap(
    lambda pair: st.sampled_from([pair, pair[::-1]])
)


def never_contradicted(pair: tuple[Any, Any], tried: list[Any]) -> None:
    narrow, wide = pair
    assume(subset(narrow, wide).known)
    accepted, wider = jsonschema_rs.validator_for(narrow), jsonschema_rs.validator_for(wide)
    for value in tried:
        assert not accepted.is_valid(value) or wider.is_valid(value), value


@settings(
    max_examples=300, deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)  # fmt: skip
@given(pairs, st.lists(values, min_size=10, max_size=20))
def test_a_yes_is_never_contradicted(pair: tuple[Any, Any], tried: list[Any]) -> None:
    never_contradicted(pair, tried)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(
    max_examples=3_000, deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)  # fmt: skip
@given(pairs, st.lists(values, min_size=20, max_size=40))
def test_a_yes_is_never_contradicted_at_length(pair: tuple[Any, Any], tried: list[Any]) -> None:
    never_contradicted(pair, tried)
