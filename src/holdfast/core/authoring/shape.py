"""Shapes: one description of a document, from which it is both checked and published.

`check` compares a tree with a shape and reports everything at once; `schema` writes the shape as
JSON Schema, which editors complete and check from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from holdfast.core import limits
from holdfast.core.authoring.tree import BROKEN, PROBLEMS_MAX, Broken, Node, Path, Tree
from holdfast.core.model import JSON
from holdfast.core.pointer import near, short


@dataclass(frozen=True)
class Text:
    """A string: one of `words` if there are any, found by `pattern` (ECMA 262) if there is one."""

    noun: str = "text"
    words: tuple[str, ...] = ()
    pattern: str = ""
    hint: str = ""
    chars_max: int = limits.TEXT_CHARS_MAX


@dataclass(frozen=True)
class Switch:
    noun: str = "true or false"


@dataclass(frozen=True)
class Whole:
    most: int
    noun: str = "a whole number"


@dataclass(frozen=True)
class Anything:
    """Any JSON value of these kinds (all when none is given)."""

    noun: str = "a value"
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nullable:
    inner: Text

    @property
    def noun(self) -> str:
        return f"{self.inner.noun} or null"


@dataclass(frozen=True)
class ListOf:
    item: Shape
    noun: str = "a list"
    most: int = 0


@dataclass(frozen=True)
class MapOf:
    """A mapping with names that the author chooses."""

    value: Shape
    name: Text = field(default_factory=Text)
    noun: str = "a mapping"
    most: int = 0
    least: int = 0


@dataclass(frozen=True)
class Field:
    shape: Shape
    description: str
    required: bool = False
    examples: tuple[JSON, ...] = ()


@dataclass(frozen=True)
class Record:
    """A mapping with known names; `together` says as JSON Schema what goes with what."""

    name: str
    fields: Mapping[str, Field]
    together: JSON = None
    noun: str = "a mapping"


Shape: TypeAlias = Text | Switch | Whole | Anything | Nullable | ListOf | MapOf | Record

_KINDS: tuple[tuple[type, str, str], ...] = (
    (bool, "boolean", "true or false"),
    (int, "number", "a number"),
    (float, "number", "a number"),
    (str, "string", "text"),
    (list, "array", "a list"),
    (dict, "object", "a mapping"),
)


def kind_of(value: object) -> tuple[str, str]:
    """JSON Schema's name for a value's type, and ours."""
    for kind, name, words in _KINDS:
        if isinstance(value, kind):
            return name, words
    return "null", "nothing"


def check(tree: Tree, shape: Shape) -> Any:
    """The tree as plain values. What does not fit is reported, and left out or `BROKEN`; of what is
    too many, the first are read.
    """
    return _Check(tree).value(tree.root, shape, ()) if tree.root is not None else BROKEN


def _is(value: object, shape: Text | Switch | Whole | Anything) -> bool:
    """Whether a value is of the shape's JSON type."""
    if isinstance(shape, Anything):
        return not shape.kinds or kind_of(value)[0] in shape.kinds
    if isinstance(shape, Text):
        return isinstance(value, str)
    if isinstance(shape, Switch):
        return isinstance(value, bool)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class _Check:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def value(self, node: Node, shape: Shape, path: Path) -> Any:
        if isinstance(node.value, Broken):
            return BROKEN
        if isinstance(shape, Record):
            return self._record(node, shape, path)
        if isinstance(shape, MapOf):
            return self._map(node, shape, path)
        if isinstance(shape, ListOf):
            return self._list(node, shape, path)
        return self._leaf(node, shape, path)

    def _leaf(
        self, node: Node, shape: Text | Switch | Whole | Anything | Nullable, path: Path
    ) -> Any:
        value = node.plain()
        if isinstance(shape, Nullable):
            return None if value is None else self._leaf(node, shape.inner, path)
        if not _is(value, shape):
            return self._wrong(node, shape, path)
        if isinstance(shape, Text):
            return self._text(value, shape, path)
        if isinstance(shape, Whole) and value > shape.most:
            return self._report("too-large", f"{value} is more than {shape.most}", path)
        return value

    def _text(self, value: str, shape: Text, path: Path, *, at_key: bool = False) -> Any:
        if len(value) > shape.chars_max:
            message = f"{len(value)} characters; {shape.chars_max} are the most"
            return self._report("too-long", message, path, at_key=at_key)
        if shape.words and value not in shape.words:
            hint = near(value, shape.words) or f"write one of {', '.join(shape.words)}"
            return self._report("wrong-value", f"`{short(value)}` is not {shape.noun}", path, hint)
        if shape.pattern and not re.search(shape.pattern, value):
            message = f"`{short(value)}` is not {shape.noun}"
            return self._report("wrong-name", message, path, shape.hint, at_key=at_key)
        return value

    def _record(self, node: Node, shape: Record, path: Path) -> Any:
        if not isinstance(node.value, dict):
            return self._wrong(node, shape, path)
        clean: dict[str, Any] = {}
        for key, inner in node.value.items():
            known = shape.fields.get(key)
            if known is None:
                few = len(self._tree.problems) < PROBLEMS_MAX
                hint = (few and near(key, shape.fields)) or f"known here: {', '.join(shape.fields)}"
                self._report(
                    "unknown-key", f"`{key}` means nothing here", (*path, key), hint, at_key=True
                )
                continue
            value = self.value(inner, known.shape, (*path, key))
            if value is not BROKEN:
                clean[key] = value
        for key, known in shape.fields.items():
            if known.required and key not in node.value:
                hint = f"add `{key}:`. {known.description}"
                self._report("missing-key", f"`{key}` is missing", path, hint)
        return clean

    def _map(self, node: Node, shape: MapOf, path: Path) -> Any:
        if not isinstance(node.value, dict):
            return self._wrong(node, shape, path)
        if shape.most and len(node.value) > shape.most:
            self._report("too-many", f"{len(node.value)} of them; {shape.most} are the most", path)
        if len(node.value) < shape.least:
            self._report("empty", "at least one is needed", path, "add one")
        kept = dict(islice(node.value.items(), shape.most or None))
        for key in kept:
            self._text(key, shape.name, (*path, key), at_key=True)
        return {key: self.value(inner, shape.value, (*path, key)) for key, inner in kept.items()}

    def _list(self, node: Node, shape: ListOf, path: Path) -> Any:
        if not isinstance(node.value, list):
            return self._wrong(node, shape, path)
        if shape.most and len(node.value) > shape.most:
            self._report("too-many", f"{len(node.value)} of them; {shape.most} are the most", path)
        kept = islice(node.value, shape.most or None)
        return [self.value(inner, shape.item, (*path, n)) for n, inner in enumerate(kept)]

    def _wrong(self, node: Node, shape: Shape, path: Path) -> Broken:
        found = kind_of(node.plain())[1]
        hint = ""
        if isinstance(shape, Text | Nullable) and found in {"a number", "true or false"}:
            hint = "quote it"
        elif isinstance(shape, Switch) and node.value in ("on", "yes"):
            hint = "write true"
        elif isinstance(shape, Switch) and node.value in ("off", "no"):
            hint = "write false"
        return self._report("wrong-type", f"this must be {shape.noun}, not {found}", path, hint)

    def _report(
        self, code: str, message: str, path: Path, hint: str = "", *, at_key: bool = False
    ) -> Broken:
        self._tree.problems.append(self._tree.problem(code, message, path, hint, at_key=at_key))
        return BROKEN


def schema(  # noqa: PLR0911  one return for each shape
    shape: Shape, definitions: dict[str, JSON]
) -> dict[str, JSON]:
    """The shape as JSON Schema 2020-12; named records go into `definitions`."""
    match shape:
        case Text():
            found: dict[str, JSON] = {"type": "string"}
            if shape.words:
                return {"enum": list(shape.words)}
            if shape.pattern:
                found["pattern"] = shape.pattern
            return {**found, "maxLength": shape.chars_max}
        case Switch():
            return {"type": "boolean"}
        case Whole():
            return {"type": "integer", "minimum": 0, "maximum": shape.most}
        case Anything():
            return {"type": list(shape.kinds)} if shape.kinds else {}
        case Nullable():
            return {**schema(shape.inner, definitions), "type": ["string", "null"]}
        case ListOf():
            bound = {"maxItems": shape.most} if shape.most else {}
            return {"type": "array", "items": schema(shape.item, definitions), **bound}
        case MapOf():
            return _map_schema(shape, definitions)
    if shape.name not in definitions:
        definitions[shape.name] = {}
        definitions[shape.name] = _record_schema(shape, definitions)
    return {"$ref": f"#/$defs/{shape.name}"}


def _map_schema(shape: MapOf, definitions: dict[str, JSON]) -> dict[str, JSON]:
    found: dict[str, JSON] = {
        "type": "object",
        "additionalProperties": schema(shape.value, definitions),
    }
    names = schema(shape.name, definitions)
    found["propertyNames"] = {key: value for key, value in names.items() if key != "type"}
    if shape.most:
        found["maxProperties"] = shape.most
    if shape.least:
        found["minProperties"] = shape.least
    return found


def _record_schema(shape: Record, definitions: dict[str, JSON]) -> dict[str, JSON]:
    properties = {}
    for name, known in shape.fields.items():
        examples = {"examples": list(known.examples)} if known.examples else {}
        inner = schema(known.shape, definitions)
        properties[name] = {"description": known.description, **inner, **examples}
    found: dict[str, JSON] = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    required = [name for name, known in shape.fields.items() if known.required]
    if required:
        found["required"] = required
    return {**found, **(shape.together or {})}
