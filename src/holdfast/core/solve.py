"""A small solver: contexts in which a condition may hold, or may not.

It knows the operators that conditions are made of and proposes; whether a proposal reaches what it
was made for, the interpreter says. What it doesn't know is left to chance contexts: it is no proof
that a rule can't be reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from typing import Any, Final

from holdfast.core.model import JSON, TARGETING_KEY
from holdfast.core.targeting import semver
from holdfast.core.targeting.prepare import Call, Constant, Items, Node

Context = dict[str, JSON]

WAYS_MAX: Final = 8
"""Contexts proposed for one condition."""
PARTS_MAX: Final = 16
"""Parts of an `and` or an `or` that are looked at."""
BRANCHES_MAX: Final = 600
OTHER: Final = "~probe"
"""A text that no rule is likely to name."""


def proposals(root: Node) -> Iterator[Context]:
    """Contexts for each branch of each `if`, outer ones first, and for what decides none."""
    yield from _branches(root, {})
    if not (type(root) is Call and root.op in ("if", "?:")):
        yield from satisfy(root, wanted=True)
        yield from satisfy(root, wanted=False)


def _branches(node: Node, given: Context) -> Iterator[Context]:
    """Contexts for every branch below `node`; `given` leads to it."""
    if type(node) is not Call or node.op not in ("if", "?:"):
        return
    before: Context = dict(given)
    for index in range(0, min(len(node.args) - 1, BRANCHES_MAX), 2):
        condition = node.args[index]
        for way in satisfy(condition, wanted=True):
            for base in (given, before):
                context = merged(base, way)
                yield _keyed(context)
                yield from _branches(node.args[index + 1], context)
        inner = next(iter(satisfy(condition, wanted=False)), {})
        before = merged(inner, before)
        yield from _parts(condition, given)
    yield _keyed(before)
    if len(node.args) % 2:
        yield from _branches(node.args[-1], before)


def _parts(condition: Node, given: Context) -> Iterator[Context]:
    """The edges of a condition: it fails, in each way that is known."""
    for way in satisfy(condition, wanted=False):
        yield _keyed(merged(given, way))


def _keyed(context: Context) -> Context:
    return context if TARGETING_KEY in context else {**context, TARGETING_KEY: "probe"}


def units(split: Call, context: Context, count: int) -> Iterator[Context]:
    """The context with other values of the attribute that the split is sticky by."""
    name = split_attribute(split) or TARGETING_KEY
    for number in range(count):
        varied = dict(context)
        _put(varied, name, f"probe-{number}")
        yield varied


def attributes(root: Node) -> list[str]:
    """All that the rule reads of a context, sorted."""
    return sorted(set(filter(None, map(attribute, nodes(root)))))


def filled(context: Context, names: list[str]) -> Context:
    """The context with a value for each attribute: one that no rule names, where it has none."""
    whole = context
    for name in names:
        inner: JSON = whole
        for step in name.split("."):
            inner = inner.get(step) if isinstance(inner, dict) else OTHER
        if inner is None:
            whole = merged(whole, _given(name, OTHER))
    return whole


def split_attribute(split: Call) -> str | None:
    """The attribute that a split's key is read from; none for the shorthand's targeting key."""
    first = split.args[0] if split.args else None
    if type(first) is not Call:
        return None
    return next(filter(None, map(attribute, nodes(first))), None)


def reads_more(root: Node) -> bool:
    """Whether the answer may depend on more than the context: on the time, on a segment's table."""
    for node in nodes(root):
        if type(node) is Call and node.op == "var":
            first = node.args[0] if node.args else None
            if type(first) is not Constant or str(first.value).startswith("$flagd.t"):
                return True
            if first.value == "$flagd":
                return True
        if type(node) is Call and node.op == "in_segment":
            return True
        if type(node) is Call and node.op.startswith("missing") and "$flagd" in repr(node.raw):
            return True
    return False


def nodes(root: Node) -> Iterator[Node]:
    """All nodes, outer ones first."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if type(node) is Items:
            waiting += node.items
        elif type(node) is Call:
            waiting += node.args


def satisfy(node: Node, *, wanted: bool) -> list[Context]:
    """Contexts in which `node` may be true, or may be false when that is wanted; bounded."""
    return list(islice(_ways(node, wanted), WAYS_MAX))


def _ways(node: Node, wanted: bool) -> Iterator[Context]:
    if type(node) is Constant:
        if bool(node.value) == wanted:
            yield {}
        return
    if type(node) is not Call:
        return
    match node.op:
        case "and":
            yield from (_all if wanted else _any)(node, wanted)
        case "or":
            yield from (_any if wanted else _all)(node, wanted)
        case "!":
            yield from _ways(node.args[0], not wanted) if node.args else ()
        case "!!":
            yield from _ways(node.args[0], wanted) if node.args else ()
        case "if" | "?:":
            yield from _chosen(node, wanted)
        case _:
            yield from _leaf(node, wanted)


def _all(node: Call, wanted: bool) -> Iterator[Context]:
    """Every part as wanted: the combinations of the first few ways of each."""
    parts = [satisfy(part, wanted=wanted)[:3] or [{}] for part in node.args[:PARTS_MAX]]
    for ways in islice(product(*parts), WAYS_MAX):
        context: Context = {}
        for way in ways:
            context = merged(context, way)
        yield context


def _any(node: Call, wanted: bool) -> Iterator[Context]:
    for part in node.args[:PARTS_MAX]:
        yield from islice(_ways(part, wanted), 2)


def _chosen(node: Call, wanted: bool) -> Iterator[Context]:
    for index in range(0, len(node.args) - 1, 2):
        for condition in satisfy(node.args[index], wanted=True)[:2]:
            for way in satisfy(node.args[index + 1], wanted=wanted)[:2]:
                yield merged(condition, way)
    if len(node.args) % 2:
        yield from _ways(node.args[-1], wanted)


def _leaf(node: Call, wanted: bool) -> Iterator[Context]:
    name = attribute(node)
    if name is not None:
        for value in ("yes", True) if wanted else (False, "", _NOTHING):
            yield _given(name, value)
        return
    values = _values(node, wanted)
    for index, arg in enumerate(node.args):
        inner = attribute(arg)
        if inner is None:
            continue
        for value in values(index):
            yield _given(inner, value)


_NOTHING: Final = object()
"""The attribute is not there."""


def _values(node: Call, wanted: bool) -> Any:
    """Index of the argument that is an attribute -> values to give it."""
    others = [_constant(arg) for arg in node.args]

    def values(index: int) -> list[Any]:
        other = next((v for n, v in enumerate(others) if n != index and v is not _NOTHING), None)
        known = any(v is not _NOTHING for n, v in enumerate(others) if n != index)
        if not known and node.op != "in":
            return [OTHER, 1]
        return list(_of_operator(node, index, other, wanted))

    return values


def _of_operator(  # noqa: PLR0911 - one line for each operator
    node: Call,
    index: int,
    other: Any,
    wanted: bool,
) -> list[Any]:
    match node.op:
        case "==" | "===":
            return [other] if wanted else [_unlike(other), _NOTHING]
        case "!=" | "!==":
            return [_unlike(other), _NOTHING] if wanted else [other]
        case "in" if index == 0:
            return _member(other, wanted)
        case "in":
            return [[other], f"{other}"] if wanted else [[], OTHER]
        case "<" | "<=" | ">" | ">=":
            return _around(other)
        case "starts_with" | "ends_with":
            text = str(other)
            return [text, f"{text}{text}"] if wanted else [OTHER, _NOTHING]
        case "sem_ver":
            return _versions(node)
    return [other, OTHER, 1, 0, _NOTHING]


def _member(haystack: Any, wanted: bool) -> list[Any]:
    if isinstance(haystack, list) and haystack:
        return [haystack[0], haystack[-1]] if wanted else [OTHER, _NOTHING]
    if isinstance(haystack, str):
        return [haystack, haystack[:1]] if wanted else [OTHER]
    return [OTHER]


def _around(other: Any) -> list[Any]:
    """Both sides of a bound, and the bound itself."""
    if isinstance(other, int | float) and not isinstance(other, bool):
        return [other, other + 1, other - 1]
    return [other, f"{other}~", ""]


def _versions(node: Call) -> list[Any]:
    """Around the version that is compared with."""
    written = [_constant(arg) for arg in node.args]
    found = next((semver.parse(v) for v in (written[-1], written[0]) if isinstance(v, str)), None)
    if found is None:
        return ["1.0.0"]
    major, minor, patch = found[:3]
    return [
        f"{major}.{minor}.{patch}",
        f"{major}.{minor}.{patch + 1}",
        f"{major}.{minor + 1}.0",
        f"{major + 1}.0.0",
        f"{major}.{minor}.{patch}-rc.1",
        "0.0.0",
    ]


def _unlike(value: Any) -> Any:
    return value + 1 if isinstance(value, int | float) and not isinstance(value, bool) else OTHER


def attribute(node: Node) -> str | None:
    """The attribute, dotted or not, that a plain `var` reads."""
    if type(node) is not Call or node.op != "var" or not node.args:
        return None
    first = node.args[0]
    if type(first) is not Constant or not isinstance(first.value, str):
        return None
    return first.value if first.value and not first.value.startswith("$flagd") else None


def _constant(node: Node) -> Any:
    """The value that a node always has; `_NOTHING` for one that depends."""
    if type(node) is Constant:
        return node.value
    if type(node) is Items and node.scalars is not None:
        return list(node.scalars)
    return _NOTHING


def _given(name: str, value: Any) -> Context:
    context: Context = {}
    if value is not _NOTHING:
        _put(context, name, value)
    return context


def _put(context: Context, name: str, value: JSON) -> None:
    """Set an attribute; a dotted name reaches into objects."""
    *way, last = name.split(".")
    for step in way:
        inner = context.get(step)
        inner = dict(inner) if isinstance(inner, dict) else {}
        context[step] = inner
        context = inner
    context[last] = value


def merged(base: Context, more: Context) -> Context:
    """Both; `more` decides where they differ, objects are merged."""
    context = dict(base)
    for name, value in more.items():
        known = context.get(name)
        both = isinstance(known, dict) and isinstance(value, dict)
        context[name] = merged(known or {}, value) if both else value
    return context
