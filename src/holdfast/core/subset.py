"""Does one JSON Schema accept every value that another one accepts? Yes, or not known.

The proof goes keyword by keyword: whatever the wider schema asks for must follow from what the
narrower one says. What is not understood in the narrower one is left out, which makes it wider;
what is not understood in the wider one has to stand in the narrower one too. So a yes is always
right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from holdfast.core.model import JSON
from holdfast.core.schema_terms import (
    Conjunction,
    Unclear,
    accepts,
    alternatives,
    bounds,
    closed_names,
    finite,
    finite_of,
    flat,
    item_of,
    least,
    most,
    names_of,
    other_properties,
    parts,
    prefix_length,
    property_of,
    required,
    says,
    types_of,
    written_out,
)
from holdfast.core.state import same

STEPS_MAX: Final = 20_000
"""Comparisons of two schemas in one proof; beyond it the answer is "not known"."""
DEPTH_MAX: Final = 48

_SAYS_NOTHING: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
_BESIDE: Final = frozenset(
    {
        "items", "prefixItems", "contains", "minContains", "maxContains", "additionalProperties",
        "properties", "patternProperties", "if", "then", "else", "unevaluatedItems",
        "unevaluatedProperties",
    }
)  # fmt: skip
"""Keywords whose meaning hangs on others beside them: the same text proves nothing."""


class Verdict(msgspec.Struct, frozen=True):
    """`known`: every value is accepted. Else `at` points to the wider schema's part in doubt."""

    known: bool
    at: str = ""


def subset(narrow: JSON, wide: JSON) -> Verdict:
    """Whether `wide` accepts every value that `narrow` accepts."""
    if same(narrow, wide):
        return Verdict(known=True)
    try:
        left, right = written_out(narrow), written_out(wide)
        proof = _Proof()
        known = proof.within((left,), right, "", 0)
    except (Unclear, RecursionError):
        return Verdict(known=False)
    return Verdict(known, "" if known else proof.at)


class _Proof:
    """One question; `at` is where it failed first."""

    def __init__(self) -> None:
        self.at = ""
        self._left = STEPS_MAX

    def within(self, narrow: tuple[JSON, ...], wide: JSON, at: str, depth: int) -> bool:
        """Whether everything that all of `narrow` accept, `wide` accepts."""
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            return self._doubt(at)
        leaves = flat(narrow)
        if leaves is None or any(same(one, wide) for one in (True, {}, *narrow, *leaves)):
            return True
        values = finite(leaves)
        if values is not None:
            return all(accepts(wide, value) for value in values) or self._doubt(at)
        choice = alternatives(leaves)
        if choice is not None:
            rest, branches = choice
            return all(self.within((*rest, one), wide, at, depth + 1) for one in branches)
        return all(self._of_type(leaves, kind, wide, at, depth) for kind in types_of(leaves))

    def empty(self, schemas: tuple[JSON, ...], depth: int) -> bool:
        """Whether nothing is accepted by all of the schemas; false when that is not known."""
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            return False
        leaves = flat(schemas)
        if leaves is None:
            return True
        values = finite(leaves)
        if values is not None:
            return not values
        choice = alternatives(leaves)
        if choice is not None:
            rest, branches = choice
            return all(self.empty((*rest, one), depth + 1) for one in branches)
        return all(self._no_values(leaves, kind, depth) for kind in types_of(leaves))

    def _no_values(self, leaves: Conjunction, kind: str, depth: int) -> bool:
        values = finite_of(leaves, kind)
        if values is not None:
            return not values
        if kind in ("integer", "number"):
            low, high = bounds(leaves, whole=kind == "integer")
            return low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1]))
        if kind == "object":
            return any(
                self.empty(property_of(leaves, name), depth + 1) for name in required(leaves)
            ) or least(leaves, "minProperties") > most(leaves, "maxProperties")
        counted = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
        fewest, greatest = counted[kind]
        return least(leaves, fewest) > most(leaves, greatest)

    def _doubt(self, at: str) -> bool:
        self.at = self.at or at or "/"
        return False

    def _of_type(self, leaves: Conjunction, kind: str, wide: JSON, at: str, depth: int) -> bool:
        """The same for values of one type; `leaves` hold no choice and no list of values."""
        if wide is False:
            return self._no_values(leaves, kind, depth) or self._doubt(at)
        values = finite_of(leaves, kind)
        if values is not None:
            return all(accepts(wide, value) for value in values) or self._doubt(at)
        typed: Conjunction = ({"type": kind}, *leaves)
        for keyword, value in wide.items():
            if keyword in _SAYS_NOTHING or keyword.startswith("x-"):
                continue
            if keyword in _KINDS and kind not in _KINDS[keyword]:
                continue
            if keyword not in _BESIDE and says(leaves, keyword, value):
                continue
            rule = _RULES.get(keyword)
            if rule is None or not rule(self, typed, wide, f"{at}/{keyword}", depth + 1):
                return self._doubt(f"{at}/{keyword}")
        return True


# One keyword of the wider schema: does it follow? -------------------------------------------------

_Rule = Callable[[_Proof, Conjunction, Mapping[str, JSON], str, int], bool]


def _type(_proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], _at: str, _d: int) -> bool:
    named = {wide["type"]} if isinstance(wide["type"], str) else set(wide["type"])
    if "number" in named:
        named.add("integer")
    return named.issuperset(types_of(left))


def _never(*_: object) -> bool:
    """A list of values holds no type of endless values."""
    return False


def _all_of(proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int) -> bool:
    return all(
        proof.within(left, one, f"{at}/{number}", d) for number, one in enumerate(wide["allOf"])
    )


def _any_of(proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int) -> bool:
    return _one(proof, left, wide["anyOf"], at, d) is not None


def _one(proof: _Proof, left: Conjunction, branches: list[JSON], at: str, depth: int) -> int | None:
    """The first branch that takes all; what failed in those before is forgotten."""
    before = proof.at
    for number, one in enumerate(branches):
        if proof.within(left, one, f"{at}/{number}", depth):
            proof.at = before
            return number
    proof.at = before
    return None


def _one_of(proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int) -> bool:
    taken = _one(proof, left, wide["oneOf"], at, d)
    return taken is not None and all(
        number == taken or proof.empty((*left, one), d) for number, one in enumerate(wide["oneOf"])
    )


def _not(proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], _at: str, d: int) -> bool:
    return proof.empty((*left, wide["not"]), d)


def _if(proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int) -> bool:
    if any(same([leaf.get(k) for k in _IF], [wide.get(k) for k in _IF]) for leaf in left):
        return True
    condition, then, other = wide["if"], wide.get("then", True), wide.get("else", True)
    return (
        proof.empty((*left, condition), d) or proof.within((*left, condition), then, at, d)
    ) and (_one(proof, left, [condition], at, d) is not None or proof.within(left, other, at, d))


def _then(_proof: _Proof, _left: Conjunction, _wide: Mapping[str, JSON], _at: str, _d: int) -> bool:
    return True  # `_if` looks at both; without an `if` they say nothing


def _low(_proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, _d: int) -> bool:
    (low, out), _ = bounds(left, whole=types_of(left) == ["integer"])
    if at.endswith("/minimum"):
        return bool(low >= wide["minimum"])
    return bool(low > wide["exclusiveMinimum"] or (low == wide["exclusiveMinimum"] and out))


def _high(_proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, _d: int) -> bool:
    _, (high, out) = bounds(left, whole=types_of(left) == ["integer"])
    if at.endswith("/maximum"):
        return bool(high <= wide["maximum"])
    return bool(high < wide["exclusiveMaximum"] or (high == wide["exclusiveMaximum"] and out))


def _multiple(
    _proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], _at: str, _d: int
) -> bool:
    """Of whole numbers only: in floats a remainder of 0 is a matter of rounding."""
    step = wide["multipleOf"]
    if not isinstance(step, int):
        return False
    if step == 1 and types_of(left) == ["integer"]:
        return True
    steps = (one for one in parts(left, "multipleOf") if isinstance(one, int))
    return types_of(left) == ["integer"] and any(one % step == 0 for one in steps)


def _at_least(
    _proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, _d: int
) -> bool:
    keyword = at.rpartition("/")[2]
    count = least(left, keyword)
    if keyword == "minProperties":
        count = max(count, len(required(left)))
    return bool(count >= wide[keyword])


def _at_most(_proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, _d: int) -> bool:
    keyword = at.rpartition("/")[2]
    count = most(left, keyword)
    if keyword == "maxProperties" and (names := closed_names(left)) is not None:
        count = min(count, len(names))
    return bool(count <= wide[keyword])


def _unique(_proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], _at: str, _d: int) -> bool:
    return wide["uniqueItems"] is False or most(left, "maxItems") <= 1


def _items(proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int) -> bool:
    first, rest = wide.get("prefixItems", []), wide.get("items", True)
    named = max(len(first), prefix_length(left))
    for place in range(named):
        if most(left, "maxItems") <= place:
            return True
        wanted = first[place] if place < len(first) else rest
        if not proof.within(item_of(left, place), wanted, f"{at}/{place}", d):
            return False
    return most(left, "maxItems") <= named or proof.within(item_of(left, named), rest, at, d)


def _contains(proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int) -> bool:
    fewest, greatest = wide.get("minContains", 1), wide.get("maxContains")
    if any(
        same([leaf.get(k) for k in _CONTAINS], [wide.get(k) for k in _CONTAINS]) for leaf in left
    ):
        return True
    if greatest is not None and most(left, "maxItems") > greatest:
        return False
    if fewest == 0:
        return True
    every = range(prefix_length(left) + 1)
    return least(left, "minItems") >= fewest and all(
        proof.within(item_of(left, place), wide["contains"], at, d) for place in every
    )


def _counted(
    _proof: _Proof, _left: Conjunction, _wide: Mapping[str, JSON], _at: str, _d: int
) -> bool:
    return True  # `_contains` looks at them; without it they say nothing


def _required(
    _proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], _at: str, _d: int
) -> bool:
    return required(left).issuperset(wide["required"])


def _properties(
    proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int
) -> bool:
    """All three keywords of properties at once; patterns are never matched, only compared."""
    named = wide.get("properties", {})
    patterns = wide.get("patternProperties", {})
    rest = wide.get("additionalProperties", True)
    names = dict.fromkeys((*names_of(left), *named))
    for name in names:
        here = property_of(left, name)
        if not proof.within(here, named.get(name, rest), f"{at}/{name}", d):
            return False
        if not all(proof.within(here, one, at, d) for one in patterns.values()):
            return False
    unnamed = other_properties(left)
    return proof.within(unnamed, rest, at, d) and all(
        proof.within(unnamed, one, at, d) for one in patterns.values()
    )


def _same_patterns(
    proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int
) -> bool:
    """The same names and patterns in one leaf: then each part is compared with its own."""
    for leaf in left:
        mine, theirs = leaf.get("patternProperties", {}), wide.get("patternProperties", {})
        known, wanted = leaf.get("properties", {}), wide.get("properties", {})
        if mine.keys() != theirs.keys() or known.keys() != wanted.keys():
            continue
        pairs = [(known[name], wanted[name]) for name in known]
        pairs += [(mine[pattern], theirs[pattern]) for pattern in mine]
        ends = (leaf.get("additionalProperties", True), wide.get("additionalProperties", True))
        before = proof.at
        if all(proof.within((one,), other, at, d) for one, other in [*pairs, ends]):
            return True
        proof.at = before
    return _properties(proof, left, wide, at, d)


def _property_names(
    proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int
) -> bool:
    names = closed_names(left)
    if names is not None:
        return all(accepts(wide["propertyNames"], name) for name in names)
    said = (*parts(left, "propertyNames"), {"type": "string"})
    return proof.within(said, wide["propertyNames"], at, d)


def _dependent_required(
    proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], _at: str, d: int
) -> bool:
    there = required(left)
    return all(
        there.issuperset(needed) or proof.empty(property_of(left, name), d)
        for name, needed in wide["dependentRequired"].items()
    )


def _dependent_schemas(
    proof: _Proof, left: Conjunction, wide: Mapping[str, JSON], at: str, d: int
) -> bool:
    return all(
        proof.within(left, one, f"{at}/{name}", d) or proof.empty(property_of(left, name), d)
        for name, one in wide["dependentSchemas"].items()
    )


_IF: Final = ("if", "then", "else")
_CONTAINS: Final = ("contains", "minContains", "maxContains")
_NUMBERS: Final = frozenset({"integer", "number"})
_KINDS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _NUMBERS
    ),
    **dict.fromkeys(("minLength", "maxLength", "pattern"), frozenset({"string"})),
    **dict.fromkeys(
        ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", *_CONTAINS),
        frozenset({"array"}),
    ),
    **dict.fromkeys(
        (
            "properties", "patternProperties", "additionalProperties", "required", "propertyNames",
            "minProperties", "maxProperties", "dependentRequired", "dependentSchemas",
        ),
        frozenset({"object"}),
    ),
}  # fmt: skip
"""The types that a keyword speaks of; to all others it says nothing."""
_RULES: Final[Mapping[str, _Rule]] = {
    "type": _type, "enum": _never, "const": _never,
    "allOf": _all_of, "anyOf": _any_of, "oneOf": _one_of, "not": _not,
    "if": _if, "then": _then, "else": _then,
    "minimum": _low, "exclusiveMinimum": _low, "maximum": _high, "exclusiveMaximum": _high,
    "multipleOf": _multiple,
    "minLength": _at_least, "minItems": _at_least, "minProperties": _at_least,
    "maxLength": _at_most, "maxItems": _at_most, "maxProperties": _at_most,
    "uniqueItems": _unique, "items": _items, "prefixItems": _items,
    "contains": _contains, "minContains": _counted, "maxContains": _counted,
    "properties": _same_patterns, "patternProperties": _same_patterns,
    "additionalProperties": _same_patterns, "required": _required,
    "propertyNames": _property_names, "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
}  # fmt: skip
