"""JSON Schemas taken apart: references resolved, conjunctions flattened, alternatives split.

Below, a schema is one of 2020-12 without references; a conjunction is a tuple of schemas that all
hold, its leaves free of `allOf`. What a leaf leaves out only makes it accept more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, TypeAlias

from holdfast.core.content import validator_of
from holdfast.core.model import JSON
from holdfast.core.state import same

Leaf: TypeAlias = dict[str, JSON]
Conjunction: TypeAlias = tuple[Leaf, ...]

NODES_MAX: Final = 20_000
"""Of one schema with its references written out."""
DEPTH_MAX: Final = 32
FINITE_MAX: Final = 256
"""Values that are tried one by one."""
TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
_SINGLE: Final = frozenset(
    {
        "items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else",
        "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
_CARRIERS: Final = frozenset({"$defs", "definitions", "$schema", "$comment"})
_DYNAMIC: Final = frozenset(
    {"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"}
)
_FROM_OUTSIDE: Final = frozenset({"unevaluatedItems", "unevaluatedProperties", "allOf"})
"""What means something only beside all of its schema's other keywords."""


class Unclear(Exception):
    """No error, an answer: another draft, recursion, dynamic references are not looked into."""


def accepts(schema: JSON, value: JSON) -> bool:
    """Whether the schema lets the value through, by the validator that checks variants too."""
    if isinstance(schema, bool):
        return schema
    validator = validator_of(schema)
    return not isinstance(validator, str) and validator.is_valid(value)


def accepted_by_all(conjunction: Conjunction, value: JSON) -> bool:
    return all(accepts(leaf, value) for leaf in conjunction)


# References ---------------------------------------------------------------------------------------


def written_out(schema: JSON) -> JSON:
    """The schema with every reference replaced by what it stands for. Raises `Unclear`."""
    if isinstance(schema, dict) and schema.get("$schema", DRAFT) not in (DRAFT, f"{DRAFT}#"):
        raise Unclear
    return _Writer(schema).write(schema, 0)


class _Writer:
    def __init__(self, root: JSON) -> None:
        self._root = root
        self._left = NODES_MAX

    def write(self, schema: JSON, depth: int) -> JSON:
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            raise Unclear
        if not isinstance(schema, dict):
            return schema
        if not _DYNAMIC.isdisjoint(schema):
            raise Unclear
        made = {
            keyword: self._keyword(keyword, value, depth + 1)
            for keyword, value in schema.items()
            if keyword not in _CARRIERS and keyword != "$ref"
        }
        if "$ref" in schema:
            target = self.write(self._target(schema["$ref"]), depth + 1)
            made["allOf"] = [*made.get("allOf", ()), target]
        return made

    def _keyword(self, keyword: str, value: JSON, depth: int) -> JSON:
        if keyword in _LISTS and isinstance(value, list):
            return [self.write(one, depth) for one in value]
        if keyword in _MAPS and isinstance(value, dict):
            return {name: self.write(one, depth) for name, one in value.items()}
        return self.write(value, depth) if keyword in _SINGLE else value

    def _target(self, reference: str) -> JSON:
        if not reference.startswith("#"):
            raise Unclear
        found = self._root
        for raw in reference.split("/")[1:]:
            step = raw.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and step in found and "%" not in step:
                found = found[step]
            elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            else:
                raise Unclear
        if reference != "#" and not reference.startswith("#/"):
            raise Unclear
        return found


# Conjunctions -------------------------------------------------------------------------------------


def flat(schemas: tuple[JSON, ...]) -> Conjunction | None:
    """The leaves of all that must hold; none when nothing can."""
    leaves: list[Leaf] = []
    waiting = list(reversed(schemas))
    while waiting:
        schema = waiting.pop()
        if schema is False:
            return None
        if isinstance(schema, dict):
            waiting += reversed(schema.get("allOf", ()))
            leaf = {name: part for name, part in schema.items() if name not in _FROM_OUTSIDE}
            if leaf:
                leaves.append(leaf)
    return tuple(leaves)


def alternatives(conjunction: Conjunction) -> tuple[Conjunction, list[JSON]] | None:
    """The rest, and the schemas of which at least one holds; none when there is no choice."""
    for number, leaf in enumerate(conjunction):
        for keyword in ("anyOf", "oneOf"):
            if keyword in leaf:
                rest = {name: part for name, part in leaf.items() if name != keyword}
                others = conjunction[:number] + conjunction[number + 1 :]
                return ((rest, *others) if rest else others), leaf[keyword]
    return None


def parts(conjunction: Conjunction, keyword: str) -> Iterator[JSON]:
    """What the leaves say under a keyword."""
    for leaf in conjunction:
        if keyword in leaf:
            yield leaf[keyword]


def types_of(conjunction: Conjunction) -> list[str]:
    """Types that may come: `number` stands for all numbers, `integer` when only those may."""
    left = set(TYPES) - {"integer"}
    for named in parts(conjunction, "type"):
        names = {named} if isinstance(named, str) else set(named)
        narrowed = "integer" in names - left and "number" in left - names
        kept = "integer" in left and "number" in names
        left &= names
        if narrowed or kept:
            left.add("integer")
    return [name for name in TYPES if name in left]


def finite(conjunction: Conjunction) -> list[JSON] | None:
    """All values that may come, when the schemas themselves list them."""
    lists = [*parts(conjunction, "enum"), *([one] for one in parts(conjunction, "const"))]
    if not lists:
        return None
    return [value for value in min(lists, key=len) if accepted_by_all(conjunction, value)]


def finite_of(conjunction: Conjunction, kind: str) -> list[JSON] | None:
    """All values of a type that may come, when there are few."""
    if kind == "null":
        values: list[JSON] = [None]
    elif kind == "boolean":
        values = [False, True]
    elif kind == "integer":
        lower, upper = bounds(conjunction, whole=True)
        if not upper[0] - lower[0] < FINITE_MAX:
            return None
        values = list(range(int(lower[0]), int(upper[0]) + 1))
    else:
        return None
    return [value for value in values if accepted_by_all(conjunction, value)]


Bound: TypeAlias = tuple[float, bool]
"""A number, and whether it is itself out of bounds."""


def bounds(conjunction: Conjunction, *, whole: bool) -> tuple[Bound, Bound]:
    """The lower and the upper bound; of whole numbers the least and the greatest themselves."""
    lows = [(value, False) for value in parts(conjunction, "minimum")]
    lows += [(value, True) for value in parts(conjunction, "exclusiveMinimum")]
    highs = [(-value, False) for value in parts(conjunction, "maximum")]
    highs += [(-value, True) for value in parts(conjunction, "exclusiveMaximum")]
    low, high = max(lows, default=(-math.inf, False)), max(highs, default=(-math.inf, False))
    if whole:
        low, high = _whole(low), _whole(high)
    return low, (-high[0], high[1])


def _whole(low: Bound) -> Bound:
    value, out = low
    if math.isinf(value):
        return low
    return (math.floor(value) + 1, False) if out else (math.ceil(value), False)


def least(conjunction: Conjunction, keyword: str) -> float:
    """The strongest of lower counts: `minLength` and its like."""
    return max(parts(conjunction, keyword), default=0)


def most(conjunction: Conjunction, keyword: str) -> float:
    return min(parts(conjunction, keyword), default=math.inf)


def required(conjunction: Conjunction) -> set[str]:
    return {name for names in parts(conjunction, "required") for name in names}


def property_of(conjunction: Conjunction, name: str) -> tuple[JSON, ...]:
    """What holds for the property of this name; patterns count as what they may at most allow."""
    return tuple(_property(leaf, name) for leaf in conjunction)


def other_properties(conjunction: Conjunction) -> tuple[JSON, ...]:
    """What holds for any property that no leaf names."""
    return tuple(_unnamed(leaf) for leaf in conjunction)


def _property(leaf: Leaf, name: str) -> JSON:
    named = leaf.get("properties", {})
    return named[name] if name in named else _unnamed(leaf)


def _unnamed(leaf: Leaf) -> JSON:
    rest = leaf.get("additionalProperties", True)
    patterns = list(leaf.get("patternProperties", {}).values())
    if not patterns:
        return rest
    return {"anyOf": [rest, *patterns]}


def names_of(conjunction: Conjunction) -> list[str]:
    """Properties that any leaf names, each once."""
    return list(dict.fromkeys(name for named in parts(conjunction, "properties") for name in named))


def closed_names(conjunction: Conjunction) -> list[str] | None:
    """All names that there may be, when a leaf allows no others."""
    for leaf in conjunction:
        if leaf.get("additionalProperties") is False and not leaf.get("patternProperties"):
            return list(leaf.get("properties", {}))
    return None


def item_of(conjunction: Conjunction, place: int) -> tuple[JSON, ...]:
    """What holds for the item at a place of a list, counted from 0."""
    found = []
    for leaf in conjunction:
        first = leaf.get("prefixItems", ())
        found.append(first[place] if place < len(first) else leaf.get("items", True))
    return tuple(found)


def prefix_length(conjunction: Conjunction) -> int:
    return max((len(first) for first in parts(conjunction, "prefixItems")), default=0)


def says(conjunction: Conjunction, keyword: str, value: JSON) -> bool:
    """Whether a leaf has the very same under the keyword."""
    return any(same(part, value) for part in parts(conjunction, keyword))
