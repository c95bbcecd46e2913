"""A rule's JSON, read once: a tree of nodes that the interpreter walks and the compiler reads.

Recursion here is bounded by `core.limits.LOGIC_DEPTH_MAX`, which `Rules.prepare` checks without
recursion before it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from holdfast.core import limits
from holdfast.core.model import JSON
from holdfast.core.targeting.operators import ITERATING


class BadRule(Exception):
    """A rule that can't be prepared: it passes a bound, or its JSON can't be read."""


class Constant:
    """A value that stands for itself: a scalar, or an object that is no call."""

    __slots__ = ("value",)
    size: Final = 1
    calls: Final = 0
    iterates: Final = False

    def __init__(self, value: JSON) -> None:
        self.value = value


class Items:
    """A list, built anew for each evaluation.

    When all items are constants that are no lists, `items` is empty and `scalars` has them, and
    `members` a set equal to them, when they are hashable.
    """

    __slots__ = ("calls", "items", "iterates", "members", "scalars", "size")

    def __init__(self, items: tuple[Node, ...], scalars: list[JSON] | None = None) -> None:
        self.items = items
        self.scalars = scalars
        self.members: frozenset[JSON] | None = None
        self.size: int = 1 + len(scalars or ()) + sum(item.size for item in items)
        self.calls: int = sum(item.calls for item in items)
        self.iterates: bool = any(item.iterates for item in items)
        if scalars is not None and not any(isinstance(value, dict) for value in scalars):
            self.members = frozenset(scalars)


class Call:
    """An operator and its arguments; `raw` is the JSON that it was read from.

    `size` counts the JSON values below it, `calls` the operators; `iterates` says that one of them
    runs a rule for each item of a list. `initial` is the third argument of `reduce`, which is taken
    as it stands.
    """

    __slots__ = ("args", "calls", "initial", "iterates", "op", "raw", "size")

    def __init__(self, op: str, args: tuple[Node, ...], raw: JSON, initial: JSON = None) -> None:
        self.op = op
        self.args = args
        self.raw = raw
        self.initial = initial
        self.size: int = 1 + sum(arg.size for arg in args)
        self.calls: int = 1 + sum(arg.calls for arg in args)
        self.iterates: bool = op in ITERATING or any(arg.iterates for arg in args)


Node: TypeAlias = Constant | Items | Call
Decode: TypeAlias = Callable[[str], JSON]
NULL: Final = Constant(None)


class Rules:
    """Prepares the targeting of one snapshot's settings; each shared rule is prepared once.

    `names` are those of `$evaluators`; `decode` gives the JSON of one. References inside a shared
    rule are not followed, as in flagd: there they are an unknown operator.
    """

    def __init__(self, names: Mapping[str, Any], decode: Decode) -> None:
        self._names = names
        self._decode = decode
        self._shared: dict[str, Node] = {}

    def prepare(self, logic: JSON) -> Node | None:
        """A flag's targeting; None when there is none.

        Raises `BadRule` when it is no object, too deep or too large.
        """
        name = _reference(logic)
        follow = name not in self._names
        if name is not None and not follow:
            logic = self._decode(name)
        if not logic:
            return None
        if not isinstance(logic, dict):
            raise BadRule("the targeting is not an object")
        _check(logic)
        node = self._node(logic, follow=follow)
        if node.calls > limits.LOGIC_CALLS_MAX:
            raise BadRule(
                f"with its segments the rule has {node.calls} operators; "
                f"{limits.LOGIC_CALLS_MAX} are allowed"
            )
        return node

    def _node(self, logic: JSON, *, follow: bool) -> Node:
        if isinstance(logic, list):
            if all(_is_constant(item) for item in logic):
                return Items((), logic)
            return Items(tuple(self._node(item, follow=follow) for item in logic))
        if not isinstance(logic, dict) or len(logic) != 1:
            return Constant(logic)
        name = _reference(logic) if follow else None
        if name in self._names:
            return self._shared_node(str(name))
        ((op, args),) = logic.items()
        if not isinstance(args, list):
            args = [args]
        nodes = tuple(self._node(arg, follow=follow) for arg in args)
        initial = None
        if op == "reduce" and len(args) > 2:
            initial = self._substituted(args[2]) if follow else args[2]
        return Call(op, nodes, logic, initial)

    def _shared_node(self, name: str) -> Node:
        node = self._shared.get(name)
        if node is None:
            logic = self._decode(name)
            _check(logic)
            node = self._shared[name] = self._node(logic, follow=False)
        return node

    def _substituted(self, logic: JSON) -> JSON:
        """References replaced in JSON that is never evaluated."""
        if isinstance(logic, list):
            return [self._substituted(item) for item in logic]
        if not isinstance(logic, dict):
            return logic
        name = _reference(logic)
        if name is not None and name in self._names:
            return self._decode(name)
        return {key: self._substituted(item) for key, item in logic.items()}


def _reference(logic: JSON) -> str | None:
    """The name in `{"$ref": name}`; None for anything else."""
    name = logic.get("$ref") if isinstance(logic, dict) and len(logic) == 1 else None
    return name if isinstance(name, str) else None


def _is_constant(logic: JSON) -> bool:
    """No list and no call: the same object in each evaluation, as flagd has it."""
    return not isinstance(logic, list) and not (isinstance(logic, dict) and len(logic) == 1)


def _check(logic: JSON) -> None:
    depth, _ = measure(logic)
    if depth > limits.LOGIC_DEPTH_MAX:
        raise BadRule(
            f"the rule is nested {depth} deep; {limits.LOGIC_DEPTH_MAX} are allowed: "
            "name its parts as segments"
        )


def decoded_rule(body: bytes | msgspec.Raw) -> JSON:
    """The JSON of a shared rule. Raises `BadRule`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRule(f"a shared rule can't be read: {error}") from None


def measure(value: JSON) -> tuple[int, int]:
    """How deep JSON is nested, each list and each object counted, and how many values it has."""
    depth, nodes = 0, 1
    level = [value] if isinstance(value, list | dict) else []
    while level:
        depth += 1
        below: list[JSON] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item
            nodes += len(item)
            below += [child for child in children if isinstance(child, list | dict)]
        level = below
    return depth, nodes
