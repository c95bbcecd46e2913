"""Whether a value is what its JSON Schema asks for, as far as a consumer looks.

A consumer has no whole JSON Schema validator: the write door has one, and holds every value to all
of a schema. Here is the part that catches damage on the way: `type`, `enum`, `const`, `minimum`,
`maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `minLength`, `maxLength`, `minItems`, `maxItems`,
`required`, `properties`, `items` and `additionalProperties: false`. Other keywords are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from holdfast.core.model import JSON, SettingType

DEPTH_MAX: Final = 64


def faults(schema: JSON, value: JSON) -> Iterator[str]:
    """What is wrong with the value, each with a JSON pointer into it.

    A schema that no door would have let through is a fault of its own.
    """
    try:
        yield from _faults(schema, value, "", DEPTH_MAX)
    except (TypeError, ValueError, OverflowError):
        yield "/: its schema is none"


def fits_type(value: JSON, kind: SettingType) -> bool:
    """Whether a value is of a setting's type; 2.0 is an integer, as in JSON Schema."""
    match kind:
        case "object":
            return isinstance(value, dict | list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (kind == "number" or value == int(value))


def _faults(schema: JSON, value: JSON, path: str, depth: int) -> Iterator[str]:
    if schema is False:
        yield f"{path or '/'}: nothing is allowed here"
    if not isinstance(schema, dict) or depth <= 0:
        return
    for keyword, holds in _SCALAR.items():
        if keyword in schema and not holds(value, schema[keyword]):
            yield f"{path or '/'}: not what {keyword} {_short(schema[keyword])} asks for"
    if isinstance(value, dict):
        yield from _members(schema, value, path, depth)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _faults(schema["items"], item, f"{path}/{index}", depth - 1)


def _members(
    schema: dict[str, JSON], value: dict[str, JSON], path: str, depth: int
) -> Iterator[str]:
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in value:
            yield f"{path or '/'}: {_short(name)} is missing"
    known = schema.get("properties")
    properties = known if isinstance(known, dict) else {}
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    for name, inner in value.items():
        if name in properties:
            yield from _faults(properties[name], inner, f"{path}/{name}", depth - 1)
        elif closed:
            yield f"{path or '/'}: {_short(name)} is not allowed"


def same(left: JSON, right: JSON) -> bool:
    """Whether two values are the same JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def _has_type(value: JSON, wanted: JSON) -> bool:
    names = wanted if isinstance(wanted, list) else [wanted]
    return any(_is(value, name) for name in names)


def _is(value: JSON, name: JSON) -> bool:
    if isinstance(value, bool):
        return bool(name == "boolean")
    if isinstance(value, int | float):
        return bool(name == "number" or (name == "integer" and value == int(value)))
    return bool(name == _NAMES.get(type(value)))


_NAMES: Final[dict[type, str]] = {
    type(None): "null", str: "string", list: "array", dict: "object",
}  # fmt: skip


def _number(holds: Callable[[Any, Any], bool]) -> Callable[[JSON, JSON], bool]:
    """Bounds on numbers say nothing of other values."""

    def check(value: JSON, bound: JSON) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return not isinstance(bound, int | float) or holds(value, bound)

    return check


def _length(
    kind: type[str | list[Any]], holds: Callable[[int, Any], bool]
) -> Callable[[JSON, JSON], bool]:
    def check(value: JSON, bound: JSON) -> bool:
        return not isinstance(value, kind) or holds(len(value), bound)

    return check


_SCALAR: Final[dict[str, Callable[[JSON, JSON], bool]]] = {
    "type": _has_type,
    "enum": lambda value, allowed: any(same(value, one) for one in allowed),
    "const": same,
    "minimum": _number(lambda value, bound: value >= bound),
    "maximum": _number(lambda value, bound: value <= bound),
    "exclusiveMinimum": _number(lambda value, bound: value > bound),
    "exclusiveMaximum": _number(lambda value, bound: value < bound),
    "minLength": _length(str, lambda size, bound: size >= bound),
    "maxLength": _length(str, lambda size, bound: size <= bound),
    "minItems": _length(list, lambda size, bound: size >= bound),
    "maxItems": _length(list, lambda size, bound: size <= bound),
}


def _short(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
