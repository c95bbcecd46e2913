"""One schema within another: what is known, and that a yes is never contradicted."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import subset as subset_module
from holdfast.core.counter_example import counter_example
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

NAMES = ("a", "b", "c")
KINDS = ("null", "boolean", "integer", "number", "string", "array", "object")
OF_KIND = {
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "object": (
        "properties", "required", "additionalProperties", "patternProperties", "propertyNames",
        "minProperties", "maxProperties", "dependentRequired", "dependentSchemas",
    ),
}  # fmt: skip
ANYWHERE = ("enum", "const", "allOf", "anyOf", "oneOf", "not", "if", "unevaluatedProperties")


class Maker:
    """Schemas, their near relatives, and values, by chance."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def schema(self, depth: int = 2) -> Any:
        if depth < 0 or self.chance.random() < 0.08:
            return self.chance.choice([True, True, False, {"type": self.chance.choice(KINDS)}])
        kind = self.chance.choice(KINDS)
        made: dict[str, Any] = {"type": kind} if self.chance.random() < 0.85 else {}
        for keyword in OF_KIND.get(kind, ()):
            if self.chance.random() < 0.35:
                made |= self.keyword(keyword, depth)
        if self.chance.random() < 0.3:
            made |= self.keyword(self.chance.choice(ANYWHERE), depth)
        return made

    def keyword(self, keyword: str, depth: int) -> dict[str, Any]:
        chance = self.chance
        one = lambda: self.schema(depth - 1)  # noqa: E731
        some = lambda: [one() for _ in range(chance.randint(1, 2))]  # noqa: E731
        named = lambda: {name: one() for name in chance.sample(NAMES, chance.randint(1, 2))}  # noqa: E731
        names = lambda: chance.sample(NAMES, chance.randint(0, 2))  # noqa: E731
        count = lambda: chance.randint(0, 3)  # noqa: E731
        made: dict[str, Callable[[], Any]] = {
            "enum": lambda: [self.value() for _ in range(chance.randint(1, 3))],
            "const": self.value, "multipleOf": lambda: chance.choice([1, 2, 3, 4, 6, 0.5]),
            "pattern": lambda: chance.choice(["^a", "b$"]),
            "items": one, "prefixItems": some, "contains": one, "additionalProperties": one,
            "uniqueItems": lambda: chance.random() < 0.7, "propertyNames": lambda: chance.choice(
                [{"maxLength": 1}, {"pattern": "^a"}, {"enum": ["a", "b"]}, False]),
            "properties": named, "dependentSchemas": named, "required": names,
            "patternProperties": lambda: {chance.choice(["^a", "b"]): one()},
            "dependentRequired": lambda: {chance.choice(NAMES): names()},
            "allOf": some, "anyOf": some, "oneOf": some, "not": one, "if": one,
            "unevaluatedProperties": lambda: False,
        }  # fmt: skip
        if keyword.startswith(("min", "max")) and keyword not in ("minimum", "maximum"):
            return {keyword: count()}
        if keyword not in made:
            return {keyword: chance.choice([-1, 0, 1, 1.5, 2, 3])}
        found = {keyword: made[keyword]()}
        if keyword == "if":
            found |= {name: one() for name in chance.sample(["then", "else"], chance.randint(1, 2))}
        if keyword == "contains" and chance.random() < 0.5:
            found[chance.choice(["minContains", "maxContains"])] = count()
        return found

    def relative(self, schema: Any, depth: int = 2) -> Any:
        """A schema that differs in a few places."""
        chance = self.chance
        if not isinstance(schema, dict) or chance.random() < 0.05:
            return chance.choice([schema, self.schema(depth)])
        made = {}
        for keyword, value in schema.items():
            luck = chance.random()
            if luck < 0.15:
                continue
            made[keyword] = self.moved(value, depth) if luck < 0.6 else value
        if chance.random() < 0.3:
            keywords = (*OF_KIND.get(schema.get("type", ""), ()), *ANYWHERE)
            made |= self.keyword(chance.choice(keywords), depth - 1)
        wrap = chance.choice(["", "", "", "", "allOf", "anyOf", "oneOf"])
        return {wrap: chance.sample([made, self.schema(0)], 2)} if wrap else made

    def moved(self, value: Any, depth: int) -> Any:  # noqa: PLR0911  # one for each kind of value
        chance = self.chance
        if isinstance(value, bool) or value is None:
            return chance.choice([True, value])
        if isinstance(value, int | float):
            return max(value + chance.choice([-1, 1, 0.5]), 0.5) if value > 0 else value
        if isinstance(value, str):
            return chance.choice([value, *KINDS]) if value in KINDS else value
        if isinstance(value, list):
            if all(isinstance(one, dict) for one in value):
                return [self.relative(one, depth - 1) for one in value]
            return chance.sample(value, max(1, len(value) - 1)) if value else value
        if value.keys() <= {*NAMES, "^a", "b"}:
            return {
                name: one if isinstance(one, list) else self.relative(one, depth - 1)
                for name, one in value.items()
            }
        return self.relative(value, depth - 1)

    def value(self, depth: int = 2) -> Any:
        chance = self.chance
        kind = chance.choice(KINDS if depth > 0 else KINDS[:5])
        if kind == "array":
            return [self.value(depth - 1) for _ in range(chance.randint(0, 3))]
        if kind == "object":
            return {
                name: self.value(depth - 1) for name in chance.sample(NAMES, chance.randint(0, 3))
            }
        scalars: dict[str, list[Any]] = {
            "null": [None], "boolean": [True, False], "integer": [-2, -1, 0, 1, 2, 3, 4, 6, 12],
            "number": [0.5, 1.5, 2.5, -0.5], "string": ["", "a", "ab", "abc", "b", "ba"],
        }  # fmt: skip
        return chance.choice(scalars[kind])


def is_schema(schema: Any) -> bool:
    return jsonschema_rs.meta.is_valid(schema)


def pair_of(chance: Random) -> tuple[Any, Any]:
    """Two schemas that have much in common, in either order."""
    while True:
        maker = Maker(chance)
        one = maker.schema()
        pair = (one, maker.relative(one))
        if all(is_schema(schema) for schema in pair) and pair[0] != pair[1]:
            return pair if chance.random() < 0.5 else pair[::-1]


def never_contradicted(seed: int, count: int) -> int:
    """Look at `count` pairs; how many were known to be subsets, and not by a trifle."""
    chance, known = Random(seed), 0
    for _ in range(count):
        narrow, wide = pair_of(chance)
        if not subset(narrow, wide).known:
            continue
        known += wide not in (True, {}) and narrow is not False
        tried = [Maker(chance).value() for _ in range(30)]
        assert counter_example(narrow, wide, known=tried) is None, (narrow, wide)
    return known


@pytest.mark.parametrize("seed", range(2))
def test_a_yes_is_never_contradicted(seed: int) -> None:
    assert never_contradicted(seed, 60) > 5


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=100, deadline=None)
@given(st.integers(4, 2**32))
def test_a_yes_is_never_contradicted_at_length(seed: int) -> None:
    never_contradicted(seed, 250)


def test_the_search_for_contradictions_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that always says yes is found out."""
    rules = {**subset_module._RULES, "type": lambda *_: True}
    monkeypatch.setattr(subset_module, "_RULES", rules)
    with pytest.raises(AssertionError):
        never_contradicted(1, 1_000)
